// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Scheduler: what runs now? Requests come and go at any time; every step takes rows of all that run: tokens and draft
// trees of those that decode, and as many prompt tokens of the others as a budget leaves (continuous batching with
// chunked prefill: SARATHI, arXiv:2308.16369). Prompts are laid side by side without padding, several of them in one
// step where they are short (Prepacking, arXiv:2404.09529: rows of different sequences with positions and masks of
// their own). What was processed before is found in a prefix cache.
//
// Guarantee: exact. A request's tokens depend on itself alone: not on its neighbours, the chunks, what was found in the
// cache or how often it had to step back and begin anew. (Unless its verifier is not `coupled`: then on how many rows
// there were for guesses.)
//
// Order: larger priority first; clients take turns by the tokens that they have had (a virtual counter for each, as in
// arXiv:2401.00588); of one client's requests those with little left first, but waiting counts, so that none starves.
//
// Not thread-safe: one thread owns a scheduler and its engine (serve/engine_thread.h for more).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "cache/prefix_cache.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "engine/step_time.h"

namespace decant {

class Running;
using RequestId = uint64_t;

struct ScheduledRequest {
  GenerateRequest generate;
  int priority = 0;    // larger runs first
  std::string client;  // whose it is: clients take turns
  // What texts may share rows with it, besides the model and its overlays: another salt, nothing is shared.
  uint64_t cache_salt = 0;
  // Then it ends with kDeadline and the tokens drawn so far.
  std::optional<std::chrono::steady_clock::time_point> deadline;
  // Called once, from add(), cancel() or step(), however the request ends. May be empty. May call add() and cancel().
  std::function<void(GenerateResult result)> on_done;
};

struct SchedulerOptions {
  int max_running = 64;   // requests that hold rows in the cache, >= 1
  int prefill_chunk = 0;  // prompt tokens of one request in one step; 0: as many as the budget leaves
  // How much longer than without prompts a step may take while others decode; 0: prompts take all rows of a step.
  double stretch = 2.2;
  bool prefix_cache = true;
  // Requests step back for others when the cache is full, and begin anew later; otherwise the newest fails.
  bool preempt = true;
};

struct SchedulerStats {
  int running = 0, waiting = 0;
  int pages_total = 0, pages_free = 0;
  int pages_used = 0;    // that running requests' rows lie in
  int pages_cached = 0;  // that only the prefix cache holds
  int64_t cached_prefix_tokens = 0;
  // Since the start.
  int64_t steps = 0;
  int64_t prompt_tokens = 0;         // of requests that began
  int64_t prompt_tokens_cached = 0;  // of them, found in the cache
  int64_t tokens = 0;                // drawn or forced, of requests that ended
  int64_t finished = 0, failed = 0, cancelled = 0, expired = 0;
  int64_t preemptions = 0, evictions = 0;
  int64_t drafted = 0, verified = 0, accepted = 0;  // guesses, of requests that ended
  int last_rows = 0, last_prompt_rows = 0;          // of the last step
  double step_seconds = 0;                          // all steps together
};

class Scheduler {
 public:
  // `engine` must outlive it, and nobody else may use sequences that it does not know.
  Scheduler(Engine& engine, const SchedulerOptions& options);
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;
  ~Scheduler();  // requests that are left end with kCancelled

  // What is wrong with a request ends it at once, with kError. Requests that name a sequence run as long as nobody else
  // continues the same one.
  RequestId add(ScheduledRequest request);
  // Ends it with kCancelled and the tokens drawn so far. Nothing happens if it has ended already.
  void cancel(RequestId id);
  void cancel_all();

  // Runs one step of the engine; false if there was nothing to run.
  bool step();
  bool idle() const { return waiting_.empty() && running_.empty(); }
  // Prompt tokens that are still to be processed, of all requests.
  int64_t prompt_left() const;
  SchedulerStats stats() const;
  // Forgets what the prefix cache holds.
  void clear_prefix_cache();

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry;
  struct Candidate {
    float reach;
    Entry* entry;
    int node;
  };
  using Entries = std::list<std::unique_ptr<Entry>>;

  void enlist(const std::string& client);
  uint64_t space_of(const ScheduledRequest& request);
  double& served(const std::string& client);
  double urgency(const Entry& entry, Clock::time_point now) const;
  std::vector<Entry*> in_order(std::vector<Entry*> entries);
  void expire();
  bool shares_unfinished_prompt(const Entry& entry, int known) const;
  bool has_room(const Entry& entry) const;
  void admit();
  void draft();
  int prompt_rows(int rows, double pairs, int prompt_length) const;
  bool plan();
  bool run();
  void observe(size_t slice, size_t in_output, double seconds);
  bool step_back();
  void publish(Entry& entry);
  void collect();
  void end(std::unique_ptr<Entry> entry);
  int pages_of_running() const;

  Engine& engine_;
  SchedulerOptions options_;
  std::unique_ptr<PrefixCache> prefixes_;
  Entries waiting_, running_;
  RequestId next_id_ = 1;
  std::map<std::string, double> served_;                                                  // tokens, by client
  std::vector<std::pair<uint64_t, std::vector<std::shared_ptr<const Overlay>>>> spaces_;  // of the prefix cache
  StepTime step_time_;
  SchedulerStats stats_;

  // Of the step in flight.
  bool in_step_ = false;
  std::vector<Candidate> candidates_;
  std::vector<float> reach_;
  std::vector<int> nodes_;
  std::vector<Entry*> chosen_;
  std::vector<Slice> slices_;
  double pairs_ = 0;  // of a row and a key that it sees
  bool is_decode_step_ = false;
  StepOutput output_;
  Status exhausted_;
};

}  // namespace decant
