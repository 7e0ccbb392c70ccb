// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_constraint.h"

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "constrain/json_machine.h"

namespace decant {
namespace {

constexpr uint32_t kDead = UINT32_MAX;
constexpr uint32_t kUnknown = UINT32_MAX - 1;
constexpr size_t kMaxStates = 8'000;               // in the table; then it begins anew
constexpr size_t kMaxRows = 1'000;                 // of transitions that are kept between masks
constexpr size_t kMaxMaskBytes = size_t{1} << 20;  // of kept masks

class SchemaConstraint final : public Constraint {
 public:
  SchemaConstraint(std::shared_ptr<Schema> schema, std::shared_ptr<const JsonVocabulary> vocabulary)
      : schema_(schema), vocabulary_(std::move(vocabulary)), machine_(std::move(schema)) {}

  Status prepare() {
    std::optional<JsonState> state = machine_.start();
    if (!machine_.language().status().ok()) return machine_.language().status();
    if (!state) return machine_.language().unsatisfiable();
    start_ = std::make_shared<const JsonState>(*std::move(state));
    return {};
  }

  ConstraintState start() override { return ConstraintState(start_); }

  bool accepting(const ConstraintState& state) override {
    const std::lock_guard lock(mutex_);
    return machine_.accepting(of(state));
  }

  Result<ConstraintState> advance(const ConstraintState& state, TokenId token) override {
    const std::lock_guard lock(mutex_);
    if (token < 0 || token >= vocabulary_->trie().vocab_size())
      return Status::invalid_argument("token {}: not in the vocabulary", token);
    const std::string_view text = vocabulary_->trie().bytes_of(token);
    uint32_t id = intern(of(state));
    for (const char c : text) {
      id = step(id, static_cast<uint8_t>(c));
      if (id == kDead) break;
    }
    if (!machine_.language().status().ok()) return machine_.language().status();
    if (text.empty() || id == kDead) return Status::invalid_argument("token {} may not come here", token);
    return ConstraintState(states_[id].state);
  }

  std::shared_ptr<const TokenMask> mask(const ConstraintState& state) override {
    const std::lock_guard lock(mutex_);
    make_room();
    const uint32_t id = intern(of(state));
    if (states_[id].mask) return states_[id].mask;
    const size_t size = static_cast<size_t>(vocabulary_->trie().vocab_size()) / 8;
    if (mask_bytes_ + size > std::max(kMaxMaskBytes, 8 * size)) {
      for (Entry& e : states_) e.mask.reset();
      mask_bytes_ = 0;
    }
    mask_bytes_ += size;
    auto mask = std::make_shared<TokenMask>(vocabulary_->trie().vocab_size());
    fill(id, mask.get());
    states_[id].mask = mask;
    return mask;
  }

  std::vector<std::string> warnings() const override { return schema_->warnings(); }
  size_t bytes() const override {
    return const_cast<SchemaConstraint*>(this)->machine_.language().bytes() + states_.size() * 400 + rows_ * 1024 +
           mask_bytes_;
  }

 private:
  struct Entry {
    std::shared_ptr<const JsonState> state;
    std::shared_ptr<const TokenMask> mask;
    std::unique_ptr<std::array<uint32_t, 256>> row;  // transitions
  };

  static const JsonState& of(const ConstraintState& state) { return *static_cast<const JsonState*>(state.value()); }

  uint32_t intern(const JsonState& state) {
    const auto [begin, end] = ids_.equal_range(state.hash);
    for (auto it = begin; it != end; ++it) {
      const JsonState& known = *states_[it->second].state;
      if (&known == &state || JsonMachine::same(known, state)) return it->second;
    }
    return add(JsonState(state));
  }
  uint32_t add(JsonState state) {
    const size_t hash = state.hash;
    states_.push_back({.state = std::make_shared<const JsonState>(std::move(state)), .mask = nullptr, .row = nullptr});
    const auto id = static_cast<uint32_t>(states_.size()) - 1;
    ids_.emplace(hash, id);
    return id;
  }
  // Only between masks: ids would change under a walk.
  void make_room() {
    if (states_.size() >= kMaxStates) {
      states_.clear();
      ids_.clear();
      tails_.clear();
      mask_bytes_ = 0;
      rows_ = 0;
    }
    if (rows_ >= kMaxRows) {
      for (Entry& e : states_) e.row.reset();
      rows_ = 0;
    }
  }

