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

    def test_members_in_the_schemas_order(self):
        names = ["b", "d", "a", "c"]
        schema = json.dumps({"type": "object", "properties": {n: {"type": "boolean"} for n in names}, "additionalProperties": False, "required": ["a"]})
        orders = set()
        for seed in range(12):
            report = self.answer(schema, "-n", "300", "--finish", "--property-order", "schema", seed=seed)
            self.assertEqual(report["finish_reason"], "stop")
            members = list(json.loads(report["text"]))
            self.assertEqual(members, [n for n in names if n in members])
            orders.add(tuple(members))
        self.assertGreater(len(orders), 1)
        self.refuse(USAGE, ["--property-order", "any or schema"], "run", "x", "--json-schema", "{}", "--property-order", "sorted")
        for option in (["--property-order", "schema"], ["--format", "annotation"], ["--schema-dir", "."]):
            self.refuse(USAGE, [option[0], "--json-schema"], "run", "x", *option)

    def test_formats_may_be_annotations(self):
        schema = '{"format": "ipv4", "const": "x"}'
        self.refuse(FAILURE, ["no value is valid"], "run", "-m", self.llama, "x", "--json-schema", schema)
        self.assertEqual(json.loads(self.answer(schema, "-n", "30", "--format", "annotation", "--finish")["text"]), "x")
        self.refuse(USAGE, ["--format", "assert or annotation"], "run", "x", "--json-schema", "{}", "--format", "maybe")

    def test_references_to_files_of_the_schemas_folder(self):
        (self.folder / "schemas" / "sub").mkdir(parents=True)
        (self.folder / "other").mkdir()
        self.write("schemas/sub/leaf.json", '{"$ref": "../word.json#/$defs/w"}')
        self.write("schemas/word.json", '{"$defs": {"w": {"const": "yes"}}}')
        self.write("outside.json", '{"const": "no"}')
        root = self.write("schemas/root.json", '{"$ref": "sub/leaf.json"}')
        answer = ("-n", "30", "--finish")
        self.assertEqual(json.loads(self.answer(root, *answer)["text"]), "yes")
        self.assertEqual(json.loads(self.answer('{"$ref": "word.json#/$defs/w"}', *answer, "--schema-dir", "schemas")["text"]), "yes")
        own = self.write("schemas/own.json", '{"$id": "http://example.com/s/own.json", "$ref": "word.json#/$defs/w"}')
        self.assertEqual(json.loads(self.answer(own, *answer)["text"]), "yes")
        # Each schema's references are its own folder's.
        self.write("other/word.json", '{"$defs": {"w": {"enum": ["yes", "no"]}}}')
        other = self.write("other/root.json", '{"$ref": "word.json#/$defs/w"}')
        self.assertEqual(json.loads(self.answer(root, *answer, "--json-schema", other)["text"]), "yes")
        run = ("run", "-m", self.llama, "x", "--json-schema")
        for word, text in {"leads out of": '{"$ref": "../outside.json"}', "No such file": '{"$ref": "none.json"}',
                           "line 1": '{"$ref": "broken.json"}', "another document": '{"$ref": "http://example.com/a.json"}',
                           "is not there": '{"$ref": "word.json#/$defs/v"}'}.items():
            self.write("schemas/broken.json", "{")
            self.refuse(FAILURE, [word], *run, self.write("schemas/wrong.json", text))
        self.refuse(FAILURE, ["another document"], *run, '{"$ref": "word.json"}')

    def test_refusals_name_keyword_and_place(self):
        run = ("run", "-m", self.llama, "x", "--json-schema")
        self.refuse(FAILURE, ["#/properties/a/type"], *run, '{"properties": {"a": {"type": "text"}}}')
        self.refuse(FAILURE, ["schema.json", "line 2, column"], *run, self.write("schema.json", '{\n"a":: 1}'))
        self.refuse(FAILURE, ["--json-schema", "absent.json"], *run, "absent.json")
        self.refuse(FAILURE, ["no value is valid"], *run, "false")
        self.refuse(FAILURE, ["#/pattern", "back-reference"], *run, r'{"pattern": "(a)\\1"}')
        self.refuse(USAGE, ["--lenient", "--json-schema"], "run", "x", "--lenient")
        result = self.succeed(*run, r'{"pattern": "(a)\\1", "enum": ["a"]}', "--lenient", "-n", "9")
        self.assertIn("warning: ", result.errors)
        self.assertIn("left out", result.errors)

    def test_hostile_schemas_are_refused_in_time(self):
        words_of = {
            "not JSON: line 1": '{"type": }',
            "a schema is an object": "[]",
            "appears twice": '{"type": "string", "type": "integer"}',
            "line 1, column": b'{"const": "\xff\xfe"}',
            "a zero byte": b'{"type": "integer"}\0',
            "nested deeper": '{"items": ' * 1000 + "{}" + "}" * 1000,
            "deeper than 512": "[" * 1000000,
            "references lead back": '{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}',
            "no value is valid": '{"type": "array", "items": {"$ref": "#"}, "minItems": 1}',
            "groups nested deeper": json.dumps({"pattern": "^" + "(" * 1000 + "a*" + ")*" * 1000 + "$"}),
            "a repetition of more": '{"pattern": "^a{1,4000000000}$"}',
            "bytes; at most": json.dumps({"pattern": "|".join(f"w{i}" for i in range(10000))}),
            "too large for a double": '{"minimum": 1e400}',
            "#/minItems": '{"minItems": -1}',
            "another document": '{"$ref": "http://example.com/x.json"}',
            "too many alternatives": json.dumps({"enum": [{"a": i} for i in range(5000)]}),
            "too many schemas within": json.dumps(
                {"$ref": "#/$defs/0", "$defs": {str(i): {"$ref": f"#/$defs/{i + 1}"} for i in range(3000)} | {"3000": {}}}),
            "too much to follow": json.dumps({"enum": ["x" * 30 + str(i) for i in range(60000)]}),
        }
        for word, schema in words_of.items():
            with self.subTest(word):
                path = self.write("schema.json", schema)
                self.refuse(FAILURE, ["schema.json", word], "run", "-m", self.llama, "x", "--json-schema", path, timeout=60)

    def test_large_bounds_and_schemas_are_no_trouble(self):
        for schema in (
            {"type": "array", "items": {"type": "integer"}, "minItems": 1000000, "maxItems": 10000000},
            {"type": "string", "minLength": 1000000, "pattern": "^(ab)*$"},
            {"type": "string", "maxLength": 1000000},
            {"pattern": "^(a{1,1000}){1,1000}$"},
            {"pattern": "^" + "(" * 30 + "a*" + ")*" * 30 + "$"},
            {"type": "string", "pattern": "(a|b)*a(a|b){200}c"},
            {"enum": [f"value {i}" for i in range(20000)]},
            {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(5000)}, "required": [f"p{i}" for i in range(5000)]},
            {"allOf": [{"properties": {f"p{i}": {"type": "integer"}}} for i in range(1000)]},
            {"oneOf": [{"required": [f"p{i}"]} for i in range(50)]},
            {"type": "number", "multipleOf": 1e-300},
            {"type": "number", "multipleOf": 3.14159265358979},
            {"$schema": "http://example.com/unknown", "type": "integer"},
            {"$ref": "http://json-schema.org/draft-07/schema#"},
        ):
            with self.subTest(str(schema)[:60]):
                path = self.write("schema.json", json.dumps(schema))
                self.succeed("run", "-m", self.llama, "--raw", "x", "--json-schema", path, "-n", "4", "-s", "1", timeout=60)



if __name__ == "__main__":
    harness.main()
