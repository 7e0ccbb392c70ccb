#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Compares Decant's numbers with llama.cpp's: the perplexity of both, and KL divergences per token.

Both programs round activations to 8 bits before every product with a quantized weight. A difference in the last bit of a sum flips some
of these roundings, and after a few layers the two runs differ as much as each differs from exact arithmetic. So three things are measured:

  - the quantized model against llama.cpp on a copy with float32 weights (made by llama-quantize), where nothing is rounded to 8 bits:
    how exact is each program;
  - Decant on that copy: is the forward pass the same;
  - Decant against llama.cpp, and llama.cpp against itself with another order of sums in attention (-fa): how far apart are they.

  bench/peers/parity.py --model smollm2.gguf --model gemma3.gguf --data DIR [--decant PROGRAM] [--llama DIR] [--windows 17]

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


def llama(args, model, *more):
    """The last perplexity and the mean divergence that llama-perplexity prints, where it does."""
    done = run([pathlib.Path(args.llama, "llama-perplexity"), "-m", model, "-c", args.context, "-t", args.threads, *more])
    output = done.stdout + done.stderr
    perplexity = re.search(r"Final estimate: PPL = ([0-9.]+)", output)
    kl = re.search(r"Mean +KLD: +([0-9.e-]+)", output)
    same = re.search(r"Same top p: +([0-9.]+)", output)
    return (float(m.group(1)) if m else None for m in (perplexity, kl, same))


def decant(args, model, *more):
    command = [args.decant, "perplexity", "-m", model, "-t", args.threads, *more, "--json", "-"]
    return json.loads(run(command).stdout)


class Comparison:
    def __init__(self, args, folder, model, text):
        self.args, self.folder, self.model, self.text = args, pathlib.Path(folder), model, text

    def row(self, what, kl, same):
        print(f"| {pathlib.Path(self.model).name} | {what} | {kl:.2e} | {same:.2f} % |", flush=True)

    def base(self, model, *flags):
        path = self.folder / "base.bin"
        path.unlink(missing_ok=True)
        llama(self.args, model, "-f", self.text, "--chunks", self.args.windows, "--kl-divergence-base", path, *flags)
        return path

    def ours(self, what, model, base):
        d = decant(self.args, model, "--kl-divergence-base", base, "--kl-divergence")["divergence"]
        self.row(what, d["mean_kl"], d["same_top"] * 100)

    def theirs(self, what, model, base, *flags):
        _, kl, same = llama(self.args, model, "--kl-divergence-base", base, "--kl-divergence", *flags)
        self.row(what, kl, same)

    def run(self):
        copy = self.folder / "float32.gguf"
        run([pathlib.Path(self.args.llama, "llama-quantize"), "--allow-requantize", self.model, copy, "F32"])
        base = self.base(copy)
        self.ours("llama.cpp float32 -> Decant float32", copy, base)
        copy.unlink()
        self.theirs("llama.cpp float32 -> llama.cpp", self.model, base)
        self.ours("llama.cpp float32 -> Decant", self.model, base)
        base = self.base(self.model, "-fa", "on")
        self.theirs("llama.cpp -fa on -> llama.cpp -fa off", self.model, base, "-fa", "off")
        self.ours("llama.cpp -fa on -> Decant", self.model, base)
        base.unlink()

    def perplexities(self):
        on, _, _ = llama(self.args, self.model, "-f", self.text, "-fa", "on")
        off, _, _ = llama(self.args, self.model, "-f", self.text, "-fa", "off")
        ours = decant(self.args, self.model, "-f", self.text, "-c", self.args.context)["perplexity"]
        print(f"| {pathlib.Path(self.model).name} | {on:.4f} | {off:.4f} | {ours:.4f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="GGUF file; repeatable")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--llama", default="build/peers/llama.cpp/build/bin", help="folder of llama.cpp's programs")
    parser.add_argument("--data", help="folder with gsm8k/test.jsonl")
    parser.add_argument("--text", help="a text file in place of --data")
    parser.add_argument("--context", default="512")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--windows", default="17", help="windows whose distributions are compared; 17 of 512 score 4,335 tokens")
    args = parser.parse_args()
    if bool(args.data) == bool(args.text):
        parser.error("give one of --data and --text")
    with tempfile.TemporaryDirectory(prefix="decant-parity-") as folder:
        text = args.text
        if args.data:
            lines = pathlib.Path(args.data, "gsm8k", "test.jsonl").read_text().splitlines()
            text = pathlib.Path(folder, "text.txt")
            text.write_text("\n\n".join(json.loads(line)["question"] for line in lines)[:60000])
        comparisons = [Comparison(args, folder, model, text) for model in args.model]
        print("| model | from -> to | KL per token | same top |\n| --- | --- | --- | --- |")
        for c in comparisons:
            c.run()
        print("\n| model | perplexity: llama.cpp -fa on | -fa off | Decant |\n| --- | --- | --- | --- |")
        for c in comparisons:
            c.perplexities()


if __name__ == "__main__":
    main()
