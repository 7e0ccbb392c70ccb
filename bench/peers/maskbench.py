#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""MaskBench with Decant, llguidance, XGrammar and outlines-core: same schemas, vocabulary and tokens, in one run, one thread each.

  bench/peers/maskbench.py -m smollm2.gguf --data DIR [--every 25] [--peers llguidance,xgrammar,outlines] [--limit 60] [--out FILE]

`decant eval maskbench --samples` writes the vocabulary, each schema and the tokens of its instances; the peers get these. For each schema:
compile, then for each token a mask and an advance, until a token is refused. All times are CPU time: of the thread for masks, of the whole
process for compiling (a peer may start threads). A peer works in a process of its own, which is ended when a schema takes longer than
--limit seconds or more than --memory GB; the schema then counts as not handled, and the limit as its time to compile.

Verdicts: `passing` as the benchmark has it (a valid instance's tokens are all allowed, an invalid one's are not); `strict` also looks at
whether the text may end. Peers get their defaults (XGrammar's cache over schemas among them) but for what the instances need: XGrammar
strict_mode=False, llguidance its slices for JSON.
The Python packages come from bench/peers/setup.sh --only structured; run this with its Python.
"""
import argparse
import json
import pathlib
import resource
import selectors
import subprocess
import sys
import tempfile
import time

ENGINES = ("llguidance", "xgrammar", "outlines")


# --- Peers, each in a process of its own -----------------------------------------------------------------------------------------------


class Refused(Exception):
    pass


def new_mask(vocabulary):
    """A row of 32-bit words, and a view of them whose elements are read without numpy's overhead."""
    import numpy
    mask = numpy.zeros((1, (len(vocabulary) + 31) // 32), dtype=numpy.int32)
    return mask, memoryview(mask[0])


class Nothing:
    """Allows everything: what the measuring itself costs."""

    def __init__(self, vocabulary, end_tokens, model):
        _, self.words = new_mask(vocabulary)
        self.words[:] = memoryview(bytes(b"\xff" * self.words.nbytes)).cast("i")
        self.version = ""

    def compile(self, schema):
        return None

    def start(self, compiled):
        return None

    def masked(self, state):
        return self.words

    def advance(self, state, token):
        return True

    def failure(self, state):
        return ""

    def whole(self, state):
        return True


class Llguidance:
    def __init__(self, vocabulary, end_tokens, model):
        # It tokenizes what its grammar forces and then allows that token alone, so it needs the very tokenizer.
        import llguidance
        import transformers
        path = pathlib.Path(model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        with tempfile.TemporaryDirectory(prefix="decant-maskbench-") as folder:
            file = pathlib.Path(folder, "tokenizer.json")
            file.write_text(tokenizer.backend_tokenizer.to_str())
            self.tokenizer = llguidance.LLTokenizer(str(file), n_vocab=len(vocabulary), eos_token=end_tokens,
                                                    slices=llguidance.LLTokenizer.json_slices())
        # The byte FF, which no text has, marks special tokens there.
        differing = [i for i, v in enumerate(vocabulary) if v and v[0] != 0xFF and self.tokenizer.decode_bytes([i]) != v]
        if differing:
            raise SystemExit(f"{len(differing)} tokens differ, the first is {differing[0]}")
        self.lib = llguidance
        self.mask, self.words = new_mask(vocabulary)
        self.place, self.size = self.mask.ctypes.data, self.mask.nbytes
        self.version = version_of("llguidance")

    def compile(self, schema):
        grammar = self.lib.LLMatcher.grammar_from_json_schema(schema)
        matcher = self.lib.LLMatcher(self.tokenizer, grammar, log_level=0)
        if matcher.is_error():
            raise Refused(matcher.get_error())
        return matcher

    def start(self, compiled):
        compiled.reset()  # keeps what it has learnt, as a copy would not
        return compiled

    def masked(self, matcher):
        matcher.unsafe_compute_mask_ptr(self.place, self.size)
        return self.words

    def advance(self, matcher, token):
        return matcher.consume_token(token)

    def failure(self, matcher):
        return matcher.get_error() if matcher.is_error() else ""

    def whole(self, matcher):
        return matcher.is_accepting()


class Xgrammar:
    def __init__(self, vocabulary, end_tokens, model):
        import xgrammar
        self.lib = xgrammar
        self.end = end_tokens[0]
        info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=end_tokens)
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1)
        self.mask, self.words = new_mask(vocabulary)
        self.version = version_of("xgrammar")

    def compile(self, schema):
        return self.compiler.compile_json_schema(schema, strict_mode=False)

    def start(self, compiled):
        return self.lib.GrammarMatcher(compiled)

    def masked(self, matcher):
        if not matcher.fill_next_token_bitmask(self.mask):
            self.mask.fill(-1)
        return self.words

    def advance(self, matcher, token):
        return matcher.accept_token(token)

    def failure(self, matcher):
        return ""

    def whole(self, matcher):
        words = self.masked(matcher)
        return bool(words[self.end >> 5] >> (self.end & 31) & 1)


class Outlines:
    def __init__(self, vocabulary, end_tokens, model):
        from outlines_core import Guide, Index, Vocabulary
        from outlines_core.json_schema import build_regex_from_schema
        self.Guide, self.Index, self.regex = Guide, Index, build_regex_from_schema
        words = {}
        for i, v in enumerate(vocabulary):
            if v and i != end_tokens[0]:
                words.setdefault(v, []).append(i)
        self.vocabulary, self.end = Vocabulary(end_tokens[0], words), end_tokens[0]
        self.mask, self.words = new_mask(vocabulary)
        self.place, self.size = self.mask.ctypes.data, self.mask.size
        self.version = version_of("outlines_core")

    def compile(self, schema):
        return self.Index(self.regex(schema), self.vocabulary)

    def start(self, compiled):
        return self.Guide(compiled)

    def masked(self, guide):
        guide.write_mask_into(self.place, self.size, 4)
        return self.words

    def advance(self, guide, token):
        try:
            guide.advance(token, False)
            return True
        except Exception:
            return False

    def failure(self, guide):
        return ""

    def whole(self, guide):
        words = self.masked(guide)
        return guide.is_finished() or bool(words[self.end >> 5] >> (self.end & 31) & 1)


def version_of(package):
    from importlib.metadata import version
    return version(package)


def work(name, samples, model, memory_gb):
    """Reads numbers of lines from stdin, answers each with a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_gb << 30, memory_gb << 30))
    with open(samples) as file:
        head = json.loads(file.readline())
        vocabulary = [bytes.fromhex(h) for h in head["vocabulary"]]
        engine = {"nothing": Nothing, "llguidance": Llguidance, "xgrammar": Xgrammar, "outlines": Outlines}[name](vocabulary, head["end_tokens"], model)
        print(json.dumps({"version": engine.version}), flush=True)
        lines = file.readlines()
    for request in sys.stdin:
        print(json.dumps(one_schema(engine, json.loads(lines[int(request)]))), flush=True)


def one_schema(engine, schema):
    result = {"refused": None, "instances": []}
    begin = time.process_time_ns()
    try:
        compiled = engine.compile(schema["schema"])
        result["compile_us"] = (time.process_time_ns() - begin) / 1e3
        engine.masked(engine.start(compiled))
    except Exception as error:
        result["refused"] = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        result["first_mask_us"] = result["compile_us"] = (time.process_time_ns() - begin) / 1e3
        return result
    result["first_mask_us"] = (time.process_time_ns() - begin) / 1e3
    for instance in schema["instances"]:
        state = engine.start(compiled)
        taken, times = True, []
        for token in instance["tokens"]:
            t0 = time.thread_time_ns()
            words = engine.masked(state)
            taken = bool(words[token >> 5] >> (token & 31) & 1) and engine.advance(state, token)
            times.append((time.thread_time_ns() - t0) / 1e3)
            if not taken:
                break
        if error := engine.failure(state):
            result["refused"] = error.strip().splitlines()[0][:200]
            return result
        result["instances"].append({"taken": taken, "whole": taken and engine.whole(state), "mask_us": times})
    return result


class Peer:
    def __init__(self, name, samples, model, limit, memory_gb):
        self.name, self.samples, self.model, self.limit, self.memory = name, samples, model, limit, memory_gb
        self.process = None

    def start(self):
        command = [sys.executable, __file__, "--work", self.name, "--samples", str(self.samples), "-m", self.model, "--memory", str(self.memory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        hello = self.read(300)
        if hello is None:
            sys.exit(f"maskbench.py: {self.name} does not start: is it installed? bench/peers/setup.sh --only structured")
        self.version = hello["version"]

    def read(self, seconds):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def ask(self, number):
        if self.process is None:
            self.start()
        begin = time.monotonic()
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        result = self.read(self.limit)
        if result is None:
            timeout = time.monotonic() - begin >= self.limit
            self.stop()
            us = self.limit * 1e6
            result = {"refused": "time limit" if timeout else "crash or memory limit", "compile_us": us, "first_mask_us": us, "instances": []}
        return result

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


# --- Summaries -------------------------------------------------------------------------------------------------------------------------


def percentiles(values):
    values = sorted(values)
    if not values:
        return None
    at = [values[min(len(values) - 1, int(len(values) * p))] for p in (0.5, 0.9, 0.99, 0.999)]
    return [sum(values) / len(values), *at, values[-1]]


def shown(x):
    return f"{x:,.1f}" if x < 100 else f"{x:,.0f}"


HEAD = "| us | engine | n | mean | p50 | p90 | p99 | p99.9 | max |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"


def row(what, engine, values, against=None):
    p = percentiles(values)
    if p is None:
        return f"| {what} | {engine} | 0 | | | | | | |"
    cells = [shown(x) for x in p]
    if against:
        cells = [f"{c} ({x / y:.1f}x)" for c, x, y in zip(cells, p, percentiles(against))]
    return f"| {what} | {engine} | {len(values):,} | " + " | ".join(cells) + " |"


def verdicts(schemas, results):
    counts = {"passing": 0, "strict": 0, "refused": 0, "limit": 0, "valid_rejected": 0, "invalid_accepted": 0}
    for schema, result in zip(schemas, results):
        if result["refused"]:
            counts["limit" if "limit" in result["refused"] else "refused"] += 1
            continue
        wrong = [s["valid"] != r["taken"] for s, r in zip(schema["instances"], result["instances"])]
        strict = [s["valid"] != r["whole"] for s, r in zip(schema["instances"], result["instances"])]
        counts["passing"] += not any(wrong)
        counts["strict"] += not any(strict)
        counts["valid_rejected"] += sum(w for w, s in zip(strict, schema["instances"]) if s["valid"])
        counts["invalid_accepted"] += sum(w for w, s in zip(strict, schema["instances"]) if not s["valid"])
    return counts


def masks(result):
    return [t for instance in result["instances"] for t in instance["mask_us"]]


def common_masks(ours, theirs):
    """Of the tokens that both took."""
    a, b = [], []
    for x, y in zip(ours["instances"], theirs["instances"]):
        n = min(len(x["mask_us"]), len(y["mask_us"]))
        a += x["mask_us"][:n]
        b += y["mask_us"][:n]
    return a, b


def summary(schemas, results, versions, overhead):
    cost = sorted(t for x in overhead for t in masks(x))
    lines = [f"{len(schemas):,} schemas, {sum(len(s['instances']) for s in schemas):,} instances. A peer that did nothing would take "
             f"{cost[len(cost) // 2]:.1f} us for a mask and an advance here: so much is the measuring.", "",
             "| | passing | strictly | refused | over the limit | valid rejected | invalid accepted |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for name, r in results.items():
        c = verdicts(schemas, r)
        lines.append(f"| {name} {versions.get(name, '')} | {c['passing']:,} ({100 * c['passing'] / len(schemas):.1f} %) | {c['strict']:,} | "
                     f"{c['refused']:,} | {c['limit']:,} | {c['valid_rejected']:,} | {c['invalid_accepted']:,} |")
    lines += ["", "All that each one handles:", "", HEAD]
    for what, key in (("compile", "compile_us"), ("compile and first mask", "first_mask_us")):
        for name, r in results.items():
            lines.append(row(what, name, [x[key] for x in r if not x["refused"] or "limit" in x["refused"]]))
    for name, r in results.items():
        lines.append(row("mask and advance", name, [t for x in r if not x["refused"] for t in masks(x)]))
    ours = results["decant"]
    for name, r in results.items():
        if name == "decant":
            continue
        both = [(a, b) for a, b in zip(ours, r) if not a["refused"] and not b["refused"]]
        lines += ["", f"The {len(both):,} schemas that Decant and {name} handle, tokens that both took; in brackets how many times Decant's:", "", HEAD]
        for what, key in (("compile", "compile_us"), ("compile and first mask", "first_mask_us")):
            mine, theirs = [a[key] for a, _ in both], [b[key] for _, b in both]
            lines += [row(what, "decant", mine), row(what, name, theirs, mine)]
        pairs = [common_masks(a, b) for a, b in both]
        mine, theirs = [t for a, _ in pairs for t in a], [t for _, b in pairs for t in b]
        lines += [row("mask and advance", "decant", mine), row("mask and advance", name, theirs, mine)]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", help="GGUF file whose vocabulary is used")
    parser.add_argument("--data", help="MaskBench's folder")
    parser.add_argument("--every", default="25", help="take each n-th schema")
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--peers", default="llguidance,xgrammar", help="comma-separated: " + ", ".join(ENGINES))
    parser.add_argument("--limit", type=float, default=60, help="seconds a schema")
    parser.add_argument("--memory", type=int, default=8, help="GB a peer")
    parser.add_argument("--out", help="also write each engine's results, one JSON a line")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--samples", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        return work(args.work, args.samples, args.model, args.memory)
    if not args.model or not args.data:
        parser.error("give -m and --data")
    peers = [p for p in args.peers.split(",") if p]
    if unknown := [p for p in peers if p not in ENGINES]:
        parser.error(f"--peers: {unknown[0]} is none of {', '.join(ENGINES)}")
    with tempfile.TemporaryDirectory(prefix="decant-maskbench-") as folder:
        samples = pathlib.Path(folder, "samples.jsonl")
        command = [args.decant, "eval", "maskbench", "-m", args.model, "--data", args.data, "--every", args.every, "--samples", samples]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"maskbench.py: decant: {done.stderr.strip()}")
        with open(samples) as file:
            file.readline()
            schemas = [json.loads(line) for line in file]
        results, versions = {"decant": schemas}, {}
        for name in ["nothing", *peers]:
            peer = Peer(name, samples, args.model, args.limit, args.memory)
            results[name] = []
            for i in range(len(schemas)):
                results[name].append(peer.ask(i))
                if sys.stderr.isatty():
                    print(f"\r{name}: {i + 1} of {len(schemas)}", end="", file=sys.stderr)
            peer.stop()
            versions[name] = peer.version
            if sys.stderr.isatty():
                print(file=sys.stderr)
        overhead = results.pop("nothing")
        if args.out:
            with open(args.out, "w") as file:
                for name, r in results.items():
                    for schema, one in zip(schemas, r):
                        print(json.dumps({"engine": name, "id": schema["id"], **{k: v for k, v in one.items() if k not in ("id", "schema")}}), file=file)
        print(summary(schemas, results, versions, overhead))


if __name__ == "__main__":
    main()
