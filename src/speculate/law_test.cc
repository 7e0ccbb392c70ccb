// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Verifiers with noise of their own, through the whole loop: whatever is drafted, tokens have the law of plain
// decoding.
//
// A model whose sampler leaves a few tokens has few texts, and what may follow each of them is known: the sampler says
// it of the model's own logits. Two statistics, both distances in total variation from what is known:
//
//   texts   of the first three tokens of a request, for each cell (a verifier, settings of the sampler, a grammar or
//           none): finds gross errors of one setting. About 7 %.
//   drift   over all cells of a verifier: the place of each token in its distribution, where tokens are in order of
//   p/q,
//           is uniform on (0, 1). Verifiers that go wrong keep too many drafts or too few, and so move these places.
//           kBins bins; n places give a distance above
//             bound(n) = sqrt((kBins - 1) / n) / 2 + sqrt(ln(1/a) / 2n)
//           with probability a = 1e-6 at most (the mean's bound, and McDiarmid's of the deviation). kPlaces of them
//           make it 0.72 %: an error of 1 % is found, which the controls show.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>

#include "constrain/compile.h"
#include "engine/generate.h"
#include "engine/test_util.h"
#include "speculate/node_rule.h"
#include "speculate/registry.h"
#include "testing/sanitized.h"

namespace decant {
namespace {

constexpr TokenId kEnd = 2;
constexpr int kTokens = 8;  // of a text
constexpr int kBatch = 48;  // requests side by side
constexpr int kBins = 4;
constexpr double kPlaces = testing::kSanitized ? 20000 : 240000;
const double kLogRarity = std::log(1e6);

double drift_bound(double n) { return std::sqrt((kBins - 1) / n) / 2 + std::sqrt(kLogRarity / (2 * n)); }

enum class Kinds { kWithPoints, kAll };  // points and independent draws, or all

// What may follow a text, and what is drafted there.
struct Place {
  Weights target;                   // the law of plain decoding
  std::vector<TokenLogprob> draft;  // q
  Proposal kind = Proposal::kPoint;
  int width = 0;                // proposals
  std::vector<TokenId> points;  // that are proposed where they are no draws
};

// The law of a request's texts, worked out as it is asked for.
class Law {
 public:
  // With `draws`: so many independent draws everywhere, of drafts that are far off.
  Law(Engine& engine, GenerateRequest request, Kinds kinds, uint64_t seed, int draws = 0)
      : engine_(engine),
        request_(std::move(request)),
        sampler_(*Sampler::create(request_.sampler, engine.model().config().vocab_size)),
        kinds_(kinds),
        seed_(seed),
        draws_(draws) {}
  size_t prompt() const { return request_.prompt.size(); }

  const Place& at(const std::vector<TokenId>& answer) {
    const auto [place, is_new] = places_.try_emplace(answer);
    if (is_new) place->second = make(answer, places_.size());
    return place->second;
  }

