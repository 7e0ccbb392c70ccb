# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Model files that are missing, cut short, damaged or of another kind: one line, exit code 1, never a crash."""

import os
import random
import struct

import harness
from harness import FAILURE


class BrokenFileTest(harness.CliTest):
    def refuse_file(self, words, data, command="inspect"):
        path = self.write("broken.gguf", data)
        more = ["-p", "hi", "-n", "1"] if command == "run" else []
        return self.refuse(FAILURE, ["broken.gguf", *words], command, "-m", path, *more)

    def test_missing_files(self):
        for command in ("run", "tokenize", "inspect", "perplexity", "bench"):
            with self.subTest(command):
                self.refuse(FAILURE, ["./none.gguf"], command, "-m", "./none.gguf", stdin="hi")
        self.refuse(FAILURE, ["none", "smollm2"], "run", "-m", "none", "hi")
        self.refuse(FAILURE, ["smollm2", "decant pull smollm2"], "run", "hi")

    def test_things_that_are_no_files(self):
        os.mkdir(self.folder / "folder.gguf")
        self.refuse(FAILURE, ["folder.gguf"], "inspect", "./folder.gguf")
        self.refuse(FAILURE, ["/dev/null"], "inspect", "/dev/null")

    def test_an_unreadable_file(self):
        if os.geteuid() == 0:
            self.skipTest("root reads everything")
        path = self.write("secret.gguf", harness.read(self.llama))
        os.chmod(path, 0)
        self.refuse(FAILURE, ["secret.gguf"], "inspect", path)

    def test_truncated_files(self):
        data = harness.read(self.llama)
        lengths = sorted({0, 1, 3, 4, 7, 8, 16, 23, 24, len(data) - 1, len(data) - 33, *(len(data) * i // 40 for i in range(40))})
        for length in lengths:
            for command in ("inspect", "run"):
                with self.subTest(length=length, command=command):
                    self.refuse_file([], data[:length], command)

    def test_random_bytes(self):
        source = random.Random(1)
        for size in (1, 24, 1000, 100000):
            for magic in (b"", b"GGUF", b"GGUF\x03\0\0\0"):
                with self.subTest(size=size, magic=magic):
                    self.refuse_file([], magic + source.randbytes(size), "run")

    def test_damaged_headers_are_refused_or_work(self):
        # One byte of the header changed at a time. Many changes are harmless (a name, a token), so a result is fine; a crash is not.
        data = harness.read(self.llama)
        source = random.Random(2)
        for _ in range(60):
            at = source.randrange(0, 12000)
            path = self.write("damaged.gguf", data[:at] + bytes([source.randrange(256)]) + data[at + 1 :])
            with self.subTest(at=at):
                result = self.decant("run", "-m", path, "--raw", "-p", "hi", "-n", "2", "-c", "64")
                self.assertIn(result.code, (0, FAILURE), str(result))
                if result.code == FAILURE:
                    self.assert_one_line(result)

    def test_another_architecture(self):
        data = harness.patch_string(harness.read(self.llama), struct.pack("<Q", 5) + b"llama", struct.pack("<Q", 5) + b"zebra")
        self.refuse_file(["general.architecture", "zebra", "llama", "gemma3"], data, "run")

    def test_an_unknown_tensor_type(self):
        data = harness.patch_tensor_type(harness.read(self.llama), "blk.0.attn_q.weight", 99)
        for command in ("inspect", "run"):
            self.refuse_file(["blk.0.attn_q.weight", "99"], data, command)

    def test_a_missing_tensor(self):
        data = harness.patch_string(harness.read(self.llama), b"blk.1.attn_q.weight", b"blk.9.attn_q.weight")
        self.refuse_file(["blk."], data, "run")

    def test_absurd_sizes(self):
        data = harness.read(self.llama)
        for key in ("llama.block_count", "llama.embedding_length", "llama.attention.head_count", "llama.feed_forward_length"):
            for number in (0, 7, 2**31, 2**32 - 1):
                with self.subTest(key=key, number=number):
                    self.refuse_file([], harness.patch_number(data, key, number), "run")

    def test_an_old_or_foreign_version(self):
        data = harness.read(self.llama)
        for version in (0, 1, 4, 2**31 + 3):
            with self.subTest(version):
                self.refuse_file(["version"], data[:4] + struct.pack("<I", version) + data[8:])
        self.refuse_file(["big-endian"], data[:4] + struct.pack(">I", 3) + data[8:])


if __name__ == "__main__":
    harness.main()
