// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "speculate/transport.h"

#include <algorithm>
#include <cmath>

#include "speculate/kseq.h"
#include "speculate/methods.h"

namespace decant {
namespace {

// Dinic's algorithm. An augmentation empties an edge exactly, so that rounding cannot keep it from ending.
class MaxFlow {
 public:
  explicit MaxFlow(size_t nodes) : out_(nodes) {}
  size_t add(size_t from, size_t to, double capacity) {
    out_[from].push_back(edges_.size());
    edges_.push_back({to, capacity});
    out_[to].push_back(edges_.size());
    edges_.push_back({from, 0});
    return edges_.size() - 2;
  }
  double run(size_t source, size_t sink) {
    double flow = 0;
    while (find_levels(source, sink)) {
      next_.assign(out_.size(), 0);
      while (true) {
        const double more = push(source, sink, INFINITY);
        if (more <= 0) break;
        flow += more;
      }
    }
    return flow;
  }
  double flow(size_t edge) const { return edges_[edge ^ 1].left; }

 private:
  struct Edge {
    size_t to;
    double left;
  };
  bool find_levels(size_t source, size_t sink) {
    level_.assign(out_.size(), -1);
    level_[source] = 0;
    std::vector<size_t> queue = {source};
    for (size_t i = 0; i < queue.size(); ++i) {
      for (const size_t e : out_[queue[i]]) {
        if (edges_[e].left <= 0 || level_[edges_[e].to] >= 0) continue;
        level_[edges_[e].to] = level_[queue[i]] + 1;
        queue.push_back(edges_[e].to);
      }
    }
    return level_[sink] >= 0;
  }
  // As deep as there are tokens, twice.
  double push(size_t node, size_t sink, double most) {
    if (node == sink) return most;
    for (size_t& i = next_[node]; i < out_[node].size(); ++i) {
      const size_t e = out_[node][i];
      if (edges_[e].left <= 0 || level_[edges_[e].to] != level_[node] + 1) continue;
      const double pushed = push(edges_[e].to, sink, std::min(most, edges_[e].left));
      if (pushed <= 0) continue;
      edges_[e].left -= pushed;
      edges_[e ^ 1].left += pushed;
      return pushed;
    }
    return 0;
  }

  std::vector<Edge> edges_;
  std::vector<std::vector<size_t>> out_;
  std::vector<int> level_;
  std::vector<size_t> next_;
};

class Transport final : public NodeRule {
 public:
  explicit Transport(size_t max_sets) : max_sets_(max_sets) {}
  std::string_view name() const override { return "transport"; }
  bool takes(Proposal) const override { return true; }
  std::optional<TokenId> accept(const NodeProposals& proposals, const Weights& target, AcceptTest& test,
                                Weights* rest) const override {
    const size_t k = proposals.tokens.size();
    // Of a single proposal, and of points, rejection keeps as many as can be.
    if (proposals.kind != Proposal::kPoint && k > 1) {
      const std::optional<TransportPlan> plan =
          TransportPlan::solve(target, Weights::of(proposals.draft), static_cast<int>(k), proposals.kind, max_sets_);
      if (plan) return plan->accept(proposals.tokens, target, test, rest);
      if (proposals.kind == Proposal::kIid) return accept_kseq(proposals, target, test, rest);
    }
    return reject_in_turn(proposals, k, target, test, rest);
  }

 private:
  size_t max_sets_;
};

}  // namespace

double transport_optimum(const Weights& target, const Weights& draft, int k) {
  struct Pair {
    double p, q;
  };
  // Tokens that are not drafted have the greatest ratio of all and come into no least set.
  std::vector<Pair> pairs;
  for (size_t i = 0; i < draft.tokens.size(); ++i) pairs.push_back({target.at(draft.tokens[i]), draft.mass[i]});
  std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.p * b.q < b.p * a.q; });
  double p = 0, q = 0, least = 1;
  for (const Pair& pair : pairs) {
    p += pair.p;
    q += pair.q;
    least = std::min(least, p + 1 - std::pow(std::min(q, 1.0), k));
  }
  return std::clamp(least, 0.0, 1.0);
}

