#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Measures OpenVINO GenAI on a GGUF file, for compare.py; needs the Python of the virtual environment that setup.sh makes.

  build/peers/venv/bin/python bench/peers/openvino_bench.py --model smollm2.gguf --prefill 512 --decode 128 --batch 1,8 --verify 4,8
  build/peers/venv/bin/python bench/peers/openvino_bench.py --model smollm2.gguf --first-token "The quick brown fox"

Prompts are random tokens, others each time, so that no cached prefix is found. The times are those of the inference alone, without
drawing tokens. Each work is run once to warm up (decoding: two tokens) and then --repeat times; the median counts. Prints JSON.
"""
import argparse
import json
import statistics
import sys


def numbers(text):
    return [int(n) for n in text.split(",") if n]


class Bench:
    def __init__(self, args):
        import numpy
        import openvino
        import openvino_genai
        self.numpy, self.openvino, self.genai = numpy, openvino, openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(args.model, "CPU", INFERENCE_NUM_THREADS=args.threads)
        self.repeat = args.repeat

    def first_token(self, text):
        self.pipeline.generate(text, apply_chat_template=False, do_sample=False, max_new_tokens=1)

    def steps(self, sequences, prompt, tokens):
        """Seconds of each of the steps in which fresh prompts are read and as many tokens are written."""
        vocabulary = len(self.pipeline.get_tokenizer().get_vocab())
        ids = self.numpy.random.default_rng().integers(vocabulary, size=(sequences, prompt), dtype=self.numpy.int64)
        inputs = self.genai.TokenizedInputs(self.openvino.Tensor(ids), self.openvino.Tensor(self.numpy.ones_like(ids)))
        result = self.pipeline.generate(inputs, self.genai.GenerationConfig(max_new_tokens=tokens, ignore_eos=True, do_sample=False))
        seconds = [s / 1e6 for s in result.perf_metrics.raw_metrics.token_infer_durations]
        if len(seconds) != tokens:
            raise RuntimeError(f"{len(seconds)} steps instead of {tokens}")
        return seconds

    def prefill(self, tokens):
        self.steps(1, tokens, 1)
        return statistics.median(tokens / self.steps(1, tokens, 1)[0] for _ in range(self.repeat))

    def decode(self, sequences, tokens):
        self.steps(sequences, 1, 3)
        return statistics.median(sequences * tokens / sum(self.steps(sequences, 1, tokens + 1)[1:]) for _ in range(self.repeat))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="GGUF file")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--prefill", type=numbers, default=[], help="process prompts of these lengths")
    parser.add_argument("--decode", type=int, default=0, help="decode so many tokens, one at a time")
    parser.add_argument("--batch", type=numbers, default=[1], help="numbers of sequences that decode side by side (default: 1)")
    parser.add_argument("--verify", type=numbers, default=[], help="steps over these numbers of tokens")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--first-token", metavar="TEXT", help="instead: complete the text by one token and end")
    args = parser.parse_args()
    try:
        bench = Bench(args)
        if args.first_token is not None:
            bench.first_token(args.first_token)
            return
        works = [(f"prefill {n}", lambda n=n: bench.prefill(n)) for n in args.prefill]
        works += [(f"decode {args.decode} x {n}", lambda n=n: bench.decode(n, args.decode)) for n in args.batch if args.decode]
        works += [(f"verify {n}", lambda n=n: bench.prefill(n)) for n in args.verify]
        results = [{"work": name, "tokens_per_s": work()} for name, work in works]
    except (ImportError, RuntimeError) as error:  # the last line is the one that says what is wrong
        sys.exit(f"openvino_bench.py: {str(error).strip().splitlines()[-1]}")
    print(json.dumps({"version": bench.genai.__version__, "results": results}))


if __name__ == "__main__":
    main()
