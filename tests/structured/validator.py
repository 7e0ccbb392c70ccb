# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""The independent judge: Python's jsonschema with format checks, made exact where it is not.

Numbers are decimals (a float makes 0.3 no multiple of 0.1), patterns are ECMA-262's (regress; Python's `$` also stands before a final
line end), and 1.0 is an integer. Needs jsonschema[format] and regress, see bench/peers/setup.sh --only structured.
"""
import decimal
import functools
import json
import sys

import jsonschema
import jsonschema._keywords
import jsonschema._legacy_keywords
import jsonschema._utils
import regress

sys.setrecursionlimit(600)  # circular references end soon
decimal.getcontext().prec = 2000
decimal.getcontext().Emax = decimal.MAX_EMAX
decimal.getcontext().Emin = decimal.MIN_EMIN


@functools.lru_cache(maxsize=20000)
def compiled(pattern):
    return regress.Regex(pattern, "u")


class EcmaRegex:
    """Stands in for the module `re` in jsonschema."""

    @staticmethod
    def search(pattern, text):
        # jsonschema joins the patterns of patternProperties.
        return compiled(pattern).find(text)


for module in (jsonschema._keywords, jsonschema._legacy_keywords, jsonschema._utils):
    module.re = EcmaRegex


class DuplicateName(ValueError):
    pass


def unique_pairs(pairs):
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DuplicateName("an object has a name twice")
    return value


def parse(text):
    """A JSON text with exact numbers; ValueError for what is not JSON, or has a name twice."""
    def refuse(constant):
        raise ValueError(f"{constant} is not JSON")
    return json.loads(text, parse_float=decimal.Decimal, parse_int=lambda s: int(s) if len(s) < 4000 else decimal.Decimal(s),
                      parse_constant=refuse, object_pairs_hook=unique_pairs)


def is_integer(_, value):
    if isinstance(value, decimal.Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(_, value):
    return isinstance(value, (int, decimal.Decimal)) and not isinstance(value, bool)


@functools.cache
def exact(validator_class):
    checker = validator_class.TYPE_CHECKER.redefine("integer", is_integer).redefine("number", is_number)
    return jsonschema.validators.extend(validator_class, type_checker=checker)


def is_email(value):
    """jsonschema looks for an @ only; RFC 5321 (4.1.2) wants something before and a domain behind it."""
    if not isinstance(value, str):
        return True
    local, at, domain = value.rpartition("@")
    return bool(at and local and domain)


def formats(kind):
    checker = jsonschema.FormatChecker(())
    checker.checkers = {**kind.FORMAT_CHECKER.checkers, "email": (is_email, ()), "idn-email": (is_email, ())}
    return checker


def validator(schema):
    """For a schema that `parse` read; of the draft that its $schema names, else 2020-12."""
    kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
    return exact(kind)(schema, format_checker=formats(kind))
