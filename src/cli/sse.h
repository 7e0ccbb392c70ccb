// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Server-sent events as they come off a socket, in pieces of any size (WHATWG HTML, "Server-sent events").
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace decant::cli {

struct SseEvent {
  std::string name;  // "message" where the stream names none
  std::string data;  // lines of data, with newlines between them
};

class SseParser {
 public:
  // `max_bytes` of one event; a longer one is no stream to follow.
  explicit SseParser(size_t max_bytes = size_t{16} << 20) : max_bytes_(max_bytes) {}

  // Takes the next bytes; `on_event` gets each event that they complete. An event without data is none, and comments
  // and unknown fields are skipped. False when an event is too long: nothing behind it is read.
  bool add(std::string_view bytes, const std::function<void(const SseEvent&)>& on_event);

 private:
  void end_line(const std::function<void(const SseEvent&)>& on_event);

  size_t max_bytes_;
  std::string line_;
  SseEvent event_;
  bool has_data_ = false;
  bool after_return_ = false;  // a newline now belongs to the carriage return before it
  bool at_start_ = true;       // a byte order mark may come
  bool failed_ = false;
};

}  // namespace decant::cli
