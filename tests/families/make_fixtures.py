#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the fixtures beside this file: tiny random checkpoints of every family and what transformers computes with them.

  pip install torch transformers peft safetensors      # the versions that made the committed ones are in versions.json
  tests/families/make_fixtures.py [NAME...]

Each folder NAME holds a checkpoint as save_pretrained writes it (config.json, model.safetensors, in one shard or two), and
expected.json: tokens, and the logits of every position in float32 of the same weights computed in double precision (so the
tolerance of the test belongs to Decant alone). Some hold an adapter made by peft and the logits with it. Everything follows from
NAME and the seed.
"""
import json
import os
import shutil
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
VOCAB = 64
TOKENS = 40  # more than the windows below

COMMON = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
              num_key_value_heads=1, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3_ROPE = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)


def config(kind, **changes):
    return getattr(transformers, kind + "Config")(**changes)


def common(kind, **changes):
    return config(kind, **{**COMMON, **changes})


def longrope(short, long):
    return dict(rope_type="longrope", short_factor=[1.0 + 0.05 * i for i in range(8)][:short],
                long_factor=[1.0 + 0.7 * i for i in range(8)][:long])


# name: (configuration, weights' type)
FAMILIES = {
    "llama2": lambda: (common("Llama", tie_word_embeddings=False, num_key_value_heads=2), "float16"),
    "llama3": lambda: (common("Llama", tie_word_embeddings=False, rope_theta=500000.0, rope_scaling=LLAMA3_ROPE, head_dim=16), "bfloat16"),
    "smollm2": lambda: (common("Llama", tie_word_embeddings=True, num_attention_heads=3, hidden_size=48, rope_theta=100000.0), "bfloat16"),
    "llama_bias": lambda: (common("Llama", attention_bias=True, mlp_bias=True), "float32"),
    "llama_linear": lambda: (common("Llama", rope_scaling=dict(rope_type="linear", factor=4.0)), "float32"),
    "mistral": lambda: (common("Mistral", sliding_window=16, head_dim=32), "bfloat16"),
    "mixtral": lambda: (common("Mixtral", num_local_experts=4, num_experts_per_tok=2), "bfloat16"),
    "qwen2": lambda: (common("Qwen2", tie_word_embeddings=True), "bfloat16"),
    "qwen2_windowed": lambda: (common("Qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=1), "float32"),
    "qwen25_yarn": lambda: (common("Qwen2", rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32),
                                   head_dim=32), "float32"),
    "qwen3": lambda: (common("Qwen3", head_dim=32), "bfloat16"),
    "qwen3moe": lambda: (common("Qwen3Moe", head_dim=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24,
                                norm_topk_prob=True, num_hidden_layers=3, mlp_only_layers=[1]), "bfloat16"),
    "gemma": lambda: (common("Gemma", head_dim=32, hidden_activation="gelu_pytorch_tanh"), "bfloat16"),
    "gemma2": lambda: (common("Gemma2", head_dim=32, sliding_window=16, query_pre_attn_scalar=24, num_hidden_layers=3), "bfloat16"),
    "gemma3": lambda: (config("Gemma3Text", **{**COMMON, "head_dim": 32, "sliding_window": 16, "query_pre_attn_scalar": 24,
                              "num_hidden_layers": 7,
                              "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"]}), "bfloat16"),
    "phi3": lambda: (common("Phi3", sliding_window=24), "float16"),
    "phi3_longrope": lambda: (common("Phi3", num_attention_heads=2, rope_scaling=longrope(8, 8), sliding_window=None,
                                     original_max_position_embeddings=16), "float32"),
    "phi4_mini": lambda: (common("Phi3", hidden_size=64, partial_rotary_factor=0.75, tie_word_embeddings=True), "bfloat16"),
    "gpt2": lambda: (config("GPT2", vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2),
                     "float32"),
    "opt": lambda: (config("OPT", vocab_size=VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=2,
                           max_position_embeddings=128, word_embed_proj_dim=32), "float16"),
    "opt_350m": lambda: (config("OPT", vocab_size=VOCAB, hidden_size=32, ffn_dim=48, num_hidden_layers=2, num_attention_heads=2,
                                max_position_embeddings=128, word_embed_proj_dim=16, do_layer_norm_before=False), "float16"),
    "gptneox": lambda: (config("GPTNeoX", vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
                               num_attention_heads=2, max_position_embeddings=128, rotary_pct=0.25), "float16"),
    "gptneox_sequential": lambda: (config("GPTNeoX", vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                                          num_attention_heads=2, max_position_embeddings=128, rotary_pct=1.0,
                                          use_parallel_residual=False, hidden_act="gelu_fast"), "float32"),
}
SHARDED = {"llama2", "mixtral"}
ADAPTERS = {"llama3": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            "qwen3": ["q_proj", "down_proj"],
            "phi3": ["qkv_proj", "gate_up_proj", "o_proj"],
            "gptneox": ["query_key_value", "dense_h_to_4h"],
            "gpt2": ["c_attn", "c_fc"]}


def randomize(model, generator):
    """Weights large enough that every part shows in the logits."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() == 1 and "norm" in name.lower() + " " and name.endswith("weight"):
                p.copy_((0.0 if "gemma" in type(model).__name__.lower() else 1.0) + 0.2 * noise)
            elif p.dim() == 1:
                p.copy_((1.0 if name.endswith("weight") else 0.0) + 0.2 * noise)
            else:
                p.copy_(noise * (1.0 if "emb" in name or "wte" in name or "wpe" in name else 1.2 / p.shape[-1] ** 0.5))


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float()


