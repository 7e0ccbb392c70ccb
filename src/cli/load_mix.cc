// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/load_mix.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/rng.h"
#include "eval/questions.h"

namespace decant::cli {
namespace {

constexpr std::array<std::string_view, 4> kMixNames = {"fixed", "spec-bench", "shared-prefix", "long-prompt"};

// Frequent enough that a vocabulary of words or word pieces has each of them, with a blank in front, as one token.
constexpr std::string_view kWords[] = {
    "time",    "year",        "people",      "way",       "day",        "man",       "thing",   "woman",   "life",
    "child",   "world",       "school",      "state",     "family",     "student",   "group",   "country", "problem",
    "hand",    "part",        "place",       "case",      "week",       "company",   "system",  "program", "question",
    "work",    "government",  "number",      "night",     "point",      "home",      "water",   "room",    "mother",
    "area",    "money",       "story",       "fact",      "month",      "lot",       "right",   "study",   "book",
    "eye",     "job",         "word",        "business",  "issue",      "side",      "kind",    "head",    "house",
    "service", "friend",      "father",      "power",     "hour",       "game",      "line",    "end",     "member",
    "law",     "car",         "city",        "community", "name",       "president", "team",    "minute",  "idea",
    "body",    "information", "back",        "parent",    "face",       "others",    "level",   "office",  "door",
    "health",  "person",      "art",         "war",       "history",    "party",     "result",  "change",  "morning",
    "reason",  "research",    "girl",        "guy",       "moment",     "air",       "teacher", "force",   "education",
    "foot",    "boy",         "age",         "policy",    "process",    "music",     "market",  "sense",   "nation",
    "plan",    "college",     "interest",    "death",     "experience", "effect",    "use",     "class",   "control",
    "care",    "field",       "development", "role",      "effort",     "rate",      "heart",   "drug",    "show",
    "leader",  "light",       "voice",       "wife",      "police",     "mind"};

// Streams of random numbers, one for each purpose.
enum Stream : uint64_t { kPrefixWords = 1, kPromptWords = 2, kWarmUpWords = 3, kArrivals = 4 };

RngKey key_of(uint64_t seed, uint64_t stream, uint64_t i) {
  return {.seed = seed ^ (stream * 0x9E3779B97F4A7C15ULL),
          .sample = static_cast<uint32_t>(i >> 32),
          .position = static_cast<uint32_t>(i)};
}

std::string words(const RngKey& key, int count) {
  std::string text;
  for (int w = 0; w < count; ++w) {
    if (w > 0) text += ' ';
    text += kWords[random_bits(key, static_cast<uint32_t>(w)) % std::size(kWords)];
  }
  return text;
}

// First turns, one of each category after the other, so that a short load meets all of them.
std::vector<std::string> in_turns(const std::vector<Question>& questions) {
  std::vector<std::vector<std::string>> categories;
  std::map<std::string, size_t> places;
  for (const Question& q : questions) {
    const auto [place, is_new] = places.emplace(q.category, categories.size());
    if (is_new) categories.emplace_back();
    categories[place->second].push_back(q.turns.front());
  }
  std::vector<std::string> out;
  for (size_t k = 0; out.size() < questions.size(); ++k) {
    for (const std::vector<std::string>& category : categories) {
      if (k < category.size()) out.push_back(category[k]);
    }
  }
  return out;
}

}  // namespace

std::optional<LoadMix> parse_load_mix(std::string_view name) {
  const auto found = std::find(kMixNames.begin(), kMixNames.end(), name);
  if (found == kMixNames.end()) return std::nullopt;
  return static_cast<LoadMix>(found - kMixNames.begin());
}

std::string_view load_mix_name(LoadMix mix) { return kMixNames[static_cast<size_t>(mix)]; }

PromptMix::PromptMix(const MixOptions& options) : options_(options) {
  if (options.mix == LoadMix::kSharedPrefix) {
    prefix_ = words(key_of(options.seed, kPrefixWords, 0), options.prefix_tokens) + ".\n\n";
  }
}

Result<PromptMix> PromptMix::open(const MixOptions& options) {
  PromptMix mix(options);
  if (options.mix == LoadMix::kSpecBench) {
    if (options.data.empty()) {
      return Status::invalid_argument("--mix spec-bench needs --data DIR, the folder of spec-bench/question.jsonl");
    }
    DECANT_TRY(const std::vector<Question> questions, load_spec_bench(options.data));
    mix.questions_ = in_turns(questions);
    if (mix.questions_.empty()) return Status::corrupt("{}: no questions", options.data);
  }
  return mix;
}

std::string PromptMix::make(uint64_t stream, uint64_t i) const {
  if (options_.mix == LoadMix::kSpecBench) {
    // Warm-up takes from the end what the load comes to last.
    const uint64_t k = i % questions_.size();
    return questions_[stream == kWarmUpWords ? questions_.size() - 1 - k : k];
  }
  const bool long_one = stream == kPromptWords && is_long(i);
  return prefix_ + words(key_of(options_.seed, stream, i), long_one ? options_.long_tokens : options_.prompt_tokens);
}

bool PromptMix::is_long(uint64_t i) const {
  // The last of its group, so that streams run when it comes.
  const auto every = static_cast<uint64_t>(options_.long_every);
  return options_.mix == LoadMix::kLongPrompt && i % every == every - 1;
}

std::string PromptMix::prompt(uint64_t i) const { return make(kPromptWords, i); }
std::string PromptMix::warm_up_prompt(uint64_t i) const { return make(kWarmUpWords, i); }

std::vector<double> poisson_arrivals(double rate, size_t count, double duration_s, uint64_t seed) {
  std::vector<double> arrivals;
  double now = 0;
  const size_t most = count > 0 ? std::min(count, kMaxArrivals) : kMaxArrivals;
  while (arrivals.size() < most) {
    now -= std::log(random_uniform(key_of(seed, kArrivals, arrivals.size()), 0)) / rate;
    if (count == 0 && now >= duration_s) break;
    arrivals.push_back(now);
  }
  return arrivals;
}

}  // namespace decant::cli
