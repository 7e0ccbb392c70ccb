# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant eval maskbench, jsonschemabench and schema-walk on a folder of a few schemas."""

import json

import harness
from harness import FAILURE

LINES = (
    {"id": "bool", "schema": {"enum": [True, 12]}, "tests": [{"valid": True, "data": True}, {"valid": False, "data": False}]},
    {"id": "refused", "schema": {"pattern": "(a)\\1"}, "tests": [{"valid": True, "data": "a"}]},
    {"id": "list", "schema": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}, "tests": [{"valid": True, "data": ["b", "a"]},
                                                                                                            {"valid": False, "data": ["a", "a"]}]},
)


class EvalTest(harness.CliTest):
    def setUp(self):
        super().setUp()
        (self.folder / "data").mkdir()
        self.write("data/schemas.jsonl", "".join(json.dumps(line) + "\n" for line in LINES))

    def test_maskbench_and_what_peers_need_for_the_same_work(self):
        report = self.report("eval", "maskbench", "-m", self.llama, "--data", "data", "--samples", "samples.jsonl")
        self.assertEqual([report["summary"][k] for k in ("schemas", "passing", "passing_strict", "refused")], [3, 2, 2, 1])
        head, *schemas = [json.loads(line) for line in (self.folder / "samples.jsonl").read_text().splitlines()]
        vocabulary = [bytes.fromhex(h) for h in head["vocabulary"]]
        self.assertTrue(all(vocabulary[t] == b"" for t in head["end_tokens"]))
        self.assertEqual([s["id"] for s in schemas], [line["id"] for line in LINES])
        for sample, line in zip(schemas, LINES):
            self.assertEqual(json.loads(sample["schema"]), line["schema"])
            self.assertEqual(bool(sample["refused"]), line["id"] == "refused")
            for instance, test in zip(sample["instances"], line["tests"], strict=True):
                self.assertEqual(b"".join(vocabulary[t] for t in instance["tokens"]).decode(), json.dumps(test["data"]))
                if not sample["refused"]:
                    self.assertEqual((instance["taken"], instance["whole"]), (test["valid"], test["valid"]))
                    self.assertTrue(1 <= len(instance["mask_us"]) <= len(instance["tokens"]))

    def test_walks_end_with_valid_values(self):
        report = self.report("eval", "schema-walk", "-m", self.llama, "--data", "data", "--walks", "30", "-s", "3")
        self.assertEqual(report["summary"]["schemas"], 3)
        self.assertEqual(report["summary"]["refused"], 1)
        self.assertLessEqual(set(report["summary"]["walks"]), {"whole", "unended"})
        self.assertGreater(report["summary"]["walks"]["whole"], 40)
        true, refused, lists = report["schemas"]
        self.assertTrue(all(json.loads(w["text"]) in (True, 12) for w in true["walks"] if w["end"] == "whole"))
        self.assertEqual(refused["walks"], [])
        for walk in lists["walks"]:
            if walk["end"] == "whole":
                value = json.loads(walk["text"])
                self.assertEqual(sorted(value), sorted(set(value)))
                self.assertLessEqual(set(value), {"a", "b"})
        self.assertEqual(true["accepted"], [True, False])
        self.assertEqual(lists["accepted"], [True, False])

    def test_answers_under_schemas(self):
        for parallel in ("1", "2"):
            report = self.report("eval", "jsonschemabench", "-m", self.llama, "--data", "data", "--temp", "1", "-s", "1", "-n", "60", "-c", "512",
                                 "--parallel", parallel)
            summary = report["summary"]
            self.assertEqual((summary["schemas"], summary["compiled"], summary["failed"]), (3, 2, 0))
            self.assertEqual(summary["finished"] + summary["length"], 2)
            self.assertEqual(summary["valid"], summary["finished"])
            for schema in report["schemas"]:
                if schema["finish_reason"] == "stop" and not schema["refused"]:
                    json.loads(schema["text"])
        for schema in report["schemas"]:
            self.assertLessEqual(schema["forced"], schema["tokens"])
        hastened = self.report("eval", "jsonschemabench", "-m", self.llama, "--data", "data", "--temp", "1", "-s", "1", "-n", "12", "-c", "512", "--finish")
        self.assertEqual(hastened["summary"]["finished"], 2)
        self.assertEqual(hastened["summary"]["valid"], 2)
        limited = self.report("eval", "jsonschemabench", "-m", self.llama, "--data", "data", "--limit", "1", "-n", "8", "-c", "512")
        self.assertEqual(limited["summary"]["schemas"], 1)

    def test_wrong_data(self):
        for what in ("maskbench", "jsonschemabench", "schema-walk"):
            self.refuse(FAILURE, ["absent", "--data"], "eval", what, "-m", self.llama, "--data", "absent", "-c", "512")
        self.write("data/schemas.jsonl", '{"id": "x"}\n')
        self.refuse(FAILURE, ["schemas.jsonl", "line 1"], "eval", "schema-walk", "-m", self.llama, "--data", "data")


if __name__ == "__main__":
    harness.main()
