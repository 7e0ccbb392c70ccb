# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant datastore: corpora are built of texts and lines of JSON, shown, and checked."""

import json

import harness
from harness import FAILURE, USAGE


class DatastoreTest(harness.CliTest):
    def test_documents_of_texts_and_lines_of_json(self):
        self.write("a.txt", "Hello world, hello world")
        self.write("b.jsonl", "\n".join(json.dumps(line) for line in (
            {"text": "Hello"}, {"messages": [{"text": ["Hello", "world"]}, {"role": "user"}], "text": ""}, "a string")) + "\n\n")
        report = self.report("datastore", "build", "-m", self.llama, "--out", "c.ds", "a.txt", "b.jsonl")
        self.assertEqual(report["documents"], 4)
        self.assertEqual(report["token_bytes"], 2)
        self.assertEqual(report["bytes"], (self.folder / "c.ds").stat().st_size)
        shown = self.report("datastore", "inspect", "c.ds")
        self.assertTrue(shown.pop("checked"))
        self.assertFalse(report.pop("checked"))
        self.assertEqual(shown, report)

    def test_what_is_wrong_is_named(self):
        self.write("a.txt", "Hello")
        self.write("b.jsonl", '{"text": "x"}\n{"content": "x"}\n')
        self.write("c.jsonl", '{"text": "x"}\n{"text": \n')
        build = ("datastore", "build", "-m", self.llama)
        self.refuse(USAGE, ["--out FILE"], *build, "a.txt")
        self.refuse(FAILURE, ["b.jsonl:2", "--field", "content"], *build, "--out", "d.ds", "b.jsonl")
        self.refuse(FAILURE, ["c.jsonl:2", "JSON"], *build, "--out", "d.ds", "c.jsonl")
        self.refuse(FAILURE, ["none.txt"], *build, "--out", "d.ds", "none.txt")
        self.assertFalse((self.folder / "d.ds").exists())
        self.succeed(*build, "--out", "d.ds", "--field", "content", "a.txt")
        data = bytearray((self.folder / "d.ds").read_bytes())
        data[-1] ^= 1
        self.write("e.ds", bytes(data))
        self.refuse(FAILURE, ["e.ds", "data hash", "build"], "datastore", "inspect", "e.ds")
        self.write("f.ds", bytes(data[:-1]))
        self.refuse(FAILURE, ["f.ds", "size"], "datastore", "inspect", "f.ds")
        self.refuse(FAILURE, ["a.txt", "no datastore"], "datastore", "inspect", "a.txt")


if __name__ == "__main__":
    harness.main()
