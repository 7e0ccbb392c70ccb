// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/tag_constraint.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>

#include "base/printable.h"
#include "constrain/walk_constraint.h"

namespace decant {
namespace {

constexpr size_t kMaxStates = 50'000;
constexpr size_t kMaxThreads = 4096;
constexpr size_t kMaxTriggerText = 4096;  // bytes of all of them

// Finds triggers in a text (Aho and Corasick 1975).
class TriggerAutomaton {
 public:
  static constexpr int32_t kNoTrigger = -1;

  explicit TriggerAutomaton(const std::vector<std::string>& triggers) {
    add_node();
    for (size_t i = 0; i < triggers.size(); ++i) {
      uint32_t at = 0;
      for (const char c : triggers[i]) {
        const auto byte = static_cast<uint8_t>(c);
        if (next_[at][byte] == 0) {
          const uint32_t made = add_node();
          next_[at][byte] = made;
        }
        at = next_[at][byte];
      }
      found_[at] = static_cast<int32_t>(i);
    }
    // Breadth first: a node's suffix is shorter. What ends at a suffix ends here unless something longer does.
    std::vector<uint32_t> suffix(next_.size(), 0);
    std::deque<uint32_t> queue;
    for (const uint32_t child : next_[0]) {
      if (child != 0) queue.push_back(child);
    }
    while (!queue.empty()) {
      const uint32_t at = queue.front();
      queue.pop_front();
      if (found_[at] == kNoTrigger) found_[at] = found_[suffix[at]];
      for (size_t b = 0; b < 256; ++b) {
        const uint32_t child = next_[at][b];
        if (child == 0) {
          next_[at][b] = next_[suffix[at]][b];
        } else {
          suffix[child] = next_[suffix[at]][b];
          queue.push_back(child);
        }
      }
    }
  }

  uint32_t step(uint32_t state, uint8_t byte) const { return next_[state][byte]; }
  int32_t found(uint32_t state) const { return found_[state]; }

 private:
  uint32_t add_node() {
    next_.emplace_back().fill(0);
    found_.push_back(kNoTrigger);
    return static_cast<uint32_t>(next_.size()) - 1;
  }

  std::vector<std::array<uint32_t, 256>> next_;
  std::vector<int32_t> found_;
};

class TagConstraint final : public WalkConstraint {
 public:
  TagConstraint(StructuralTags tags, std::shared_ptr<const JsonVocabulary> vocabulary)
      : WalkConstraint(std::move(vocabulary)),
        tags_(std::move(tags)),
        triggers_(tags_.triggers),
        table_(std::make_shared<Table>()) {
    for (const StructuralTag& tag : tags_.tags) crossing_.push_back(tokens_that_cross(tag));
  }

  std::vector<std::string> warnings() const override {
    std::vector<std::string> list;
    for (const StructuralTag& tag : tags_.tags) {
      for (std::string& w : tag.content->warnings()) {
        if (std::find(list.begin(), list.end(), w) == list.end()) list.push_back(std::move(w));
      }
    }
    return list;
  }

 protected:
  uint32_t start_anew() override {
    Threads threads;
    if (tags_.free_text) {
      threads.push_back({.phase = Phase::kFree});
    } else {
      begin_any(&threads);
    }
    return intern(std::move(threads));
  }

  uint32_t step_anew(uint32_t id, uint8_t byte) override {
    Threads to;
    const Threads from = table_->states[id].threads;
    for (const Thread& t : from) step_thread(t, byte, &to);
    if (to.size() > kMaxThreads) {
      trouble_ = Status::exhausted("the structures of the answer can be read in too many ways at once");
      return kDead;
    }
    return to.empty() ? kDead : intern(std::move(to));
  }

