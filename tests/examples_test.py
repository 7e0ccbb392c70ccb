# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""examples_test.py BIN MAKE_TINY_MODEL DECANT: the example programs do on a tiny model what their headers say."""

import json
import os
import re
import pathlib
import subprocess
import sys
import tempfile
import unittest

BIN, MAKE_TINY_MODEL, DECANT = (pathlib.Path(p).resolve() for p in sys.argv[1:4])


class ExamplesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="decant-examples-")
        cls.models = {}
        for architecture in ("llama", "gemma3"):
            cls.models[architecture] = path = str(pathlib.Path(cls._folder.name, architecture + ".gguf"))
            subprocess.run([MAKE_TINY_MODEL, architecture, path], check=True)

    @classmethod
    def tearDownClass(cls):
        cls._folder.cleanup()

    def run_program(self, path, *arguments, stdin=b"", code=0):
        result = subprocess.run([path, *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=120)
        self.assertEqual(result.returncode, code, result.stderr)
        return result

    def example(self, name, *arguments, **kwargs):
        return self.run_program(BIN / f"example_{name}", *arguments, **kwargs)

    def greedy(self, model, prompt, tokens):
        """The text as `run` gives it, of so many tokens."""
        report = self.run_program(DECANT, "run", "-m", model, "--raw", "-p", prompt, "-n", tokens, "--temp", "0", "--json", "-").stdout
        self.assertEqual(len(json.loads(report)["tokens"]), tokens, "the prompt is too weak for this test")
        return self.run_program(DECANT, "run", "-m", model, "--raw", "-p", prompt, "-n", tokens, "--temp", "0").stdout

    def test_prompt_lookup_gives_the_text_of_plain_greedy_decoding_in_fewer_steps(self):
        for model in self.models.values():
            for prompt in ("the cat in the hat in the cat", "x", "it is it is it is", "1 2 3 4"):
                with self.subTest(model=model, prompt=prompt):
                    found = self.example("prompt_lookup", model, prompt, 40)
                    self.assertEqual(found.stdout.rstrip(b"\n"), self.greedy(model, prompt, 40).rstrip(b"\n"))
                    (steps,) = re.fullmatch(rb"\[40 tokens in (\d+) steps\]\n", found.stderr).groups()
                    self.assertLess(int(steps), 35)

    def test_an_answer_of_a_grammar_ends_in_time(self):
        grammar = 'root ::= "[" root* "]" | [a-z]+ "."'
        for model in self.models.values():
            answer, shortest, verdict = self.example("structure", model, "x", grammar, 9).stdout.decode().splitlines()
            self.assertEqual(verdict, "whole")
            self.assertRegex(answer, r"\A([a-z]+\.|\[.*\])\Z")
            self.assertEqual(answer.count("["), answer.count("]"))
            self.assertEqual(len(shortest), 2)
        self.example("structure", self.models["llama"], "x", "root ::= a", 9, code=1)

    def test_one_beam_is_greedy_and_more_find_nothing_worse(self):
        model = self.models["llama"]
        one = self.example("beam_search", model, "in the end", 1, 12).stdout
        score, text = one.split(b"\t", 1)
        self.assertEqual(text.rstrip(b"\n"), self.greedy(model, "in the end", 12).rstrip(b"\n"))
        four = [float(line.split(b"\t")[0]) for line in self.example("beam_search", model, "in the end", 4, 12).stdout.split(b"\n") if b"\t" in line]
        self.assertEqual(four, sorted(four, reverse=True))
        self.assertEqual(len(four), 4)
        self.assertGreaterEqual(four[0], float(score))

    def test_batch_answers_every_prompt(self):
        for model in self.models.values():
            out = self.example("batch", model, "the cat", "it is", "on").stdout
            for prompt in (b"the cat ->", b"it is ->", b"on ->"):
                self.assertIn(prompt, out)

    def test_chat_keeps_the_conversation(self):
        for model in self.models.values():
            result = self.example("chat", model, *(["be kind"] if "llama" in model else []), stdin=b"the cat\nin the hat\n")
            notes = result.stderr.decode().splitlines()
            self.assertEqual(len(notes), 2, notes)
            self.assertRegex(notes[0], r"\A\[0 tokens known, \d+ drawn, (stop|length)\]")
        # The second turn begins with what the first one left in the cache.
        result = self.example("chat", self.models["llama"], stdin=b"the cat\nin the hat\n")
        self.assertRegex(result.stderr.decode().splitlines()[1], r"\A\[[1-9]\d* tokens known")

    def test_the_guide_shows_code_of_the_examples(self):
        root = pathlib.Path(__file__).resolve().parent.parent

        def stripped(text):
            return "\n".join(line.strip() for line in text.strip().splitlines())

        programs = [stripped(path.read_text()) for path in (root / "examples").glob("*.cc")]
        snippets = re.findall(r"(?ms)^```cpp\n(.*?)^```$", (root / "docs/api.md").read_text())
        self.assertGreater(len(snippets), 3)
        for snippet in snippets:
            self.assertTrue(any(stripped(snippet) in program for program in programs), f"in no program of examples/:\n{snippet}")

    def test_failures_are_one_line(self):
        missing = os.path.join(self._folder.name, "none.gguf")
        for name in ("chat", "batch", "prompt_lookup", "beam_search"):
            result = self.example(name, missing, "x", code=1)
            self.assertRegex(result.stderr.decode(), rf"\A{name}: .*none\.gguf.*\n\Z")
            self.assertIn(b"usage: ", self.example(name, code=2).stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
