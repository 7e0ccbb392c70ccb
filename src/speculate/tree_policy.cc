// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/tree_policy.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <queue>

#include "base/printable.h"

namespace decant {
namespace {

// Proposes `drawn` in order as children of `node`; the nodes made, with repeats, without what was refused.
std::vector<int> propose_all(int node, const std::vector<DraftToken>& drawn, const DraftRows& rows, TokenTree* tree) {
  std::vector<int> children;
  for (size_t i = 0; i < drawn.size(); ++i) {
    const auto rank = static_cast<int>(i);
    const float p = std::exp(drawn[i].logprob);
    const int child = tree->propose(node, drawn[i].token, rows.acceptance(p, rank), rows.evidence(p, rank));
    if (child != kRefused) children.push_back(child);
  }
  return children;
}

bool can_grow(const TokenTree& tree, int node) { return tree.depth(node) < tree.max_depth() && !tree.full(); }

class Chain final : public TreePolicy {
 public:
  explicit Chain(int length) : length_(length) {}
  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    std::vector<int> todo;
    const int node = ran.front();
    if (!can_grow(*tree, node)) return todo;
    DECANT_TRY(const std::vector<DraftToken> drawn, rows.top(node, 1));
    DECANT_TRY_STATUS(rows.declare(node, Proposal::kWithoutReplacement, tree));
    for (const int child : propose_all(node, drawn, rows, tree)) {
      const bool more = tree->depth(child) < length_ && can_grow(*tree, child);
      if (more && rows.pays(static_cast<double>(tree->reach(child)), 1)) todo.push_back(child);
    }
    return todo;
  }
  int max_nodes() const override { return length_; }
  int max_depth() const override { return length_; }
  Proposal proposal() const override { return Proposal::kWithoutReplacement; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Chain>(length_); }

 private:
  int length_;
};

class Branching final : public TreePolicy {
 public:
  Branching(std::vector<int> branch, bool with_replacement)
      : branch_(std::move(branch)), with_replacement_(with_replacement) {}
  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    std::vector<int> todo;
    double reach = 0;
    for (const int node : ran) {
      const auto depth = static_cast<size_t>(tree->depth(node));
      if (depth >= branch_.size() || !can_grow(*tree, node)) continue;
      const bool draws = with_replacement_ && rows.draws();
      DECANT_TRY(const std::vector<DraftToken> drawn,
                 draws ? rows.independent(node, branch_[depth]) : rows.top(node, branch_[depth]));
      DECANT_TRY_STATUS(rows.declare(node, proposal(), tree));
      for (const int child : propose_all(node, drawn, rows, tree)) {
        if (depth + 1 >= branch_.size() || std::find(todo.begin(), todo.end(), child) != todo.end()) continue;
        todo.push_back(child);
        reach += static_cast<double>(tree->reach(child));
      }
    }
    if (!todo.empty() && !rows.pays(reach, static_cast<int>(todo.size()))) todo.clear();
    return todo;
  }
  int max_nodes() const override {
    int64_t nodes = 0, level = 1;
    for (const int b : branch_) nodes += level *= b;
    return static_cast<int>(std::min<int64_t>(nodes, TokenTree::kMaxNodes));
  }
  int max_depth() const override { return static_cast<int>(branch_.size()); }
  Proposal proposal() const override { return with_replacement_ ? Proposal::kIid : Proposal::kWithoutReplacement; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Branching>(branch_, with_replacement_); }

 private:
  std::vector<int> branch_;
  bool with_replacement_;
};

