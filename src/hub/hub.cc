// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/hub.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <thread>

#include "base/mapped_file.h"
#include "base/size_text.h"
#include "hub/digest.h"
#include "hub/part_file.h"

namespace decant {
namespace {

constexpr size_t kMaxAnswer = 32 << 20;  // bytes of one answer of the API
constexpr int kMaxPages = 1000;
constexpr int kMaxRetryAfter = 120;  // seconds that a server may make us wait

const char* variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

std::string_view header(const HttpHeaders& headers, std::string_view name) {
  const auto it = headers.find(name);
  return it == headers.end() ? std::string_view() : std::string_view(it->second);
}

// A number of bytes in a header; -1 when there is none.
int64_t number(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0 ? value : -1;
}

bool may_be_transient(int status) { return status == 408 || status == 429 || (status >= 500 && status <= 504); }

bool may_be_transient(HttpFault fault) {
  return fault == HttpFault::kUnreachable || fault == HttpFault::kStalled || fault == HttpFault::kCut ||
         fault == HttpFault::kTls;
}

bool goes_on(const HubEvents& events) { return !events.go_on || events.go_on(); }

Status interrupted() { return Status::cancelled("interrupted"); }

// What is said of an answer other than 200 and 206. `where` names the repository or file.
Status refusal(const HubName& name, const std::string& where, const HttpAnswer& answer, const HubOptions& options) {
  const std::string_view code = header(answer.headers, "x-error-code");
  const std::string page = options.address + "/" + name.repository();
  switch (answer.status) {
    case 401:
      if (!options.token.empty()) {
        return Status::not_found(
            "{}: {} does not accept the token (401), or there is no such repository; check the name, "
            "and that HF_TOKEN may read it",
            where, answer.host);
      }
      return Status::not_found(
          "{}: {} shows it to nobody without a token (401): there is no such repository, or it is "
          "private or gated; check the name, or set HF_TOKEN",
          where, answer.host);
    case 403:
      return Status::not_found(
          "{}: {} refuses it (403): {}; accept the terms at {} if there are any, and set HF_TOKEN to "
          "a token that may read it",
          where, answer.host, code == "GatedRepo" ? "it is gated" : "it may be gated", page);
    case 404:
      if (code == "RevisionNotFound") {
        return Status::not_found("{}: there is no revision {}; see {}", where, name.revision_or_main(), page);
      }
      return Status::not_found("{}: {} has no such repository{} (404); check the name at {}", where, answer.host,
                               name.revision.empty() ? "" : " or revision", page);
    case 429:
      return Status::io("{}: {} says that there were too many requests (429); try again later, or set HF_TOKEN", where,
                        answer.host);
    default:
      return Status::io("{}: {} answers with the status {}; {}", where, answer.host, answer.status,
                        answer.status >= 500 ? "try again later" : "check the address in --hub or DECANT_HUB");
  }
}

Status failure(const std::string& where, const HttpOutcome& outcome, const HubOptions& options) {
  const std::string host = outcome.answer.host.empty() ? options.address : outcome.answer.host;
  switch (outcome.fault) {
    case HttpFault::kNoSuchHost:
    case HttpFault::kUnreachable:
      return Status::io("{}: {} cannot be reached ({}); check the network, and the address in --hub or DECANT_HUB",
                        where, host, outcome.reason);
    case HttpFault::kStalled:
      return Status::io("{}: nothing comes from {} ({}); try again later, or give --timeout more seconds", where, host,
                        outcome.reason);
    case HttpFault::kCut:
      return Status::io("{}: {} ended the connection early ({}); try again later", where, host, outcome.reason);
    case HttpFault::kUntrusted:
      return Status::io(
          "{}: the certificate of {} is not trusted ({}); if the hub is yours, set SSL_CERT_FILE to its "
          "certificate",
          where, host, outcome.reason);
    case HttpFault::kRedirects:
      return Status::io("{}: {} redirects more than {} times; check the address in --hub or DECANT_HUB", where, host,
                        kMaxRedirects);
    case HttpFault::kDowngrade:
      return Status::io(
          "{}: {} redirects to an address that is not HTTPS, which is refused ({}); check the address in "
          "--hub or DECANT_HUB",
          where, host, outcome.reason);
    default: return Status::io("{}: {}: {}", where, host, outcome.reason);
  }
}

// Waits between tries: half a second, doubling up to 8, unless the server says how long.
class Backoff {
 public:
  // False when interrupted.
  bool wait(int failures, int server_says_s, const std::string& why, const HubEvents& events) const {
    const auto own = std::chrono::milliseconds(500) * (1 << std::clamp(failures - 1, 0, 4));
    const auto time = std::max<std::chrono::milliseconds>(own, std::chrono::seconds(server_says_s));
    if (events.note) {
      events.note(fmt::format("{}; trying again in {:.1f} s", why, static_cast<double>(time.count()) / 1000));
    }
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      if (!goes_on(events)) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return true;
  }
};

// Seconds; dates count as none.
int retry_after(const HttpAnswer& answer) {
  const int64_t seconds = number(header(answer.headers, "retry-after"));
  return static_cast<int>(std::clamp<int64_t>(seconds, 0, 1 << 20));
}

std::string why_text(const HttpOutcome& outcome) {
  if (outcome.fault == HttpFault::kNone)
    return fmt::format("{} answers {}", outcome.answer.host, outcome.answer.status);
  return fmt::format("{}: {}", outcome.answer.host, outcome.reason);
}

}  // namespace

// One file on its way.
class HubFetch {
 public:
  HubFetch(Hub* hub, const HubName& name, const std::string& commit, const HubFile& file, const HubEvents& events,
           PartFile part)
      : hub_(hub),
        file_(file),
        name_(name),
        events_(events),
        part_(std::move(part)),
        where_(fmt::format("{}:{}", name.repository(), file.path)),
        identity_(fmt::format("{} {} {}{}", file.size, commit, file.sha256, file.git_blob)) {
    request_.url = fmt::format("{}/{}/resolve/{}/{}", hub->options_.address, name.repository(), commit,
                               escape_url(file.path, true));
    request_.token = hub->options_.token;
  }

