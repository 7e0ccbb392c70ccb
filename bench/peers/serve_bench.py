#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Measures `decant serve` beside llama.cpp's server under the same loads, on the same model file.

  bench/peers/serve_bench.py --model smollm2.gguf [--streams 1,8,16,32] [-n 128] [--long 8] [--draft none] [--decant PROGRAM]
                             [--llama DIR] [--rounds 1] [--threads 2] [--json FILE]

A work is a load of `decant bench serve`: so many streams at any time with prompts that share nothing (--prompt-tokens) and answers of -n
tokens; and, of so many streams (--long), prompts of which every eighth has --long-tokens. For each work each server starts anew, with as
many places as there are streams and the same room for tokens, is warmed up, measured and stopped; one runs at a time, and every second
round begins with the other one. Both decode plainly unless --draft names a method for Decant. bench/peers/setup.sh --only llama.cpp
builds llama-server. Medians over rounds count. What fails is named below the table; the rest goes on.
"""
import argparse
import json
import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from compare import Failure, command_failure, last_line, processor, run, there

START_LIMIT = 300  # seconds until a server listens


class Server:
    """A running server, while it is a context."""

    def __init__(self, command, folder):
        self.command, self.folder = [str(c) for c in command], pathlib.Path(folder)
        self.peak_mb = None

    def __enter__(self):
        self.log = open(self.folder / "server.log", "w+", encoding="utf-8", errors="replace")
        try:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        except OSError as error:
            self.log.close()
            raise Failure(f"{self.command[0]}: {error.strerror}") from None
        try:
            self.wait()
        except Failure:
            self.__exit__()
            raise
        return self

    def wait(self):
        port = self.command[self.command.index("--port") + 1]
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                self.log.seek(0)
                raise command_failure(self.command, self.process.returncode, self.log.read())
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.1)
        self.log.seek(0)
        raise Failure(f"{pathlib.Path(self.command[0]).name}: not ready after {START_LIMIT} s: {last_line(self.log.read())}")

    def __exit__(self, *error):
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
            self.peak_mb = next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), None)
        except OSError:
            pass
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Comparison:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.works = [("fixed", n) for n in args.streams] + ([("long-prompt", args.long)] if args.long else [])
        self.results = {}   # of (work, program): reports
        self.failures = {}  # of the same: the reason

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def room(self, work):
        """Tokens of one stream at most. A word may be more than one token, and the servers take whole pages."""
        mix, _ = work
        prompt = max(self.args.prompt_tokens, self.args.long_tokens if mix == "long-prompt" else 0)
        return (int(prompt * 1.25) + self.args.predict + 64 + 255) // 256 * 256

    def command(self, program, work, port):
        a = self.args
        _, streams = work
        common = ["-m", a.model, "-t", a.threads, "-c", self.room(work) * streams, "-np", streams, "--host", "127.0.0.1", "--port", port]
        if program == "decant":
            return [a.decant, "serve", *common, "--draft", a.draft, "--no-log-requests", *shlex.split(a.decant_options)]
        return [pathlib.Path(a.llama, "llama-server"), *common, "-tb", a.threads, *shlex.split(a.llama_options)]

    def measure_one(self, program, work):
        a = self.args
        mix, streams = work
        port = free_port()
        with Server(self.command(program, work, port), self.folder) as server:
            load = [a.client, "bench", "serve", "--url", f"http://127.0.0.1:{port}", "--mix", mix, "--streams", streams, "-n", a.predict,
                    "--requests", max(a.requests * streams, 8), "--prompt-tokens", a.prompt_tokens, "--long-tokens", a.long_tokens, "--ignore-eos",
                    "--warmup", min(streams, 4), "--seed", a.seed, "--json", "-"]
            report = json.loads(run(load, self.folder, limit=7200)[0])
        if report["failed"] > 0:
            raise Failure(f"{report['failed']} of {report['requests']} requests failed: {next(iter(report['errors']))}")
        del report["records"]
        report["peak_mb"] = server.peak_mb
        return report

    def measure(self):
        for i in range(self.args.rounds):
            for work in self.works:
                for program in ("decant", "llama.cpp")[:: 1 if i % 2 == 0 else -1]:
                    if (work, program) in self.failures:
                        continue
                    self.say(f"round {i + 1} of {self.args.rounds}: {name_of(work)} with {program}")
                    try:
                        self.results.setdefault((work, program), []).append(self.measure_one(program, work))
                    except Failure as failure:
                        self.failures[work, program] = str(failure)
                        self.say(f"  failed: {failure}")

    def rows(self):
        for work in self.works:
            figures = {}
            for program in ("decant", "llama.cpp"):
                reports = self.results.get((work, program))
                if reports:
                    median = lambda get: statistics.median(get(r) for r in reports)  # noqa: E731
                    figures[program] = {
                        "tokens_per_s": median(lambda r: r["output_tokens_per_s"]),
                        "ttft_p50_ms": median(lambda r: 1000 * r["ttft_s"]["p50"]), "ttft_p99_ms": median(lambda r: 1000 * r["ttft_s"]["p99"]),
                        "itl_p50_ms": median(lambda r: 1000 * r["itl_s"]["p50"]), "itl_p99_ms": median(lambda r: 1000 * r["itl_s"]["p99"]),
                        "longest_over_median_gap": median(lambda r: r["longest_over_median_gap"]["max"]), "peak_mb": median(lambda r: r["peak_mb"] or 0)}
            ratios = {}
            if len(figures) == 2:
                a, b = figures["decant"], figures["llama.cpp"]
                ratios = {key: a[key] / b[key] for key in a if b[key]}
            yield {"work": name_of(work), "mix": work[0], "streams": work[1], **figures, "decant_to_llama.cpp": ratios}

    def table(self):
        a = self.args
        print(f"\n{pathlib.Path(a.model).name} on {processor()}, threads: {a.threads}, prompts of {a.prompt_tokens} words, answers of {a.predict} tokens, "
              f"drafts of Decant: {a.draft}, rounds: {a.rounds}, {time.strftime('%Y-%m-%d')}\n")
        heads = (("tokens/s", "tokens_per_s", "{:.1f}"), ("first token p50, ms", "ttft_p50_ms", "{:.0f}"), ("p99", "ttft_p99_ms", "{:.0f}"),
                 ("between tokens p50, ms", "itl_p50_ms", "{:.1f}"), ("p99", "itl_p99_ms", "{:.1f}"),
                 ("longest / median gap", "longest_over_median_gap", "{:.1f}"), ("peak memory, MB", "peak_mb", "{:.0f}"))
        print("| load | server | " + " | ".join(h[0] for h in heads) + " |\n| --- | --- |" + " --- |" * len(heads))
        for row in self.rows():
            for program in ("decant", "llama.cpp"):
                if program in row:
                    print(f"| {row['work']} | {program} | " + " | ".join(form.format(row[program][key]) for _, key, form in heads) + " |")
            if row["decant_to_llama.cpp"]:
                ratios = row["decant_to_llama.cpp"]
                print("| | ratio | " + " | ".join(f"{ratios[key]:.2f}" if key in ratios else "-" for _, key, _ in heads) + " |")
        for (work, program), reason in self.failures.items():
            print(f"\n- {name_of(work)} with {program} failed: {reason}")

    def report(self):
        a = self.args
        return {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "model": pathlib.Path(a.model).name, "threads": a.threads, "draft": a.draft,
                "max_tokens": a.predict, "prompt_words": a.prompt_tokens, "long_words": a.long_tokens, "rounds": a.rounds, "rows": list(self.rows()),
                "failures": {f"{name_of(work)}: {program}": reason for (work, program), reason in self.failures.items()},
                "reports": [{"work": name_of(work), "server": program, "reports": reports} for (work, program), reports in self.results.items()]}


def name_of(work):
    mix, streams = work
    return f"{streams} stream{'s' if streams > 1 else ''}" + (", long prompts arrive" if mix == "long-prompt" else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--streams", type=lambda text: [int(n) for n in text.split(",") if n], default=[1, 8, 16, 32], help="(default: 1,8,16,32)")
    parser.add_argument("--long", type=int, default=8, help="streams of the load with long prompts; 0: without it (default: 8)")
    parser.add_argument("-n", "--predict", type=int, default=128, help="tokens of an answer (default: 128)")
    parser.add_argument("--requests", type=int, default=2, help="for each stream (default: 2); 8 at least")
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--long-tokens", type=int, default=4096)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draft", default="none", help="Decant's draft method (default: none)")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--client", metavar="DECANT", help="the program that puts the load (default: --decant)")
    parser.add_argument("--decant-options", default="", help="further options of decant serve, as one text")
    parser.add_argument("--llama", metavar="DIR", help="folder of llama-server (default: build/peers/llama.cpp/build/bin)")
    parser.add_argument("--llama-options", default="", help="further options of llama-server, as one text")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    for name, least in (("rounds", 1), ("predict", 4), ("requests", 1), ("long", 0), ("threads", 1), ("prompt_tokens", 1), ("long_tokens", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name.replace('_', '-')}: at least {least}")
    if any(n < 1 for n in args.streams):
        parser.error("--streams: numbers of at least 1 with commas between them")
    args.client = os.path.abspath(args.client or args.decant)
    args.decant, args.model = os.path.abspath(args.decant), os.path.abspath(args.model)
    args.llama = there(parser, "--llama", args.llama or "build/peers/llama.cpp/build/bin", "", "llama-server")
    if (busy := os.getloadavg()[0]) > 0.5:
        print(f"serve_bench.py: the machine is busy (load {busy:.1f}); the figures mislead", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(args, folder)
        comparison.measure()
        comparison.table()
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(comparison.report(), indent=1) + "\n")


if __name__ == "__main__":
    main()
