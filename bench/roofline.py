#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""How close each matrix product comes to its roof: min(peak, intensity * bandwidth).

  bench/roofline.py [--model smollm2] [--table avx2] [--types q4_1,q8_0,...] [--rounds 5]

Needs build/release (decant) and build/bench (kernels_bench, `cmake --preset bench`). Weights of 100 to 200 MB are read from memory by
two threads. The bandwidth is that of `decant bench`; the peak of a type is what two threads reach with 128 rows and weights in the
cache, unpacking and scaling included. Bandwidth, peaks and products are measured in turns and the best of each counts, since
neighbours of a shared machine slow everything at times. Prints a Markdown table.
"""
import argparse
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DECANT = os.path.join(ROOT, "build", "release", "bin", "decant")
BENCH = os.path.join(ROOT, "build", "bench", "bin", "kernels_bench")


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"roofline: {os.path.relpath(command[0], ROOT)} is not built")
    if done.returncode != 0:
        sys.exit(f"roofline: {os.path.basename(command[0])}: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="any model; its weights' size is that of the buffer read")
    parser.add_argument("--table", help="kernel table (default: the fastest here)")
    parser.add_argument("--types", default="q4_0,q4_1,q5_0,q8_0,q4_k,q6_k,f16")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    bandwidth, table, rates = 0.0, options.table, {}
    types = options.types.replace(",", "|")
    for _ in range(options.rounds):
        report = run([DECANT, "bench", "-m", options.model, "--decode", "4", "--repeat", "1", "--json", "-"])
        bandwidth = max(bandwidth, report["read_bytes_per_s"])
        table = table or report["kernels"]
        pattern = f"^{table}/({types})/(small/128|large/(1|4|8))/2/"
        for b in run([BENCH, f"--benchmark_filter={pattern}", "--benchmark_format=json", "--benchmark_min_time=0.05"])["benchmarks"]:
            _, kind, size, rows, _ = b["name"].split("/")[:5]
            best = rates.setdefault((kind, size, int(rows)), [0.0, 0.0])
            best[0] = max(best[0], b["GOP/s"])
            best[1] = max(best[1], b["weights_GB/s"])
    if not rates:
        sys.exit(f"roofline: kernels_bench knows nothing like {table}/{options.types}")

    print(f"Kernels `{table}`, two threads, {bandwidth / 1e9:.1f} GB/s.\n")
    print("| weight | rows | operations a byte | roof, GOP/s | bound by | reached, GOP/s | share |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, size, rows), (gops, gbytes) in rates.items():
        if size != "large":
            continue
        intensity = gops / gbytes
        peak = rates[(kind, "small", 128)][0]
        roof = min(peak, intensity * bandwidth / 1e9)
        bound = "products" if roof == peak else "bytes"
        print(f"| {kind.upper()} | {rows} | {intensity:.1f} | {roof:.0f} | {bound} | {gops:.0f} | {100 * gops / roof:.0f} % |")


if __name__ == "__main__":
    main()
