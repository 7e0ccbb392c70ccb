# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""decant convert: GGUF to a checkpoint folder and back; what is refused leaves nothing behind."""

import json
import os

import harness
from harness import FAILURE, USAGE, read

TEXT = "Hello world, it's 2024!  <|im_start|> naïve 日本\n\nx\t👩‍👧"


class ConvertTest(harness.CliTest):
    def answer(self, model):
        return self.succeed("run", "-m", model, "--raw", "Hello", "-n", "12", "--temp", "0", "--ignore-eos").text

    def tokens(self, model):
        return self.succeed("tokenize", "-m", model, "--ids", "--stdin", stdin=TEXT).text

    def test_there_and_back_keeps_answers_and_tokens(self):
        for model in (self.llama, self.gemma):
            with self.subTest(model):
                result = self.succeed("convert", model, f"{model}-f32", "--type", "f32")
                self.assertIn("tensors", result.text)
                self.assertEqual(sorted(os.listdir(f"{model}-f32")),
                                 ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
                self.succeed("convert", f"{model}-f32", f"{model}-again.gguf")
                for other in (f"{model}-f32", f"{model}-again.gguf"):
                    self.assertEqual(self.tokens(other), self.tokens(model))
                self.assertEqual(self.answer(f"{model}-again.gguf"), self.answer(f"{model}-f32"))

    def test_a_checkpoint_is_cast_and_cut_with_its_other_files(self):
        self.succeed("convert", self.llama, "a", "--type", "f32")
        self.write("a/LICENSE", "terms")
        self.write("a/weights.bin", "not copied")
        self.succeed("convert", "a", "b/", "--type", "bf16", "--shard-size", "20K")
        files = os.listdir(self.folder / "b")
        self.assertIn("model.safetensors.index.json", files)
        self.assertIn("LICENSE", files)
        self.assertNotIn("weights.bin", files)
        self.assertEqual(json.loads(read(self.folder / "b" / "config.json"))["torch_dtype"], "bfloat16")
        self.assertEqual(read(self.folder / "b" / "tokenizer.json"), read(self.folder / "a" / "tokenizer.json"))
        index = json.loads(read(self.folder / "b" / "model.safetensors.index.json"))
        self.assertEqual(set(index["weight_map"].values()), {f for f in files if f.endswith(".safetensors")})
        self.assertEqual(self.tokens("b"), self.tokens(self.llama))

    def test_templates_survive(self):
        self.succeed("convert", self.llama, "a")
        messages = json.dumps([{"role": "user", "content": "hi"}])
        rendered = [self.succeed("template", "-m", m, stdin=messages).text for m in (self.llama, "a")]
        self.assertEqual(*rendered)

    def test_what_is_refused_leaves_nothing(self):
        self.refuse(USAGE, ["--type", "q8_0"], "convert", self.llama, "out", "--type", "q8_0")
        self.refuse(USAGE, ["folder"], "convert", self.llama, "out.safetensors")
        self.refuse(USAGE, ["--shard-size", "2G"], "convert", self.llama, "out", "--shard-size", "0.5G")
        self.refuse(FAILURE, ["nowhere/out", "folder"], "convert", self.llama, "nowhere/out")
        os.mkdir(self.folder / "taken")
        for option in ([], ["--force"]):
            self.refuse(FAILURE, ["taken", "new folder"], "convert", self.llama, "taken", *option)
        cut = self.write("cut.gguf", read(self.llama)[:-100])
        self.refuse(FAILURE, ["cut.gguf"], "convert", cut, "out")
        self.succeed("convert", self.llama, "a", "--type", "f32")
        data = read(self.folder / "a" / "model.safetensors")
        self.write("a/model.safetensors", data[:-4] + b"\x00\x00\xc0\x7f")
        self.refuse(FAILURE, ["a", "tensor"], "convert", "a", "out.gguf", "--type", "q8_0")
        self.write("a/model.safetensors", data[:-4] + b"\xff\xff\x7f\x7f")
        self.refuse(FAILURE, ["a", "tensor", "f16"], "convert", "a", "out", "--type", "f16")
        self.write("a/tokenizer.json", "{")
        self.refuse(FAILURE, ["tokenizer.json"], "convert", "a", "out")


if __name__ == "__main__":
    harness.main()
