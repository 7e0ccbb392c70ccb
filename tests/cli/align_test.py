# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant run --align: answers distributed as the model's within a structure; the trie's file; decant eval alignment."""

import json
import math
import os

import harness
from harness import FAILURE, USAGE

WORDS = '{"enum": ["the", "thin", "it", ""]}'
FREE = ("--temp", "9", "--top-k", "0", "--top-p", "1", "--min-p", "0")


class AlignTest(harness.CliTest):
    def run_command(self, *arguments, schema=WORDS, seed=3, model=None):
        return ("run", "-m", model or self.llama, "--raw", "xyz", "--json-schema", schema, "-n", "12", "-c", "256", "-s", str(seed), *FREE, *arguments)

    def answers(self, *arguments, **kwargs):
        return self.report(*self.run_command(*arguments, **kwargs))

    def test_answers_are_of_the_language_and_the_report_adds_up(self):
        for model in (self.llama, self.gemma):
            for method in ("none", "asap", "exact"):
                report = self.answers("--align", f"{method}(samples=40)", model=model)
                self.assertEqual(report["align"], method)
                self.assertEqual(len(report["samples"]), 40)
                self.assertIsNone(report["stopped"])
                for key in ("attempts", "steps", "forward_passes"):
                    self.assertEqual(report[key], sum(s[key] for s in report["samples"]))
                self.assertEqual(report["rejected"], report["attempts"] - 40)
                bounds = [s["log_c_root"] for s in report["samples"]]
                for before, after in zip(bounds, bounds[1:]):
                    self.assertLessEqual(after, before + 1e-9)
                self.assertAlmostEqual(report["c_root"] + report["one_minus_c_root"], 1)
                self.assertAlmostEqual(math.log(report["c_root"]), bounds[-1], places=6)
                for sample in report["samples"]:
                    self.assertIn(json.loads(sample["text"]), ["the", "thin", "it", ""])
                    self.assertLessEqual(sample["log_p"], bounds[-1] + 1e-9)  # a part of the language's
                self.assertEqual(sum(t["count"] for t in report["texts"]), 40)
                self.assertLessEqual(sum(t["conditional"] for t in report["texts"]), 1 + 1e-9)

    def test_text_goes_to_stdout_a_line_each(self):
        result = self.succeed(*self.run_command("--align", "asap( samples = 5 )"))
        lines = result.text.splitlines()
        self.assertEqual(len(lines), 5)
        self.assertEqual(lines, [s["text"] for s in self.answers("--align", "asap(samples=5)")["samples"]])

    def test_a_trie_goes_on_where_it_stopped(self):
        for method in ("asap", "exact"):
            whole = self.answers("--align", f"{method}(samples=30)")
            file = str(self.folder / f"{method}.trie")
            parts = [self.answers("--align", f"{method}(samples=10)", "--align-trie", file) for _ in range(3)]
            self.assertEqual([s["tokens"] for p in parts for s in p["samples"]], [s["tokens"] for s in whole["samples"]])
            self.assertEqual(parts[2]["trie"], whole["trie"])
            self.assertEqual(parts[2]["log_c_root"], whole["log_c_root"])

    def test_a_trie_of_other_settings_is_refused_by_the_field(self):
        file = str(self.folder / "a.trie")
        self.succeed(*self.run_command("--align", "asap", "--align-trie", file))
        content = harness.read(file)
        for field, arguments in {
            "grammar": self.run_command("--align", "asap", schema='{"enum": ["the"]}'),
            "sampler": (*self.run_command("--align", "asap"), "--temp", "8"),
            "token budget (12, not 11)": (*self.run_command("--align", "asap"), "-n", "11"),
            "prompt": ("run", "-m", self.llama, "--raw", "xy", *self.run_command("--align", "asap")[5:]),
            "tokenizer": self.run_command("--align", "asap", model=self.gemma),
        }.items():
            self.refuse(FAILURE, ["--align-trie", "a.trie", f"made for another {field}"], *arguments, "--align-trie", file)
        cut = self.write("b.trie", content[:-9])
        self.refuse(FAILURE, ["--align-trie", "b.trie", "checksum"], *self.run_command("--align", "asap"), "--align-trie", cut)
        self.assertEqual(harness.read(file), content)

    def test_grammars_expressions_and_choices_are_aligned_too(self):
        run = ("run", "-m", self.llama, "--raw", "xyz", "-n", "12", "-c", "256", "-s", "1", *FREE, "--align", "exact(samples=20)")
        grammar = self.write("words.gbnf", 'root ::= "th" ("e" | "in") | "it"')
        file = str(self.folder / "words.trie")
        for structure in (("--grammar", grammar), ("--regex", "the|thin|it"), ("--choice", "the", "--choice", "thin", "--choice", "it")):
            report = self.report(*run, *structure, "--align-trie", file)
            self.assertLessEqual({s["text"] for s in report["samples"]}, {"the", "thin", "it"})
            # What the file says counts, and not its name.
            copy = self.write("copy.gbnf", harness.read(grammar))
            if structure[0] == "--grammar":
                self.succeed(*run, "--grammar", copy, "--align-trie", file)
                self.write("words.gbnf", 'root ::= "the"')
            self.refuse(FAILURE, ["made for another grammar"], *run, "--grammar", grammar, "--align-trie", file)
            os.remove(file)

    def test_one_thread_or_two_and_any_table_give_the_same_answers(self):
        want = [s["tokens"] for s in self.answers("--align", "exact(samples=12)")["samples"]]
        for arguments in (("-t", "1"), ("-t", "2"), ("--prefill-chunk", "1"), ("--kernels", "scalar")):
            self.assertEqual([s["tokens"] for s in self.answers("--align", "exact(samples=12)", *arguments)["samples"]], want)

    def test_what_does_not_fit_together_is_refused(self):
        run = self.run_command
        self.refuse(USAGE, ["--align", "asap, exact or none"], *run("--align", "best"))
        self.refuse(USAGE, ["--align", "NAME(SETTING=VALUE, ...)"], *run("--align", "asap(samples)"))
        self.refuse(USAGE, ["--align", "samples"], *run("--align", "asap(samples=0)"))
        self.refuse(USAGE, ["--align", "no setting n"], *run("--align", "asap(n=4)"))
        self.refuse(USAGE, ["--align", "twice"], *run("--align", "asap(batch=1,batch=2)"))
        self.refuse(USAGE, ["--align-trie", "--align"], *run("--align-trie", "x"))
        self.refuse(USAGE, ["--align", "--json-schema"], "run", "x", "--align", "asap")
        self.refuse(USAGE, ["--temp"], *run("--align", "asap", "--temp", "0"))
        self.refuse(USAGE, ["--ignore-eos"], *run("--align", "asap", "--ignore-eos"))
        self.refuse(USAGE, ["--stop"], *run("--align", "asap", "-r", "x"))
        self.refuse(USAGE, ["--logprobs"], *run("--align", "asap", "--logprobs", "1", "--json", "-"))
        self.refuse(USAGE, ["--finish"], *run("--align", "asap", "--finish"))
        self.refuse(USAGE, ["--forced canonical"], *run("--align", "asap", "--forced", "canonical"))
        self.refuse(FAILURE, ["Mirostat"], *run("--align", "asap", "--mirostat", "2"))
        self.refuse(FAILURE, ["budget"], *run("--align", "asap", "-n", "256"))

    def test_a_language_without_probability_is_an_error(self):
        for method in ("asap", "exact"):
            self.refuse(FAILURE, ["P(L') = 0", "-n"], *self.run_command("--align", method, "-n", "1"))
            self.refuse(FAILURE, ["P(L') = 0", "--top-k"], *self.run_command("--align", method, "--top-k", "1"))
        # What was drawn before attempts ran out is reported.
        report = str(self.folder / "report.json")
        result = self.decant(*self.run_command("--align", "exact(samples=3, attempts=1)", "--json", report))
        self.assertEqual(result.code, FAILURE)
        self.assertIn("attempts", result.errors)
        self.assertFalse(os.path.exists(report), "nothing was drawn")

    def test_evaluation(self):
        tasks = [{"family": "f", "name": "one", "prompt": "a", "max_tokens": 8, "enumerate": True, "gbnf": 'root ::= "a" | "b" [cd]'},
                 {"family": "g", "name": "two", "prompt": "b", "max_tokens": 8, "regex": "[ab]{1,3}"},
                 {"family": "g", "name": "three", "prompt": "c", "max_tokens": 12, "json_schema": WORDS}]
        data = self.write("tasks.json", json.dumps(tasks))
        command = ("eval", "alignment", "-m", self.llama, "--data", data)
        report = self.report(*command, "--answers", "300", "--tasks", "one,three")
        self.assertEqual([t["name"] for t in report["tasks"]], ["one", "three"])
        one, three = report["tasks"]
        self.assertTrue(one["enumerated"])
        self.assertEqual(one["texts"], 3)
        self.assertFalse(three["enumerated"])
        for method in ("none", "asap", "exact"):
            curve = one["methods"][method]["curve"]
            self.assertEqual([p["samples"] for p in curve], [1, 2, 5, 10, 20, 50, 100, 200, 300])
            self.assertLessEqual(curve[-1]["forward_passes"], 1)
        self.assertGreater(one["methods"]["none"]["curve"][-1]["total_variation"], 1e-3)
        self.assertLess(one["methods"]["asap"]["curve"][-1]["total_variation"], 1e-6)
        last = one["methods"]["exact"]["curve"][-1]
        self.assertLess(last["empirical_variation"], 3 * last["sampling_error"] + 0.02)
        self.refuse(FAILURE, ["tasks.json", "nobody"], *command, "--tasks", "nobody")
        self.refuse(FAILURE, ["bad.json", "task 1"], "eval", "alignment", "-m", self.llama, "--data", self.write("bad.json", '[{"name": "x"}]'))
        self.refuse(FAILURE, ["worse.json"], "eval", "alignment", "-m", self.llama, "--data", self.write("worse.json", "[[[["))


if __name__ == "__main__":
    harness.main()
