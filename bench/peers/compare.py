#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Measures Decant beside llama.cpp on the same model files, in one run: both take turns, medians count.

  bench/peers/compare.py --model smollm2.gguf --model gemma3.gguf [--decant PROGRAM] [--llama DIR] [--rounds 7] [--threads 2]

Works: prefill 512 and 4,096 tokens, decode 128 tokens with 1, 8 and 32 sequences, a step over 4, 8, 16 and 32 tokens of one sequence
(logits of the last row), and a whole process that reads a short prompt and writes one token (file cache warm). llama.cpp's figures come
from llama-bench, llama-batched-bench and llama-completion. --works picks some of prefill, decode, batch, verify, startup.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

WORKS = ("prefill", "decode", "batch", "verify", "startup")


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"compare.py: {' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def timed(command):
    """Seconds and peak memory in MB of a process."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"compare.py: {' '.join(map(str, command))}: exit code {process.returncode}")
    return time.perf_counter() - begin, usage.ru_maxrss / 1024


class Peers:
    def __init__(self, args, model):
        self.args, self.model = args, model
        self.bin = pathlib.Path(args.llama)
        self.prefill = [int(n) for n in args.prefill.split(",")]

    def decant(self, results):
        flags = []
        if "prefill" in self.args.works:
            flags += ["--prefill", ",".join(map(str, self.prefill))]
        batches = (["1"] if "decode" in self.args.works else []) + (["8", "32"] if "batch" in self.args.works else [])
        if batches:
            flags += ["--decode", "128", "--batch", ",".join(batches)]
        if "verify" in self.args.works:
            flags += ["--verify", "4,8,16,32"]
        if flags:
            out = run([self.args.decant, "bench", "-m", self.model, "-t", self.args.threads, "--repeat", "1", *flags, "--json", "-"])
            for r in json.loads(out)["results"]:
                name = r["work"].replace("decode 128 x ", "decode, ").replace("decode 128", "decode, 1 sequence")
                results.setdefault(name, []).append(r["tokens_per_s"])
                if r.get("share_of_bandwidth") is not None:
                    self.shares.setdefault(name, []).append(max(r["share_of_bandwidth"], r["share_of_peak"] or 0))
        if "startup" in self.args.works:
            seconds, memory = timed([self.args.decant, "run", "-m", self.model, "-t", self.args.threads, "--raw", "-p", "The quick brown fox",
                                     "-n", "1", "--temp", "0", "-c", "512"])
            results.setdefault("process, 1 token (s)", []).append(seconds)
            results.setdefault("its peak memory (MB)", []).append(memory)

    def llama(self, results):
        threads = ["-t", self.args.threads]
        sizes = (self.prefill if "prefill" in self.args.works else []) + ([4, 8, 16, 32] if "verify" in self.args.works else [])
        if sizes:
            for r in json.loads(run([self.bin / "llama-bench", "-m", self.model, *threads, "-p", ",".join(map(str, sizes)), "-n", "0", "-r", "1", "-o", "json"])):
                kind = "prefill" if r["n_prompt"] in self.prefill else "verify"
                results.setdefault(f"{kind} {r['n_prompt']}", []).append(r["avg_ts"])
        if "decode" in self.args.works:
            for r in json.loads(run([self.bin / "llama-bench", "-m", self.model, *threads, "-p", "0", "-n", "128", "-r", "1", "-o", "json"])):
                results.setdefault("decode, 1 sequence", []).append(r["avg_ts"])
        if "batch" in self.args.works:
            out = run([self.bin / "llama-batched-bench", "-m", self.model, *threads, "-c", "8192", "-npp", "1", "-ntg", "128", "-npl", "8,32", "--output-format", "jsonl"])
            for line in out.splitlines():
                if line.startswith("{"):
                    r = json.loads(line)
                    results.setdefault(f"decode, {r['pl']} sequences", []).append(r["speed_tg"])
        if "startup" in self.args.works:
            seconds, memory = timed([self.bin / "llama-completion", "-m", self.model, *threads, "-no-cnv", "--no-warmup", "-p", "The quick brown fox",
                                     "-n", "1", "--temp", "0", "-c", "512"])
            results.setdefault("process, 1 token (s)", []).append(seconds)
            results.setdefault("its peak memory (MB)", []).append(memory)

    def measure(self):
        ours, theirs = {}, {}
        self.shares = {}
        for i in range(self.args.rounds):
            print(f"{self.model}: round {i + 1} of {self.args.rounds}", file=sys.stderr, flush=True)
            self.decant(ours)
            self.llama(theirs)
        return ours, theirs


def spread(values):
    return f"{statistics.median(values):.4g} ({min(values):.4g} - {max(values):.4g})"


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="GGUF file; repeatable")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--llama", default="build/peers/llama.cpp/build/bin", help="folder of llama.cpp's programs")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--prefill", default="512,4096")
    parser.add_argument("--works", default=",".join(WORKS), type=lambda text: text.split(","))
    args = parser.parse_args()
    if unknown := set(args.works) - set(WORKS):
        parser.error(f"--works: unknown {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    for model in args.model:
        peers = Peers(args, model)
        ours, theirs = peers.measure()
        tables = json.loads(run([args.decant, "methods", "--json", "-"]))["kernel_tables"]
        table = [t["name"] for t in tables if t["available"] and t["name"] != "cuda"][-1]
        print(f"\n{pathlib.Path(model).name} on {processor()}, kernels {os.environ.get('DECANT_KERNELS', table)}, {args.threads} threads, "
              f"{args.rounds} rounds, {time.strftime('%Y-%m-%d')}; median (least - greatest), tokens/s where nothing else is said\n")
        print("| work | Decant | share of the roof | llama.cpp | ratio |")
        print("| --- | --- | --- | --- | --- |")
        for work in theirs:
            a, b = ours[work], theirs[work]
            share = f"{statistics.median(peers.shares[work]) * 100:.0f} %" if work in peers.shares else "-"
            print(f"| {work} | {spread(a)} | {share} | {spread(b)} | {statistics.median(a) / statistics.median(b):.2f} |", flush=True)


if __name__ == "__main__":
    main()
