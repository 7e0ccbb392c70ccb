# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant compare and decant eval spec-bench: decoding methods side by side."""

import json
import os
import unittest
import xml.etree.ElementTree

import harness
from harness import FAILURE, USAGE

SMOLLM2 = os.environ.get("DECANT_TEST_SMOLLM2")
QUESTIONS = ([{"question_id": 10 + i, "category": ("writing", "coding")[i % 2], "turns": [f"Write {i}", "Again"]} for i in range(4)] +
             [{"question_id": 30 + i, "category": "qa", "turns": [f"Who is {i}?"]} for i in range(4)])


def total(turns, key):
    return sum(t[key] for t in turns)


def rate(turns, with_prefill):
    """Tokens a second of one question, by the definitions in docs/speculation.md."""
    drawn = [t["tokens"] + t["ended"] for t in turns]
    tokens = sum(drawn) if with_prefill else sum(max(0, n - 1) for n in drawn)
    seconds = total(turns, "decode_s") + (total(turns, "prefill_s") if with_prefill else 0)
    return tokens / seconds if tokens and seconds else None


def speedup(questions, method, with_prefill=False):
    pairs = [(rate(q["turns"][method], with_prefill), rate(q["turns"]["plain"], with_prefill)) for q in questions]
    pairs = [p for p in pairs if None not in p]
    return sum(a for a, _ in pairs) / sum(b for _, b in pairs)


class ComparisonTest(harness.CliTest):
    def check_report(self, report):
        """The figures follow from the records."""
        plain = report["methods"][0]
        self.assertEqual(plain["name"], "plain")
        for key in ("speedup", "speedup_with_prefill", "speedup_total", "tokens_per_step"):
            self.assertAlmostEqual(plain[key], 1)
        for method in report["methods"]:
            name, questions = method["name"], report["questions"]
            for part, figures in [(questions, method)] + [([q for q in questions if q["category"] == c], f) for c, f in method["by_category"].items()]:
                turns = [t for q in part for t in q["turns"][name]]
                self.assertEqual((figures["questions"], figures["turns"]), (len(part), len(turns)))
                self.assertAlmostEqual(figures["speedup"], speedup(part, name))
                self.assertAlmostEqual(figures["speedup_with_prefill"], speedup(part, name, True))
                steps = total(turns, "steps")
                self.assertAlmostEqual(figures["tokens_per_step"], sum(max(0, t["tokens"] + t["ended"] - 1) for t in turns) / steps)
                self.assertAlmostEqual(figures["nodes_per_step"], total(turns, "verified") / steps)
                self.assertAlmostEqual(figures["draft_ms_per_step"], 1000 * total(turns, "draft_s") / steps)
                for t in turns:  # the first token is the prompt's
                    self.assertEqual(t["tokens"] + t["ended"], 1 + t["steps"] + t["accepted"])
                low, high = figures["speedup_interval"] or (0, figures["speedup"])
                self.assertLessEqual(low, figures["speedup"] + 1e-9)
                self.assertGreaterEqual(high, figures["speedup"] - 1e-9)
            self.assertEqual(method["identical"], len(questions))
            self.assertIsNone(method["first_divergence"])


