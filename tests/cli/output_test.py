# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Where output goes when it cannot go there: closed pipes, full disks, folders that do not exist."""

import os
import subprocess

import harness
from harness import FAILURE, USAGE


class OutputTest(harness.CliTest):
    def commands(self):
        text = self.write("text.txt", "the rain in the plain " * 20)
        return (
            ("run", "-m", self.llama, "--raw", "hi", "-n", "50", "--ignore-eos"),
            ("tokenize", "-m", self.llama, "hello"),
            ("inspect", self.llama),
            ("perplexity", "-m", self.llama, "-f", text, "-c", "64"),
            ("bench", "-m", self.llama, "--decode", "2", "--repeat", "1"),
            ("methods",),
            ("--help",),
        )

    def test_a_closed_pipe_ends_the_program_quietly(self):
        for command in self.commands():
            with self.subTest(command=command[0]):
                read_end, write_end = os.pipe()
                os.close(read_end)
                result = self.decant(*command, stdout=write_end)
                os.close(write_end)
                self.assertIn(result.code, (0, FAILURE), str(result))
                self.assertNotIn("decant:", result.errors, str(result))

    def test_a_reader_that_leaves_early(self):
        process = self.start("run", "-m", self.llama, "--raw", "hi", "-n", "2000", "--ignore-eos")
        process.stdin.close()
        process.stdin = None
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None
        _, err = process.communicate(timeout=60)
        self.assertGreaterEqual(process.returncode, 0, err)
        self.assertNotIn(b"terminate", err)

    def test_a_full_disk_as_stdout(self):
        for command in self.commands():
            with self.subTest(command=command[0]), open("/dev/full", "wb") as full:
                result = self.decant(*command, stdout=full)
                self.assertEqual(result.code, FAILURE, str(result))
                self.assert_one_line(result, ["stdout", "No space left"])

    def test_a_full_disk_as_report(self):
        for command in self.commands()[:-1]:
            with self.subTest(command=command[0]):
                result = self.decant(*command, "--json", "/dev/full")
                self.assertEqual(result.code, FAILURE, str(result))
                self.assert_one_line(result, ["--json", "/dev/full", "No space left"])

    def test_a_report_that_cannot_be_made_is_refused(self):
        os.mkdir(self.folder / "folder")
        for target in ("none/report.json", "folder"):
            for command in self.commands()[:-1]:
                with self.subTest(command=command[0], target=target):
                    result = self.decant(*command, "--json", target)
                    self.assertIn(result.code, (FAILURE, USAGE), str(result))
                    self.assert_one_line(result, ["--json", target])
        self.assertEqual(sorted(os.listdir(self.folder)), ["folder", "text.txt"])

    def test_a_failed_command_keeps_the_old_report(self):
        path = self.write("report.json", "old")
        result = self.decant("run", "-m", "./none.gguf", "hi", "--json", path)
        self.assertEqual(result.code, FAILURE)
        self.assertEqual(harness.read(path), b"old")
        self.assertEqual(os.listdir(self.folder), ["report.json"])

    def test_closed_streams(self):
        # Descriptors 0 to 2 closed from the start: files that the program opens must not take their places.
        program = self.start("methods", stdin=subprocess.DEVNULL).args[0]
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            with self.subTest(closed):
                shell = subprocess.run(
                    ["sh", "-c", f'"$0" run -m "$1" --raw -p hi -n 2 --json report.json {closed}', program, self.llama],
                    cwd=self.folder, env=self.environment(), capture_output=True, timeout=60,
                )
                self.assertIn(shell.returncode, (0, 1), shell)
                self.assertIn(harness.read(self.llama)[:4], (b"GGUF",))


if __name__ == "__main__":
    harness.main()
