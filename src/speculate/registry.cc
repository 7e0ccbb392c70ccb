// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/hash.h"
#include "base/printable.h"
#include "speculate/methods.h"
#include "text/tokenizer.h"

namespace decant {
namespace {

const std::vector<DrafterInfo>& drafter_list() {
  static const std::vector<DrafterInfo> list = {
      lookup_drafter(), sam_drafter(),       datastore_drafter(), aded_drafter(),
      rasd_drafter(),   lookahead_drafter(), recycling_drafter(), model_drafter(),
  };
  return list;
}

const std::vector<VerifierInfo>& verifier_list() {
  static const std::vector<VerifierInfo> list = {
      coupled_verifier(), match_verifier(), chain_verifier(),     rrs_verifier(),
      rsd_verifier(),     kseq_verifier(),  transport_verifier(), typical_verifier(),
  };
  return list;
}

template <class Info>
std::string names_of(const std::vector<Info>& list) {
  std::string names;
  for (const Info& info : list) names += (names.empty() ? "" : ", ") + std::string(info.name);
  return names;
}

template <class Info>
const Info* find(const std::vector<Info>& list, std::string_view name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const Info& info) { return info.name == name; });
  return found == list.end() ? nullptr : &*found;
}

Status check_value(const Spec& spec, const SettingInfo& info, const std::string& value) {
  const auto bad = [&](const std::string& expected) {
    return Status::invalid_argument("{}: {}: expected {}, got '{}'", spec.name, info.name, expected, printable(value));
  };
  switch (info.kind) {
    case SettingInfo::Kind::kInteger: {
      int64_t number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      const bool whole = error == std::errc() && end == value.data() + value.size();
      if (!whole || static_cast<double>(number) < info.min || static_cast<double>(number) > info.max) {
        return bad(fmt::format("a whole number from {} to {}", info.min, info.max));
      }
      return {};
    }
    case SettingInfo::Kind::kReal: {
      double number = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
      const bool whole = error == std::errc() && end == value.data() + value.size();
      if (!whole || !(number >= info.min && number <= info.max)) {
        return bad(fmt::format("a number from {} to {}", info.min, info.max));
      }
      return {};
    }
    case SettingInfo::Kind::kWord: {
      std::string_view words = info.words;
      while (!words.empty()) {
        const size_t bar = std::min(words.find('|'), words.size());
        if (words.substr(0, bar) == value) return {};
        words.remove_prefix(std::min(bar + 1, words.size()));
      }
      return bad(fmt::format("one of {}", info.words));
    }
    case SettingInfo::Kind::kPath: return {};
  }
  return {};
}

}  // namespace

Result<Settings> Settings::read(const Spec& spec, std::span<const SettingInfo> known) {
  Settings out;
  for (const SettingInfo& info : known) out.values_[std::string(info.name)] = info.standard;
  for (const auto& [name, value] : spec.settings) {
    const auto info =
        std::find_if(known.begin(), known.end(), [n = &name](const SettingInfo& k) { return k.name == *n; });
    if (info == known.end()) {
      std::string names;
      for (const SettingInfo& k : known) names += (names.empty() ? "" : ", ") + std::string(k.name);
      return Status::invalid_argument("{} has no setting {}; there {}", spec.name, name,
                                      names.empty() ? "are none" : "are: " + names);
    }
    DECANT_TRY_STATUS(check_value(spec, *info, value));
    out.values_[name] = value;
    out.given_.push_back(name);
  }
  return out;
}

const std::string& Settings::text(std::string_view name) const {
  const auto found = values_.find(name);
  DECANT_CHECK(found != values_.end());
  return found->second;
}
int Settings::integer(std::string_view name) const {
  return static_cast<int>(std::strtol(text(name).c_str(), nullptr, 10));
}
double Settings::real(std::string_view name) const {
  const std::string& value = text(name);
  double number = 0;
  std::from_chars(value.data(), value.data() + value.size(), number);
  return number;
}
bool Settings::given(std::string_view name) const {
  return std::find(given_.begin(), given_.end(), name) != given_.end();
}

std::span<const DrafterInfo> drafters() { return drafter_list(); }
std::span<const VerifierInfo> verifiers() { return verifier_list(); }

Result<std::shared_ptr<const Verifier>> make_verifier(std::string_view text) {
  DECANT_TRY(const Spec spec, parse_spec(text));
  const VerifierInfo* info = find(verifier_list(), spec.name);
  if (info == nullptr) {
    return Status::invalid_argument("there is no verifier '{}'; there are: {}", spec.name, names_of(verifier_list()));
  }
  DECANT_TRY(const Settings settings, Settings::read(spec, info->settings));
  return info->make(settings);
}

namespace {

Result<std::shared_ptr<DraftMethod>> make_one(std::string_view text, const DraftEnvironment& environment) {
  DECANT_TRY(const Spec spec, parse_spec(text));
  const DrafterInfo* info = find(drafter_list(), spec.name);
  if (info == nullptr) {
    return Status::invalid_argument("there is no draft method '{}'; there are: none, {}", spec.name,
                                    names_of(drafter_list()));
  }
  DECANT_TRY(const Settings settings, Settings::read(spec, info->settings));
  Result<std::shared_ptr<DraftMethod>> made = info->make(settings, environment);
  if (!made.ok()) return std::move(made).status().with_context(info->name);
  return made;
}

// Parts of "a(x=1)+b", at the plus signs outside of parentheses.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  int open = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(') ++open;
    if (text[i] == ')') --open;
    if (text[i] == '+' && open == 0) {
      parts.push_back(text.substr(begin, i - begin));
      begin = i + 1;
    }
  }
  parts.push_back(text.substr(begin));
  return parts;
}

