// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <tuple>
#include <utility>

#include "engine/running.h"

namespace decant {
namespace {

constexpr int kFirstChunk = 32;        // prompt tokens beside others' decoding until times are known
constexpr int kLeastChunk = 4;         // however long that takes: a prompt must get on
constexpr int kWorthWaiting = 64;      // tokens of a beginning that another request is computing
constexpr double kAgeing = 500;        // tokens that a prompt may be longer for each second that it waits longer
constexpr double kTurn = 512;          // tokens that a client may be ahead before another one's turn comes
constexpr size_t kMostClients = 4096;  // whose counters are kept though they have no request
constexpr int kMostLookedAt = 64;      // waiting requests that one step looks at

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

size_t common_length(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  static_cast<void>(y);
  return static_cast<size_t>(x - a.begin());
}

int pages_for(size_t tokens) { return static_cast<int>((tokens + kPageKeys - 1) / kPageKeys); }

}  // namespace

struct Scheduler::Entry {
  RequestId id = 0;
  ScheduledRequest meta;  // less its `generate`, which `run` has
  std::unique_ptr<Running> run;
  Clock::time_point arrival;
  uint64_t space = 0;
  bool started = false;
  bool published = false;  // its prompt's rows are in the prefix cache
};

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options) : engine_(engine), options_(options) {
  options_.max_running = std::clamp(options_.max_running, 1, engine.options().max_rows);
  if (options_.prefix_cache) prefixes_ = std::make_unique<PrefixCache>(engine.cache());
}

Scheduler::~Scheduler() { cancel_all(); }

double& Scheduler::served(const std::string& client) { return served_[client]; }

// A client that comes anew starts where the least served of the others is: absence earns nothing.
void Scheduler::enlist(const std::string& client) {
  const auto is_active = [&](const std::string& name) {
    const auto same = [&](const std::unique_ptr<Entry>& e) { return e->meta.client == name; };
    return std::any_of(waiting_.begin(), waiting_.end(), same) || std::any_of(running_.begin(), running_.end(), same);
  };
  if (is_active(client)) return;
  if (served_.size() > kMostClients) std::erase_if(served_, [&](const auto& c) { return !is_active(c.first); });
  double least = -1;
  for (const Entries* entries : {&waiting_, &running_}) {
    for (const std::unique_ptr<Entry>& e : *entries) {
      const double tokens = served_[e->meta.client];
      if (least < 0 || tokens < least) least = tokens;
    }
  }
  double& own = served_[client];
  own = std::max(own, least);
}

// Texts of the same overlays and salt may share rows. The overlays are kept, so that their addresses stay theirs.
uint64_t Scheduler::space_of(const ScheduledRequest& request) {
  for (size_t i = 0; i < spaces_.size(); ++i) {
    if (spaces_[i].first == request.cache_salt && spaces_[i].second == request.generate.overlays) return i;
  }
  spaces_.emplace_back(request.cache_salt, request.generate.overlays);
  return spaces_.size() - 1;
}

RequestId Scheduler::add(ScheduledRequest request) {
  auto entry = std::make_unique<Entry>();
  entry->id = next_id_++;
  entry->arrival = Clock::now();
  const RequestId id = entry->id;
  const SequenceId named = request.generate.sequence;
  Status status = check_prompt(request.generate.prompt.size(), engine_.options().context);
  for (const Entries* entries : {&waiting_, &running_}) {
    for (const std::unique_ptr<Entry>& e : *entries) {
      if (named != -1 && e->run->request().sequence == named) {
        status = Status::invalid_argument("two requests of one call name sequence {}", named);
      }
    }
  }
  if (status.ok()) {
    enlist(request.client);
    entry->space = space_of(request);
  }
  entry->run = std::make_unique<Running>(engine_, std::move(request.generate));
  entry->meta = std::move(request);
  if (status.ok() && named != -1) {
    status = entry->run->start();
    entry->started = true;
  }
  if (!status.ok()) {
    entry->run->fail(std::move(status));
    end(std::move(entry));
    return id;
  }
  waiting_.push_back(std::move(entry));
  return id;
}

