# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant template, and --chat-template and --chat-template-kwargs of run and chat."""

import json

import harness
from harness import FAILURE, USAGE

TEMPLATE = ("{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{{ bos_token }}"
            "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}{{ style }}{{ tools|tojson if tools }}"
            "{% if add_generation_prompt %}<|assistant|>{% endif %}")
MESSAGES = [{"role": "user", "content": "Hé <|user|>"}]


class TemplateTest(harness.CliTest):
    def setUp(self):
        super().setUp()
        self.template = self.write("template.jinja", TEMPLATE)

    def render(self, conversation, *arguments):
        return self.succeed("template", self.template, *arguments, stdin=json.dumps(conversation)).out.decode()

    def test_renders_a_list_of_messages_or_a_request(self):
        self.assertEqual(self.render(MESSAGES), "<|user|>Hé <|user|><|assistant|>")
        self.assertEqual(self.render(MESSAGES, "--no-generation-prompt", "--bos", "<s>"), "<s><|user|>Hé <|user|>")
        request = {"messages": MESSAGES, "tools": [{"a": 1}], "chat_template_kwargs": {"style": "!"}, "add_generation_prompt": False}
        self.assertEqual(self.render(request), '<|user|>Hé <|user|>![{"a": 1}]')
        self.assertEqual(self.render(request, "--chat-template-kwargs", '{"style": "?"}'), '<|user|>Hé <|user|>?[{"a": 1}]')
        self.assertEqual(self.render(request, "--tools", self.write("tools.json", "[2]")), "<|user|>Hé <|user|>![2]")

    def test_the_report_says_who_wrote_what(self):
        path = self.write("messages.json", json.dumps(MESSAGES))
        report = self.report("template", self.template, "--messages", path)
        self.assertEqual(report["parts"], [{"from": "template", "text": "<|user|>"}, {"from": "content", "text": "Hé <|user|>"},
                                           {"from": "template", "text": "<|assistant|>"}])
        report = self.report("template", "-m", self.llama, "--messages", path)
        self.assertIn("<|im_start|>user\nHé <|user|><|im_end|>", report["text"])
        self.assertGreater(len(report["tokens"]), 5)

    def test_a_template_refuses_in_its_own_words(self):
        system = self.write("messages.json", '[{"role": "system", "content": "x"}]')
        self.refuse(FAILURE, ["System role not supported", "line 1"], "template", self.template, "--messages", system)
        self.refuse(FAILURE, ["System role not supported"], "run", "-m", self.llama, "hi", "-sys", "x", "--chat-template", self.template)

    def test_what_is_wrong_is_named(self):
        self.refuse(FAILURE, ["shout"], "run", "-m", self.llama, "hi", "--chat-template", self.write("bad.jinja", "{{ 1|shout }}"))
        self.refuse(FAILURE, ["not JSON"], "template", self.template, "--messages", self.write("bad.json", "[1"))
        self.refuse(FAILURE, ["'model' is unknown"], "template", self.template, "--messages", self.write("other.json", '{"model": 1}'))
        self.refuse(USAGE, ["--chat-template-kwargs", "JSON object"], "run", "hi", "--chat-template-kwargs", "[1]")
        self.refuse(USAGE, ["--raw"], "run", "hi", "--raw", "--chat-template", self.template)
        self.refuse(USAGE, ["--bos"], "template", "--bos", "x")

    def test_run_and_chat_take_a_template(self):
        plain = self.report("run", "-m", self.llama, "hi", "-n", "1")["prompt_tokens"]
        other = self.report("run", "-m", self.llama, "hi", "-n", "1", "--chat-template", self.template)["prompt_tokens"]
        styled = self.report("run", "-m", self.llama, "hi", "-n", "1", "--chat-template", self.template, "--chat-template-kwargs",
                             '{"style": "0123456789"}')["prompt_tokens"]
        self.assertNotEqual(plain, other)
        self.assertGreater(styled, other)
        self.succeed("chat", "-m", self.llama, "-n", "2", "--chat-template-file", self.template, stdin="hi\n")


if __name__ == "__main__":
    harness.main()
