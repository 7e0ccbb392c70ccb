// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_constraint.h"

#include <algorithm>
#include <climits>
#include <map>
#include <mutex>
#include <queue>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "constrain/completion.h"
#include "constrain/json_machine.h"
#include "constrain/string_masks.h"

namespace decant {
namespace {

constexpr uint32_t kDead = UINT32_MAX;
constexpr uint32_t kUnknown = UINT32_MAX - 1;
constexpr size_t kMaxStates = 1'500;               // in the table; then it begins anew
constexpr size_t kMaxRows = 400;                   // of transitions that are kept between masks
constexpr size_t kMaxMaskBytes = size_t{1} << 19;  // of kept masks
constexpr size_t kFreedAtOnce = 64;                // old states between two masks
constexpr size_t kEndFuel = 12'000;                // states that one search for an end visits, and the table keeps then
constexpr int kNoEnd = INT_MAX;                    // for Entry::end: none was found

class SchemaConstraint final : public Constraint {
 public:
  SchemaConstraint(std::shared_ptr<Schema> schema, std::shared_ptr<const JsonVocabulary> vocabulary)
      : schema_(schema),
        vocabulary_(std::move(vocabulary)),
        machine_(std::move(schema)),
        strings_(&machine_.language().pool(), vocabulary_) {}

  Status prepare() {
    std::optional<JsonState> state = machine_.start();
    if (!machine_.language().status().ok()) return machine_.language().status();
    if (!state) return machine_.language().unsatisfiable();
    DECANT_TRY_STATUS(Status(machine_.language().look_ahead()));
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
    return hold(id);
  }

  std::optional<ConstraintState> step(const ConstraintState& state, uint8_t byte) override {
    const std::lock_guard lock(mutex_);
    make_room();
    const uint32_t id = step(intern(of(state)), byte);
    if (id == kDead || !machine_.language().status().ok()) return std::nullopt;
    return hold(id);
  }

  std::shared_ptr<const TokenMask> mask(const ConstraintState& state) override {
    const std::lock_guard lock(mutex_);
    make_room();
    const uint32_t id = intern(of(state));
    const auto blanks = static_cast<uint8_t>(id);
    for (const auto& [b, known] : states_[id >> 8].masks) {
      if (b == blanks) return known;
    }
    const size_t size = static_cast<size_t>(vocabulary_->trie().vocab_size()) / 8;
    if (mask_bytes_ + size > std::max(kMaxMaskBytes, 8 * size)) {
      for (Entry& e : states_) e.masks.clear();
      mask_bytes_ = 0;
    }
    mask_bytes_ += size;
    auto mask = std::make_shared<TokenMask>(vocabulary_->trie().vocab_size());
    fill(id, mask.get());
    states_[id >> 8].masks.emplace_back(blanks, mask);
    return mask;
  }

  int search_cost(const ConstraintState& state, uint8_t byte) override {
    const std::lock_guard lock(mutex_);
    return cost_of(of(state), byte);
  }
  std::optional<std::string> completion(const ConstraintState& state) override {
    const std::lock_guard lock(mutex_);
    make_room();
    const uint32_t begin = intern(of(state)) >> 8;
    max_states_ = kEndFuel;
    if (states_[begin].end.cost < 0) find_end(begin, false);
    if (states_[begin].end.cost == kNoEnd) return std::nullopt;
    std::string text;
    for (uint32_t at = begin; states_[at].end.cost > 0; at = states_[at].end.next) {
      text += static_cast<char>(states_[at].end.byte);
    }
    return text;
  }
  // An end is found soon enough to ask for one behind each token that is drawn.
  std::shared_ptr<const TokenMask> mask_within(const ConstraintState& state, int tokens) override {
    const std::optional<int> needed = tokens_to_end(state);
    return !needed || *needed < tokens ? mask(state) : Constraint::mask_within(state, *needed);
  }
  const TokenTrie& trie() const override { return vocabulary_->trie(); }
  std::vector<std::string> warnings() const override { return schema_->warnings(); }
  size_t bytes() const override {
    return const_cast<SchemaConstraint*>(this)->machine_.language().bytes() + (states_.size() + old_.size()) * 400 +
           rows_ * 1024 + mask_bytes_ + strings_.bytes();
  }