  Status run() {
    DECANT_TRY_STATUS(part_.resume(identity_, file_.size));
    bool resumed = part_.size() > 0;
    while (true) {
      DECANT_TRY_STATUS(begin_digest());
      DECANT_TRY_STATUS(fetch_rest());
      const std::string sum = digest_ ? digest_->finish() : "";
      if (sum == expected()) return part_.commit();
      if (!resumed) {
        return Status::corrupt(
            "{}: wrong checksum: the hub lists {}, the file has {}; nothing was kept, try again later or "
            "tell the hub",
            where_, expected(), sum);
      }
      // The bytes of an earlier fetch may be to blame.
      resumed = false;
      note(where_ + ": wrong checksum; starting over");
      DECANT_TRY_STATUS(part_.restart());
    }
  }

 private:
  // Of the whole content, or "" when the hub gives none.
  std::string expected() const {
    if (!file_.sha256.empty()) return file_.sha256;
    return file_.git_blob.empty() ? linked_sum_ : file_.git_blob;
  }

  Status begin_digest() {
    digest_.reset();
    if (!file_.sha256.empty() || (file_.git_blob.empty() && linked_sum_.size() == 64)) digest_ = Digest::sha256();
    if (!file_.git_blob.empty()) digest_ = Digest::git_blob(file_.size);
    if (!digest_) return {};
    Status status = part_.hash(&*digest_, [&] { return goes_on(events_); });
    if (status.code() == Code::kCancelled) part_.keep();
    return status;
  }

  // Requests until all bytes are there.
  Status fetch_rest() {
    int64_t best = part_.size();
    for (int failures = 0; part_.size() < file_.size;) {
      show();
      request_.offset = part_.size();
      request_.if_range = part_.tag();
      body_begun_ = false;
      body_status_ = Status();
      const HttpOutcome outcome = hub_->http_.get(
          request_, {.body = [&](const HttpAnswer& answer, std::string_view bytes) { return take(answer, bytes); },
                     .tick =
                         [&] {
                           show();
                           return goes_on(events_);
                         }});
      if (!body_status_.ok()) return std::move(body_status_);
      if (!goes_on(events_)) return stopped();
      const int status = outcome.answer.status;
      if (part_.size() == file_.size) break;
      if (outcome.fault == HttpFault::kNone && (status == 200 || status == 206) && !body_begun_) {
        DECANT_TRY_STATUS(begin_body(outcome.answer));  // an empty body
      }
      if (outcome.fault == HttpFault::kNone && status == 416) {
        DECANT_TRY_STATUS(part_.restart());  // not the bytes that the server has
        DECANT_TRY_STATUS(begin_digest());
      } else if (outcome.fault == HttpFault::kNone && status != 200 && status != 206 && !may_be_transient(status)) {
        return status == 404 ? Status::corrupt("{}: {} lists the file but does not have it (404); try again later",
                                               where_, outcome.answer.host)
                             : refusal(name_, where_, outcome.answer, hub_->options_);
      } else if (outcome.fault != HttpFault::kNone && !may_be_transient(outcome.fault)) {
        return ended(failure(where_, outcome, hub_->options_), outcome.fault == HttpFault::kNoSuchHost);
      }
      failures = part_.size() > best ? 0 : failures + 1;
      best = std::max(best, part_.size());
      const int wait_s = retry_after(outcome.answer);
      if (failures > hub_->options_.retries || wait_s > kMaxRetryAfter) return give_up(outcome, wait_s);
      if (failures > 0 && !Backoff().wait(failures, wait_s, why_text(outcome), events_)) return stopped();
    }
    show();
    return {};
  }

