// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Token Recycling: the likeliest successors that the target named at any position, kept or rejected, are the guesses
// when the same token comes again (Luo et al. 2024, "Turning Trash into Treasure"). Beyond the paper: rows are kept for
// the last two and three tokens too (`order`), with the distances between their logits, and the tree may grow where the
// measured acceptance of such guesses says (`tree=grow`) and not in the paper's fixed shape (`tree=paper`).
#include <algorithm>
#include <array>
#include <cstring>

#include "base/bytes.h"
#include "base/hash.h"
#include "engine/acceptance.h"
#include "speculate/methods.h"
#include "speculate/state_file.h"
#include "speculate/top_tokens.h"

namespace decant {
namespace {

constexpr int kMaxOrder = 4;
constexpr int kMaxK = 16;
constexpr size_t kWays = 4;  // rows that share a place of the table

// Successors of one context. `gap`: how far the logit lies below the row's first, in eighths, at most 255.
struct Row {
  uint64_t key = 0;  // 0: empty
  uint32_t stamp = 0;
  std::array<int32_t, kMaxK> token{};
  std::array<uint8_t, kMaxK> gap{};
  uint8_t size = 0;
};

// Contexts of one length, the least recently written of four making way for a new one.
class RowTable {
 public:
  explicit RowTable(size_t rows) : rows_(std::max<size_t>(rows / kWays, 1) * kWays) {}

  const Row* find(uint64_t key) const {
    const Row* set = &rows_[set_of(key)];
    for (size_t i = 0; i < kWays; ++i) {
      if (set[i].key == key) return &set[i];
    }
    return nullptr;
  }
  Row* put(uint64_t key) {
    Row* set = &rows_[set_of(key)];
    Row* oldest = set;
    for (size_t i = 0; i < kWays; ++i) {
      if (set[i].key == key || set[i].key == 0) {
        oldest = &set[i];
        break;
      }
      if (set[i].stamp < oldest->stamp) oldest = &set[i];
    }
    oldest->key = key;
    oldest->stamp = ++stamp_;
    return oldest;
  }
  size_t bytes() const { return rows_.size() * sizeof(Row); }
  std::vector<Row>& rows() { return rows_; }
  const std::vector<Row>& rows() const { return rows_; }

 private:
  size_t set_of(uint64_t key) const { return key % (rows_.size() / kWays) * kWays; }

  std::vector<Row> rows_;
  uint32_t stamp_ = 0;
};

// The last tokens of a place, newest first.
struct Context {
  std::array<TokenId, kMaxOrder> last{};
  int size = 0;

  Context then(TokenId token) const {
    Context next;
    next.last[0] = token;
    next.size = std::min(size + 1, kMaxOrder);
    for (int i = 1; i < next.size; ++i) next.last[static_cast<size_t>(i)] = last[static_cast<size_t>(i) - 1];
    return next;
  }
  // Of the last `order` tokens; never 0.
  uint64_t key(int order) const {
    uint64_t hash = static_cast<uint64_t>(order);
    for (int i = 0; i < order; ++i) {
      hash = mix_bits(hash * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(last[static_cast<size_t>(i)]) + 1);
    }
    return hash | 1;
  }
};

// How sure a row is of a guess: by its distance to the row's first, or of the first, to the second.
int gap_class(const Row& row, int rank) {
  const int gap = rank > 0 ? row.gap[static_cast<size_t>(rank)] : row.size > 1 ? row.gap[1] : 255;
  return gap < 6 ? 0 : gap < 14 ? 1 : gap < 28 ? 2 : 3;
}

// Before anything is measured.
float prior(int order, int rank, int gap) {
  constexpr float kFirst[] = {0.3f, 0.45f, 0.65f, 0.85f};
  constexpr float kOther[] = {0.25f, 0.12f, 0.05f, 0.01f};
  constexpr float kOrder[] = {0.5f, 0.8f, 0.95f, 1.0f};
  const float base = rank == 0 ? kFirst[gap] : kOther[gap] / static_cast<float>(rank);
  return base * kOrder[order - 1];
}

struct Matrix {
  std::vector<RowTable> tables;  // of order i + 1
  int k = 8;

