# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant bench serve against a server without a model: what is sent and counted, and what is said when the server fails."""

import json
import pathlib
import signal
import socket
import sys
import time

import harness
from harness import FAILURE, INTERRUPTED, USAGE

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "serve"))
from mock_server import Mock  # noqa: E402


class LoadTest(harness.CliTest):
    def bench(self, mock, *arguments):
        return self.report("bench", "serve", "--url", mock.url, *arguments)

    def test_a_closed_loop(self):
        with Mock(delay=0.002) as mock:
            r = self.bench(mock, "--streams", 4, "--requests", 12, "-n", 20, "--ignore-eos", "--prompt-tokens", 9, "--warmup", 2)
        self.assertEqual((r["requests"], r["completed"], r["failed"], r["cut"]), (12, 12, 0, 0))
        self.assertEqual(r["model"], "mock-135m")
        self.assertEqual(r["output_tokens"], 12 * 20)
        self.assertEqual((r["prompt_tokens"], r["requests_with_usage"]), (12 * 12, 12))
        self.assertLess(r["chunks"], 12 * 20)  # accepted drafts come together
        self.assertEqual(mock.most_running, 4)
        self.assertEqual(len(mock.requests), 14)
        for request in mock.requests:
            self.assertEqual((request["max_tokens"], request["stream"], request["ignore_eos"]), (20, True, True))
            self.assertEqual(len(request["prompt"].split(" ")), 9)
        self.assertEqual(len({request["prompt"] for request in mock.requests}), 14)
        for name in ("ttft_s", "itl_s", "tpot_s", "e2e_s"):
            d = r[name]
            self.assertTrue(0 < d["p50"] <= d["p95"] <= d["p99"] <= d["max"], (name, d))
        self.assertEqual(r["itl_s"]["count"], r["chunks"] - 12)
        self.assertAlmostEqual(r["output_tokens_per_s"], r["output_tokens"] / r["seconds"])

    def test_the_same_seed_sends_the_same_load(self):
        sent = []
        for seed in (3, 3, 4):
            with Mock() as mock:
                self.bench(mock, "--streams", 1, "--requests", 5, "-n", 2, "--seed", seed, "--warmup", 0)
            sent.append([request["prompt"] for request in mock.requests])
        self.assertEqual(sent[0], sent[1])
        self.assertNotEqual(sent[0], sent[2])

    def test_arrivals_do_not_wait_for_answers(self):
        with Mock(delay=0.05) as mock:
            r = self.bench(mock, "--rate", 200, "--requests", 40, "-n", 20, "--ignore-eos", "--goodput", "e2e:100s")
        self.assertEqual(r["completed"], 40)
        self.assertGreater(mock.most_running, 8)
        starts = [record["start_s"] for record in r["records"]]
        self.assertEqual(starts, sorted(starts))
        self.assertEqual(r["goodput"]["share"], 1)

    def test_a_duration_cuts_what_runs(self):
        with Mock(delay=0.05) as mock:
            r = self.bench(mock, "--streams", 3, "--duration", 1, "-n", 10000, "--ignore-eos", "--warmup", 0)
        self.assertEqual((r["completed"], r["cut"], r["failed"]), (0, 3, 0))
        self.assertLess(r["seconds"], 5)
        self.assertGreater(r["output_tokens"], 10)
        self.assertEqual(r["e2e_s"]["count"], 0)

    def test_mixes(self):
        with Mock() as mock:
            r = self.bench(mock, "--mix", "long-prompt", "--requests", 8, "-n", 2, "--long-tokens", 300, "--long-every", 4, "--warmup", 0)
            self.assertEqual([record["long"] for record in r["records"]].count(True), 2)
            self.assertEqual(sum(len(request["prompt"].split(" ")) == 300 for request in mock.requests), 2)
        with Mock() as mock:
            self.bench(mock, "--mix", "shared-prefix", "--requests", 3, "-n", 2, "--prefix-tokens", 50, "--prompt-tokens", 4)
            self.assertEqual(len({request["prompt"].split("\n\n")[0] for request in mock.requests}), 1)
        folder = self.folder / "data/spec-bench"
        folder.mkdir(parents=True)
        (folder / "question.jsonl").write_text(
            "".join(json.dumps({"question_id": i, "category": "qa", "turns": [f"Question {i}?"]}) + "\n" for i in range(3)))
        with Mock() as mock:
            self.bench(mock, "--mix", "spec-bench", "--data", folder.parent, "--streams", 1, "--requests", 3, "-n", 2, "--warmup", 0,
                       "--body", '{"draft": "none"}')
            self.assertEqual([request["messages"] for request in mock.requests],
                             [[{"role": "user", "content": f"Question {i}?"}] for i in range(3)])
            self.assertEqual(mock.requests[0]["draft"], "none")

    def test_many_streams(self):
        with Mock(delay=0.3) as mock:
            r = self.bench(mock, "--streams", 300, "--requests", 300, "-n", 6, "--ignore-eos", "--warmup", 0)
        self.assertEqual((r["completed"], r["output_tokens"]), (300, 1800))
        self.assertGreater(mock.most_running, 150)

    def test_the_report_for_people(self):
        with Mock() as mock:
            text = self.succeed("bench", "serve", "--url", mock.url, "--requests", 2, "-n", 8, "--goodput", "ttft:10s,itl:5s").text
        for words in ("mock-135m", "2 completed", "output tokens/s", "first token, ms", "between tokens, ms", "longest gap / median gap", "goodput     100.0 %"):
            self.assertIn(words, text)

    def test_without_usage_chunks_are_counted(self):
        with Mock(fault="no_usage") as mock:
            r = self.bench(mock, "--requests", 2, "-n", 20)
            self.assertEqual((r["output_tokens"], r["requests_with_usage"]), (r["chunks"], 0))
            self.assertIn("gave no usage", self.succeed("bench", "serve", "--url", mock.url, "--requests", 2, "-n", 20).text)