  Status give_up(const HttpOutcome& outcome, int wait_s) {
    const int status = outcome.answer.status;
    if (outcome.fault == HttpFault::kNone && (status == 429 || status >= 500) && wait_s > kMaxRetryAfter) {
      return ended(Status::io("{}: {} answers {} and wants {} s to pass; try again then", where_, outcome.answer.host,
                              status, wait_s),
                   true);
    }
    if (outcome.fault == HttpFault::kNone && may_be_transient(status)) {
      return ended(refusal(name_, where_, outcome.answer, hub_->options_), true);
    }
    if (outcome.fault == HttpFault::kNone || (outcome.fault == HttpFault::kCut && (status == 200 || status == 206))) {
      // The same end again and again, so it is no accident.
      return Status::corrupt(
          "{}: {} always ends the file after {} of {} bytes; nothing was kept, try again later or tell "
          "the hub",
          where_, outcome.answer.host, part_.size(), file_.size);
    }
    return ended(failure(where_, outcome, hub_->options_), true);
  }

  // The status, having kept the bytes if they are of use.
  Status ended(Status status, bool keep) {
    if (!keep || part_.size() == 0) return status;
    part_.keep();
    return Status::make(status.code(), fmt::format("{}; {} of {} are kept, the same command goes on from there",
                                                   status.message(), size_text(part_.size()), size_text(file_.size)));
  }

  Status stopped() { return ended(interrupted(), true); }

  bool take(const HttpAnswer& answer, std::string_view bytes) {
    if (!body_begun_) body_status_ = begin_body(answer);
    if (body_status_.ok() && static_cast<int64_t>(bytes.size()) > file_.size - part_.size()) {
      body_status_ = lie(answer, fmt::format("more than {}", file_.size));
    }
    if (body_status_.ok()) body_status_ = part_.append(bytes);
    if (body_status_.ok() && digest_) digest_->update(bytes);
    return body_status_.ok();
  }

  // Checks what the answer says it is against what the listing says.
  Status begin_body(const HttpAnswer& answer) {
    body_begun_ = true;
    if (const int64_t size = number(header(answer.linked, "x-linked-size")); size >= 0 && size != file_.size) {
      return lie(answer, fmt::format("X-Linked-Size {}", size));
    }
    if (linked_sum_.empty()) linked_sum_ = sum_in(header(answer.linked, "x-linked-etag"));
    if (!file_.sha256.empty() && !linked_sum_.empty() && linked_sum_ != file_.sha256) {
      return Status::corrupt(
          "{}: wrong checksum: the hub lists {}, its X-Linked-Etag is {}; nothing was kept, try again "
          "later or tell the hub",
          where_, file_.sha256, linked_sum_);
    }
    const int64_t length = number(header(answer.headers, "content-length"));
    if (answer.status == 206) {
      const Result<ContentRange> range = parse_content_range(header(answer.headers, "content-range"));
      if (!range.ok()) return Status::corrupt("{}: {}: {}", where_, answer.host, range.status().message());
      if (range->total >= 0 && range->total != file_.size) return lie(answer, fmt::format("{}", range->total));
      if (request_.offset == 0 || range->first != part_.size()) {
        return Status::corrupt("{}: {}: Content-Range: asked for the bytes from {}, got those from {}; try again later",
                               where_, answer.host, part_.size(), range->first);
      }
      if (!digest_) DECANT_TRY_STATUS(begin_digest());
    } else {
      if (length >= 0 && length != file_.size) return lie(answer, fmt::format("{}", length));
      // The whole file: the server has no ranges, or the content is no longer that of our tag.
      if (part_.size() > 0) DECANT_TRY_STATUS(part_.restart());
      if (!digest_ || request_.offset > 0) DECANT_TRY_STATUS(begin_digest());
    }
    std::string tag(header(answer.headers, "etag"));
    if (tag.starts_with("W/") || tag.size() > 1000) tag.clear();  // If-Range takes strong tags only
    return part_.describe(identity_, tag);
  }

