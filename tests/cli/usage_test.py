# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments: help, version, and what is refused before any work begins."""

import harness
from harness import OK, USAGE

COMMANDS = ("run", "chat", "compare", "tokenize", "inspect", "perplexity", "bench", "pull", "methods", "completion")


class HelpTest(harness.CliTest):
    def test_help_names_every_command_and_the_exit_codes(self):
        for flag in ("--help", "-h"):
            result = self.succeed(flag)
            self.assertEqual(result.errors, "")
            for command in COMMANDS:
                self.assertRegex(result.text, rf"(?m)^  {command}\b")
            self.assertIn("Exit codes: 0 success, 1 failure, 2 wrong usage, 130 interrupted.", result.text)

    def test_every_command_has_help_with_examples(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = self.succeed(command, "--help")
                self.assertEqual(result.errors, "")
                self.assertIn("Examples:", result.text)
                self.assertIn(f"decant {command}", result.text)

    def test_version(self):
        self.assertRegex(self.succeed("--version").text, r"\Adecant \d+\.\d+\.\d+\n\Z")

    def test_no_arguments_prints_help_on_stderr(self):
        result = self.decant()
        self.assertEqual(result.code, USAGE)
        self.assertEqual(result.text, "")
        self.assertIn("Examples:", result.errors)


class RefusalTest(harness.CliTest):
    def refuse_usage(self, words, *arguments):
        with self.subTest(arguments=arguments):
            result = self.refuse(USAGE, words, *arguments)
            self.assertEqual(result.text, "")

    def test_unknown_commands_and_options(self):
        self.refuse_usage(["walk"], "walk")
        self.refuse_usage(["--speed"], "run", "--speed", "9", "hello")
        self.refuse_usage(["--prompt"], "inspect", "--prompt", "x")
        self.refuse_usage(["--help"], "run", "one", "two")

    def test_missing_values(self):
        self.refuse_usage(["--model"], "run", "hello", "-m")
        self.refuse_usage(["name"], "pull")
        self.refuse_usage(["--json"], "methods", "--json", "")

    def test_numbers_out_of_range(self):
        for option, bad in (
            ("--threads", ("0", "-1", "257", "two", "", "1.5", "99999999999999999999")),
            ("--predict", ("-2", "x", "3x", "1e3")),
            ("--ctx-size", ("-1", "-2147483649", "x")),
            ("--prefill-chunk", ("0", "-1", "x")),
            ("--temp", ("-1", "nan", "inf", "hot", "")),
            ("--top-k", ("-1", "x")),
            ("--top-p", ("-0.1", "1.1", "nan")),
            ("--min-p", ("-0.1", "2")),
            ("--seed", ("-2", "x", "18446744073709551616")),
            ("--mirostat", ("3", "-1")),
            ("--cache-type-k", ("f15", "")),
            ("--device", ("gpu",)),
            ("--samplers", ("top_k;magic",)),
            ("--logit-bias", ("5", "x+1", "5+", "5+nan", "-5+1")),
        ):
            for value in bad:
                self.refuse_usage([option], "run", "-m", self.llama, "hello", f"{option}={value}" if value else option, *([] if value else [""]))

    def test_works_of_bench(self):
        for arguments in (("--prefill", "0"), ("--prefill", "1,,2"), ("--decode", "0"), ("--batch", "-1"), ("--repeat", "0"), ("--logits", "some")):
            self.refuse_usage([arguments[0]], "bench", "-m", self.llama, *arguments)

    def test_options_that_exclude_each_other(self):
        self.refuse_usage([], "run", "-m", self.llama, "-p", "a", "-f", "b.txt")
        self.refuse_usage(["--logprobs", "--json"], "run", "-m", self.llama, "a", "--logprobs", "2")
        self.refuse_usage(["--raw"], "run", "-m", self.llama, "a", "--raw", "-sys", "b")
        self.refuse_usage([], "tokenize", "--stdin", "-p", "a")

    def test_pull_names_the_models_it_knows(self):
        self.refuse_usage(["smollm2", "gemma3-270m", "llama-900b"], "pull", "llama-900b")

    def test_values_that_look_like_options(self):
        result = self.succeed("tokenize", "-m", self.llama, "--ids", "-p", "--help")
        self.assertRegex(result.text, r"\A\[[0-9, ]+\]\n\Z")
        self.assertEqual(self.decant("tokenize", "-m", self.llama, "--ids", "--", "--help").code, OK)


if __name__ == "__main__":
    harness.main()
