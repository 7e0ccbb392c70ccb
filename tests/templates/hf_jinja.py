# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""jinja2, set up as Hugging Face transformers sets it up for chat templates."""

import datetime
import json

import jinja2
import jinja2.ext
import jinja2.sandbox

NOW = 1_700_000_000  # what strftime_now() shows, UTC


class Generation(jinja2.ext.Extension):
    """The tag `generation`, which marks the assistant's words for training; its body is rendered."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(form):
    return datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc).strftime(form)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def render(env, source, context):
    """(text, None) or (None, what went wrong)."""
    try:
        text = env.from_string(source).render(**context)
        text.encode()  # lone surrogates are no text
        return text, None
    except RecursionError:
        raise
    except Exception as error:  # whatever a template can raise
        return None, f"{type(error).__name__}: {error}"