  // X-Linked-Etag is the SHA-256 in quotes for LFS.
  static std::string sum_in(std::string_view tag) {
    if (tag.starts_with("W/")) tag.remove_prefix(2);
    if (tag.size() == 66 && tag.front() == '"' && tag.back() == '"') tag = tag.substr(1, 64);
    const bool is_sum = tag.size() == 64 && std::all_of(tag.begin(), tag.end(), [](char c) {
                          return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                        });
    return is_sum ? std::string(tag) : "";
  }

  Status lie(const HttpAnswer& answer, const std::string& sent) const {
    return Status::corrupt(
        "{}: wrong size: the hub lists {} bytes, {} sends {}; nothing was kept, try again later or tell "
        "the hub",
        where_, file_.size, answer.host, sent);
  }

  void show() const {
    if (events_.progress) events_.progress(part_.size(), file_.size);
  }
  void note(const std::string& line) const {
    if (events_.note) events_.note(line);
  }

  Hub* hub_;
  const HubFile& file_;
  const HubName& name_;
  const HubEvents& events_;
  PartFile part_;
  std::string where_, identity_, linked_sum_;
  HttpRequest request_;
  std::optional<Digest> digest_;
  bool body_begun_ = false;
  Status body_status_;
};

Result<HubOptions> hub_options_from_environment(const std::string& address) {
  HubOptions options;
  const char* source = "--hub";
  std::string given = address;
  for (const char* name : {"DECANT_HUB", "HF_ENDPOINT"}) {
    if (!given.empty()) break;
    source = name;
    if (const char* value = variable(name)) given = value;
  }
  if (!given.empty()) {
    Result<std::string> checked = check_hub_address(given);
    if (!checked.ok()) return std::move(checked).status().with_context(source);
    options.address = std::move(checked).value();
  }

  source = "HF_TOKEN";
  if (const char* value = variable("HF_TOKEN")) {
    options.token = value;
  } else if (const char* older = variable("HUGGING_FACE_HUB_TOKEN")) {
    source = "HUGGING_FACE_HUB_TOKEN";
    options.token = older;
  } else {
    source = "the file with the hub's token";
    std::string path;
    if (const char* file = variable("HF_TOKEN_PATH")) {
      path = file;
    } else if (const char* folder = variable("HF_HOME")) {
      path = std::string(folder) + "/token";
    } else if (const char* cache = variable("XDG_CACHE_HOME")) {
      path = std::string(cache) + "/huggingface/token";
    } else if (const char* home = variable("HOME")) {
      path = std::string(home) + "/.cache/huggingface/token";
    }
    struct stat info {};
    if (!path.empty() && ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size < 4096) {
      Result<std::string> text = read_file(path);
      if (text.ok()) options.token = std::move(text).value();
    }
  }
  while (!options.token.empty() && std::string_view(" \t\r\n").find(options.token.back()) != std::string_view::npos) {
    options.token.pop_back();
  }
  // What a header can carry; a line break would begin another header.
  if (!std::all_of(options.token.begin(), options.token.end(), [](char c) { return c > 0x20 && c < 0x7f; })) {
    return Status::invalid_argument("{}: it holds spaces or characters that no token has; check it", source);
  }
  return options;
}

Result<Hub> Hub::open(const HubOptions& options) {
  HttpSettings settings;
  settings.stall_timeout_s = options.timeout_s;
  settings.connect_timeout_s = std::min(options.connect_timeout_s, options.timeout_s);
  settings.https_only = options.address.starts_with("https://");
  settings.user_agent = options.user_agent;
  // libcurl itself looks at neither; the program curl and OpenSSL do.
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    if (const char* file = variable(name); file != nullptr && settings.certificates.empty())
      settings.certificates = file;
  }
  if (const char* folder = variable("SSL_CERT_DIR")) settings.certificate_folder = folder;
  DECANT_TRY(Http http, Http::open(settings));
  return Hub(options, std::move(http));
}

