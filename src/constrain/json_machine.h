// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Follows a JSON text byte by byte through all alternatives of a schema at once. A state is a value: where the text
// stands (in a string, after a key, ...), and threads, each with what it still asks of the current value and the
// containers around it. A byte is refused when no thread can still be completed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "constrain/char_cursor.h"
#include "constrain/schema_language.h"
#include "constrain/shared_text.h"

namespace decant {

struct JsonFrames;

// A container that is open, with what it has so far; shared by all states that go on from it.
struct JsonFrame {
  ShapeId shape = 0;
  bool is_object = false;
  int64_t count = 0;               // members or items
  std::vector<uint64_t> used;      // bits of the shape's names
  uint64_t witnessed = 0;          // bits of the shape's clauses, or witnesses, that are met
  std::vector<int64_t> contained;  // by the shape's contains
  // Names beyond the shape's, or the items so far in canonical form (uniqueItems); sorted.
  std::shared_ptr<const std::vector<std::string>> seen;
  uint32_t item_begin = 0;                  // uniqueItems: where the current item begins in JsonState::item
  uint16_t unique_depth = 0;                // arrays with uniqueItems among this and the frames around it
  std::shared_ptr<const JsonFrames> outer;  // null: the value is the whole text
  size_t own_hash = 0;                      // without `outer` and `witnessed`
  size_t hash = 0;
  mutable std::vector<uint64_t> permitted;  // names that may come next; made when first asked for
  mutable int8_t other_permitted = -1;
};
using JsonFramePtr = std::shared_ptr<const JsonFrame>;

// The alternatives of what is around a value: any of them may go on when it ends. One value is followed once for all of
// them, or the alternatives of nested values would multiply.
struct JsonFrames {
  std::vector<JsonFramePtr> list;  // sorted, distinct, not empty
  uint16_t unique_depth = 0;       // the largest
  size_t hash = 0;
};
using JsonFramesPtr = std::shared_ptr<const JsonFrames>;

struct JsonThread {
  // By the phase: a goal; a language; or of a name, the range of the shape's names, its length so far, and a language.
  uint32_t a = 0, b = 0, c = 0, d = 0;
  JsonFramePtr frame;   // between the parts of a container, and in a name: the container
  JsonFramesPtr outer;  // before and within a value, and after its name: what is around it; null: it is the whole text
};

enum class JsonPhase : uint8_t {
  kValue,        // before a value
  kString,       // in one
  kScalar,       // in a number or literal
  kObjectBegin,  // after '{'
  kName,         // in a name
  kColon,        // after a name
  kNextName,     // after ',' in an object
  kArrayBegin,   // after '['
  kAfter,        // after a value in a container
  kEnd,          // after the whole value
};

struct JsonState {
  JsonPhase phase = JsonPhase::kValue;
  bool bare = false;   // made by without_text()
  uint8_t blanks = 0;  // white space since the last other character: kNewline and the number of blanks
  CharCursor cursor;
  std::vector<JsonThread> threads;          // sorted, distinct
  std::shared_ptr<const std::string> name;  // kName, where other names than the shape's are possible: so far, decoded
  SharedText::Ptr item;                     // the text since the outermost item of an array with uniqueItems began
  size_t hash = 0;
};

class JsonMachine {
 public:
  explicit JsonMachine(std::shared_ptr<Schema> schema) : language_(std::move(schema)) {}

  SchemaLanguage& language() { return language_; }
  // nullopt if no value meets the schema (or language().status() is an error).
  std::optional<JsonState> start();
  std::optional<JsonState> step(const JsonState& state, uint8_t byte);
  // Whether the text may end here.
  bool accepting(const JsonState& state);
  static bool same(const JsonState& a, const JsonState& b);

  // White space between tokens of the text changes nothing but how much more of it may follow.
  static bool takes_blanks(const JsonState& state);
  static std::optional<uint8_t> add_blank(uint8_t blanks, uint8_t byte);

