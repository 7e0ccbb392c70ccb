// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "serve/chat_splitter.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace decant::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";
constexpr std::string_view kBlanks = " \t\r\n";

std::string_view without_blanks(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

// How many bytes at the end of `text` may begin `mark`.
size_t overlap(std::string_view text, std::string_view mark) {
  for (size_t n = std::min(text.size(), mark.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == mark.substr(0, n)) return n;
  }
  return 0;
}

}  // namespace

ChatSplitter::ChatSplitter(ChatSplitterOptions options) : options_(std::move(options)) {
  if (options_.tools) {
    mark_ = without_blanks(options_.tools->begin);
    if (mark_.empty()) mark_ = "{\"" + options_.tools->name_key + "\": \"";
  }
  state_ = options_.reasoning ? State::kReasoning : options_.reasons ? State::kStart : State::kText;
}

void ChatSplitter::push(std::string_view text, std::vector<ChatPiece>* out) {
  held_ += text;
  // Each step takes something from the text or waits for more.
  while (step(false, out)) {
  }
}

void ChatSplitter::finish(std::vector<ChatPiece>* out) {
  while (step(true, out)) {
  }
  held_.clear();
}

void ChatSplitter::emit(ChatPiece::Kind kind, std::string text, std::vector<ChatPiece>* out) {
  if (text.empty() && kind != ChatPiece::Kind::kCall) return;
  const int call = kind == ChatPiece::Kind::kCall || kind == ChatPiece::Kind::kArguments ? std::max(calls_ - 1, 0) : 0;
  if (!out->empty() && kind != ChatPiece::Kind::kCall && out->back().kind == kind && out->back().call == call) {
    out->back().text += text;
    return;
  }
  out->push_back({kind, std::move(text), call});
}

// Text up to `mark`, which is dropped. Blanks before it are dropped as well: they belong to the format.
bool ChatSplitter::split_at(std::string_view mark, ChatPiece::Kind kind, State next, bool last,
                            std::vector<ChatPiece>* out) {
  const size_t at = held_.find(mark);
  if (at != std::string::npos) {
    std::string_view before = std::string_view(held_).substr(0, at);
    before = before.substr(0, before.find_last_not_of(kBlanks) + 1);
    emit(kind, std::string(before), out);
    held_.erase(0, at + mark.size());
    state_ = next;
    return true;
  }
  size_t keep = 0;
  if (!last) {
    keep = overlap(held_, mark);
    const size_t solid = std::string_view(held_).substr(0, held_.size() - keep).find_last_not_of(kBlanks);
    keep = held_.size() - (solid == std::string_view::npos ? 0 : solid + 1);
  }
  if (keep == held_.size()) return false;
  emit(kind, held_.substr(0, held_.size() - keep), out);
  held_.erase(0, held_.size() - keep);
  return false;
}

bool ChatSplitter::step(bool last, std::vector<ChatPiece>* out) {
  switch (state_) {
    case State::kStart: {
      // <think> may stand behind blanks at the very start, and nowhere else.
      const size_t first = std::min(held_.find_first_not_of(kBlanks), held_.size());
      const std::string_view text = std::string_view(held_).substr(first);
      if (text.starts_with(kThink)) {
        held_.erase(0, first + kThink.size());
        state_ = State::kReasoning;
        return true;
      }
      if (!last && (text.empty() || kThink.starts_with(text))) return false;
      state_ = State::kText;
      return true;
    }
    case State::kReasoning: {
      // The line end behind the tag belongs to the format.
      if (!begun_) {
        held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
        if (held_.empty()) return false;
        begun_ = true;
      }
      return split_at(kEndThink, ChatPiece::Kind::kReasoning, State::kBehindReasoning, last, out);
    }
    case State::kBehindReasoning:
      begun_ = false;
      held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
      if (held_.empty()) return false;
      state_ = State::kText;
      return true;
    case State::kText:
      if (!options_.tools) {
        emit(ChatPiece::Kind::kContent, std::exchange(held_, {}), out);
        return false;
      }
      // Blanks between calls belong to the format.
      if (behind_call_) {
        held_.erase(0, std::min(held_.find_first_not_of(kBlanks), held_.size()));
        if (held_.empty()) return false;
        behind_call_ = false;
      }
      if (!split_at(mark_, ChatPiece::Kind::kContent, State::kCallHead, last, out)) return false;
      if (without_blanks(options_.tools->begin).empty()) held_.insert(0, mark_);
      if (!options_.tools->is_fixed) state_ = State::kWholeCalls;
      return true;
    case State::kCallHead: return read_head(out);
    case State::kArguments: return read_arguments(out);
    case State::kCallEnd: {
      // The end tag with the blanks that it has.
      const std::string whole = "}" + options_.tools->end;
      if (held_.size() < whole.size() && !last) return false;
      held_.erase(0, std::min(held_.starts_with(whole) ? whole.size() : 0, held_.size()));
      state_ = State::kText;
      behind_call_ = true;
      return !held_.empty();
    }
    case State::kWholeCalls: return read_whole_calls(last, out);
  }
  return false;
}