 private:
  Place make(const std::vector<TokenId>& answer, uint64_t number) {
    std::vector<TokenId> text = request_.prompt;
    text.insert(text.end(), answer.begin(), answer.end());
    Slice slice{.sequence = engine_.cache().create_sequence(),
                .tokens = text,
                .logits = {static_cast<int32_t>(text.size()) - 1}};
    StepOutput output;
    EXPECT_TRUE(engine_.step({&slice, 1}, &output).ok());
    EXPECT_TRUE(engine_.cache().remove(slice.sequence).ok());
    SamplerState state = sampler_.start(request_.prompt);
    for (const TokenId token : answer) state = sampler_.advance(state, token);
    std::vector<uint64_t> mask;
    if (request_.constraint) {
      ConstraintState behind = request_.constraint->start();
      for (const TokenId token : answer) behind = *request_.constraint->advance(behind, token);
      const auto allowed = request_.constraint->mask(behind);
      mask.assign(allowed->words().begin(), allowed->words().end());
      if (request_.constraint->accepting(behind)) mask[kEnd / 64] |= uint64_t{1} << kEnd % 64;
    }
    const auto row = sampler_.distribution(output.logits(0, 0), state, static_cast<uint32_t>(text.size()), 0, mask);
    EXPECT_TRUE(row.ok()) << row.status().message();
    Place place;
    if (!row.ok()) return place;
    place.target = Weights::of(*row);

    // A draft of the target's tokens and one that it does not have, or that may not come.
    const RngKey key{.seed = seed_, .position = static_cast<uint32_t>(number)};
    uint32_t draw = 0;
    Weights draft = place.target;
    for (double& mass : draft.mass) {
      const double noise = -std::log(random_uniform(key, draw++));
      mass = draws_ > 0 ? 0.05 + std::pow(noise, 3) : mass * 0.5 + noise / 3;
    }
    const TokenId other = 40 + static_cast<TokenId>(random_bits(key, draw++) % 8);
    if (draft.at(other) == 0) {
      const auto where = std::lower_bound(draft.tokens.begin(), draft.tokens.end(), other);
      draft.mass.insert(draft.mass.begin() + (where - draft.tokens.begin()), 0.15);
      draft.tokens.insert(where, other);
    }
    draft.add_up();
    for (size_t i = 0; i < draft.tokens.size(); ++i) {
      place.draft.push_back({draft.tokens[i], static_cast<float>(std::log(draft.mass[i] / draft.sum))});
    }
    const uint32_t kind = random_bits(key, draw++) % 8;
    if (kind > 0) {
      place.kind = kinds_ == Kinds::kAll && kind > 3 ? Proposal::kWithoutReplacement : Proposal::kIid;
    }
    place.width = 1 + static_cast<int>(random_bits(key, draw++) % 3);
    place.points = draft.tokens;
    if (draws_ > 0) {
      place.kind = Proposal::kIid;
      place.width = draws_;
    }
    return place;
  }

  Engine& engine_;
  GenerateRequest request_;
  Sampler sampler_;
  Kinds kinds_;
  uint64_t seed_;
  int draws_;
  std::map<std::vector<TokenId>, Place> places_;
};

// Drafts as the law says. `drops`: forgets draws that may not come (a mistake).
class Draft final : public DraftMethod {
 public:
  explicit Draft(std::shared_ptr<Law> law, bool drops = false) : law_(std::move(law)), drops_(drops) {}
  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new Guess(*law_, drops_));
  }
  std::vector<Proposal> proposals() const override {
    return {Proposal::kPoint, Proposal::kIid, Proposal::kWithoutReplacement};
  }
  int max_nodes() const override { return 7; }
  int max_depth() const override { return 3; }

 private:
  class Guess final : public Drafter {
   public:
    Guess(Law& law, bool drops) : law_(law), drops_(drops) {}
    Status propose(const DraftContext& context, TokenTree* tree) override {
      const RngKey key{.seed = context.draw_seed, .purpose = Purpose::kDraft};
      uint32_t draw = 0;
      for (int parent = kRoot; parent < tree->size(); ++parent) {
        if (tree->depth(parent) == tree->max_depth() || tree->full()) break;
        std::vector<TokenId> answer(context.tokens.begin() + static_cast<ptrdiff_t>(law_.prompt()),
                                    context.tokens.end());
        std::vector<TokenId> way;
        if (parent != kRoot) tree->path(parent, &way);
        answer.insert(answer.end(), way.begin(), way.end());
        if (std::find(way.begin(), way.end(), kEnd) != way.end()) continue;
        if (!possible(answer)) continue;
        const Place& place = law_.at(answer);
        if (place.kind == Proposal::kPoint) {
          for (int i = 0; i < std::min(place.width, static_cast<int>(place.points.size())); ++i) {
            tree->add(parent, place.points[static_cast<size_t>(i)], 0.5f);
          }
          continue;
        }
        tree->set_draft(parent, place.kind, place.draft);
        Weights left = Weights::of(place.draft);
        for (int i = 0; i < place.width && left.sum > 0; ++i) {
          const TokenId token = left.draw(random_uniform(key, draw++));
          if (place.kind == Proposal::kWithoutReplacement) left.remove(token);
          if (!drops_ || place.target.at(token) > 0) tree->propose(parent, token, 0.5f);
        }
      }
      return {};
    }