class FailureTest(harness.CliTest):
    def failing(self, words, *arguments, **mock_options):
        with Mock(**mock_options) as mock:
            return self.refuse(FAILURE, words, "bench", "serve", "--url", mock.url, "--requests", 2, "-n", 20, *arguments)

    def test_nobody_listens(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.refuse(FAILURE, ["connection refused", "running"], "bench", "serve", "--url", f"http://127.0.0.1:{s.getsockname()[1]}")
        self.refuse(FAILURE, ["not found"], "bench", "serve", "--url", "http://no-such-host.invalid")

    def test_a_key_is_wanted(self):
        self.failing(["401", "--api-key"], key="secret")
        self.failing(["401", "--api-key"], "--model", "x", "--api-key", "wrong", key="secret")
        with Mock(key="secret") as mock:
            self.succeed("bench", "serve", "--url", mock.url, "--requests", 1, "-n", 2, "--api-key", "secret")
            self.succeed("bench", "serve", "--url", mock.url, "--requests", 1, "-n", 2, env={"DECANT_API_KEY": "secret"})

    def test_answers_that_are_no_streams(self):
        self.failing(["text/html", "no stream of events"], fault="html")
        self.failing(["without [DONE]"], fault="no_done")
        self.failing(["the model has burst"], fault="error_event")
        self.failing(["no JSON object"], fault="no_json")
        self.failing(["closed the connection in the middle"], fault="hang_up")
        self.failing(["503", "the queue is full"], fault="busy")
        self.failing(["names no model", "--model"], fault="no_models")

    def test_failures_are_counted_and_shown(self):
        with Mock(fault="hang_up") as mock:
            result = self.decant("bench", "serve", "--url", mock.url, "--requests", 4, "-n", 20, "--warmup", 0, "--json", "r.json")
        self.assertEqual(result.code, FAILURE)
        self.assertIn("failed 4 times: ", result.text)
        self.assertIn("every request failed", result.errors)
        report = json.loads((self.folder / "r.json").read_text())
        self.assertEqual((report["failed"], sum(report["errors"].values())), (4, 4))

    def test_a_server_that_is_silent(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen(8)
            self.refuse(FAILURE, ["within 1 s", "--timeout"], "bench", "serve", "--url", f"http://127.0.0.1:{s.getsockname()[1]}", "--timeout", 1)

    def test_interrupt(self):
        with Mock(delay=0.2) as mock:
            process = self.start("bench", "serve", "--url", mock.url, "-n", 1000, "--ignore-eos", "--warmup", 0)
            deadline = time.monotonic() + 60
            while not mock.requests and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out, err), (INTERRUPTED, b"", b""))

    def test_options_are_checked(self):
        for arguments, words in (
            (("--url", "localhost:8080"), ["http://HOST:PORT"]), (("--url", "https://x"), ["https"]), (("--mix", "spec-bench"), ["--data"]),
            (("--mix", "spec-bench", "--data", "nowhere"), ["nowhere"])):
            self.refuse(FAILURE, words, "bench", "serve", *arguments)
        for arguments, words in (
            (("--mix", "short"), ["--mix", "fixed"]), (("--streams", 0), ["--streams"]), (("--rate", 1, "--streams", 2), ["--rate", "--streams"]),
            (("--goodput", "ttft"), ["NAME:TIME"]), (("--body", "[]"), ["JSON object"]), (("--endpoint", "embeddings"), ["completions or chat"])):
            result = self.decant("bench", "serve", *arguments)
            self.assertEqual(result.code, USAGE, str(result))
            self.assert_one_line(result, words)


if __name__ == "__main__":
    harness.main()
