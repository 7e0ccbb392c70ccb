#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Compares `decant tokenize` with llama.cpp's llama-tokenize, token for token, on a mixed text.

The text is made from a seed: natural text of --data (any .jsonl, .txt, .json or .md files below it) where given, and generated
English, CJK, Arabic, Devanagari, code, emoji, control characters, runs of spaces and lines, numbers, special tokens written
out, and invalid UTF-8. llama-tokenize stops at some invalid bytes; these texts are cut out one by one and counted.

  bench/peers/tokenize_parity.py --decant build/release/bin/decant --llama DIR/bin/llama-tokenize \
      --model smollm2.gguf --model gemma3.gguf [--data DIR] [--bytes 1200000] [--seed 1]
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ENGLISH = ("the of and to in that it was for on are as with his they at be this from I have or by one had not but what all were "
           "when we there can an your which their said if do will each about how up out them then she many some so these would "
           "other into has more her two like him see time could no make than first been its who now people my made over did "
           "down only way find use may water long little very after words called just where most know don't it's we've I'll "
           "you're they'd O'Neill's rock'n'roll CAN'T").split()
CODE = ["def f(x):\n    return x ** 2\n", "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i];\n\t}\n", "#include <vector>\n",
        "SELECT * FROM t WHERE a >= 10 AND b != 'x';\n", "x = {'a': [1, 2.5e-3], \"b\": None}\n", "<div class=\"a b\">&nbsp;</div>\r\n",
        "\\frac{1}{2} \\sum_{i=0}^{n}", "if (a && b || !c) { return ~x ^ y; }", "0xDEADBEEF 0b1010 1_000_000 3.14159 1e-10",
        "https://example.org/path?q=1&r=%20#frag user@example.org"]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused3>",
           "<table>", "<pad>", "</s>", "<unk>", "<0x41>", "<repo_name>", "<|im_start|", "<|im_<|im_end|>", "<h1>", "</strong>",
           "[multimodal]", "<jupyter_code>", "<mask>", "<start_of_image>"]
EMOJI = ["😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "👍🏽", "❤️", "☃", "🧑🏿‍💻", "♞", "1️⃣"]
MISC = ["é", "e\u0301", "ﬀ", "İ", "ß", "ǅ", "½", "Ⅷ", "²", "٣", "१२३", "฿", "№", "…", "—", "\u00a0", "\u2003", "\u3000", "\u200b",
        "\u200d", "\ufeff", "\u2028", "\u0085", "\u1680", "\u202f", "▁", "▁▁▁", "Ġ", "Ċ", "č", "\ud7ff", "\ue000", "\U0010ffff", "𝒜", "𐍈", "한국어", "ไทย"]


def text_range(rng, first, last, n):
    return "".join(chr(rng.randint(first, last)) for _ in range(n))


def valid_piece(rng):
    kind = rng.randrange(17)
    if kind < 3:
        return " ".join(rng.choice(ENGLISH) for _ in range(rng.randint(3, 30))) + rng.choice([".", "!", "?", ",", ":", ";", ""]) + rng.choice([" ", "\n", "\n\n"])
    if kind == 3:
        return text_range(rng, 0x4E00, 0x9FFF, rng.randint(1, 40)) + rng.choice(["。", "，", ""])
    if kind == 4:
        return text_range(rng, 0x3041, 0x30FF, rng.randint(1, 30))
    if kind == 5:
        return " ".join(text_range(rng, 0x0621, 0x064A, rng.randint(2, 9)) for _ in range(rng.randint(1, 10)))
    if kind == 6:
        return text_range(rng, 0xAC00, 0xD7A3, rng.randint(1, 20)) + " " + text_range(rng, 0x0905, 0x0950, rng.randint(1, 20))
    if kind == 7:
        return rng.choice(CODE)
    if kind == 8:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randint(1, 6)))
    if kind == 9:
        return "".join(chr(rng.choice([0, 1, 4, 7, 8, 9, 11, 12, 13, 27, 31, 127, 10])) for _ in range(rng.randint(1, 8)))
    if kind == 10:
        return rng.choice([" ", "\n", "\t", "\r\n", " \n", "\u3000", "\u00a0"]) * rng.choice([1, 2, 3, 5, 8, 17, 31, 64, 300])
    if kind == 11:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(1, 25))) + rng.choice(["", ".", ",", "%"])
    if kind == 12:
        return rng.choice(["", " "]) + rng.choice(SPECIAL) + rng.choice(["", " ", "\n"])
    if kind == 13:
        return "".join(rng.choice(MISC) for _ in range(rng.randint(1, 6)))
    if kind == 14:
        return "".join(chr(rng.choice([rng.randint(0x20, 0x7E), rng.randint(0xA0, 0x24F), rng.randint(0x370, 0x52F)])) for _ in range(rng.randint(1, 40)))
    if kind == 15:
        c = rng.choice("aA.-=#*_x!/é中")
        return c * rng.choice([2, 10, 50, 400])
    while True:  # any assigned or unassigned code point
        code = rng.randint(1, 0x10FFFF)
        if not 0xD800 <= code <= 0xDFFF:
            return chr(code)