   private:
    // Nothing is known of texts that do not come.
    bool possible(const std::vector<TokenId>& answer) {
      std::vector<TokenId> before;
      for (const TokenId token : answer) {
        if (law_.at(before).target.at(token) <= 0) return false;
        before.push_back(token);
      }
      return true;
    }
    Law& law_;
    bool drops_;
  };
  std::shared_ptr<Law> law_;
  bool drops_;
};

// The rule of `chain`, but now and then the first draft is kept whatever it is.
class Careless final : public NodeRule {
 public:
  explicit Careless(double often) : often_(often) {}
  std::string_view name() const override { return "careless"; }
  bool takes(Proposal) const override { return true; }
  std::optional<TokenId> accept(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                Weights* rest) const override {
    if (target.at(proposals.tokens[0]) > 0 && test.accept(often_, 1)) return proposals.tokens[0];
    return reject_in_turn(proposals, 1, target, test, rest);
  }

 private:
  double often_;
};

class LawTest : public engine_testing::TinyModelTest {
 protected:
  void SetUp() override {
    open({.context = 64 * (kBatch + 1), .max_rows = 10 * kBatch},
         {.hidden = 32, .layers = 1, .heads = 1, .kv_heads = 1, .ffn = 32, .types = {DType::kF32}});
  }

  // Settings whose distributions have two to four tokens.
  static std::vector<SamplerOptions> settings() {
    SamplerOptions plain;
    plain.temperature = 1.5f;
    plain.top_k = 3;
    plain.top_p = 1;
    plain.min_p = 0;
    plain.seed = 4;
    std::vector<SamplerOptions> all(5, plain);
    all[1].top_k = 4;
    all[1].top_p = 0.8f;
    all[2].repeat_penalty = 1.3f;
    all[2].presence_penalty = 0.5f;
    all[2].frequency_penalty = 0.3f;
    all[3].top_k = 4;
    all[3].min_p = 0.15f;
    all[4].top_k = 4;
    all[4].typical_p = 0.8f;
    return all;
  }
  GenerateRequest request(const SamplerOptions& sampler, bool grammar) {
    GenerateRequest r;
    r.prompt = {5, 6, 7, 9};
    r.sampler = sampler;
    r.max_tokens = kTokens;
    r.end_tokens = {kEnd};
    if (grammar) {
      // With tokens that are forced, and ends.
      auto made = compile_constraint(
          {.kind = ConstraintSpec::Kind::kPattern, .text = "(a[b-e]|b(dd|[fgh])|c|[n-z]d|[A-Z])*", .name = "test"},
          vocabulary_);
      EXPECT_TRUE(made.ok()) << made.status().message();
      r.constraint = *made;
    }
    return r;
  }

  struct Counts {
    std::map<std::vector<TokenId>, int> texts;  // the first three tokens
    std::array<double, kBins> bins{};
    double texts_n = 0, places = 0, tokens = 0, steps = 0;
    double careless = 0;  // over the places, how far they would be from their law if the first draft were always kept
    double drift() const {
      double sum = 0;
      for (const double b : bins) sum += std::abs(b / places - 1.0 / kBins);
      return sum / 2;
    }
    void add(const Counts& c) {
      for (size_t i = 0; i < kBins; ++i) bins[i] += c.bins[i];
      places += c.places;
      tokens += c.tokens;
      careless += c.careless;
      steps += c.steps;
    }
  };