void Scheduler::cancel(RequestId id) {
  for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
    if ((*it)->id != id) continue;
    (*it)->run->finish(FinishReason::kCancelled);
    std::unique_ptr<Entry> entry = std::move(*it);
    waiting_.erase(it);
    return end(std::move(entry));
  }
  for (const std::unique_ptr<Entry>& entry : running_) {
    if (entry->id == id && !entry->run->done()) entry->run->finish(FinishReason::kCancelled);
  }
  if (!in_step_) collect();
}

void Scheduler::cancel_all() {
  for (Entries* entries : {&waiting_, &running_}) {
    for (const std::unique_ptr<Entry>& entry : *entries) {
      if (!entry->run->done()) entry->run->finish(FinishReason::kCancelled);
    }
  }
  if (!in_step_) collect();
}

void Scheduler::expire() {
  const Clock::time_point now = Clock::now();
  for (Entries* entries : {&waiting_, &running_}) {
    for (const std::unique_ptr<Entry>& entry : *entries) {
      if (entry->meta.deadline && *entry->meta.deadline <= now && !entry->run->done()) {
        entry->run->finish(FinishReason::kDeadline);
      }
    }
  }
  collect();
}

// What comes first among prompts of one priority and one client's turn: the shorter one, less what it has waited.
double Scheduler::urgency(const Entry& entry, Clock::time_point now) const {
  const double left = entry.started ? static_cast<double>(entry.run->prompt_left())
                                    : static_cast<double>(entry.run->request().prompt.size());
  return left - kAgeing * seconds_between(entry.arrival, now);
}

std::vector<Scheduler::Entry*> Scheduler::in_order(std::vector<Entry*> entries) {
  const Clock::time_point now = Clock::now();
  std::vector<std::tuple<int, double, double, RequestId, Entry*>> keys;
  keys.reserve(entries.size());
  for (Entry* e : entries) {
    keys.emplace_back(-e->meta.priority, std::floor(served(e->meta.client) / kTurn), urgency(*e, now), e->id, e);
  }
  std::sort(keys.begin(), keys.end());
  for (size_t i = 0; i < keys.size(); ++i) entries[i] = std::get<4>(keys[i]);
  return entries;
}

// Whether a running request is computing more of the beginning than is known: its rows are worth waiting for.
bool Scheduler::shares_unfinished_prompt(const Entry& entry, int known) const {
  return std::any_of(running_.begin(), running_.end(), [&](const std::unique_ptr<Entry>& other) {
    if (other->run->done() || other->published || other->space != entry.space || !other->run->in_prefill())
      return false;
    const size_t common = common_length(entry.run->feed(), other->run->feed());
    return common >= static_cast<size_t>(known) + kWorthWaiting ||
           (common + 1 >= entry.run->feed().size() && common > static_cast<size_t>(known) + 1);
  });
}

bool Scheduler::has_room(const Entry& entry) const {
  if (running_.empty()) return true;
  // What the prefix cache holds alone can be had. Each of the others may need a page soon.
  const int available = engine_.cache().pages() - pages_of_running();
  return pages_for(entry.run->feed().size()) + 1 + static_cast<int>(running_.size()) <= available;
}

void Scheduler::admit() {
  if (waiting_.empty() || running_.size() >= static_cast<size_t>(options_.max_running)) return;
  std::vector<Entry*> order;
  for (const std::unique_ptr<Entry>& e : waiting_) order.push_back(e.get());
  order = in_order(std::move(order));
  int looked_at = 0;
  for (Entry* entry : order) {
    if (running_.size() >= static_cast<size_t>(options_.max_running) || ++looked_at > kMostLookedAt) break;
    Running& run = *entry->run;
    if (run.done()) continue;
    Status status;
    if (!entry->started) {
      entry->started = true;
      status = run.start();
    }
    if (status.ok() && !run.entered()) {
      const bool searches = prefixes_ != nullptr && !run.reads_prompt();
      const std::span<const TokenId> text = run.feed().first(run.feed().size() - (run.first_pass() ? 1 : 0));
      const int known = searches ? prefixes_->known(text, entry->space) : 0;
      if (searches && shares_unfinished_prompt(*entry, known)) continue;
      if (!has_room(*entry)) break;
      PrefixCache::Match match;
      if (searches) match = prefixes_->take(text, entry->space);
      status = run.enter(match.sequence, match.length);
      if (status.ok()) {
        stats_.prompt_tokens += static_cast<int64_t>(run.feed().size());
        stats_.prompt_tokens_cached += match.length;
      }
    }
    if (!status.ok()) run.fail(std::move(status));
    const auto at = std::find_if(waiting_.begin(), waiting_.end(), [&](const auto& e) { return e.get() == entry; });
    running_.splice(running_.end(), waiting_, at);
  }
}

