// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The draft methods and verifiers by name. A method is one file of this folder and one line of registry.cc; the CLI,
// the benchmarks and the tests read the same entries.
//
//   none                          plain decoding
//   recycling(k=8)                one method with a setting
//   sam+recycling                 two methods on one tree: what the first does not fill, the second does
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/spec.h"
#include "base/status.h"
#include "engine/drafter.h"
#include "engine/verifier.h"

namespace decant {

class Model;
class Tokenizer;

struct SettingInfo {
  enum class Kind { kInteger, kReal, kWord, kPath };
  std::string_view name;
  Kind kind;
  std::string_view standard;  // the default, as one would type it; "" for none
  double min, max;            // of numbers
  std::string_view words;     // kWord: the words, separated by '|'
  std::string_view summary;
};

// Checked settings with defaults filled in.
class Settings {
 public:
  // kInvalidArgument naming the setting, and what there is.
  static Result<Settings> read(const Spec& spec, std::span<const SettingInfo> known);
  int integer(std::string_view name) const;
  double real(std::string_view name) const;
  const std::string& text(std::string_view name) const;  // words and paths; "" for a path that was not given
  bool given(std::string_view name) const;               // by the user

 private:
  std::map<std::string, std::string, std::less<>> values_;
  std::vector<std::string> given_;
};

// What methods are made for.
struct DraftEnvironment {
  std::shared_ptr<const Model> model;  // the target; may be null where only its vocabulary counts
  const Tokenizer* tokenizer = nullptr;
  int vocab_size = 0;
  int context = 4096;            // tokens
  bool coupled = true;           // the verifier
  uint64_t vocabulary_hash = 0;  // of files that hold token ids
};

struct DrafterInfo {
  std::string_view name, summary;
  std::string_view paper;                 // "" for none
  std::vector<std::string_view> needs;    // "a draft model", "a datastore"
  std::string_view verifier = "coupled";  // the paper's rule, for whom one chooses it
  std::vector<SettingInfo> settings;
  Result<std::shared_ptr<DraftMethod>> (*make)(const Settings& settings, const DraftEnvironment& environment);
};
struct VerifierInfo {
  std::string_view name, summary, paper;
  std::string_view guarantee;  // "exact", "exact in distribution", "approximate"
  std::vector<SettingInfo> settings;
  Result<std::shared_ptr<const Verifier>> (*make)(const Settings& settings);
};
std::span<const DrafterInfo> drafters();
std::span<const VerifierInfo> verifiers();

// A draft and how to verify it.
struct Speculation {
  std::string spec;                     // as given
  std::shared_ptr<DraftMethod> method;  // null: plain decoding
  std::shared_ptr<const Verifier> verifier;
};
// kInvalidArgument: an unknown name (which there are), a bad setting, a verifier that the draft's proposals do not
// suit; files give their own errors.
Result<std::shared_ptr<const Verifier>> make_verifier(std::string_view spec);
Result<std::shared_ptr<DraftMethod>> make_draft_method(std::string_view spec, const DraftEnvironment& environment);
Result<Speculation> make_speculation(std::string_view draft, std::string_view verifier, DraftEnvironment environment);
// kInvalidArgument, naming both and the verifiers that would do, if `verifier` does not take what `method` proposes.
Status check_pair(std::string_view draft, const DraftMethod& method, const Verifier& verifier);

// Of what token ids mean: two tokenizers of one hash have the same tokens.
uint64_t vocabulary_hash(const Tokenizer& tokenizer);

}  // namespace decant