  // Generates until `places` are known.
  Counts sample(Engine& engine, const GenerateRequest& base, Law& law, double places, size_t batch = kBatch) {
    Counts counts;
    const RngKey key{.seed = 77};
    uint32_t draw = 0, sample = 0;
    const auto control = std::make_shared<DraftControl>();
    while (counts.places < places) {
      std::vector<GenerateRequest> requests(batch, base);
      for (GenerateRequest& r : requests) {
        r.sample = sample++;
        r.draft_control = control;
      }
      for (const GenerateResult& result : generate(engine, requests)) {
        EXPECT_TRUE(result.status.ok()) << result.status.message();
        if (!result.status.ok()) return counts;
        std::vector<TokenId> tokens = result.tokens;
        if (result.finish == FinishReason::kStop && std::ssize(tokens) < base.max_tokens) tokens.push_back(kEnd);
        counts.tokens += static_cast<double>(tokens.size());
        counts.steps += static_cast<double>(result.draft.steps);
        ++counts.texts[{tokens.begin(), tokens.begin() + std::min<ptrdiff_t>(3, std::ssize(tokens))}];
        ++counts.texts_n;
        std::vector<TokenId> before;
        for (size_t i = 0; i < tokens.size(); ++i) {
          const Place& place = law.at(before);
          const double p = place.target.at(tokens[i]);
          EXPECT_GT(p, 0);
          // The first token and the last are drawn without drafts.
          if (i > 0 && static_cast<int>(i) + 1 < base.max_tokens && p < 1) {
            const double where = below(place, tokens[i]) + p * random_uniform(key, draw++);
            ++counts.bins[std::min(static_cast<size_t>(where * kBins), size_t{kBins - 1})];
            ++counts.places;
            counts.careless += careless(place);
          }
          before.push_back(tokens[i]);
        }
      }
    }
    return counts;
  }
  // The mass of tokens of smaller p/q; of points, the first comes first.
  static double below(const Place& place, TokenId token) {
    const Weights draft = Weights::of(place.draft);
    const auto ratio = [&](TokenId t) {
      return place.kind == Proposal::kPoint ? static_cast<double>(t) : place.target.at(t) / draft.at(t);
    };
    double sum = 0;
    for (const TokenId t : place.target.tokens) {
      if (ratio(t) < ratio(token) || (ratio(t) == ratio(token) && t < token)) sum += place.target.at(t);
    }
    return sum;
  }

  // The distance between a place's law and that of a first draft, or what comes for it where it cannot be kept.
  static double careless(const Place& place) {
    const Weights draft = Weights::of(place.draft);
    if (place.kind == Proposal::kPoint) {
      const double p = place.target.at(place.points[0]);
      return p > 0 ? 1 - p : 0;
    }
    double kept = 0, left = 0;
    for (const TokenId t : place.target.tokens) {
      kept += draft.at(t);
      left += std::max(place.target.at(t) - draft.at(t), 0.0);
    }
    double sum = 0;
    for (const TokenId t : place.target.tokens) {
      const double rest = left > 0 ? std::max(place.target.at(t) - draft.at(t), 0.0) / left : 0;
      sum += std::abs(draft.at(t) + (1 - kept) * rest - place.target.at(t));
    }
    return sum / 2;
  }

  // The distance of the texts, and what it is below but for one case in a million.
  struct Distance {
    double value = 0, bound = 0;
  };
  Distance texts(const Counts& counts, Law& law) {
    Distance d;
    std::vector<TokenId> text;
    const std::function<void(double)> next = [&](double p) {
      if (text.size() == 3 || (!text.empty() && text.back() == kEnd)) {
        const auto found = counts.texts.find(text);
        const double seen = found == counts.texts.end() ? 0 : found->second;
        d.value += std::abs(seen / counts.texts_n - p) / 2;
        d.bound += std::sqrt(p * (1 - p) / counts.texts_n) / 2;
        return;
      }
      const Weights target = law.at(text).target;
      for (size_t i = 0; i < target.tokens.size(); ++i) {
        text.push_back(target.tokens[i]);
        next(p * target.mass[i]);
        text.pop_back();
      }
    };
    next(1);
    d.bound += std::sqrt(kLogRarity / (2 * counts.texts_n));
    return d;
  }

  static Kinds kinds_of(const Verifier& verifier) {
    return verifier.takes(Proposal::kWithoutReplacement) ? Kinds::kAll : Kinds::kWithPoints;
  }

