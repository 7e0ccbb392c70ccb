# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant run: where the prompt comes from, what comes out, and that the result depends on the request alone."""

import json
import signal
import time

import harness
from harness import FAILURE, INTERRUPTED, USAGE


class RunTest(harness.CliTest):
    def answer(self, *arguments, **kwargs):
        return self.succeed("run", "-m", self.llama, "-n", "24", "-s", "7", "--ignore-eos", *arguments, **kwargs).out

    def test_the_prompt_comes_from_the_argument_an_option_a_file_or_stdin(self):
        want = self.answer("the sea", "--raw")
        self.assertGreater(len(want), 1)
        path = self.write("prompt.txt", "the sea")
        self.assertEqual(self.answer("-p", "the sea", "--raw"), want)
        self.assertEqual(self.answer("-f", path, "--raw"), want)
        self.assertEqual(self.answer("--raw", stdin="the sea"), want)
        self.assertEqual(self.answer("-f", "-", "--raw", stdin="the sea"), want)
        self.assertNotEqual(self.answer("the land", "--raw"), want)

    def test_escapes_are_processed_when_asked(self):
        self.assertEqual(self.answer("-e", r"a\nb\x41", "--raw"), self.answer("a\nbA", "--raw"))
        self.assertNotEqual(self.answer(r"a\nb", "--raw"), self.answer("a\nb", "--raw"))

    def test_the_template_and_the_system_message_reach_the_model(self):
        plain, raw, system = self.answer("hi"), self.answer("hi", "--raw"), self.answer("hi", "-sys", "Be brief.")
        self.assertEqual(len({plain, raw, system}), 3)
        path = self.write("system.txt", "Be brief.\n")
        self.assertEqual(self.answer("hi", "-sysf", path), system)

    def test_the_report_holds_text_tokens_and_why_it_ended(self):
        report = self.report("run", "-m", self.llama, "the sea", "--raw", "-n", "5", "-s", "1", "--ignore-eos", "--logprobs", "3")
        self.assertEqual(len(report["tokens"]), 5)
        self.assertIsInstance(report["text"], str)
        self.assertEqual(report["finish_reason"], "length")
        self.assertIn("timings", report)
        self.assertEqual(len(report["logprobs"]), 5)

    def test_a_report_in_a_file_equals_the_one_on_stdout(self):
        arguments = ("run", "-m", self.llama, "the sea", "--raw", "-n", "5", "-s", "1")
        path = self.folder / "report.json"
        self.succeed(*arguments, "--json", path)
        got, want = json.loads(path.read_text()), self.report(*arguments)
        self.assertEqual((got["text"], got["tokens"]), (want["text"], want["tokens"]))

    def test_the_text_of_the_report_is_the_text_on_stdout(self):
        report = self.report("run", "-m", self.llama, "the sea", "--raw", "-n", "24", "-s", "7", "--ignore-eos")
        self.assertEqual(self.answer("the sea", "--raw").decode("utf-8", "replace").rstrip("\n"), report["text"].rstrip("\n"))

    def test_a_stop_string_ends_the_answer_before_it(self):
        arguments = ("run", "-m", self.llama, "the sea", "--raw", "-n", "40", "-s", "7", "--ignore-eos")
        text = self.report(*arguments)["text"]
        middle = text[len(text) // 2 : len(text) // 2 + 2]
        self.assertNotIn("\ufffd", middle, "choose another seed: the stop string has to be valid UTF-8")
        report = self.report(*arguments, "-r", middle)
        self.assertEqual(report["text"], text[: text.index(middle)])
        self.assertEqual(report["finish_reason"], "stop")

    def test_the_seed_decides(self):
        arguments = ("the sea", "--raw", "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0")
        runs = {seed: self.succeed("run", "-m", self.llama, "-n", "24", "-s", str(seed), *arguments).out for seed in range(3)}
        self.assertEqual(len(set(runs.values())), 3)
        self.assertEqual(self.succeed("run", "-m", self.llama, "-n", "24", "-s", "2", *arguments).out, runs[2])

    def test_threads_chunks_and_kernels_change_no_bit(self):
        tables = [t["name"] for t in self.report("methods")["kernel_tables"] if t.get("available", True) and t["name"] != "cuda"]
        self.assertIn("scalar", tables)
        for model in (self.llama, self.gemma):
            arguments = ("run", "-m", model, "--raw", "-n", "24", "-s", "3", "--ignore-eos", "--logprobs", "2", "-p", "the rain in the plain " * 9)
            want = self.report(*arguments, "-t", "1", "--kernels", "scalar")
            variants = [("--kernels", name) for name in tables]
            variants += [("-t", "2"), ("-t", "3"), ("--prefill-chunk", "1"), ("--prefill-chunk", "7"), ("--prefill-chunk", "64")]
            for variant in variants:
                with self.subTest(model=model, variant=variant):
                    got = self.report(*arguments, *variant)
                    self.assertEqual(got["tokens"], want["tokens"])
                    self.assertEqual(got["logprobs"], want["logprobs"])

    def test_zero_tokens_is_an_empty_answer(self):
        report = self.report("run", "-m", self.llama, "the sea", "--raw", "-n", "0")
        self.assertEqual((report["text"], report["tokens"], report["finish_reason"]), ("", [], "length"))

    def test_the_context_limits_the_answer(self):
        report = self.report("run", "-m", self.llama, "abc", "--raw", "-c", "64", "--ignore-eos", "-s", "1")
        self.assertEqual(report["finish_reason"], "length")
        self.assertLessEqual(len(report["tokens"]), 64)
        self.assertGreater(len(report["tokens"]), 32)

    def test_a_prompt_longer_than_the_context_is_refused(self):
        self.refuse(FAILURE, ["64"], "run", "-m", self.llama, "--raw", "-c", "64", "-p", "xyz " * 50)

    def test_prompts_of_any_bytes(self):
        for prompt in (b"\xff\xfe\x80", b"caf\xc3", "日本語 🌊".encode(), b"a\x01b"):
            with self.subTest(prompt):
                self.report("run", "-m", self.llama, "--raw", "-n", "3", "-p", prompt)

    def test_an_empty_prompt_gives_an_answer_or_one_line(self):
        result = self.decant("run", "-m", self.llama, "--raw", "-n", "3", "-p", "")
        if result.code != 0:
            self.assertIn(result.code, (FAILURE, USAGE))
            self.assert_one_line(result)

    def test_cache_types_are_honoured_or_refused(self):
        for name in ("f32", "bf16", "q8_0", "q4_0"):
            self.answer("hi", "-ctk", name, "-ctv", name)
        self.refuse(FAILURE, ["q6_k"], "run", "-m", self.llama, "hi", "-ctk", "q6_k")

    def test_an_unknown_kernel_table_is_refused_with_those_there_are(self):
        self.refuse(FAILURE, ["abacus", "scalar"], "run", "-m", self.llama, "hi", "--kernels", "abacus")

    def test_a_missing_device_is_refused(self):
        result = self.decant("run", "-m", self.llama, "hi", "-n", "1", "--device", "cuda")
        if result.code != 0:  # a machine with a GPU and a build for it answers
            self.assertEqual(result.code, FAILURE)
            self.assert_one_line(result)

    def interrupt(self, *arguments):
        """Ctrl-C once the answer has begun; the program that is left."""
        process = self.start("run", "-m", self.llama, "--raw", "-p", "the sea", "-t", "1", "--kernels", "scalar", "--ignore-eos", *arguments)
        process.stdin.close()
        process.stdin = None
        # A report waits for the end; then the sign is that the program minds the signal.
        first = process.stdout.read(1) if "--json" not in arguments else b""
        end = time.monotonic() + 30
        while not self.minds_interrupts(process.pid) and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return harness.Result(arguments, process, first + out, err)

    @staticmethod
    def minds_interrupts(pid):
        with open(f"/proc/{pid}/status") as status:
            caught = next(line.split()[1] for line in status if line.startswith("SigCgt"))
        return int(caught, 16) >> (signal.SIGINT - 1) & 1

    def test_ctrl_c_ends_the_answer_with_130(self):
        result = self.interrupt("-c", "100000")
        self.assertEqual(result.code, INTERRUPTED, str(result))
        self.assertLessEqual(result.errors.count("\n"), 2, str(result))

    def test_ctrl_c_leaves_no_half_report(self):
        path = self.folder / "report.json"
        result = self.interrupt("-c", "100000", "--json", str(path))
        self.assertEqual(result.code, INTERRUPTED, str(result))
        left = [p.name for p in self.folder.iterdir()]
        self.assertIn(left, ([], ["report.json"]))
        if path.exists():
            json.loads(path.read_text())


if __name__ == "__main__":
    harness.main()
