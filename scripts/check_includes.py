#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""check_includes.py [--self-test]: whether src/ includes only downwards.

Which module may see which is what CMake links: decant_module(NAME DEPENDS ... PRIVATE ... TEST ...) in CMakeLists.txt and in
src/*/CMakeLists.txt. A file of src/NAME/ may include headers of NAME and of all that DEPENDS reaches; *_test.cc, *_bench.cc and
test_util.h also of what TEST reaches. Libraries follow the same lists. Besides:

  - headers that PRIVATE_HEADERS names stay inside their module;
  - intrinsics and CUDA headers occur in src/kernels only, and so does DevPtr::raw() (tests excepted);
  - public headers, include/decant, include each other and the standard library; src/ includes those of a module that it may see
    (PUBLIC_OWNERS), and no header of src/ defines a type that has a public one's name;
  - every header begins with the SPDX lines and has #pragma once, except the parts of kernels that are compiled once per target.

Prints file:line, who includes what and what is allowed; exit code 1 when something is wrong. --self-test breaks each rule in a small
tree and checks that it is found.
"""

import fnmatch
import pathlib
import re
import sys
import tempfile

# Headers of one module's own use, as paths below src/. kernels/cpu and kernels/cuda are the insides of kernel tables.
PRIVATE_HEADERS = (
    "kernels/cpu/*",
    "kernels/cuda/*",
    "*.inc",
    "*-inl.h",
    "text/pair_merger.h",
    "text/pre_tokenizer.h",
    "text/special_tokens.h",
    "text/token_table.h",
    "text/tokenizer_tables.h",
)

# Which module implements a public header; the others are of module api.
PUBLIC_OWNERS = {"decant/status.h": "base", "decant/version.h": "base"}
STANDARD_HEADER = re.compile(r"^[a-z_]+$")
PUBLIC_TYPE = re.compile(r"^(?:class|struct|enum class|enum) (?:\[\[\w+\]\] )?(\w+)(?: final)?(?: :[^:].*)? \{", re.MULTILINE)

# Included several times, inside a namespace per target.
INCLUDED_PER_TARGET = ("kernels/cpu/simd.h", "*-inl.h")

# Which CMake target a library's headers need.
LIBRARIES = {
    "fmt/": "fmt::fmt",
    "nlohmann/": "nlohmann_json::nlohmann_json",
    "CLI/": "CLI11::CLI11",
    "curl/": "CURL::libcurl",
    "openssl/": "OpenSSL::Crypto",
    "boost/": "Boost::headers",
}
KERNELS_ONLY = re.compile(r"^(\w*intrin\.h|arm_\w+\.h|cuda\w*(\.h|/.*)|cooperative_groups.*|mma\.h)$")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
MODULE_CALL = re.compile(r"^\s*decant_module\s*\(([^)]*)\)", re.MULTILINE)
SPDX = ("// SPDX-FileCopyrightText: ", "// SPDX-License-Identifier: ")


class Module:
    def __init__(self, name, depends, private, test):
        self.name, self.depends, self.private, self.test = name, depends, private, test


def read_modules(root):
    """The decant_module calls of the build, by name."""
    modules = {}
    for path in [root / "CMakeLists.txt", *sorted(root.glob("src/*/CMakeLists.txt"))]:
        text = re.sub(r"#.*", "", path.read_text())
        for call in MODULE_CALL.findall(text):
            words = call.split()
            lists = {"DEPENDS": [], "PRIVATE": [], "TEST": []}
            key = None
            for word in words[1:]:
                if word in lists:
                    key = word
                elif key is None:
                    raise ValueError(f"{path}: decant_module({words[0]}): {word} is in no list")
                else:
                    lists[key].append(word.removeprefix("decant_"))
            modules[words[0]] = Module(words[0], lists["DEPENDS"], lists["PRIVATE"], lists["TEST"])
    if not modules:
        raise ValueError(f"{root}/CMakeLists.txt: no decant_module call found")
    return modules


def reach(modules, targets):
    """All modules and libraries that linking `targets` makes visible."""
    seen, todo = set(), list(targets)
    while todo:
        target = todo.pop()
        if target not in seen:
            seen.add(target)
            if target in modules:
                todo += modules[target].depends
    return seen


def matches(path, patterns):
    return any(fnmatch.fnmatch(path, p) for p in patterns)


def check_cycles(modules):
    return [f"CMakeLists.txt: module {m} depends on itself" for m in modules if m in reach(modules, modules[m].depends)]


def public_header(root, target):
    """The file of a public header; version.h is generated from version.h.in."""
    return next((p for p in (root / "include" / target, root / "include" / (target + ".in")) if p.is_file()), None)