  // All cells of a verifier.
  Counts run(std::shared_ptr<const Verifier> verifier, double places, bool drops = false, bool check_texts = true) {
    const Kinds kinds = kinds_of(*verifier);
    Counts all;
    const std::vector<SamplerOptions> options = settings();
    for (size_t s = 0; s < options.size(); ++s) {
      for (const bool grammar : {false, true}) {
        GenerateRequest r = request(options[s], grammar);
        const auto law = std::make_shared<Law>(*engine_, r, kinds, s);
        r.draft = std::make_shared<Draft>(law, drops);
        r.verifier = verifier;
        const Counts counts = sample(*engine_, r, *law, places / (2 * static_cast<double>(options.size())));
        all.add(counts);
        if (!check_texts) continue;
        const Distance d = texts(counts, *law);
        worst_ = std::max(worst_, d.value);
        EXPECT_LT(d.value, d.bound) << verifier->name() << " settings " << s << " grammar " << grammar << " n "
                                    << counts.texts_n;
      }
    }
    return all;
  }
  void report(std::string_view name, const Counts& counts) {
    fmt::print("{:>20}: drift {:.4f} of {:.0f} places (bound {:.4f}), texts at most {:.3f}, {:.2f} tokens a step\n",
               name, counts.drift(), counts.places, drift_bound(counts.places), worst_, counts.tokens / counts.steps);
  }

  const std::shared_ptr<const JsonVocabulary> vocabulary_ =
      engine_testing::vocabulary_of(engine_testing::letter_texts());
  double worst_ = 0;
};

class ExactVerifier : public LawTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ExactVerifier, TextsHaveTheLawOfPlainDecoding) {
  const Counts counts = run(*make_verifier(GetParam()), kPlaces);
  report(GetParam(), counts);
  if (!testing::kSanitized) {
    EXPECT_LT(drift_bound(counts.places), 0.0073);
  }
  EXPECT_LT(counts.drift(), drift_bound(counts.places));
}
INSTANTIATE_TEST_SUITE_P(All, ExactVerifier, ::testing::Values("match", "chain", "rrs", "rsd", "kseq", "transport"));

// An error of one percent: the same n, the same bound.
TEST_F(LawTest, AVerifierThatIsWrongByOnePercentIsFound) {
  if (testing::kSanitized) GTEST_SKIP() << "too few draws under a sanitizer to tell the laws apart";
  constexpr double kOften = 0.07;
  const Counts counts = run(std::make_shared<const Careless>(kOften), kPlaces, false, false);
  report("careless", counts);
  EXPECT_LT(kOften * counts.careless / counts.places, 0.01)
      << counts.careless / counts.places;  // at most: not all places have drafts
  EXPECT_GT(counts.drift(), drift_bound(counts.places));
}

TEST_F(LawTest, DraftersThatForgetDrawsAreFound) {
  if (testing::kSanitized) GTEST_SKIP() << "too few draws under a sanitizer to tell the laws apart";
  const Counts counts = run(*make_verifier("rrs"), kPlaces / 3, true, false);
  report("forgotten draws", counts);
  EXPECT_GT(counts.drift(), drift_bound(counts.places));
}

TEST_F(LawTest, TypicalAcceptanceHasAnotherLaw) {
  if (testing::kSanitized) GTEST_SKIP() << "too few draws under a sanitizer to tell the laws apart";
  const Counts counts = run(*make_verifier("typical"), kPlaces / 3, false, false);
  report("typical", counts);
  EXPECT_GT(counts.drift(), 2 * drift_bound(counts.places));
  EXPECT_GT(counts.tokens, 3.3 * counts.steps);  // and keeps more than any exact rule
  // Where nothing is likely enough it is the target's.
  const Counts strict = run(*make_verifier("typical(epsilon=1, delta=100)"), kPlaces / 6);
  EXPECT_LT(strict.drift(), drift_bound(strict.places));
}