// Lets the drafters of all decoding requests propose, then keeps the guesses that are worth their time together.
void Scheduler::draft() {
  int rows = 0, decoding = 0;
  bool any = false;
  for (const std::unique_ptr<Entry>& e : running_) {
    if (e->run->done() || e->run->in_prefill()) continue;
    rows += e->run->plain_rows();
    ++decoding;
    any |= e->run->drafts();
  }
  if (!any) return;
  int room = engine_.options().max_rows - rows;
  candidates_.clear();
  DraftControl* control = nullptr;
  for (const std::unique_ptr<Entry>& e : running_) {
    Running& r = *e->run;
    if (r.done() || r.in_prefill() || !r.drafts()) continue;
    r.propose(std::max(room, 0));
    if (r.done()) continue;
    if (!r.may_be_cut()) {
      room -= r.proposed().size();
      rows += r.proposed().size();
      continue;
    }
    control = &r.control();
    const float share = control->promises.kept_share();
    for (int n = 0; n < r.proposed().size(); ++n) candidates_.push_back({share * r.proposed().reach(n), e.get(), n});
  }
  if (control == nullptr) return;
  // A child's reach is at most its parent's, so any leading part is closed under parents.
  std::stable_sort(candidates_.begin(), candidates_.end(),
                   [](const Candidate& a, const Candidate& b) { return a.reach > b.reach; });
  if (candidates_.size() > static_cast<size_t>(std::max(room, 0))) {
    candidates_.resize(static_cast<size_t>(std::max(room, 0)));
  }
  reach_.clear();
  for (const Candidate& c : candidates_) reach_.push_back(c.reach);
  candidates_.resize(static_cast<size_t>(worthwhile(reach_, rows, decoding, control->cost)));
  std::sort(candidates_.begin(), candidates_.end(), [](const Candidate& a, const Candidate& b) {
    return a.entry->id != b.entry->id ? a.entry->id < b.entry->id : a.node < b.node;
  });
  for (size_t begin = 0; begin < candidates_.size();) {
    nodes_.clear();
    Entry* entry = candidates_[begin].entry;
    for (; begin < candidates_.size() && candidates_[begin].entry == entry; ++begin) {
      nodes_.push_back(candidates_[begin].node);
    }
    entry->run->select(nodes_);
  }
}

// Prompt tokens that fit beside the decoding rows of a step.
int Scheduler::prompt_rows(int rows, double pairs, int prompt_length) const {
  const int room = engine_.options().max_rows - rows;
  if (rows == 0 || options_.stretch <= 0) return room;
  if (!step_time_.known()) return std::min(room, kFirstChunk);
  const double target = options_.stretch * step_time_.seconds(rows, pairs);
  int fits = std::min(room, kLeastChunk), too_many = room + 1;
  while (fits + 1 < too_many) {
    const int n = fits + (too_many - fits) / 2;
    const double keys = prompt_length + n / 2.0;
    (step_time_.seconds(rows + n, pairs + n * keys) <= target ? fits : too_many) = n;
  }
  return fits;
}

