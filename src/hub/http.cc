// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "hub/http.h"

#include <curl/curl.h>

#include <array>
#include <charconv>
#include <cstdint>

namespace decant {
namespace {

// Bodies of errors are read to their end, so that the connection can be kept, unless they are longer.
constexpr size_t kMaxErrorBody = 1 << 16;
constexpr size_t kMaxHeaders = 1 << 18;

struct Transfer {
  const HttpEvents* events;
  HttpAnswer answer;
  CURL* curl;
  size_t header_bytes = 0, error_bytes = 0;
  bool stopped = false;
};

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

size_t on_header(char* data, size_t, size_t size, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  HttpAnswer& answer = transfer->answer;
  if ((transfer->header_bytes += size) > kMaxHeaders) return 0;
  const std::string_view line = trim({data, size});
  if (line.starts_with("HTTP/")) {
    answer.headers.clear();
    answer.status = 0;
    if (const size_t space = line.find(' '); space != std::string_view::npos) {
      std::from_chars(line.data() + space + 1, line.data() + line.size(), answer.status);
    }
    return size;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  std::string name(line.substr(0, colon));
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  std::string value(trim(line.substr(colon + 1)));
  if (name.starts_with("x-linked-") || name == "x-repo-commit") answer.linked.emplace(name, value);
  answer.headers[std::move(name)] = std::move(value);
  return size;
}

size_t on_body(char* data, size_t, size_t size, void* user) {
  auto* transfer = static_cast<Transfer*>(user);
  if (transfer->answer.status != 200 && transfer->answer.status != 206) {
    return (transfer->error_bytes += size) > kMaxErrorBody ? 0 : size;
  }
  if (transfer->events->body(transfer->answer, {data, size})) return size;
  transfer->stopped = true;
  return 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto* transfer = static_cast<Transfer*>(user);
  if (!transfer->events->tick || transfer->events->tick()) return 0;
  transfer->stopped = true;
  return 1;
}

HttpFault fault_of(CURLcode code) {
  switch (code) {
    case CURLE_OK: return HttpFault::kNone;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return HttpFault::kNoSuchHost;
    case CURLE_COULDNT_CONNECT:
    case CURLE_PROXY: return HttpFault::kUnreachable;
    case CURLE_OPERATION_TIMEDOUT: return HttpFault::kStalled;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM: return HttpFault::kCut;
    case CURLE_PEER_FAILED_VERIFICATION: return HttpFault::kUntrusted;
    case CURLE_SSL_CONNECT_ERROR: return HttpFault::kTls;
    case CURLE_TOO_MANY_REDIRECTS: return HttpFault::kRedirects;
    case CURLE_UNSUPPORTED_PROTOCOL: return HttpFault::kDowngrade;
    case CURLE_ABORTED_BY_CALLBACK: return HttpFault::kStopped;
    default: return HttpFault::kOther;
  }
}

class HeaderList {
 public:
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() { curl_slist_free_all(list_); }
  void add(const std::string& line) {
    if (curl_slist* longer = curl_slist_append(list_, line.c_str())) list_ = longer;
  }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace

void Http::Free::operator()(void* curl) const { curl_easy_cleanup(curl); }

Result<Http> Http::open(const HttpSettings& settings) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  Http http(settings);
  if (started == CURLE_OK) http.curl_.reset(curl_easy_init());
  if (http.curl_ == nullptr) return Status::unsupported("libcurl cannot start on this machine");
  return http;
}

HttpOutcome Http::get(const HttpRequest& request, const HttpEvents& events) {
  CURL* curl = curl_.get();
  curl_easy_reset(curl);  // keeps connections
  Transfer transfer{.events = &events, .answer = {}, .curl = curl};
  std::array<char, CURL_ERROR_SIZE> reason{};
  HeaderList headers;
  const auto set = [&](CURLoption option, auto value) { curl_easy_setopt(curl, option, value); };
  const char* protocols = settings_.https_only ? "https" : "http,https";
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, protocols);
  set(CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, static_cast<long>(kMaxRedirects));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, settings_.user_agent.c_str());
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(settings_.connect_timeout_s));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(settings_.stall_timeout_s));
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(CURLOPT_BUFFERSIZE, 1L << 18);
  set(CURLOPT_QUICK_EXIT, 1L);  // an interrupted look-up of a name is not waited for
  set(CURLOPT_ERRORBUFFER, reason.data());
  if (!settings_.certificates.empty()) set(CURLOPT_CAINFO, settings_.certificates.c_str());
  if (!settings_.certificate_folder.empty()) set(CURLOPT_CAPATH, settings_.certificate_folder.c_str());
  // libcurl sends a header Authorization to the first host and port only; CURLOPT_UNRESTRICTED_AUTH stays off.
  if (!request.token.empty()) headers.add("Authorization: Bearer " + request.token);
  headers.add("Accept-Encoding: identity");
  if (request.offset > 0) {
    // Not CURLOPT_RANGE: libcurl would fail where a server sends the whole file instead.
    headers.add(fmt::format("Range: bytes={}-", request.offset));
    if (!request.if_range.empty()) headers.add("If-Range: " + request.if_range);
  }
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
  set(CURLOPT_WRITEFUNCTION, on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, on_progress);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(&transfer));

  const CURLcode code = curl_easy_perform(curl);
  HttpOutcome outcome{.fault = transfer.stopped ? HttpFault::kStopped : fault_of(code), .reason = {}, .answer = {}};
  // A time-out before there was a connection to send the request on.
  curl_off_t ready_us = 0;
  curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME_T, &ready_us);
  if (outcome.fault == HttpFault::kStalled && ready_us == 0) outcome.fault = HttpFault::kUnreachable;
  outcome.reason = reason[0] != '\0' ? reason.data() : curl_easy_strerror(code);
  char* address = nullptr;
  curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &address);
  if (address != nullptr) {
    std::string_view host = address;
    if (const size_t scheme = host.find("://"); scheme != std::string_view::npos) host.remove_prefix(scheme + 3);
    transfer.answer.host = host.substr(0, host.find_first_of("/?#"));
  }
  outcome.answer = std::move(transfer.answer);
  // A refusal whose body was too long or was cut is still that refusal.
  if (outcome.answer.status >= 400 && outcome.fault != HttpFault::kStopped) outcome.fault = HttpFault::kNone;
  return outcome;
}

}  // namespace decant
