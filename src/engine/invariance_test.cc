// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Rule 1 of docs/exactness.md: a request's numbers are the same bits whatever runs beside it, however its prompt is
// cut, as a chain or inside a token tree, on any number of threads and with every kernel table of the machine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "base/rng.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "formats/gguf.h"
#include "kernels/guarded_device.h"
#include "kernels/test_util.h"
#include "testing/tiny_model.h"

namespace decant {
namespace {

using testing::make_tiny_model;
using testing::TinyModelSpec;

constexpr int kContext = 8192;
constexpr size_t kDecoded = 12;

struct Loaded {
  std::unique_ptr<Device> device;
  std::shared_ptr<const Model> model;
  std::unique_ptr<Engine> engine;
};

Loaded load(const std::vector<uint8_t>& bytes, std::string_view table, int threads, EngineOptions options = {},
            bool guarded = false) {
  Loaded l;
  auto device = guarded           ? make_guarded_device(threads, table)
                : table == "cuda" ? make_cuda_device()
                                  : make_cpu_device(threads, table);
  EXPECT_TRUE(device.ok()) << device.status().message();
  l.device = std::move(device).value();
  auto file = GgufFile::parse(bytes, "tiny.gguf");
  EXPECT_TRUE(file.ok()) << file.status().message();
  auto model = Model::load(*file, *l.device);
  EXPECT_TRUE(model.ok()) << model.status().message();
  l.model = std::move(model).value();
  if (options.context == EngineOptions{}.context) options.context = kContext;
  auto engine = Engine::create(l.model, options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  l.engine = std::move(engine).value();
  return l;
}

std::vector<TokenId> random_tokens(size_t n, uint64_t seed) {
  std::vector<TokenId> tokens(n);
  for (size_t i = 0; i < n; ++i) {
    tokens[i] = static_cast<TokenId>(random_bits({.seed = seed}, static_cast<uint32_t>(i)) % testing::kTinyVocab);
  }
  return tokens;
}

// Logits of the last prompt token and of every continuation token, one row each.
using Rows = std::vector<std::vector<float>>;

std::vector<float> copy(std::span<const float> row) { return {row.begin(), row.end()}; }

void expect_same_bits(const Rows& got, const Rows& want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), want[i].size()) << what;
    size_t different = 0;
    for (size_t j = 0; j < got[i].size(); ++j) different += std::memcmp(&got[i][j], &want[i][j], sizeof(float)) != 0;
    ASSERT_EQ(different, 0U) << what << ": row " << i << " of " << got.size() << " differs in " << different
                             << " logits";
  }
}

// The request under test among neighbours: every round each sequence advances by a prefill chunk or by one forced
// token.
Rows run_chain(Engine& engine, const std::vector<TokenId>& prompt, const std::vector<TokenId>& continuation, int batch,
               int chunk) {
  struct Member {
    SequenceId sequence;
    std::vector<TokenId> tokens;
    size_t prompt, fed = 0;
  };
  std::vector<Member> members;
  for (int i = 0; i < batch; ++i) {
    Member m{engine.cache().create_sequence(), {}, 0};
    if (i == batch / 2) {
      m.tokens = prompt;
      m.tokens.insert(m.tokens.end(), continuation.begin(), continuation.end());
      m.prompt = prompt.size();
    } else {
      m.tokens = random_tokens(5 + static_cast<size_t>(i * 13 % 90), 1000 + static_cast<uint64_t>(i));
      m.prompt = m.tokens.size() * 2 / 3 + 1;
    }
    members.push_back(std::move(m));
  }
  const size_t target = static_cast<size_t>(batch / 2);
  Rows rows;
  StepOutput out;
  while (members[target].fed < members[target].tokens.size()) {
    std::vector<Slice> slices;
    std::vector<size_t> who;
    int left = engine.options().max_rows;
    for (size_t i = 0; i < members.size() && left > 0; ++i) {
      Member& m = members[i];
      if (m.fed == m.tokens.size()) continue;
      size_t n = 1;
      if (m.fed < m.prompt)
        n = std::min<size_t>(
            {static_cast<size_t>(chunk > 0 ? chunk : left), m.prompt - m.fed, static_cast<size_t>(left)});
      Slice s{.sequence = m.sequence, .tokens = std::span<const TokenId>(m.tokens).subspan(m.fed, n)};
      if (m.fed + n >= m.prompt) s.logits = {static_cast<int32_t>(n - 1)};
      slices.push_back(s);
      who.push_back(i);
      left -= static_cast<int>(n);
    }
    const Status status = engine.step(slices, &out);
    EXPECT_TRUE(status.ok()) << status.message();
    for (size_t s = 0; s < slices.size(); ++s) {
      members[who[s]].fed += slices[s].tokens.size();
      if (who[s] == target && !slices[s].logits.empty()) rows.push_back(copy(out.logits(s, 0)));
    }
  }
  for (const Member& m : members) EXPECT_TRUE(engine.cache().remove(m.sequence).ok());
  return rows;
}

