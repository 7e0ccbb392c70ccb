#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Measures Decant beside llama.cpp, ik_llama.cpp and OpenVINO GenAI on the same model files, in one run: the programs take turns, and
medians count.

  bench/peers/compare.py --model smollm2.gguf --model gemma3.gguf [--decant PROGRAM] [--rounds 7] [--threads 2] [--json FILE]
                         [--llama DIR] [--ik DIR] [--openvino PYTHON]

Works, of which --works picks some: decode (128 tokens of one sequence), prefill (512 and 4,096 tokens), batch (8 and 32 sequences decode
side by side), verify (one step over 4, 8, 16 and 32 tokens of one sequence, logits of the last row; Decant also with the logits of all
rows), startup (a whole process that reads 5 tokens and writes one; file cache warm) with its peak memory. The peers' figures come from
their own llama-bench, llama-batched-bench, llama-completion and llama-cli, and from openvino_bench.py.

In each round each work is measured with one program after the other, and each round begins with another program. llama.cpp and
ik_llama.cpp run with flash attention on or off, whichever is faster in a short trial (--fa auto), ik_llama.cpp with its weights repacked
when they are loaded (-rtr 1; --repack off: without), but at start-up also without. A peer is left out if it is not there or is given
as "none". What fails is named below the table and not tried again; the rest goes on.
"""
import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

WORKS = ("decode", "prefill", "batch", "verify", "startup")
SENTENCE = "The quick brown fox jumps over the lazy dog"


class Failure(Exception):
    """A measurement that gave no figure; the text is one line."""


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no message"


def command_failure(command, status, output):
    cause = f"signal {-status}" if status < 0 else f"exit code {status}"
    return Failure(f"{pathlib.Path(str(command[0])).name}: {cause}: {last_line(output)}")


def run(command, folder=None, limit=1800):
    """What a command prints to stdout and stderr; it works in `folder`, since some leave logs behind."""
    command = [str(c) for c in command]
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failure(f"{pathlib.Path(command[0]).name}: no end after {limit} s") from None
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise command_failure(command, done.returncode, done.stderr or done.stdout)
    return done.stdout, done.stderr


def timed(command, folder):
    """Seconds and peak memory in MB of a whole process."""
    command = [str(c) for c in command]
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        except OSError as error:
            raise Failure(f"{command[0]}: {error.strerror}") from None
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise command_failure(command, process.returncode, errors.read().decode(errors="replace"))
    return seconds, usage.ru_maxrss / 1024


def parsed(text, opening):
    """The JSON that begins with the first line which starts so."""
    begin = re.search(rf"^{re.escape(opening)}", text, re.MULTILINE)
    if not begin:
        raise Failure(f"no JSON but: {last_line(text)}")
    return json.JSONDecoder().raw_decode(text[begin.start():])[0]


class Program:
    """A program on one model. measure(work, number) gives {row of the table: figure}; more than one number for the work verify."""
    remark = ""

    def __init__(self, args, model, folder):
        self.args, self.model, self.folder = args, model, folder
        self.flags, self.build = f"-t {args.threads}", None

    def prepare(self):
        """Called before the rounds; may change flags."""

    def startup_rows(self, command, suffix=""):
        seconds, memory = timed(command, self.folder)
        return {f"start to first token{suffix} (s)": seconds, f"its peak memory{suffix} (MB)": memory}


class Decant(Program):
    name = "Decant"

    def __init__(self, args, model, folder):
        super().__init__(args, model, folder)
        self.shares, self.kernels = {}, None
        self.build = run([args.decant, "--version"])[0].split()[-1]

    def bench(self, *flags):
        report = parsed(run([self.args.decant, "bench", "-m", self.model, "-t", self.args.threads, *flags, "--json", "-"], self.folder)[0], "{")
        self.kernels = report["kernels"]
        return report["results"]

    def rows(self, results, names):
        figures = {}
        for name, r in zip(names, results):
            figures[name] = r["tokens_per_s"]
            for kind in ("bandwidth", "peak"):
                if (share := r.get(f"share_of_{kind}")) is not None:
                    self.shares.setdefault(name, {}).setdefault(kind, []).append(share)
        return figures

    def measure(self, work, number):
        if work == "decode" or work == "batch":
            return self.rows(self.bench("--decode", self.args.decode, "--batch", number, "--repeat", 1), [sequences(number)])
        if work == "prefill":
            return self.rows(self.bench("--prefill", number, "--repeat", 1), [f"prefill {number}"])
        if work == "verify":
            flags = ["--verify", ",".join(map(str, number)), "--repeat", self.args.verify_repeat]
            figures = self.rows(self.bench(*flags, "--logits", "last"), [step(n) for n in number])
            return figures | self.rows(self.bench(*flags, "--logits", "all"), [step(n, True) for n in number])
        return self.startup_rows([self.args.decant, "run", "-m", self.model, "-t", self.args.threads, "--raw", "-p", self.args.prompt, "-n", 1,
                                  "--temp", 0, "-c", 512])


class Llama(Program):
    name = "llama.cpp"
    on, off = "on", "off"
    load = []  # flags for the works but start-up

    def __init__(self, args, model, folder):
        super().__init__(args, model, folder)
        self.bin = pathlib.Path(self.programs(args))
        self.fa = {"on": self.on, "off": self.off}.get(args.fa)

    @staticmethod
    def programs(args):
        return args.llama

    def prepare(self):
        """Picks flash attention on or off by the time for 1,024 tokens read and 128 written."""
        if self.fa is None:
            seconds = {fa: 1024 / self.bench("-p", 1024, "-n", 0, "-fa", fa)[0] + 128 / self.bench("-p", 0, "-n", 32, "-fa", fa)[0]
                       for fa in (self.on, self.off)}
            self.fa = min(seconds, key=seconds.get)
        self.flags = " ".join(map(str, ["-t", self.args.threads, *self.bench_load(), "-fa", self.fa]))

    def bench_load(self):
        return self.load

    def bench(self, *flags):
        command = [self.bin / "llama-bench", "-m", self.model, "-t", self.args.threads, *self.bench_load(), "-r", 1, *flags, "-o", "json"]
        results = parsed(run(command, self.folder)[0], "[")
        if results[0]["build_commit"] != "unknown":
            self.build = results[0]["build_commit"]
        return [statistics.median(r["samples_ts"]) for r in results]

    def batched(self, number):
        """llama-batched-bench's tokens per second; the prompts have one token, the table's eighth column is S_TG."""
        out, errors = run([self.bin / "llama-batched-bench", "-m", self.model, "-t", self.args.threads, *self.load, "-fa", self.fa,
                           "-c", number * max(256, self.args.decode + 1), "-npp", 1, "-ntg", self.args.decode, "-npl", number], self.folder)
        for line in (out + errors).splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == 10 and cells[2] == str(number):
                return float(cells[7])
        raise Failure(f"llama-batched-bench: no result for {number} sequences")

    def completion(self, *flags):
        return [self.bin / "llama-completion", "-m", self.model, "-t", self.args.threads, *flags, "-no-cnv", "--no-warmup", "-fa", self.fa,
                "-p", self.args.prompt, "-n", 1, "--temp", 0, "-c", 512]

    def measure(self, work, number):
        if work == "decode":
            return {sequences(1): self.bench("-p", 0, "-n", self.args.decode, "-fa", self.fa)[0]}
        if work == "prefill":
            return {f"prefill {number}": self.bench("-p", number, "-n", 0, "-fa", self.fa)[0]}
        if work == "verify":
            figures = self.bench("-p", ",".join(map(str, number)), "-n", 0, "-r", self.args.verify_repeat, "-fa", self.fa)
            return {step(n): figure for n, figure in zip(number, figures)}
        if work == "batch":
            return {sequences(number): self.batched(number)}
        return self.startup_rows(self.completion())


class Ik(Llama):
    name = "ik_llama.cpp"
    on, off = "1", "0"

    def __init__(self, args, model, folder):
        super().__init__(args, model, folder)
        self.load = ["-rtr"] if args.repack == "on" else []
        self.remark = "; at start-up without `-rtr` where the row does not say repacked" if self.load else ""

    @staticmethod
    def programs(args):
        return args.ik

    def bench_load(self):
        return ["-rtr", "1" if self.load else "0"]

    def completion(self, *flags):
        return [self.bin / "llama-cli", "-m", self.model, "-t", self.args.threads, *flags, "--no-warmup", "-fa", self.fa, "-p", self.args.prompt,
                "-n", 1, "--temp", 0, "-c", 512]

    def measure(self, work, number):
        if work == "startup" and self.load:
            return super().measure(work, number) | self.startup_rows(self.completion(*self.load), ", repacked")
        return super().measure(work, number)


class OpenVino(Program):
    name = "OpenVINO GenAI"

    def __init__(self, args, model, folder):
        super().__init__(args, model, folder)
        self.flags = f"INFERENCE_NUM_THREADS={args.threads}"

    def command(self, *flags):
        script = pathlib.Path(__file__).resolve().with_name("openvino_bench.py")
        return [self.args.openvino, script, "--model", self.model, "--threads", self.args.threads, *flags]

    def bench(self, *flags):
        report = parsed(run(self.command(*flags), self.folder)[0], "{")
        self.build = report["version"]
        return [r["tokens_per_s"] for r in report["results"]]

    def measure(self, work, number):
        if work == "decode" or work == "batch":
            return {sequences(number): self.bench("--decode", self.args.decode, "--batch", number, "--repeat", 1)[0]}
        if work == "prefill":
            return {f"prefill {number}": self.bench("--prefill", number, "--repeat", 1)[0]}
        if work == "verify":
            figures = self.bench("--verify", ",".join(map(str, number)), "--repeat", self.args.verify_repeat)
            return {step(n): figure for n, figure in zip(number, figures)}
        return self.startup_rows(self.command("--first-token", self.args.prompt))


def sequences(n):
    return "decode, 1 sequence" if n == 1 else f"decode, {n} sequences"


def step(n, all_rows=False):
    return f"step over {n} tokens" + (", all logits" if all_rows else "")


def numbers(text):
    return [int(n) for n in text.split(",") if n]


class Comparison:
    """All rounds on one model: figures[program][row] and reasons[program][row or work]."""

    def __init__(self, args, model, folder):
        self.args, self.model = args, os.path.abspath(model)
        kinds = [Decant] + [kind for kind, given in ((Llama, args.llama), (Ik, args.ik), (OpenVino, args.openvino)) if given]
        args.prompt = self.prompt()
        self.programs = [kind(args, self.model, folder) for kind in kinds]
        self.figures = {p.name: {} for p in self.programs}
        self.failures = {p.name: {} for p in self.programs}

    def prompt(self):
        """The longest start of the sentence that has at most five tokens."""
        words = SENTENCE.split()
        for count in range(len(words), 1, -1):
            text = " ".join(words[:count])
            out = run([self.args.decant, "tokenize", "-m", self.model, "--ids", text])[0]
            if len(json.loads(out)) <= 5:
                return text
        return words[0]

    def jobs(self):
        each = {"decode": [1], "prefill": self.args.prefill, "batch": self.args.batch, "verify": [self.args.verify], "startup": [None]}
        return [(work, number) for work in WORKS if work in self.args.works for number in each[work]]

    def say(self, text):
        print(f"{pathlib.Path(self.model).name}: {text}", file=sys.stderr, flush=True)

    def attempt(self, program, work, number, label):
        if (job := job_name(work, number)) in self.failures[program.name]:
            return
        try:
            measured = program.measure(work, number)
        except Failure as failure:
            self.failures[program.name][job] = str(failure)
            self.say(f"{label}, {program.name}: {job} failed: {failure}")
            return
        for row, figure in measured.items():
            self.figures[program.name].setdefault(row, []).append(figure)
        self.say(f"{label}, {program.name}: " + "; ".join(f"{row} {figure:.4g}" for row, figure in measured.items()))

    def prepare(self):
        pathlib.Path(self.model).read_bytes()  # the file cache is warm
        for program in self.programs:
            try:
                program.prepare()
                self.say(f"{program.name} runs with {program.flags}")
            except Failure as failure:
                self.failures[program.name] = {job_name(*job): str(failure) for job in self.jobs()}
                self.say(f"{program.name} failed: {failure}")

    def measure(self):
        self.prepare()
        for i in range(self.args.rounds):
            first = i % len(self.programs)
            for job in self.jobs():
                for program in self.programs[first:] + self.programs[:first]:
                    self.attempt(program, *job, f"round {i + 1} of {self.args.rounds}")

    def report(self):
        """Everything that was measured, as it goes to --json."""
        decant = self.programs[0]
        return {"model": pathlib.Path(self.model).name, "prompt": self.args.prompt, "kernels": decant.kernels,
                "programs": {p.name: {"flags": p.flags, "build": p.build, "figures": self.figures[p.name],
                                      "failures": self.failures[p.name]} for p in self.programs},
                "decant_shares": decant.shares}

    def table(self):
        decant, peers = self.programs[0], self.programs[1:]
        print(f"\n{pathlib.Path(self.model).name} on {processor()}, kernels {decant.kernels or '-'}, threads: {self.args.threads}, "
              f"rounds: {self.args.rounds}, {time.strftime('%Y-%m-%d')}; median (least - greatest), tokens/s where nothing else is said. "
              "Ratios are Decant's median to the peer's; of seconds and MB, less is better.\n")
        for p in self.programs:
            print(f"- {p.name}{f' {p.build}' if p.build else ''}: `{p.flags}`{p.remark}")
        print("\n| work | Decant | of the bandwidth | of the peak |" + "".join(f" {p.name} | ratio |" for p in peers))
        print("| --- | --- | --- | --- |" + " --- | --- |" * len(peers))
        for work, number in self.jobs():
            for row in self.rows(work, number):
                shares = decant.shares.get(row, {})
                cells = [self.cell(decant, work, number, row), *(percent(shares.get(kind)) for kind in ("bandwidth", "peak"))]
                for p in peers:
                    cells += [self.cell(p, work, number, row), self.ratio(p, row)]
                print(f"| {row} | " + " | ".join(cells) + " |")
        self.costs()
        reasons = {}
        for p in self.programs:
            for job, reason in self.failures[p.name].items():
                reasons.setdefault((p.name, reason), []).append(job)
        if reasons:
            print()
        for (name, reason), jobs in reasons.items():
            print(f"- {name} failed ({'; '.join(jobs)}): {reason}")
        sys.stdout.flush()

    def rows(self, work, number):
        if work == "prefill":
            return [f"prefill {number}"]
        if work == "verify":
            return [step(n) for n in number]
        if work == "startup":
            found = [f"{what}{suffix} {unit}" for suffix in ("", ", repacked")
                     for what, unit in (("start to first token", "(s)"), ("its peak memory", "(MB)"))]
            return [row for row in found if ", repacked" not in row or any(row in self.figures[p.name] for p in self.programs)]
        return [sequences(number)]

    def cell(self, program, work, number, row):
        if values := self.figures[program.name].get(row):
            return spread(values)
        return "failed" if job_name(work, number) in self.failures[program.name] else "-"

    def ratio(self, peer, row):
        ours = self.figures["Decant"].get(row) or self.figures["Decant"].get(row.replace(", repacked", ""))
        theirs = self.figures[peer.name].get(row)
        return f"{statistics.median(ours) / statistics.median(theirs):.2f}" if ours and theirs else "-"

    def costs(self):
        """What a step over several tokens costs, in steps over one token of the same program."""
        columns = [(p, all_rows) for p in self.programs for all_rows in ((False, True) if isinstance(p, Decant) else (False,))]
        if "verify" not in self.args.works or "decode" not in self.args.works:
            return
        print("\nCost of one step over N tokens, in decoding steps of the same program (logits of the last row where nothing else is said):\n")
        print("| N |" + "".join(f" {p.name}{', all logits' if all_rows else ''} |" for p, all_rows in columns))
        print("| --- |" + " --- |" * len(columns))
        for n in self.args.verify:
            cells = []
            for p, all_rows in columns:
                single, several = (self.figures[p.name].get(row) for row in (sequences(1), step(n, all_rows)))
                cells.append(f"{n * statistics.median(single) / statistics.median(several):.2f}" if single and several else "-")
            print(f"| {n} | " + " | ".join(cells) + " |")


def job_name(work, number):
    return {"prefill": f"prefill {number}", "verify": "steps over several tokens", "startup": "start-up"}.get(work) or sequences(number)


def spread(values):
    median = f"{statistics.median(values):.4g}"
    return f"{median} ({min(values):.4g} - {max(values):.4g})" if len(values) > 1 else median


def percent(shares):
    return f"{statistics.median(shares) * 100:.0f} %" if shares else "-"


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def there(parser, option, given, default, inside):
    """The absolute path of a peer, or None; an explicit one has to exist. Links stay: a virtual environment's Python is one."""
    if given == "none" or (given is None and not pathlib.Path(default, inside).exists()):
        return None
    path = os.path.abspath(given or default)
    if not pathlib.Path(path, inside).exists():
        parser.error(f"{option}: there is no {pathlib.Path(path, inside)}; bench/peers/setup.sh makes it")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="GGUF file; repeatable")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--llama", metavar="DIR", help="folder of llama.cpp's programs (default: build/peers/llama.cpp/build/bin)")
    parser.add_argument("--ik", metavar="DIR", help="folder of ik_llama.cpp's programs (default: build/peers/ik_llama.cpp/build/bin)")
    parser.add_argument("--openvino", metavar="PYTHON", help="Python that has openvino_genai (default: build/peers/venv/bin/python)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--decode", type=int, default=128, help="tokens to decode (default: 128)")
    parser.add_argument("--prefill", type=numbers, default=[512, 4096], help="prompt lengths (default: 512,4096)")
    parser.add_argument("--batch", type=numbers, default=[8, 32], help="numbers of sequences (default: 8,32)")
    parser.add_argument("--verify", type=numbers, default=[4, 8, 16, 32], help="tokens of a step (default: 4,8,16,32)")
    parser.add_argument("--verify-repeat", type=int, default=15, help="measurements of each such step in a round; their median counts (default: 15)")
    parser.add_argument("--fa", choices=("auto", "on", "off"), default="auto", help="flash attention of llama.cpp and ik_llama.cpp (default: auto)")
    parser.add_argument("--repack", choices=("on", "off"), default="on", help="run-time repacking of ik_llama.cpp (-rtr; default: on)")
    parser.add_argument("--works", default=list(WORKS), type=lambda text: text.split(","), help=f"some of {','.join(WORKS)} (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write every round's figures to FILE")
    args = parser.parse_args()
    if unknown := set(args.works) - set(WORKS):
        parser.error(f"--works: unknown {', '.join(sorted(unknown))}; there are {', '.join(WORKS)}")
    if args.rounds < 1:
        parser.error("--rounds: at least 1")
    args.decant = os.path.abspath(args.decant)
    args.llama = there(parser, "--llama", args.llama, "build/peers/llama.cpp/build/bin", "llama-bench")
    args.ik = there(parser, "--ik", args.ik, "build/peers/ik_llama.cpp/build/bin", "llama-bench")
    args.openvino = there(parser, "--openvino", args.openvino, "build/peers/venv/bin/python", "")
    busy = os.getloadavg()[0]
    if busy > 0.5:
        print(f"compare.py: the machine is busy (load {busy:.1f}); programs whose threads wait actively suffer most, so the ratios mislead",
              file=sys.stderr)
    report = {"date": time.strftime("%Y-%m-%d"), "processor": processor(), "load_before": busy, "threads": args.threads,
              "rounds": args.rounds, "models": []}
    with tempfile.TemporaryDirectory() as folder:
        for model in args.model:
            try:
                comparison = Comparison(args, model, folder)
            except Failure as failure:
                sys.exit(f"compare.py: {failure}")
            comparison.measure()
            comparison.table()
            report["models"].append(comparison.report())
            if args.json:  # after each model, so that an interrupted run leaves what it has
                pathlib.Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
