# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""The playground in a real headless Chromium: against the mock server, whose answers are known, and against `decant serve`.

  tests/serve/playground_test.py DECANT MAKE_TINY_MODEL [unittest arguments]

Skipped without Chromium. $DECANT_SCREENSHOTS names a folder for pictures of what the tests saw. `decant serve` runs the model of
$DECANT_TEST_SMOLLM2, else a tiny one.
"""

import json
import os
import pathlib
import re
import socket
import sys
import time
import unittest
import urllib.error
import urllib.request

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parents[1] / "cli")]
import browser  # noqa: E402
import harness  # noqa: E402
from mock_server import ANSWER, Mock  # noqa: E402

COUNTS = """Object.fromEntries(["model", "draft", "forced", "plain"].map((o) => [o, document.querySelectorAll("section:not([hidden]) .tok." + o).length]))"""


def text_of(selector):
    return f"(document.querySelector({json.dumps(selector)})?.textContent ?? '')"


class PageTest(harness.CliTest):
    def page(self, url):
        self.browser.messages.clear()
        self.browser.open("about:blank")  # the part behind # alone would load nothing
        self.browser.open(url)
        return self.browser

    @classmethod
    def setUpClass(cls):
        if browser.find() is None:
            raise unittest.SkipTest("no Chromium; $DECANT_CHROMIUM may name one")
        super().setUpClass()
        cls.browser = browser.Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.browser.size(1280, 860)

    def picture(self, name):
        if folder := os.environ.get("DECANT_SCREENSHOTS"):
            os.makedirs(folder, exist_ok=True)
            self.browser.screenshot(os.path.join(folder, f"{type(self).__name__}-{name}.png"))

    def ask(self, b, text):
        b.click("#chat-input")
        b.type(text)
        b.key("Enter")

    def assert_quiet(self, b):
        self.assertEqual(b.messages, [])


class MockedTest(PageTest):
    def test_chat(self):
        with Mock(delay=0.005) as mock:
            b = self.page(mock.url)
            b.wait(f"{text_of('#status')} === 'mock-135m'")
            b.js("$('set-system').value = 'Be brief.', $('set-seed').value = 7, $('set-draft').value = 'lookup'")
            self.ask(b, "Why is the sky blue?")
            b.wait("document.querySelector('#messages .figures')")
            self.assertEqual(b.js(text_of("#messages .tokens")), ANSWER)
            counts = b.js(COUNTS)
            self.assertGreater(counts["model"], 10)
            self.assertGreater(counts["draft"], 10)
            self.assertEqual((counts["forced"], counts["plain"]), (0, 0))
            request = mock.requests[-1]
            self.assertEqual(request["messages"], [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why is the sky blue?"}])
            self.assertEqual({k: request.get(k) for k in ("temperature", "top_p", "seed", "max_tokens", "draft", "top_logprobs", "model", "stream")},
                             {"temperature": 0.7, "top_p": 1, "seed": 7, "max_tokens": 256, "draft": "lookup", "top_logprobs": 5, "model": "mock-135m",
                              "stream": True})
            self.ask(b, "And red?")
            b.wait("document.querySelectorAll('#messages .figures').length === 2")
            self.assertEqual([m["role"] for m in mock.requests[-1]["messages"]], ["system", "user", "assistant", "user"])
            self.assertEqual(mock.requests[-1]["messages"][2]["content"], ANSWER)
            b.click("#chat-again")
            b.wait("document.querySelectorAll('#messages .figures').length === 2 && !$('chat-send').disabled")
            self.assertEqual(mock.requests[-1]["messages"], mock.requests[-2]["messages"])
            b.click("#chat-clear")
            self.assertEqual(b.js("document.querySelectorAll('.turn').length"), 0)
        self.assert_quiet(b)

    def test_alternatives_are_shown_on_hover_and_by_keys(self):
        with Mock() as mock:
            b = self.page(mock.url)
            self.ask(b, "Why?")
            b.wait("document.querySelector('#messages .figures')")
            b.hover("#messages .tokens .tok:nth-child(5)")
            b.wait("!$('popover').hidden")
            rows = b.js("[...document.querySelectorAll('#popover tr')].map((r) => [...r.cells].map((c) => c.textContent))")
            self.assertEqual(len(rows), 5)
            self.assertEqual(b.js(text_of("#popover tr.chosen td")).replace("␣", " "), b.js(text_of("#messages .tokens .tok:nth-child(5)")))
            shares = [float(r[1].rstrip(" %")) for r in rows]
            self.assertEqual(shares, sorted(shares, reverse=True))
            self.assertTrue(60 < sum(shares) <= 110, shares)
            self.assertIn("id 104", b.js(text_of("#popover")))
            self.picture("hover")
            b.hover("#chat-input")
            b.wait("$('popover').hidden")
            b.js("document.querySelector('#messages .tokens').focus()")
            for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
                b.key(key)
            self.assertEqual(b.js("[...document.querySelectorAll('#messages .tok')].findIndex((t) => t.classList.contains('active'))"), 1)
            self.assertFalse(b.js("$('popover').hidden"))
            self.assertIn("%", b.js(text_of("#announce")))
            b.key("End")
            self.assertTrue(b.js("document.querySelector('#messages .tokens').lastElementChild.classList.contains('active')"))
        self.assert_quiet(b)

    def test_stop_hangs_up(self):
        with Mock(delay=0.05) as mock:
            b = self.page(mock.url)
            self.ask(b, "Why?")
            b.wait("document.querySelectorAll('#messages .tok').length > 3")
            b.click("#chat-stop")
            b.wait(f"{text_of('#messages .figures')} === 'stopped'")
            deadline = time.monotonic() + 20
            while mock.hung_up == 0 and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual(mock.hung_up, 1)
            self.assertFalse(b.js("$('chat-send').disabled"))
            self.ask(b, "Again?")
            b.wait("document.querySelectorAll('#messages .tok').length > 30")
            b.key("Escape")
            b.wait("document.querySelectorAll('#messages .figures').length === 2")

    def test_structured(self):
        with Mock(delay=0.002) as mock:
            b = self.page(mock.url + "/#schema")
            b.click("#schema-run")
            b.wait(f"{text_of('#schema-verdict')} === 'Complete JSON.'")
            answer = json.loads(b.js(text_of("#schema-answer .tokens")))
            self.assertEqual(set(answer), {"name", "born", "fields"})
            self.assertGreater(b.js(COUNTS)["forced"], 5)
            schema = mock.requests[-1]["response_format"]["json_schema"]["schema"]
            self.assertEqual(schema, json.loads(b.js("$('schema-text').value")))
            self.assertEqual((mock.requests[-1]["forced"], mock.requests[-1]["finish"]), ("canonical", True))
            self.picture("structured")
            for text, message in (('{"type": }', "line 1, column 10: expected a value"), ('{"a": 1,\n "b" 2}', "line 2, column 6: expected a colon"),
                                  ('{"a": 1,}', "column 9: expected a name in quotes"), ("[1, 2", "column 6: expected a comma or ]"), ("{} x", "column 4: expected the end"),
                                  ("", "line 1, column 1: expected a value"), ("[" * 100000, "nested too deeply"),
                                  ('{\n  "type": "text"\n}', '#/type: "text" is no type'),
                                  ("[]", "a schema is an object"), ('{"properties": {"a": {"enum": []}}}', "#/properties/a/enum"),
                                  ('{"type": "object", "required": "a"}', "#/required")):
                b.js(f"$('schema-text').value = {json.dumps(text)}, $('schema-text').dispatchEvent(new Event('input'))")
                self.assertIn(message, b.js(text_of("#schema-message")), text)
                self.assertEqual(b.js("$('schema-text').getAttribute('aria-invalid')"), "true")
            sent = len(mock.requests)
            b.click("#schema-run")
            self.assertEqual(len(mock.requests), sent)
        self.assert_quiet(b)

    def test_race(self):
        with Mock(delay=0.005) as mock:
            b = self.page(mock.url + "/#race")
            for order in ("turns", "together"):
                sent = len(mock.requests)
                b.js(f"$('race-order').value = '{order}'")
                b.click("#race-start")
                b.wait(text_of("#race-verdict"))
                self.assertRegex(b.js(text_of("#race-verdict")), r"^sam\+recycling is \d\.\d\d times as fast\. The answers are the same")
                self.assertEqual(b.js(text_of(".lane.won h2")), "sam+recycling")
                self.assertEqual(sorted(r["draft"] for r in mock.requests[sent:]), ["none", "sam+recycling"])
                self.assertEqual(len({r["seed"] for r in mock.requests[sent:]}), 1)
                self.assertEqual(mock.most_running, 1 if order == "turns" else 2)
            steps = [float(x) for x in b.js("[...document.querySelectorAll('.lane .figures')].map((f) => /([\\d.]+) tokens a step/.exec(f.textContent)[1])")]
            self.assertEqual(steps[0], 1)
            self.assertGreater(steps[1], 1.5)
            self.picture("race")
            self.assert_quiet(b)
            b.js("$('race-b').value = 'unknown'")
            b.click("#race-start")
            b.wait("document.querySelector('.lane .error')")
            self.assertIn("unknown method", b.js(text_of(".lane .error")))

    def test_metrics(self):
        with Mock() as mock:
            b = self.page(mock.url)
            self.ask(b, "Why?")
            b.wait("document.querySelector('#messages .figures')")
            b.click("#tab-metrics")
            b.wait("document.querySelectorAll('#metrics-table svg').length > 4")
            tiles = b.js("Object.fromEntries([...document.querySelectorAll('.tile')].map((t) => [t.children[1].textContent, t.children[0].textContent]))")
            self.assertEqual(tiles["drafts kept"], "50 %" if mock.tokens % 2 == 0 else tiles["drafts kept"])
            self.assertEqual(set(tiles), {"output tokens/s", "prompt tokens/s", "requests running", "requests waiting", "cache pages in use", "drafts kept"})
            rows = b.js("[...document.querySelectorAll('#metrics-table tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))")
            named = {r[0]: r[1] for r in rows}
            self.assertEqual(named["decant_completion_tokens_totalTokens of answers."], str(mock.tokens))
            self.assertIn('decant_answers_total{finish_reason="length"}', named)
            # 25 values: the 13th lies in the bucket from 0.01 to 0.05, which has the 4th to the 17th.
            histogram = next(value for name, value in named.items() if name.startswith("decant_time_to_first_token"))
            self.assertIn(f"p50 {0.01 + 0.04 * 9.5 / 14:.3g}", histogram)
            self.picture("metrics")
            b.js("$('metrics-filter').value = 'pages'")
            b.wait("document.querySelectorAll('#metrics-table tbody tr').length === 2")
        self.assert_quiet(b)

    def test_a_key(self):
        with Mock(key="secret") as mock:
            b = self.page(mock.url)
            b.wait(text_of("#status"))
            self.assertIn("API key", b.js(text_of("#status")))
            self.ask(b, "Why?")
            b.wait("document.querySelector('#messages .error')")
            self.assertIn("HTTP 401", b.js(text_of("#messages .error")))
            b.click("#set-key")
            b.type("secret")
            b.key("Tab")
            b.wait(f"{text_of('#status')} === 'mock-135m'")
            self.ask(b, "Now?")
            b.wait("document.querySelector('#messages .figures')")
            b.js("sessionStorage.clear()")

    def test_failures_are_told(self):
        for fault, words in (("busy", "the queue is full (HTTP 503)"), ("error_event", "the model has burst"), ("hang_up", "The server cannot be reached."),
                             ("no_done", "ended too early")):
            with self.subTest(fault), Mock(fault=fault) as mock:
                b = self.page(mock.url)
                self.ask(b, "Why?")
                b.wait("document.querySelector('#messages .error')")
                self.assertIn(words, b.js(text_of("#messages .error")))
                self.assertFalse(b.js("$('chat-send').disabled"))

    def test_themes_and_tabs_by_keyboard(self):
        with Mock() as mock:
            b = self.page(mock.url)
            first = b.js("getComputedStyle(document.body).backgroundColor")
            b.click("#theme")
            self.assertNotEqual(b.js("getComputedStyle(document.body).backgroundColor"), first)
            self.picture("dark")
            b.click("#theme")
            b.js("$('tab-chat').focus()")
            for key, panel in (("ArrowRight", "schema"), ("End", "metrics"), ("ArrowRight", "chat"), ("ArrowLeft", "metrics"), ("Home", "chat")):
                b.key(key)
                self.assertEqual(b.js("[...document.querySelectorAll('[role=tabpanel]:not([hidden])')].map((p) => p.id)"), [panel])
                self.assertEqual(b.js("document.activeElement.getAttribute('aria-controls')"), panel)
        self.assert_quiet(b)

    def test_a_narrow_window_has_no_sideways_scrolling(self):
        self.browser.size(400, 800)
        with Mock() as mock:
            for view in ("chat", "schema", "race", "metrics"):
                b = self.page(f"{mock.url}/#{view}")
                self.assertLessEqual(b.js("document.documentElement.scrollWidth"), 400, view)
                self.picture(f"narrow-{view}")

    def test_every_field_has_a_name(self):
        with Mock() as mock:
            b = self.page(mock.url)
            nameless = b.js("""[...document.querySelectorAll('button, input, select, textarea')].filter((e) =>
                !(e.labels?.length > 0 || e.getAttribute('aria-label') || (e.tagName === 'BUTTON' && e.textContent.trim()))).map((e) => e.id)""")
            self.assertEqual(nameless, [])


class ServedTest(PageTest):
    """What is the same whatever the model says."""

    def setUp(self):
        super().setUp()
        if not re.search(r"(?m)^  serve ", self.succeed("--help").text):
            self.skipTest("this program has no serve")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        model = os.environ.get("DECANT_TEST_SMOLLM2") or self.llama
        self.server = self.start("serve", "-m", model, "--port", port, stdin=None, stdout=None, stderr=None)
        self.addCleanup(self.stop)
        self.url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(self.url + "/health", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                self.assertIsNone(self.server.poll(), "decant serve has ended")
                self.assertLess(time.monotonic(), deadline, "decant serve does not listen")
                time.sleep(0.1)

    def stop(self):
        self.server.terminate()
        self.server.wait(timeout=30)

    def test_the_page_works_with_the_real_server(self):
        with urllib.request.urlopen(self.url + "/") as answer:
            self.assertIn("default-src 'none'", answer.headers["Content-Security-Policy"])
            tag = answer.headers["ETag"]
        request = urllib.request.Request(self.url + "/", headers={"If-None-Match": tag})
        with self.assertRaises(urllib.error.HTTPError) as same:
            urllib.request.urlopen(request)
        self.assertEqual(same.exception.code, 304)
        b = self.page(self.url)
        b.wait(f"{text_of('#status')} !== ''")
        b.js("$('set-max-tokens').value = 40, $('set-temperature').value = 0")
        self.ask(b, "Say cat, cat, cat, cat, cat, cat, cat, cat.")
        b.wait("document.querySelector('#messages .figures, #messages .error')")
        self.assertEqual(b.js(text_of("#messages .error")), "")
        counts = b.js(COUNTS)
        self.assertGreater(counts["model"], 0)
        self.assertEqual(counts["plain"], 0)
        b.hover("#messages .tokens .tok")
        b.wait("document.querySelectorAll('#popover tr').length >= 5")
        self.picture("chat")
        b.click("#tab-schema")
        b.js("$('schema-example').value = 'Sentiment', $('schema-example').dispatchEvent(new Event('change'))")
        b.click("#schema-run")
        b.wait(text_of("#schema-verdict"))
        self.assertEqual(b.js(text_of("#schema-verdict")), "Complete JSON.")
        self.assertIn(json.loads(b.js(text_of("#schema-answer .tokens")))["sentiment"], ("positive", "mixed", "negative"))
        self.picture("structured")
        b.click("#tab-race")
        b.click("#race-start")
        b.wait(text_of("#race-verdict") + " || document.querySelector('.lane .error')")
        self.assertIn("the same, character for character", b.js(text_of("#race-verdict")))
        self.picture("race")
        b.click("#tab-metrics")
        b.wait("document.querySelectorAll('#metrics-table svg').length > 4 && document.querySelectorAll('.tile').length >= 5")
        self.picture("metrics")
        self.assert_quiet(b)


if __name__ == "__main__":
    harness.main()
