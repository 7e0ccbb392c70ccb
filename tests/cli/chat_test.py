# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant chat: a conversation through pipes, its commands, and Ctrl-C."""

import signal
import time

import harness
from harness import FAILURE, OK


class ChatTest(harness.CliTest):
    def test_answers_until_the_input_ends(self):
        result = self.succeed("chat", "-m", self.llama, "-n", "8", "-s", "1", stdin="hello\nand then\n")
        self.assertGreater(len(result.out), 2)

    def test_the_seed_decides(self):
        runs = [self.succeed("chat", "-m", self.llama, "-n", "8", "-s", seed, "--temp", "1.5", stdin="hello\n").out for seed in ("1", "1", "2")]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_help_lists_commands(self):
        result = self.succeed("chat", "-m", self.llama, "-n", "8", stdin="/help\n")
        self.assertIn("/help", result.text + result.errors)

    def test_a_missing_model_is_refused(self):
        self.refuse(FAILURE, ["none.gguf"], "chat", "-m", "./none.gguf", stdin="hello\n")

    def test_a_full_context_does_not_end_in_a_crash(self):
        result = self.decant("chat", "-m", self.llama, "-n", "50", "-c", "128", "--ignore-eos", stdin="hello there\n" * 8)
        self.assertIn(result.code, (OK, FAILURE), str(result))

    def test_ctrl_c_ends_the_answer_and_not_the_conversation(self):
        process = self.start("chat", "-m", self.llama, "--ignore-eos", "-c", "100000", "-t", "1", "--kernels", "scalar")
        process.stdin.write(b"tell me all\n")
        process.stdin.flush()
        first = process.stdout.read(8)
        self.assertEqual(len(first), 8)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        self.assertIsNone(process.poll(), "the program ended")
        out, err = process.communicate(b"", timeout=60)
        self.assertEqual(process.returncode, OK, f"{out!r:.300} {err!r:.600}")


if __name__ == "__main__":
    harness.main()