def check_public(root, path):
    """Problems of a public header and the types that it defines."""
    relative = path.relative_to(root).as_posix()
    text = path.read_text()
    problems = [p.replace("src/", "", 1) for p in check_header(relative.removesuffix(".in"), text.splitlines())]
    for number, line in enumerate(text.splitlines(), 1):
        found = INCLUDE.match(line)
        if not found:
            continue
        quote, target = found.groups()
        good = STANDARD_HEADER.match(target) if quote == "<" else target.startswith("decant/") and public_header(root, target)
        if not good:
            problems.append(f"{relative}:{number}: a public header includes {target}; allowed: the standard library and include/decant")
    return problems, PUBLIC_TYPE.findall(text)


def check_clashes(relative, text, types):
    """Two types of one name in namespace decant would break the one-definition rule."""
    if not relative.endswith(".h") or "\nnamespace decant {\n" not in text:
        return []
    return [f"src/{relative}: {name} is a public type (include/decant); take another name" for name in PUBLIC_TYPE.findall(text) if name in types]


def check_header(relative, lines):
    problems = []
    for i, prefix in enumerate(SPDX):
        if len(lines) <= i or not lines[i].startswith(prefix):
            problems.append(f"src/{relative}:{i + 1}: expected the line '{prefix}...'")
    if relative.endswith(".h") and not matches(relative, INCLUDED_PER_TARGET) and "#pragma once" not in lines:
        problems.append(f"src/{relative}:1: no #pragma once")
    return problems


def is_test_file(name):
    return pathlib.PurePath(name).stem.endswith(("_test", "_bench", "test_util"))


def check_file(root, modules, path):
    relative = path.relative_to(root / "src").as_posix()
    own = modules[relative.split("/")[0]]
    is_test = is_test_file(relative)
    allowed = {own.name} | reach(modules, own.depends + own.private + (own.test if is_test else []))
    names = ", ".join(sorted(allowed & modules.keys()))
    lines = path.read_text().splitlines()
    problems = check_header(relative, lines)
    for number, line in enumerate(lines, 1):
        where = f"src/{relative}:{number}"
        if own.name != "kernels" and not is_test and re.search(r"\.raw\(\)", line.split("//")[0]):
            problems.append(f"{where}: DevPtr::raw() outside src/kernels: device memory may not be readable here; use the kernel table")
        found = INCLUDE.match(line)
        if not found:
            continue
        quote, target = found.groups()
        if quote == "<":
            if KERNELS_ONLY.match(target) and own.name != "kernels" and not is_test:
                problems.append(f"{where}: module {own.name} includes <{target}>; intrinsics and CUDA belong in src/kernels")
            for prefix, library in LIBRARIES.items():
                if target.startswith(prefix) and library not in allowed:
                    problems.append(f"{where}: module {own.name} includes <{target}> but does not link {library}")
            if target.startswith("gtest/") and not is_test and own.name != "testing":
                problems.append(f"{where}: <{target}> outside a test")
            continue
        if target.startswith("decant/"):
            owner = PUBLIC_OWNERS.get(target, "api")
            if public_header(root, target) is None:
                problems.append(f'{where}: "{target}" is no file below include/')
            elif owner not in allowed:
                problems.append(f'{where}: module {own.name} includes {target} of module {owner}; allowed: {names}')
            continue
        if not (root / "src" / target).is_file():
            problems.append(f'{where}: "{target}" is no file below src/; includes start there')
            continue
        other = target.split("/")[0]
        if other not in allowed:
            problems.append(f'{where}: module {own.name} includes module {other} ("{target}"); allowed: {names}')
        elif is_test_file(target) and not is_test:
            problems.append(f'{where}: "{target}" is for tests')
        elif other != own.name and matches(target, PRIVATE_HEADERS):
            problems.append(f'{where}: "{target}" is private to module {other}')
    return problems


def check(root):
    modules = read_modules(root)
    problems = check_cycles(modules)
    files = 0
    types = set()
    for path in sorted((root / "include").rglob("*")):
        if path.name.endswith((".h", ".h.in")):
            found, names = check_public(root, path)
            problems += found
            types.update(names)
            files += 1
    for path in sorted((root / "src").rglob("*")):
        if path.suffix not in (".h", ".cc", ".cu", ".cuh"):
            continue
        name = path.relative_to(root / "src").parts[0]
        if name not in modules:
            problems.append(f"src/{name}: no decant_module({name} ...) in CMakeLists.txt")
            continue
        files += 1
        problems += check_file(root, modules, path)
        problems += check_clashes(path.relative_to(root / "src").as_posix(), path.read_text(), types)
    return sorted(set(problems)), files