  // Only what belongs to a tag: such a token is no free text and no content.
  uint32_t advance_special(uint32_t id, TokenId token) override {
    const auto it = std::find_if(tags_.tokens.begin(), tags_.tokens.end(),
                                 [&](const TagToken& t) { return t.token == token && !t.text.empty(); });
    if (it == tags_.tokens.end()) return kDead;
    Threads result;
    for (const Thread& from : table_->states[id].threads) {
      Threads threads = {from};
      for (size_t i = 0; i < it->text.size(); ++i) {
        Threads to;
        for (const Thread& t : threads) {
          if (t.phase != Phase::kContent) {
            step_thread(t, static_cast<uint8_t>(it->text[i]), &to);
          } else if (i == 0) {
            leave_content(t, static_cast<uint8_t>(it->text[i]), &to);
          }
        }
        threads = std::move(to);
      }
      for (Thread& t : threads) {
        if (from.phase != Phase::kFree || t.phase != Phase::kFree) result.push_back(std::move(t));
      }
    }
    return result.empty() ? kDead : intern(std::move(result));
  }

  bool accepts(uint32_t id) override { return table_->states[id].accepts; }

  std::optional<std::string> completion_of(uint32_t id) override {
    if (table_->states[id].accepts) return "";
    std::optional<std::string> best;
    const Threads threads = table_->states[id].threads;
    const auto offer = [&](std::string text) {
      if (!best || text.size() < best->size()) best = std::move(text);
    };
    const auto whole = [&](uint32_t i, std::string_view begin) {
      const StructuralTag& tag = tags_.tags[i];
      if (const auto content = tag.content->completion(tag.content->start()))
        offer(std::string(begin) + *content + tag.end);
    };
    for (const Thread& t : threads) {
      const StructuralTag& tag = tags_.tags[t.tag];
      switch (t.phase) {
        case Phase::kFree:
        case Phase::kSeparator:
          for (uint32_t i = 0; i < tags_.tags.size(); ++i) {
            const std::string before = t.phase == Phase::kFree ? "" : tags_.separator.substr(t.at);
            if (!tags_.tags[i].begin.empty() || t.phase == Phase::kSeparator) whole(i, before + tags_.tags[i].begin);
          }
          break;
        case Phase::kBegin: whole(t.tag, std::string_view(tag.begin).substr(t.at)); break;
        case Phase::kContent:
          if (const auto content = tag.content->completion(t.content)) offer(*content + tag.end);
          break;
        case Phase::kEnd: offer(tag.end.substr(t.at)); break;
        case Phase::kDone: offer(""); break;
      }
    }
    return best;
  }

  void fill(uint32_t id, TokenMask* mask) override {
    const Threads threads = table_->states[id].threads;
    for (const TagToken& t : tags_.tokens) {
      if (advance_special(id, t.token) != kDead) mask->set(t.token);
    }
    if (threads.size() != 1 || threads[0].phase != Phase::kContent || !crossing_[threads[0].tag])
      return walk_all(id, mask);
    // Within one content: its own mask, and what leads out of it.
    const StructuralTag& tag = tags_.tags[threads[0].tag];
    *mask |= *tag.content->mask(threads[0].content);
    if (Status failed = tag.content->failure(threads[0].content); !failed.ok()) trouble_ = std::move(failed);
    for (const TokenId token : *crossing_[threads[0].tag]) {
      if (mask->test(token)) continue;
      uint32_t at = id;
      for (const char c : vocabulary()->trie().bytes_of(token)) {
        at = next(at, static_cast<uint8_t>(c));
        if (at == kDead) break;
      }
      if (at != kDead) mask->set(token);
    }
  }

  std::shared_ptr<const void> epoch() const override { return table_; }
  void begin_epoch() override { table_ = std::make_shared<Table>(); }
  uint32_t bring_over(const void* old_epoch, uint32_t id) override {
    return intern(Threads(static_cast<const Table*>(old_epoch)->states[id].threads));
  }
  bool epoch_is_full() const override { return table_->states.size() >= kMaxStates; }
  size_t epoch_bytes() const override {
    size_t total = table_->states.size() * 320;
    for (const StructuralTag& tag : tags_.tags) total += tag.content->bytes();
    return total;
  }
  void begin_work() override { trouble_ = {}; }
  const Status& trouble() const override { return trouble_; }

