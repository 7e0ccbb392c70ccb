// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// make_corpus FOLDER FIXTURES: writes the seed files of each fuzz target to FOLDER/TARGET: small files as the writers
// make them, mutations that a fuzzer would need long to find, and the fixtures of tests/families.
#include <fmt/core.h>

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "formats/gguf.h"
#include "fuzz/alignment_seed.h"
#include "speculate/datastore_file.h"
#include "speculate/ngram_pool.h"
#include "speculate/trigram_table.h"

namespace decant {
namespace {

using Bytes = std::vector<uint8_t>;

class Corpus {
 public:
  explicit Corpus(std::string folder) : folder_(std::move(folder)) {
    std::error_code ignored;  // a folder that cannot be made shows in the first write
    std::filesystem::create_directories(folder_, ignored);
  }

  void add(const std::string& name, const Bytes& bytes) {
    if (!status_.ok()) return;
    auto file = AtomicFile::create(folder_ + "/" + name);
    status_ = file.ok() ? file->write(bytes) : file.status();
    if (status_.ok()) status_ = file->commit();
  }
  const Status& status() const { return status_; }
  const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
  Status status_;
};

// --- Files for gguf_fuzz
// -------------------------------------------------------------------------------------------------

GgufWriter model_of_every_type() {
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("flag", true);
  writer.set("count", uint32_t{3});
  writer.set("offset", int32_t{-1});
  writer.set("scale", 0.5f);
  writer.set("names", std::vector<std::string>{"a", "", "ccc"});
  writer.set("floats", std::vector<float>{0.0f, 1.0f});
  writer.set("ints", std::vector<int32_t>{1, -1});
  writer.set("flags", std::vector<bool>{true, false});
  for (const DTypeInfo& info : all_dtypes()) {
    writer.add_tensor(std::string(info.name), info.type, {info.block, 2},
                      Bytes(static_cast<size_t>(info.bytes) * 2, 0x3c));
  }
  return writer;
}

// Value types that GgufWriter does not write: one array of two values of each, and one scalar.
Bytes model_of_other_values() {
  Bytes out = {'G', 'G', 'U', 'F'};
  const auto put = [&](auto value) {
    const size_t at = out.size();
    out.resize(at + sizeof value);
    std::memcpy(out.data() + at, &value, sizeof value);
  };
  const std::pair<uint32_t, size_t> types[] = {{0, 1}, {1, 1}, {2, 2}, {3, 2}, {10, 8}, {11, 8}, {12, 8}};
  put(uint32_t{2});
  put(uint64_t{0});
  put(uint64_t{14});
  for (const auto& [type, size] : types) {
    for (const bool is_array : {false, true}) {
      put(uint64_t{1});
      out.push_back(static_cast<uint8_t>((is_array ? 'A' : 'a') + type));
      if (is_array) put(uint32_t{9});
      put(type);
      if (is_array) put(uint64_t{2});
      out.resize(out.size() + size * (is_array ? 2 : 1), 1);
    }
  }
  return out;
}

void make_gguf(Corpus* corpus) {
  GgufWriter empty;
  corpus->add("empty", empty.serialize());
  const Bytes every = model_of_every_type().serialize();
  corpus->add("every_type", every);
  corpus->add("other_values", model_of_other_values());
  for (const size_t size : {size_t{3}, size_t{23}, size_t{24}, every.size() / 4, every.size() / 2, every.size() - 40}) {
    corpus->add(fmt::format("truncated_{}", size),
                Bytes(every.begin(), every.begin() + static_cast<std::ptrdiff_t>(size)));
  }
  for (const uint32_t version : {1u, 2u, 4u, 0x03000000u}) {
    Bytes other = every;
    std::memcpy(other.data() + 4, &version, sizeof version);
    corpus->add(fmt::format("version_{:x}", version), other);
  }
  for (const uint64_t count : {uint64_t{1} << 20, UINT64_MAX}) {
    for (const size_t field : {size_t{8}, size_t{16}, size_t{24}}) {
      Bytes other = every;
      std::memcpy(other.data() + field, &count, sizeof count);
      corpus->add(fmt::format("count_at_{}_{:x}", field, count), other);
    }
  }
  for (const uint32_t alignment : {8u, 64u, 24u}) {
    GgufWriter writer;
    writer.set("general.alignment", alignment);
    writer.set("split.count", uint32_t{2});
    writer.add_tensor("t", DType::kF32, {1, 1, 1, 3}, Bytes(12));
    writer.add_tensor("u", DType::kF16, {3}, Bytes(6));
    corpus->add(fmt::format("alignment_{}", alignment), writer.serialize());
  }
}

// --- Files for tokenizer_fuzz: a GGUF file, a text, and the text's length in two bytes
// -----------------------------------

std::string utf8(uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  if (code < 0x800) return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
  return {static_cast<char>(0xe0 | code >> 12), static_cast<char>(0x80 | (code >> 6 & 0x3f)),
          static_cast<char>(0x80 | (code & 0x3f))};
}

// GPT-2's printable stand-in for a byte: itself where printable, else U+0100 and on in order.
std::string byte_letter(int byte) {
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  if (printable(byte)) return utf8(static_cast<uint32_t>(byte));
  uint32_t rank = 0;
  for (int b = 0; b < byte; ++b) rank += printable(b) ? 0 : 1;
  return utf8(256 + rank);
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> kinds;
  std::vector<float> scores;
  void add(const std::string& token, int32_t kind = 1, float score = 0) {
    tokens.push_back(token);
    kinds.push_back(kind);
    scores.push_back(score);
  }
};

GgufWriter bpe(const std::string& pre) {
  Vocabulary v;
  v.add("<|endoftext|>", 3);
  v.add("<|im_end|>", 3);
  v.add("<added>", 4);
  for (int b = 0; b < 256; ++b) v.add(byte_letter(b));
  std::vector<std::string> merges;
  const std::string space = byte_letter(' ');
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {space, "w"}, {space, space}, {"1", "2"}, {"'", "s"}}) {
    merges.push_back(a + " " + b);
    v.add(a + b);
  }
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "gpt2");
  writer.set("tokenizer.ggml.pre", pre);
  writer.set("tokenizer.ggml.tokens", v.tokens);
  writer.set("tokenizer.ggml.token_type", v.kinds);
  writer.set("tokenizer.ggml.merges", merges);
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{0});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{1});
  return writer;
}

