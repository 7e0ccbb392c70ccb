# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant tokenize, inspect, perplexity, bench and methods: reports as text and as JSON."""

import json

import harness
from harness import FAILURE


class TokenizeTest(harness.CliTest):
    def ids(self, model, text, *arguments):
        return [t["id"] if isinstance(t, dict) else t for t in self.report("tokenize", "-m", model, "-p", text, *arguments)["tokens"]]

    def test_the_text_comes_from_the_argument_an_option_a_file_or_stdin(self):
        want = self.succeed("tokenize", "-m", self.llama, "--ids", "in the sea").text
        self.assertRegex(want, r"\A\[\d+(, \d+)+\]\n\Z")
        path = self.write("text.txt", "in the sea")
        self.assertEqual(self.succeed("tokenize", "-m", self.llama, "--ids", "-p", "in the sea").text, want)
        self.assertEqual(self.succeed("tokenize", "-m", self.llama, "--ids", "-f", path).text, want)
        self.assertEqual(self.succeed("tokenize", "-m", self.llama, "--ids", "--stdin", stdin="in the sea").text, want)
        self.assertEqual(self.succeed("tokenize", "-m", self.llama, "--ids", stdin="in the sea").text, want)

    def test_the_report_agrees_with_the_ids(self):
        ids = json.loads(self.succeed("tokenize", "-m", self.llama, "--ids", "in the sea").text)
        self.assertEqual(self.ids(self.llama, "in the sea"), ids)

    def test_no_bos_leaves_out_the_first_token(self):
        with_bos = self.ids(self.gemma, "the sea")
        self.assertEqual(with_bos[0], 2)
        self.assertEqual(self.ids(self.gemma, "the sea", "--no-bos"), with_bos[1:])

    def test_special_tokens_in_the_text(self):
        self.assertEqual(self.ids(self.llama, "<|im_end|>"), [2])
        self.assertGreater(len(self.ids(self.llama, "<|im_end|>", "--no-parse-special")), 3)

    def test_the_count(self):
        text = self.succeed("tokenize", "-m", self.llama, "--show-count", "abcd").text
        self.assertRegex(text, r"(?m)\b4\b")

    def test_any_bytes_give_tokens(self):
        for text in (b"\xff\xfe", b"\xe6\x97", "🌊".encode(), b"\x01\x02"):
            self.assertGreater(len(self.ids(self.llama, text)), 0)
        self.report("tokenize", "-m", self.llama, stdin=bytes(range(256)))


class InspectTest(harness.CliTest):
    def test_says_what_the_file_holds(self):
        result = self.succeed("inspect", self.llama)
        for word in ("llama", "tiny llama", "2048"):
            self.assertIn(word, result.text)
        self.assertEqual(self.succeed("inspect", "-m", self.llama).text.splitlines()[0], result.text.splitlines()[0])

    def test_the_report_names_the_architecture(self):
        for name, path in (("llama", self.llama), ("gemma3", self.gemma)):
            self.assertIn(f'"{name}"', json.dumps(self.report("inspect", path)))


class PerplexityTest(harness.CliTest):
    TEXT = "the rain in the plain is on the train again " * 12

    def test_is_the_same_bits_on_any_threads_and_tables(self):
        path = self.write("text.txt", self.TEXT)
        arguments = ("perplexity", "-m", self.llama, "-f", path, "-c", "64")
        want = self.report(*arguments)["perplexity"]
        self.assertGreater(want, 1)
        for variant in (("-t", "1"), ("-t", "2"), ("--kernels", "scalar"), ("--prefill-chunk", "5")):
            self.assertEqual(self.report(*arguments, *variant)["perplexity"], want, variant)

    def test_a_short_text_is_refused(self):
        self.refuse(FAILURE, ["64"], "perplexity", "-m", self.llama, "-c", "64", "-p", "too short")

    def test_a_missing_text_is_refused(self):
        self.refuse(FAILURE, ["none.txt"], "perplexity", "-m", self.llama, "-f", "none.txt")


class BenchTest(harness.CliTest):
    def test_every_work_gives_a_figure(self):
        report = self.report("bench", "-m", self.llama, "--prefill", "8,16", "--decode", "4", "--batch", "1,2", "--verify", "3", "--repeat", "2")
        self.assertEqual(len(report["results"]), 5)
        for result in report["results"]:
            self.assertIn("work", result)
            self.assertGreater(result["tokens_per_s"], 0)

    def test_a_single_work(self):
        report = self.report("bench", "-m", self.llama, "--decode", "4", "--repeat", "1", "-t", "1")
        self.assertEqual(len(report["results"]), 1)


class MethodsTest(harness.CliTest):
    def test_lists_families_tables_and_models(self):
        text = self.succeed("methods").text
        for word in ("llama", "gemma3", "scalar", "smollm2", "gemma3-270m", "top_k", "min_p"):
            self.assertIn(word, text)

    def test_the_report_lists_the_same(self):
        text = json.dumps(self.report("methods"))
        for word in ("llama", "gemma3", "scalar", "smollm2", "gemma3-270m", "top_k", "min_p"):
            self.assertIn(f'"{word}"', text)


if __name__ == "__main__":
    harness.main()
