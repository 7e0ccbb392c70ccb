// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/product_constraint.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <queue>

#include "constrain/completion.h"
#include "constrain/walk_constraint.h"

namespace decant {
namespace {

constexpr size_t kMaxStates = 50'000;
constexpr int kFuelOfState = 300;  // states that a look-ahead visits
constexpr int kFuelOfMask = 3000;  // and those of one mask together
constexpr int kFuelOfCompletion = 5000;
constexpr int64_t kBytesOfMask = 3'000'000;  // steps, of one mask
constexpr size_t kFewTokens = 512;

class ProductConstraint final : public WalkConstraint {
 public:
  ProductConstraint(std::vector<std::shared_ptr<Constraint>> parts, std::shared_ptr<const JsonVocabulary> vocabulary)
      : WalkConstraint(std::move(vocabulary)), parts_(std::move(parts)), table_(std::make_shared<Table>()) {}

  std::vector<std::string> warnings() const override {
    std::vector<std::string> list;
    for (const auto& part : parts_) {
      for (std::string& w : part->warnings()) list.push_back(std::move(w));
    }
    const std::lock_guard lock(mutex_);
    if (undecided_ > 0) {
      list.push_back(fmt::format(
          "at {} places it could not be decided whether the constraints can all be met; the answer may come to where "
          "nothing can follow",
          undecided_));
    }
    return list;
  }

 protected:
  uint32_t start_anew() override {
    State state;
    for (const auto& part : parts_) state.parts.push_back(part->start());
    return intern(std::move(state));
  }

  uint32_t step_anew(uint32_t id, uint8_t byte) override {
    const uint32_t to = step_each(id, byte);
    return to == kDead || !is_live(to) ? kDead : to;
  }

  bool accepts(uint32_t id) override { return table_->states[id].accepts; }

  std::optional<std::string> completion_of(uint32_t id) override {
    if (std::optional<std::string> text = common_completion(id)) return text;
    std::string text;
    int fuel = kFuelOfCompletion;
    return search(id, &fuel, &text) == Life::kLive && !text.empty() ? std::optional(text) : std::nullopt;
  }

  void fill(uint32_t id, TokenMask* mask) override {
    TokenMask common = *parts_[0]->mask(table_->states[id].parts[0]);
    for (size_t i = 1; i < parts_.size(); ++i) common &= *parts_[i]->mask(table_->states[id].parts[i]);
    if (common.count() > static_cast<int64_t>(kFewTokens)) return walk_all(id, mask);
    const TokenTrie& tokens = vocabulary()->trie();
    for (TokenId t = 0; t < tokens.vocab_size(); ++t) {
      if (!common.test(t)) continue;
      uint32_t at = id;
      for (const char c : tokens.bytes_of(t)) {
        at = next(at, static_cast<uint8_t>(c));
        if (at == kDead) break;
      }
      if (at != kDead) mask->set(t);
    }
  }

  std::shared_ptr<const void> epoch() const override { return table_; }
  void begin_epoch() override { table_ = std::make_shared<Table>(); }
  uint32_t bring_over(const void* old_epoch, uint32_t id) override {
    return intern(State(static_cast<const Table*>(old_epoch)->states[id]));
  }
  bool epoch_is_full() const override { return table_->states.size() >= kMaxStates; }
  size_t epoch_bytes() const override {
    size_t total = table_->states.size() * (sizeof(State) + parts_.size() * 160);
    for (const auto& part : parts_) total += part->bytes();
    return total;
  }
  void begin_work() override {
    fuel_ = kFuelOfMask;
    bytes_left_ = kBytesOfMask;
    trouble_ = {};
  }
  const Status& trouble() const override { return trouble_; }

 private:
  enum class Life : uint8_t { kUnknown, kLive, kDead, kUndecided };
  struct State {
    std::vector<ConstraintState> parts;  // held, so that their addresses are theirs
    bool accepts = false;
    Life life = Life::kUnknown;
  };
  struct Table {
    std::vector<State> states;
    std::map<std::vector<const void*>, uint32_t> ids;
    std::map<std::pair<uint32_t, uint8_t>, uint32_t> steps;  // before a look at what follows
  };

  uint32_t intern(State state) {
    std::vector<const void*> key;
    for (const ConstraintState& part : state.parts) key.push_back(part.value());
    const auto [it, is_new] = table_->ids.emplace(std::move(key), static_cast<uint32_t>(table_->states.size()));
    if (is_new) {
      state.accepts = true;
      for (size_t i = 0; i < parts_.size() && state.accepts; ++i) state.accepts = parts_[i]->accepting(state.parts[i]);
      if (state.accepts) state.life = Life::kLive;
      table_->states.push_back(std::move(state));
    }
    return it->second;
  }

