#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""table.py REPORT.json...: the curves of `decant eval alignment --json` as Markdown tables, one row for each task and method.

A cell of a curve is its value after as many answers as the column says.
"""

import json
import math
import sys

METHODS = ("none", "asap", "exact")


def at(curve, n):
    """The last point of at most n answers."""
    points = [p for p in curve if p["samples"] <= n]
    return points[-1] if points and points[-1]["samples"] == n else None


def number(x, form="{:.3f}"):
    return "" if x is None else form.format(x)


def table(tasks, columns, value, note, methods=METHODS):
    print(f"| {note} | | " + " | ".join(f"n = {c:,}" for c in columns) + " |")
    print("| --- | --- |" + " --- |" * len(columns))
    for task in tasks:
        for method in methods:
            curve = task["methods"][method]["curve"]
            points = [at(curve, c) for c in columns]
            if all(p is None or value(p, task) is None for p in points):
                continue
            print(f"| {task['name'] if method == METHODS[0] else ''} | {method} | "
                  + " | ".join(number(value(p, task)) if p else "" for p in points) + " |")
    print()


def main(paths):
    tasks = [t for path in paths for t in json.load(open(path, encoding="utf-8"))["tasks"]]
    largest = max(p["samples"] for t in tasks for m in t["methods"].values() for p in m["curve"])
    columns = [c for c in (1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if c <= largest]
    finite = [t for t in tasks if t["enumerated"]]
    if finite:
        print("Total variation of the next answer's law from the conditional, by enumeration.\n")
        table(finite, columns, lambda p, t: p["total_variation"], "task", METHODS[:2])
        print("Total variation of all answers from the conditional, with a bound of its mean for independent draws from it.\n")
        print("| task | texts | P(language) | none | asap | exact | bound |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for t in finite:
            last = {m: t["methods"][m]["curve"][-1] for m in METHODS}
            print(f"| {t['name']} | {t['texts']} | {math.exp(t['log_p_language']):.3g} | "
                  + " | ".join(number(last[m]["empirical_variation"]) for m in METHODS) + f" | {number(last['exact']['sampling_error'])} |")
        print()
    print("KL divergence (nats) of the last n/4 answers from P restricted to what any method drew.\n")
    print("| task | " + " | ".join(METHODS) + " | ideal |\n| --- |" + " --- |" * (len(METHODS) + 1))
    for t in tasks:
        cells = [number(t["methods"][m]["curve"][-1]["kl"]) for m in METHODS]
        print(f"| {t['name']} | " + " | ".join(cells) + f" | {number(t['methods'][METHODS[0]]['curve'][-1]['kl_ideal'])} |")
    print("\nThe same after n answers.\n")
    table([t for t in tasks if not t["enumerated"]], columns, lambda p, t: p["kl"], "task")
    print("At the end: expectation of P (restricted) over the window, mean log P, cost of an answer.\n")
    print("| task | method | n | E[P] (ideal) | mean log P | c(root) | attempts | rows needed | rows computed |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for t in tasks:
        for m in METHODS:
            p = t["methods"][m]["curve"][-1]
            print(f"| {t['name'] if m == METHODS[0] else ''} | {m} | {p['samples']:,} | {p['expectation']:.3f} ({t['ideal_expectation']:.3f}) | "
                  f"{p['mean_log_p']:.2f} | {math.exp(p['log_c_root']):.3g} | {p['attempts']:.2f} | {p['steps']:.1f} | {p['forward_passes']:.2f} |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
