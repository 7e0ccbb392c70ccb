#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Compares Decant's tokens with those of Hugging Face's tokenizers library, id by id.

  pip install tokenizers gguf numpy
  bench/peers/hf_tokenize_parity.py [--decant PROGRAM] [--bytes 1000000] [--seed 1] NAME=SOURCE...

SOURCE is a folder with a tokenizer.json (or vocab.json and merges.txt), a tokenizer.json, or KIND:FILE.gguf, which builds a
tokenizer.json from the vocabulary of a GGUF file as the family's own is built. KIND: gpt2, opt (vocab.json and merges.txt, with a
beginning token), llama3, qwen2, smollm, llama2 (Prepend and Replace), mistral (Metaspace, first), phi3 (llama2 whose added tokens
strip white space behind them), gemma; o200k (GPT-4o, Phi-4 mini) and tekken (Mistral Nemo) split words of any byte-level vocabulary as
these families do. For each, one text of the given size is made of source code and prose of this repository,
of many scripts, numbers, runs of white space, emoji, combining marks, random code points (those that Python's Unicode assigns, since
versions differ about newer ones; not U+2581, which Decant keeps as that character) and written-out special tokens. Prints a Markdown table; exit code 1 if any differs.
"""
import argparse
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPACE = "\u2581"
WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|\p{{N}}%s| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|"
         r"\s*[\r\n]+|\s+(?!\S)|\s+")
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
SCRIPTS = [(0x20, 0x7e), (0xa0, 0x17f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff), (0x600, 0x6ff), (0x900, 0x97f),
           (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff), (0x2000, 0x206f), (0x2100, 0x214f), (0x3000, 0x30ff), (0x4e00, 0x9fff),
           (0xac00, 0xd7a3), (0xff00, 0xffef), (0x1f300, 0x1faff), (0x20000, 0x2a6df)]


def read_gguf(path):
    import gguf
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else None
    return {key: get(key) for key in ("tokens", "token_type", "merges", "scores", "bos_token_id", "unknown_token_id")}


def spm_merges(tokens, scores, kinds):
    """Every pair of pieces that makes a piece, the likelier piece first: as transformers' converter lists them."""
    normal = {t: i for i, t in enumerate(tokens) if kinds[i] in (1, 4, 5)}
    merges = []
    for piece, i in normal.items():
        if kinds[i] != 1:
            continue
        local = [(piece[:k], piece[k:]) for k in range(1, len(piece)) if piece[:k] in normal and piece[k:] in normal]
        local.sort(key=lambda pair: (normal[pair[0]], normal[pair[1]]))
        merges += [(scores[i], pair) for pair in local]
    merges.sort(key=lambda m: m[0], reverse=True)
    return [list(pair) for _, pair in merges]