GgufWriter spm(bool space_prefix, bool with_bytes) {
  Vocabulary v;
  v.add("<pad>", 3);
  v.add("<eos>", 3);
  v.add("<bos>", 3);
  v.add("<unk>", 2);
  if (with_bytes) {
    for (int b = 0; b < 256; ++b) v.add(fmt::format("<0x{:02X}>", b), 6);
  }
  v.add("<added>", 4);
  float score = -1;
  for (const char* piece : {"\xe2\x96\x81", "h", "e", "l", "o", "he", "ll", "hell", "hello", "\xe2\x96\x81hello",
                            "\xc3\xa9", "\xe2\x96\x81\xe2\x96\x81", "w", "\xe2\x96\x81w", "\n", "\n\n"}) {
    v.add(piece, 1, score);
    score -= 1;
  }
  GgufWriter writer;
  writer.set("tokenizer.ggml.model", "llama");
  writer.set("tokenizer.ggml.pre", "default");
  writer.set("tokenizer.ggml.tokens", v.tokens);
  writer.set("tokenizer.ggml.token_type", v.kinds);
  writer.set("tokenizer.ggml.scores", v.scores);
  writer.set("tokenizer.ggml.bos_token_id", uint32_t{2});
  writer.set("tokenizer.ggml.eos_token_id", uint32_t{1});
  writer.set("tokenizer.ggml.unknown_token_id", uint32_t{3});
  writer.set("tokenizer.ggml.add_bos_token", true);
  writer.set("tokenizer.ggml.add_space_prefix", space_prefix);
  writer.set("tokenizer.chat_template", "{{ bos_token }}");
  return writer;
}

