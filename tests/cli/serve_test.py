# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant serve from outside, by plain HTTP: routes, errors, streams, keys, clients that go, and how it stops."""

import base64
import concurrent.futures
import http.client
import json
import random
import re
import signal
import socket
import struct
import subprocess
import time

import harness
from harness import FAILURE, USAGE

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "seed": 1, "ignore_eos": True}


class Served:
    """A running server; its log ends up in `log`."""

    def __init__(self, test, *arguments, model=None, timeout=60):
        self.test = test
        self.timeout = timeout
        self.process = test.start("serve", "-m", model or test.llama, "--port", "0", *arguments, stdin=subprocess.DEVNULL)
        line = self.process.stdout.readline().decode()
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            self.process.kill()
            test.fail(f"no address: {line!r} {self.process.communicate()[1].decode()}")
        self.port = int(found.group(1))
        self.log = ""

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)

    def request(self, method, path, body=None, headers=None):
        connection = self.connection()
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        return response, answer

    def post(self, path, body, headers=None):
        """The JSON of an answer that has to be fine."""
        response, answer = self.request("POST", path, body, headers)
        self.test.assertEqual(response.status, 200, answer)
        return json.loads(answer)

    def refused(self, status, path, body, param=None, headers=None):
        response, answer = self.request("POST", path, body, headers)
        self.test.assertEqual(response.status, status, answer)
        error = json.loads(answer)["error"]
        self.test.assertEqual(set(error), {"message", "type", "param", "code"})
        self.test.assertTrue(error["message"])
        if param is not None:
            self.test.assertEqual(error["param"], param, answer)
        return error

    def events(self, path, body):
        """The JSON of each event of a stream, without [DONE], which has to be there."""
        response, answer = self.request("POST", path, {**body, "stream": True})
        self.test.assertEqual(response.status, 200, answer)
        self.test.assertTrue(response.headers["Content-Type"].startswith("text/event-stream"))
        lines = [x[6:] for x in answer.decode().split("\n\n") if x.startswith("data: ")]
        self.test.assertEqual(lines[-1], "[DONE]", answer)
        return [json.loads(x) for x in lines[:-1]]

    def metric(self, name):
        _, answer = self.request("GET", "/metrics")
        return float(re.search(rf"^{name} (\S+)$", answer.decode(), re.M).group(1))

    def wait_for(self, name, value, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.metric(name) == value:
                return
            time.sleep(0.05)
        self.test.fail(f"{name} is {self.metric(name)} and not {value}")

    def stop(self, seconds=20):
        self.process.send_signal(signal.SIGTERM)
        out, err = self.process.communicate(timeout=seconds)
        self.log = err.decode()
        self.test.assertEqual(self.process.returncode, 0, self.log)
        self.test.assertNotIn("Sanitizer", self.log)
        return self.log


class ServeTest(harness.CliTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.current = None

    def serve(self, *arguments, **kwargs):
        served = Served(self, *arguments, **kwargs)
        self.addCleanup(lambda: served.process.poll() is None and served.stop())
        return served

    def test_a_chat_answers_alike_whole_streamed_and_again(self):
        s = self.serve("-c", "2048")
        whole = s.post(CHAT, HELLO)
        self.assertEqual(whole["object"], "chat.completion")
        choice = whole["choices"][0]
        self.assertEqual(choice["finish_reason"], "length")
        self.assertEqual(whole["usage"]["completion_tokens"], 8)
        self.assertEqual(whole["usage"]["total_tokens"], whole["usage"]["prompt_tokens"] + 8)
        self.assertTrue(whole["system_fingerprint"])
        events = s.events(CHAT, {**HELLO, "stream_options": {"include_usage": True}})
        self.assertEqual(events[0]["object"], "chat.completion.chunk")
        self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
        text = "".join(e["choices"][0]["delta"].get("content", "") for e in events if e["choices"])
        self.assertEqual(text, choice["message"]["content"])
        self.assertEqual(events[-1]["usage"]["completion_tokens"], 8)
        self.assertEqual(events[-2]["choices"][0]["finish_reason"], "length")
        again = s.post(CHAT, HELLO)
        self.assertEqual(again["choices"][0]["message"], choice["message"])
        self.assertNotEqual(s.post(CHAT, {**HELLO, "seed": 2})["choices"][0]["message"], choice["message"])

    def test_n_answers_are_those_of_single_requests_under_load(self):
        s = self.serve("-c", "4096")
        many = s.post(CHAT, {**HELLO, "n": 3})
        texts = [c["message"]["content"] for c in many["choices"]]
        self.assertEqual([c["index"] for c in many["choices"]], [0, 1, 2])
        self.assertEqual(len(set(texts)), 3)
        bodies = [{**HELLO, "seed": seed} for seed in range(12)]
        alone = [s.post(CHAT, b)["choices"][0]["message"] for b in bodies]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            together = list(pool.map(lambda b: s.post(CHAT, b)["choices"][0]["message"], bodies))
        self.assertEqual(together, alone)
        events = s.events(CHAT, {**HELLO, "n": 3})
        for i in range(3):
            mine = [e["choices"][0] for e in events if e["choices"][0]["index"] == i]
            self.assertEqual("".join(c["delta"].get("content", "") for c in mine), texts[i])
            self.assertEqual(mine[-1]["finish_reason"], "length")

    def test_completions_echo_logprobs_and_lists_of_prompts(self):
        s = self.serve("-c", "2048")
        base = {"max_tokens": 4, "seed": 1, "ignore_eos": True}
        one = s.post("/v1/completions", {**base, "prompt": "the sea"})["choices"][0]["text"]
        two = s.post("/v1/completions", {**base, "prompt": ["the sea", "a house"]})["choices"]
        self.assertEqual(two[0]["text"], one)
        ids = s.post("/tokenize", {"content": "the sea", "parse_special": True})["tokens"]
        self.assertEqual(s.post("/v1/completions", {**base, "prompt": ids})["choices"][0]["text"], one)
        echoed = s.post("/v1/completions", {**base, "prompt": "the sea", "echo": True, "logprobs": 2})["choices"][0]
        self.assertEqual(echoed["text"], "the sea" + one)
        logprobs = echoed["logprobs"]
        self.assertEqual(len(logprobs["tokens"]), len(ids) + 4)
        self.assertIsNone(logprobs["token_logprobs"][0])
        self.assertTrue(all(x < 0 for x in logprobs["token_logprobs"][1:]))
        self.assertTrue(all(len(x) <= 2 for x in logprobs["top_logprobs"][1:]))
        scored = s.post("/v1/completions", {"prompt": "the sea", "echo": True, "logprobs": 0, "max_tokens": 0})["choices"][0]
        self.assertEqual(scored["text"], "the sea")
        self.assertEqual(scored["logprobs"]["token_logprobs"], logprobs["token_logprobs"][: len(ids)])
        streamed = "".join(e["choices"][0]["text"] for e in s.events("/v1/completions", {**base, "prompt": "the sea"}))
        self.assertEqual(streamed, one)
        events = s.events("/v1/completions", {**base, "prompt": ["the sea", "a house"], "n": 2, "echo": True, "logprobs": 2})
        for index in range(4):
            mine = [e["choices"][0] for e in events if e["choices"][0]["index"] == index]
            self.assertTrue(mine[0]["text"] == ("the sea" if index < 2 else "a house"))
            for key in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
                together = [x for c in mine for x in c["logprobs"][key]]
                if index == 0:
                    self.assertEqual(together, logprobs[key], key)

    def test_numbers_of_the_prompt_by_vllms_field(self):
        s = self.serve("-c", "2048")
        scored = s.post("/v1/completions", {"prompt": "the sea", "echo": True, "logprobs": 2, "max_tokens": 0})["choices"][0]["logprobs"]
        ids = s.post("/tokenize", {"content": "the sea", "parse_special": True})["tokens"]
        answer = s.post("/v1/completions", {"prompt": "the sea", "prompt_logprobs": 2, "max_tokens": 1})["choices"][0]
        self.assertIsNone(answer["logprobs"])
        numbers = answer["prompt_logprobs"]
        self.assertIsNone(numbers[0])
        self.assertEqual(len(numbers), len(ids))
        for i in range(1, len(ids)):
            self.assertEqual(numbers[i][str(ids[i])]["logprob"], scored["token_logprobs"][i])
            ranks = sorted(x["rank"] for x in numbers[i].values() if x["rank"])
            self.assertEqual(ranks[:2], [1, 2])
        # Both at once: echo's are cut to what it asked for.
        both = s.post("/v1/completions", {"prompt": "the sea", "echo": True, "logprobs": 1, "prompt_logprobs": 2, "max_tokens": 0})["choices"][0]
        self.assertTrue(all(len(x) <= 1 for x in both["logprobs"]["top_logprobs"][1:]))
        self.assertEqual(both["prompt_logprobs"], numbers)
        self.assertIsNone(s.post(CHAT, {**HELLO, "prompt_logprobs": 0})["prompt_logprobs"][0])

    def test_aligned_answers_are_those_of_run(self):
        s = self.serve("-c", "4096")
        schema = {"enum": ["the", "thin", "it", ""]}
        sampling = {"temperature": 9, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 3, "max_tokens": 12, "n": 6}
        bodies = []
        for method in ("asap", "exact(batch=3)"):
            run = self.report("run", "-m", self.llama, "--raw", "xyz", "--json-schema", json.dumps(schema), "-n", "12", "-c", "256", "-s", "3",
                              "--temp", "9", "--top-k", "0", "--top-p", "1", "--min-p", "0", "--align", f"{method.rstrip(')')}{',' if '(' in method else '('}samples=6)")
            bodies.append({"prompt": "xyz", "align": method, "json_schema": schema, **sampling})
            served = s.post("/v1/completions", bodies[-1])
            self.assertEqual([c["text"] for c in served["choices"]], [x["text"] for x in run["samples"]])
            self.assertEqual({c["finish_reason"] for c in served["choices"]}, {"stop"})
            for choice, sample in zip(served["choices"], run["samples"]):
                for key in ("log_p", "attempts", "log_c_root"):
                    self.assertAlmostEqual(choice["alignment"][key], sample[key], places=6)
            self.assertEqual(served["usage"]["completion_tokens"], sum(len(x["tokens"]) for x in run["samples"]))
            events = s.events("/v1/completions", bodies[-1])
            for i in range(6):
                mine = [e["choices"][0] for e in events if e["choices"][0]["index"] == i]
                self.assertEqual("".join(c["text"] for c in mine), served["choices"][i]["text"])
                self.assertEqual(mine[-1]["alignment"], served["choices"][i]["alignment"])
        # The same beside others, and of lists of prompts.
        alone = [s.post("/v1/completions", b)["choices"] for b in bodies]
        load = [{**HELLO, "seed": seed, "max_tokens": 60} for seed in range(8)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            others = [pool.submit(s.post, CHAT, b) for b in load]
            together = list(pool.map(lambda b: s.post("/v1/completions", b)["choices"], bodies * 2))
            for other in others:
                other.result()
        self.assertEqual(together, alone * 2)
        two = s.post("/v1/completions", {**bodies[0], "prompt": ["xyz", "xyz"]})["choices"]
        self.assertEqual([c["text"] for c in two], 2 * [c["text"] for c in alone[0]])
        chat = s.post(CHAT, {**HELLO, "ignore_eos": False, "max_tokens": 20, "temperature": 9, "choice": ["a", "it"], "align": "asap", "n": 3})
        for choice in chat["choices"]:
            self.assertIn(choice["message"]["content"], ["a", "it"])
            self.assertLess(choice["alignment"]["log_p"], 0)

    def test_alignment_that_is_none_is_refused_and_leaves_nothing_behind(self):
        s = self.serve("-c", "4096", "--request-ctx", "1024")
        body = {"prompt": "xyz", "align": "asap", "regex": "[a-z]{3}", "max_tokens": 8, "temperature": 9}
        for change in ({"regex": None}, {"align": "best"}, {"align": "asap(samples=3)"}, {"align": "asap(batch=0)"}, {"temperature": 0}, {"logprobs": 1},
                       {"prompt_logprobs": 1}, {"finish": True}, {"ignore_eos": True}, {"draft": "lookup"}, {"max_tokens": 2000}):
            s.refused(400, "/v1/completions", {**body, **change}, "align")
        self.assertIn("attempts=N", s.refused(400, "/v1/completions", {**body, "regex": "qqqqqqqqqq", "max_tokens": 40, "align": "exact(attempts=2)"})["message"])
        self.assertIn("max_tokens", s.refused(400, "/v1/completions", {**body, "regex": "a{500}"})["message"])
        timed_out = {**body, "regex": "[a-z]{400,}", "max_tokens": 900, "n": 8, "timeout": 0.1}
        self.assertEqual(s.post("/v1/completions", timed_out)["choices"][-1]["finish_reason"], "timeout")
        # A client that goes.
        data = json.dumps({**timed_out, "timeout": 60, "stream": True}).encode()
        c = socket.create_connection(("127.0.0.1", s.port))
        c.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))
        self.assertIn(b"200", c.recv(100))
        c.close()
        s.wait_for("decant_open_answers", 0)
        s.wait_for("decant_kv_pages_used", 0)

    def test_chat_logprobs_belong_to_the_text(self):
        s = self.serve("-c", "2048")
        body = {**HELLO, "logprobs": True, "top_logprobs": 3}
        entries = s.post(CHAT, body)["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(entries), 8)
        for entry in entries:
            self.assertEqual(len(entry["top_logprobs"]), 3)
            self.assertLessEqual(entry["logprob"], 0)
            self.assertIn(entry["origin"], ("model", "draft", "forced"))
        streamed = []
        for event in s.events(CHAT, body):
            part = event["choices"][0]["logprobs"]
            streamed += part["content"] if part else []
        self.assertEqual([e["token_id"] for e in streamed], [e["token_id"] for e in entries])

    def test_a_stop_string_ends_the_answer_also_across_tokens(self):
        s = self.serve("-c", "2048")
        body = {**HELLO, "max_tokens": 40, "regex": "[a-z]{40}"}
        text = s.post(CHAT, body)["choices"][0]["message"]["content"]
        stop = text[len(text) // 2 : len(text) // 2 + 4]
        cut = s.post(CHAT, {**body, "stop": stop})["choices"][0]
        self.assertEqual(cut["finish_reason"], "stop")
        self.assertEqual(cut["message"]["content"], text[: text.index(stop)])
        streamed = s.events(CHAT, {**body, "stop": [stop]})
        self.assertEqual("".join(e["choices"][0]["delta"].get("content", "") for e in streamed), cut["message"]["content"])

    def test_answers_keep_to_their_form(self):
        s = self.serve("-c", "4096")
        # The model is random: what it need not end, it may not.
        base = {"messages": HELLO["messages"], "max_tokens": 200, "seed": 3, "finish": True}
        schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"],
                  "additionalProperties": False}
        answer = s.post(CHAT, {**base, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
        value = json.loads(answer["choices"][0]["message"]["content"])
        self.assertIn(value["a"], range(10))
        for extension, pattern in (({"regex": "[ab]{3}"}, "[ab]{3}"), ({"choice": ["yes", "no"]}, "yes|no"),
                                   ({"grammar": 'root ::= "x" [0-9] "y"'}, "x[0-9]y"),
                                   ({"grammar": 'start: "x" /[0-9]/ "y"'}, "x[0-9]y"),
                                   ({"guided_choice": ["left"]}, "left"),
                                   ({"regex": "[abc]", "choice": ["c", "d"]}, "c")):
            choice = s.post(CHAT, {**base, **extension})["choices"][0]
            self.assertRegex(choice["message"]["content"], rf"\A(?:{pattern})\Z")
            self.assertEqual(choice["finish_reason"], "stop")
        self.assertIn(s.post("/v1/completions", {"prompt": "a", "max_tokens": 9, "choice": ["yes", "no"]})["choices"][0]["text"],
                      ("yes", "no"))
        s.refused(400, CHAT, {**base, "regex": "("}, "regex")
        s.refused(400, CHAT, {**base, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}},
                  "response_format")

    def test_tool_calls_are_valid_and_streamed(self):
        s = self.serve("-c", "4096")
        tool = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": {
            "type": "object", "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 7}}, "required": ["days"],
            "additionalProperties": False}}}
        base = {"messages": HELLO["messages"], "max_tokens": 200, "seed": 3, "tools": [tool], "parallel_tool_calls": False,
                "finish": True}
        for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
            answer = s.post(CHAT, {**base, "tool_choice": choice})["choices"][0]
            self.assertEqual(answer["finish_reason"], "tool_calls", answer)
            (call,) = answer["message"]["tool_calls"]
            self.assertEqual(call["function"]["name"], "get_weather")
            self.assertIn(json.loads(call["function"]["arguments"])["days"], range(1, 8))
            self.assertIsNone(answer["message"]["content"])
        name, arguments = "", ""
        events = s.events(CHAT, {**base, "tool_choice": "required"})
        for event in events:
            for part in event["choices"][0]["delta"].get("tool_calls", []):
                name += part["function"].get("name", "")
                arguments += part["function"]["arguments"]
        self.assertEqual(name, "get_weather")
        self.assertEqual(arguments, call["function"]["arguments"])
        self.assertEqual(events[-1]["choices"][0]["finish_reason"], "tool_calls")
        # The conversation goes on with the result.
        history = HELLO["messages"] + [{"role": "assistant", "content": None, "tool_calls": [call]},
                                       {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
        self.assertEqual(s.post(CHAT, {**HELLO, "messages": history, "tools": [tool], "tool_choice": "none"})["choices"][0]
                         ["finish_reason"], "length")

    def test_reasoning_is_told_from_the_answer(self):
        thinking = self.write("think.jinja", "{% for m in messages %}{{ m.content.split('</think>')[-1] }}\n{% endfor %}<think>\n")
        s = self.serve("-c", "4096", "--chat-template", thinking)
        choice = s.post(CHAT, HELLO)["choices"][0]["message"]
        self.assertTrue(choice["reasoning_content"])
        self.assertEqual(choice["content"], "")
        # The form holds for what follows the reasoning, which has to end.
        body = {"messages": HELLO["messages"], "max_tokens": 60, "seed": 3, "finish": True, "choice": ["left", "right"]}
        choice = s.post(CHAT, body)["choices"][0]
        self.assertIn(choice["message"]["content"], ("left", "right"), choice)
        self.assertNotIn("</think>", choice["message"].get("reasoning_content", ""))
        events = s.events(CHAT, body)
        for name in ("content", "reasoning_content"):
            text = "".join(e["choices"][0]["delta"].get(name, "") for e in events)
            self.assertEqual(text, choice["message"].get(name, ""))

    def test_embeddings_are_unit_vectors_in_both_encodings(self):
        s = self.serve("-c", "2048")
        plain = s.post("/v1/embeddings", {"input": ["the sea", "a house"]})
        self.assertEqual([d["index"] for d in plain["data"]], [0, 1])
        first = plain["data"][0]["embedding"]
        self.assertAlmostEqual(sum(x * x for x in first), 1, places=3)
        self.assertNotEqual(first, plain["data"][1]["embedding"])
        coded = s.post("/v1/embeddings", {"input": "the sea", "encoding_format": "base64"})["data"][0]["embedding"]
        data = base64.b64decode(coded)
        for a, b in zip(struct.unpack(f"<{len(data) // 4}f", data), first):
            self.assertAlmostEqual(a, b, places=5)
        s.refused(400, "/v1/embeddings", {"input": "a", "dimensions": 3}, "dimensions")

    def test_tokens_and_text_go_back_and_forth(self):
        s = self.serve("-c", "2048")
        tokens = s.post("/tokenize", {"content": "hello é", "add_special": False})
        self.assertEqual(tokens["count"], len(tokens["tokens"]))
        self.assertEqual(s.post("/detokenize", {"tokens": tokens["tokens"]})["content"], "hello é")
        pieces = s.post("/tokenize", {"content": "ab", "with_pieces": True, "add_special": False})["tokens"]
        self.assertEqual("".join(p["piece"] for p in pieces), "ab")
        self.assertGreater(s.post("/tokenize", {"messages": HELLO["messages"]})["count"], 3)
        s.refused(400, "/detokenize", {"tokens": [99999999]}, "tokens")

    def test_requests_that_cannot_be_honoured_are_refused_by_name(self):
        s = self.serve("-c", "512")
        s.refused(404, CHAT, {**HELLO, "model": "gpt-4"}, "model")
        s.refused(400, CHAT, {**HELLO, "frobnicate": 1}, "frobnicate")
        s.refused(400, CHAT, {**HELLO, "temperature": "hot"}, "temperature")
        s.refused(400, CHAT, {**HELLO, "lora": "none"}, "lora")
        s.refused(400, CHAT, {**HELLO, "logit_bias": {"99999999": 1}}, "logit_bias")
        for draft in ("model(path=/etc/passwd)", "datastore(path=/etc/passwd)", "recycling(state=/etc/passwd)",
                      "lookup+model(path=/etc/passwd)", "model", "datastore"):
            message = s.refused(400, CHAT, {**HELLO, "draft": draft}, "draft")["message"]
            self.assertRegex(message, "file", draft)
        s.refused(400, CHAT, {**HELLO, "draft": "frob"}, "draft")
        s.refused(400, CHAT, {**HELLO, "messages": [{"role": "user", "content": "x" * 5000}]}, "messages")
        s.refused(400, "/v1/completions", {"prompt": [10**8]}, "prompt")
        s.refused(415, CHAT, HELLO, headers={"Content-Type": "text/plain"})
        self.assertEqual(s.refused(400, CHAT, b"{nonsense")["code"], "invalid_json")
        for method, path, status in (("GET", CHAT, 405), ("PUT", "/health", 405), ("GET", "/nothing", 404),
                                     ("FROB", "/health", 501), ("GET", "/v1/models/none", 404)):
            response, answer = s.request(method, path)
            self.assertEqual(response.status, status, answer)
            self.assertIn("error", json.loads(answer))
            if status == 405:
                self.assertTrue(response.headers["Allow"])

    def adapter(self, name, seed):
        """A PEFT folder for the tiny model, with matrices that change its answers."""
        folder = self.folder / name
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none", "task_type": "CAUSAL_LM"}))
        random_numbers, header, data = random.Random(seed), {}, b""
        for layer in range(3):
            for part, shape in (("A", [2, 64]), ("B", [128, 2])):
                raw = struct.pack(f"<{shape[0] * shape[1]}f", *(random_numbers.uniform(-1, 1) for _ in range(shape[0] * shape[1])))
                header[f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"] = {
                    "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
                data += raw
        text = json.dumps(header).encode()
        (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
        return str(folder)

    def test_adapters_are_chosen_by_each_request(self):
        s = self.serve("-c", "4096", "--alias", "tiny", "--lora", self.adapter("first", 1), "--lora", self.adapter("second", 2))
        names = [m["id"] for m in json.loads(s.request("GET", "/v1/models")[1])["data"]]
        self.assertEqual(names, ["tiny", "tiny:first", "tiny:second"])
        ask = lambda **fields: s.post(CHAT, {**HELLO, "max_tokens": 20, **fields})["choices"][0]["message"]["content"]  # noqa: E731
        plain, first, second = ask(), ask(model="tiny:first"), ask(model="tiny:second")
        self.assertEqual(len({plain, first, second}), 3)
        self.assertEqual(ask(lora="first"), first)
        self.assertEqual(ask(model="tiny", lora=["second"]), second)
        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            self.assertEqual(list(pool.map(lambda name: ask(model=name), names * 2)), [plain, first, second] * 2)
        s.refused(404, CHAT, {**HELLO, "model": "tiny:third"}, "model")
        s.refused(400, CHAT, {**HELLO, "lora": ["third"]}, "lora")

    def test_drafts_change_no_text(self):
        s = self.serve("-c", "2048", "--draft", "none")
        body = {**HELLO, "max_tokens": 40, "temperature": 0}
        plain = s.post(CHAT, body)["choices"][0]["message"]["content"]
        for draft in ("lookup", "sam+recycling", "recycling(k=4)", "none"):
            self.assertEqual(s.post(CHAT, {**body, "draft": draft})["choices"][0]["message"]["content"], plain, draft)

    def test_models_health_metrics_document(self):
        s = self.serve("-c", "2048", "--alias", "tiny")
        response, answer = s.request("GET", "/v1/models")
        self.assertEqual([m["id"] for m in json.loads(answer)["data"]], ["tiny"])
        response, answer = s.request("GET", "/v1/models/tiny")
        self.assertEqual(json.loads(answer)["object"], "model")
        self.assertEqual(json.loads(s.request("GET", "/health")[1]), {"status": "ok"})
        response, answer = s.request("HEAD", "/health")
        self.assertEqual((response.status, answer), (200, b""))
        s.post(CHAT, {**HELLO, "model": "tiny"})
        self.assertEqual(s.metric("decant_completion_tokens_total"), 8)
        text = s.request("GET", "/metrics")[1].decode()
        self.assertIn("decant_time_to_first_token_seconds_count 1\n", text)
        for line in text.splitlines():
            self.assertRegex(line, r"^(# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? -?[0-9.e+-]+|\w+\{[^}]*\} \d+)$")
        document = json.loads(s.request("GET", "/openapi.json")[1])
        self.assertTrue(document["openapi"].startswith("3.1"))
        for path, item in document["paths"].items():
            for method in ("get", "post"):
                if method in item and "{" not in path:
                    response, _ = s.request(method.upper(), path, {} if method == "post" else None)
                    self.assertIn(response.status, (200, 400), f"{method} {path}")

    def test_the_page_is_there_and_may_be_kept(self):
        s = self.serve("-c", "2048", "--api-key", "secret")
        response, page = s.request("GET", "/")
        self.assertEqual(response.status, 200)
        self.assertIn(b"<html", page)
        self.assertIn("default-src", response.headers["Content-Security-Policy"])
        response, answer = s.request("GET", "/", headers={"If-None-Match": response.headers["ETag"]})
        self.assertEqual((response.status, answer), (304, b""))
        self.assertEqual(s.request("POST", "/", {})[0].status, 405)

    def test_keys_and_origins(self):
        keys = self.write("keys.txt", "first\nsecond\n")
        s = self.serve("-c", "2048", "--api-key-file", keys, "--api-key", "third", "--cors", "https://a.example")
        for key in (None, "wrong", "firs", "first2", ""):
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            self.assertEqual(s.refused(401, CHAT, HELLO, headers=headers)["code"], "invalid_api_key")
        for key in ("first", "second", "third"):
            s.post(CHAT, HELLO, headers={"Authorization": f"Bearer {key}"})
        self.assertEqual(s.request("GET", "/health")[0].status, 200)
        self.assertEqual(s.request("GET", "/metrics")[0].status, 401)
        response, _ = s.request("OPTIONS", CHAT, headers={"Origin": "https://a.example"})
        self.assertEqual(response.status, 204)
        self.assertEqual(response.headers["Access-Control-Allow-Origin"], "https://a.example")
        self.assertIn("POST", response.headers["Access-Control-Allow-Methods"])
        response, _ = s.request("GET", "/health", headers={"Origin": "https://b.example"})
        self.assertIsNone(response.headers["Access-Control-Allow-Origin"])

    def test_no_origin_may_call_unless_it_is_named(self):
        s = self.serve("-c", "2048")
        response, _ = s.request("OPTIONS", CHAT, headers={"Origin": "https://a.example"})
        self.assertIsNone(response.headers["Access-Control-Allow-Origin"])

    def test_names_of_others_do_not_lead_here_without_a_key(self):
        s = self.serve("-c", "2048")
        for host, status in (("a.example", 403), ("a.example:80", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:8080", 200)):
            self.assertEqual(s.request("POST", CHAT, HELLO, headers={"Host": host})[0].status, status, host)

    def test_clients_that_go_leave_nothing_behind(self):
        s = self.serve("-c", "4096")
        free = s.metric("decant_kv_pages_free")
        for stream in (True, False):
            sockets = []
            body = json.dumps({**HELLO, "max_tokens": 3000, "stream": stream}).encode()
            for _ in range(4):
                c = socket.create_connection(("127.0.0.1", s.port))
                c.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                          % (CHAT.encode(), len(body), body))
                sockets.append(c)
            if stream:
                for c in sockets:
                    self.assertIn(b"200", c.recv(100))
            else:
                s.wait_for("decant_open_answers", 4)
            for c in sockets:
                c.close()
            s.wait_for("decant_open_answers", 0)
        s.wait_for("decant_kv_pages_used", 0)
        self.assertEqual(s.metric("decant_kv_pages_free") + s.metric("decant_kv_pages_cached"), free)
        self.assertEqual(s.metric("decant_disconnects_total"), 8)

    def test_more_requests_than_may_wait_are_refused(self):
        s = self.serve("-c", "2048", "-np", "1", "--queue", "1")
        body = {**HELLO, "max_tokens": 400}
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: s.request("POST", CHAT, body), range(8)))
        statuses = sorted(r.status for r, _ in answers)
        self.assertEqual(set(statuses), {200, 429}, statuses)
        for response, answer in answers:
            if response.status == 429:
                self.assertEqual(json.loads(answer)["error"]["code"], "queue_full")
                self.assertTrue(response.headers["Retry-After"])

    def test_a_timeout_ends_an_answer_with_what_there_is(self):
        s = self.serve("-c", "4096")
        choice = s.post(CHAT, {**HELLO, "max_tokens": 3900, "draft": "none", "timeout": 0.05})["choices"][0]
        self.assertEqual(choice["finish_reason"], "timeout")

    def test_the_log_has_a_line_for_each_request_and_no_prompt(self):
        s = self.serve("-c", "2048")
        s.post(CHAT, {**HELLO, "messages": [{"role": "user", "content": "secret words"}]})
        s.refused(400, CHAT, {**HELLO, "n": 0})
        log = s.stop()
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        requests = [x for x in lines if x["event"] == "request"]
        requests.sort(key=lambda x: x["status"])  # a line is written behind its answer
        self.assertEqual([x["status"] for x in requests], [200, 400])
        self.assertEqual(requests[0]["completion_tokens"], 8)
        self.assertNotIn("secret", log)
        loud = self.serve("-c", "2048", "--log-prompts")
        loud.post(CHAT, {**HELLO, "messages": [{"role": "user", "content": "secret words"}]})
        self.assertIn("secret words", loud.stop())

    def test_it_stops_in_time_and_tells_its_clients(self):
        s = self.serve("-c", "32768", "--request-ctx", "32768", "--draft", "none", "--grace", "1")
        connection = s.connection()
        connection.request("POST", CHAT, json.dumps({**HELLO, "max_tokens": 32000, "stream": True}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.readline()
        begin = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        text = response.read().decode()
        self.assertIn("shutting_down", text)
        self.assertNotIn("[DONE]", text)
        s.process.wait(20)
        self.assertLess(time.monotonic() - begin, 15)
        self.assertEqual(s.process.returncode, 0)

    def test_running_answers_may_end_when_it_is_told_to_stop(self):
        s = self.serve("-c", "4096")
        connection = s.connection()
        connection.request("POST", CHAT, json.dumps({**HELLO, "max_tokens": 200, "stream": True}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.readline()
        s.process.send_signal(signal.SIGTERM)
        self.assertIn("[DONE]", response.read().decode())
        self.assertEqual(s.process.wait(20), 0)
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", s.port), timeout=5)

    def test_broken_clients_do_no_harm(self):
        s = self.serve("-c", "2048")
        for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n", b"\r\n" * 1000, b"A" * 100000,
                     b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"):
            c = socket.create_connection(("127.0.0.1", s.port))
            try:
                c.sendall(junk)
                c.shutdown(socket.SHUT_WR)
                c.settimeout(5)
                while c.recv(4096):
                    pass
            except OSError:
                pass
            c.close()
        s.post(CHAT, HELLO)
        s.wait_for("decant_open_connections", 1)

    def test_wrong_options_and_addresses(self):
        self.refuse(USAGE, ["--port"], "serve", "-m", self.llama, "--port", "70000")
        self.refuse(USAGE, ["--api-key-file", "no key"], "serve", "-m", self.llama, "--api-key-file", self.write("empty.txt", "\n"))
        taken = socket.socket()
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        self.addCleanup(taken.close)
        result = self.decant("serve", "-m", self.llama, "-c", "512", "--port", str(taken.getsockname()[1]))
        self.assertEqual(result.code, FAILURE)
        self.assertIn("cannot listen", result.errors)


if __name__ == "__main__":
    harness.main()
