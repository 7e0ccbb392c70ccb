#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""make_goldens.py > goldens.json: the cases below as jinja2 renders them (set up as transformers does). `jinja_test` reads the file.

A case is a name, a template and perhaps variables; where jinja2 refuses, the golden has `"refused": true` and Decant has to refuse, too.
"""

import json
import sys

import hf_jinja

MESSAGES = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hé\n"}, {"role": "assistant", "content": "Yes"}]
CASES = [
    ("white space of tags", "a\n  {% if true %}\n  b\n  {% endif %}\n  c\n{%- if true -%}\n d \n{%+ endif +%}\n  e"),
    ("plus keeps blanks", "x\n   {%+ if true %}y{% endif +%}\nz"),
    ("comments", "a {# no {{ x }} #}\n b {#- c -#}  d\n   {# e #}\nf"),
    ("one newline at the end goes", "a\n\n"),
    ("carriage returns", "a\r\nb\rc{{ 'x\r\ny' }}"),
    ("raw", "{% raw %}{{ x }} {% if %}{% endraw %} {%- raw -%}  y  {%- endraw +%}\nz"),
    ("for", "{% for m in messages %}{{ loop.index }}/{{ loop.length }}:{{ m.role }}{{ ',' if not loop.last }}{% endfor %}", {"messages": MESSAGES}),
    ("loop variables", "{% for x in 'abc' %}{{ [loop.index0, loop.revindex, loop.revindex0, loop.first, loop.last, loop.depth, loop.cycle(1, 2), "
                       "loop.changed(x == 'a')] }}{{ loop.previtem }}{{ loop.nextitem }}{% endfor %}"),
    ("for with filter and else", "{% for x in [1, 2, 3, 4] if x is even %}{{ loop.index }}{{ x }} {% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}"),
    ("break and continue", "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}"),
    ("unpacking", "{% for k, v in {'a': 1, 'b': [2]}.items() %}{{ k }}={{ v }};{% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a + b + c }}{% endfor %}"),
    ("unpacking fails", "{% for a, b in [[1, 2, 3]] %}{% endfor %}"),
    ("loops have scopes", "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}"),
    ("conditions have none", "{% if true %}{% set x = 2 %}{% endif %}{{ x }}"),
    ("namespace", "{% set ns = namespace(n=0, s='') %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns['n'] }}"),
    ("no namespace", "{% set d = {} %}{% set d.x = 1 %}"),
    ("tuple assignment", "{% set a, b = 1, 'z' %}{{ b }}{{ a }}{% set c = 1, %}{{ c }}"),
    ("block assignment", "{% set x %} a {{ 1 + 1 }} {% endset %}[{{ x }}]{% set y | trim | upper %} b {% endset %}[{{ y }}]"),
    ("with", "{% set x = 1 %}{% with x = 2, y = x %}{{ x }}{{ y }}{% endwith %}{{ x }}"),
    ("filter block", "{% filter upper | replace('A', '4') %}banana {{ 'x' }}{% endfilter %}"),
    ("generation", "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|{% endfor %}", {"messages": MESSAGES}),
    ("print", "{% print 1, 'a' ~ 2 %}"),
    ("macro", "{% macro m(a, b='B', c=a) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=2, a=1) }}{{ m() }}"),
    ("macro with varargs and kwargs", "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k='v') }}{{ m(*[1, 2], **{'z': 1}) }}"),
    ("macro refuses what it lacks", "{% macro m(a) %}{% endmacro %}{{ m(b=1) }}"),
    ("macro refuses too many", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}"),
    ("macro sees later assignments", "{% macro m() %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}"),
    ("macro does not see the caller's loop", "{% macro m() %}{{ x }}{% endmacro %}{% for x in [1] %}[{{ m() }}]{% endfor %}"),
    ("recursive macro", "{% macro t(x) %}{% if x is mapping %}{ {%- for k, v in x|dictsort %}{{ k }}: {{ t(v) }};{% endfor %} }{% else %}{{ x }}{% endif %}{% endmacro %}{{ t({'b': {'d': 1}, 'a': 2}) }}"),
    ("call block", "{% macro m(x) %}[{{ caller(x) }}]{% endmacro %}{% call(y) m(3) %}y={{ y }}{% endcall %}"),
    ("recursive loop", "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}.{{ loop.depth }}{% endif %}{% endfor %}"),
    ("elif", "{% for x in [1, 2, 3] %}{% if x == 1 %}a{% elif x == 2 %}b{% else %}c{% endif %}{% endfor %}"),
    ("arithmetic", "{{ [7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 / 2, 2 ** 10, 2 ** 3 ** 2, 2 ** -1, 1e3, 7.5 // 2, -7.5 % 2, 6 / 3, 1 - -1, True + 1] }}"),
    ("division by zero", "{{ 1 // 0 }}"),
    ("precedence", "{{ 1 + 2 * 3 ~ 4 - 1 }} {{ not 1 == 2 and 3 or 4 }} {{ -2 ** 2 }} {{ 'a' ~ 1 + 2 }} {{ -5|abs }} {{ (1, 2) + (3,) }}"),
    ("comparisons", "{{ [1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 'a' < 'b', [1] < [1, 2], 1 != '1', 2 in [1, 2], 'b' not in 'abc', 'k' in {'k': 1}, none == false] }}"),
    ("comparison of types", "{{ 1 < 'a' }}"),
    ("and and or give operands", "{{ 0 or 'x' }}{{ 1 and '' }}{{ none or false }}{{ [] or {} }}"),
    ("inline if", "{{ 'a' if true }}{{ 'b' if false }}{{ 'c' if 0 else 'd' if 0 else 'e' }}"),
    ("what values print as", "{{ [none, true, 1.0, 1e16, 1e-5, 0.1, 123456789.123, -0.0, 'it\\'s', 'q\"', 'both\\'\"', '\\n\\t\\\\', 'é\\u200b', (1,), (), {}, {'a': [1]}] }}{{ none }}{{ true }}"),
    ("floats", "{{ [1e22, 1.5e300, 100000000000000000.0, 123456.789, 1e15, 0.0001, 0.00001, 5e-324] }}"),
    ("strings and escapes", "{{ 'a\\x41\\u00e9\\101\\q' \"b\" }}"),
    ("undefined", "[{{ x }}]{{ x is defined }}{{ x|default('d') }}{{ x == y }}{{ x|length }}{% for i in x %}{% endfor %}{{ x ~ 1 }}"),
    ("attribute of undefined", "{{ x.y }}"),
    ("sum with undefined", "{{ x + 1 }}"),
    ("call of undefined", "{{ x() }}"),
    ("attributes of dicts", "{{ d.a }}{{ d['a'] }}{{ d.b is defined }}{{ d.items is callable }}{{ d['items'] }}{{ d.get('b', 3) }}{{ d.get('zz') }}", {"d": {"a": 1, "items": 2}}),
    ("none has no attributes", "{{ none.x is defined }}{{ 'abc'.x is defined }}{{ (1).x is defined }}"),
    ("slices", "{{ 'héllo'[1:3] }}{{ 'héllo'[::-1] }}{{ [1, 2, 3, 4][1:] }}{{ [1, 2, 3, 4][:-1] }}{{ [1, 2, 3, 4][::2] }}{{ (1, 2)[5:] }}{{ 'héllo'[-1] }}{{ [1, 2][9] is defined }}"),
    ("slice of a number", "{{ x[1:] }}", {"x": 5}),
    ("strip and split", "{{ ' a b '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'a,b,c'.split(',', 1) }}|{{ ' a  b '.split() }}|{{ 'a-b-c'.rsplit('-', 1) }}|{{ 'a</t>b'.split('</t>')[-1].lstrip('\\n') }}"),
    ("more methods", "{{ 'aBc'.upper() }}{{ 'aBc'.title() }}{{ 'aBc dEf'.capitalize() }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc') }}{{ 'abcabc'.find('c', 3) }}{{ 'abab'.replace('a', 'x', 1) }}{{ '-'.join(['a', 'b']) }}{{ 'abc'.count('b') }}{{ '12'.isdigit() }}"),
    ("lines", "{{ 'a\\nb\\r\\nc\\n'.splitlines() }}{{ 'a=b=c'.partition('=') }}{{ 'abc'.removeprefix('a') }}{{ '7'.zfill(3) }}"),
    ("format", "{{ '{} {1}'|length }}{{ '{}-{}'.format(1, 'b') }}{{ '{0:>4}|{0:<4}|{0:^5}|{1:.2f}|{2:,}'.format('x', 3.14159, 1234567) }}{{ '{a[k]} {b!r}'.format(a={'k': 1}, b='q') }}{{ '%s is %d (%05.1f) %%' % ('x', 3, 2.25) }}{{ '%(k)s' % {'k': 'v'} }}"),
    ("the sandbox does not change lists", "{% set l = [1] %}{{ l.append(2) }}"),
    ("the sandbox does not change dicts", "{% set d = {} %}{{ d.update({'a': 1}) }}"),
    ("the sandbox hides Python", "{{ ''.__class__.__mro__ }}"),
    ("tojson", "{{ x|tojson }}{{ x|tojson(indent=2) }}{{ x|tojson(separators=(',', ':'), sort_keys=true) }}{{ x|tojson(ensure_ascii=true) }}",
     {"x": {"b": [1, 2.0, None, True, {}], "a": "é<\"'\\\n\u0001\u007f\U0001F642", "c": []}}),
    ("tojson of undefined", "{{ x|tojson }}"),
    ("keys of JSON", "{{ {1: 2, true: 3, none: 4, 1.5: 5}|tojson }}"),
    ("filters of strings", "{{ ' a '|trim }}|{{ 'ab cd-ef'|title }}|{{ 'aB'|capitalize }}|{{ 'a\\nb\\n\\nc'|indent(2) }}|{{ 'a\\nb'|indent('> ', true) }}|{{ 'aaa'|replace('a', 'b', 2) }}|{{ 5|string }}|{{ 'a b'|wordcount }}|{{ 'hello world'|truncate(8) }}"),
    ("filters of numbers", "{{ '12'|int }}{{ 'x'|int(7) }}{{ '3.9'|int }}{{ '0x1f'|int(base=16) }}{{ '2.5'|float }}{{ 2.5|round }}{{ 2.675|round(2) }}{{ 42.55|round(1, 'floor') }}{{ -3|abs }}{{ [1, 2]|sum }}"),
    ("filters of lists", "{{ [3, 1, 2]|sort }}{{ ['b', 'A']|sort }}{{ [1, 1, 2]|unique|list }}{{ [1, 2]|first }}{{ [1, 2]|last }}{{ [1, 2, 3]|reverse|list }}{{ [1, 2, 3]|batch(2)|list }}{{ [1, 2, 3]|slice(2)|list }}{{ [1, 'a']|join('-') }}{{ []|first is defined }}{{ [1, 5, 2]|max }}"),
    ("filters of objects", "{{ r|map(attribute='k')|list }}{{ r|selectattr('k', 'gt', 1)|map(attribute='n')|join(',') }}{{ r|rejectattr('x', 'defined')|list|length }}{{ r|sort(attribute='k')|map(attribute='n')|list }}{{ r|sum(attribute='k') }}{{ r|groupby('k')|list|length }}{{ ['a', 'b']|map('upper')|list }}{{ [0, 1]|select|list }}",
     {"r": [{"n": "x", "k": 2}, {"n": "y", "k": 1}]}),
    ("filters of dicts", "{{ d|dictsort }}{{ d|items|list }}{{ d|length }}{{ d.keys()|list }}{{ d.values()|list }}{% for k in d %}{{ k }}{% endfor %}{{ d|list }}", {"d": {"b": 1, "a": 2}}),
    ("default", "{{ ''|default('x') }}|{{ ''|default('x', true) }}|{{ none|default('x') }}|{{ u|d('y') }}|{{ u|default }}"),
    ("escape and safe", "{{ '<a>'|e }}{{ ('<'|safe) + '<' }}{{ ('<'|safe) ~ '<' }}{{ '<'|e|e }}"),
    ("tests", "{{ [1 is odd, 2 is even, 6 is divisibleby 3, none is none, 'a' is string, {} is mapping, [] is sequence, {} is sequence, 'a' is iterable, 1 is number, true is number, "
              "true is integer, 1 is integer, 1.0 is float, true is boolean, true is true, 1 is true, x is undefined, 1 is eq(1), 2 is gt 1, 'a' is in 'abc', range is callable, 1 is not string] }}"),
    ("chained tests with and", "{{ x is defined and x is not none and x|length > 0 }}"),
    ("range", "{{ range(3)|list }}{{ range(1, 10, 4)|list }}{{ range(3) }}{{ range(5)[1:3] }}{{ 2 in range(3) }}{{ range(3)|length }}"),
    ("range too big", "{% for x in range(1000000) %}{% endfor %}"),
    ("dict and joiner and cycler", "{{ dict(a=1, b=2) }}{% set j = joiner(', ') %}{{ j() }}{{ j() }}{% set c = cycler('x', 'y') %}{{ c.next() }}{{ c.next() }}{{ c.current }}"),
    ("raise_exception", "{{ raise_exception('no system role') }}"),
    ("clock", "{{ strftime_now('%Y-%m-%d %d %b %Y %H:%M:%S %A') }}"),
    ("unknown filter", "{{ 1|nofilter }}"),
    ("unknown filter behind a condition", "{% if false %}{{ 1|nofilter }}{% endif %}x"),
    ("unknown test", "{{ 1 is notest }}"),
    ("unknown tag", "{% do x %}"),
    ("if without end", "{% if true %}a"),
    ("end without if", "a{% endif %}"),
    ("assignment to a constant", "{% set true = 1 %}"),
    ("break outside", "{% break %}"),
    ("unclosed bracket", "{{ (1 }}"),
    ("two tests in a row", "{{ 1 is odd is true }}"),
    ("a dict at the end of an expression", "{{ {'a': {'b': 1}}}}"),
    ("generators are read once", "{% set g = [1, 2]|map('string') %}{{ g|list }}{{ g|list }}"),
    ("a loop over a string", "{% for c in 'né' %}{{ c }}.{% endfor %}"),
    ("chat with roles", "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 1) and not loop.first %}{{ m.role }}!{% endif %}<|{{ m.role }}|>\n{{ m.content | trim }}<|end|>\n"
                        "{% endfor %}{%- if add_generation_prompt %}<|assistant|>\n{% endif %}", {"messages": MESSAGES, "bos_token": "<s>", "add_generation_prompt": True}),
]


def main():
    env = hf_jinja.environment()
    out = []
    for name, template, *context in CASES:
        variables = context[0] if context else {}
        text, error = hf_jinja.render(env, template, variables)
        case = {"name": name, "template": template, "context": variables}
        out.append({**case, "refused": True} if error else {**case, "text": text})
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in out)
    sys.stdout.write("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