void make_tokenizer(Corpus* corpus) {
  const std::string texts[] = {"", "hello  world's 123\n\n\xc3\xa9\xf0\x9f\x99\x82 <added><|im_end|> \xe2\x96\x81x",
                               std::string("\xff\xc3\0\xe2\x96", 5)};
  const auto add = [&](const std::string& name, const GgufWriter& writer) {
    for (size_t i = 0; i < std::size(texts); ++i) {
      Bytes bytes = writer.serialize();
      bytes.insert(bytes.end(), texts[i].begin(), texts[i].end());
      bytes.push_back(static_cast<uint8_t>(texts[i].size()));
      bytes.push_back(0);
      corpus->add(fmt::format("{}_{}", name, i), bytes);
    }
  };
  for (const char* pre : {"smollm", "gpt-2", "default"}) add(fmt::format("bpe_{}", pre), bpe(pre));
  add("spm", spm(false, true));
  add("spm_prefix", spm(true, true));
  add("spm_without_bytes", spm(false, false));
  GgufWriter none;
  add("no_vocabulary", none);
}

void make_divergence(Corpus* corpus) {
  for (const int32_t windows : {1, 2}) {
    constexpr int32_t kWindow = 6, kVocab = 7;
    Bytes bytes;
    const auto put = [&](const auto& value) {
      const auto* p = reinterpret_cast<const uint8_t*>(&value);
      bytes.insert(bytes.end(), p, p + sizeof(value));
    };
    for (const char c : std::string_view("_logits_")) bytes.push_back(static_cast<uint8_t>(c));
    for (const int32_t size : {kWindow, kVocab, windows}) put(size);
    for (int32_t i = 0; i < kWindow * windows; ++i) put(i % kVocab);
    for (int32_t row = 0; row < 2 * windows; ++row) {
      put(1e-4F);
      put(-9.0F);
      for (uint16_t i = 0; i <= kVocab; ++i) put(static_cast<uint16_t>(i * 9000));
    }
    corpus->add(fmt::format("windows_{}", windows), bytes);
    bytes.pop_back();
    corpus->add(fmt::format("windows_{}_short", windows), bytes);
  }
}

void make_safetensors(Corpus* corpus) {
  const auto add = [&](const std::string& name, std::string header, size_t data) {
    header.resize((header.size() + 7) / 8 * 8, ' ');
    Bytes bytes(8);
    const uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, sizeof length);
    bytes.insert(bytes.end(), header.begin(), header.end());
    bytes.resize(bytes.size() + data, 0x3c);
    corpus->add(name, bytes);
  };
  add("two",
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[24,26]}})",
      26);
  add("empty_shape", R"({"a":{"dtype":"I64","shape":[0,5],"data_offsets":[0,0]}})", 0);
  add("overlap",
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
      6);
  add("hole", R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 8);
  add("overflow", R"({"a":{"dtype":"F64","shape":[4611686018427387904,8],"data_offsets":[0,0]}})", 0);
  add("twice",
      R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      1);
  add("nested", R"({"a":[[[[[[[[[[[[1]]]]]]]]]]]]})", 0);
}

