// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/predictor.h"

#include <algorithm>
#include <chrono>

#include "speculate/vocabulary_map.h"

namespace decant {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

Predictor::Predictor(std::shared_ptr<Engine> engine, std::shared_ptr<const VocabularyMap> map)
    : engine_(std::move(engine)), map_(std::move(map)), sequence_(engine_->cache().create_sequence()) {}

Predictor::~Predictor() {
  // Cannot fail: the sequence is ours.
  (void)engine_->cache().remove(sequence_);
}

Status Predictor::start(std::span<const TokenId> tokens) {
  const double begin = now();
  KvCache& cache = engine_->cache();
  cache.drop_pending(sequence_);
  runs_.clear();
  size_t common = 0;
  while (common < std::min(fed_.size(), tokens.size()) && fed_[common] == tokens[common]) ++common;
  // The last token is run even if it is there: its logits begin the tree.
  common = std::min(common, tokens.size() - 1);
  if (static_cast<int>(common) < cache.length(sequence_)) {
    DECANT_TRY_STATUS(cache.truncate(sequence_, static_cast<int>(common)));
  }
  fed_.resize(common);
  const auto most = static_cast<size_t>(engine_->options().max_rows);
  while (fed_.size() < tokens.size()) {
    const size_t rows = std::min(most, tokens.size() - fed_.size());
    const bool is_last = fed_.size() + rows == tokens.size();
    slice_.clear();
    for (size_t i = 0; i < rows; ++i) slice_.push_back(map_->to_draft(tokens[fed_.size() + i]));
    Slice s{.sequence = sequence_, .tokens = slice_};
    if (is_last) s.logits = {static_cast<int32_t>(rows) - 1};
    DECANT_TRY_STATUS(engine_->step({&s, 1}, &output_));
    fed_.insert(fed_.end(), tokens.begin() + static_cast<ptrdiff_t>(fed_.size()),
                tokens.begin() + static_cast<ptrdiff_t>(fed_.size() + rows));
  }
  logits_.resize(std::max<size_t>(logits_.size(), 1));
  map_->to_target(output_.logits(0, 0), &logits_[0]);
  seconds_ = now() - begin;
  return {};
}

Status Predictor::run(const TokenTree& tree, std::span<const int> nodes) {
  if (nodes.empty()) return {};
  const double begin = now();
  slice_.clear();
  parents_.clear();
  Slice s{.sequence = sequence_, .mask = Mask::kTree};
  for (const int node : nodes) {
    const TokenNode& n = tree.node(node);
    const int parent = n.parent == kRoot ? kRoot : index_of(n.parent);
    s.logits.push_back(static_cast<int32_t>(slice_.size()));
    slice_.push_back(map_->to_draft(n.token));
    parents_.push_back(parent);
    runs_.push_back({node, n.token, parent});
  }
  s.tokens = slice_;
  s.parents = parents_;
  if (Status status = engine_->step({&s, 1}, &output_); !status.ok()) {
    runs_.resize(runs_.size() - nodes.size());
    return status;
  }
  logits_.resize(std::max(logits_.size(), runs_.size() + 1));
  for (size_t i = 0; i < nodes.size(); ++i) {
    map_->to_target(output_.logits(0, i), &logits_[runs_.size() - nodes.size() + i + 1]);
  }
  seconds_ = now() - begin;
  return {};
}

int Predictor::index_of(int node) const {
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (runs_[i].node == node) return static_cast<int>(i);
  }
  return kRefused;
}

bool Predictor::has(int node) const { return node == kRoot || index_of(node) != kRefused; }

std::span<const float> Predictor::logits(int node) const {
  return logits_[node == kRoot ? 0 : static_cast<size_t>(index_of(node)) + 1];
}

Status Predictor::commit(std::span<const TokenId> fresh) {
  path_.clear();
  int at = kRoot;
  for (const TokenId token : fresh) {
    int next = kRefused;
    for (size_t i = 0; i < runs_.size(); ++i) {
      if (runs_[i].parent == at && runs_[i].token == token) next = static_cast<int>(i);
    }
    if (next == kRefused) break;
    path_.push_back(at = next);
    fed_.push_back(token);
  }
  runs_.clear();
  return engine_->cache().commit(sequence_, path_);
}

}  // namespace decant
