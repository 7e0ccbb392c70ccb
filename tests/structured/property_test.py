#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Random schemas over all keywords, against Python's jsonschema as an independent judge.

  tests/structured/property_test.py -m smollm2.gguf [--decant PROGRAM] [--schemas 10000] [--seed 1] [--out FILE]

For each schema, `decant eval schema-walk` walks at random through its masks. What ends has to be valid, no walk may get stuck, and of values
made from these texts and at random exactly the valid ones have to be accepted. Prints what disagrees, and fails if anything does.
"""
import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile

import property_order
import validator

NAMES = ["a", "b", "c", "ab", "x-y", "foo", "k1"]
PATTERNS = ["^a", "b$", "^[a-c]*$", "^x-", "[0-9]", "^.{2}$", "^(foo|ab?)$", "^(?!a)", "^(?=.*b).*$", "a.c", "^\\\\w+$".replace("\\\\", "\\"), "^$|c",
            "^\\d{1,3}$", "\\s", "^[^b]*$", "(ab)+", "^a?b?c?$", "\\.", "^\\p{Lu}"]
FORMATS = ["date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "uri", "duration", "json-pointer", "uri-reference"]
STRINGS = ["", "a", "b", "ab", "abc", "foo", "x-1", "12", "2024-02-29", "12:30:00Z", "2024-01-01T00:00:00Z", "a@b.co", "127.0.0.1", "::1", "A",
           "\u00e9", "a b", "\U0001f600", "123e4567-e89b-12d3-a456-426614174000", "http://a.b/c", "P1D", "/a/b"]
NUMBERS = ["0", "1", "-1", "2", "3", "6", "7", "10", "12", "0.5", "1.5", "-2.5", "100", "0.1", "0.3", "1.0", "2.25", "1000000", "-0"]
TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]


class Schemas:
    def __init__(self, rng):
        self.rng = rng

    def pick(self, *choices):
        return self.rng.choice(choices)

    def chance(self, p):
        return self.rng.random() < p

    def number(self):
        return json.loads(self.rng.choice(NUMBERS))

    def value(self, depth=2):
        kind = self.rng.randrange(10)
        if kind < 3 or (depth == 0 and kind > 6):
            return self.rng.choice(STRINGS)
        if kind < 6:
            return self.number()
        if kind == 6:
            return self.pick(None, True, False)
        if kind == 7:
            return [self.value(depth - 1) for _ in range(self.rng.randrange(4))]
        return {self.rng.choice(NAMES): self.value(depth - 1) for _ in range(self.rng.randrange(4))}

    def root(self):
        self.defs = [f"d{i}" for i in range(self.rng.randrange(3))] if self.chance(0.35) else []
        self.heavy = self.chance(0.3)
        schema = self.schema(3)
        if self.defs:
            if not isinstance(schema, dict):
                schema = {"allOf": [schema]}
            schema["$defs"] = {name: self.schema(2) for name in self.defs}
        return schema

    def some(self, n, make):
        return [make() for _ in range(self.rng.randint(1, n))]

    def schema(self, depth):
        if self.chance(0.06):
            return self.pick(True, True, False, {})
        if self.defs and self.chance(0.2):
            return {"$ref": f"#/$defs/{self.rng.choice(self.defs)}"}
        s = {}
        kind = self.rng.choice(["string", "number", "array", "object", "object", "any", "enum", "logic"])
        if depth <= 0:
            kind = self.rng.choice(["string", "number", "enum", "any"])
        if kind not in ("enum", "logic") and self.chance(0.75):
            if kind == "any":
                s["type"] = self.rng.sample(TYPES, self.rng.randint(1, 3)) if self.chance(0.6) else self.rng.choice(TYPES)
            else:
                s["type"] = self.pick("integer", "number") if kind == "number" else kind
        if kind == "string" or (kind == "any" and self.chance(0.2)):
            self.strings(s)
        if kind == "number" or (kind == "any" and self.chance(0.2)):
            self.numbers(s)
        if kind == "array":
            self.arrays(s, depth)
        if kind == "object":
            self.objects(s, depth)
        if kind == "enum":
            if self.chance(0.3):
                s["const"] = self.value()
            else:
                values = {json.dumps(v, sort_keys=True): v for v in self.some(4, self.value)}
                s["enum"] = list(values.values())
        if depth > 0 and (kind == "logic" or self.chance(0.3 if self.heavy else 0.12)):
            self.logic(s, depth)
        return s

    def strings(self, s):
        if self.chance(0.35):
            s["minLength"] = self.rng.randrange(4)
        if self.chance(0.35):
            s["maxLength"] = s.get("minLength", 0) + self.rng.randrange(6)
        if self.chance(0.4):
            s["pattern"] = self.rng.choice(PATTERNS)
        elif self.chance(0.25):
            s["format"] = self.rng.choice(FORMATS)

    def numbers(self, s):
        if self.chance(0.4):
            s[self.pick("minimum", "exclusiveMinimum")] = self.number()
        if self.chance(0.4):
            s[self.pick("maximum", "exclusiveMaximum")] = self.number()
        if self.chance(0.3):
            s["multipleOf"] = self.pick(1, 2, 3, 5, 0.5, 0.1, 0.25, 7, 1.5)

    def arrays(self, s, depth):
        if self.chance(0.35):
            s["prefixItems"] = self.some(3, lambda: self.schema(depth - 1))
        if self.chance(0.5):
            s["items"] = self.schema(depth - 1)
        if self.chance(0.3):
            s["minItems"] = self.rng.randrange(4)
        if self.chance(0.4):
            s["maxItems"] = s.get("minItems", 0) + self.rng.randrange(4)
        if self.chance(0.2):
            s["uniqueItems"] = self.chance(0.9)
        if self.chance(0.3):
            s["contains"] = self.schema(depth - 1)
            if self.chance(0.4):
                s["minContains"] = self.rng.randrange(3)
            if self.chance(0.4):
                s["maxContains"] = s.get("minContains", 1) + self.rng.randrange(3)
        if self.chance(0.12):
            s["unevaluatedItems"] = self.schema(depth - 1)

    def objects(self, s, depth):
        if self.chance(0.7):
            s["properties"] = {self.rng.choice(NAMES): self.schema(depth - 1) for _ in range(self.rng.randint(1, 4))}
        if self.chance(0.25):
            s["patternProperties"] = {self.rng.choice(PATTERNS): self.schema(depth - 1) for _ in range(self.rng.randint(1, 2))}
        if self.chance(0.45):
            s["additionalProperties"] = self.pick(False, False, self.schema(depth - 1))
        if self.chance(0.4):
            s["required"] = sorted({self.rng.choice(NAMES) for _ in range(self.rng.randint(1, 2))})
        if self.chance(0.15):
            s["minProperties"] = self.rng.randrange(4)
        if self.chance(0.2):
            s["maxProperties"] = s.get("minProperties", 0) + self.rng.randrange(4)
        if self.chance(0.15):
            s["propertyNames"] = self.pick({"pattern": self.rng.choice(PATTERNS)}, {"enum": self.rng.sample(NAMES, 3)},
                                           {"maxLength": self.rng.randrange(1, 4)}, {"not": {"const": self.rng.choice(NAMES)}})
        if self.chance(0.15):
            s["dependentRequired"] = {self.rng.choice(NAMES): [self.rng.choice(NAMES)]}
        if self.chance(0.12):
            s["dependentSchemas"] = {self.rng.choice(NAMES): self.schema(depth - 1)}
        if self.chance(0.12):
            s["unevaluatedProperties"] = self.pick(False, self.schema(depth - 1))

    def logic(self, s, depth):
        for keyword in self.rng.sample(["allOf", "anyOf", "oneOf", "oneOf", "not", "if"], 2 if self.heavy and self.chance(0.4) else 1):
            if keyword == "not":
                s["not"] = self.schema(depth - 1)
            elif keyword == "if":
                s["if"] = self.schema(depth - 1)
                for branch in ("then", "else"):
                    if self.chance(0.75):
                        s[branch] = self.schema(depth - 1)
            else:
                s[keyword] = self.some(3, lambda: self.schema(depth - 1))

    def shuffled(self, value):
        """`value` with the members of its objects in another order."""
        if isinstance(value, dict):
            return {k: self.shuffled(value[k]) for k in self.rng.sample(list(value), len(value))}
        return [self.shuffled(v) for v in value] if isinstance(value, list) else value

    def changed(self, value):
        """`value` with one thing different, or with members in another order."""
        roll = self.rng.random()
        if isinstance(value, dict) and value and roll < 0.85:
            items = list(value.items())
            if roll < 0.3:
                self.rng.shuffle(items)
            elif roll < 0.45:
                items.pop(self.rng.randrange(len(items)))
            elif roll < 0.6:
                items = [(k, v) for k, v in items if k != "a"] + [(self.rng.choice([n for n in NAMES if n not in value] or ["zz"]), self.value(1))]
            else:
                i = self.rng.randrange(len(items))
                items[i] = (items[i][0], self.changed(items[i][1]))
            return dict(items)
        if isinstance(value, list) and value and roll < 0.85:
            items = list(value)
            i = self.rng.randrange(len(items))
            if roll < 0.2:
                items.pop(i)
            elif roll < 0.4:
                items.insert(i, self.rng.choice(items + [self.value(1)]))
            else:
                items[i] = self.changed(items[i])
            return items
        if isinstance(value, str) and roll < 0.5:
            return value[:-1] if roll < 0.25 else value + self.rng.choice("abc1")
        return self.value(2)


def dumps(value):
    """One line, numbers without an exponent."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumps, value)) + "]"
    if isinstance(value, validator.decimal.Decimal):
        return f"{value:f}"
    return json.dumps(value, ensure_ascii=False)