void make_hf_tokenizer(Corpus* corpus) {
  const auto add = [&](const std::string& name, const std::string& text) {
    corpus->add(name, Bytes(text.begin(), text.end()));
  };
  const std::string bytes = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
  const std::string bpe =
      R"({"model":{"type":"BPE","ignore_merges":true,"vocab":{"H":0,"e":1,"l":2,"He":3,"\u0120":4},)"
      R"("merges":["H e",["l","l"]]},"normalizer":{"type":"NFC"},"added_tokens":[{"id":5,"content":)"
      R"("<|x|>","special":true,"lstrip":true,"rstrip":true,"single_word":true}],"pre_tokenizer":)";
  add("bpe", bpe + bytes + "}");
  add("digits",
      bpe + R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},)" + bytes + "]}}");
  add("post",
      bpe + bytes + R"(,"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<|x|>"}}]}})");
  std::string both = bpe + bytes + "}";
  both.push_back('\0');
  add("config", both + R"({"eos_token":{"content":"<|x|>"},"chat_template":[{"name":"default","template":"x"}]})");
  add("spm",
      "{\"model\":{\"byte_fallback\":true,\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<0x0A>\":1,\"a\":2,"
      "\"\xE2\x96\x81\":3,\"\xE2\x96\x81"
      "a\":4},\"merges\":[\"\xE2\x96\x81 a\"]},\"pre_tokenizer\":{\"type\":"
      "\"Metaspace\",\"replacement\":\"\xE2\x96\x81\",\"prepend_scheme\":\"first\",\"split\":false}}");
}

void make_hub(Corpus* corpus) {
  const std::string sum(64, 'a'), commit(40, 'b');
  const auto add = [&](const std::string& name, char kind, const std::string& text) {
    Bytes bytes = {static_cast<uint8_t>(kind)};
    bytes.insert(bytes.end(), text.begin(), text.end());
    corpus->add(name, bytes);
  };
  std::string page = R"([{"type":"directory","path":"d","oid":"x","size":0})";
  for (const char* path : {"m-Q4_K_M.gguf", "d/m-Q8_0-00001-of-00002.gguf", "d/m-Q8_0-00002-of-00002.gguf",
                           "config.json", "model.safetensors.index.json", "model.safetensors"}) {
    page += fmt::format(R"(,{{"type":"file","path":"{}","size":7,"oid":"{}","lfs":{{"oid":"{}","size":7}}}})", path,
                        commit, sum);
  }
  add("page", 0, page + "]");
  add("page_out", 0, R"([{"type":"file","path":"../a","size":1}])");
  add("revision", 1, R"({"id":"a/b","sha":")" + commit + R"("})");
  add("index", 2,
      R"({"metadata":{},"weight_map":{"a":"m-00001-of-00002.safetensors","b":"m-00002-of-00002.safetensors"}})");
  add("link", 3, R"(<https://hub/api/models/a/b/tree/main?recursive=true&cursor=x>; rel="next")");
  add("range", 4, "bytes 10-19/20");
  add("name", 5, "owner/name@refs/pr/1:Q4_K_M");
}

// --- Templates for jinja_fuzz

void make_jinja(Corpus* corpus) {
  const std::string_view templates[] = {
      "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m.content|trim + '<|im_end|>\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
      "{%- if tools %}{%- for tool in tools %}{{- tool | tojson(indent=4, sort_keys=true) }}\n{% endfor %}{% endif -%}",
      "{% set ns = namespace(last=0, x=[]) %}{% for m in messages[::-1] if m.content is string %}{% set ns.last = "
      "loop.index0 %}{% set ns.x = ns.x + [m.content.split('\n')[-1].lstrip('\n')] %}{% endfor %}{{ ns.last }}{{ ns.x "
      "}}",
      "{% macro f(x, d=1, *) %}{% endmacro %}",
      "{% macro f(x, d=1) %}{{ x }}{% if x is mapping %}{% for k, v in x|dictsort "
      "%}{{ k }}: {{ f(v, d + 1) }}{% endfor %}{% endif %}{{ caller() if caller }}{% endmacro %}{{ f(tools[0]) }}{% "
      "call "
      "f(s) %}c{% endcall %}",
      "{{ s.replace(' ', '-').upper()|indent(2) ~ s[1:3] ~ s|length // 2 ** n % 5 - -f }}{{ '%5.1f|%s' % (f, s) }}"
      "{{ '{0:>9}|{a!r}'.format(s, a=messages) }}",
      "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|join(', ')|tojson }}{{ "
      "messages|groupby('role')|list }}{{ range(9)|batch(2, 0)|list }}{{ tools[0].function.name is defined and not 1 > "
      "2 }}",
      "{% set x %}{% raw %}{{ a }}{% endraw %}{# c -#} {% endset %}{% filter title %}{{ x }}{% endfilter %}{% with a = "
      "1, b = "
      "x %}{{ b|e|safe }}{% endwith %}{% generation %}{% for i in range(5) %}{% if i == 2 %}{% continue %}{% elif i > "
      "3 %}"
      "{% break %}{% else %}{{ loop.cycle('a', 'b') }}{% endif %}{% endfor %}{% endgeneration %}",
      "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}{{ strftime_now('%d %b "
      "%Y') }}"
      "{% set j = joiner() %}{{ j() }}{% set c = cycler(1, 2) %}{{ c.next() }}{{ raise_exception('no ' ~ s) }}",
  };
  size_t number = 0;
  for (const std::string_view t : templates) {
    corpus->add(fmt::format("template_{}", number++), Bytes(t.begin(), t.end()));
  }
}