constexpr size_t kMaxParts = 4;
constexpr int kEvidenceShare = TokenTree::kEvidence / kMaxParts;

// Several drafters on one tree, in order; each has its own share of the numbers that tell evidence apart.
class FusedMethod final : public DraftMethod {
 public:
  explicit FusedMethod(std::vector<std::shared_ptr<DraftMethod>> methods) : methods_(std::move(methods)) {}

  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId> prompt) override {
    std::vector<std::unique_ptr<Drafter>> drafters;
    for (const auto& method : methods_) {
      DECANT_TRY(std::unique_ptr<Drafter> drafter, method->start(prompt));
      drafters.push_back(std::move(drafter));
    }
    return std::unique_ptr<Drafter>(new FusedDrafter(std::move(drafters)));
  }
  int max_nodes() const override {
    int nodes = 0;
    for (const auto& m : methods_) nodes += m->max_nodes();
    return nodes;
  }
  int max_depth() const override {
    int depth = 0;
    for (const auto& m : methods_) depth = std::max(depth, m->max_depth());
    return depth;
  }
  size_t bytes() const override {
    size_t bytes = 0;
    for (const auto& m : methods_) bytes += m->bytes();
    return bytes;
  }

 private:
  class FusedDrafter final : public Drafter {
   public:
    explicit FusedDrafter(std::vector<std::unique_ptr<Drafter>> drafters) : drafters_(std::move(drafters)) {}
    Status propose(const DraftContext& context, TokenTree* tree) override {
      uint16_t base = 0;
      for (const auto& d : drafters_) {
        tree->set_evidence_base(base);
        DECANT_TRY_STATUS(d->propose(context, tree));
        base = static_cast<uint16_t>(base + kEvidenceShare);
      }
      tree->set_evidence_base(0);
      return {};
    }
    void observe(const DraftOutcome& outcome) override {
      for (const auto& d : drafters_) d->observe(outcome);
    }

   private:
    std::vector<std::unique_ptr<Drafter>> drafters_;
  };
  std::vector<std::shared_ptr<DraftMethod>> methods_;
};

}  // namespace

Result<std::shared_ptr<DraftMethod>> make_draft_method(std::string_view text, const DraftEnvironment& environment) {
  const std::vector<std::string_view> parts = parts_of(text);
  if (parts.size() == 1) {
    DECANT_TRY(const Spec spec, parse_spec(text));
    if (spec.name == "none" && spec.settings.empty()) return std::shared_ptr<DraftMethod>();
    return make_one(text, environment);
  }
  if (parts.size() > kMaxParts) {
    return Status::invalid_argument("{} draft methods are joined; {} at most can be", parts.size(), kMaxParts);
  }
  std::vector<std::shared_ptr<DraftMethod>> methods;
  for (const std::string_view part : parts) {
    DECANT_TRY(std::shared_ptr<DraftMethod> method, make_one(part, environment));
    if (method->draws()) {
      return Status::invalid_argument("{}: a method that draws its drafts cannot be joined with another one", part);
    }
    methods.push_back(std::move(method));
  }
  return std::shared_ptr<DraftMethod>(new FusedMethod(std::move(methods)));
}

namespace {

std::string_view word(Proposal kind) {
  switch (kind) {
    case Proposal::kPoint: return "points";
    case Proposal::kIid: return "independent draws";
    case Proposal::kWithoutReplacement: return "draws without replacement";
  }
  return "draws";
}

}  // namespace

Status check_pair(std::string_view draft, const DraftMethod& method, const Verifier& verifier) {
  const std::vector<Proposal> kinds = method.proposals();
  const auto taker = [&](const Verifier& v) {
    return std::all_of(kinds.begin(), kinds.end(), [&](Proposal kind) { return v.takes(kind); });
  };
  if (taker(verifier)) return {};
  std::string proposals, others;
  for (const Proposal kind : kinds) {
    if (!verifier.takes(kind)) proposals += (proposals.empty() ? "" : " and ") + std::string(word(kind));
  }
  for (const VerifierInfo& info : verifier_list()) {
    DECANT_TRY(const std::shared_ptr<const Verifier> other, make_verifier(info.name));
    if (taker(*other)) others += (others.empty() ? "" : ", ") + std::string(info.name);
  }
  return Status::invalid_argument("{} proposes {}, which the verifier {} cannot verify; those that can: {}", draft,
                                  proposals, verifier.name(), others);
}

Result<Speculation> make_speculation(std::string_view draft, std::string_view verifier, DraftEnvironment environment) {
  Speculation out;
  out.spec = draft;
  DECANT_TRY(out.verifier, make_verifier(verifier));
  environment.coupled = out.verifier->coupled();
  DECANT_TRY(out.method, make_draft_method(draft, environment));
  if (out.method) DECANT_TRY_STATUS(check_pair(draft, *out.method, *out.verifier));
  return out;
}

uint64_t vocabulary_hash(const Tokenizer& tokenizer) {
  uint64_t hash = kFnvStart;
  for (TokenId t = 0; t < tokenizer.vocab_size(); ++t) {
    hash = fnv1a(tokenizer.piece(t, true), hash);
    hash = fnv1a("\xFF", hash);  // in no UTF-8 text
  }
  return hash;
}

}  // namespace decant