// Chooses the rows of the next step: decoding requests first, then prompts, while rows are left.
bool Scheduler::plan() {
  slices_.clear();
  chosen_.clear();
  draft();
  int left = engine_.options().max_rows;
  pairs_ = 0;
  const auto choose = [&](Entry* e, int limit) {
    slices_.push_back(e->run->slice(limit));
    chosen_.push_back(e);
    const auto rows = static_cast<int>(slices_.back().tokens.size());
    left -= rows;
    pairs_ += rows * (e->run->length() + rows / 2.0);
    served(e->meta.client) += rows;
    return rows;
  };
  std::vector<Entry*> prompts;
  for (const std::unique_ptr<Entry>& e : running_) {
    if (e->run->done()) continue;
    if (e->run->in_prefill()) {
      prompts.push_back(e.get());
    } else if (left > 0) {
      choose(e.get(), left);
    }
  }
  const int decode_rows = engine_.options().max_rows - left;
  stats_.last_prompt_rows = 0;
  is_decode_step_ = prompts.empty();
  if (!prompts.empty() && left > 0) {
    prompts = in_order(std::move(prompts));
    int budget = prompt_rows(decode_rows, pairs_, prompts.front()->run->length());
    for (Entry* e : prompts) {
      if (budget <= 0) break;
      const int rows = choose(e, options_.prefill_chunk > 0 ? std::min(options_.prefill_chunk, budget) : budget);
      budget -= rows;
      stats_.last_prompt_rows += rows;
    }
  }
  stats_.last_rows = engine_.options().max_rows - left;
  return !slices_.empty();
}

bool Scheduler::step() {
  expire();
  admit();
  in_step_ = true;
  while (plan()) {
    if (run() || !step_back()) break;
  }
  in_step_ = false;
  const bool ran = !slices_.empty();
  slices_.clear();
  for (const std::unique_ptr<Entry>& e : running_) {
    if (!e->published && !e->run->done() && !e->run->in_prefill()) publish(*e);
  }
  collect();
  return ran;
}

// Runs the planned slices; false if none could run for want of cache pages.
bool Scheduler::run() {
  const Clock::time_point begin = Clock::now();
  Status status = engine_.step(slices_, &output_);
  while (status.code() == Code::kExhausted && prefixes_ != nullptr && prefixes_->evict()) {
    ++stats_.evictions;
    status = engine_.step(slices_, &output_);
  }
  if (status.ok()) {
    const double seconds = seconds_between(begin, Clock::now());
    int rows = 0;
    for (const Slice& s : slices_) rows += static_cast<int>(s.tokens.size());
    step_time_.learn(rows, pairs_, seconds);
    ++stats_.steps;
    stats_.step_seconds += seconds;
    for (size_t s = 0; s < slices_.size(); ++s) {
      Running& r = *chosen_[s]->run;
      if (is_decode_step_ && r.drafts()) r.control().cost.learn(rows, seconds);
      observe(s, s, seconds * static_cast<double>(slices_[s].tokens.size()) / rows);
    }
    return true;
  }
  // Rows are independent of their neighbours, so each slice may as well run alone: those that fit go on, the others
  // wait for pages, and what is wrong with one request ends that one. Guesses are the first that go.
  bool progress = false;
  for (size_t s = 0; s < slices_.size(); ++s) {
    Running& r = *chosen_[s]->run;
    if (r.done()) continue;
    const Clock::time_point alone = Clock::now();
    status = engine_.step(std::span<const Slice>(slices_).subspan(s, 1), &output_);
    if (status.code() == Code::kExhausted && r.has_tree_rows()) {
      r.drop_tree();
      slices_[s] = r.slice(engine_.options().max_rows);
      status = engine_.step(std::span<const Slice>(slices_).subspan(s, 1), &output_);
    }
    if (status.ok()) {
      ++stats_.steps;
      const double seconds = seconds_between(alone, Clock::now());
      stats_.step_seconds += seconds;
      observe(s, 0, seconds);
      progress = true;
    } else if (status.code() != Code::kExhausted) {
      r.fail(std::move(status));
      progress = true;
    } else {
      exhausted_ = std::move(status);
    }
  }
  return progress;
}

void Scheduler::observe(size_t slice, size_t in_output, double seconds) {
  Running& r = *chosen_[slice]->run;
  if (!r.done()) r.observe(output_, in_output, !slices_[slice].logits.empty(), seconds);
}