// The fixtures of tests/families: small checkpoints and adapters of every family.
void make_checkpoints(const std::string& fixtures, Corpus* checkpoints, Corpus* adapters) {
  namespace fs = std::filesystem;
  const auto add = [](Corpus* corpus, const std::string& name, const fs::path& config, const fs::path& weights) {
    const Result<std::string> text = read_file(config.string()), data = read_file(weights.string());
    if (!text.ok() || !data.ok() || text->size() + data->size() >= 65536) return;
    const std::string joined = *text + std::string(1, 0) + *data;
    corpus->add(name, Bytes(joined.begin(), joined.end()));
  };
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(fixtures, error)) {
    const fs::path& folder = entry.path();
    const std::string name = folder.filename().string();
    add(checkpoints, name, folder / "config.json", folder / "model.safetensors");
    add(checkpoints, name + "_alone", folder / "config.json", "/dev/null");
    add(adapters, name, folder / "adapter/adapter_config.json", folder / "adapter/adapter_model.safetensors");
  }
}

void make_schemas(Corpus* schemas, Corpus* regexes) {
  const std::pair<std::string_view, std::string_view> seeds[] = {
      {R"({"type":"object","properties":{"a":{"type":"string","pattern":"^[a-c]{2,3}$"},"b":{"minimum":-1.5,"multipleOf":0.5}},"required":["a"],"additionalProperties":false})",
       R"({"a":"ab","b":2.5})"},
      {R"({"$defs":{"n":{"anyOf":[{"type":"null"},{"type":"object","properties":{"x":{"$ref":"#/$defs/n"}},"unevaluatedProperties":false}]}},"$ref":"#/$defs/n"})",
       R"({"x":{"x":null}})"},
      {R"({"oneOf":[{"type":"integer"},{"type":"array","prefixItems":[{"const":1}],"contains":{"enum":["a",{"b":[]}]},"uniqueItems":true,"maxItems":3}]})",
       R"([1,"a",{"b":[]}])"},
      {R"({"type":"object","patternProperties":{"^x":true},"propertyNames":{"maxLength":4},"dependentRequired":{"x":["y"]},"minProperties":1,"not":{"required":["z"]},"if":{"required":["x"]},"then":{"properties":{"y":{"format":"date"}}}})",
       R"({"x":1,"y":"2024-02-29"})"},
  };
  size_t number = 0;
  for (const auto& [schema, text] : seeds) {
    const std::string joined = std::string(schema) + std::string(1, 0) + std::string(text);
    schemas->add(fmt::format("schema_{}", number++), Bytes(joined.begin(), joined.end()));
  }
  for (const std::string_view pattern :
       {"^(a|b)*c{2,3}?$", "(?=.*[A-Z])\\w+(?!x)", "[^\\d\\-z]|\\u{1F642}|\\p{Lu}", "(^|,)a(,|$)"}) {
    const std::string joined = std::string(pattern) + std::string(1, 0) + "aAbcc,a";
    regexes->add(fmt::format("regex_{}", number++), Bytes(joined.begin(), joined.end()));
  }
}