 private:
  enum class Phase : uint8_t { kFree, kBegin, kContent, kEnd, kSeparator, kDone };
  using Key = std::tuple<Phase, bool, uint32_t, uint32_t, const void*>;
  struct Thread {
    Phase phase;
    bool called = false;  // kFree: a structure came before
    uint32_t tag = 0;
    uint32_t at = 0;          // kFree: of the triggers' automaton; else bytes of the tag or separator so far
    ConstraintState content;  // held, so that its address stays its own
    Key key() const { return {phase, called, tag, at, content.value()}; }
  };
  using Threads = std::vector<Thread>;
  struct State {
    Threads threads;
    bool accepts;
  };
  struct Table {
    std::vector<State> states;
    std::map<std::vector<Key>, uint32_t> ids;
  };

  uint32_t intern(Threads threads) {
    std::sort(threads.begin(), threads.end(), [](const Thread& a, const Thread& b) { return a.key() < b.key(); });
    threads.erase(std::unique(threads.begin(), threads.end(),
                              [](const Thread& a, const Thread& b) { return a.key() == b.key(); }),
                  threads.end());
    std::vector<Key> key;
    for (const Thread& t : threads) key.push_back(t.key());
    const auto [it, is_new] = table_->ids.emplace(std::move(key), static_cast<uint32_t>(table_->states.size()));
    if (is_new) {
      const bool accepts = std::any_of(threads.begin(), threads.end(), [&](const Thread& t) { return may_end(t); });
      table_->states.push_back({std::move(threads), accepts});
    }
    return it->second;
  }

  bool may_end(const Thread& t) const {
    const StructuralTag& tag = tags_.tags[t.tag];
    switch (t.phase) {
      case Phase::kFree: return t.called || !tags_.at_least_one;
      case Phase::kContent: return tag.end.empty() && tag.content->accepting(t.content);
      case Phase::kSeparator: return t.at == 0;
      case Phase::kDone: return true;
      default: return false;
    }
  }

  Thread content_of(uint32_t i) const {
    return {.phase = Phase::kContent, .tag = i, .content = tags_.tags[i].content->start()};
  }
  void begin(uint32_t i, uint32_t at, Threads* out) const {
    out->push_back(at == tags_.tags[i].begin.size() ? content_of(i)
                                                    : Thread{.phase = Phase::kBegin, .tag = i, .at = at});
  }
  void begin_any(Threads* out) const {
    for (uint32_t i = 0; i < tags_.tags.size(); ++i) begin(i, 0, out);
  }
  Thread behind(const StructuralTag& tag) const {
    if (tag.last) return {.phase = Phase::kDone};
    return tags_.free_text ? Thread{.phase = Phase::kFree, .called = true} : Thread{.phase = Phase::kSeparator};
  }

  void step_thread(const Thread& t, uint8_t byte, Threads* out) const {
    const StructuralTag& tag = tags_.tags[t.tag];
    switch (t.phase) {
      case Phase::kFree: {
        const uint32_t at = triggers_.step(t.at, byte);
        const int32_t found = triggers_.found(at);
        if (found == TriggerAutomaton::kNoTrigger) {
          out->push_back({.phase = Phase::kFree, .called = t.called, .at = at});
          return;
        }
        const std::string& trigger = tags_.triggers[static_cast<size_t>(found)];
        for (uint32_t i = 0; i < tags_.tags.size(); ++i) {
          if (tags_.tags[i].begin.starts_with(trigger)) begin(i, static_cast<uint32_t>(trigger.size()), out);
        }
        return;
      }
      case Phase::kBegin:
        if (static_cast<uint8_t>(tag.begin[t.at]) == byte) begin(t.tag, t.at + 1, out);
        return;
      case Phase::kContent:
        if (std::optional<ConstraintState> content = tag.content->step(t.content, byte))
          out->push_back({.phase = Phase::kContent, .tag = t.tag, .content = *std::move(content)});
        leave_content(t, byte, out);
        return;
      case Phase::kEnd: step_end(t.tag, t.at, byte, out); return;
      case Phase::kSeparator: {
        if (t.at < tags_.separator.size()) {
          if (static_cast<uint8_t>(tags_.separator[t.at]) != byte) return;
          if (t.at + 1 == tags_.separator.size()) {
            begin_any(out);
          } else {
            out->push_back({.phase = Phase::kSeparator, .at = t.at + 1});
          }
          return;
        }
        Threads begun;
        begin_any(&begun);
        for (const Thread& b : begun) step_thread(b, byte, out);
        return;
      }
      case Phase::kDone: return;
    }
  }