 private:
  // A state without its white space; an id is its place and, in the low byte, JsonState::blanks.
  struct Entry {
    std::shared_ptr<const JsonState> state;
    bool takes_blanks;
    std::vector<std::pair<uint8_t, std::shared_ptr<const TokenMask>>> masks;  // by blanks
    std::unique_ptr<std::array<uint32_t, 256>> row = nullptr;                 // transitions
    // The cheapest way to an end: its cost, and its first byte and state. -1: it was not looked for.
    struct {
      int cost = -1;
      uint32_t next = 0;
      uint8_t byte = 0;
    } end = {};
  };

  ConstraintState hold(uint32_t id) const {
    if ((id & 0xFF) == 0) return ConstraintState(states_[id >> 8].state);
    auto state_with_blanks = std::make_shared<JsonState>(at(id));
    state_with_blanks->blanks = static_cast<uint8_t>(id);
    return ConstraintState(std::shared_ptr<const JsonState>(std::move(state_with_blanks)));
  }

  static const JsonState& of(const ConstraintState& state) { return *static_cast<const JsonState*>(state.value()); }

  uint32_t intern(const JsonState& state) {
    const auto [begin, end] = ids_.equal_range(state.hash);
    for (auto it = begin; it != end; ++it) {
      const JsonState& known = *states_[it->second].state;
      if (&known == &state || JsonMachine::same(known, state)) return it->second << 8 | state.blanks;
    }
    JsonState own(state);
    own.blanks = 0;
    const bool takes_blanks = JsonMachine::takes_blanks(own);
    states_.push_back(
        {.state = std::make_shared<const JsonState>(std::move(own)), .takes_blanks = takes_blanks, .masks = {}});
    const auto at = static_cast<uint32_t>(states_.size()) - 1;
    ids_.emplace(state.hash, at);
    return at << 8 | state.blanks;
  }
  const JsonState& at(uint32_t id) const { return *states_[id >> 8].state; }

  // Only between masks: ids would change under a walk.
  void make_room() {
    // Little by little: no mask should wait for it.
    old_.resize(old_.size() - std::min(old_.size(), kFreedAtOnce));
    if (states_.size() >= max_states_) {
      old_ = std::move(states_);
      states_.clear();
      ids_.clear();
      tails_.clear();
      mask_bytes_ = 0;
      rows_ = 0;
    }
    strings_.make_room();
    if (rows_ >= kMaxRows) {
      for (Entry& e : states_) e.row.reset();
      rows_ = 0;
    }
  }