void make_grammars(Corpus* gbnf, Corpus* lark) {
  const auto add = [](Corpus* corpus, const char* prefix, size_t number, std::string_view grammar,
                      std::string_view text) {
    const std::string joined = std::string(grammar) + std::string(1, 0) + std::string(text);
    corpus->add(fmt::format("{}_{}", prefix, number), Bytes(joined.begin(), joined.end()));
  };
  add(gbnf, "gbnf", 0, "root ::= s \".\"\ns ::= s \"+\" t | t\nt ::= [0-9]+ | \"(\" s \")\" # sum\n", "1+(2+3).");
  add(gbnf, "gbnf", 1, "root ::= (a | b){2,3} [^a-c\\n]? .\na ::= \"x\" b?\nb ::= \"\\u00e9\" | a", "xx\xC3\xA9");
  add(gbnf, "gbnf", 2, "root ::= root root | \"a\" | n root\nn ::= n? ", "aaaa");
  add(lark, "lark", 0,
      "?start: s \".\"\ns: s \"+\" t -> add | t\nt: NUMBER | \"(\" s \")\"\n%import common.NUMBER\n%ignore \" \"",
      "1 + (2+3).");
  add(lark, "lark", 1, "start: [A] B~1..2 \"x\"i // c\nA.2: \"a\"..\"f\"\nB: /[^\\d\\s]\\w?/s", "abbX");
}

// --- Files for alignment_fuzz ----------------------------------------------------------------------------------------

void make_alignment(Corpus* corpus) {
  AlignmentTrie trie;
  for (int i = 0; i < 12; ++i) {
    const std::string file = trie.serialize(fuzz::alignment_key());
    corpus->add(fmt::format("trie_{}", i), Bytes(file.begin(), file.end()));
    fuzz::draw(i % 3 == 0 ? AlignMode::kExact : AlignMode::kAsap, 0.05 + 0.08 * i, &trie);
  }
}

void make_drafts(Corpus* datastore, Corpus* state) {
  const std::string path = datastore->folder() + "/whole";
  for (const int vocab : {9, 70000}) {
    DatastoreBuilder builder(1, vocab);
    Status status = builder.add(std::vector<TokenId>{1, 2, 3, 1, 2, 4, 8});
    if (status.ok()) status = builder.add(std::vector<TokenId>{1, 2, 3, 1, 2, 5});
    if (status.ok()) status = builder.write(fmt::format("{}_{}", path, vocab));
    if (!status.ok()) std::fprintf(stderr, "make_corpus: %s\n", status.message().c_str());
  }
  TrigramTable table;
  for (TokenId t = 0; t < 6; ++t) table.raise(t / 2, 1, t, 0.25F * static_cast<float>(t), 3);
  NgramPool pool(5, 3, 50);
  pool.insert(std::vector<TokenId>{1, 2, 3, 4, 5});
  pool.insert(std::vector<TokenId>{1, 2, 3, 4, 6});
  for (const auto& [name, words] : {std::pair("trigrams", table.words()), std::pair("pool", pool.words())}) {
    Bytes bytes(words.size() * sizeof(uint32_t));
    std::memcpy(bytes.data(), words.data(), bytes.size());
    state->add(name, bytes);
  }
  // Token Recycling: two orders of 8 successors, rows of one and of two of them.
  std::string rows;
  append_value(&rows, uint32_t{2});
  append_value(&rows, uint32_t{8});
  for (uint64_t order = 1; order <= 2; ++order) {
    append_value(&rows, uint64_t{1});
    append_value(&rows, order);
    append_value(&rows, static_cast<uint32_t>(order));
    for (uint32_t i = 0; i < order; ++i) {
      append_value(&rows, static_cast<TokenId>(i + 1));
      append_value(&rows, i);
    }
  }
  state->add("recycling", Bytes(rows.begin(), rows.end()));
}