// Paths compete by the perturbed log-probability of the whole path. A child's is drawn given that the greatest of its
// siblings' is its parent's (Kool et al. 2019), computed as max(x, y) forms so that nothing overflows.
class Beam final : public TreePolicy {
 public:
  Beam(int width, int length) : width_(width), length_(length) {}
  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    struct Candidate {
      double score, logprob;
      int parent;
      DraftToken token;
      int rank;
    };
    std::vector<Candidate> candidates;
    for (const int node : ran) {
      if (!can_grow(*tree, node)) continue;
      const Path path = node == kRoot ? Path{0, 0} : paths_.at(node);
      DECANT_TRY(const std::vector<DraftToken> drawn, rows.top(node, width_));
      if (drawn.empty()) continue;
      const double greatest = path.logprob + drawn.front().score;
      for (size_t i = 0; i < drawn.size(); ++i) {
        const double logprob = path.logprob + static_cast<double>(drawn[i].logprob);
        double score = logprob;
        if (rows.draws()) {
          // -log(exp(-G) - exp(-Z) + exp(-x)): v >= 0 is how far x lies below, and G is approached from below.
          const double x = path.logprob + drawn[i].score;
          const double v = path.score - x + std::log1p(-std::exp(std::min(x - greatest, 0.0)));
          score = i == 0 ? path.score : path.score - std::max(0.0, v) - std::log1p(std::exp(-std::abs(v)));
        }
        candidates.push_back({score, logprob, node, drawn[i], static_cast<int>(i)});
      }
    }
    // Ties keep siblings in the order in which they were drawn.
    std::stable_sort(candidates.begin(), candidates.end(),
                     [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
    if (candidates.size() > static_cast<size_t>(width_)) candidates.resize(static_cast<size_t>(width_));
    std::vector<int> todo;
    double reach = 0;
    std::vector<int> declared;
    for (const Candidate& c : candidates) {
      if (std::find(declared.begin(), declared.end(), c.parent) == declared.end()) {
        DECANT_TRY_STATUS(rows.declare(c.parent, Proposal::kWithoutReplacement, tree));
        declared.push_back(c.parent);
      }
      const float p = std::exp(c.token.logprob);
      const int child = tree->propose(c.parent, c.token.token, rows.acceptance(p, c.rank), rows.evidence(p, c.rank));
      if (child == kRefused) continue;
      paths_[child] = {c.logprob, c.score};
      if (tree->depth(child) >= length_) continue;
      todo.push_back(child);
      reach += static_cast<double>(tree->reach(child));
    }
    if (!todo.empty() && !rows.pays(reach, static_cast<int>(todo.size()))) todo.clear();
    return todo;
  }
  int max_nodes() const override { return std::min(width_ * length_, TokenTree::kMaxNodes); }
  int max_depth() const override { return length_; }
  Proposal proposal() const override { return Proposal::kWithoutReplacement; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Beam>(width_, length_); }

 private:
  struct Path {
    double logprob, score;
  };
  int width_, length_;
  std::map<int, Path> paths_;
};

class Independent final : public TreePolicy {
 public:
  Independent(int count, int length) : count_(count), length_(length) {}
  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    std::vector<int> todo;
    double reach = 0;
    for (const int node : ran) {
      if (!can_grow(*tree, node)) continue;
      // As many draws as continuations have come this way.
      const int drafts = node == kRoot ? count_ : drafts_.at(node);
      DECANT_TRY(const std::vector<DraftToken> drawn, rows.independent(node, drafts));
      DECANT_TRY_STATUS(rows.declare(node, Proposal::kIid, tree));
      for (const int child : propose_all(node, drawn, rows, tree)) {
        if (++drafts_[child] > 1 || tree->depth(child) >= length_) continue;
        todo.push_back(child);
        reach += static_cast<double>(tree->reach(child));
      }
    }
    if (!todo.empty() && !rows.pays(reach, static_cast<int>(todo.size()))) todo.clear();
    return todo;
  }
  int max_nodes() const override { return std::min(count_ * length_, TokenTree::kMaxNodes); }
  int max_depth() const override { return length_; }
  Proposal proposal() const override { return Proposal::kIid; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Independent>(count_, length_); }

 private:
  int count_, length_;
  std::map<int, int> drafts_;
};

// A slot is the next draw of a node: its value, the chance that it is tested, is known before it is drawn, so that the
// tree's shape never depends on the token itself.
class Dynamic final : public TreePolicy {
 public:
  Dynamic(int nodes, int length, float threshold) : nodes_(nodes), length_(length), threshold_(threshold) {}

  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    for (const int node : ran) {
      if (node == kRoot) push({.value = 1, .node = kRoot});
      has_row_.push_back(node);
    }
    std::vector<int> todo;
    while (!slots_.empty() && tree->size() < nodes_) {
      const Slot slot = slots_.top();
      if (threshold_ > 0 && slot.value < static_cast<double>(threshold_)) break;
      if (std::find(has_row_.begin(), has_row_.end(), slot.node) == has_row_.end()) {
        if (!rows.pays(slot.value, 1)) break;
        if (threshold_ <= 0) return std::vector<int>{slot.node};
        // Layer by layer: the other slots whose nodes have rows come first.
        todo.push_back(slot.node);
        waiting_.push_back(slot);
        slots_.pop();
        continue;
      }
      slots_.pop();
      if (!can_grow(*tree, slot.node)) continue;
      DECANT_TRY(const std::vector<DraftToken> drawn, rows.top(slot.node, slot.draws + 1));
      if (static_cast<int>(drawn.size()) <= slot.draws) continue;  // nothing is left of the distribution
      if (slot.draws == 0) DECANT_TRY_STATUS(rows.declare(slot.node, Proposal::kWithoutReplacement, tree));
      const DraftToken& token = drawn[static_cast<size_t>(slot.draws)];
      const float p = std::exp(token.logprob);
      const int child =
          tree->propose(slot.node, token.token, rows.acceptance(p, slot.draws), rows.evidence(p, slot.draws));
      if (child == kRefused) continue;
      const double left = 1 - slot.taken;
      const double chance = left > 0 ? std::min(1.0, static_cast<double>(p) / left) : 1;
      push({.value = slot.value * (1 - chance),
            .node = slot.node,
            .draws = slot.draws + 1,
            .taken = slot.taken + static_cast<double>(p)});
      if (tree->depth(child) < length_) push({.value = slot.value * chance, .node = child});
    }
    if (tree->size() >= nodes_) return std::vector<int>();
    for (const Slot& slot : waiting_) slots_.push(slot);
    waiting_.clear();
    return todo;
  }
  int max_nodes() const override { return nodes_; }
  int max_depth() const override { return length_; }
  Proposal proposal() const override { return Proposal::kWithoutReplacement; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Dynamic>(nodes_, length_, threshold_); }

 private:
  struct Slot {
    double value = 0;
    int node = kRoot;
    int draws = 0;     // made of the node so far
    double taken = 0;  // their probability together
    int64_t ordinal = 0;
    bool operator<(const Slot& other) const {
      return value != other.value ? value < other.value : ordinal > other.ordinal;
    }
  };
  void push(Slot slot) {
    slot.ordinal = ++ordinal_;
    if (slot.value > 0) slots_.push(slot);
  }

  int nodes_, length_;
  float threshold_;
  std::priority_queue<Slot> slots_;
  std::vector<Slot> waiting_;
  std::vector<int> has_row_;
  int64_t ordinal_ = 0;
};

