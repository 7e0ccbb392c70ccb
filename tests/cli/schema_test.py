# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant run --json-schema: whatever a model draws, what ends is valid; schemas that cannot be honoured are refused."""

import json

import harness
from harness import FAILURE, USAGE

PERSON = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer", "minimum": 0, "maximum": 99},
                                           "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True, "maxItems": 2}},
          "required": ["name", "age", "tags"], "additionalProperties": False}


class SchemaTest(harness.CliTest):
    def answer(self, schema, *arguments, model=None, seed=1):
        return self.report("run", "-m", model or self.llama, "--raw", "x", "--json-schema", schema, "-s", str(seed), "--temp", "1.5",
                           "--top-k", "0", "--top-p", "1", "--min-p", "0", *arguments)

    def test_what_ends_is_valid(self):
        ended = 0
        for model in (self.llama, self.gemma):
            for seed in range(6):
                report = self.answer(json.dumps(PERSON), "-n", "400", "-c", "1024", model=model, seed=seed)
                if report["finish_reason"] != "stop":
                    self.assertEqual(report["finish_reason"], "length")
                    continue
                ended += 1
                value = json.loads(report["text"])
                self.assertEqual(set(value), {"name", "age", "tags"})
                self.assertLessEqual(len(value["name"]), 5)
                self.assertTrue(0 <= value["age"] <= 99 and value["age"] == int(value["age"]))
                self.assertEqual(sorted(value["tags"]), sorted(set(value["tags"])))
                self.assertLessEqual(set(value["tags"]), {"a", "b"})
        self.assertGreater(ended, 3)

    def test_a_file_a_text_and_a_forced_answer(self):
        path = self.write("schema.json", '{"const": {"a": [1, null]}}')
        for schema in (path, '{"enum": [{"a": [1, null]}]}'):
            report = self.answer(schema, "--ignore-eos", "-n", "200")
            if report["finish_reason"] == "stop":  # else white space took the tokens
                self.assertEqual(json.loads(report["text"]), {"a": [1, None]})
        self.assertEqual(self.answer('{"enum": [true]}', "-n", "20")["text"], "true")
        self.assertEqual(self.answer('{"enum": [true]}', "-n", "20")["finish_reason"], "stop")

    def test_refusals_name_keyword_and_place(self):
        run = ("run", "-m", self.llama, "x", "--json-schema")
        self.refuse(FAILURE, ["#/properties/a/type"], *run, '{"properties": {"a": {"type": "text"}}}')
        self.refuse(FAILURE, ["schema.json", "line 2, column"], *run, self.write("schema.json", '{\n"a":: 1}'))
        self.refuse(FAILURE, ["--json-schema", "absent.json"], *run, "absent.json")
        self.refuse(FAILURE, ["no value is valid"], *run, "false")
        self.refuse(FAILURE, ["#/format", "regex"], *run, '{"format": "regex"}')
        self.refuse(USAGE, ["--lenient", "--json-schema"], "run", "x", "--lenient")
        result = self.succeed(*run, '{"format": "regex", "enum": ["a"]}', "--lenient", "-n", "9")
        self.assertIn("warning: ", result.errors)
        self.assertIn("left out", result.errors)


if __name__ == "__main__":
    harness.main()