CLEAN = {
    "CMakeLists.txt": "decant_module(base DEPENDS fmt::fmt)  # a comment\ndecant_module(testing DEPENDS decant_base)\n"
    "decant_module(text DEPENDS decant_base TEST decant_testing)\n"
    "decant_module(cli DEPENDS decant_text\n  PRIVATE CLI11::CLI11)\nadd_subdirectory(src/kernels)\n",
    "src/kernels/CMakeLists.txt": "decant_module(kernels DEPENDS decant_base)\n",
    "include/decant/status.h": "{spdx}#pragma once\n#include <memory>\nnamespace decant {{\nclass [[nodiscard]] Status {{\n}};\n}}\n",
    "include/decant/model.h": '{spdx}#pragma once\n#include "decant/status.h"\n#include "decant/version.h"\n',
    "include/decant/version.h.in": "{spdx}#pragma once\n",
    "src/base/a.h": '{spdx}#pragma once\n#include <fmt/core.h>\n#include "decant/status.h"\n',
    "src/testing/t.h": '{spdx}#pragma once\n#include "base/a.h"\n',
    "src/kernels/cpu/x.h": "{spdx}#pragma once\n#include <immintrin.h>\n",
    "src/kernels/k.cc": '{spdx}#include "kernels/cpu/x.h"\nvoid f() {{ p.raw(); }}\n',
    "src/text/pair_merger.h": '{spdx}#pragma once\n#include "base/a.h"\n',
    "src/text/t.cc": '{spdx}#include "text/pair_merger.h"\n',
    "src/text/t_test.cc": '{spdx}#include "testing/t.h"\n#include <gtest/gtest.h>\n#include <immintrin.h>\n',
    "src/text/test_util.h": '{spdx}#pragma once\n#include "testing/t.h"\n#include <gtest/gtest.h>\n',
    "src/cli/c.cc": '{spdx}#include <CLI/CLI.hpp>\n#include "base/a.h"\n',
}
# What each breakage must be reported as: file, text and a part of the message.
BREAKAGES = (
    ("src/base/up.cc", '{spdx}#include "text/pair_merger.h"\n', "src/base/up.cc:3: module base includes module text"),
    ("src/kernels/side.cc", '{spdx}#include "text/pair_merger.h"\n', "module kernels includes module text"),
    ("src/text/t.cc", '{spdx}#include "testing/t.h"\n', "module text includes module testing"),
    ("src/cli/c.cc", '{spdx}#include "text/pair_merger.h"\n', "is private to module text"),
    ("src/text/k.cc", "{spdx}#include <immintrin.h>\n", "intrinsics and CUDA belong in src/kernels"),
    ("src/text/k.cc", "{spdx}#include <cuda_runtime.h>\n", "intrinsics and CUDA belong in src/kernels"),
    ("src/text/k.cc", "{spdx}void f() {{ p.raw(); }}\n", "DevPtr::raw() outside src/kernels"),
    ("src/text/k.cc", "{spdx}#include <CLI/CLI.hpp>\n", "does not link CLI11::CLI11"),
    ("src/text/k.cc", "{spdx}#include <gtest/gtest.h>\n", "outside a test"),
    ("src/text/k.cc", '{spdx}#include "text/none.h"\n', "is no file below src/"),
    ("src/text/k.cc", '{spdx}#include "text/test_util.h"\n', "is for tests"),
    ("src/text/k.cc", '{spdx}#include "decant/model.h"\n', "module text includes decant/model.h of module api"),
    ("src/text/k.cc", '{spdx}#include "decant/none.h"\n', "is no file below include/"),
    ("include/decant/x.h", "{spdx}#pragma once\n#include <fmt/core.h>\n", "include/decant/x.h:4: a public header includes fmt/core.h"),
    ("include/decant/x.h", '{spdx}#pragma once\n#include "base/a.h"\n', "a public header includes base/a.h"),
    ("include/decant/x.h", "{spdx}", "include/decant/x.h:1: no #pragma once"),
    ("src/text/k.h", "{spdx}#pragma once\nnamespace decant {{\nstruct Status : Base {{\n}};\n}}\n", "Status is a public type"),
    ("src/base/b.h", "{spdx}int x;\n", "no #pragma once"),
    ("src/base/b.h", "#pragma once\n", "src/base/b.h:2: expected the line '// SPDX-License-Identifier"),
    ("src/other/x.cc", "{spdx}", "no decant_module(other ...)"),
    ("src/kernels/CMakeLists.txt", "decant_module(kernels DEPENDS decant_base decant_cli)\ndecant_module(base DEPENDS decant_kernels)\n",
     "module kernels depends on itself"),
)


def self_test():
    def write(root, name, text):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(spdx="".join(f"{line}x\n" for line in SPDX)))

    failures = 0
    for name, text, expected in (("", "", ""), *BREAKAGES):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for clean_name, clean_text in CLEAN.items():
                write(root, clean_name, clean_text)
            if name:
                write(root, name, text)
            problems, _ = check(root)
            if (not name and problems) or (name and not any(expected in p for p in problems)):
                failures += 1
                print(f"self-test: {name or 'the clean tree'}: expected '{expected}', got {problems}", file=sys.stderr)
    print(f"check_includes self-test: {len(BREAKAGES) + 1 - failures} of {len(BREAKAGES) + 1} cases as expected")
    return failures == 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return 0 if self_test() else 1
    if len(sys.argv) > 1:
        print("usage: check_includes.py [--self-test]", file=sys.stderr)
        return 2
    problems, files = check(pathlib.Path(__file__).resolve().parent.parent)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"check_includes: {files} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