  uint32_t step_each(uint32_t id, uint8_t byte) {
    const auto known = table_->steps.find({id, byte});
    if (known != table_->steps.end()) return known->second;
    if (--bytes_left_ < 0) {
      trouble_ = Status::exhausted("the constraints together need too much work for one token");
      return kDead;
    }
    State to;
    uint32_t result = kDead;
    for (size_t i = 0; i < parts_.size(); ++i) {
      std::optional<ConstraintState> part = parts_[i]->step(table_->states[id].parts[i], byte);
      if (!part) break;
      to.parts.push_back(*std::move(part));
    }
    if (to.parts.size() == parts_.size()) result = intern(std::move(to));
    table_->steps.emplace(std::pair{id, byte}, result);
    return result;
  }

  // A part's own completion that all others take, too.
  std::optional<std::string> common_completion(uint32_t id) {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (!parts_[i]->completes_fast()) continue;
      std::optional<std::string> text = parts_[i]->completion(table_->states[id].parts[i]);
      if (!text) continue;
      uint32_t at = id;
      std::vector<uint32_t> path = {id};
      for (const char c : *text) {
        at = step_each(at, static_cast<uint8_t>(c));
        if (at == kDead) break;
        path.push_back(at);
      }
      if (at == kDead || !table_->states[at].accepts) continue;
      for (const uint32_t on_path : path) table_->states[on_path].life = Life::kLive;
      return text;
    }
    return std::nullopt;
  }

  bool is_live(uint32_t id) {
    if (table_->states[id].life == Life::kUnknown && !common_completion(id)) {
      int fuel = std::min(kFuelOfState, fuel_);
      const int before = fuel;
      table_->states[id].life = search(id, &fuel, nullptr);
      fuel_ -= before - fuel;
      undecided_ += table_->states[id].life == Life::kUndecided;
    }
    return table_->states[id].life != Life::kDead;
  }

  // Looks for an end; without `text`, for a state from which one is known to be reached, too.
  Life search(uint32_t id, int* fuel, std::string* text) {
    struct From {
      uint32_t parent;
      uint8_t byte;
    };
    std::map<uint32_t, From> from = {{id, {id, 0}}};
    using Item = std::pair<int, uint32_t>;
    std::priority_queue<Item, std::vector<Item>, std::greater<>> queue;
    queue.push({0, id});
    bool whole = true;
    while (!queue.empty()) {
      const auto [cost, at] = queue.top();
      queue.pop();
      const State& state = table_->states[at];
      if (state.accepts || (text == nullptr && state.life == Life::kLive)) {
        for (uint32_t on_path = at;; on_path = from.at(on_path).parent) {
          table_->states[on_path].life = Life::kLive;
          if (on_path == id) break;
          if (text != nullptr) *text += static_cast<char>(from.at(on_path).byte);
        }
        if (text != nullptr) std::reverse(text->begin(), text->end());
        return Life::kLive;
      }
      if (state.life == Life::kUndecided) whole = false;
      if (--*fuel < 0) return Life::kUndecided;
      for (int b = 0; b < 256; ++b) {
        const uint32_t to = step_each(at, static_cast<uint8_t>(b));
        if (!trouble_.ok()) return Life::kUndecided;
        if (to == kDead || table_->states[to].life == Life::kDead) continue;
        if (from.emplace(to, From{at, static_cast<uint8_t>(b)}).second)
          queue.push({cost + completion_cost(static_cast<uint8_t>(b)), to});
      }
    }
    if (!whole) return Life::kUndecided;
    for (const auto& [visited, way] : from) table_->states[visited].life = Life::kDead;
    return Life::kDead;
  }

  std::vector<std::shared_ptr<Constraint>> parts_;
  std::shared_ptr<Table> table_;
  int fuel_ = 0;
  int64_t bytes_left_ = 0;
  int64_t undecided_ = 0;
  Status trouble_;
};

}  // namespace

std::shared_ptr<Constraint> make_product_constraint(std::vector<std::shared_ptr<Constraint>> parts,
                                                    std::shared_ptr<const JsonVocabulary> vocabulary) {
  if (parts.size() == 1) return std::move(parts[0]);
  return std::make_shared<ProductConstraint>(std::move(parts), std::move(vocabulary));
}

}  // namespace decant
