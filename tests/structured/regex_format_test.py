#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Random texts of the format "regex", which have to be regular expressions for everybody.

  tests/structured/regex_format_test.py -m smollm2.gguf [--decant PROGRAM] [--texts 20000] [--seed 1]

`decant eval schema-walk` walks through the masks of strings with the format; each has to compile with Python's re and, with the flag u,
with the module regress and with node, of which at least one has to be there.
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import warnings

try:
    import regress
except ImportError:
    regress = None

NODE = """
const texts = JSON.parse(require("fs").readFileSync(0));
const wrong = [];
for (const text of texts) { try { new RegExp(text, "u"); } catch (e) { wrong.push([text, e.message]); } }
console.log(JSON.stringify(wrong));
"""

# What the walks are made to hold.
SCHEMAS = [{"minLength": 4}, {"minLength": 12, "maxLength": 24}, {"pattern": r"\["}, {"pattern": r"\[.*-"}, {"pattern": r"\{[0-9]+,[0-9]"},
           {"pattern": r"\(\(\("}, {"pattern": r"\(\?"}, {"pattern": r"\\[xu]"}, {"pattern": r"\[.*\\u.*-"}, {"pattern": r"\[.*\\x.*-"},
           {"pattern": r"\(\?<"}, {"pattern": r"[^\u0000-\u007f]"}, {"pattern": r"\|"}, {"pattern": r"[*+?}]\?"}]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, help="GGUF file whose vocabulary is used")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    node = shutil.which("node")
    if regress is None and node is None:
        sys.exit("regex_format_test.py: neither the module regress nor node is there")
    with tempfile.TemporaryDirectory(prefix="decant-regex-") as folder:
        rows = [{"id": str(i), "schema": {"type": "string", "format": "regex", **s}, "tests": []} for i, s in enumerate(SCHEMAS)]
        pathlib.Path(folder, "schemas.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        report = pathlib.Path(folder, "report.json")
        subprocess.run([args.decant, "eval", "schema-walk", "-m", args.model, "--data", folder, "--walks", str(-(-args.texts // len(rows))), "-n", "80",
                        "-s", str(args.seed), "--json", report], check=True, capture_output=True)
        results = json.loads(report.read_text())["schemas"]
    texts, wrong = set(), []
    for row in results:
        if row["refused"]:
            wrong.append((row["schema"], row["refused"]))
        for walk in row["walks"]:
            if walk["end"] == "whole":
                texts.add(json.loads(walk["text"]))
            elif walk["end"] != "unended":
                wrong.append((walk["text"], walk["end"]))
    warnings.simplefilter("ignore")  # of set operations that may come one day
    for text in texts:
        try:
            re.compile(text)
        except (re.error, OverflowError) as error:
            wrong.append((text, f"re: {error}"))
        if regress is not None:
            try:
                regress.Regex(text, "u")
            except regress.RegressError as error:
                wrong.append((text, f"regress: {error}"))
    if node is not None:
        done = subprocess.run([node, "-e", NODE], input=json.dumps(sorted(texts)), capture_output=True, text=True, check=True)
        wrong += [(text, f"node: {error}") for text, error in json.loads(done.stdout)]
    print(f"{len(texts)} texts, {len(wrong)} wrong")
    for text, error in wrong[:20]:
        print(f"{text!r}: {error}")
    sys.exit(1 if wrong or len(texts) < args.texts / 10 else 0)


if __name__ == "__main__":
    main()