  uint32_t step(uint32_t id, uint8_t byte) {
    if (!states_[id].row) {
      states_[id].row = std::make_unique<std::array<uint32_t, 256>>();
      states_[id].row->fill(kUnknown);
      ++rows_;
    }
    const uint32_t known = (*states_[id].row)[byte];
    return known != kUnknown ? known : step_anew(id, byte);
  }
  uint32_t step_anew(uint32_t id, uint8_t byte) {
    const std::optional<JsonState> next = machine_.step(*states_[id].state, byte);
    const uint32_t result = next ? intern(*next) : kDead;
    (*states_[id].row)[byte] = result;
    return result;
  }

  // Sets the tokens of the trie's nodes [begin, end) that the state takes; nodes[begin] is a child of where the state
  // is.
  void walk(const TokenTrie& trie, uint32_t begin, uint32_t end, uint32_t id, TokenMask* mask) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    std::vector<std::pair<uint32_t, uint32_t>>& open = open_;  // the ends of subtrees, and the states within
    open.clear();
    open.push_back({end, id});
    for (uint32_t i = begin; i < end;) {
      while (open.back().first <= i) open.pop_back();
      const TokenTrie::Node& node = nodes[i];
      const uint32_t next = step(open.back().second, node.byte);
      if (next == kDead) {
        i = node.end;
        continue;
      }
      trie.add_to(node, mask);
      if (node.end > i + 1) open.push_back({node.end, next});
      ++i;
    }
  }

  // The same for a state that carries text with it: within the string or number that it is in, states are followed
  // without it, or every node would have its own; what ends the string is followed from the beginning, with it.
  void walk_with_text(uint32_t begin, uint32_t end, uint32_t full, uint32_t bare, TokenMask* mask) {
    const TokenTrie& trie = vocabulary_->trie();
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    std::vector<std::pair<uint32_t, uint32_t>> open = {{end, bare}};
    std::string path;
    for (uint32_t i = begin; i < end;) {
      while (open.back().first <= i) open.pop_back();
      path.resize(open.size() - 1);
      const TokenTrie::Node& node = nodes[i];
      if (JsonMachine::ends_text(*states_[open.back().second].state, node.byte)) {
        uint32_t at = full;
        for (size_t k = 0; k < path.size() && at != kDead; ++k) at = step(at, static_cast<uint8_t>(path[k]));
        if (at != kDead) walk(trie, i, node.end, at, mask);
        i = node.end;
        continue;
      }
      const uint32_t next = step(open.back().second, node.byte);
      if (next == kDead) {
        i = node.end;
        continue;
      }
      trie.add_to(node, mask);
      path += static_cast<char>(node.byte);
      open.push_back({node.end, next});
      ++i;
    }
  }

  void walk_all(uint32_t id, TokenMask* mask) {
    std::array<bool, 256> bytes;
    machine_.candidates(*states_[id].state, &bytes);
    const std::span<const TokenTrie::Node> nodes = vocabulary_->trie().nodes();
    const std::optional<JsonState> bare = JsonMachine::without_text(*states_[id].state);
    const uint32_t bare_id = bare ? intern(*bare) : kDead;
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t root = vocabulary_->root(static_cast<uint8_t>(b));
      if (!bytes[b] || root >= nodes.size()) continue;
      if (bare) {
        walk_with_text(root, nodes[root].end, id, bare_id, mask);
      } else {
        walk(vocabulary_->trie(), root, nodes[root].end, id, mask);
      }
    }
  }

  // Which tails the state behind a quote takes.
  const std::vector<uint32_t>& tails_of(uint32_t behind) {
    const auto it = tails_.find(behind);
    if (it != tails_.end()) return it->second;
    std::vector<uint32_t> taken = {0};
    const TokenTrie& trie = vocabulary_->tail_trie();
    TokenMask mask(trie.vocab_size());
    walk(trie, 0, static_cast<uint32_t>(trie.nodes().size()), behind, &mask);
    for (TokenId t = 0; t < trie.vocab_size(); ++t) {
      if (mask.test(t)) taken.push_back(static_cast<uint32_t>(t) + 1);
    }
    return tails_.emplace(behind, std::move(taken)).first->second;
  }

