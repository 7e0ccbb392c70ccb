#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Fails when a kernel has become slower than it was in an earlier commit.

  bench/guard.py [--base COMMIT] [--limit 1.3]

Builds the kernels' microbenchmarks of both commits (the working tree counts as the later one) into build/guard, runs them in turns
on one thread and compares the best times, so only ratios of one run count. What looks slower is measured again before it counts.
Passes with a reason when there is nothing to compare: no such commit, the same kernels, or benchmarks that the earlier commit lacks.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "build", "guard")
SOURCES = ["src/kernels", "src/base", "cmake", "CMakeLists.txt"]
KERNELS = "(q4_1|q5_0|q8_0|q4_k|q6_k|f16)/small/(1|4|32)/1/|(attention|rms_norm|quantize|glu)"
ROUNDS = 3
MORE_ROUNDS = 12


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)


def fail(message):
    print(f"guard: {message}", file=sys.stderr)
    sys.exit(1)


def passes(reason):
    print(f"guard: {reason}; nothing to compare")
    sys.exit(0)


def build(source, name):
    folder = os.path.join(FOLDER, name)
    log = os.path.join(FOLDER, name + ".log")
    with open(log, "w") as out:
        for command in (["cmake", "-G", "Ninja", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", "-DDECANT_TESTS=OFF",
                         "-DDECANT_BENCHMARKS=ON"],
                        ["cmake", "--build", folder, "--target", "kernels_bench"]):
            if subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode != 0:
                return None, log
    return os.path.join(folder, "bin", "kernels_bench"), log


def measure(program, pattern, best):
    """Runs the benchmarks that match; keeps each one's shortest time in best."""
    run = subprocess.run([program, f"--benchmark_filter={pattern}", "--benchmark_format=json", "--benchmark_min_time=0.03"],
                         capture_output=True, text=True)
    if run.returncode != 0:
        fail(f"{os.path.relpath(program, ROOT)} failed with exit code {run.returncode}")
    for b in json.loads(run.stdout)["benchmarks"] if run.stdout.strip() else []:
        if "real_time" in b:
            best[b["name"]] = min(best.get(b["name"], float("inf")), b["real_time"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="HEAD~1", help="the earlier commit (default: HEAD~1)")
    parser.add_argument("--limit", type=float, default=1.3, help="how many times as long a kernel may take (default: 1.3)")
    arguments = parser.parse_args()

    commit = git("rev-parse", "--verify", "--quiet", arguments.base + "^{commit}").stdout.strip()
    if not commit:
        passes(f"there is no commit {arguments.base}")
    if git("diff", "--quiet", commit, "--", *SOURCES).returncode == 0:
        passes(f"kernels are those of {commit[:9]}")
    if git("cat-file", "-e", commit + ":src/kernels/matmul_bench.cc").returncode != 0:
        passes(f"{commit[:9]} has no microbenchmarks of kernels")

    source = os.path.join(FOLDER, "source")
    shutil.rmtree(source, ignore_errors=True)
    os.makedirs(source)
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True)
    if archive.returncode != 0 or subprocess.run(["tar", "-x", "-C", source], input=archive.stdout).returncode != 0:
        fail(f"cannot extract {commit[:9]}")
    print(f"guard: building the benchmarks of {commit[:9]} and of the working tree")
    before, log = build(source, "before")
    if before is None:
        passes(f"{commit[:9]} does not build here (see {os.path.relpath(log, ROOT)})")
    now, log = build(ROOT, "now")
    if now is None:
        fail(f"the benchmarks do not build; see {os.path.relpath(log, ROOT)}")

    names = subprocess.run([now, "--benchmark_list_tests"], capture_output=True, text=True).stdout.split()
    tables = [name.split("/")[0] for name in names]
    table = next((t for t in ("amx", "avx512", "avx2") if t in tables), None)
    if table is None:
        passes("this processor runs the scalar kernels only")
    pattern = f"^{table}/({KERNELS})"
    times = {before: {}, now: {}}
    for _ in range(ROUNDS):
        for program in (before, now):
            measure(program, pattern, times[program])
    common = sorted(set(times[before]) & set(times[now]))
    if not common:
        passes(f"{commit[:9]} has other benchmarks")

    def slower():
        return [n for n in common if times[now][n] > arguments.limit * times[before][n]]

    for _ in range(MORE_ROUNDS):
        if not slower():
            break
        again = "^(" + "|".join(n.replace("/real_time", "") for n in slower()) + ")"
        for program in (now, before):
            measure(program, again, times[program])
    for name in common:
        ratio = times[now][name] / times[before][name]
        print(f"  {name.replace('/real_time', ''):<40} {ratio:5.2f} times as long as before" + (" SLOWER" if name in slower() else ""))
    if slower():
        fail(f"{len(slower())} of {len(common)} kernels take more than {arguments.limit} times as long as in {commit[:9]}")
    print(f"guard: none of {len(common)} kernels takes more than {arguments.limit} times as long as in {commit[:9]}")


if __name__ == "__main__":
    main()