class CompareTest(ComparisonTest):
    def setUp(self):
        super().setUp()
        self.prompts = self.write("prompts.txt", "abcabcabc\n\nthe sea in the sea\nxyz\n")

    def compare(self, *arguments, prompts=None):
        return ("compare", "-m", self.llama, "--prompts", prompts or self.prompts, "-n", "20", "-c", "512", *arguments)

    def test_methods_run_beside_plain_decoding(self):
        report = self.report(*self.compare("--methods", "lookup(max=3), plain,lookup(min=2, max=4)@coupled"))
        self.assertEqual([m["name"] for m in report["methods"]], ["plain", "lookup(max=3)", "lookup(min=2, max=4)@coupled"])
        self.assertEqual([m["guarantee"] for m in report["methods"]], ["exact"] * 3)
        self.assertEqual(len(report["questions"]), 3)
        self.assertEqual(report["settings"]["temperature"], 0)
        self.check_report(report)

    def test_settings_hold_for_all_methods(self):
        free = ("--temp", "1.5", "-s", "4", "--top-k", "0")
        for arguments in (free, ("--raw",), ("--reset-state",), ("--json-schema", '{"enum": ["the", "thin", "it", 12]}', *free), ("-r", "e", *free)):
            report = self.report(*self.compare("--methods", "lookup", *arguments))
            for method in report["methods"]:
                self.assertEqual((method["identical"], method["first_divergence"]), (3, None), arguments)
            if "--json-schema" in arguments:
                for question in report["questions"]:
                    self.assertIn(json.loads(question["turns"]["plain"][0]["text"]), ["the", "thin", "it", 12])
            if "-r" in arguments:
                for question in report["questions"]:
                    self.assertNotIn("e", question["turns"]["plain"][0]["text"])
        seeds = [self.report(*self.compare("--methods", "plain", *free[:2], "-s", seed))["questions"][0]["turns"]["plain"][0]["text"] for seed in "445"]
        self.assertEqual(seeds[0], seeds[1])
        self.assertNotEqual(seeds[0], seeds[2])

    def test_guesses_of_a_step_may_be_bounded(self):
        report = self.report(*self.compare("--methods", "lookup", "--draft-nodes", "1"))
        self.check_report(report)
        for question in report["questions"]:
            for t in question["turns"]["lookup"]:
                self.assertLessEqual(t["proposed"], t["steps"])

    def test_all_guesses_are_verified_if_one_says_so(self):
        report = self.report(*self.compare("--methods", "lookup, recycling(tree=paper)", "--all-guesses"))
        self.assertIs(report["settings"]["all_guesses"], True)
        self.check_report(report)
        proposed = 0
        for question in report["questions"]:
            for name in ("lookup", "recycling(tree=paper)"):
                for t in question["turns"][name]:
                    self.assertEqual(t["verified"], t["proposed"])
                    proposed += t["proposed"]
        self.assertGreater(proposed, 500)
        self.assertIs(self.report(*self.compare("--methods", "lookup"))["settings"]["all_guesses"], False)

    def test_prompts_may_be_json_lines_with_turns_and_categories(self):
        lines = [{"prompt": "abc", "category": "one"}, {"turns": ["abc", "def"], "category": "two", "id": "pair"}]
        report = self.report(*self.compare("--methods", "lookup", prompts=self.write("p.jsonl", "\n".join(map(json.dumps, lines)))))
        self.assertEqual(report["categories"], ["one", "two"])
        self.assertEqual([q["id"] for q in report["questions"]], ["1", "pair"])
        self.check_report(report)

    def test_tables_and_charts(self):
        result = self.succeed(*self.compare("--methods", "lookup", "--chart", "speed.svg", "--json", "report.json"))
        rows = [line.split() for line in result.text.splitlines()]
        first = next(i for i, row in enumerate(rows) if row[:2] == ["method", "speed-up"])
        self.assertEqual([row[0] for row in rows[first + 1:first + 3]], ["plain", "lookup"])
        self.assertIn("3/3", rows[first + 2])
        report = json.loads((self.folder / "report.json").read_text())
        value = f"{report['methods'][1]['speedup']:.2f}"
        self.assertEqual(rows[first + 2][1], value)
        drawing = xml.etree.ElementTree.parse(self.folder / "speed.svg")
        self.assertIn(value + "×", "".join(drawing.getroot().itertext()))
        self.succeed(*self.compare("--chart", "speed.html"))
        page = (self.folder / "speed.html").read_text()
        self.assertIn("<svg", page)
        self.assertIn("<td>lookup</td>", page)
        self.assertNotRegex(page, r"<(script|link|img)|url\(|src=")

    def test_what_is_wrong_is_said_before_anything_runs(self):
        refuse = self.refuse
        refuse(USAGE, ["--prompts"], "compare", "-m", self.llama)
        for bad, word in (("", "methods"), ("lookup,,plain", "methods"), ("lookup, lookup", "twice"), ("lookup@", "VERIFIER"), ("plain@coupled", "plain")):
            refuse(USAGE, ["--methods", word], *self.compare("--methods", bad))
        refuse(FAILURE, ["guess", "lookup"], *self.compare("--methods", "guess"))
        refuse(FAILURE, ["guess", "coupled"], *self.compare("--methods", "lookup@guess"))
        refuse(FAILURE, ["lookup", "max"], *self.compare("--methods", "lookup(max=0)"))
        refuse(FAILURE, ["lookup", "size"], *self.compare("--methods", "lookup(size=1)"))
        refuse(USAGE, ["--predict", "'0'"], *self.compare("-n", "0"))
        refuse(USAGE, ["--chart", ".svg"], *self.compare("--chart", "speed.png"))
        refuse(FAILURE, ["absent/speed.svg"], *self.compare("--chart", "absent/speed.svg"))
        refuse(USAGE, ["--raw", "--system-prompt"], *self.compare("--raw", "-sys", "x"))
        refuse(FAILURE, ["absent.txt"], *self.compare(prompts="absent.txt"))
        refuse(FAILURE, ["empty.txt", "no prompts"], *self.compare(prompts=self.write("empty.txt", "\n\n")))
        refuse(FAILURE, ["bad.txt: line 2", "UTF-8"], *self.compare(prompts=self.write("bad.txt", b"good\nb\xffd\n")))
        refuse(FAILURE, ["bad.jsonl: line 1", "prompt"], *self.compare(prompts=self.write("bad.jsonl", "{}\n")))
        long = self.write("long.txt", "abc\n" + "xyz " * 200 + "\n")
        refuse(FAILURE, ["long.txt: line 2", "-c"], *self.compare("-c", "128", prompts=long))