  void add_endings(uint32_t behind, int min, int max, TokenMask* mask) {
    for (const uint32_t t : tails_of(behind)) {
      const JsonVocabulary::Tail& tail = vocabulary_->tails()[t];
      if (min == 0 && (max == RegexPool::kUnbounded || max >= vocabulary_->max_length())) {
        *mask |= tail.all;
        continue;
      }
      for (uint32_t i = tail.first; i < tail.last; ++i) {
        const JsonVocabulary::Ending& e = vocabulary_->endings()[i];
        if (e.length >= min && (max == RegexPool::kUnbounded || e.length <= max)) mask->set(e.token);
      }
    }
  }

  // Tokens that few share: each on its own.
  void add_each(uint32_t id, const std::vector<TokenId>& tokens, TokenMask* mask) {
    for (const TokenId t : tokens) {
      uint32_t at = id;
      for (const char c : vocabulary_->trie().bytes_of(t)) {
        at = step(at, static_cast<uint8_t>(c));
        if (at == kDead) break;
      }
      if (at != kDead) mask->set(t);
    }
  }

  void fill(uint32_t id, TokenMask* mask) {
    const std::shared_ptr<const JsonState> state = states_[id].state;
    int min = 0, max = 0;
    if (machine_.only_length(*state, &min, &max)) {
      *mask |= vocabulary_->inside(max);
      if (const std::optional<JsonState> behind = machine_.after_string(*state))
        add_endings(intern(*behind), min, max, mask);
      add_each(id, vocabulary_->escaped(), mask);
      return;
    }
    if (machine_.other_names_alike(*state)) {
      *mask |= vocabulary_->inside(-1);
      if (const std::optional<JsonState> behind = machine_.after_other_name(*state)) {
        add_endings(intern(*behind), 0, RegexPool::kUnbounded, mask);
      }
      // Names that are not like the others: those of the shape, and those that were used.
      const JsonThread& t = state->threads[0];
      const std::vector<std::string>& names = machine_.language().object(t.frame->shape).names;
      for (uint32_t i = t.a; i < t.b; ++i) add_name(id, std::string_view(names[i]).substr(t.c), mask);
      if (t.frame->seen && state->name) {
        for (const std::string& name : *t.frame->seen) {
          if (name.starts_with(*state->name)) add_name(id, std::string_view(name).substr(state->name->size()), mask);
        }
      }
      add_each(id, vocabulary_->escaped(), mask);
      return;
    }
    walk_all(id, mask);
  }

  // Sets anew all tokens that end the name with just this text.
  void add_name(uint32_t id, std::string_view text, TokenMask* mask) {
    const TokenTrie& trie = vocabulary_->trie();
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    uint32_t begin = 0, end = static_cast<uint32_t>(nodes.size());
    uint32_t at = 0;
    for (size_t i = 0; i <= text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(i < text.size() ? text[i] : '"');
      if (i < text.size() && (byte == '"' || byte == '\\' || byte < 0x20)) return;  // written with an escape
      at = i == 0 ? vocabulary_->root(byte) : begin;
      while (i > 0 && at < end && nodes[at].byte < byte) at = nodes[at].end;
      if (at >= end || nodes[at].byte != byte) return;
      begin = at + 1;
      end = nodes[at].end;
    }
    for (uint32_t i = at; i < end; ++i) {
      trie.remove_from(nodes[i], mask);
    }
    uint32_t here = id;
    for (const char c : text) {
      here = step(here, static_cast<uint8_t>(c));
      if (here == kDead) return;
    }
    walk(trie, at, end, here, mask);
  }

  std::shared_ptr<Schema> schema_;
  std::shared_ptr<const JsonVocabulary> vocabulary_;
  std::mutex mutex_;
  JsonMachine machine_;
  std::shared_ptr<const JsonState> start_;
  std::vector<Entry> states_;
  std::unordered_multimap<size_t, uint32_t> ids_;
  size_t rows_ = 0;
  std::unordered_map<uint32_t, std::vector<uint32_t>> tails_;  // by the state behind a quote
  std::vector<std::pair<uint32_t, uint32_t>> open_;
  size_t mask_bytes_ = 0;
};

}  // namespace

Result<std::shared_ptr<Constraint>> compile_json_schema(std::string_view text, const std::string& name,
                                                        const SchemaOptions& options,
                                                        std::shared_ptr<const JsonVocabulary> vocabulary) {
  DECANT_TRY(std::shared_ptr<Schema> schema, Schema::parse(text, name, options));
  auto constraint = std::make_shared<SchemaConstraint>(std::move(schema), std::move(vocabulary));
  DECANT_TRY_STATUS(constraint->prepare());
  return std::shared_ptr<Constraint>(std::move(constraint));
}

}  // namespace decant
