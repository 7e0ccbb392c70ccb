#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""differential.py RENDER_JINJA [--count N] [--seed N]: random templates, rendered by jinja2 and by Decant.

Generates templates from a grammar of expressions and statements, renders them with jinja2 (set up as transformers does) and with the
program render_jinja, and prints each one where the texts differ or only one of the two refuses. Also checks provenance: every string
of the context consists of letters that no template uses, so the characters that Decant calls content are known. Exit code 1 when
something differs. Needs the Python package jinja2.
"""

import argparse
import json
import random
import subprocess
import sys

import hf_jinja

CONTEXT = {
    "s": "Ωmega  \n  Ξi\tΛ",
    "t": "ΨξΨξ",
    "empty": "",
    "n": 7,
    "neg": -3,
    "zero": 0,
    "f": 2.5,
    "big": 1e20,
    "yes": True,
    "no": False,
    "nil": None,
    "xs": [3, 1, 2],
    "words": ["Δ", "ψ", "Δ", "Φ"],
    "none_list": [],
    "mixed": [1, "Ψ", None, 2.0, True, [1], {"Ω": 1}],
    "d": {"Ψa": 1, "Ωb": "Ω", "Λ": None},
    "rows": [{"Ξ": "Θ", "k": 2}, {"Ξ": "Π", "k": 1}, {"k": 2}],
    "deep": {"items": [{"Ξ": {"k": [1, {"k": "Λ"}]}}], "get": "Ω"},
}
# Letters that occur in strings of the context only. (Sigma is left out of case changes: see src/text/jinja/characters.h.)
CONTENT_LETTERS = set("ΩΞΛΔψΦΨΘΠωξλδΦφψθπ")

NAMES = list(CONTEXT) + ["missing", "x", "y"]
STRINGS = ["", "a", "b", " ", "ab", "a b  c", "-", "\\n", ", ", "k", "Ab-cd ef", "%s", "{}", "{0:>5}|{}", "%d-%s", "12", "-7", "3.5", "x", "0x1f",
           "  pad ", "<b>&", "it's", 'q\\"q', "é"]
NUMBERS = ["0", "1", "2", "3", "-1", "-2", "10", "1.5", "0.1", "2.0", "1e3", "1_000"]
FILTERS = ["trim", "upper", "lower", "title", "capitalize", "length", "count", "first", "last", "list", "string", "int", "float", "abs",
           "round", "tojson", "reverse", "sort", "unique", "min", "max", "sum", "items", "dictsort", "safe", "escape", "e", "join",
           "default('z')", "d('z', true)", "default", "join(', ')", "join('-', attribute='k')", "map('upper')", "map(attribute='k')",
           "map(attribute='k', default=0)", "map('string')", "select", "reject", "select('string')", "select('odd')", "reject('none')",
           "selectattr('k')", "rejectattr('k', 'defined')", "selectattr('k', 'eq', 2)", "selectattr('k', 'gt', 1)", "batch(2)",
           "batch(2, 'f')", "slice(2)", "slice(3, 0)", "groupby('k')", "tojson(indent=2)", "tojson(sort_keys=true)",
           "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(indent=1, sort_keys=true)", "replace('a', 'bb')",
           "replace(' ', '', 1)", "replace('', '.')", "indent", "indent(2)", "indent(2, true)", "indent('> ', first=true, blank=true)",
           "round(1)", "round(1, 'floor')", "round(0, 'ceil')", "int(5)", "int(base=16)", "float(1.5)", "trim('a ')", "center(9)",
           "truncate(5)", "truncate(5, true, '~', 0)", "wordcount", "sort(reverse=true)", "sort(attribute='k')", "dictsort(by='value')",
           "dictsort(reverse=true)", "sort(case_sensitive=true)", "unique(attribute='k')", "min(attribute='k')", "sum(attribute='k')",
           "sum(start=10)", "attr('k')", "format(1, 'a')", "format('a')", "max(case_sensitive=true)", "forceescape"] * 3 + ["nofilter"]
TESTS = ["defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean", "true",
         "false", "odd", "even", "callable", "lower", "upper", "divisibleby(2)", "divisibleby 3", "eq(2)", "ne 1", "lt(2)", "gt(0)", "ge 1",
         "le(5)", "in(xs)", "in('abc')", "sameas(none)", "sameas true", "equalto('a')", "escaped"] * 3 + ["notest"]
METHODS = ["strip()", "lstrip()", "rstrip()", "strip('aΩ ')", "split()", "split(' ')", "split('a')", "split(none, 1)", "split(' ', 1)",
           "split(maxsplit=1)", "rsplit(' ', 1)", "rsplit(none, 1)", "rsplit()", "replace('a', 'b')", "replace('a', 'b', 1)", "startswith('a')",
           "endswith(('b', 'c'))", "startswith('a', 1)", "upper()", "lower()", "title()", "capitalize()", "swapcase()", "find('b')",
           "rfind('b', 1)", "index('b')", "count('a')", "count('')", "join(words)", "join(['p', 'q'])", "splitlines()",
           "splitlines(true)", "partition(' ')", "rpartition('b')", "removeprefix('a')", "removesuffix('c')", "ljust(5)", "rjust(5, '.')",
           "center(6, '*')", "center(7)", "zfill(5)", "isdigit()", "isalpha()", "isalnum()", "isspace()", "isupper()", "islower()", "istitle()",
           "isidentifier()", "isnumeric()", "isdecimal()", "isprintable()", "isascii()", "expandtabs(4)", "format(1, 'a')", "format(n, k=2)", "items()", "keys()", "values()",
           "get('k')", "get('k', 5)", "get('Λ', 'e')", "items", "append(1)", "pop()", "update({})", "index(1)", "count(1)", "copy()",
           "nomethod()", "k", "Ξ", "__class__", "0", "items()|list", "keys()|first"]
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]


class Generator:
    def __init__(self, rng):
        self.rng = rng

    def pick(self, items):
        return self.rng.choice(items)

    def atom(self):
        r = self.rng.random()
        if r < 0.45:
            return self.pick(NAMES)
        if r < 0.6:
            return self.pick(NUMBERS)
        if r < 0.8:
            return "'" + self.pick(STRINGS).replace("'", "\\'") + "'"
        return self.pick(["true", "false", "none", "[]", "{}", "()", "(1,)", "[1, 2]", "{'k': 2}", "{'k': 'v', 1: 2}", "loop", "loop.index",
                          "loop.last", "loop.previtem", "range(3)", "range(1, 9, 3)", "ns.v", "dict(a=1)", "namespace(q=1).q", "('a', 'b')"])

    def expression(self, depth):
        if depth <= 0:
            return self.atom()
        r = self.rng.random()
        e = self.expression
        if r < 0.12:
            return self.atom()
        if r < 0.34:
            return f"{e(depth - 1)}|{self.pick(FILTERS)}"
        if r < 0.5:
            return f"({e(depth - 1)}) {self.pick(BINARY)} ({e(depth - 1)})"
        if r < 0.56:
            return f"{e(depth - 1)} {self.pick(BINARY)} {e(depth - 1)}"
        if r < 0.72:
            return f"({e(depth - 1)}).{self.pick(METHODS)}"
        if r < 0.78:
            return f"({e(depth - 1)}) is {self.pick(['', 'not '])}{self.pick(TESTS)}"
        if r < 0.82:
            bound = lambda: self.pick(["", "", "0", "1", "-1", "2", "-2", "9", "n"])
            return f"({e(depth - 1)})[{bound()}:{bound()}{self.pick(['', '', ':' + self.pick(['', '2', '-1', '-2'])])}]"
        if r < 0.88:
            return f"({e(depth - 1)})[{self.pick(['0', '1', '-1', '9', chr(39) + 'k' + chr(39), chr(39) + 'Ξ' + chr(39), e(0)])}]"
        if r < 0.91:
            return f"({e(depth - 1)} if {e(depth - 1)}{self.pick(['', ' else ' + e(depth - 1)])})"
        if r < 0.94:
            return f"[{e(depth - 1)}, {e(depth - 1)}]"
        if r < 0.96:
            return f"{{{e(0)}: {e(depth - 1)}}}"
        if r < 0.98:
            return f"{self.pick(['-', '+', 'not '])}({e(depth - 1)})"
        return f"({e(depth - 1)} {self.pick(['<', '==', 'in', '>='])} {e(0)} {self.pick(['<', '!=', '<='])} {e(0)})"

    def open(self):
        return "{%" + self.pick(["", "", "-", "+"]) + " "

    def close(self):
        return " " + self.pick(["", "", "-", "+"]) + "%}"

    def tag(self, text):
        return self.open() + text + self.close()

    def text(self):
        return self.pick(["", "a", " ", "\n", "  \n", "x\n  ", "\n\n", "a b", "\t", "\r\n", "}", "{", "#"])

    def output(self, depth):
        return "{{" + self.pick(["", "-", "+"]) + " " + self.expression(depth) + " " + self.pick(["", "-"]) + "}}"

    def body(self, depth, in_loop=False):
        return "".join(self.statement(depth, in_loop) for _ in range(self.rng.randint(1, 3)))

    def target(self):
        return self.pick(["x", "y", "x", "x, y", "ns.v"])

    def statement(self, depth, in_loop=False):
        r = self.rng.random()
        if depth <= 0 or r < 0.25:
            return self.text() + self.output(2)
        if r < 0.32:
            return self.text()
        if r < 0.45:
            return self.tag(f"set {self.target()} = {self.expression(2)}")
        if r < 0.60:
            other = self.tag("elif " + self.expression(1)) + self.body(depth - 1, in_loop) if self.rng.random() < 0.4 else ""
            other += self.tag("else") + self.body(depth - 1, in_loop) if self.rng.random() < 0.5 else ""
            return self.tag("if " + self.expression(2)) + self.body(depth - 1, in_loop) + other + self.tag("endif")
        if r < 0.78:
            target = self.pick(["x", "x", "y", "x, y"])
            over = self.pick(["xs", "words", "mixed", "rows", "d", "d.items()", "range(4)", "none_list", "missing", "d|dictsort", "t", self.expression(1)])
            test = f" if {self.expression(1)}" if self.rng.random() < 0.25 else ""
            other = self.tag("else") + self.body(depth - 1, in_loop) if self.rng.random() < 0.25 else ""
            return self.tag(f"for {target} in {over}{test}") + self.body(depth - 1, True) + other + self.tag("endfor")
        if r < 0.82:
            name = self.pick(["m", "q"])
            return (self.tag(f"macro {name}({self.pick(['', 'x', 'x, y=2', 'x=n, y=x'])})") + self.body(depth - 1) + self.tag("endmacro")
                    + "{{ " + name + self.pick(["()", "(1)", "(1, 2)", "(y=3)", "(x=s)", "(s, y=t)"]) + " }}")
        if r < 0.85:
            return self.tag("set x") + self.body(depth - 1) + self.tag("endset")
        if r < 0.87:
            return self.tag("set x | " + self.pick(["upper", "trim", "replace('a', 'c')"])) + self.body(depth - 1) + self.tag("endset")
        if r < 0.89:
            return self.tag("filter " + self.pick(["upper", "trim|length", "indent(2)", "tojson"])) + self.body(depth - 1) + self.tag("endfilter")
        if r < 0.91:
            return self.tag("with x = " + self.expression(1) + self.pick(["", ", y = 2"])) + self.body(depth - 1) + self.tag("endwith")
        if r < 0.93:
            return "{#" + self.pick(["", "-", "+"]) + " c " + self.pick(["", "-", "+"]) + "#}"
        if r < 0.95:
            return self.tag("raw") + self.pick(["{{ x }}", " {% if %} ", "\n a \n"]) + self.tag("endraw")
        if r < 0.97:
            return self.tag("generation") + self.body(depth - 1) + self.tag("endgeneration")
        if in_loop:
            return self.tag("if " + self.expression(1)) + self.tag(self.pick(["break", "continue"])) + self.tag("endif")
        return self.tag("call m()") + "c" + self.tag("endcall") if r < 0.985 else self.output(3)

    def template(self):
        if self.rng.random() < 0.5:
            return self.output(4)
        return self.pick(["", "{% set ns = namespace(v=0) %}", "{% macro m(x=1) %}[{{ x }}{{ caller() if caller else '' }}]{% endmacro %}"]) + self.body(3)


# Where Python is not to be followed: objects printed with their address, integers beyond 64 bits, and what Decant says it lacks.
UNCOMPARABLE = ("generator object", "generbb", " object at 0x", "built-in method", "bound method", "<function", "<macro", "<loopcontext", "<class ",
                "reverseiterator", "iterator object")
LACKING = ("64 bits", "not supported", "sandbox", "larger than", "nested", "steps", "text of more", "memory", "range() of",
           "cannot be sliced")  # of constants, which jinja2 folds by other rules


def content_error(text, runs):
    """A content letter that is said to be the template's, or None."""
    raw = text.encode()
    flags = bytearray(len(raw))
    for begin, end in runs:
        flags[begin:end] = b"\1" * (end - begin)
    at = 0
    for char in text:
        size = len(char.encode())
        if char in CONTENT_LETTERS and not all(flags[at:at + size]):
            return char
        at += size
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=20)
    options = parser.parse_args()
    env = hf_jinja.environment()
    generator = Generator(random.Random(options.seed))
    child = subprocess.Popen([options.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    counts = {"equal": 0, "both refuse": 0, "not comparable": 0, "different": 0}
    for number in range(options.count):
        source = generator.template()
        expected, error = hf_jinja.render(env, source, CONTEXT)
        child.stdin.write(json.dumps({"template": source, "context": CONTEXT, "now": hf_jinja.NOW}) + "\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            print(f"{number}: render_jinja has ended\n  {source!r}")
            return 1
        answer = json.loads(line)
        own = answer.get("text")
        # The Greek letters of the templates' own lookups are content only where the context holds them.
        wrong = content_error(own, answer["content"]) if own is not None and "Ω" not in source and "Ξ" not in source else None
        if expected is not None and any(mark in expected.lower() for mark in UNCOMPARABLE):
            counts["not comparable"] += 1
        elif own is None and expected is not None and any(mark in answer["error"] for mark in LACKING):
            counts["not comparable"] += 1
        elif expected is None and own is None:
            counts["both refuse"] += 1
        elif expected == own and wrong is None:
            counts["equal"] += 1
        else:
            counts["different"] += 1
            if counts["different"] <= options.show:
                print(f"{number}: {source!r}\n  jinja2: {expected!r} {error or ''}\n  Decant: {own!r} {answer.get('error', '')}"
                      + (f"\n  {wrong!r} is said to be the template's" if wrong else ""))
    child.stdin.close()
    child.wait()
    print(", ".join(f"{name}: {count}" for name, count in counts.items()))
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
