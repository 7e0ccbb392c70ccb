#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""check_tree.py [--self-test]: things that must not be in the repository.

Looks at the files that git tracks or would add (without git: all outside build/ and .git/). Refuses files over 8 MB, build products and
model weights, merge markers, carriage returns, trailing blanks, missing SPDX lines, paths of one particular machine, and marks of
unfinished work. Exit code 1 when something is found. --self-test checks that each rule finds its offence.
"""

import pathlib
import re
import subprocess
import sys
import tempfile

MAX_BYTES = 8 * 1000 * 1000
FORBIDDEN_SUFFIXES = {".gguf", ".safetensors", ".pt", ".pth", ".o", ".a", ".so", ".pyc", ".whl", ".exe", ".dll"}
SOURCE_SUFFIXES = {".cc", ".h", ".cu", ".cuh", ".py", ".sh"}
TEXT_SUFFIXES = SOURCE_SUFFIXES | {".md", ".txt", ".cmake", ".json", ".inc", ".dict", ""}
# (pattern, what is wrong). Split strings keep this file from finding itself.
LINE_RULES = (
    (re.compile(r"^(<{7}|>{7}|={7})( |$)"), "a merge marker"),
    (re.compile(r"\r$"), "a carriage return"),
    (re.compile(r"[ \t]+$"), "blanks at the end of the line"),
    (re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b"), "a mark of unfinished work"),
    (re.compile(r"(?<![\w.$}~/-])/(home|work|root|Users)/\w"), "a path of one machine"),
    (re.compile(r"BEGIN [A-Z ]*PRIVATE" r" KEY"), "a private key"),
)


def listed_files(root):
    command = ["git", "-c", "safe.directory=*", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
        return [root / n for n in names if n and (root / n).is_file()]
    except (OSError, subprocess.CalledProcessError):
        skipped = {".git", "build", "__pycache__", ".venv"}
        return [p for p in root.rglob("*") if p.is_file() and not skipped & set(p.relative_to(root).parts)]


def check_file(root, path):
    name = path.relative_to(root).as_posix()
    problems = []
    size = path.stat().st_size
    if size > MAX_BYTES:
        problems.append(f"{name}: {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} MB")
    if path.suffix in FORBIDDEN_SUFFIXES and not name.startswith(("tests/data/", "tests/families/")):
        problems.append(f"{name}: {path.suffix} files do not belong here")
    if size > MAX_BYTES or path.suffix not in TEXT_SUFFIXES or name == "LICENSE" or name.startswith("tests/data/"):
        return problems
    try:
        lines = path.read_bytes().decode().split("\n")
    except UnicodeDecodeError:
        return problems + [f"{name}: not UTF-8 text"]
    is_script = path.suffix == "" and lines[0].startswith("#!")
    if (path.suffix in SOURCE_SUFFIXES or is_script) and not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:4]):
        problems.append(f"{name}:1: no SPDX lines")
    for number, line in enumerate(lines, 1):
        for pattern, what in LINE_RULES:
            if pattern.search(line):
                problems.append(f"{name}:{number}: {what}")
    return problems


def check(root):
    files = sorted(listed_files(root))
    return [p for path in files for p in check_file(root, path)], len(files)


SPDX = b"# SPDX-FileCopyrightText: x\n# SPDX-License-Identifier: Apache-2.0\n"
# A file's name, its content, and a part of the only problem that it must give ("" for none).
CASES = (
    ("good.py", SPDX + b"x = 1  # /usr/bin, $HOME/wo" b"rk/x, build/ho" b"me/y\n", ""),
    ("a.md", b"text\n", ""),
    ("big.bin", bytes(MAX_BYTES + 1), "at most 8 MB"),
    ("m.gguf", b"", "do not belong here"),
    ("a.py", b"x = 1\n", "no SPDX lines"),
    ("script", b"#!/bin/sh\n", "no SPDX lines"),
    ("a.md", b"<" * 7 + b" HEAD\n", "a merge marker"),
    ("a.md", b"text\r\n", "carriage return"),
    ("a.md", b"text \n", "blanks at the end"),
    ("a.md", b"TO" + b"DO: more\n", "unfinished work"),
    ("a.md", b"see /ho" + b"me/someone/x\n", "a path of one machine"),
    ("a.md", b"BEGIN RSA PRIVATE" + b" KEY\n", "a private key"),
    ("a.md", b"\xff\n", "not UTF-8"),
)


def self_test():
    failures = 0
    for name, content, expected in CASES:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / name).write_bytes(content)
            problems, _ = check(root)
        if len(problems) != (1 if expected else 0) or expected not in "".join(problems):
            failures += 1
            print(f"self-test: {name}: expected '{expected}', got {problems}", file=sys.stderr)
    print(f"check_tree self-test: {len(CASES) - failures} of {len(CASES)} cases as expected")
    return failures == 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 0 if self_test() else 1
    if len(sys.argv) > 1:
        print("usage: check_tree.py [--self-test]", file=sys.stderr)
        return 2
    problems, files = check(pathlib.Path(__file__).resolve().parent.parent)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_tree: {files} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