Result<std::string> Hub::get_text(const HubName& name, const std::string& url, const char* what,
                                  const HubEvents& events, std::string* next_query) {
  const std::string where = name.repository();
  for (int failures = 0;;) {
    std::string text;
    bool is_long = false;
    const HttpOutcome outcome = http_.get({.url = url, .token = options_.token, .offset = 0, .if_range = {}},
                                          {.body =
                                               [&](const HttpAnswer&, std::string_view bytes) {
                                                 is_long = text.size() + bytes.size() > kMaxAnswer;
                                                 if (!is_long) text += bytes;
                                                 return !is_long;
                                               },
                                           .tick = [&] { return goes_on(events); }});
    if (!goes_on(events)) return interrupted();
    if (is_long) {
      return Status::corrupt("{}: {} from {} is larger than {}; check the address in --hub or DECANT_HUB", where, what,
                             outcome.answer.host, size_text(kMaxAnswer));
    }
    const int status = outcome.answer.status;
    if (outcome.fault == HttpFault::kNone && status == 200) {
      if (next_query != nullptr) *next_query = next_page_query(header(outcome.answer.headers, "link"));
      return text;
    }
    const Status failed = outcome.fault == HttpFault::kNone ? refusal(name, where, outcome.answer, options_)
                                                            : failure(where, outcome, options_);
    const bool retry = outcome.fault == HttpFault::kNone ? may_be_transient(status) : may_be_transient(outcome.fault);
    // A hub that is not there is more likely a wrong address or no network than an accident of a second.
    const int retries = outcome.fault == HttpFault::kUnreachable ? std::min(options_.connect_retries, options_.retries)
                                                                 : options_.retries;
    const int wait_s = retry_after(outcome.answer);
    if (!retry || ++failures > retries || wait_s > kMaxRetryAfter) return failed;
    if (!Backoff().wait(failures, wait_s, why_text(outcome), events)) return interrupted();
  }
}

Result<HubListing> Hub::list(const HubName& name, const HubEvents& events) {
  const std::string api = fmt::format("{}/api/models/{}", options_.address, name.repository());
  HubListing listing;
  const auto wrong = [&](const char* what, const Status& why) {
    return Status::corrupt("{}: {} from {} is wrong: {}; check the address in --hub or DECANT_HUB", name.repository(),
                           what, options_.address, why.message());
  };
  DECANT_TRY(const std::string answer,
             get_text(name, fmt::format("{}/revision/{}", api, escape_url(name.revision_or_main(), false)),
                      "the answer about the revision", events, nullptr));
  Result<std::string> commit = parse_commit(answer);
  if (!commit.ok()) return wrong("the answer about the revision", commit.status());
  listing.commit = std::move(commit).value();

  const std::string tree = fmt::format("{}/tree/{}", api, listing.commit);
  std::string query = "recursive=true";
  for (int page = 0; !query.empty(); ++page) {
    if (page >= kMaxPages) return wrong("the list of files", Status::corrupt("it has more than {} pages", kMaxPages));
    std::string next;
    DECANT_TRY(const std::string text, get_text(name, tree + "?" + query, "the list of files", events, &next));
    if (const Status status = parse_tree_page(text, &listing.files); !status.ok()) {
      return wrong("the list of files", status);
    }
    if (next == query)
      return wrong("the list of files", Status::corrupt("field Link: the next page is the page itself"));
    // Only the query: the page is looked for on the hub's own host, whatever the header says.
    query = next;
  }
  return listing;
}

Result<bool> Hub::fetch(const HubName& name, const std::string& commit, const HubFile& file, const std::string& target,
                        const HubEvents& events) {
  const auto is_there = [&] {
    struct stat info {};
    return ::stat(target.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size == file.size;
  };
  if (is_there()) {
    remove_part(target);
    return false;
  }
  bool said = false;
  DECANT_TRY(PartFile part, PartFile::open(target, [&] {
               if (!said && events.note)
                 events.note(fmt::format("{}: waiting for another process that fetches it", target));
               said = true;
               return goes_on(events);
             }));
  if (is_there()) return false;  // the other process has done it
  DECANT_TRY_STATUS(HubFetch(this, name, commit, file, events, std::move(part)).run());
  return true;
}

}  // namespace decant
