#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Compares Decant's numbers with llama.cpp's: KL(llama.cpp || Decant) per token and the perplexity of both.

llama.cpp writes the log-probabilities of its scored rows (--kl-divergence-base), Decant compares its own with them. llama.cpp is run
with and without its fused attention (-fa), whose sums are in half precision: how far its two answers are apart says how much of a
difference means anything.

  bench/peers/parity.py --model smollm2.gguf --model gemma3.gguf --data DIR [--decant PROGRAM] [--llama DIR] [--kl-windows 17]

--data holds gsm8k/test.jsonl; its questions, joined by blank lines and cut to 60,000 characters, are the text. Or give --text FILE.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile


def run(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, errors="replace")
    if done.returncode != 0:
        sys.exit(f"parity.py: {' '.join(map(str, command))}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done


def llama_perplexity(args, model, text, *more):
    done = run([pathlib.Path(args.llama, "llama-perplexity"), "-m", model, "-f", text, "-c", args.context, "-t", args.threads, *more])
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", done.stdout + done.stderr)
    return float(found.group(1)) if found else None


def decant(args, model, *more):
    command = [args.decant, "perplexity", "-m", model, "-t", args.threads, *more, "--json", "-"]
    return json.loads(run(command).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="GGUF file; repeatable")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--llama", default="build/peers/llama.cpp/build/bin", help="folder of llama.cpp's programs")
    parser.add_argument("--data", help="folder with gsm8k/test.jsonl")
    parser.add_argument("--text", help="a text file in place of --data")
    parser.add_argument("--context", default="512")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--kl-windows", default="17", help="windows whose distributions are compared; 17 of 512 score 4,335 tokens")
    parser.add_argument("--no-perplexity", action="store_true", help="only the divergence")
    args = parser.parse_args()
    if bool(args.data) == bool(args.text):
        parser.error("give one of --data and --text")
    with tempfile.TemporaryDirectory(prefix="decant-parity-") as folder:
        text = args.text
        if args.data:
            lines = pathlib.Path(args.data, "gsm8k", "test.jsonl").read_text().splitlines()
            text = pathlib.Path(folder, "text.txt")
            text.write_text("\n\n".join(json.loads(line)["question"] for line in lines)[:60000])
        print("| model | llama.cpp | perplexity | Decant's | KL per token | 99 % | same top | change of -log p |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for model in args.model:
            ours = None if args.no_perplexity else decant(args, model, "-f", text, "-c", args.context)["perplexity"]
            for flag in ("on", "off"):
                theirs = None if args.no_perplexity else llama_perplexity(args, model, text, "-fa", flag)
                base = pathlib.Path(folder, "base.bin")
                llama_perplexity(args, model, text, "-fa", flag, "--kl-divergence-base", base, "--chunks", args.kl_windows)
                d = decant(args, model, "--kl-divergence-base", base, "--kl-divergence")["divergence"]
                base.unlink()
                numbers = "- | -" if ours is None else f"{theirs:.4f} | {ours:.4f}"
                print(f"| {pathlib.Path(model).name} | -fa {flag} | {numbers} | {d['mean_kl']:.2e} +/- {d['stderr_kl']:.0e} | "
                      f"{d['p99_kl']:.1e} | {d['same_top'] * 100:.2f} % | {d['mean_delta_nll']:+.1e} |", flush=True)


if __name__ == "__main__":
    main()