def build(kind, path):
    v = read_gguf(path)
    tokens, kinds = v["tokens"], v["token_type"] or [1] * len(v["tokens"])
    spm = kind in ("llama2", "mistral", "phi3", "gemma")
    added = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": kind == "phi3" and kinds[i] == 3 and t[:2] == "<|",
              "normalized": False, "special": kinds[i] in (2, 3) or t == "</s>"} for i, t in enumerate(tokens) if kinds[i] in (2, 3, 4) and t]
    merges = spm_merges(tokens, v["scores"], kinds) if spm else v["merges"]
    vocab = {t: i for i, t in enumerate(tokens) if spm or kinds[i] in (1, 5) or (kinds[i] == 3 and kind in ("gpt2", "opt", "smollm", "o200k", "tekken"))}
    model = {"type": "BPE", "dropout": None, "unk_token": tokens[v["unknown_token_id"]] if spm else None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": spm, "byte_fallback": spm, "ignore_merges": kind in ("llama3", "tekken"), "vocab": vocab,
             "merges": merges}
    split = lambda regex: {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    normalizer = {"qwen2": {"type": "NFC"}, "gemma": replace,
                  "llama2": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}}
    normalizer["phi3"] = normalizer["llama2"]
    pre = {"gpt2": byte_level, "opt": byte_level, "llama3": split(WORDS % "{1,3}"), "qwen2": split(WORDS % ""),
           "o200k": split(CASED % (CONTRACTIONS, CONTRACTIONS, "{1,3}")), "tekken": split(CASED % ("", "", "")),
           "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]},
           "mistral": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False},
           "gemma": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}}
    bos = v["bos_token_id"]
    post = None
    if kind in ("llama3", "llama2", "mistral", "gemma", "opt"):
        item = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
        post = {"type": "TemplateProcessing", "single": [item, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [item, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer.get(kind),
            "pre_tokenizer": pre.get(kind), "post_processor": post, "decoder": None, "model": model}


def make_text(size, specials, seed):
    r = random.Random(seed)
    sources = []
    for folder, _, files in os.walk(ROOT):
        if any(part in folder for part in ("/build", "/.git", "/.gpu")):
            continue
        for name in sorted(files):
            if name.endswith((".md", ".cc", ".h", ".py")):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    sources.append(f.read())
    parts, total = [], 0
    while total < size:
        kind = r.randrange(10)
        if kind < 3:
            text = r.choice(sources)
            begin = r.randrange(max(1, len(text) - 400))
            part = text[begin:begin + r.randrange(1, 400)]
        elif kind == 3:
            low, high = r.choice(SCRIPTS)
            part = "".join((lambda c: c if unicodedata.category(c) != "Cn" else "x")(chr(r.randint(low, high))) + (" " if r.random() < 0.15 else "") for _ in range(r.randrange(1, 60)))
        elif kind == 4:
            part = r.choice([" ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "  ", "\v"]) * r.randrange(1, 40)
        elif kind == 5:
            part = "".join(r.choice("0123456789.,- \u0663\u00bd\u2167") for _ in range(r.randrange(1, 30)))
        elif kind == 6:
            part = "".join(r.choice(["\U0001f469\u200d\U0001f4bb", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "e\u0301", "\u1112\u1161\u11ab",
                                     "n\u0303\u0323", "\u212b", "\ufb01", "I'LL", "don't", "we've", "'S", "\u2019s", "x_y"]) + r.choice(["", " "])
                           for _ in range(r.randrange(1, 20)))
        elif kind == 7:
            part = "".join(chr(c) for c in (r.randrange(0x110000) for _ in range(r.randrange(1, 20)))
                           if unicodedata.category(chr(c)) not in ("Cn", "Cs") and c != 0x2581)
        elif kind == 8 and specials:
            part = r.choice(["", " ", "  ", "a", "\n", " \n "]) + r.choice(specials) + r.choice(["", " ", "  ", "b", "\n", " \n x"])
        else:
            part = r.choice(sources)[:r.randrange(1, 60)].swapcase()
        part = part.replace(SPACE, "")
        parts.append(part)
        total += len(part.encode("utf-8"))
    return "".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="NAME=SOURCE")
    parser.add_argument("--decant", default=os.path.join(ROOT, "build", "release", "bin", "decant"))
    parser.add_argument("--bytes", type=int, default=1000000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import tokenizers

    print(f"tokenizers {tokenizers.__version__}\n\n| family | vocabulary | bytes | tokens | special tokens | without | ")
    print("| --- | --- | --- | --- | --- | --- |")
    failed = False
    for entry in options.sources:
        name, source = entry.split("=", 1)
        with tempfile.TemporaryDirectory() as folder:
            kind = None
            if ":" in source and source.endswith(".gguf"):
                kind, path = source.split(":", 1)
                built = build(kind, path)
            else:
                path = source if source.endswith(".json") else os.path.join(source, "tokenizer.json")
                with open(path, encoding="utf-8") as f:
                    built = json.load(f)
            path = os.path.join(folder, "tokenizer.json")
            with open(path, "w", encoding="utf-8") as f:
                json.dump(built, f)
            reference = tokenizers.Tokenizer.from_file(path)
            if kind == "opt":  # what such a checkpoint has instead
                os.remove(path)
                with open(os.path.join(folder, "vocab.json"), "w") as f:
                    json.dump(built["model"]["vocab"], f)
                with open(os.path.join(folder, "merges.txt"), "w") as f:
                    f.write("#version: 0.2\n" + "\n".join(built["model"]["merges"]) + "\n")
                special = built["post_processor"]["single"][0]["SpecialToken"]["id"]
                with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
                    json.dump({"add_bos_token": True, "bos_token": special, "eos_token": special, "unk_token": special}, f)
            rows = reference.get_vocab_size()
            rows = max(rows, max(reference.get_vocab().values()) + 1)
            with open(os.path.join(folder, "config.json"), "w") as f:
                json.dump({"architectures": ["LlamaForCausalLM"], "hidden_size": 16, "num_attention_heads": 1, "num_hidden_layers": 1,
                           "max_position_embeddings": 16, "intermediate_size": 16}, f)
            header = json.dumps({"model.embed_tokens.weight": {"dtype": "F16", "shape": [rows, 16], "data_offsets": [0, rows * 32]}}).encode()
            with open(os.path.join(folder, "model.safetensors"), "wb") as f:
                f.write(struct.pack("<Q", len(header)) + header + bytes(rows * 32))
            text = make_text(options.bytes, [t.content for t in reference.get_added_tokens_decoder().values() if SPACE not in t.content],
                             options.seed)
            text_path = os.path.join(folder, "text")
            with open(text_path, "w", encoding="utf-8", newline="") as f:
                f.write(text)
            verdicts, count = [], 0
            for plain in (False, True):
                reference.encode_special_tokens = plain
                want = reference.encode(text, add_special_tokens=True).ids
                run = subprocess.run([options.decant, "tokenize", "-m", folder, "--ids", "-f", text_path] +
                                     (["--no-parse-special"] if plain else []), capture_output=True, text=True)
                if run.returncode != 0:
                    sys.exit(f"{name}: {run.stderr.strip()}")
                got = json.loads(run.stdout)
                count = count or len(want)
                if got == want:
                    verdicts.append("equal")
                    continue
                at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
                failed = True
                verdicts.append(f"differs from token {at} on")
                show = lambda ids: [reference.id_to_token(i) for i in ids[max(0, at - 3):at + 5]]
                print(f"{name}: Decant {show(got)}\n{' ' * len(name)}  expected {show(want)}", file=sys.stderr)
            print(f"| {name} | {rows:,} | {len(text.encode('utf-8')):,} | {count:,} | {verdicts[0]} | {verdicts[1]} |", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
