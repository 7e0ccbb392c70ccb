# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant run --tools: calls are valid in the format of the model's family, and the template gets the tools."""

import json

import harness
from harness import FAILURE, USAGE

TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {
             "type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["x"], "additionalProperties": False}}},
         {"type": "function", "function": {"name": "stop"}}]
TEMPLATE = "{% for t in tools or [] %}{{ t.function.name }};{% endfor %}{{ messages[0].content }}"


class ToolsTest(harness.CliTest):
    def setUp(self):
        super().setUp()
        self.tools = self.write("tools.json", json.dumps(TOOLS))
        self.template = self.write("template.jinja", TEMPLATE)

    def answer(self, *arguments, seed=1):
        return self.report("run", "-m", self.gemma, "x", "--chat-template", self.template, "--tools", self.tools, "-n", "90", "-c", "256", "-s",
                           str(seed), "--temp", "1.5", "--top-k", "0", "--top-p", "1", "--min-p", "0", *arguments)

    def assert_call(self, text, arguments="arguments"):
        call = json.loads(text)
        self.assertEqual(list(call), ["name", arguments])
        self.assertIn(call["name"], ("add", "stop"))
        self.assertEqual(list(call[arguments]), ["x"] if call["name"] == "add" else [])

    def test_a_required_call_is_valid(self):
        for seed in range(3):
            text = self.answer("--tool-choice", "required", "--tool-format", "hermes", seed=seed)["text"]
            calls = [part.split("\n</tool_call>") for part in text.split("<tool_call>\n")[1:]]
            whole = [part[0] for part in calls if len(part) == 2]
            self.assertTrue(text.startswith("<tool_call>\n"))
            for call in whole:
                self.assert_call(call)
        text = self.answer("--tool-choice", "stop", "--tool-format", "llama3")["text"]
        self.assertTrue(text.startswith('{"name": "stop", "parameters": {'), text)

    def test_the_template_gets_the_tools_and_tells_the_format(self):
        with_tools = self.answer("--tool-format", "hermes")["prompt_tokens"]
        without = self.report("run", "-m", self.gemma, "x", "--chat-template", self.template, "-n", "1")["prompt_tokens"]
        self.assertGreater(with_tools, without)
        self.assertEqual(self.answer("--tool-choice", "none")["prompt_tokens"], with_tools)
        telling = self.write("hermes.jinja", TEMPLATE + "{# <tool_call> #}")
        text = self.answer("--chat-template", telling, "--tool-choice", "required")["text"]
        self.assertTrue(text.startswith("<tool_call>\n{"), text)

    def test_refusals_say_what_is_missing(self):
        run = ("run", "-m", self.gemma, "x", "--chat-template", self.template, "--tools")
        self.refuse(FAILURE, ["--tool-format"], *run, self.tools)
        self.refuse(FAILURE, ["--tool-format", "hermes, llama3, mistral"], *run, self.tools, "--tool-format", "other")
        self.refuse(FAILURE, ["there is no tool sub"], *run, self.tools, "--tool-format", "hermes", "--tool-choice", "sub")
        self.refuse(FAILURE, ["--tools", "absent.json"], *run, "absent.json", "--tool-format", "hermes")
        self.refuse(FAILURE, ["list of tools"], *run, self.write("bad.json", "{}"), "--tool-format", "hermes")
        self.refuse(USAGE, ["--tool-choice none"], *run, self.tools, "--regex", "a")
        self.refuse(USAGE, ["--tools"], "run", "x", "--tool-choice", "required")
        self.refuse(USAGE, ["--raw"], "run", "x", "--raw", "--tools", self.tools)


if __name__ == "__main__":
    harness.main()