  void learn(const Context& context, const std::vector<TokenLogprob>& top) {
    for (int order = 1; order <= std::min(context.size, static_cast<int>(tables.size())); ++order) {
      Row* row = tables[static_cast<size_t>(order) - 1].put(context.key(order));
      row->size = static_cast<uint8_t>(std::min<size_t>(top.size(), static_cast<size_t>(k)));
      for (size_t i = 0; i < row->size; ++i) {
        row->token[i] = top[i].token;
        row->gap[i] = static_cast<uint8_t>(std::clamp((top[0].logprob - top[i].logprob) * 8, 0.0f, 255.0f));
      }
    }
  }
};

// The paper's tree, children by the rank of their parent's path: how many each gets. Paths not named get none.
struct PaperNode {
  int parent;  // index in the list, -1: the root
  int rank;
};
const std::vector<PaperNode>& paper_tree() {
  static const std::vector<PaperNode> tree = [] {
    // Children of the nodes of each level in order, as published: 8, 21, 25, 15, 8 and 3 nodes.
    const std::vector<std::vector<int>> children = {
        {8},
        {8, 4, 3, 2, 1, 1, 1, 1},
        {8, 3, 2, 1, 1, 1, 1, 1, 2, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0},
        {5, 2, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0},
        {3, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0},
        {2, 0, 0, 1, 0, 0, 0, 0},
    };
    std::vector<PaperNode> nodes;
    std::vector<int> level = {-1};
    for (const std::vector<int>& counts : children) {
      std::vector<int> next;
      for (size_t i = 0; i < level.size(); ++i) {
        for (int rank = 0; rank < counts[i]; ++rank) {
          next.push_back(static_cast<int>(nodes.size()));
          nodes.push_back({level[i], rank});
        }
      }
      level = std::move(next);
    }
    return nodes;
  }();
  return tree;
}

class Recycling final : public Drafter {
 public:
  Recycling(std::shared_ptr<Matrix> matrix, bool grows) : matrix_(std::move(matrix)), grows_(grows) {}

  Status propose(const DraftContext& context, TokenTree* tree) override {
    Context root;
    const size_t known = std::min<size_t>(context.tokens.size(), kMaxOrder);
    for (size_t i = 0; i < known; ++i) root.last[i] = context.tokens[context.tokens.size() - 1 - i];
    root.size = static_cast<int>(known);
    grows_ ? grow(root, context.control, tree) : fill(root, tree);
    return {};
  }

  void observe(const DraftOutcome& outcome) override {
    // Rejected nodes first, the accepted path last: what was really said wins.
    const TokenTree& tree = outcome.tree();
    const std::span<const TokenId> before = outcome.before();
    Context root;
    const size_t known = std::min<size_t>(before.size(), kMaxOrder);
    for (size_t i = 0; i < known; ++i) root.last[i] = before[before.size() - 1 - i];
    root.size = static_cast<int>(known);
    contexts_.assign(static_cast<size_t>(tree.size()), {});
    for (int i = 0; i < tree.size(); ++i) {
      const TokenNode& n = tree.node(i);
      contexts_[static_cast<size_t>(i)] =
          (n.parent == kRoot ? root : contexts_[static_cast<size_t>(n.parent)]).then(n.token);
    }
    const std::span<const int> path = outcome.path();
    for (int i = 0; i < tree.size(); ++i) {
      if (std::find(path.begin(), path.end(), i) == path.end()) learn(outcome, i, contexts_[static_cast<size_t>(i)]);
    }
    learn(outcome, kRoot, root);
    for (const int i : path) learn(outcome, i, contexts_[static_cast<size_t>(i)]);
  }

 private:
  struct Guess {
    float reach, probability;
    int parent;
    TokenId token;
    uint16_t evidence;
    uint32_t ordinal;
    bool operator<(const Guess& other) const {  // of a max-heap
      return reach != other.reach ? reach < other.reach : ordinal > other.ordinal;
    }
  };

  void learn(const DraftOutcome& outcome, int node, const Context& context) {
    const TargetRow row = outcome.row(node);
    top_tokens(row.logits, row.mask, matrix_->k, &top_);
    matrix_->learn(context, top_);
  }

  // The likeliest node anywhere comes next, as far as acceptance is known.
  void grow(const Context& root, const DraftControl* control, TokenTree* tree) {
    heap_.clear();
    contexts_.assign(static_cast<size_t>(tree->size()), {});
    ordinal_ = 0;
    expand(kRoot, root, control, *tree);
    for (int i = 0; i < tree->size(); ++i) {  // of another drafter
      const TokenNode& n = tree->node(i);
      contexts_[static_cast<size_t>(i)] =
          (n.parent == kRoot ? root : contexts_[static_cast<size_t>(n.parent)]).then(n.token);
      expand(i, contexts_[static_cast<size_t>(i)], control, *tree);
    }
    while (!heap_.empty() && !tree->full()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Guess guess = heap_.back();
      heap_.pop_back();
      const int before = tree->size();
      const int node = tree->add(guess.parent, guess.token, guess.probability, guess.evidence);
      if (node < before) continue;  // refused, or there already and expanded
      contexts_.push_back(
          (guess.parent == kRoot ? root : contexts_[static_cast<size_t>(guess.parent)]).then(guess.token));
      expand(node, contexts_.back(), control, *tree);
    }
  }