// The continuation as one path of a token tree whose other nodes are decoys, in one step or grown level by level; then
// the path is committed and the last token is asked for again as a chain.
Rows run_tree(Engine& engine, const std::vector<TokenId>& prompt, const std::vector<TokenId>& continuation,
              bool by_level) {
  Rows rows;
  StepOutput out;
  const SequenceId seq = engine.cache().create_sequence();
  Slice prefill{.sequence = seq, .tokens = prompt, .logits = {static_cast<int32_t>(prompt.size()) - 1}};
  EXPECT_TRUE(engine.step({&prefill, 1}, &out).ok());
  rows.push_back(copy(out.logits(0, 0)));
  // All but the last continuation token go into the tree. Before each of its nodes stand decoys: a sibling, a child of
  // it.
  std::vector<TokenId> tokens;
  std::vector<int32_t> parents, path;
  std::vector<size_t> levels = {0};
  int32_t parent = -1;
  for (size_t i = 0; i + 1 < continuation.size(); ++i) {
    const auto decoy = static_cast<int32_t>(tokens.size());
    tokens.push_back(static_cast<TokenId>((continuation[i] + 7) % testing::kTinyVocab));
    parents.push_back(parent);
    if (i % 2 == 0) {
      tokens.push_back(continuation[i]);
      parents.push_back(decoy);
    }
    path.push_back(static_cast<int32_t>(tokens.size()));
    tokens.push_back(continuation[i]);
    parents.push_back(parent);
    parent = path.back();
    levels.push_back(tokens.size());
  }
  for (size_t l = 0; l + 1 < levels.size(); l += by_level ? 1 : levels.size() - 1) {
    const size_t begin = levels[l];
    const size_t end = by_level ? levels[l + 1] : tokens.size();
    Slice s{.sequence = seq,
            .tokens = std::span<const TokenId>(tokens).subspan(begin, end - begin),
            .mask = Mask::kTree,
            .parents = std::span<const int32_t>(parents).subspan(begin, end - begin)};
    for (int32_t node : path) {
      if (node >= static_cast<int32_t>(begin) && node < static_cast<int32_t>(end))
        s.logits.push_back(node - static_cast<int32_t>(begin));
    }
    const Status status = engine.step({&s, 1}, &out);
    EXPECT_TRUE(status.ok()) << status.message();
    for (size_t i = 0; i < s.logits.size(); ++i) rows.push_back(copy(out.logits(0, i)));
  }
  EXPECT_TRUE(engine.cache().commit(seq, path).ok());
  EXPECT_EQ(engine.cache().length(seq), static_cast<int>(prompt.size() + path.size()));
  Slice last{.sequence = seq, .tokens = std::span<const TokenId>(continuation).last(1), .logits = {0}};
  EXPECT_TRUE(engine.step({&last, 1}, &out).ok());
  rows.push_back(copy(out.logits(0, 0)));
  EXPECT_TRUE(engine.cache().remove(seq).ok());
  return rows;
}