def invalid_piece(rng):
    return rng.choice([b"\x80", b"\xbf\xbf", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\xfe", b"\xc0\xaf", b"\xe0\x80\x80", b"\xed\xa0\x80",
                       b"a\xc3 b", b"\xe4\xb8 \xad", bytes(rng.randrange(256) for _ in range(rng.randint(1, 6)))])


def natural(data, limit):
    out = []
    total = 0
    for path in sorted(pathlib.Path(data).rglob("*")):
        if path.suffix not in (".jsonl", ".txt", ".json", ".md") or not path.is_file():
            continue
        part = path.read_bytes()[: limit // 12]
        part = part.decode("utf-8", "ignore").encode()
        out.append(part)
        total += len(part)
        if total >= limit:
            break
    return b"\n".join(out)[:limit]


def run(command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ids_of(output):
    text = output.decode()
    return json.loads(text[text.index("["): text.rindex("]") + 1])


def llama_ids(args, model, path):
    r = run([args.llama, "-m", model, "-f", path, "--ids", "--no-escape", "--log-disable"])
    return ids_of(r.stdout) if r.returncode == 0 and b"[" in r.stdout else None


def decant_ids(args, model, path):
    r = run([args.decant, "tokenize", "-m", model, "-f", path, "--ids"])
    if r.returncode != 0:
        sys.exit(f"decant tokenize failed: {r.stderr.decode()}")
    return ids_of(r.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decant", required=True)
    parser.add_argument("--llama", required=True)
    parser.add_argument("--model", action="append", required=True)
    parser.add_argument("--data")
    parser.add_argument("--bytes", type=int, default=1_200_000)
    parser.add_argument("--chunk", type=int, default=60_000, help="bytes of one text")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    rng = random.Random(args.seed)
    texts = []
    if args.data:
        body = natural(args.data, args.bytes // 2)
        texts += [body[i: i + args.chunk] for i in range(0, len(body), args.chunk)]
    made = sum(map(len, texts))
    while made < args.bytes:
        invalid = len(texts) % 4 == 3
        body = bytearray()
        while len(body) < args.chunk:
            body += invalid_piece(rng) if invalid and rng.random() < 0.3 else valid_piece(rng).encode("utf-8", "surrogatepass")
        texts.append(bytes(body))
        made += len(body)

    failed = False
    for model in args.model:
        compared = tokens = differing = skipped = 0
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "text")
            for index, text in enumerate(texts):
                pathlib.Path(path).write_bytes(text)
                theirs = llama_ids(args, model, path)
                if theirs is None:
                    skipped += len(text)
                    continue
                ours = decant_ids(args, model, path)
                compared += len(text)
                tokens += len(theirs)
                if ours != theirs:
                    differing += 1
                    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
                    print(f"{model}: text {index}: {len(ours)} tokens, llama.cpp {len(theirs)}; first difference at token {at}: "
                          f"{ours[max(0, at - 3): at + 5]} and {theirs[max(0, at - 3): at + 5]}")
        print(f"{os.path.basename(model)}: {compared:,} bytes, {tokens:,} tokens compared, {differing} of {len(texts)} texts differ, "
              f"{skipped:,} bytes that llama.cpp refused")
        failed |= differing > 0 or compared == 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
