# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant run --regex, --grammar, --choice and combinations: whatever a model draws, what ends is in the language."""

import json
import re

import harness
from harness import FAILURE, USAGE

EXPRESSION = 'root ::= sum "."\nsum ::= sum "+" item | item\nitem ::= [0-9]{1,3} | "(" sum ")"\n'
LARK = '?start: item ("," item)~0..2 "."\nitem: LETTER~1..3 | "(" item ")"\n%import common.LETTER\n%ignore / {1,2}/\n'


class StructureTest(harness.CliTest):
    def answer(self, *arguments, model=None, seed=1, tokens=60):
        return self.report("run", "-m", model or self.llama, "--raw", "x", "-n", str(tokens), "-c", "512", "-s", str(seed), "--temp", "1.5",
                           "--top-k", "0", "--top-p", "1", "--min-p", "0", *arguments)

    def ended(self, *arguments, runs=2):
        """The texts of the answers that were not cut."""
        reports = [self.answer(*arguments, model=model, seed=seed) for model in (self.llama, self.gemma) for seed in range(runs)]
        texts = [r["text"] for r in reports if r["finish_reason"] == "stop"]
        self.assertGreater(len(texts), 0)
        return texts

    def test_a_regular_expression(self):
        for text in self.ended("--regex", "[A-F]{2}-(\\d{2}|é){1,4}x?"):
            self.assertRegex(text, "\\A[A-F]{2}-(\\d{2}|é){1,4}x?\\Z")

    def test_a_grammar_from_a_file_and_as_a_text(self):
        path = self.write("sums.gbnf", EXPRESSION)
        for grammar in (path, EXPRESSION):
            for text in self.ended("--grammar", grammar):
                self.assertRegex(text, "\\A[0-9+()]*\\.\\Z")
                eval(re.sub("\\b0+(?=\\d)", "", text[:-1]))  # digits, + and balanced brackets

    def test_a_lark_grammar(self):
        path = self.write("list.lark", LARK)
        for grammar in (path, LARK, self.write("list.txt", LARK)):
            for text in self.ended("--grammar", grammar, runs=2):
                self.assertRegex(text, "\\A[A-Za-z,() ]*\\. *\\Z")
                self.assertEqual(text.count("("), text.count(")"))
        result = self.succeed("run", "-m", self.llama, "x", "-n", "3", "--grammar", "start: A\nA.2: \"a\"")
        self.assertIn("warning: --grammar: priorities", result.errors)

    def test_a_choice(self):
        seen = set()
        choices = ["yes", "-1", "no way", "maybe", "x", "é"]
        for seed in range(12):
            report = self.answer(*(part for c in choices for part in ("--choice", c)), "--temp", "40", model=self.gemma, seed=seed)
            self.assertEqual(report["finish_reason"], "stop")
            seen.add(report["text"])
        self.assertLessEqual(seen, set(choices))
        self.assertGreater(len(seen), 1)

    def test_options_given_together_hold_together(self):
        for text in self.ended("--regex", "[a-c]{2,4}", "--regex", ".*c.*", "--not-regex", "c.*", "--not-choice", "ac"):
            self.assertRegex(text, "\\A(?!c)(?=.*c)(?!ac\\Z)[a-c]{2,4}\\Z")
        for text in self.ended("--json-schema", '{"type": "array", "items": {"type": "integer"}}', "--json-schema", '{"minItems": 2}',
                               "--regex", "\\[[0-9, ]{4,12}\\]"):
            self.assertRegex(text, "\\A\\[[0-9, ]{4,12}\\]\\Z")
            self.assertIn(",", text)
        for text in self.ended("--grammar", 'root ::= "(" root ")" | "x"', "--not-choice", "x", "--regex", ".{1,9}"):
            self.assertIn(text, ["(" * n + "x" + ")" * n for n in range(1, 5)])

    def test_answers_end_in_time(self):
        for arguments in (("--grammar", 'root ::= "(" root* ")" | [a-z]+ "."'), ("--json-schema", '{"type": "array", "items": {"type": "string"}, "minItems": 1}')):
            for seed in range(2):
                report = self.answer("--finish", *arguments, tokens=12, seed=seed)
                self.assertEqual(report["finish_reason"] if len(report["tokens"]) < 12 else "stop", "stop")
                text = report["text"]
                self.assertTrue(text.endswith("]") and json.loads(text) if arguments[0] == "--json-schema" else
                                text.endswith(".") or text.count("(") == text.count(")"), text)

    def test_forced_text_in_canonical_tokens(self):
        forced = "some forced text, again"
        report = self.answer("--regex", f"[ab]{forced}[ab]", "--forced", "canonical", tokens=200)
        self.assertEqual(report["text"][1:-1], forced)
        self.assertEqual(self.answer("--regex", f"[ab]{forced}[ab]", tokens=200)["text"][1:-1], forced)

    def test_refusals_name_option_and_place(self):
        run = ("run", "-m", self.llama, "x")
        self.refuse(FAILURE, ["--regex", "offset 1"], *run, "--regex", "a(")
        self.refuse(FAILURE, ["--grammar", "line 2, column 7"], *run, "--grammar", 'root ::= a\na ::= "x')
        self.refuse(FAILURE, ["g.gbnf", "b is not defined"], *run, "--grammar", self.write("g.gbnf", "root ::= b"))
        self.refuse(FAILURE, ["g.lark", "line 1, column 8", "b is not defined"], *run, "--grammar", self.write("g.lark", "start: b"))
        self.refuse(FAILURE, ["--grammar", "absent.gbnf"], *run, "--grammar", "absent.gbnf")
        self.refuse(FAILURE, ["no text is allowed"], *run, "--choice", "a", "--regex", "b")
        self.refuse(FAILURE, ["no text is allowed by all"], *run, "--grammar", 'root ::= "a" root | "a"', "--regex", "b+")
        self.refuse(USAGE, ["--choice"], *run, "--choice", "")
        self.refuse(USAGE, ["--finish", "-n"], *run, "--finish", "--regex", "a")
        self.refuse(USAGE, ["--finish", "--json-schema"], *run, "--finish", "-n", "5")
        self.refuse(USAGE, ["--forced", "tokens or canonical"], *run, "--forced", "x", "--regex", "a")
        self.refuse(USAGE, ["--lenient"], *run, "--lenient", "--regex", "a")


if __name__ == "__main__":
    harness.main()