def is_huge(value):
    """Whether it has a number that no double holds: such a value cannot be handed over as a test."""
    if isinstance(value, dict):
        return any(map(is_huge, value.values()))
    if isinstance(value, list):
        return any(map(is_huge, value))
    return isinstance(value, (int, validator.decimal.Decimal)) and abs(value) > 10**300


class Run:
    def __init__(self, args):
        self.args = args
        self.problems = []
        self.counts = collections.Counter()
        self.reasons = collections.Counter()
        self.errors = collections.Counter()  # of walks

    def decant(self, rows, walks):
        """Runs the walker over {id, schema, tests}, all of them JSON texts."""
        with tempfile.TemporaryDirectory(prefix="decant-property-") as folder:
            with open(pathlib.Path(folder, "schemas.jsonl"), "w") as file:
                for row in rows:
                    tests = ", ".join(f'{{"valid": true, "data": {t}}}' for t in row["tests"])
                    file.write(f'{{"id": "{row["id"]}", "schema": {row["schema"]}, "tests": [{tests}]}}\n')
            report = pathlib.Path(folder, "report.json")
            command = [self.args.decant, "eval", "schema-walk", "-m", self.args.model, "--data", folder, "--walks", str(walks), "-s",
                       str(self.args.seed), "--property-order", self.args.property_order, "--json", report]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                sys.exit(f"property_test.py: decant: exit code {done.returncode}: {done.stderr.strip()}")
            return json.loads(report.read_text())["schemas"]

    def problem(self, row, what, text):
        self.problems.append({"id": row["id"], "schema": row["schema"], "what": what, "text": text})
        self.counts[what] += 1

    def valid(self, row, text):
        """The judge's verdict; None if it has none: a reference that leads back to itself means nothing (core, section 9.4.1), and it
        divides numbers of 2000 digits at most."""
        if "judge" not in row:
            schema = validator.parse(row["schema"])
            row["judge"] = validator.validator(schema)
            row["order"] = property_order.Order(schema)
        try:
            value = validator.parse(text)
            valid = row["judge"].is_valid(value)
            if valid and self.args.property_order == "schema":
                valid = row["order"].ordered(value)
                self.counts["instance: valid, in order" if valid else "instance: valid, not in order"] += 1
            return valid
        except (RecursionError, validator.regress.RegressError, validator.decimal.InvalidOperation):
            return None
        except BaseException as error:  # RecursionError within a native part of the library
            if type(error).__name__ != "PanicException":
                raise
            return None

    def check_walks(self, row, result):
        texts = []
        for walk in result["walks"]:
            self.counts["walk: " + walk["end"]] += 1
            if walk["end"] == "error":
                self.errors[result["refused"]] += 1
            if walk["end"] in ("dead end", "mismatch"):
                self.problem(row, walk["end"], walk["text"])
            if walk["end"] != "whole":
                continue
            try:
                verdict = self.valid(row, walk["text"])
            except ValueError as error:
                self.problem(row, f"not JSON: {error}", walk["text"])
                continue
            if verdict is False:
                self.problem(row, "written, not valid", walk["text"])
            texts.append(walk["text"])
        return texts

    def check_instances(self, row, result):
        accepted = result["accepted"]
        if result["refused"]:
            if "no value is valid" not in result["refused"]:
                return
            accepted = [False] * len(row["tests"])
        for text, taken in zip(row["tests"], accepted):
            if taken is None:
                self.counts["instance: no tokens"] += 1
                continue
            verdict = self.valid(row, text)
            if verdict is None:
                self.counts["instance: no verdict"] += 1
                continue
            self.counts["instance: valid" if verdict else "instance: not valid"] += 1
            if verdict != taken:
                self.problem(row, "valid, refused" if verdict else "not valid, accepted", text)

    def chunk(self, first, count):
        rng = random.Random(f"{self.args.seed}/{first}")
        schemas = Schemas(rng)
        rows = []
        for i in range(first, first + count):
            schema = json.dumps(schemas.root(), ensure_ascii=False)
            tests = [dumps(validator.parse(json.dumps(schemas.value(3)))) for _ in range(8)]
            if self.args.only is None or i == self.args.only:
                rows.append({"id": f"s{i}", "schema": schema, "tests": tests})
        results = self.decant(rows, self.args.walks)
        second = []
        for row, result in zip(rows, results):
            if result["refused"]:
                self.reasons[result["refused"].split(": ")[-1]] += 1
            texts = self.check_walks(row, result)
            self.check_instances(row, result)
            tests = []
            for text in texts:
                value = validator.parse(text)
                if not is_huge(value):
                    tests += [dumps(schemas.shuffled(value)) for _ in range(2)]
                for _ in range(3):
                    value = schemas.changed(value)
                    if is_huge(value):
                        break
                    tests.append(dumps(value))
            if tests:
                second.append({**row, "tests": tests})
        for row, result in zip(second, self.decant(second, 1) if second else []):
            self.check_instances(row, result)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, help="GGUF file whose vocabulary is used")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--schemas", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0, help="number of the first schema, a multiple of 500")
    parser.add_argument("--only", type=int, help="this schema alone")
    parser.add_argument("--walks", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--property-order", choices=["any", "schema"], default="any")
    parser.add_argument("--out", help="write what disagrees to this file, one JSON a line")
    args = parser.parse_args()
    run = Run(args)
    for first in range(args.first, args.first + args.schemas, 500):
        run.chunk(first, min(500, args.first + args.schemas - first))
    for name, n in sorted(run.counts.items()):
        print(f"{name:<32}{n:>8}")
    for reason, n in run.reasons.most_common():
        print(f"refused: {reason[:100]:<100}{n:>8}")
    for error, n in run.errors.most_common():
        print(f"met late: {error[:200]}: {n}")
    for p in run.problems[:20]:
        print(f"\n{p['id']}: {p['what']}: {p['text'][:300]}\n  {p['schema'][:1000]}")
    if args.out:
        pathlib.Path(args.out).write_text("".join(json.dumps(p) + "\n" for p in run.problems))
    sys.exit(1 if run.problems else 0)


if __name__ == "__main__":
    main()