  void leave_content(const Thread& t, uint8_t byte, Threads* out) const {
    const StructuralTag& tag = tags_.tags[t.tag];
    if (!tag.content->accepting(t.content)) return;
    if (tag.end.empty()) {
      step_thread(behind(tag), byte, out);
    } else {
      step_end(t.tag, 0, byte, out);
    }
  }

  void step_end(uint32_t i, uint32_t at, uint8_t byte, Threads* out) const {
    const StructuralTag& tag = tags_.tags[i];
    if (static_cast<uint8_t>(tag.end[at]) != byte) return;
    out->push_back(at + 1 == tag.end.size() ? behind(tag) : Thread{.phase = Phase::kEnd, .tag = i, .at = at + 1});
  }

  // Tokens that can lead out of the content: somewhere in them the end tag begins. nullopt: any may.
  std::optional<std::vector<TokenId>> tokens_that_cross(const StructuralTag& tag) const {
    if (tag.end.empty() && !tag.last) return std::nullopt;
    std::vector<TokenId> list;
    if (tag.end.empty()) return list;
    const TokenTrie& trie = vocabulary()->trie();
    for (TokenId t = 0; t < trie.vocab_size(); ++t) {
      const std::string_view text = trie.bytes_of(t);
      for (size_t i = 0; i < text.size(); ++i) {
        const std::string_view tail = text.substr(i);
        if (!tail.starts_with(tag.end) && !tag.end.starts_with(tail)) continue;
        list.push_back(t);
        break;
      }
    }
    return list;
  }

  StructuralTags tags_;
  TriggerAutomaton triggers_;
  std::vector<std::optional<std::vector<TokenId>>> crossing_;
  std::shared_ptr<Table> table_;
  Status trouble_;
};

}  // namespace

Result<std::shared_ptr<Constraint>> make_tag_constraint(StructuralTags tags,
                                                        std::shared_ptr<const JsonVocabulary> vocabulary) {
  if (tags.tags.empty()) return Status::invalid_argument("structural tags: none are given");
  size_t size = 0;
  for (const std::string& trigger : tags.triggers) {
    if (trigger.empty()) return Status::invalid_argument("structural tags: a trigger is empty");
    size += trigger.size();
    if (std::none_of(tags.tags.begin(), tags.tags.end(),
                     [&](const StructuralTag& t) { return t.begin.starts_with(trigger); })) {
      return Status::invalid_argument("structural tags: no begin tag starts with the trigger \"{}\"",
                                      printable(trigger));
    }
  }
  if (size > kMaxTriggerText)
    return Status::unsupported("structural tags: more than {} bytes of triggers", kMaxTriggerText);
  for (const TagToken& t : tags.tokens) {
    if (t.token < 0 || t.token >= vocabulary->trie().vocab_size() || !vocabulary->trie().bytes_of(t.token).empty())
      return Status::invalid_argument("structural tags: {} is no control token of the vocabulary", t.token);
  }
  for (const StructuralTag& tag : tags.tags) {
    if (!tags.free_text) continue;
    if (std::none_of(tags.triggers.begin(), tags.triggers.end(),
                     [&](const std::string& trigger) { return tag.begin.starts_with(trigger); })) {
      return Status::invalid_argument("structural tags: the begin tag \"{}\" starts with no trigger",
                                      printable(tag.begin));
    }
  }
  return std::shared_ptr<Constraint>(std::make_shared<TagConstraint>(std::move(tags), std::move(vocabulary)));
}

}  // namespace decant