  // What a byte costs a search for an end. White space is never needed, and names that the schema mentions are more
  // likely asked for than others.
  int cost_of(const JsonState& s, uint8_t byte) {
    if (!in_text(s) && (byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r')) return -1;
    if (s.phase != JsonPhase::kName || s.cursor.kind != CharCursor::Kind::kBetween) return completion_cost(byte);
    std::array<bool, 256> mentioned;
    const bool any = mentioned_next(s, &mentioned);
    return mentioned[byte] ? 1 : completion_cost(byte) + (any ? 40 : 0);
  }
  static bool in_text(const JsonState& s) { return s.phase == JsonPhase::kString || s.phase == JsonPhase::kName; }

  // How names that the schema mentions may go on; false if there are none.
  bool mentioned_next(const JsonState& s, std::array<bool, 256>* bytes) {
    bytes->fill(false);
    bool any = false;
    for (const JsonThread& t : s.threads) {
      const std::vector<std::string>& names = machine_.language().object(t.frame->shape).names;
      for (uint32_t i = t.a; i < t.b; ++i) {
        if ((t.frame->permitted[i >> 6] >> (i & 63) & 1) == 0) continue;
        (*bytes)[static_cast<uint8_t>(t.c < names[i].size() ? names[i][t.c] : '"')] = true;
        any = true;
      }
    }
    return any;
  }

  // Bytes that a search for an end tries, and what they cost. Without `thorough` containers end where they may, of
  // names that may come those that are needed are tried, of bytes that no language tells apart one, and neither escapes
  // nor bytes beyond ASCII where others will do.
  std::vector<std::pair<uint8_t, int>> ways_on(const JsonState& s, bool thorough) {
    std::array<bool, 256> bytes, mentioned;
    machine_.candidates(s, &bytes);
    std::vector<std::pair<uint8_t, int>> ways;
    const bool between = in_text(s) && s.cursor.kind == CharCursor::Kind::kBetween;
    const bool ends = !thorough &&
                      (s.phase == JsonPhase::kObjectBegin || s.phase == JsonPhase::kArrayBegin ||
                       s.phase == JsonPhase::kAfter || s.phase == JsonPhase::kScalar) &&
                      machine_.closable(s);
    if (thorough || !between) {
      for (uint32_t b = 0; b < 256; ++b) {
        if (ends && b != '}' && b != ']') continue;
        if (!thorough && b == 'u' && s.cursor.kind == CharCursor::Kind::kBackslash) continue;
        const int cost = bytes[b] ? cost_of(s, static_cast<uint8_t>(b)) : -1;
        if (cost >= 0) ways.push_back({static_cast<uint8_t>(b), cost});
      }
      return ways;
    }
    if (s.phase == JsonPhase::kName && machine_.needed_names(s, &mentioned)) {
      for (uint32_t b = 0; b < 256; ++b) {
        if (mentioned[b]) ways.push_back({static_cast<uint8_t>(b), 1});
      }
      return ways;
    }
    RegexPool& pool = machine_.language().pool();
    std::map<std::vector<RegexId>, uint8_t> cheapest;  // by the languages behind them
    std::vector<RegexId> behind;
    for (uint32_t b = 0x20; b < 0x7F; ++b) {
      if (!bytes[b] || b == '"' || b == '\\') continue;
      behind.clear();
      for (const JsonThread& t : s.threads) {
        const RegexId next = pool.derive(s.phase == JsonPhase::kName ? t.d : t.a, pool.class_of(b));
        behind.push_back(next != pool.none() && pool.live(next) ? next : pool.none());
      }
      const auto [it, is_new] = cheapest.emplace(behind, static_cast<uint8_t>(b));
      if (!is_new && completion_cost(static_cast<uint8_t>(b)) < completion_cost(it->second))
        it->second = static_cast<uint8_t>(b);
    }
    for (const auto& [c, b] : cheapest) ways.push_back({b, completion_cost(b)});
    if (bytes['"']) ways.push_back({'"', completion_cost('"')});
    if (!cheapest.empty()) return ways;
    for (uint32_t b = 0; b < 256; ++b) {
      if (bytes[b] && b != '"') ways.push_back({static_cast<uint8_t>(b), completion_cost(static_cast<uint8_t>(b))});
    }
    return ways;
  }

  // States that a search for an end tries one of: names that go on alike, of as many lengths as there are names that
  // they have to differ from. `begun`: characters of a name before the search.
  uint64_t alike(uint32_t place, size_t begun, bool thorough) {
    const std::shared_ptr<const JsonState> state = states_[place].state;
    if (thorough || state->phase != JsonPhase::kName || !state->name || state->item) return uint64_t{place} << 16;
    size_t others = 0;
    for (const JsonThread& t : state->threads) others = std::max(others, t.frame->seen ? t.frame->seen->size() : 0);
    const auto length = static_cast<uint16_t>(std::min({state->name->size(), begun + others, size_t{UINT16_MAX}}));
    return uint64_t{intern(*JsonMachine::without_text(*state))} >> 8 << 16 | length;
  }

  // Looks for the cheapest way to an end, and keeps it for all states on the way: the next search is short.
  void find_end(uint32_t begin, bool thorough) {
    struct Node {
      int cost;
      uint32_t order;  // of two that cost the same the first one made
      uint32_t parent;
      uint32_t place;
      uint8_t byte;
      bool known;  // the way on from here is
    };
    const auto later = [](const Node& x, const Node& y) {
      return std::tie(x.cost, x.order) > std::tie(y.cost, y.order);
    };
    std::vector<Node> done;
    std::priority_queue<Node, std::vector<Node>, decltype(later)> queue(later);
    std::unordered_set<uint64_t> seen;
    const std::shared_ptr<const JsonState> first = states_[begin].state;
    const size_t begun = first->phase == JsonPhase::kName && first->name ? first->name->size() : 0;
    uint32_t order = 0;
    queue.push({.cost = 0, .order = order++, .parent = 0, .place = begin, .byte = 0, .known = false});
    const size_t fuel = std::max<size_t>((thorough ? kEndFuel / 16 : kEndFuel) >> std::min(failed_, 6), 100);
    while (!queue.empty() && done.size() < fuel) {
      const Node node = queue.top();
      queue.pop();
      if (!node.known && !seen.insert(alike(node.place, begun, thorough)).second) continue;
      const std::shared_ptr<const JsonState> state = states_[node.place].state;
      done.push_back(node);
      auto at = static_cast<uint32_t>(done.size()) - 1;
      const bool ends = !node.known && machine_.accepting(*state);
      if (ends) states_[node.place].end.cost = 0;
      if (ends || node.known) {
        const int total = node.cost;
        for (; at != 0; at = done[at].parent) {
          const Node& n = done[at];
          if (n.known) continue;
          states_[done[n.parent].place].end = {.cost = total - done[n.parent].cost, .next = n.place, .byte = n.byte};
        }
        failed_ = 0;
        return;
      }
      if (const int left = states_[node.place].end.cost; left > 0 && left != kNoEnd) {
        queue.push(
            {.cost = node.cost + left, .order = order++, .parent = at, .place = node.place, .byte = 0, .known = true});
        continue;
      }
      for (const auto& [byte, cost] : ways_on(*state, thorough)) {
        const uint32_t next = step(node.place << 8, byte);
        if (next == kDead || seen.contains(alike(next >> 8, begun, thorough))) continue;
        queue.push({.cost = node.cost + cost,
                    .order = order++,
                    .parent = at,
                    .place = next >> 8,
                    .byte = byte,
                    .known = false});
      }
    }
    if (!thorough && queue.empty()) return find_end(begin, true);
    ++failed_;
    states_[begin].end.cost = kNoEnd;
  }

  uint32_t step(uint32_t id, uint8_t byte) {
    Entry& entry = states_[id >> 8];
    if (entry.takes_blanks && (byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r')) {
      const std::optional<uint8_t> blanks = JsonMachine::add_blank(static_cast<uint8_t>(id), byte);
      return blanks ? (id & ~0xFFu) | *blanks : kDead;
    }
    if (!entry.row) {
      entry.row = std::make_unique<std::array<uint32_t, 256>>();
      entry.row->fill(kUnknown);
      ++rows_;
    }
    const uint32_t known = (*entry.row)[byte];
    return known != kUnknown ? known : step_anew(id >> 8, byte);
  }
  uint32_t step_anew(uint32_t place, uint8_t byte) {
    const std::optional<JsonState> next = machine_.step(*states_[place].state, byte);
    const uint32_t result = next ? intern(*next) : kDead;
    (*states_[place].row)[byte] = result;
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
  void walk_with_text(const TokenTrie& trie, uint32_t begin, uint32_t end, uint32_t full, uint32_t bare,
                      TokenMask* mask) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    std::vector<std::pair<uint32_t, uint32_t>> open = {{end, bare}};
    std::string path;
    for (uint32_t i = begin; i < end;) {
      while (open.back().first <= i) open.pop_back();
      path.resize(open.size() - 1);
      const TokenTrie::Node& node = nodes[i];
      if (JsonMachine::ends_text(at(open.back().second), node.byte)) {
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
    const std::shared_ptr<const JsonState> state = states_[id >> 8].state;
    machine_.candidates(*state, &bytes);
    walk_from(vocabulary_->trie(), bytes, id, mask);
  }

  // From all roots of the trie whose bytes are among these.
  void walk_from(const TokenTrie& trie, const std::array<bool, 256>& bytes, uint32_t id, TokenMask* mask) {
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    const std::optional<JsonState> bare = JsonMachine::without_text(*states_[id >> 8].state);
    const uint32_t bare_id = bare ? intern(*bare) : kDead;
    for (uint32_t b = 0; b < 256; ++b) {
      const uint32_t root = trie.root(static_cast<uint8_t>(b));
      if (!bytes[b] || root >= nodes.size()) continue;
      if (bare) {
        walk_with_text(trie, root, nodes[root].end, id, bare_id, mask);
      } else {
        walk(trie, root, nodes[root].end, id, mask);
      }
    }
  }

  // Between the characters of a string or name: by what the rest of it may be.
  void fill_within(uint32_t id, TokenMask* mask) {
    const std::shared_ptr<const JsonState> state = states_[id >> 8].state;
    const bool is_name = state->phase == JsonPhase::kName;
    RegexPool& pool = machine_.language().pool();
    std::vector<RegexId> rests;
    for (const JsonThread& t : state->threads) {
      rests.push_back(is_name ? t.d : t.a);
      if (!is_name) continue;
      const std::vector<std::string>& names = machine_.language().object(t.frame->shape).names;
      for (uint32_t i = t.a; i < t.b; ++i) {
        if ((t.frame->permitted[i >> 6] >> (i & 63) & 1) != 0) add_within(std::string_view(names[i]).substr(t.c), mask);
      }
    }
    std::sort(rests.begin(), rests.end());
    rests.erase(std::unique(rests.begin(), rests.end()), rests.end());
    strings_.add_inside(rests.size() == 1 ? rests[0] : pool.alt(std::move(rests)), mask);
    std::array<bool, 256> bytes;
    machine_.candidates(*state, &bytes);
    walk_from(vocabulary_->odd_trie(), bytes, id, mask);
    fill_endings(*state, mask);
  }

  // Tokens that end a string or name: those whose text before the quote the languages do not tell apart go on alike.
  void fill_endings(const JsonState& state, TokenMask* mask) {
    RegexPool& pool = machine_.language().pool();
    std::vector<RegexId> languages;
    std::vector<std::string_view> exact;
    const bool grouped = machine_.endings(state, &languages, &exact);
    const size_t width = languages.size();
    std::vector<uint32_t> rows;  // of the languages, for each open node
    rows.reserve(width * 8);
    for (const RegexId l : languages) rows.push_back(strings_.row_of(l));
    struct Open {
      uint32_t end, code;
      uint8_t left;
    };
    const std::vector<JsonVocabulary::EndingNode>& nodes = vocabulary_->ending_nodes();
    std::vector<Open> open = {{static_cast<uint32_t>(nodes.size()), 0, 0}};
    std::string text;
    std::map<std::vector<bool>, uint32_t> behind;  // by the languages that end
    std::vector<bool> key(width);
    for (uint32_t i = 0; i < nodes.size();) {
      const JsonVocabulary::EndingNode& node = nodes[i];
      if (i > 0) {
        while (open.back().end <= i) open.pop_back();
        text.resize(open.size() - 1);
        rows.resize(width * open.size());
        text += static_cast<char>(node.byte);
        Open now{node.end, 0, 0};
        std::optional<uint32_t> code;
        if (node.byte < 128) {
          code = node.byte;
        } else if (open.back().left > 0) {
          now.left = static_cast<uint8_t>(open.back().left - 1);
          now.code = open.back().code << 6 | (node.byte & 0x3Fu);
          if (now.left == 0) code = now.code;
        } else {
          now.left = node.byte >= 0xF0 ? 3 : node.byte >= 0xE0 ? 2 : 1;
          now.code = node.byte & (0x3Fu >> now.left);
        }
        bool alive = false;
        const CharClassId c = code ? pool.class_of(*code) : 0;
        for (size_t k = 0; k < width; ++k) {
          uint32_t row = rows[rows.size() - width];
          if (row != StringMasks::kDead && code) row = strings_.step(row, c);
          alive = alive || row != StringMasks::kDead;
          rows.push_back(row);
        }
        if (!alive) {
          const auto at = std::lower_bound(exact.begin(), exact.end(), text);
          if (at == exact.end() || !at->starts_with(text)) {
            rows.resize(rows.size() - width);
            i = node.end;
            continue;
          }
        }
        open.push_back(now);
      }
      ++i;
      if (node.first == node.last || open.back().left > 0) continue;
      bool any = false;
      for (size_t k = 0; k < width; ++k) {
        const uint32_t row = rows[rows.size() - width + k];
        key[k] = row != StringMasks::kDead && pool.nullable(strings_.language_of(row));
        any = any || key[k];
      }
      const bool is_exact = std::binary_search(exact.begin(), exact.end(), text);
      if (!any && !is_exact) continue;
      std::optional<uint32_t> own;
      for (uint32_t e = node.first; e < node.last; ++e) {
        const JsonVocabulary::EndingToken& token = vocabulary_->ending_tokens()[e];
        if (grouped && !is_exact && vocabulary_->tails()[token.tail].plain) {
          const auto [it, is_new] = behind.emplace(key, kDead);
          if (is_new) it->second = behind_quote(state, text);
          if (it->second == kDead) continue;
          const std::vector<uint32_t>& tails = tails_of(it->second);
          if (std::binary_search(tails.begin(), tails.end(), token.tail)) mask->set(token.token);
          continue;
        }
        if (!own) own = behind_quote(state, text);
        uint32_t at = *own;
        for (const char c : vocabulary_->trie().bytes_of(token.token).substr(text.size() + 1)) {
          if (at == kDead) break;
          at = step(at, static_cast<uint8_t>(c));
        }
        if (at != kDead) mask->set(token.token);
      }
    }
  }

  uint32_t behind_quote(const JsonState& state, const std::string& text) {
    std::optional<JsonState> at = state;
    for (size_t i = 0; i <= text.size() && at; ++i) {
      at = machine_.step(*at, static_cast<uint8_t>(i < text.size() ? text[i] : '"'));
    }
    return at ? intern(*at) : kDead;
  }

  // The tokens that `text` begins with.
  void add_within(std::string_view text, TokenMask* mask) const {
    const TokenTrie& trie = vocabulary_->trie();
    const std::span<const TokenTrie::Node> nodes = trie.nodes();
    uint32_t end = static_cast<uint32_t>(nodes.size()), next = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<uint8_t>(text[i]);
      if (byte == '"' || byte == '\\' || byte < 0x20) return;  // written with an escape
      uint32_t at = i == 0 ? trie.root(byte) : next;
      while (i > 0 && at < end && nodes[at].byte < byte) at = nodes[at].end;
      if (at >= end || nodes[at].byte != byte) return;
      trie.add_to(nodes[at], mask);
      next = at + 1;
      end = nodes[at].end;
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
    const std::shared_ptr<const JsonState> state = states_[id >> 8].state;
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
    if ((state->phase == JsonPhase::kString || state->phase == JsonPhase::kName) &&
        state->cursor.kind == CharCursor::Kind::kBetween) {
      fill_within(id, mask);
    } else {
      walk_all(id, mask);
    }
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
      at = i == 0 ? vocabulary_->trie().root(byte) : begin;
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
  std::vector<Entry> states_, old_;
  std::unordered_multimap<size_t, uint32_t> ids_;
  StringMasks strings_;
  size_t rows_ = 0;
  std::unordered_map<uint32_t, std::vector<uint32_t>> tails_;  // by the state behind a quote
  std::vector<std::pair<uint32_t, uint32_t>> open_;
  size_t mask_bytes_ = 0;
  size_t max_states_ = kMaxStates;
  int failed_ = 0;  // searches for an end since one was found: the next may take less
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