  // Puts the successors of a node on the heap: those of its longest known context, then what shorter ones add.
  void expand(int node, const Context& context, const DraftControl* control, const TokenTree& tree) {
    constexpr float kLeastReach = 0.004f;
    const float reach = node == kRoot ? 1 : tree.reach(node);
    if (tree.depth(node) >= tree.max_depth() || reach < kLeastReach) return;
    int found = 0;
    std::array<TokenId, static_cast<size_t>(kMaxOrder) * kMaxK> seen;
    size_t n_seen = 0;
    for (int order = std::min(context.size, static_cast<int>(matrix_->tables.size())); order >= 1; --order) {
      const Row* row = matrix_->tables[static_cast<size_t>(order) - 1].find(context.key(order));
      if (row == nullptr) continue;
      for (int rank = 0; rank < row->size; ++rank) {
        const TokenId token = row->token[static_cast<size_t>(rank)];
        if (std::find(seen.begin(), seen.begin() + static_cast<ptrdiff_t>(n_seen), token) !=
            seen.begin() + static_cast<ptrdiff_t>(n_seen)) {
          continue;
        }
        seen[n_seen++] = token;
        const int gap = gap_class(*row, rank);
        // 3 orders (the last for 3 and more) x 4 ranks x 4 distances x whether a longer context was known: below 96.
        const int kind = ((std::min(order, 3) - 1) * 4 + std::min(rank, 3)) * 4 + gap;
        const auto evidence = static_cast<uint16_t>(kind * 2 + (found > 0 ? 1 : 0));
        float probability = prior(order, rank, gap) * (found > 0 ? 0.3f : 1.0f);
        if (control != nullptr) {
          probability =
              control->acceptance.estimate(static_cast<uint16_t>(tree.evidence_base() + evidence), probability);
        }
        heap_.push_back({reach * probability, probability, node, token, evidence, ordinal_++});
        std::push_heap(heap_.begin(), heap_.end());
      }
      ++found;
    }
  }

  // The paper's static tree, of first-order rows; nodes of rows not yet written are left out with all below them.
  void fill(const Context& root, TokenTree* tree) {
    const std::vector<PaperNode>& shape = paper_tree();
    nodes_.assign(shape.size(), kRefused);
    for (size_t i = 0; i < shape.size() && !tree->full(); ++i) {
      const int parent = shape[i].parent == -1 ? kRoot : nodes_[static_cast<size_t>(shape[i].parent)];
      if (parent == kRefused) continue;
      const TokenId last = parent == kRoot ? root.last[0] : tree->node(parent).token;
      const Row* row = matrix_->tables[0].find(Context{}.then(last).key(1));
      if (row == nullptr || shape[i].rank >= row->size) continue;
      const int gap = gap_class(*row, shape[i].rank);
      nodes_[i] = tree->add(parent, row->token[static_cast<size_t>(shape[i].rank)], prior(1, shape[i].rank, gap),
                            static_cast<uint16_t>((std::min(shape[i].rank, 3) * 4 + gap) * 2));
    }
  }

  std::shared_ptr<Matrix> matrix_;
  bool grows_;
  std::vector<TokenLogprob> top_;
  std::vector<Context> contexts_;  // of the tree's nodes
  std::vector<Guess> heap_;
  std::vector<int> nodes_;
  uint32_t ordinal_ = 0;
};

class RecyclingMethod final : public DraftMethod {
 public:
  static Result<std::shared_ptr<DraftMethod>> make(const Settings& s, const DraftEnvironment& environment) {
    auto method = std::make_shared<RecyclingMethod>();
    method->matrix_ = std::make_shared<Matrix>();
    method->matrix_->k = s.integer("k");
    method->grows_ = s.text("tree") == "grow";
    const int order = method->grows_ ? s.integer("order") : 1;
    for (int i = 0; i < order; ++i) {
      method->matrix_->tables.emplace_back(static_cast<size_t>(s.integer("rows")));
    }
    method->nodes_ = s.given("nodes") || method->grows_ ? s.integer("nodes") : static_cast<int>(paper_tree().size());
    method->vocabulary_ = environment.vocabulary_hash;
    method->vocab_size_ = environment.vocab_size;
    if (!s.text("state").empty()) {
      Status status = method->load(s.text("state"));
      if (!status.ok()) return status;
    }
    return std::shared_ptr<DraftMethod>(std::move(method));
  }