def make(name):
    settings, dtype = FAMILIES[name]()
    settings._attn_implementation = "eager"
    settings._experts_implementation = "eager"  # the grouped kernels have no double precision
    generator = torch.Generator().manual_seed(sum(name.encode()) * 7919)
    model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32).eval()
    randomize(model, generator)
    if getattr(settings, "tie_word_embeddings", False):
        model.tie_weights()
    model = model.to(getattr(torch, dtype))
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, max_shard_size="20KB" if name in SHARDED else "1GB")
    # Loaded again, so that no buffer (rotary frequencies) has been rounded to the weights' type.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager",
                                                 experts_implementation="eager").eval()
    tokens = torch.randint(3, VOCAB, (TOKENS,), generator=generator).tolist()
    expected = {"tokens": tokens, "logits": "expected.f32"}
    write_floats(folder, "expected.f32", logits_of(model, tokens))
    if name in ADAPTERS:
        expected["adapter_logits"] = "adapter.f32"
        write_floats(folder, "adapter.f32", adapted(model, name, folder, tokens, generator))
    with open(os.path.join(folder, "expected.json"), "w") as out:
        json.dump(expected, out)
        out.write("\n")
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)


def adapted(model, name, folder, tokens, generator):
    import peft
    lora = peft.LoraConfig(r=4, lora_alpha=6, target_modules=ADAPTERS[name], task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2",
                           use_rslora=name == "qwen3")
    model = peft.get_peft_model(model, lora).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if "lora_" in key:
                p.copy_(0.3 * torch.randn(p.shape, generator=generator).to(torch.float32))
    for key, p in model.named_parameters():
        if "lora_" in key:
            p.data = p.data.float()
    model.save_pretrained(os.path.join(folder, "adapter"))
    model.double()
    readme = os.path.join(folder, "adapter", "README.md")
    if os.path.exists(readme):
        os.remove(readme)
    path = os.path.join(folder, "adapter", "adapter_config.json")
    with open(path) as source:
        settings = json.load(source)
    settings["base_model_name_or_path"] = name
    with open(path, "w") as out:
        json.dump(settings, out, indent=2)
        out.write("\n")
    return logits_of(model, tokens)


def write_floats(folder, name, values):
    with open(os.path.join(folder, name), "wb") as out:
        out.write(values.contiguous().numpy().astype("<f4").tobytes())


def main():
    for name in sys.argv[1:] or FAMILIES:
        make(name)
        size = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(HERE, name)) for f in files)
        print(f"{name}: {size // 1024} KiB")
    with open(os.path.join(HERE, "versions.json"), "w") as out:
        json.dump({"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}, out)
        out.write("\n")


if __name__ == "__main__":
    main()