class SpecBenchTest(ComparisonTest):
    def setUp(self):
        super().setUp()
        (self.folder / "data" / "spec-bench").mkdir(parents=True)
        self.questions(QUESTIONS)

    def questions(self, lines):
        self.write("data/spec-bench/question.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def command(self, *arguments):
        return ("eval", "spec-bench", "-m", self.llama, "--data", "data", "-n", "12", "-c", "1024", *arguments)

    def test_questions_are_spread_over_the_categories(self):
        report = self.report(*self.command("--limit", "4", "--methods", "lookup"))
        self.assertEqual(report["categories"], ["multi-turn", "qa"])
        self.assertEqual([q["category"] for q in report["questions"]], ["multi-turn", "multi-turn", "qa", "qa"])
        self.assertEqual([len(q["turns"]["plain"]) for q in report["questions"]], [2, 2, 1, 1])
        self.assertEqual(report["settings"]["temperature"], 0)
        self.check_report(report)
        again = self.report(*self.command("--limit", "4", "--methods", "lookup"))
        self.assertEqual([q["id"] for q in again["questions"]], [q["id"] for q in report["questions"]])
        self.assertEqual([m["tokens_per_step"] for m in again["methods"]][0], 1)
        everything = self.report(*self.command("--methods", "plain"))
        self.assertEqual(len(everything["questions"]), 8)

    def test_methods_that_need_no_files_are_the_default(self):
        report = self.report(*self.command("--limit", "1"))
        self.assertIn("lookup", [m["name"] for m in report["methods"]])

    def test_broken_questions_are_named(self):
        for change, word in (({"turns": []}, "turns"), ({"turns": ["a", ""]}, "turn 2"), ({"question_id": 10}, "10")):
            self.questions([QUESTIONS[0], QUESTIONS[1] | change])
            self.refuse(FAILURE, ["question.jsonl: line 2", word], *self.command())
        self.questions([QUESTIONS[0], {"question_id": 1, "category": "qa", "turns": ["x" * 2000]}])
        self.refuse(FAILURE, ["question.jsonl: line 2", "context"], *self.command())
        self.refuse(FAILURE, ["absent", "--data"], "eval", "spec-bench", "-m", self.llama, "--data", "absent")
        self.refuse(USAGE, ["--limit"], *self.command("--limit", "-1"))
        self.refuse(USAGE, ["--predict"], *self.command("-n", "0"))
        self.refuse(USAGE, ["spec-bench"], "eval", "maskbench", "--data", "data", "--methods", "lookup")

    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_answers_of_a_real_model_are_the_same(self):
        self.questions([{"question_id": 1, "category": "summarization", "turns": ["Say it twice: the quick brown fox jumps over the lazy dog."]},
                        {"question_id": 2, "category": "coding", "turns": ["Count from 1 to 20.", "Repeat your answer."]}])
        report = self.report("eval", "spec-bench", "-m", SMOLLM2, "--data", "data", "-n", "40", "-c", "1024", "--methods", "lookup, lookup(max=2)",
                             timeout=600)
        self.check_report(report)
        self.assertGreater(report["methods"][1]["tokens_per_step"], 1.05)


if __name__ == "__main__":
    harness.main()