// One more row fits, so that the size of the tree, which depends on what was drawn, decides whether it can be run.
TEST_F(LawTest, TreesThatDoNotFitIntoTheCacheLeaveTheLawAlone) {
  const auto small = *Engine::create(model_, {.context = 64, .max_rows = 64});
  for (const char* name : {"rrs", "kseq", "transport"}) {
    GenerateRequest r = request(settings()[0], false);
    r.prompt.resize(62, 7);
    r.max_tokens = 3;
    r.verifier = *make_verifier(name);
    Counts all;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const auto law = std::make_shared<Law>(*engine_, r, Kinds::kAll, seed, 2);
      r.draft = std::make_shared<Draft>(law);
      const Counts counts = sample(*small, r, *law, kPlaces / 90, 1);
      const Distance d = texts(counts, *law);
      EXPECT_LT(d.value, d.bound) << name;
      all.add(counts);
    }
    report(fmt::format("{}, full cache", name), all);
    EXPECT_LT(all.drift(), drift_bound(all.places));
  }
}

// The second or third draw finds the tree full, unless it is one that was drawn before.
TEST_F(LawTest, TreesThatAreFullLeaveTheLawAlone) {
  for (const char* name : {"rrs", "kseq", "transport"}) {
    GenerateRequest r = request(settings()[0], false);
    r.max_tokens = 3;
    r.draft_nodes = 1;
    r.verifier = *make_verifier(name);
    Counts all;
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const auto law = std::make_shared<Law>(*engine_, r, Kinds::kAll, seed, 3);
      r.draft = std::make_shared<Draft>(law);
      const Counts counts = sample(*engine_, r, *law, kPlaces / 24);
      const Distance d = texts(counts, *law);
      EXPECT_LT(d.value, d.bound) << name;
      all.add(counts);
    }
    report(fmt::format("{}, full tree", name), all);
    EXPECT_LT(all.drift(), drift_bound(all.places));
  }
}

TEST_F(LawTest, GreedyTextsAreThoseOfPlainDecoding) {
  for (const VerifierInfo& info : verifiers()) {
    for (const bool grammar : {false, true}) {
      for (const bool in_time : {false, true}) {
        SamplerOptions sampler = settings()[2];
        sampler.temperature = 0;
        GenerateRequest r = request(sampler, grammar);
        r.finish_in_time = in_time && grammar;
        const GenerateResult plain = generate(*engine_, {&r, 1}).front();
        r.verifier = *make_verifier(info.name);
        const auto law = std::make_shared<Law>(*engine_, r, kinds_of(*r.verifier), 3);
        r.draft = std::make_shared<Draft>(law);
        for (uint64_t seed = 0; seed < 20; ++seed) {
          r.sampler.seed = seed;
          GenerateRequest one = r;
          const GenerateResult with = generate(*engine_, {&one, 1}).front();
          EXPECT_EQ(with.tokens, plain.tokens) << info.name;
          EXPECT_EQ(with.finish, plain.finish) << info.name;
        }
      }
    }
  }
}

TEST_F(LawTest, TextsDoNotDependOnNeighbours) {
  for (const VerifierInfo& info : verifiers()) {
    GenerateRequest base = request(settings()[1], true);
    base.verifier = *make_verifier(info.name);
    base.adapt_draft = false;
    base.n_logprobs = 1;
    base.draft = std::make_shared<Draft>(std::make_shared<Law>(*engine_, base, kinds_of(*base.verifier), 5));
    std::vector<GenerateRequest> requests(12, base);
    std::vector<std::vector<TokenId>> alone;
    for (uint32_t i = 0; i < requests.size(); ++i) {
      requests[i].sample = i;
      GenerateRequest one = requests[i];
      const GenerateResult result = generate(*engine_, {&one, 1}).front();
      EXPECT_EQ(result.draws.size(), result.tokens.size());
      alone.push_back(result.tokens);
    }
    const std::vector<GenerateResult> together = generate(*engine_, requests);
    for (size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(together[i].tokens, alone[i]) << info.name;
    std::sort(alone.begin(), alone.end());
    EXPECT_NE(alone.front(), alone.back());
  }
}

}  // namespace
}  // namespace decant