class Growing final : public TreePolicy {
 public:
  Growing(int nodes, int length, int width) : nodes_(nodes), length_(length), width_(width) {}
  Result<std::vector<int>> next(std::span<const int> ran, DraftRows& rows, TokenTree* tree) override {
    constexpr float kLeastReach = 0.03f;
    std::vector<int> todo;
    double reach = 0;
    for (const int node : ran) {
      if (!can_grow(*tree, node)) continue;
      DECANT_TRY(const std::vector<DraftToken> drawn, rows.top(node, width_));
      DECANT_TRY_STATUS(rows.declare(node, Proposal::kWithoutReplacement, tree));
      for (const int child : propose_all(node, drawn, rows, tree)) {
        if (tree->depth(child) >= length_ || tree->reach(child) < kLeastReach) continue;
        todo.push_back(child);
      }
    }
    std::stable_sort(todo.begin(), todo.end(), [&](int a, int b) { return tree->reach(a) > tree->reach(b); });
    if (todo.size() > static_cast<size_t>(width_)) todo.resize(static_cast<size_t>(width_));
    for (const int node : todo) reach += static_cast<double>(tree->reach(node));
    if (!todo.empty() && !rows.pays(reach, static_cast<int>(todo.size()))) todo.clear();
    return todo;
  }
  int max_nodes() const override { return nodes_; }
  int max_depth() const override { return length_; }
  Proposal proposal() const override { return Proposal::kWithoutReplacement; }
  std::unique_ptr<TreePolicy> clone() const override { return std::make_unique<Growing>(nodes_, length_, width_); }

 private:
  int nodes_, length_, width_;
};

}  // namespace

std::unique_ptr<TreePolicy> make_chain(int length) { return std::make_unique<Chain>(length); }
std::unique_ptr<TreePolicy> make_branching(std::vector<int> branch, bool with_replacement) {
  return std::make_unique<Branching>(std::move(branch), with_replacement);
}
std::unique_ptr<TreePolicy> make_beam(int width, int length) { return std::make_unique<Beam>(width, length); }
std::unique_ptr<TreePolicy> make_independent(int count, int length) {
  return std::make_unique<Independent>(count, length);
}
std::unique_ptr<TreePolicy> make_dynamic(int nodes, int length, float threshold) {
  return std::make_unique<Dynamic>(nodes, length, threshold);
}
std::unique_ptr<TreePolicy> make_growing(int nodes, int length, int width) {
  return std::make_unique<Growing>(nodes, length, width);
}

Result<std::vector<int>> parse_branch(const std::string& text) {
  constexpr int kMost = 64;
  const auto bad = [&] {
    return Status::invalid_argument(
        "branch: expected numbers from 1 to {} with '-' between them, such as 3-2-1, got '{}'", kMost, printable(text));
  };
  std::vector<int> branch;
  const char* at = text.data();
  const char* const end = at + text.size();
  int64_t nodes = 0, level = 1;
  while (true) {
    int number = 0;
    const auto [behind, error] = std::from_chars(at, end, number);
    if (error != std::errc() || number < 1 || number > kMost || branch.size() >= 64) return bad();
    branch.push_back(number);
    nodes += level *= number;
    if (nodes > TokenTree::kMaxNodes) {
      return Status::invalid_argument("branch: {} makes a tree of more than {} nodes", printable(text),
                                      TokenTree::kMaxNodes);
    }
    if (behind == end) return branch;
    if (*behind != '-') return bad();
    at = behind + 1;
  }
}

}  // namespace decant