std::optional<TransportPlan> TransportPlan::solve(const Weights& target, const Weights& draft, int k, Proposal kind,
                                                  size_t max_sets) {
  const bool repeats = kind == Proposal::kIid;
  TransportPlan plan;
  std::vector<double> p, q;
  double dead = 0;  // of draws that can never be kept; independent ones need not be told apart
  for (size_t i = 0; i < draft.tokens.size(); ++i) {
    if (draft.mass[i] <= 0) continue;
    const double wanted = target.at(draft.tokens[i]);
    if (repeats && wanted <= 0) {
      dead += draft.mass[i];
      continue;
    }
    plan.tokens_.push_back(draft.tokens[i]);
    p.push_back(wanted);
    q.push_back(draft.mass[i]);
  }
  const size_t n = q.size();
  const size_t most = std::min(n, static_cast<size_t>(k));
  // The number of sets of at most `most` tokens; stops counting at the limit.
  double count = 1, of_size = 1;
  for (size_t j = 1; j <= most; ++j) {
    of_size *= static_cast<double>(n - j + 1) / static_cast<double>(j);
    count += of_size;
    if (count > static_cast<double>(max_sets)) return std::nullopt;
  }
  std::vector<const std::vector<int>*> list;
  const auto enter = [&](std::vector<int> set) {
    const auto [place, is_new] = plan.sets_.emplace(std::move(set), static_cast<int>(list.size()));
    if (is_new) list.push_back(&place->first);
  };
  enter({});
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i]->size() == most) break;
    for (int next = list[i]->empty() ? 0 : list[i]->back() + 1; next < static_cast<int>(n); ++next) {
      std::vector<int> set = *list[i];
      set.push_back(next);
      enter(std::move(set));
    }
  }

  // The law of the set: draw by draw, out of the sets that lack one of its tokens.
  std::vector<double> law(list.size(), 0);
  law[0] = 1;
  std::vector<double> inside(list.size(), 0), outside(list.size(), 0);  // q of each set and of the rest
  std::vector<std::vector<std::pair<int, int>>> from(list.size());
  for (size_t s = 0; s < list.size(); ++s) {
    for (size_t t = 0, i = 0; t < n; ++t) {
      // Not 1 - inside: what is left may be little.
      if (i < list[s]->size() && (*list[s])[i] == static_cast<int>(t)) {
        ++i;
      } else {
        outside[s] += q[t];
      }
    }
    for (const int token : *list[s]) {
      inside[s] += q[static_cast<size_t>(token)];
      std::vector<int> less;
      std::copy_if(list[s]->begin(), list[s]->end(), std::back_inserter(less), [&](int t) { return t != token; });
      from[s].emplace_back(plan.sets_.find(less)->second, token);
    }
  }
  for (int draw = 0; draw < (repeats ? k : static_cast<int>(most)); ++draw) {
    std::vector<double> next(list.size(), 0);
    for (size_t s = 0; s < list.size(); ++s) {
      if (repeats) next[s] = law[s] * (inside[s] + dead);
      for (const auto& [before, token] : from[s]) {
        const auto b = static_cast<size_t>(before);
        const double left = repeats ? 1 : outside[b];
        if (law[b] > 0 && left > 0) next[s] += law[b] * q[static_cast<size_t>(token)] / left;
      }
    }
    law = std::move(next);
  }

  const size_t sets = list.size(), sink = 1 + sets + n;
  MaxFlow network(sink + 1);
  std::vector<std::vector<size_t>> edges(sets);
  for (size_t s = 0; s < sets; ++s) {
    if (law[s] <= 0) continue;
    network.add(0, 1 + s, law[s]);
    for (const int token : *list[s]) {
      edges[s].push_back(network.add(1 + s, 1 + sets + static_cast<size_t>(token), INFINITY));
    }
  }
  for (size_t t = 0; t < n; ++t) network.add(1 + sets + t, sink, p[t]);
  plan.kept_ = network.run(0, sink);
  plan.weight_ = std::move(law);
  plan.flow_.resize(sets);
  for (size_t s = 0; s < sets; ++s) {
    for (size_t i = 0; i < edges[s].size(); ++i) {
      plan.flow_[s].push_back({(*list[s])[i], network.flow(edges[s][i])});
    }
  }
  return plan;
}

std::optional<TokenId> TransportPlan::accept(std::span<const TokenId> proposals, const Weights& target,
                                             AcceptTest& test, Weights* rest) const {
  std::vector<int> set;
  for (const TokenId token : proposals) {
    const auto found = std::lower_bound(tokens_.begin(), tokens_.end(), token);
    if (found != tokens_.end() && *found == token) set.push_back(static_cast<int>(found - tokens_.begin()));
  }
  std::sort(set.begin(), set.end());
  set.erase(std::unique(set.begin(), set.end()), set.end());
  if (const auto found = sets_.find(set); found != sets_.end()) {
    const auto s = static_cast<size_t>(found->second);
    double left = weight_[s];
    for (const Share& share : flow_[s]) {
      if (share.flow <= 0) continue;
      if (test.accept(share.flow, left)) return tokens_[static_cast<size_t>(share.token)];
      left -= share.flow;
    }
  }
  *rest = target;
  for (const auto& shares : flow_) {
    for (const Share& share : shares) {
      const TokenId token = tokens_[static_cast<size_t>(share.token)];
      const auto place = std::lower_bound(rest->tokens.begin(), rest->tokens.end(), token) - rest->tokens.begin();
      if (place == static_cast<ptrdiff_t>(rest->tokens.size()) || rest->tokens[static_cast<size_t>(place)] != token) {
        continue;  // a token that the target lacks: nothing flows there
      }
      double& mass = rest->mass[static_cast<size_t>(place)];
      mass = std::max(mass - share.flow, 0.0);
    }
  }
  rest->add_up();
  return std::nullopt;
}

VerifierInfo transport_verifier() {
  using Kind = SettingInfo::Kind;
  return {.name = "transport",
          .summary =
              "the optimal transport plan: keeps a draft as often as an exact rule can. A node whose proposals can be "
              "more different sets of tokens than `sets` is verified as by kseq (independent draws) or rsd",
          .paper = "Sun et al. 2023, SpecTr: Fast speculative decoding via optimal transport",
          .guarantee = "exact in distribution",
          .settings = {{"sets", Kind::kInteger, "1000", 0, 20000, "", "most sets for which the plan is worked out"}},
          .make = [](const Settings& s) -> Result<std::shared_ptr<const Verifier>> {
            return std::shared_ptr<const Verifier>(new Transport(static_cast<size_t>(s.integer("sets"))));
          }};
}

}  // namespace decant
