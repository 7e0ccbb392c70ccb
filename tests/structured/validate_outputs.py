#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Validates the answers of `decant eval jsonschemabench --json REPORT` with Python's jsonschema, formats checked.

  tests/structured/validate_outputs.py REPORT...

Each finished answer has to be JSON that is valid for its schema. Prints a line for each report and what is not valid; exit code 1 then.
"""
import collections
import json
import sys

import validator


def verdict(schema, text):
    """"valid", or why not; "no verdict: ..." where the library cannot tell."""
    try:
        value = validator.parse(text)
    except ValueError as error:
        return f"not JSON: {error}"
    try:
        errors = list(validator.validator(validator.parse(schema)).iter_errors(value))
    except Exception as error:
        return f"no verdict: {type(error).__name__}"
    except BaseException as error:  # RecursionError within a native part of the library
        if type(error).__name__ != "PanicException":
            raise
        return "no verdict: RecursionError"
    if not errors:
        return "valid"
    return f"{errors[0].json_path}: {errors[0].message[:200]}; schema {'/'.join(map(str, errors[0].absolute_schema_path))}"


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    bad = 0
    for path in sys.argv[1:]:
        with open(path) as file:
            report = json.load(file)
        finished = [s for s in report["schemas"] if not s["refused"] and not s["error"] and s["finish_reason"] == "stop"]
        verdicts = [(s, verdict(s["schema"], s["text"])) for s in finished]
        counts = collections.Counter(v if v == "valid" or v.startswith("no verdict") else "not valid" for _, v in verdicts)
        print(f"{path}: {len(report['schemas'])} schemas, {len(finished)} finished answers: " + ", ".join(f"{n} {k}" for k, n in counts.items()))
        for s, v in verdicts:
            if v != "valid" and not v.startswith("no verdict"):
                bad += 1
                print(f"  {s['id']}: {v}\n    {s['text'][:300]}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
