#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Measures llama.cpp's own speculative decoding beside Decant's draft methods, on the same questions of Spec-Bench.

  bench/peers/spec_bench.py --model smollm2.gguf --data DIR [--limit 30] [-n 128] [--methods LIST] [--draft small.gguf]
                            [--modes lookup,ngram-simple,...] [--decant PROGRAM] [--llama DIR] [--rounds 1] [--threads 2] [--json FILE]

DIR holds spec-bench/question.jsonl. Of each question the first turn is asked, in the model's chat template as `decant template` renders it,
greedily. In a round Decant answers all questions (`decant compare`, each question with plain decoding and all methods, in turns), then llama.cpp
does, each question with one mode after the other; every second round begins with llama.cpp. The modes:

  plain          llama-completion
  lookup         llama-lookup: n-grams of the text so far
  ngram-...      llama-speculative-simple --spec-type ngram-simple, ngram-map-k, ngram-map-k4v or ngram-mod
  draft          llama-speculative-simple with the draft model of --draft
  draft-tree     llama-speculative likewise: a tree of drafts

bench/peers/setup.sh --only llama.cpp builds the programs. Tokens a second are those of decoding, mean over questions: of Decant and of
llama.cpp's speculative programs the tokens behind the first by the time of their loops, of llama-completion its steps and its sampling. A mode that
fails is named with its reason; the others go on.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

from compare import Failure, processor, run, there

