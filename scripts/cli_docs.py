#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""cli_docs.py [--check] [DECANT]: writes the generated parts of docs/cli.md, from the definitions that print the help.

A part begins with the line `<!-- generated: NAME -->` and ends with `<!-- end -->`; what stands outside is written by hand. NAME is
`commands` or a command's name. A command without a part gets a section at the end. --check changes nothing; exit code 1 when the file
is out of date. DECANT is the program (default: build/release/bin/decant).
"""

import difflib
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PART = re.compile(r"^<!-- generated: (\S+) -->\n.*?^<!-- end -->\n", re.MULTILINE | re.DOTALL)


def update(text, generated):
    """`text` with its parts replaced by those in `generated`."""
    parts = {m.group(1): m.group(0) for m in PART.finditer(generated)}
    if not parts:
        raise ValueError("the program printed no parts")
    seen = []

    def replace(match):
        name = match.group(1)
        if name in seen:
            raise ValueError(f"docs/cli.md: two parts are named {name}")
        if name not in parts:
            raise ValueError(f"docs/cli.md: the program has no command {name}; remove its section")
        seen.append(name)
        return parts[name]

    if text.count("<!-- generated: ") != len(PART.findall(text)):
        raise ValueError("docs/cli.md: a generated part has no line <!-- end -->")
    text = PART.sub(replace, text)
    for name in parts:
        if name not in seen:
            text += f"\n## {name}\n\n{parts[name]}"
    return text


def self_test():
    part = "<!-- generated: {} -->\n{}\n<!-- end -->\n".format
    generated = part("commands", "c") + part("run", "new") + part("pull", "p")
    document = "# x\n\n" + part("commands", "old") + "\n## run\n\n" + part("run", "old\nold") + "By hand.\n"
    expected = "# x\n\n" + part("commands", "c") + "\n## run\n\n" + part("run", "new") + "By hand.\n\n## pull\n\n" + part("pull", "p")
    cases = [(document, expected), (expected, expected)]
    bad = [part("walk", ""), part("run", "") * 2, "<!-- generated: run -->\n"]
    failures = [1 for text, wanted in cases if update(text, generated) != wanted]
    for text in bad:
        try:
            update(text, generated)
            failures.append(1)
        except ValueError:
            pass
    print(f"cli_docs self-test: {len(cases) + len(bad) - len(failures)} of {len(cases) + len(bad)} cases as expected")
    return not failures


def main():
    arguments = sys.argv[1:]
    if arguments == ["--self-test"]:
        return 0 if self_test() else 1
    check = "--check" in arguments
    programs = [a for a in arguments if a != "--check"]
    if len(programs) > 1 or any(a.startswith("-") for a in programs):
        print("usage: cli_docs.py [--check] [DECANT]", file=sys.stderr)
        return 2
    program = pathlib.Path(programs[0]) if programs else ROOT / "build/release/bin/decant"
    path = ROOT / "docs/cli.md"
    old = path.read_text(encoding="utf-8")
    try:
        generated = subprocess.run([program, "help-markdown"], check=True, capture_output=True, encoding="utf-8").stdout
        new = update(old, generated)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        print(f"cli_docs: {error}", file=sys.stderr)
        return 1
    if new == old:
        print("docs/cli.md is up to date")
        return 0
    if check:
        sys.stdout.writelines(list(difflib.unified_diff(old.splitlines(True), new.splitlines(True), "docs/cli.md", "generated"))[:60])
        print("docs/cli.md is out of date: build the program and run scripts/cli_docs.py", file=sys.stderr)
        return 1
    path.write_text(new, encoding="utf-8")
    print("docs/cli.md written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