  Result<std::unique_ptr<Drafter>> start(std::span<const TokenId>) override {
    return std::unique_ptr<Drafter>(new Recycling(matrix_, grows_));
  }
  int max_nodes() const override { return nodes_; }
  int max_depth() const override { return grows_ ? 16 : 6; }
  size_t bytes() const override {
    size_t bytes = 0;
    for (const RowTable& t : matrix_->tables) bytes += t.bytes();
    return bytes;
  }

  // Orders and k (u32 each), then for each table the number of rows (u64) and of each its key (u64), size (u32), and
  // token (i32) and distance (u32) of each successor; oldest first.
  Status save(const std::string& path) const override {
    std::string data;
    append_value(&data, static_cast<uint32_t>(matrix_->tables.size()));
    append_value(&data, static_cast<uint32_t>(matrix_->k));
    for (const RowTable& table : matrix_->tables) {
      std::vector<const Row*> rows;
      for (const Row& row : table.rows()) {
        if (row.key != 0) rows.push_back(&row);
      }
      std::sort(rows.begin(), rows.end(), [](const Row* a, const Row* b) { return a->stamp < b->stamp; });
      append_value(&data, static_cast<uint64_t>(rows.size()));
      for (const Row* row : rows) {
        append_value(&data, row->key);
        append_value(&data, static_cast<uint32_t>(row->size));
        for (size_t i = 0; i < row->size; ++i) {
          append_value(&data, row->token[i]);
          append_value(&data, static_cast<uint32_t>(row->gap[i]));
        }
      }
    }
    return write_state(path, "recycling", vocabulary_, data);
  }

 private:
  Status load(const std::string& path) {
    DECANT_TRY(const std::string data, read_state(path, "recycling", vocabulary_));
    std::string_view rest = data;
    bool whole = true;
    const auto get = [&]<typename T>(T* value) {
      if (rest.size() < sizeof(T)) {
        whole = false;
        *value = 0;
        return;
      }
      std::memcpy(value, rest.data(), sizeof(T));
      rest.remove_prefix(sizeof(T));
    };
    uint32_t orders = 0, k = 0;
    get(&orders);
    get(&k);
    // What this method keeps less of is left out; what the file has less of stays empty.
    for (uint32_t o = 0; o < orders && whole; ++o) {
      uint64_t n = 0;
      get(&n);
      for (uint64_t r = 0; r < n && whole; ++r) {
        Row row;
        uint32_t size = 0;
        get(&row.key);
        get(&size);
        if (size > kMaxK || row.key == 0) return Status::corrupt("{}: row {} is not one; delete the file", path, r);
        for (size_t i = 0; i < size; ++i) {
          uint32_t gap = 0;
          get(&row.token[i]);
          get(&gap);
          row.gap[i] = static_cast<uint8_t>(std::min(gap, 255u));
          if (row.token[i] < 0 || row.token[i] >= vocab_size_) {
            return Status::corrupt("{}: token {} is not in the vocabulary of {}; delete the file", path, row.token[i],
                                   vocab_size_);
          }
        }
        if (!whole || o >= matrix_->tables.size()) continue;
        row.size = static_cast<uint8_t>(std::min<uint32_t>(size, static_cast<uint32_t>(matrix_->k)));
        Row* place = matrix_->tables[o].put(row.key);
        row.stamp = place->stamp;
        *place = row;
      }
    }
    if (!whole || !rest.empty()) return Status::corrupt("{}: ends within a row, or behind the last; delete it", path);
    return {};
  }

  std::shared_ptr<Matrix> matrix_;
  bool grows_ = true;
  int nodes_ = 16, vocab_size_ = 0;
  uint64_t vocabulary_ = 0;
};

}  // namespace

DrafterInfo recycling_drafter() {
  using Kind = SettingInfo::Kind;
  return {.name = "recycling",
          .summary = "Token Recycling: successors that the model named before, as a tree",
          .paper = "Luo et al. 2024, Turning trash into treasure: accelerating inference of LLMs with token recycling",
          .needs = {},
          .settings = {{"k", Kind::kInteger, "8", 1, kMaxK, "", "successors kept of a context"},
                       {"tree", Kind::kWord, "grow", 0, 0, "grow|paper",
                        "grow: where guesses are likeliest; paper: the published tree of 80 nodes"},
                       {"order", Kind::kInteger, "3", 1, kMaxOrder, "", "tokens of the longest context (paper: 1)"},
                       {"rows", Kind::kInteger, "16384", 4, 1 << 24, "", "contexts kept of each length"},
                       {"nodes", Kind::kInteger, "16", 1, 256, "", "nodes of a tree (paper: all 80)"},
                       {"state", Kind::kPath, "", 0, 0, "", "file with what was learned before"}},
          .make = RecyclingMethod::make};
}

}  // namespace decant