// What looked like the beginning of a call is ordinary text. (Not where the tools' constraint holds.)
bool ChatSplitter::no_call(std::vector<ChatPiece>* out) {
  const bool is_held = without_blanks(options_.tools->begin).empty();
  emit(ChatPiece::Kind::kContent, is_held ? held_.substr(0, 1) : mark_, out);
  if (is_held) held_.erase(0, 1);
  state_ = State::kText;
  return true;
}

// Name and key of the arguments, up to where these begin.
bool ChatSplitter::read_head(std::vector<ChatPiece>* out) {
  const std::string begin = "{" + Json(options_.tools->name_key).dump() + ": \"";
  const size_t start = std::min(held_.find_first_not_of(kBlanks), held_.size());
  const std::string_view text = std::string_view(held_).substr(start);
  if (text.substr(0, begin.size()) != std::string_view(begin).substr(0, text.size())) return no_call(out);
  if (text.size() < begin.size()) return false;
  size_t end = start + begin.size();
  while (end < held_.size() && held_[end] != '"') end += held_[end] == '\\' ? 2 : 1;
  if (end >= held_.size()) return false;
  const std::string behind = ", " + Json(options_.tools->arguments_key).dump() + ": ";
  const std::string_view rest = std::string_view(held_).substr(end + 1, behind.size());
  if (rest != std::string_view(behind).substr(0, rest.size())) return no_call(out);
  if (rest.size() < behind.size()) return false;
  const Json name =
      Json::parse(held_.substr(start + begin.size() - 1, end - (start + begin.size()) + 2), nullptr, false);
  ++calls_;
  emit(ChatPiece::Kind::kCall, name.is_string() ? name.get<std::string>() : "", out);
  held_.erase(0, end + 1 + behind.size());
  state_ = State::kArguments;
  depth_ = 0;
  in_string_ = escaped_ = begun_ = false;
  return true;
}

// One JSON value, to its end.
bool ChatSplitter::read_arguments(std::vector<ChatPiece>* out) {
  size_t at = 0;
  bool ended = false;
  for (; at < held_.size() && !ended; ++at) {
    const char c = held_[at];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
        ended = depth_ == 0;
      }
      continue;
    }
    if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      // The end of what is around a bare value.
      if (depth_ == 0) break;
      ended = --depth_ == 0;
    }
    begun_ = true;
  }
  if (!ended && at < held_.size()) ended = true;
  emit(ChatPiece::Kind::kArguments, held_.substr(0, at), out);
  held_.erase(0, at);
  if (!ended) return false;
  state_ = State::kCallEnd;
  return true;
}

// Calls whose members may come in any order are told apart when they are complete.
bool ChatSplitter::read_whole_calls(bool last, std::vector<ChatPiece>* out) {
  const ToolFormat& format = *options_.tools;
  const std::string end(without_blanks(format.end));
  size_t at = std::string::npos;
  if (!format.is_list && !end.empty()) at = held_.find(end);
  if (at == std::string::npos && !last) return false;
  const Json parsed = Json::parse(held_.substr(0, at), nullptr, false);
  const Json list = parsed.is_array() ? parsed : parsed.is_object() ? Json::array({parsed}) : Json::array();
  for (const Json& call : list) {
    if (!call.is_object() || !call.contains(format.name_key) || !call[format.name_key].is_string()) continue;
    ++calls_;
    emit(ChatPiece::Kind::kCall, call[format.name_key].get<std::string>(), out);
    if (call.contains(format.arguments_key)) {
      emit(ChatPiece::Kind::kArguments, call[format.arguments_key].dump(-1, ' ', false, Json::error_handler_t::replace),
           out);
    }
  }
  held_.erase(0, at == std::string::npos ? held_.size() : at + end.size());
  state_ = State::kText;
  behind_call_ = true;
  return !held_.empty();
}

}  // namespace decant::serve