  // For kString with the cursor between characters: whether all that is asked of the rest of the string is its length,
  // the same of all threads and no more than `min` and `max` (RegexPool::kUnbounded) say.
  bool only_length(const JsonState& state, int* min, int* max);
  // The state behind the string's quote, wherever the string ends.
  std::optional<JsonState> after_string(const JsonState& state);
  // For kName with the cursor between characters: whether all names beyond the shape's are alike (one thread, no
  // pattern, no witness, any text). Then the state behind the quote of such a name; its text is not kept.
  bool other_names_alike(const JsonState& state);
  std::optional<JsonState> after_other_name(const JsonState& state);
  // For kString and kName: languages that tell texts apart which end it, as far as what may come behind the quote goes,
  // but for `exact` texts and where a tail ends another string or a container. False if each text is its own.
  bool endings(const JsonState& state, std::vector<RegexId>* languages, std::vector<std::string_view>* exact);
  // Within a string, name or scalar: the state without the text that it carries for what ends it; nullopt if it carries
  // none. Until a byte for which ends_text() is true it goes on to the same states, as far as refusing goes.
  static std::optional<JsonState> without_text(const JsonState& state);
  static bool ends_text(const JsonState& state, uint8_t byte);
  // Bytes that step() may take here: all that it takes are among them.
  void candidates(const JsonState& state, std::array<bool, 256>* bytes);
  // For kName between characters: how names go on that bring an object nearer to its end: of those that have to come
  // the first, else those that meet a condition, or the first that may come. False if the shape has none.
  bool needed_names(const JsonState& state, std::array<bool, 256>* bytes);
  // For kObjectBegin, kArrayBegin, kAfter and kScalar: whether the container may end here.
  bool closable(const JsonState& state);

  // White space in one place, bounded since models are fond of it: a blank, or a line end and an indentation.
  static constexpr int kMaxBlanks = 1, kMaxIndent = 60;

 private:
  using Threads = std::vector<JsonThread>;

  std::optional<JsonState> made(JsonPhase phase, Threads threads, const JsonState& from);
  std::optional<JsonState> advance(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_blank(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_value(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_string(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_name(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_scalar(const JsonState& state, uint8_t byte);
  std::optional<JsonState> step_after(const JsonState& state, uint8_t byte);
  std::optional<JsonState> begin_name(const JsonState& state);
  std::optional<JsonState> end_name(const JsonState& state);
  // `last`: the byte that ended the value and is part of it, or 0.
  std::optional<JsonState> completed(std::vector<JsonFramePtr> frames, const JsonState& from, char last);
  // Threads before values: goals and the frames that ask for them.
  using Members = std::vector<std::pair<GoalId, JsonFramePtr>>;
  static Threads threads_of(Members members);
  // Threads of containers: those that differ only in what is around them, and in what they found out, become one.
  Threads merged(std::vector<JsonFramePtr> frames);
  static JsonFramesPtr frames_of(std::vector<JsonFramePtr> list);
  std::optional<JsonState> close(const JsonState& state, bool is_object);
  // A thread for the language, without the values that arrays with uniqueItems have already.
  void add_scalars(GoalId goal, const JsonFramesPtr& outer, bool strings, Threads* out);
  RegexId without_seen(GoalId goal, const JsonFrame& frame, bool strings);
  RegexId without_names(RegexId language, const std::vector<std::string>& names);

  // Objects
  JsonFramePtr open_object(ShapeId shape, const JsonFramesPtr& outer);
  bool object_viable(const JsonFrame& f);
  bool object_closable(const JsonFrame& f);
  void permit(const JsonFrame& f);
  std::vector<bool> permitted_in_order(const JsonFrame& f);
  bool any_permitted(const JsonFrame& f);
  void add_member(const JsonFrame& f, size_t name, const std::string* other, Members* out);
  // Arrays
  JsonFramePtr open_array(ShapeId shape, const JsonFramesPtr& outer);
  bool array_viable(const JsonFrame& f);
  bool array_closable(const JsonFrame& f);
  bool any_left(GoalId goal, const JsonFrame& f, int64_t needed);
  void add_items(const JsonFramePtr& f, uint32_t item_begin, Members* out);
  static JsonFramePtr finish(JsonFrame f);

  // Classes of characters that the cursor can still become.
  void reachable_classes(const CharCursor& cursor, std::vector<CharClassId>* out);
  bool can_continue(RegexId id, const std::vector<CharClassId>& classes);

  SchemaLanguage language_;
  std::vector<CharClassId> classes_;
};

}  // namespace decant
