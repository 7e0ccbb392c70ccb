// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <string>

namespace decant {
namespace {

// Sorted by name. Names that share a rule differ in what the converter of their model was called.
constexpr PreTokenizer kPreTokenizers[] = {
    {.name = "a.x-4.0", .rule = SplitRule::kGpt2},
    {.name = "chatglm-bpe", .rule = SplitRule::kLlama3},
    {.name = "codeshell", .rule = SplitRule::kDigits},
    {.name = "command-r", .rule = SplitRule::kDigits},
    {.name = "dbrx", .rule = SplitRule::kLlama3},
    {.name = "deepseek-r1-qwen", .rule = SplitRule::kQwen2},
    {.name = "exaone", .rule = SplitRule::kDigits},
    {.name = "exaone4", .rule = SplitRule::kGpt2},
    {.name = "f2llmv2", .rule = SplitRule::kQwen2},
    {.name = "falcon-h1", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "falcon3", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "gigachat", .rule = SplitRule::kGpt2},
    {.name = "glm4", .rule = SplitRule::kLlama3, .ignore_merges = true},
    {.name = "glm5", .rule = SplitRule::kLlama3, .ignore_merges = true},
    {.name = "gpt-2", .rule = SplitRule::kGpt2},
    {.name = "gpt-4o", .rule = SplitRule::kO200k},
    {.name = "granite-docling", .rule = SplitRule::kGpt2},
    {.name = "grok-2", .rule = SplitRule::kQwen2},
    {.name = "hunyuan", .rule = SplitRule::kQwen2},
    {.name = "jais", .rule = SplitRule::kGpt2},
    {.name = "jina-de", .rule = SplitRule::kGpt2},
    {.name = "jina-es", .rule = SplitRule::kGpt2},
    {.name = "jina-v1-en", .rule = SplitRule::kGpt2},
    {.name = "jina-v2-code", .rule = SplitRule::kGpt2, .strip_mask = true},
    {.name = "jina-v2-de", .rule = SplitRule::kGpt2, .strip_mask = true},
    {.name = "jina-v2-es", .rule = SplitRule::kGpt2, .strip_mask = true},
    {.name = "jina-v5-nano", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "kormo", .rule = SplitRule::kQwen2},
    {.name = "lfm2", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama-bpe", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama3", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "llama4", .rule = SplitRule::kO200k},
    {.name = "megrez", .rule = SplitRule::kQwen2},
    {.name = "mellum", .rule = SplitRule::kGpt2},
    {.name = "mellum2", .rule = SplitRule::kDigits},
    {.name = "midm-2.0", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "minerva-7b", .rule = SplitRule::kDigits},
    {.name = "modern-bert", .rule = SplitRule::kGpt2},
    {.name = "mpt", .rule = SplitRule::kGpt2},
    {.name = "olmo", .rule = SplitRule::kGpt2},
    {.name = "phi-2", .rule = SplitRule::kGpt2},
    {.name = "pixtral", .rule = SplitRule::kLlama3, .ignore_merges = true, .add_bos = true},
    {.name = "qwen2", .rule = SplitRule::kQwen2},
    {.name = "refact", .rule = SplitRule::kDigits},
    {.name = "roberta-bpe", .rule = SplitRule::kGpt2},
    {.name = "smaug-bpe", .rule = SplitRule::kLlama3},
    {.name = "smollm", .rule = SplitRule::kDigits},
    {.name = "solar-open", .rule = SplitRule::kQwen2},
    {.name = "stablelm2", .rule = SplitRule::kQwen2},
    {.name = "starcoder", .rule = SplitRule::kDigits},
    {.name = "tekken", .rule = SplitRule::kTekken, .ignore_merges = true, .add_bos = true},
    {.name = "trillion", .rule = SplitRule::kGpt2},
};
static_assert(std::is_sorted(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                             [](const PreTokenizer& a, const PreTokenizer& b) { return a.name < b.name; }));

}  // namespace

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  const auto* it = std::lower_bound(std::begin(kPreTokenizers), std::end(kPreTokenizers), name,
                                    [](const PreTokenizer& p, std::string_view n) { return p.name < n; });
  return it != std::end(kPreTokenizers) && it->name == name ? it : nullptr;
}

std::string_view pre_tokenizer_names() {
  static const std::string names = [] {
    std::string list;
    for (const PreTokenizer& p : kPreTokenizers) list.append(list.empty() ? "" : ", ").append(p.name);
    return list;
  }();
  return names;
}

}  // namespace decant