NGRAMS = ("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod")
MODES = ("plain", "lookup", *NGRAMS, "draft", "draft-tree")
CATEGORIES = {c: "multi-turn" for c in ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")}


def spread(questions, limit):
    """As evenly over the categories, and over each one's questions, as `decant eval spec-bench --limit` chooses."""
    if not 0 < limit < len(questions):
        return questions
    of = {}
    for i, q in enumerate(questions):
        of.setdefault(q["category"], []).append(i)
    share = dict.fromkeys(of, 0)
    while sum(share.values()) < limit:
        for category, members in of.items():
            if sum(share.values()) < limit and share[category] < len(members):
                share[category] += 1
    chosen = [members[(2 * k + 1) * len(members) // (2 * share[c])] for c, members in of.items() for k in range(share[c])]
    return [questions[i] for i in sorted(chosen)]


def load(data, limit):
    path = pathlib.Path(data, "spec-bench", "question.jsonl")
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        questions = [{"id": str(q["question_id"]), "category": CATEGORIES.get(q["category"], q["category"]), "prompt": q["turns"][0]} for q in lines]
    except OSError as error:
        sys.exit(f"spec_bench.py: {path}: {error.strerror}")
    except (ValueError, KeyError, IndexError, TypeError) as error:
        sys.exit(f"spec_bench.py: {path}: no questions of Spec-Bench ({error!r})")
    return spread(questions, limit)


def render(args, question):
    """The prompt's text; without a chat template the question as it stands."""
    command = [args.decant, "template", "-m", args.model, "--json", "-"]
    messages = json.dumps([{"role": "user", "content": question["prompt"]}])
    done = subprocess.run(command, input=messages, capture_output=True, text=True)
    if done.returncode != 0:
        if "no chat template" in done.stderr:
            return question["prompt"]
        raise Failure(done.stderr.strip())
    return json.loads(done.stdout)["text"]


def number(pattern, text, what):
    found = re.search(pattern, text)
    if not found:
        raise Failure(f"{what}: no line such as {pattern!r}")
    return [float(group) for group in found.groups()]


class Llama:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder

    def command(self, mode, prompt):
        a = self.args
        program = {"plain": "llama-completion", "lookup": "llama-lookup", "draft-tree": "llama-speculative"}.get(mode, "llama-speculative-simple")
        command = [pathlib.Path(a.llama, program), "-m", a.model, "-t", a.threads, "-c", a.context, "-b", a.context, "-n", a.predict, "--temp", 0,
                   "-fa", a.fa, "-f", prompt]
        if mode == "plain":
            command += ["-no-cnv", "--no-display-prompt", "--perf"]
        elif mode in NGRAMS:
            command += ["--spec-type", mode]
        elif mode == "draft":
            command += ["--spec-type", "draft-simple", "-md", a.draft]
        elif mode == "draft-tree":
            command += ["-md", a.draft]
        return command

    def answer(self, mode, prompt):
        """Tokens behind the first, seconds, and of drafted tokens how many there were and how many were kept."""
        out, errors = run(self.command(mode, prompt), self.folder)
        text = out + errors
        if mode == "plain":
            milliseconds, steps = number(r"(?<!prompt )eval time =\s*([\d.]+) ms /\s*(\d+) runs", text, "llama-completion")
            sampling = re.search(r"sampling time =\s*([\d.]+) ms", text)
            return {"decoded": int(steps), "seconds": (milliseconds + (float(sampling[1]) if sampling else 0)) / 1000, "drafted": 0, "accepted": 0}
        tokens, seconds = number(r"decoded\s+(\d+) tokens in\s+([\d.]+) seconds", text, mode)
        drafted, = number(r"n_drafted\s*=\s*(\d+)", text, mode)
        accepted, = number(r"n_accept\s*=\s*(\d+)", text, mode)
        return {"decoded": int(tokens) - 1, "seconds": seconds, "drafted": int(drafted), "accepted": int(accepted)}


class Comparison:
    def __init__(self, args, folder):
        self.args, self.folder = args, pathlib.Path(folder)
        self.questions = load(args.data, args.limit)
        self.rates = {}     # of a program and method: tokens a second, each question and round
        self.counts = {}    # its tokens behind the first, drafted and kept
        self.failures = {}  # reasons
        self.reports = []
        self.prompts = self.folder / "questions.jsonl"
        self.prompts.write_text("".join(json.dumps(q) + "\n" for q in self.questions), encoding="utf-8")

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def count(self, name, decoded, seconds, steps, drafted, accepted):
        if decoded > 0 and seconds > 0:
            self.rates.setdefault(name, []).append(decoded / seconds)
        sums = self.counts.setdefault(name, {"decoded": 0, "steps": 0, "drafted": 0, "accepted": 0})
        for key, value in (("decoded", decoded), ("steps", steps), ("drafted", drafted), ("accepted", accepted)):
            sums[key] += value

    def decant(self):
        a = self.args
        command = [a.decant, "compare", "-m", a.model, "--prompts", self.prompts, "-n", a.predict, "-c", a.context, "-t", a.threads, "--json", "-"]
        report = json.loads(run([*command, "--methods", a.methods] if a.methods else command, self.folder, limit=36000)[0])
        for question in report["questions"]:
            for method, turns in question["turns"].items():
                for t in turns:
                    self.count(f"Decant {method}", t["tokens"] + t["ended"] - 1, t["decode_s"], t["steps"], t["verified"], t["accepted"])
        self.reports.append(report["methods"])

    def llama(self):
        llama = Llama(self.args, self.folder)
        prompt = self.folder / "prompt.txt"
        for i, question in enumerate(self.questions):
            prompt.write_text(render(self.args, question), encoding="utf-8", newline="")
            first = i % len(self.args.modes)
            for mode in self.args.modes[first:] + self.args.modes[:first]:
                if mode in self.failures:
                    continue
                try:
                    a = llama.answer(mode, prompt)
                except Failure as failure:
                    self.failures[mode] = str(failure)
                    self.say(f"llama.cpp {mode} failed: {failure}")
                    continue
                # Each step gives the tokens kept and one more.
                self.count(f"llama.cpp {mode}", a["decoded"], a["seconds"], a["decoded"] - a["accepted"], a["drafted"], a["accepted"])
            self.say(f"llama.cpp: question {i + 1} of {len(self.questions)}")

    def measure(self):
        for i in range(self.args.rounds):
            self.say(f"round {i + 1} of {self.args.rounds}")
            for work in (self.decant, self.llama) if i % 2 == 0 else (self.llama, self.decant):
                work()

    def rows(self):
        rates = {name: statistics.mean(values) for name, values in self.rates.items()}
        for name, rate in rates.items():
            c = self.counts[name]
            yield {"name": name, "tokens_per_s": rate, "to_llama_plain": ratio(rate, rates.get("llama.cpp plain")),
                   "to_decant_plain": ratio(rate, rates.get("Decant plain")), "tokens_per_step": ratio(c["decoded"], c["steps"]),
                   "drafted": c["drafted"], "accepted": c["accepted"], "acceptance": ratio(c["accepted"], c["drafted"])}

    def table(self):
        a = self.args
        print(f"\n{pathlib.Path(a.model).name} on {processor()}, threads: {a.threads}, {len(self.questions)} first turns of Spec-Bench, up to {a.predict} "
              f"tokens, greedy, rounds: {a.rounds}, {time.strftime('%Y-%m-%d')}\n")
        print("| method | tokens/s | to llama.cpp plain | to Decant plain | tokens/step | drafts kept |\n| --- | --- | --- | --- | --- | --- |")
        for row in self.rows():
            print(f"| {row['name']} | {row['tokens_per_s']:.4g} | {text_of(row['to_llama_plain'])} | {text_of(row['to_decant_plain'])} | "
                  f"{text_of(row['tokens_per_step'])} | {text_of(row['acceptance'])} |")
        for mode, reason in self.failures.items():
            print(f"\n- llama.cpp {mode} failed: {reason}")

    def report(self):
        a = self.args
        return {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "model": pathlib.Path(a.model).name, "threads": a.threads,
                "questions": len(self.questions), "max_tokens": a.predict, "rounds": a.rounds, "rows": list(self.rows()),
                "failures": self.failures, "decant": self.reports}


def ratio(a, b):
    return a / b if a is not None and b else None


def text_of(x):
    return "-" if x is None else f"{x:.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of spec-bench/question.jsonl")
    parser.add_argument("--limit", type=int, default=30, help="questions; 0: all (default: 30)")
    parser.add_argument("-n", "--predict", type=int, default=128, help="tokens of an answer (default: 128)")
    parser.add_argument("-c", "--context", type=int, default=4096)
    parser.add_argument("--methods", help="Decant's draft methods (default: all that need no files)")
    parser.add_argument("--draft", metavar="GGUF", help="draft model of llama.cpp's modes draft and draft-tree")
    parser.add_argument("--modes", type=lambda text: text.split(","), help=f"some of {','.join(MODES)} (default: all that can run)")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--llama", metavar="DIR", help="folder of llama.cpp's programs (default: build/peers/llama.cpp/build/bin)")
    parser.add_argument("--fa", choices=("on", "off", "auto"), default="auto", help="llama.cpp's flash attention (default: auto)")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    for name, least in (("rounds", 1), ("predict", 2), ("limit", 0), ("threads", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name}: at least {least}")
    if args.modes is None:
        args.modes = [m for m in MODES if args.draft or not m.startswith("draft")]
    if unknown := [m for m in args.modes if m not in MODES]:
        parser.error(f"--modes: unknown {', '.join(unknown)}; there are {', '.join(MODES)}")
    if not args.draft and any(m.startswith("draft") for m in args.modes):
        parser.error("--modes: draft and draft-tree need --draft")
    args.decant, args.model = os.path.abspath(args.decant), os.path.abspath(args.model)
    args.draft = args.draft and os.path.abspath(args.draft)
    args.llama = there(parser, "--llama", args.llama or "build/peers/llama.cpp/build/bin", "", "llama-lookup")
    if (busy := os.getloadavg()[0]) > 0.5:
        print(f"spec_bench.py: the machine is busy (load {busy:.1f}); the figures mislead", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        try:
            comparison = Comparison(args, folder)
            comparison.measure()
        except Failure as failure:
            sys.exit(f"spec_bench.py: {failure}")
        comparison.table()
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(comparison.report(), indent=1) + "\n")


if __name__ == "__main__":
    main()
