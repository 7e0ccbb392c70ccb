# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant serve with the official OpenAI client, unchanged. Skipped where the client cannot be installed."""

import json
import os
import subprocess
import unittest

import harness
import python_packages
from serve_test import Served

MESSAGES = [{"role": "user", "content": "hello"}]
# The model of these tests is random: without this it may end at once.
ENDLESS = {"ignore_eos": True}
# And without this its JSON may be all white space.
IN_TIME = {"finish": True}


class OpenaiClientTest(harness.CliTest):
    @classmethod
    def setUpClass(cls):
        python_packages.import_packages(harness.program("decant"))
        super().setUpClass()

    def setUp(self):
        super().setUp()
        import openai

        self.openai = openai
        model = os.environ.get("DECANT_TEST_SMOLLM2") or self.llama
        self.served = Served(self, "-c", "8192", "--alias", "local", "--api-key", "secret", model=model)
        self.addCleanup(self.served.stop)
        self.client = openai.OpenAI(base_url=f"http://127.0.0.1:{self.served.port}/v1", api_key="secret", max_retries=0, timeout=60)

    def chat(self, **arguments):
        return self.client.chat.completions.create(**{"model": "local", "messages": MESSAGES, "max_tokens": 12, "seed": 1, **arguments})

    def test_the_client_finds_everything(self):
        with self.subTest("models"):
            self.assertEqual([m.id for m in self.client.models.list()], ["local"])
            self.assertEqual(self.client.models.retrieve("local").id, "local")

        with self.subTest("chat, whole and streamed"):
            answer = self.chat(extra_body=ENDLESS)
            self.assertEqual(answer.choices[0].finish_reason, "length")
            self.assertEqual(answer.usage.completion_tokens, 12)
            self.assertGreaterEqual(answer.usage.prompt_tokens_details.cached_tokens, 0)
            text, usage = "", None
            for chunk in self.chat(stream=True, stream_options={"include_usage": True}, extra_body=ENDLESS):
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
            self.assertEqual(text, answer.choices[0].message.content)
            self.assertEqual(usage.completion_tokens, 12)

        with self.subTest("n, logprobs, stop, bias"):
            answer = self.chat(n=3, logprobs=True, top_logprobs=2, extra_body=ENDLESS)
            self.assertEqual([c.index for c in answer.choices], [0, 1, 2])
            entry = answer.choices[0].logprobs.content[0]
            self.assertEqual(len(entry.top_logprobs), 2)
            self.assertIsInstance(entry.bytes, list)
            text = answer.choices[0].message.content
            cut = self.chat(stop=[text[3:6]], extra_body=ENDLESS).choices[0]
            self.assertEqual((cut.message.content, cut.finish_reason), (text[: text.index(text[3:6])], "stop"))
            token = entry.model_extra["token_id"]
            other = self.chat(logit_bias={str(token): -100}, logprobs=True, extra_body=ENDLESS)
            self.assertNotIn(token, [e.model_extra["token_id"] for e in other.choices[0].logprobs.content])

        with self.subTest("json_schema"):
            schema = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"],
                      "additionalProperties": False}
            answer = self.chat(max_tokens=200, extra_body=IN_TIME, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}})
            self.assertIn(json.loads(answer.choices[0].message.content)["size"], ("small", "large"))
            import pydantic

            class Size(pydantic.BaseModel):
                size: int = pydantic.Field(ge=1, le=3)

            parsed = self.client.chat.completions.parse(model="local", messages=MESSAGES, max_tokens=200, seed=1, response_format=Size,
                                                           extra_body=IN_TIME)
            self.assertIn(parsed.choices[0].message.parsed.size, (1, 2, 3))

        with self.subTest("tools"):
            tool = {"type": "function", "function": {"name": "add", "parameters": {
                "type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["a"], "additionalProperties": False}}}
            answer = self.chat(max_tokens=200, tools=[tool], tool_choice="required", parallel_tool_calls=False, extra_body=IN_TIME)
            self.assertEqual(answer.choices[0].finish_reason, "tool_calls")
            (call,) = answer.choices[0].message.tool_calls
            self.assertIn(json.loads(call.function.arguments)["a"], range(100))
            arguments = ""
            for chunk in self.chat(max_tokens=200, tools=[tool], tool_choice="required", parallel_tool_calls=False,
                                   stream=True, extra_body=IN_TIME):
                for part in chunk.choices[0].delta.tool_calls or []:
                    arguments += part.function.arguments or ""
            self.assertEqual(arguments, call.function.arguments)
            answer = self.chat(extra_body=ENDLESS, tools=[tool], tool_choice="none", messages=[
                *MESSAGES, answer.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "5"}])
            self.assertTrue(answer.choices[0].message.content)

        with self.subTest("completions"):
            answer = self.client.completions.create(model="local", prompt="The sea", max_tokens=5, logprobs=1, echo=True, seed=1, extra_body=ENDLESS)
            self.assertTrue(answer.choices[0].text.startswith("The sea"))
            self.assertEqual(len(answer.choices[0].logprobs.tokens), answer.usage.prompt_tokens + 5)
            pieces = [c.choices[0].text for c in self.client.completions.create(
                model="local", prompt="The sea", max_tokens=5, seed=1, stream=True, extra_body=ENDLESS)]
            self.assertEqual("The sea" + "".join(pieces), answer.choices[0].text)

        with self.subTest("embeddings"):
            answer = self.client.embeddings.create(model="local", input=["a house", "the sea"])
            self.assertEqual(len(answer.data), 2)
            self.assertAlmostEqual(sum(x * x for x in answer.data[0].embedding), 1, places=3)

        with self.subTest("errors"):
            with self.assertRaises(self.openai.BadRequestError) as caught:
                self.chat(temperature=-1)
            self.assertEqual(caught.exception.param, "temperature")
            with self.assertRaises(self.openai.NotFoundError):
                self.chat(model="other")
            with self.assertRaises(self.openai.AuthenticationError):
                self.client.with_options(api_key="wrong").models.list()
            with self.assertRaises(self.openai.BadRequestError) as caught:
                self.chat(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}]}])
            self.assertIn("image_url", str(caught.exception))

        with self.subTest("a stream that is left"):
            stream = self.chat(max_tokens=4000, stream=True, extra_body=ENDLESS)
            next(iter(stream))
            stream.close()
            end = {"Authorization": "Bearer secret"}
            for _ in range(200):
                text = self.served.request("GET", "/metrics", headers=end)[1].decode()
                if "\ndecant_open_answers 0\n" in text:
                    break
            self.assertIn("\ndecant_open_answers 0\n", text)

    def test_the_document_is_valid_openapi(self):
        import openapi_spec_validator

        document = json.loads(self.served.request("GET", "/openapi.json")[1])
        openapi_spec_validator.validate(document)


if __name__ == "__main__":
    harness.main()