// Nothing fits any more. Of the requests that may begin anew the newest of the lowest priority gives its pages back,
// unless no other is left to go on with them: then it fails, as it does where nobody may. False if there is nothing
// left to run.
bool Scheduler::step_back() {
  Entry* victim = nullptr;
  int others = 0;
  for (const std::unique_ptr<Entry>& e : running_) {
    if (e->run->done()) continue;
    ++others;
    if (!options_.preempt || !e->run->may_leave()) continue;
    if (victim == nullptr || e->meta.priority < victim->meta.priority ||
        (e->meta.priority == victim->meta.priority && e->id > victim->id)) {
      victim = e.get();
    }
  }
  if (victim == nullptr || others < 2) {
    const auto newest = [](const Entry* a, const Entry* b) { return a->id < b->id; };
    Running& failed = *(*std::max_element(chosen_.begin(), chosen_.end(), newest))->run;
    failed.fail(exhausted_);
    failed.leave();  // its pages are for the others, before this step plans again
    return others > 1;
  }
  victim->run->leave();
  victim->published = false;
  ++stats_.preemptions;
  const auto at = std::find_if(running_.begin(), running_.end(), [&](const auto& e) { return e.get() == victim; });
  waiting_.splice(waiting_.begin(), running_, at);
  return true;
}

void Scheduler::publish(Entry& entry) {
  entry.published = true;
  if (prefixes_ == nullptr || !entry.run->entered() || !entry.run->may_leave()) return;
  const std::vector<TokenId> text = entry.run->cached_text();
  // Without a page for the node's own end nothing is lost but the reuse.
  static_cast<void>(prefixes_->put(text, entry.run->sequence(), entry.space));
}

// Ends what is done.
void Scheduler::collect() {
  Entries done;
  for (Entries* entries : {&running_, &waiting_}) {
    for (auto it = entries->begin(); it != entries->end();) {
      const auto here = it++;
      if ((*here)->run->done()) done.splice(done.end(), *entries, here);
    }
  }
  for (std::unique_ptr<Entry>& entry : done) end(std::move(entry));
}

void Scheduler::end(std::unique_ptr<Entry> entry) {
  Running& run = *entry->run;
  if (run.result().status.ok() && run.entered()) publish(*entry);
  run.leave();
  GenerateResult result = run.take_result();
  ++stats_.finished;
  stats_.failed += result.finish == FinishReason::kError;
  stats_.cancelled += result.finish == FinishReason::kCancelled;
  stats_.expired += result.finish == FinishReason::kDeadline;
  stats_.tokens += static_cast<int64_t>(result.tokens.size());
  stats_.drafted += result.draft.proposed;
  stats_.verified += result.draft.verified;
  stats_.accepted += result.draft.accepted;
  if (entry->meta.on_done) entry->meta.on_done(std::move(result));
}

int64_t Scheduler::prompt_left() const {
  int64_t left = 0;
  for (const Entries* entries : {&waiting_, &running_}) {
    for (const std::unique_ptr<Entry>& e : *entries) {
      if (e->run->done()) continue;
      left += e->started ? e->run->prompt_left() : static_cast<int64_t>(e->run->request().prompt.size());
    }
  }
  return left;
}

int Scheduler::pages_of_running() const {
  const KvCache& cache = engine_.cache();
  std::vector<bool> used(static_cast<size_t>(cache.pages()));
  for (const std::unique_ptr<Entry>& e : running_) {
    if (!e->run->entered()) continue;
    for (const int32_t page : cache.page_table(e->run->sequence())) used[static_cast<size_t>(page)] = true;
  }
  return static_cast<int>(std::count(used.begin(), used.end(), true));
}

SchedulerStats Scheduler::stats() const {
  SchedulerStats s = stats_;
  s.running = static_cast<int>(running_.size());
  s.waiting = static_cast<int>(waiting_.size());
  s.pages_total = engine_.cache().pages();
  s.pages_free = engine_.cache().free_pages();
  s.pages_used = pages_of_running();
  s.pages_cached = s.pages_total - s.pages_free - s.pages_used;
  s.cached_prefix_tokens = prefixes_ != nullptr ? prefixes_->tokens() : 0;
  return s;
}

void Scheduler::clear_prefix_cache() {
  if (prefixes_ != nullptr) prefixes_->clear();
}

}  // namespace decant
