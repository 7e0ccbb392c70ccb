// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "eval/questions.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/printable.h"
#include "base/strict_json.h"
#include "text/unicode.h"

namespace decant {
namespace {

using Json = nlohmann::json;

constexpr std::array<std::string_view, 8> kMtBench = {"writing", "roleplay",   "reasoning", "math",
                                                      "coding",  "extraction", "stem",      "humanities"};
constexpr std::array<std::string_view, 5> kSingle = {"translation", "summarization", "qa", "math_reasoning", "rag"};

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text);
    if (!c.valid) return false;
    text.remove_prefix(c.size);
  }
  return true;
}

// Calls `use` for each line that is not blank; what is wrong with one is told with its place.
template <typename Use>
Status for_each_line(std::string_view text, const std::string& name, const Use& use) {
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (is_blank(line)) continue;
    const std::string place = fmt::format("{}: line {}", name, number);
    Status status = is_utf8(line) ? use(line, place) : Status::corrupt("not UTF-8");
    if (!status.ok()) return std::move(status).with_context(place);
  }
  return {};
}

Status add_turn(const Json& turn, std::vector<std::string>* turns) {
  if (!turn.is_string()) return Status::corrupt("turn {} is no string", turns->size() + 1);
  std::string text = turn.get<std::string>();
  if (is_blank(text)) return Status::corrupt("turn {} is empty", turns->size() + 1);
  turns->push_back(std::move(text));
  return {};
}

Result<std::vector<std::string>> read_turns(const Json& turns) {
  if (!turns.is_array() || turns.empty()) return Status::corrupt("\"turns\" is no list of at least one text");
  std::vector<std::string> out;
  for (const Json& turn : turns) DECANT_TRY_STATUS(add_turn(turn, &out));
  return out;
}

// A number or a text; "" if there is none.
Result<std::string> read_id(const Json& object, const char* name) {
  const auto id = object.find(name);
  if (id == object.end()) return std::string();
  if (id->is_number_integer()) return id->dump();
  if (id->is_string() && !id->get_ref<const std::string&>().empty()) return id->get<std::string>();
  return Status::corrupt("\"{}\" is neither a whole number nor a text", name);
}

// Adds a question unless its id is taken.
class Questions {
 public:
  Status add(Question question) {
    const auto [first, is_new] = places_.emplace(question.id, question.place);
    if (!is_new) {
      return Status::corrupt("the id {} is that of {} already", printable(question.id),
                             first->second.substr(first->second.rfind(": ") + 2));
    }
    list_.push_back(std::move(question));
    return {};
  }
  Result<std::vector<Question>> take(const std::string& name, const char* what) {
    if (list_.empty()) return Status::corrupt("{}: no {} in it", name, what);
    return std::move(list_);
  }

 private:
  std::vector<Question> list_;
  std::map<std::string, std::string> places_;
};

}  // namespace

std::string_view spec_bench_category(std::string_view category) {
  if (std::find(kMtBench.begin(), kMtBench.end(), category) != kMtBench.end()) return "multi-turn";
  const auto single = std::find(kSingle.begin(), kSingle.end(), category);
  return single == kSingle.end() ? "other" : *single;
}

Result<std::vector<Question>> load_spec_bench(const std::string& data) {
  const std::string path = data + (data.ends_with('/') ? "" : "/") + "spec-bench/question.jsonl";
  Result<std::string> text = read_file(path);
  if (!text.ok()) return std::move(text).status().with_context("--data takes the folder of spec-bench/question.jsonl");
  return parse_spec_bench(*text, path);
}

Result<std::vector<Question>> parse_spec_bench(std::string_view text, const std::string& name) {
  Questions questions;
  const Status read = for_each_line(text, name, [&](std::string_view line, const std::string& place) -> Status {
    DECANT_TRY(const Json object, parse_json_object(line));
    Question q{.place = place};
    DECANT_TRY(q.id, read_id(object, "question_id"));
    if (q.id.empty()) return Status::corrupt("no \"question_id\"");
    const auto category = object.find("category");
    if (category == object.end() || !category->is_string()) return Status::corrupt("no \"category\"");
    q.category = spec_bench_category(category->get_ref<const std::string&>());
    const auto turns = object.find("turns");
    if (turns == object.end()) return Status::corrupt("no \"turns\"");
    DECANT_TRY(q.turns, read_turns(*turns));
    return questions.add(std::move(q));
  });
  if (!read.ok()) return read;
  return questions.take(name, "questions");
}

Result<std::vector<Question>> load_prompts(const std::string& path) {
  DECANT_TRY(const std::string text, read_file(path));
  return parse_prompts(text, path == "-" ? "stdin" : path);
}

Result<std::vector<Question>> parse_prompts(std::string_view text, const std::string& name) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = name.ends_with(".jsonl") || (first != std::string_view::npos && text[first] == '{');
  Questions questions;
  int number = 0;
  const Status read = for_each_line(text, name, [&](std::string_view line, const std::string& place) -> Status {
    Question q{.id = std::to_string(++number), .place = place};
    if (!is_json) {
      q.turns.emplace_back(line);
      return questions.add(std::move(q));
    }
    DECANT_TRY(const Json object, parse_json_object(line));
    for (const char* id : {"question_id", "id"}) {
      DECANT_TRY(std::string given, read_id(object, id));
      if (!given.empty()) q.id = std::move(given);
    }
    if (const auto category = object.find("category"); category != object.end() && category->is_string()) {
      q.category = category->get<std::string>();
    }
    const auto prompt = object.find("prompt"), turns = object.find("turns");
    if ((prompt == object.end()) == (turns == object.end())) {
      return Status::corrupt("it needs \"prompt\" or \"turns\", and not both");
    }
    if (prompt != object.end()) {
      DECANT_TRY_STATUS(add_turn(*prompt, &q.turns));
    } else {
      DECANT_TRY(q.turns, read_turns(*turns));
    }
    return questions.add(std::move(q));
  });
  if (!read.ok()) return read;
  return questions.take(name, "prompts");
}

std::vector<Question> spread(const std::vector<Question>& questions, int limit) {
  const auto wanted = static_cast<size_t>(std::max(limit, 0));
  if (wanted == 0 || wanted >= questions.size()) return questions;
  std::vector<std::string> names;                 // by first appearance
  std::map<std::string, std::vector<size_t>> of;  // indices
  for (size_t i = 0; i < questions.size(); ++i) {
    std::vector<size_t>& list = of[questions[i].category];
    if (list.empty()) names.push_back(questions[i].category);
    list.push_back(i);
  }
  // One for each in turn, while they have any.
  std::map<std::string, size_t> share;
  for (size_t given = 0; given < wanted;) {
    for (const std::string& name : names) {
      if (given == wanted || share[name] == of[name].size()) continue;
      ++share[name];
      ++given;
    }
  }
  std::vector<size_t> indices;
  for (const std::string& name : names) {
    const std::vector<size_t>& list = of[name];
    // The middles of `n` equal parts.
    const size_t n = share[name];
    for (size_t k = 0; k < n; ++k) indices.push_back(list[(2 * k + 1) * list.size() / (2 * n)]);
  }
  std::sort(indices.begin(), indices.end());
  std::vector<Question> out;
  for (const size_t i : indices) out.push_back(questions[i]);
  return out;
}

}  // namespace decant
