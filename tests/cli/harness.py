# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of the program share: running it, tiny models, and what a good failure looks like.

A test file is run as `NAME_test.py DECANT MAKE_TINY_MODEL [unittest arguments]`; see tests/CMakeLists.txt.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

OK, FAILURE, USAGE, INTERRUPTED = 0, 1, 2, 130

_programs = {}


class Result:
    """Exit code and both streams of one run, as bytes and (lossily) as text."""

    def __init__(self, arguments, process, out, err):
        self.arguments = arguments
        self.code = process.returncode
        self.out, self.err = out, err
        self.text = out.decode("utf-8", "replace") if out is not None else ""
        self.errors = err.decode("utf-8", "replace") if err is not None else ""

    def __str__(self):
        return f"decant {' '.join(map(repr, self.arguments))}\n  exit code {self.code}\n  stdout {self.out!r:.600}\n  stderr {self.err!r:.1200}"


class CliTest(unittest.TestCase):
    """Runs in a folder of its own; `self.llama` and `self.gemma` are paths of tiny models."""

    longMessage = True
    maxDiff = 2000

    @classmethod
    def setUpClass(cls):
        cls._shared = tempfile.TemporaryDirectory(prefix="decant-cli-")
        cls.shared = pathlib.Path(cls._shared.name)
        cls.llama = str(cls.shared / "tiny-llama.gguf")
        cls.gemma = str(cls.shared / "tiny-gemma3.gguf")
        for architecture, path in (("llama", cls.llama), ("gemma3", cls.gemma)):
            subprocess.run([_programs["make_tiny_model"], architecture, path], check=True)

    @classmethod
    def tearDownClass(cls):
        cls._shared.cleanup()

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="decant-cli-")
        self.folder = pathlib.Path(self._folder.name)
        self.addCleanup(self._folder.cleanup)

    def environment(self, **changes):
        """The test's environment without settings that would reach the program; None removes a variable."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DECANT_", "XDG_"))}
        env["HOME"] = str(self.folder)
        env["LC_ALL"] = "C.UTF-8"
        for key, value in changes.items():
            env.pop(key, None)
            if value is not None:
                env[key] = str(value)
        return env

    def start(self, *arguments, env=None, **popen):
        """A running program, stdin and both streams piped unless said otherwise."""
        popen = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen}
        command = [_programs["decant"], *map(os.fsencode, map(str_or_bytes, arguments))]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment(**(env or {})), **popen)

    def decant(self, *arguments, stdin=b"", timeout=120, **popen):
        process = self.start(*arguments, **popen)
        try:
            out, err = process.communicate(stdin if isinstance(stdin, bytes) else stdin.encode(), timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.fail(f"decant {arguments}: still running after {timeout} s")
        result = Result(arguments, process, out, err)
        self.assertGreaterEqual(result.code, 0, f"ended by a signal: {result}")
        self.assertNotIn("Sanitizer", result.errors, str(result))
        self.assertNotIn("runtime error", result.errors, str(result))
        return result

    def succeed(self, *arguments, **kwargs):
        result = self.decant(*arguments, **kwargs)
        self.assertEqual(result.code, OK, str(result))
        return result

    def report(self, *arguments, **kwargs):
        """The JSON that a command prints with --json -; stdout holds nothing else."""
        result = self.succeed(*arguments, "--json", "-", **kwargs)
        try:
            return json.loads(result.out.decode("utf-8"))
        except ValueError as error:
            self.fail(f"stdout is not JSON ({error}): {result}")

    def refuse(self, code, words, *arguments, **kwargs):
        """The command fails as it should: this code, nothing made, one line on stderr with all of `words` in it."""
        before = sorted(p.name for p in self.folder.rglob("*"))
        result = self.decant(*arguments, **kwargs)
        self.assertEqual(result.code, code, str(result))
        self.assert_one_line(result, words)
        self.assertEqual(sorted(p.name for p in self.folder.rglob("*")), before, f"files were left behind: {result}")
        return result

    def assert_one_line(self, result, words=()):
        self.assertRegex(result.errors, r"\Adecant: [^\n]+\n\Z", str(result))
        for word in words:
            self.assertIn(word, result.errors, str(result))

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)


def program(name):
    """The path of a program that the tests were given."""
    return _programs[name]


def str_or_bytes(argument):
    return argument if isinstance(argument, (str, bytes)) else str(argument)


def read(path):
    return pathlib.Path(path).read_bytes()


def patch_string(data, old, new):
    """The GGUF bytes with one string of the same length replaced; it has to be there."""
    assert len(old) == len(new) and old in data
    return data.replace(old, new, 1)


def patch_tensor_type(data, name, number):
    """The GGUF bytes with another type number for one tensor."""
    at = data.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + len(name)
    (dimensions,) = struct.unpack_from("<I", data, at)
    at += 4 + 8 * dimensions
    return data[:at] + struct.pack("<I", number) + data[at + 4 :]


def patch_number(data, key, number):
    """The GGUF bytes with another value for a uint32 key."""
    at = data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key)
    assert struct.unpack_from("<I", data, at) == (4,), f"{key} is no uint32"
    return data[: at + 4] + struct.pack("<I", number) + data[at + 8 :]


class ReportingResult(unittest.TextTestResult):
    """Also collects what ./test adds up, in GoogleTest's format."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.cases = {}

    def _add(self, test, **what):
        self.cases[test.id()] = {"name": test.id().removeprefix("__main__."), "status": "RUN", "result": "COMPLETED", **what}

    def addSuccess(self, test):
        super().addSuccess(test)
        if test.id() not in self.cases:  # a failed subtest came before
            self._add(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._add(test, result="SKIPPED")

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self._add(test, failures=[{}])

    def addError(self, test, error):
        super().addError(test, error)
        self._add(test, failures=[{}])

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self._add(test, failures=[{}])


def main():
    if len(sys.argv) < 3:
        sys.exit(f"usage: {sys.argv[0]} DECANT MAKE_TINY_MODEL [unittest arguments]")
    _programs["decant"], _programs["make_tiny_model"] = map(os.path.abspath, sys.argv[1:3])
    runner = unittest.TextTestRunner(resultclass=ReportingResult, verbosity=2)
    program = unittest.main("__main__", argv=[sys.argv[0], *sys.argv[3:]], testRunner=runner, exit=False)
    folder = os.environ.get("DECANT_TEST_REPORT")
    if folder:
        name = "cli." + pathlib.Path(sys.argv[0]).stem
        report = {"testsuites": [{"name": name, "testsuite": list(program.result.cases.values())}]}
        pathlib.Path(folder, name + ".json").write_text(json.dumps(report))
    sys.exit(0 if program.result.wasSuccessful() and program.result.testsRun > 0 else 1)