// By the first byte, what http_fuzz.cc reads.
void make_http(Corpus* corpus) {
  const std::pair<char, std::string_view> seeds[] = {
      {0, "GET /v1/models?a=b HTTP/1.1\r\nHost: x\r\n\r\n"},
      {0,
       "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n"
       "{\"prompt\": \"a\"}GET / HTTP/1.1\r\n"},
      {0,
       "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n2;a=b\r\nab\r\n0\r\nc: "
       "d\r\n\r\n"},
      {0, "GET http://x/y HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"},
      {1,
       R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "b"}], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}], "tool_choice": "auto", "stream": true, "stream_options": {"include_usage": true}, "logit_bias": {"1": -100}, "stop": ["x"]})"},
      {1,
       R"json({"messages": [{"role": "system", "content": "a"}], "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}, "temperature": 0.5, "n": 2, "logprobs": true, "top_logprobs": 3, "seed": -1, "draft": "lookup(n=3)", "align": "none", "prompt_logprobs": 1, "regex": "a+", "grammar": "root ::= \"a\"", "choice": ["a"]})json"},
      {2, R"({"prompt": [[1, 2], [3]], "echo": true, "logprobs": 2, "max_tokens": 3, "best_of": 1, "suffix": ""})"},
      {3, R"({"input": ["a", "b"], "encoding_format": "base64", "pooling": "last", "dimensions": 3})"},
      {4, R"({"content": "a", "add_special": false, "parse_special": true, "with_pieces": true})"},
      {5, R"({"tokens": [1, 2, 3]})"},
      {6, "\x01<think>a</think>b <tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": [\"}\"]}}\n</tool_call>"},
      {6, "\x04{\"name\": \"f\", \"parameters\": {}}"},
      {6, "\x0a[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]"},
  };
  size_t number = 0;
  for (const auto& [kind, text] : seeds) {
    Bytes bytes = {static_cast<uint8_t>(kind)};
    bytes.insert(bytes.end(), text.begin(), text.end());
    corpus->add(fmt::format("seed_{}", number++), bytes);
  }
}

}  // namespace
}  // namespace decant

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: make_corpus FOLDER FIXTURES\n");
    return 2;
  }
  const std::string folder = argv[1];
  decant::Corpus gguf(folder + "/gguf"), tokenizer(folder + "/tokenizer"), divergence(folder + "/divergence"),
      safetensors(folder + "/safetensors"), hf_tokenizer(folder + "/hf_tokenizer"), hub(folder + "/hub"),
      jinja(folder + "/jinja"), checkpoint(folder + "/checkpoint"), adapter(folder + "/adapter"),
      schema(folder + "/schema"), regex(folder + "/regex"), gbnf(folder + "/gbnf"), lark(folder + "/lark"),
      alignment(folder + "/alignment"), datastore(folder + "/datastore"), draft_state(folder + "/draft_state"),
      http(folder + "/http");
  decant::make_gguf(&gguf);
  decant::make_tokenizer(&tokenizer);
  decant::make_divergence(&divergence);
  decant::make_safetensors(&safetensors);
  decant::make_hf_tokenizer(&hf_tokenizer);
  decant::make_hub(&hub);
  decant::make_jinja(&jinja);
  decant::make_checkpoints(argv[2], &checkpoint, &adapter);
  decant::make_schemas(&schema, &regex);
  decant::make_grammars(&gbnf, &lark);
  decant::make_alignment(&alignment);
  decant::make_drafts(&datastore, &draft_state);
  decant::make_http(&http);
  for (const decant::Corpus* corpus :
       {&gguf, &tokenizer, &divergence, &safetensors, &hf_tokenizer, &hub, &jinja, &checkpoint, &adapter, &schema,
        &regex, &gbnf, &lark, &alignment, &datastore, &draft_state, &http}) {
    if (corpus->status().ok()) continue;
    std::fprintf(stderr, "make_corpus: %s\n", corpus->status().message().c_str());
    return 1;
  }
  return 0;
}
