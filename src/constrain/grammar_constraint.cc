// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/grammar_constraint.h"

#include <algorithm>
#include <unordered_map>

#include "constrain/gbnf.h"
#include "constrain/grammar_completion.h"
#include "constrain/grammar_machine.h"
#include "constrain/lark.h"
#include "constrain/walk_constraint.h"
#include "text/unicode.h"

namespace decant {
namespace {

class GrammarConstraint final : public WalkConstraint {
 public:
  GrammarConstraint(CompiledGrammar grammar, std::shared_ptr<const JsonVocabulary> vocabulary)
      : WalkConstraint(std::move(vocabulary)),
        grammar_(std::make_shared<const CompiledGrammar>(std::move(grammar))),
        machine_(std::make_shared<GrammarMachine>(grammar_)),
        completion_(grammar_) {}

  bool completes_fast() const override { return true; }

  Status prepare() {
    machine_->start();
    return machine_->status();
  }

  std::vector<std::string> warnings() const override {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> list = grammar_->warnings;
    if (const int64_t n = grammar_->pool->searches_given_up(); n > 0) {
      list.push_back(fmt::format(
          "{} searches for a match behind a look-ahead gave up; the answer may come to where nothing can follow", n));
    }
    return list;
  }

 protected:
  uint32_t start_anew() override { return machine_->start(); }
  uint32_t step_anew(uint32_t state, uint8_t byte) override { return machine_->step(state, byte); }
  bool accepts(uint32_t state) override { return machine_->accepts(state); }

  // A terminal that goes on with any number of the slice's characters is enough, whatever follows it.
  size_t slice_of(uint32_t state) override {
    size_t best = vocabulary()->text_slices().size();
    for (const GrammarMachine::Thread& t : machine_->threads(state)) best = std::min(best, slice_of_terminal(t.left));
    return best;
  }

  std::shared_ptr<const void> epoch() const override { return machine_; }
  std::optional<std::string> completion_of(uint32_t state) override { return completion_.of(*machine_, state); }
  void begin_epoch() override {
    machine_ = std::make_shared<GrammarMachine>(grammar_);
    completion_.forget();
  }
  uint32_t bring_over(const void* old_epoch, uint32_t state) override {
    return static_cast<const GrammarMachine*>(old_epoch)->copy_to(state, machine_.get());
  }
  bool epoch_is_full() const override { return machine_->is_full(); }
  size_t epoch_bytes() const override { return machine_->bytes() + grammar_->pool->bytes(); }
  void begin_work() override { machine_->begin_work(); }
  const Status& trouble() const override { return machine_->status(); }

 private:
  size_t slice_of_terminal(RegexId id) {
    const std::vector<TextSlice>& slices = vocabulary()->text_slices();
    const auto [it, is_new] = slice_of_.emplace(id, slices.size());
    if (!is_new) return it->second;
    RegexPool& pool = *grammar_->pool;
    const RegexPool::FreeRun run = pool.free_run(id);
    for (size_t i = 0; i < slices.size(); ++i) {
      const TextSlice& slice = slices[i];
      const bool long_enough = run.length == RegexPool::kUnbounded || run.length >= slice.longest;
      // A character that leads back to the same language may come any number of times.
      const auto free = [&](CharClassId c) {
        return (long_enough && run.length != 0 && pool.in_set(run.set, c)) || pool.derive(id, c) == id;
      };
      bool all = true;
      for (uint32_t c = 0; c < 128 && all; ++c) all = !slice.ascii[c] || free(pool.class_of(c));
      for (int c = 0; c < pool.class_count() && all && slice.beyond; ++c) {
        all = !pool.reaches_beyond_ascii(static_cast<CharClassId>(c)) || free(static_cast<CharClassId>(c));
      }
      if (!all) continue;
      it->second = i;
      break;
    }
    return it->second;
  }

  std::shared_ptr<const CompiledGrammar> grammar_;
  std::shared_ptr<GrammarMachine> machine_;
  GrammarCompletion completion_;
  std::unordered_map<RegexId, size_t> slice_of_;
};

Result<std::shared_ptr<Constraint>> compile(Grammar grammar, Grammar::Rule start,
                                            std::shared_ptr<const JsonVocabulary> vocabulary) {
  const std::string name = grammar.name();
  DECANT_TRY(CompiledGrammar compiled, std::move(grammar).compile(start));
  Result<std::shared_ptr<Constraint>> made = make_grammar_constraint(std::move(compiled), std::move(vocabulary));
  if (!made.ok()) return std::move(made).status().with_context(name);
  return made;
}

}  // namespace

Result<std::shared_ptr<Constraint>> make_grammar_constraint(CompiledGrammar grammar,
                                                            std::shared_ptr<const JsonVocabulary> vocabulary) {
  auto constraint = std::make_shared<GrammarConstraint>(std::move(grammar), std::move(vocabulary));
  DECANT_TRY_STATUS(constraint->prepare());
  return std::shared_ptr<Constraint>(std::move(constraint));
}

Result<std::shared_ptr<Constraint>> compile_gbnf(std::string_view text, const std::string& name,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary) {
  DECANT_TRY(GrammarSource source, parse_gbnf(text, name));
  return compile(std::move(source.grammar), source.start, std::move(vocabulary));
}

Result<std::shared_ptr<Constraint>> compile_lark(std::string_view text, const std::string& name,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary) {
  DECANT_TRY(GrammarSource source, parse_lark(text, name));
  return compile(std::move(source.grammar), source.start, std::move(vocabulary));
}

Result<std::shared_ptr<Constraint>> constrain_to(RegexId id, Grammar grammar,
                                                 std::shared_ptr<const JsonVocabulary> vocabulary) {
  const std::string name = grammar.name();
  const Grammar::Rule start = grammar.rule("answer", {1, 1});
  DECANT_TRY_STATUS(grammar.define(start, grammar.regex(id), {1, 1}));
  Result<CompiledGrammar> compiled = std::move(grammar).compile(start);
  if (!compiled.ok()) return Status::invalid_argument("{}: no text is allowed", name);
  return make_grammar_constraint(*std::move(compiled), std::move(vocabulary));
}

Result<std::shared_ptr<Constraint>> compile_pattern(std::string_view pattern, const std::string& name,
                                                    std::shared_ptr<const JsonVocabulary> vocabulary) {
  Grammar grammar(name);
  Result<RegexId> id = parse_regex(pattern, RegexDialect::kFull, &grammar.pool());
  if (!id.ok()) return std::move(id).status().with_context(name);
  return constrain_to(*id, std::move(grammar), std::move(vocabulary));
}

Result<RegexId> choice_of(const std::vector<std::string>& texts, const std::string& name, RegexPool* pool) {
  if (texts.empty()) return Status::invalid_argument("{}: no text to choose from", name);
  for (const std::string& text : texts) {
    if (text.empty()) return Status::invalid_argument("{}: an empty text cannot be chosen", name);
    for (size_t at = 0; at < text.size();) {
      const Utf8Char c = decode_utf8(std::string_view(text).substr(at));
      if (!c.valid) return Status::invalid_argument("{}: a text that is not UTF-8", name);
      at += c.size;
    }
  }
  return alternatives_of(texts, pool);
}

Result<std::shared_ptr<Constraint>> compile_choice(const std::vector<std::string>& texts, const std::string& name,
                                                   std::shared_ptr<const JsonVocabulary> vocabulary) {
  Grammar grammar(name);
  DECANT_TRY(const RegexId id, choice_of(texts, name, &grammar.pool()));
  return constrain_to(id, std::move(grammar), std::move(vocabulary));
}

}  // namespace decant