struct Case {
  std::string name;
  TinyModelSpec spec;
  EngineOptions options = {};
};

std::vector<Case> cases() {
  return {
      {"LlamaMixedTypes", {}},
      {"LlamaKQuants",
       {.hidden = 256,
        .layers = 2,
        .heads = 8,
        .kv_heads = 2,
        .ffn = 256,
        .types = {DType::kQ4_K, DType::kQ6_K, DType::kQ2_K, DType::kQ3_K, DType::kQ5_K, DType::kIQ4_XS,
                  DType::kMXFP4}}},
      {"LlamaFloat", {.biases = true, .tied = false, .types = {DType::kF32, DType::kF16, DType::kBF16}}},
      {"LlamaQuantizedCache",
       {.types = {DType::kQ4_0, DType::kQ5_1, DType::kIQ4_NL}},
       {.k_type = DType::kQ8_0, .v_type = DType::kQ4_1}},
      {"LlamaWindow", {.window = 20}},
      {"Gemma3", {.architecture = "gemma3", .layers = 4, .kv_heads = 1, .window = 70}},
  };
}

class Invariance : public ::testing::TestWithParam<size_t> {};

TEST_P(Invariance, LogitsAreTheSameBitsInEveryBatchChunkTreeThreadCountAndTable) {
  const Case c = cases()[GetParam()];
  const std::vector<uint8_t> bytes = make_tiny_model(c.spec).serialize();
  const std::vector<TokenId> prompt = random_tokens(150, 7);
  const std::vector<TokenId> continuation = random_tokens(kDecoded, 8);

  Loaded reference = load(bytes, "scalar", 1, c.options);
  const Rows want = run_chain(*reference.engine, prompt, continuation, 1, 0);
  ASSERT_EQ(want.size(), kDecoded + 1);
  // A model that gives everything the same logits would pass any comparison.
  ASSERT_NE(want[0], want[1]);

  for (const std::string& table : kernel_testing::every_table()) {
    for (int threads : {1, 2}) {
      const std::string where = table + ", " + std::to_string(threads) + " threads, ";
      if (table == "cuda") {
        auto device = make_cuda_device();
        if (threads > 1 || !device.ok() || !(*device)->supports_cache_type(c.options.k_type) ||
            !(*device)->supports_cache_type(c.options.v_type)) {
          continue;
        }
      }
      Loaded l = load(bytes, table, threads, c.options);
      for (int chunk : {1, 5, 64, 0}) {
        expect_same_bits(run_chain(*l.engine, prompt, continuation, 1, chunk), want,
                         where + "chunk " + std::to_string(chunk));
      }
      for (int batch : {2, 7, 32}) {
        expect_same_bits(run_chain(*l.engine, prompt, continuation, batch, batch == 7 ? 5 : 64), want,
                         where + "batch " + std::to_string(batch));
      }
      expect_same_bits(run_tree(*l.engine, prompt, continuation, false), want, where + "tree");
      expect_same_bits(run_tree(*l.engine, prompt, continuation, true), want, where + "tree by level");
      EXPECT_EQ(l.engine->cache().free_pages(), l.engine->cache().pages()) << "pages leaked";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Invariance, ::testing::Range<size_t>(0, cases().size()),
                         [](const auto& param) { return cases()[param.param].name; });

TEST(Generate, SameSeedGivesTheSameTextInEveryBatchAndChunk) {
  const std::vector<uint8_t> bytes = make_tiny_model({}).serialize();
  const auto request = [](uint64_t i) {
    GenerateRequest r;
    r.prompt = random_tokens(20 + i * 11 % 100, i);
    r.max_tokens = 20;
    r.sampler.seed = 42 + i;
    r.sampler.temperature = i % 3 == 0 ? 0.0f : 1.0f;
    r.sampler.repeat_penalty = 1.1f;
    return r;
  };
  std::vector<std::vector<TokenId>> want;
  Loaded alone = load(bytes, "scalar", 1);
  for (uint64_t i = 0; i < 32; ++i) {
    std::vector<GenerateRequest> one = {request(i)};
    const std::vector<GenerateResult> got = generate(*alone.engine, one);
    ASSERT_TRUE(got[0].status.ok()) << got[0].status.message();
    ASSERT_EQ(got[0].tokens.size(), 20U);
    want.push_back(got[0].tokens);
  }
  EXPECT_NE(want[1], want[2]);
  for (const std::string& table : kernel_testing::every_table()) {
    Loaded l = load(bytes, table, 2);
    for (size_t batch : {2, 7, 32}) {
      for (int chunk : {1, 5, 64, 0}) {
        std::vector<GenerateRequest> requests;
        for (uint64_t i = 0; i < batch; ++i) requests.push_back(request(i));
        const std::vector<GenerateResult> got = generate(*l.engine, requests, {.prefill_chunk = chunk});
        for (size_t i = 0; i < batch; ++i) {
          EXPECT_EQ(got[i].tokens, want[i]) << table << " batch " << batch << " chunk " << chunk << " request " << i;
        }
      }
    }
  }
}

TEST(Generate, ASequenceIsContinuedByOneRequestOnly) {
  Loaded l = load(make_tiny_model({}).serialize(), "", 1);
  std::vector<GenerateRequest> requests(3);
  for (GenerateRequest& r : requests) {
    r.prompt = random_tokens(20, 1);
    r.max_tokens = 4;
  }
  const SequenceId sequence = l.engine->cache().create_sequence();
  requests[0].sequence = requests[2].sequence = sequence;
  const std::vector<GenerateResult> got = generate(*l.engine, requests);
  EXPECT_TRUE(got[0].status.ok()) << got[0].status.message();
  EXPECT_TRUE(got[1].status.ok()) << got[1].status.message();
  EXPECT_EQ(got[2].status.code(), Code::kInvalidArgument);
  EXPECT_EQ(got[2].finish, FinishReason::kError);
  EXPECT_EQ(l.engine->cache().length(sequence), 20 + 3);
}

TEST(Seam, NothingAboveTheTableReadsDeviceMemory) {
  const std::vector<uint8_t> bytes = make_tiny_model({.architecture = "gemma3", .layers = 2, .window = 16}).serialize();
  const std::vector<TokenId> prompt = random_tokens(70, 3);
  const std::vector<TokenId> continuation = random_tokens(6, 4);
  Loaded plain = load(bytes, "scalar", 1, {.context = 512});
  Loaded guarded = load(bytes, "scalar", 1, {.context = 512}, true);
  const Rows want = run_chain(*plain.engine, prompt, continuation, 1, 0);
  expect_same_bits(run_chain(*guarded.engine, prompt, continuation, 2, 5), want, "guarded chain");
  expect_same_bits(run_tree(*guarded.engine, prompt, continuation, false), want, "guarded tree");
}

// A family of sequences: each is forked from an earlier one somewhere, then goes on with tokens of its own.
struct Relative {
  int parent = -1;
  size_t fork = 0;             // tokens taken from the parent
  std::vector<TokenId> own;    // then these, all before the step under test
  std::vector<TokenId> last;   // rows of that step
  bool tree = false;           // as a token tree: a chain behind a decoy
  std::vector<TokenId> whole;  // all but `last`
};

// Depth 1 to 4, up to 5 children each.
std::vector<Relative> random_family(uint64_t seed) {
  kernel_testing::Random random(seed);
  std::vector<Relative> family;
  const std::function<void(int, int)> grow = [&](int parent, int depth) {
    Relative r;
    r.parent = parent;
    const size_t length = parent < 0 ? 0 : family[static_cast<size_t>(parent)].whole.size();
    // Near the end more often than not, or little would be shared.
    const int cut = random.below(3) == 0 ? random.below(static_cast<int>(length) + 1) : 0;
    r.fork = length - static_cast<size_t>(cut);
    r.own = random_tokens(static_cast<size_t>(parent < 0 ? 60 + random.below(150) : random.below(90)), random.bits());
    r.last = random_tokens(static_cast<size_t>(1 + random.below(2) * random.below(6)), random.bits());
    r.tree = random.below(4) == 0;
    if (parent >= 0) {
      const auto& from = family[static_cast<size_t>(parent)].whole;
      r.whole.assign(from.begin(), from.begin() + static_cast<ptrdiff_t>(r.fork));
    }
    r.whole.insert(r.whole.end(), r.own.begin(), r.own.end());
    family.push_back(r);
    const auto self = static_cast<int>(family.size()) - 1;
    if (depth == 0) return;
    for (int child = 1 + random.below(depth > 2 ? 2 : 4); child > 0; --child) grow(self, depth - 1);
  };
  grow(-1, 1 + static_cast<int>(seed % 3));
  return family;
}

// The logits of the last rows of each relative in `present`, from one step over all of them.
std::vector<Rows> run_family(Engine& engine, const std::vector<Relative>& family, const std::vector<bool>& present) {
  KvCache& cache = engine.cache();
  StepOutput out;
  std::vector<SequenceId> sequences;
  for (const Relative& r : family) {
    const SequenceId sequence = r.parent < 0
                                    ? cache.create_sequence()
                                    : *cache.fork(sequences[static_cast<size_t>(r.parent)], static_cast<int>(r.fork));
    sequences.push_back(sequence);
    for (size_t at = 0; at < r.own.size(); at += 64) {
      const Slice s{.sequence = sequence,
                    .tokens = std::span(r.own).subspan(at, std::min<size_t>(64, r.own.size() - at))};
      EXPECT_TRUE(engine.step({&s, 1}, &out).ok());
    }
  }
  std::vector<std::vector<TokenId>> tokens(family.size());
  std::vector<std::vector<int32_t>> parents(family.size());
  std::vector<Slice> slices;
  std::vector<size_t> who;
  // In reverse: the engine finds who shares, whatever order the slices come in.
  for (size_t i = family.size(); i-- > 0;) {
    if (!present[i]) continue;
    const Relative& r = family[i];
    tokens[i] = r.last;
    Slice s{.sequence = sequences[i]};
    if (r.tree) {
      tokens[i].insert(tokens[i].begin(), (r.last[0] + 5) % testing::kTinyVocab);
      parents[i].assign(tokens[i].size(), -1);
      for (size_t t = 2; t < tokens[i].size(); ++t) parents[i][t] = static_cast<int32_t>(t) - 1;
      s.mask = Mask::kTree;
      s.parents = parents[i];
    }
    s.tokens = tokens[i];
    for (size_t t = r.tree ? 1 : 0; t < tokens[i].size(); ++t) s.logits.push_back(static_cast<int32_t>(t));
    slices.push_back(s);
    who.push_back(i);
  }
  const Status status = engine.step(slices, &out);
  EXPECT_TRUE(status.ok()) << status.message();
  std::vector<Rows> rows(family.size());
  for (size_t s = 0; s < slices.size(); ++s) {
    for (size_t i = 0; i < slices[s].logits.size(); ++i) rows[who[s]].push_back(copy(out.logits(s, i)));
  }
  for (const SequenceId s : sequences) EXPECT_TRUE(cache.remove(s).ok());
  return rows;
}

TEST_P(Invariance, SequencesThatSharePagesGiveTheBitsTheyGiveAlone) {
  const Case c = cases()[GetParam()];
  const std::vector<uint8_t> bytes = make_tiny_model(c.spec).serialize();
  Loaded alone = load(bytes, "", 1, c.options);
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const std::vector<Relative> family = random_family(seed);
    std::vector<Rows> want;
    for (const Relative& r : family) {
      std::vector<TokenId> continuation = r.last;
      Rows rows = run_chain(*alone.engine, r.whole, continuation, 1, 0);
      rows.erase(rows.begin());  // the prompt's last row
      want.push_back(std::move(rows));
    }
    for (const std::string& table : kernel_testing::every_table()) {
      if (table == "cuda") {
        auto device = make_cuda_device();
        if (!device.ok() || !(*device)->supports_cache_type(c.options.k_type) ||
            !(*device)->supports_cache_type(c.options.v_type)) {
          continue;
        }
      }
      if (table == "scalar" && seed > 1) continue;  // slow
      Loaded l = load(bytes, table, 2, c.options);
      kernel_testing::Random random(seed);
      for (int round = 0; round < 3; ++round) {
        std::vector<bool> present(family.size(), true);
        for (size_t i = 0; i < present.size() && round > 0; ++i) present[i] = random.below(3) > 0;
        if (std::find(present.begin(), present.end(), true) == present.end()) continue;
        const std::vector<Rows> got = run_family(*l.engine, family, present);
        for (size_t i = 0; i < family.size(); ++i) {
          if (!present[i]) continue;
          expect_same_bits(got[i], want[i],
                           table + ", family " + std::to_string(seed) + ", round " + std::to_string(round) +
                               ", member " + std::to_string(i));
        }
      }
      EXPECT_EQ(l.engine->cache().free_pages(), l.engine->cache().pages()) << "pages leaked";
    }
  }
}

TEST(Fork, SharedPagesAreCopiedBeforeTheyDiverge) {
  const std::vector<uint8_t> bytes = make_tiny_model({}).serialize();
  Loaded l = load(bytes, "", 2);
  Engine& engine = *l.engine;
  KvCache& cache = engine.cache();
  const std::vector<TokenId> prompt = random_tokens(100, 5);
  const std::vector<TokenId> a = random_tokens(40, 6), b = random_tokens(40, 9);
  std::vector<TokenId> prompt_a = prompt, prompt_b(prompt.begin(), prompt.begin() + 90);
  const Rows want_a = run_chain(engine, prompt, a, 1, 0);
  const Rows want_b = run_chain(engine, prompt_b, b, 1, 0);

  StepOutput out;
  const SequenceId parent = cache.create_sequence();
  Slice prefill{.sequence = parent, .tokens = prompt, .logits = {99}};
  ASSERT_TRUE(engine.step({&prefill, 1}, &out).ok());
  auto child = cache.fork(parent, 90);
  ASSERT_TRUE(child.ok());
  EXPECT_EQ(cache.pages() - cache.free_pages(), 2) << "a fork shares its parent's pages";
  Rows got_a = {want_a[0]}, got_b = {want_b[0]};
  for (size_t i = 0; i < a.size(); ++i) {
    const Slice both[] = {{.sequence = parent, .tokens = {&a[i], 1}, .logits = {0}},
                          {.sequence = *child, .tokens = {&b[i], 1}, .logits = {0}}};
    ASSERT_TRUE(engine.step(both, &out).ok());
    got_a.push_back(copy(out.logits(0, 0)));
    got_b.push_back(copy(out.logits(1, 0)));
  }
  expect_same_bits(got_a, want_a, "parent");
  expect_same_bits(got_b, want_b, "child");

  // Truncated back, the sequence gives the same answer again.
  ASSERT_TRUE(cache.truncate(parent, 100).ok());
  Rows again = {want_a[0]};
  for (const TokenId& token : a) {
    const Slice s{.sequence = parent, .tokens = {&token, 1}, .logits = {0}};
    ASSERT_TRUE(engine.step({&s, 1}, &out).ok());
    again.push_back(copy(out.logits(0, 0)));
  }
  expect_same_bits(again, want_a, "after truncate");
  ASSERT_TRUE(cache.remove(parent).ok());
  ASSERT_TRUE(cache.remove(*child).ok());
  EXPECT_EQ(cache.free_pages(), cache.pages());
}

}  // namespace
}  // namespace decant
