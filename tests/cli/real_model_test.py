# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""The program with real models; skipped without DECANT_TEST_SMOLLM2 and DECANT_TEST_GEMMA3 (paths of GGUF files)."""

import concurrent.futures
import json
import os
import unittest

import harness
from serve_test import CHAT, Served

SMOLLM2 = os.environ.get("DECANT_TEST_SMOLLM2")
GEMMA3 = os.environ.get("DECANT_TEST_GEMMA3")


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 0, "maximum": 120}, "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}}},
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


class StructureTest(harness.CliTest):
    """Log-probabilities need the logits of all tokens; without them those of the mask alone are computed."""

    def same_tokens(self, model):
        self.write("schema.json", json.dumps(SCHEMA))
        for sampling in (("--temp", "0"), ("--temp", "1", "-s", "3"), ("--temp", "0.8", "-s", "4", "--repeat-penalty", "1.2", "--top-p", "0.9")):
            arguments = ("run", "-m", model, "Describe a person.", "-n", "60", "--json-schema", "schema.json", *sampling)
            few = self.report(*arguments, timeout=600)
            everything = self.report(*arguments, "--logprobs", "0", timeout=600)
            self.assertEqual(few["tokens"], everything["tokens"], sampling)
            self.assertGreater(len(few["tokens"]), 10)

    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_smollm2(self):
        self.same_tokens(SMOLLM2)

    @unittest.skipUnless(GEMMA3, "DECANT_TEST_GEMMA3 is not set")
    def test_gemma3(self):
        self.same_tokens(GEMMA3)


class ServedTest(harness.CliTest):
    """An answer and its numbers depend on the request alone."""

    def alone_and_under_load(self, model, chat):
        def ask(text, **more):
            body = {"max_tokens": 24, "seed": 5, **more}
            if not chat:
                return "/v1/completions", {"prompt": text, "logprobs": 2, **body}
            return CHAT, {"messages": [{"role": "user", "content": text}], "logprobs": True, "top_logprobs": 2, **body}

        def completion(text, **more):
            return "/v1/completions", {"prompt": text, "seed": 3, "temperature": 1, **more}

        question = "Why is the sky blue?"
        requests = [
            ask(question, temperature=0),
            completion(question, temperature=0, max_tokens=24, draft="none"),
            ask("Tell me about the tides.", temperature=0.9, n=2),
            ask("Describe a person. " * 40, temperature=0.8, json_schema=SCHEMA),
            ask("Repeat: one two three four one two three four", temperature=0, draft="sam+recycling"),
            completion("The sea is", max_tokens=16, echo=True, logprobs=1),
            completion("The sea is", choice=[" blue", " deep"], align="asap", n=3, max_tokens=8),
            ("/v1/embeddings", {"input": "The sea is deep."}),
        ]

        def answer(request):
            body = s.post(*request)
            answers = body.get("choices") or body["data"]
            # Which of the same tokens was guessed before it was drawn depends on how long the steps took.
            for entry in ((answers[0].get("logprobs") or {}) if chat else {}).get("content") or []:
                self.assertIn(entry.pop("origin"), ("model", "draft", "forced"))
            return answers

        # So few tokens that requests wait for each other's pages.
        s = Served(self, "-c", "1536", model=model, timeout=600)
        self.addCleanup(lambda: s.process.poll() is None and s.stop())
        alone = [answer(r) for r in requests]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            together = list(pool.map(answer, requests * 2))
        for request, want, got in zip(requests * 2, alone * 2, together):
            self.assertEqual(got, want, request)
        raw = self.report("run", "-m", model, "--raw", question, "--temp", "0", "-n", "24", timeout=600)["text"]
        self.assertEqual(alone[1][0]["text"], raw)

    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_smollm2(self):
        self.alone_and_under_load(SMOLLM2, chat=True)

    @unittest.skipUnless(GEMMA3, "DECANT_TEST_GEMMA3 is not set")
    def test_gemma3(self):
        self.alone_and_under_load(GEMMA3, chat=False)


class SmolLm2Test(harness.CliTest):
    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_answers_in_english(self):
        report = self.report("run", "-m", SMOLLM2, "Name three colors.", "--temp", "0", "-n", "40", timeout=600)
        self.assertIn("Red", report["text"])
        self.assertEqual(report["finish_reason"], "stop")

    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_threads_chunks_and_kernels_change_no_bit(self):
        arguments = ("run", "-m", SMOLLM2, "Tell me about the sea and its tides.", "-n", "12", "-s", "7", "--logprobs", "3", "-t", "2")
        want = self.report(*arguments, timeout=600)
        for variant in (("-t", "1"), ("--prefill-chunk", "5"), ("--kernels", "scalar")):
            got = self.report(*arguments, *variant, timeout=600)
            self.assertEqual((got["tokens"], got["logprobs"]), (want["tokens"], want["logprobs"]), variant)

    @unittest.skipUnless(SMOLLM2, "DECANT_TEST_SMOLLM2 is not set")
    def test_chat_remembers(self):
        result = self.succeed("chat", "-m", SMOLLM2, "--temp", "0", "-n", "40", stdin="My favourite animal is the owl.\nWhich animal did I name?\n", timeout=600)
        self.assertIn("owl", result.text.splitlines()[-1])


class Gemma3Test(harness.CliTest):
    @unittest.skipUnless(GEMMA3, "DECANT_TEST_GEMMA3 is not set")
    def test_completes_a_sentence(self):
        report = self.report("run", "-m", GEMMA3, "--raw", "Monday, Tuesday, Wednesday,", "--temp", "0", "-n", "8", timeout=600)
        self.assertIn("Thursday, Friday", report["text"])


if __name__ == "__main__":
    harness.main()
