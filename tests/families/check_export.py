#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Checks with transformers that checkpoints which Decant writes are what it says: every fixture goes to GGUF and back
(`decant convert` twice), and transformers computes the same logits with the result; real models given by --model have their
tokenizers compared on a text.

  pip install torch transformers
  tests/families/check_export.py [--decant build/release/bin/decant] [--model smollm2 --text README.md]...
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


def convert(decant, source, target, *options):
    done = subprocess.run([decant, "convert", source, target, *options], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())


def check_family(decant, name, scratch):
    folder = os.path.join(HERE, name)
    gguf, exported = os.path.join(scratch, name + ".gguf"), os.path.join(scratch, name)
    convert(decant, folder, gguf)
    convert(decant, gguf, exported)
    with open(os.path.join(folder, "expected.json")) as f:
        tokens = json.load(f)["tokens"]
    both = []
    for path in (folder, exported):
        model, info = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64, attn_implementation="eager",
                                                           experts_implementation="eager", output_loading_info=True)
        if info["missing_keys"] or info["unexpected_keys"]:
            raise RuntimeError(f"missing {sorted(info['missing_keys'])}, unexpected {sorted(info['unexpected_keys'])}")
        with torch.no_grad():
            both.append(model.eval()(torch.tensor([tokens])).logits[0])
    return ((both[0] - both[1]).abs().max() / both[0].abs().max()).item()


def check_tokenizer(decant, model, text, scratch):
    exported = os.path.join(scratch, os.path.basename(model) + "_exported")
    convert(decant, model, exported)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    differing = 0
    paragraphs = [p for p in text.split("\n\n") if p]
    for paragraph in paragraphs:
        ours = subprocess.run([decant, "tokenize", "-m", model, "--ids", "--stdin"], input=paragraph, text=True,
                              capture_output=True, check=True).stdout.replace(",", " ").strip("[] \n").split()
        theirs = tokenizer(paragraph)["input_ids"]
        differing += [int(t) for t in ours] != theirs
    return differing, len(paragraphs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decant", default="build/release/bin/decant")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--text", default="README.md")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(n for n in os.listdir(HERE) if os.path.isfile(os.path.join(HERE, n, "expected.json"))):
            try:
                error = check_family(options.decant, name, scratch)
            except Exception as e:  # noqa: BLE001: whatever a checkpoint makes transformers raise is the finding
                error = f"{type(e).__name__}: {e}"
            good = isinstance(error, float) and error < 1e-5
            failed += not good
            print(f"{name:20} {error if isinstance(error, str) else f'{error:.1e}'}{'' if good else '  FAILED'}", flush=True)
        with open(options.text) as f:
            text = f.read()
        for model in options.model:
            differing, total = check_tokenizer(options.decant, model, text, scratch)
            failed += differing > 0
            print(f"{model}: {differing} of {total} paragraphs have other tokens")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
