// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/json_machine.h"

#include <algorithm>
#include <bit>
#include <map>

#include "constrain/json_tree.h"
#include "constrain/number_language.h"
#include "text/unicode.h"

namespace decant {
namespace {

constexpr uint8_t kNewline = 128;

size_t mix(size_t h, uint64_t v) {
  h = (h ^ v) * 0xFF51AFD7ED558CCDu;
  return h ^ (h >> 32);
}

// Behind a number or literal.
bool is_delimiter(uint8_t byte) {
  return byte == ',' || byte == '}' || byte == ']' || byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r';
}

bool less(const JsonThread& x, const JsonThread& y) {
  if (x.a != y.a) return x.a < y.a;
  if (x.b != y.b) return x.b < y.b;
  if (x.c != y.c) return x.c < y.c;
  if (x.d != y.d) return x.d < y.d;
  const size_t hx = x.frame ? x.frame->hash : 0, hy = y.frame ? y.frame->hash : 0;
  if (hx != hy) return hx < hy;
  return (x.outer ? x.outer->hash : 0) < (y.outer ? y.outer->hash : 0);
}

// All but what is around them and which clauses are met.
bool same_own(const JsonFrame& x, const JsonFrame& y) {
  return x.own_hash == y.own_hash && x.shape == y.shape && x.is_object == y.is_object && x.count == y.count &&
         x.used == y.used && x.contained == y.contained && x.item_begin == y.item_begin &&
         (x.seen == y.seen || (x.seen && y.seen && *x.seen == *y.seen));
}

bool same_frames(const JsonFramesPtr& x, const JsonFramesPtr& y);

bool same_frame(const JsonFramePtr& x, const JsonFramePtr& y) {
  if (x == y) return true;
  return x && y && x->hash == y->hash && x->witnessed == y->witnessed && same_own(*x, *y) &&
         same_frames(x->outer, y->outer);
}

// As deep as the text is nested, which is bounded.
bool same_frames(const JsonFramesPtr& x, const JsonFramesPtr& y) {
  if (x == y) return true;
  if (!x || !y || x->hash != y->hash || x->list.size() != y->list.size()) return false;
  return std::equal(x->list.begin(), x->list.end(), y->list.begin(), same_frame);
}

size_t hash_of(JsonPhase phase, const std::vector<JsonThread>& threads) {
  size_t h = mix(static_cast<size_t>(phase), 0x51);
  for (const JsonThread& t : threads) {
    h = mix(h, uint64_t{t.a} << 32 | t.b);
    h = mix(h, uint64_t{t.c} << 32 | t.d);
    h = mix(h, t.frame ? t.frame->hash : t.outer ? t.outer->hash : 0);
  }
  return h;
}
size_t hash_with(size_t h, const CharCursor& cursor) {
  h = mix(h, uint64_t{cursor.code} << 16 | static_cast<uint64_t>(cursor.kind) << 8 | cursor.left);
  return mix(h, cursor.high);
}

bool same_thread(const JsonThread& x, const JsonThread& y) {
  return x.a == y.a && x.b == y.b && x.c == y.c && x.d == y.d && same_frame(x.frame, y.frame) &&
         same_frames(x.outer, y.outer);
}

}  // namespace

// --- States ----------------------------------------------------------------------------------------------------------

std::optional<JsonState> JsonMachine::made(JsonPhase phase, Threads threads, const JsonState& from) {
  if (threads.empty()) return std::nullopt;
  if (threads.size() > 1) {
    std::sort(threads.begin(), threads.end(), less);
    threads.erase(std::unique(threads.begin(), threads.end(), same_thread), threads.end());
  }
  JsonState state;
  state.phase = phase;
  state.item = from.item;
  state.threads = std::move(threads);
  state.hash = hash_of(phase, state.threads);
  return state;
}

bool JsonMachine::same(const JsonState& x, const JsonState& y) {
  if (x.hash != y.hash || x.phase != y.phase || x.bare != y.bare || !(x.cursor == y.cursor) ||
      x.threads.size() != y.threads.size())
    return false;
  if (x.name != y.name && (!x.name || !y.name || *x.name != *y.name)) return false;
  if (!SharedText::same(x.item, y.item)) return false;
  for (size_t i = 0; i < x.threads.size(); ++i) {
    if (!same_thread(x.threads[i], y.threads[i])) return false;
  }
  return true;
}

std::optional<JsonState> JsonMachine::start() {
  const GoalId goal = language_.root_goal();
  if (!language_.satisfiable(goal) || !language_.status().ok()) return std::nullopt;
  std::optional<JsonState> state = made(JsonPhase::kValue, {{.a = goal}}, {});
  if (state) state->blanks = kNewline + kMaxIndent;  // none before the whole value
  return state;
}

bool JsonMachine::accepting(const JsonState& state) {
  if (state.phase == JsonPhase::kEnd) return true;
  if (state.phase != JsonPhase::kScalar) return false;
  return std::any_of(state.threads.begin(), state.threads.end(),
                     [&](const JsonThread& t) { return !t.outer && language_.pool().nullable(t.a); });
}

std::optional<JsonState> JsonMachine::advance(const JsonState& state, uint8_t byte) {
  std::optional<JsonState> next;
  switch (state.phase) {
    case JsonPhase::kString: next = step_string(state, byte); break;
    case JsonPhase::kName: next = step_name(state, byte); break;
    case JsonPhase::kScalar: next = step_scalar(state, byte); break;
    case JsonPhase::kEnd: return std::nullopt;
    default:
      if (byte == ' ' || byte == '\n' || byte == '\t' || byte == '\r') {
        next = step_blank(state, byte);
        break;
      }
      switch (state.phase) {
        case JsonPhase::kValue: next = step_value(state, byte); break;
        case JsonPhase::kObjectBegin:
          next = byte == '"' ? begin_name(state) : byte == '}' ? close(state, true) : std::nullopt;
          break;
        case JsonPhase::kNextName: next = byte == '"' ? begin_name(state) : std::nullopt; break;
        case JsonPhase::kColon:
          if (byte == ':') next = made(JsonPhase::kValue, state.threads, state);
          break;
        case JsonPhase::kArrayBegin: {
          if (byte == ']') {
            next = close(state, false);
            break;
          }
          Members items;
          const auto begin = static_cast<uint32_t>(state.item ? state.item->size() : 0);
          for (const JsonThread& t : state.threads) add_items(t.frame, begin, &items);
          if (const std::optional<JsonState> value = made(JsonPhase::kValue, threads_of(std::move(items)), state))
            next = step_value(*value, byte);
          break;
        }
        case JsonPhase::kAfter: next = step_after(state, byte); break;
        default: break;
      }
  }
  return next;
}

std::optional<JsonState> JsonMachine::step(const JsonState& state, uint8_t byte) {
  std::optional<JsonState> next = advance(state, byte);
  if (!next) return next;
  next->bare = state.bare;
  if (state.bare) {
    next->hash = mix(next->hash, 0xBA8E);
    return next;
  }
  const bool unique = std::any_of(next->threads.begin(), next->threads.end(), [](const JsonThread& t) {
    return (t.frame && t.frame->unique_depth > 0) || (t.outer && t.outer->unique_depth > 0);
  });
  if (unique) {
    next->item = SharedText::append(std::move(next->item), static_cast<char>(byte));
    next->hash = mix(next->hash, next->item->hash());
  } else {
    next->item = nullptr;
  }
  return next;
}

std::optional<uint8_t> JsonMachine::add_blank(uint8_t blanks, uint8_t byte) {
  if (byte == '\n') return (blanks & kNewline) != 0 ? std::nullopt : std::optional(kNewline);
  const int most = (blanks & kNewline) != 0 ? kMaxIndent : kMaxBlanks;
  if (byte == '\r' || (blanks & (kNewline - 1)) >= most) return std::nullopt;
  return static_cast<uint8_t>(blanks + 1);
}

bool JsonMachine::takes_blanks(const JsonState& state) {
  return state.phase != JsonPhase::kString && state.phase != JsonPhase::kName && state.phase != JsonPhase::kScalar &&
         state.phase != JsonPhase::kEnd;
}

std::optional<JsonState> JsonMachine::step_blank(const JsonState& state, uint8_t byte) {
  const std::optional<uint8_t> blanks = add_blank(state.blanks, byte);
  if (!blanks) return std::nullopt;
  JsonState next = state;
  next.blanks = *blanks;
  return next;
}

// --- Values ----------------------------------------------------------------------------------------------------------

std::optional<JsonState> JsonMachine::step_value(const JsonState& state, uint8_t byte) {
  RegexPool& pool = language_.pool();
  if (byte == '{' || byte == '[') {
    std::vector<JsonFramePtr> frames;
    const bool is_object = byte == '{';
    for (const JsonThread& t : state.threads) {
      for (const ShapeId s : is_object ? language_.objects(t.a) : language_.arrays(t.a)) {
        if (JsonFramePtr f = is_object ? open_object(s, t.outer) : open_array(s, t.outer))
          frames.push_back(std::move(f));
      }
    }
    return made(is_object ? JsonPhase::kObjectBegin : JsonPhase::kArrayBegin, merged(std::move(frames)), state);
  }
  if (byte >= 0x80) return std::nullopt;
  Threads threads;
  for (const JsonThread& t : state.threads) {
    add_scalars(t.a, t.outer, byte == '"', &threads);
  }
  if (byte == '"') return made(JsonPhase::kString, std::move(threads), state);
  std::erase_if(threads, [&](JsonThread& t) {
    t.a = pool.derive(t.a, pool.class_of(byte));
    return t.a == pool.none() || !pool.live(t.a);
  });
  return made(JsonPhase::kScalar, std::move(threads), state);
}

void JsonMachine::add_scalars(GoalId goal, const JsonFramesPtr& outer, bool strings, Threads* out) {
  const RegexId language = strings ? language_.strings(goal) : language_.scalars(goal);
  if (language == language_.pool().none()) return;
  if (!outer || outer->unique_depth == 0) {
    out->push_back({.a = language, .outer = outer});
    return;
  }
  std::map<RegexId, std::vector<JsonFramePtr>> by_language;
  for (const JsonFramePtr& f : outer->list) by_language[without_seen(goal, *f, strings)].push_back(f);
  for (auto& [rest, frames] : by_language) {
    if (rest != language_.pool().none()) out->push_back({.a = rest, .outer = frames_of(std::move(frames))});
  }
}

std::optional<JsonState> JsonMachine::step_scalar(const JsonState& state, uint8_t byte) {
  RegexPool& pool = language_.pool();
  if (!is_delimiter(byte)) {
    if (byte >= 0x80) return std::nullopt;
    Threads threads;
    for (const JsonThread& t : state.threads) {
      const RegexId text = pool.derive(t.a, pool.class_of(byte));
      if (text != pool.none() && pool.live(text)) threads.push_back({.a = text, .outer = t.outer});
    }
    return made(JsonPhase::kScalar, std::move(threads), state);
  }
  std::vector<JsonFramePtr> frames;
  for (const JsonThread& t : state.threads) {
    if (t.outer && pool.nullable(t.a)) frames.insert(frames.end(), t.outer->list.begin(), t.outer->list.end());
  }
  const std::optional<JsonState> after = completed(std::move(frames), state, 0);
  return after ? advance(*after, byte) : std::nullopt;
}

void JsonMachine::reachable_classes(const CharCursor& cursor, std::vector<CharClassId>* out) {
  using Kind = CharCursor::Kind;
  const RegexPool& pool = language_.pool();
  switch (cursor.kind) {
    case Kind::kUtf8: {
      const uint32_t shift = 6u * cursor.left, first = cursor.code << shift;
      // The smallest code points of three and four bytes, where only the lead byte is there.
      const uint32_t least = cursor.total == 3 ? 0x800 : cursor.total == 4 ? 0x10000 : 0x80;
      pool.classes_in(std::max(first, least), std::min(first + (1u << shift) - 1, kMaxCodePoint), out);
      return;
    }
    case Kind::kHex: {
      const uint32_t shift = 4u * cursor.left, first = cursor.code << shift, last = first + (1u << shift) - 1;
      pool.classes_in(first, last, out);
      if (first <= 0xDBFF && last >= 0xD800) {
        std::vector<CharClassId> more;
        const uint32_t low = std::max(first, 0xD800u), high = std::min(last, 0xDBFFu);
        pool.classes_in(0x10000 + ((low - 0xD800) << 10), 0x10000 + ((high - 0xD800) << 10) + 0x3FF, &more);
        out->insert(out->end(), more.begin(), more.end());
      }
      return;
    }
    case Kind::kLowBackslash:
    case Kind::kLowU:
    case Kind::kLowHex: {
      uint32_t first = 0xDC00, last = 0xDFFF;
      if (cursor.kind == Kind::kLowHex && cursor.left < 4) {
        const uint32_t shift = 4u * cursor.left;
        first = std::max(first, cursor.code << shift);
        last = std::min(last, (cursor.code << shift) + (1u << shift) - 1);
      }
      const uint32_t base = 0x10000 + ((cursor.high - 0xD800) << 10) - 0xDC00;
      pool.classes_in(base + first, base + last, out);
      return;
    }
    default: pool.classes_in(0, kMaxCodePoint, out);
  }
}

bool JsonMachine::can_continue(RegexId id, const std::vector<CharClassId>& classes) {
  RegexPool& pool = language_.pool();
  if (id == pool.any_text()) return true;
  return std::any_of(classes.begin(), classes.end(), [&](CharClassId c) { return pool.live(pool.derive(id, c)); });
}

std::optional<JsonState> JsonMachine::step_string(const JsonState& state, uint8_t byte) {
  RegexPool& pool = language_.pool();
  CharCursor cursor = state.cursor;
  Threads threads;
  switch (feed(&cursor, byte)) {
    case Fed::kBad: return std::nullopt;
    case Fed::kQuote: {
      std::vector<JsonFramePtr> frames;
      bool whole = false;
      for (const JsonThread& t : state.threads) {
        if (!pool.nullable(t.a)) continue;
        if (t.outer) frames.insert(frames.end(), t.outer->list.begin(), t.outer->list.end());
        whole = whole || !t.outer;
      }
      if (whole) return made(JsonPhase::kEnd, {JsonThread{}}, state);
      return completed(std::move(frames), state, '"');
    }
    case Fed::kChar: {
      const CharClassId c = pool.class_of(cursor.code);
      cursor.code = 0;
      for (const JsonThread& t : state.threads) {
        const RegexId text = pool.derive(t.a, c);
        if (text != pool.none() && pool.live(text)) threads.push_back({.a = text, .outer = t.outer});
      }
      break;
    }
    case Fed::kMore:
      reachable_classes(cursor, &classes_);
      for (const JsonThread& t : state.threads) {
        if (can_continue(t.a, classes_)) threads.push_back(t);
      }
      break;
  }
  std::optional<JsonState> next = made(JsonPhase::kString, std::move(threads), state);
  if (next && cursor.kind != CharCursor::Kind::kBetween) {
    next->cursor = cursor;
    next->hash = hash_with(next->hash, cursor);
  }
  return next;
}

// --- Names -----------------------------------------------------------------------------------------------------------

std::optional<JsonState> JsonMachine::begin_name(const JsonState& state) {
  Threads threads;
  bool other = false;
  for (const JsonThread& t : state.threads) {
    permit(*t.frame);
    ObjectShape& shape = language_.object(t.frame->shape);
    RegexId names = t.frame->other_permitted != 0 ? language_.other_names(shape) : language_.pool().none();
    other = other || names != language_.pool().none();
    const bool any =
        std::any_of(t.frame->permitted.begin(), t.frame->permitted.end(), [](uint64_t w) { return w != 0; });
    if (names != language_.pool().none() && names != language_.pool().any_text() && t.frame->seen) {
      // What is left of a name may be only what other members have; open languages always have more.
      if (!shape.patterns.empty() || !shape.rules.names.empty()) names = without_names(names, *t.frame->seen);
    }
    if (!any && names == language_.pool().none()) continue;
    threads.push_back({.a = 0, .b = static_cast<uint32_t>(shape.names.size()), .c = 0, .d = names, .frame = t.frame});
  }
  std::optional<JsonState> next = made(JsonPhase::kName, std::move(threads), state);
  if (next && other) {
    static const auto kEmpty = std::make_shared<const std::string>();
    next->name = kEmpty;
  }
  return next;
}

RegexId JsonMachine::without_names(RegexId language, const std::vector<std::string>& names) {
  RegexPool& pool = language_.pool();
  std::vector<RegexId> seen;
  for (const std::string& name : names) {
    if (pool.knows(name)) seen.push_back(pool.literal(name));
  }
  const RegexId rest = pool.conj({language, pool.negate(pool.alt(std::move(seen)))});
  return pool.live(rest) ? rest : pool.none();
}

std::optional<JsonState> JsonMachine::step_name(const JsonState& state, uint8_t byte) {
  RegexPool& pool = language_.pool();
  CharCursor cursor = state.cursor;
  const Fed fed = feed(&cursor, byte);
  if (fed == Fed::kBad) return std::nullopt;
  if (fed == Fed::kQuote) return end_name(state);
  Threads threads;
  std::string encoded;
  CharClassId c = 0;
  if (fed == Fed::kChar) {
    append_utf8(cursor.code, &encoded);
    c = pool.class_of(cursor.code);
    cursor.code = 0;
  } else {
    reachable_classes(cursor, &classes_);
  }
  bool other = false;
  for (const JsonThread& t : state.threads) {
    const std::vector<std::string>& names = language_.object(t.frame->shape).names;
    JsonThread next = t;
    if (fed == Fed::kChar) {
      // Names are sorted: those that go on with these bytes lie together.
      const auto part = [&](const std::string& name) {
        return std::string_view(name).substr(std::min<size_t>(t.c, name.size()), encoded.size());
      };
      const auto begin = names.begin() + t.a, end = names.begin() + t.b;
      const auto low = std::partition_point(begin, end, [&](const std::string& n) { return part(n) < encoded; });
      const auto high = std::partition_point(low, end, [&](const std::string& n) { return part(n) == encoded; });
      next.a = static_cast<uint32_t>(low - names.begin());
      next.b = static_cast<uint32_t>(high - names.begin());
      next.c = t.c + static_cast<uint32_t>(encoded.size());
      if (next.d != pool.none()) next.d = pool.derive(t.d, c);
      if (next.d != pool.none() && !pool.live(next.d)) next.d = pool.none();
    } else if (next.d != pool.none() && !can_continue(t.d, classes_)) {
      next.d = pool.none();
    }
    if (next.a >= next.b) next.a = next.b = next.c = 0;
    const std::vector<uint64_t>& permitted = t.frame->permitted;
    bool possible = next.d != pool.none();
    for (uint32_t i = next.a; i < next.b && !possible; ++i) {
      if ((permitted[i >> 6] >> (i & 63) & 1) == 0) continue;
      if (fed == Fed::kChar) {
        possible = true;
      } else if (names[i].size() > t.c) {
        const Utf8Char follows = decode_utf8(std::string_view(names[i]).substr(t.c));
        possible = reaches(cursor, follows.code);
      }
    }
    if (!possible) continue;
    other = other || next.d != pool.none();
    threads.push_back(std::move(next));
  }
  std::optional<JsonState> next = made(JsonPhase::kName, std::move(threads), state);
  if (!next) return next;
  if (other && state.name) {
    next->name = fed == Fed::kChar ? std::make_shared<const std::string>(*state.name + encoded) : state.name;
    next->hash = mix(next->hash, std::hash<std::string>()(*next->name));
  }
  if (cursor.kind != CharCursor::Kind::kBetween) {
    next->cursor = cursor;
    next->hash = hash_with(next->hash, cursor);
  }
  return next;
}

std::optional<JsonState> JsonMachine::end_name(const JsonState& state) {
  RegexPool& pool = language_.pool();
  Members members;
  for (const JsonThread& t : state.threads) {
    const std::vector<std::string>& names = language_.object(t.frame->shape).names;
    if (t.a < t.b && names[t.a].size() == t.c) {
      if ((t.frame->permitted[t.a >> 6] >> (t.a & 63) & 1) != 0) add_member(*t.frame, t.a, nullptr, &members);
      continue;
    }
    if (t.d == pool.none() || !pool.nullable(t.d) || !state.name) continue;
    if (t.frame->seen && std::binary_search(t.frame->seen->begin(), t.frame->seen->end(), *state.name)) continue;
    add_member(*t.frame, SIZE_MAX, state.name.get(), &members);
  }
  return made(JsonPhase::kColon, threads_of(std::move(members)), state);
}

// --- Containers ------------------------------------------------------------------------------------------------------

JsonFramePtr JsonMachine::finish(JsonFrame f) {
  size_t h = mix(f.shape * 2u + (f.is_object ? 1 : 0), static_cast<uint64_t>(f.count));
  for (const uint64_t w : f.used) h = mix(h, w);
  h = mix(h, f.item_begin);
  for (const int64_t n : f.contained) h = mix(h, static_cast<uint64_t>(n));
  if (f.seen) {
    for (const std::string& s : *f.seen) h = mix(h, std::hash<std::string>()(s));
  }
  f.own_hash = h;
  f.hash = mix(mix(h, f.witnessed), f.outer ? f.outer->hash : 0x77);
  return std::make_shared<const JsonFrame>(std::move(f));
}

JsonFramesPtr JsonMachine::frames_of(std::vector<JsonFramePtr> list) {
  if (list.size() > 1) {
    std::sort(list.begin(), list.end(), [](const JsonFramePtr& x, const JsonFramePtr& y) { return x->hash < y->hash; });
    list.erase(std::unique(list.begin(), list.end(), same_frame), list.end());
  }
  auto frames = std::make_shared<JsonFrames>();
  frames->hash = 0xF4A3;
  for (const JsonFramePtr& f : list) {
    frames->hash = mix(frames->hash, f->hash);
    frames->unique_depth = std::max(frames->unique_depth, f->unique_depth);
  }
  frames->list = std::move(list);
  return frames;
}

JsonMachine::Threads JsonMachine::threads_of(Members members) {
  std::stable_sort(members.begin(), members.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
  Threads threads;
  for (size_t i = 0; i < members.size();) {
    const GoalId goal = members[i].first;
    std::vector<JsonFramePtr> frames;
    for (; i < members.size() && members[i].first == goal; ++i) frames.push_back(std::move(members[i].second));
    threads.push_back({.a = goal, .outer = frames_of(std::move(frames))});
  }
  return threads;
}

JsonMachine::Threads JsonMachine::merged(std::vector<JsonFramePtr> frames) {
  Threads threads;
  const auto has_clauses = [&](const JsonFrame& f) {
    return f.is_object && !language_.object(f.shape).rules.clauses.empty();
  };
  if (frames.size() > 1) {
    std::sort(frames.begin(), frames.end(), [](const JsonFramePtr& x, const JsonFramePtr& y) {
      return x->own_hash != y->own_hash ? x->own_hash < y->own_hash : x->hash < y->hash;
    });
    frames.erase(std::unique(frames.begin(), frames.end(), same_frame), frames.end());
  }
  for (size_t i = 0; i < frames.size();) {
    const size_t first = i;
    for (++i; i < frames.size() && same_own(*frames[i], *frames[first]);) ++i;
    if (i == first + 1) {
      if (!has_clauses(*frames[first]) || object_viable(*frames[first]))
        threads.push_back({.frame = std::move(frames[first])});
      continue;
    }
    // The same text met what any of them says that it met.
    JsonFrame one = *frames[first];
    one.permitted.clear();
    one.other_permitted = -1;
    std::vector<JsonFramePtr> outer;
    for (size_t k = first; k < i; ++k) {
      one.witnessed |= frames[k]->witnessed;
      if (frames[k]->outer) outer.insert(outer.end(), frames[k]->outer->list.begin(), frames[k]->outer->list.end());
    }
    if (has_clauses(one) && !object_viable(one)) continue;
    if (!one.outer) {
      threads.push_back({.frame = finish(std::move(one))});
      continue;
    }
    one.outer = frames_of(std::move(outer));
    one.unique_depth = static_cast<uint16_t>(frames[first]->unique_depth - frames[first]->outer->unique_depth +
                                             one.outer->unique_depth);
    threads.push_back({.frame = finish(std::move(one))});
  }
  return threads;
}

JsonFramePtr JsonMachine::open_object(ShapeId id, const JsonFramesPtr& outer) {
  JsonFrame f;
  f.shape = id;
  f.is_object = true;
  f.used.resize((language_.object(id).names.size() + 63) / 64);
  f.unique_depth = outer ? outer->unique_depth : 0;
  f.outer = outer;
  return object_viable(f) ? finish(std::move(f)) : nullptr;
}

bool JsonMachine::object_viable(const JsonFrame& f) {
  return language_.completable(language_.object(f.shape), f.used, f.count, f.witnessed);
}

bool JsonMachine::object_closable(const JsonFrame& f) {
  return language_.complete(language_.object(f.shape), f.used, f.count, f.witnessed);
}

void JsonMachine::permit(const JsonFrame& f) {
  if (f.other_permitted >= 0) return;
  ObjectShape& shape = language_.object(f.shape);
  f.permitted.assign(f.used.size(), 0);
  const bool alone = shape.rules.clauses.empty() && shape.needs.empty();
  // A name that nothing else depends on takes a place and no more.
  const bool room = language_.completable(shape, f.used, f.count + 1, f.witnessed);
  const bool ordered = !shape.rank.empty();
  const uint32_t reached = SchemaLanguage::reached(shape, f.used, f.count);
  const std::vector<bool> in_order = ordered && alone ? permitted_in_order(f) : std::vector<bool>();
  std::vector<uint64_t> used = f.used;
  for (size_t i = 0; i < shape.names.size(); ++i) {
    const uint64_t bit = uint64_t{1} << (i & 63);
    if ((f.used[i >> 6] & bit) != 0 || !language_.name_possible(shape, i)) continue;
    if (ordered && shape.rank[i] < reached) continue;
    bool possible = ordered ? alone && in_order[i] : room || (alone && shape.required[i]);
    if (!alone && (ordered || shape.in_clause[i] || !possible)) {
      uint64_t met = f.witnessed;
      bool by_value = false;  // whether a certain value, or the name itself, meets more
      for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
        if ((f.witnessed >> c & 1) != 0) continue;
        for (size_t k = 0; k < shape.clause_names[c].size(); ++k) {
          const ObjectRules::Option& o = shape.rules.clauses[c][k];
          if (o.kind >= ObjectRules::Option::Kind::kPattern && o.kind <= ObjectRules::Option::Kind::kName)
            by_value = true;
          if (o.kind != ObjectRules::Option::Kind::kMember || shape.clause_names[c][k] != i) continue;
          if (o.value.schema == kNoSchema) {
            met |= uint64_t{1} << c;
          } else {
            by_value = true;
          }
        }
      }
      used[i >> 6] |= bit;
      possible = language_.completable(shape, used, f.count + 1, met);
      used[i >> 6] &= ~bit;
      if (!possible && by_value) {
        Members ways;
        add_member(f, i, nullptr, &ways);
        possible = !ways.empty();
      }
    }
    if (possible) f.permitted[i >> 6] |= bit;
  }
  // Other names can meet clauses too; which ones is left to the end of the name.
  uint64_t met = f.witnessed;
  for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
    for (const ObjectRules::Option& o : shape.rules.clauses[c]) {
      if (o.kind >= ObjectRules::Option::Kind::kPattern && o.kind <= ObjectRules::Option::Kind::kName)
        met |= uint64_t{1} << c;
    }
  }
  f.other_permitted = room || (met != f.witnessed && language_.completable(shape, f.used, f.count + 1, met)) ? 1 : 0;
}

// Where members depend on nothing but their order and number: a name may come if all that have to come before it have,
// and if those behind it are enough and not too many.
std::vector<bool> JsonMachine::permitted_in_order(const JsonFrame& f) {
  ObjectShape& shape = language_.object(f.shape);
  const uint32_t reached = SchemaLanguage::reached(shape, f.used, f.count);
  std::vector<uint32_t> left;
  for (uint32_t i = 0; i < shape.names.size(); ++i) {
    if ((f.used[i >> 6] >> (i & 63) & 1) == 0 && shape.rank[i] >= reached && language_.name_possible(shape, i))
      left.push_back(i);
  }
  std::sort(left.begin(), left.end(), [&](uint32_t x, uint32_t y) { return shape.rank[x] < shape.rank[y]; });
  uint32_t latest = ObjectShape::kUnranked;  // rank of the first that has to come
  for (const uint32_t i : left) {
    if (shape.required[i]) latest = std::min(latest, shape.rank[i]);
  }
  const bool others = language_.other_names(shape) != language_.pool().none();
  std::vector<bool> permitted(shape.names.size());
  int64_t needed = 0, available = 0;  // of those behind
  for (size_t end = left.size(); end > 0;) {
    // Those of one rank, which are behind each other: only names without a rank are several.
    size_t begin = end - 1;
    while (begin > 0 && shape.rank[left[begin - 1]] == shape.rank[left[end - 1]]) --begin;
    available += static_cast<int64_t>(end - begin);
    for (size_t k = begin; k < end; ++k) needed += shape.required[left[k]] ? 1 : 0;
    for (size_t k = begin; k < end; ++k) {
      const uint32_t i = left[k];
      permitted[i] = shape.rank[i] <= latest && f.count + needed + (shape.required[i] ? 0 : 1) <= shape.rules.max &&
                     (others || f.count + available >= shape.rules.min);
    }
    end = begin;
  }
  return permitted;
}

bool JsonMachine::any_permitted(const JsonFrame& f) {
  permit(f);
  if (std::any_of(f.permitted.begin(), f.permitted.end(), [](uint64_t w) { return w != 0; })) return true;
  return f.other_permitted != 0 && language_.other_names(language_.object(f.shape)) != language_.pool().none();
}

// The ways to have one more member: its goal and the frame after it.
void JsonMachine::add_member(const JsonFrame& f, size_t name, const std::string* other, Members* out) {
  ObjectShape& shape = language_.object(f.shape);
  JsonFrame base = f;
  base.permitted.clear();
  base.other_permitted = -1;
  ++base.count;
  GoalId goal;
  std::string_view text;
  if (other == nullptr) {
    base.used[name >> 6] |= uint64_t{1} << (name & 63);
    goal = shape.goals[name];
    text = shape.names[name];
  } else {
    auto seen = std::make_shared<std::vector<std::string>>(f.seen ? *f.seen : std::vector<std::string>());
    seen->insert(std::lower_bound(seen->begin(), seen->end(), *other), *other);
    base.seen = std::move(seen);
    text = *other;
    goal = language_.other_goal(shape, language_.match(shape, text), language_.places().member(shape.place, text));
  }
  using Option = ObjectRules::Option;
  // What else the value may be to meet clauses, and which.
  std::vector<std::pair<SchemaLiteral, uint64_t>> candidates;
  uint64_t met = f.witnessed;
  for (size_t c = 0; c < shape.rules.clauses.size(); ++c) {
    const uint64_t bit = uint64_t{1} << c;
    if ((met & bit) != 0) continue;
    for (const Option& o : shape.rules.clauses[c]) {
      bool applies = false;
      switch (o.kind) {
        case Option::Kind::kMember: applies = o.name == text; break;
        case Option::Kind::kPattern: applies = language_.matches(o.pattern, text); break;
        case Option::Kind::kName:
          if (language_.matches(language_.strings(language_.goal({o.value})), text)) met |= bit;
          continue;
        case Option::Kind::kAdditional: {
          const SchemaNode& n = language_.schema().node(o.scope);
          applies =
              std::none_of(n.properties.begin(), n.properties.end(), [&](const auto& p) { return p.first == text; }) &&
              std::none_of(n.pattern_properties.begin(), n.pattern_properties.end(),
                           [&](const auto& p) { return language_.matches(p.first, text); });
          break;
        }
        default: break;
      }
      if (!applies) continue;
      if (o.value.schema == kNoSchema) {
        met |= bit;
      } else if (language_.satisfiable(language_.goal_with(goal, {o.value}))) {
        // What holds of all values here needs no thread of its own.
        if (o.value.negative && !language_.satisfiable(language_.goal_with(goal, {{o.value.schema, false}}))) {
          met |= bit;
        } else {
          candidates.emplace_back(o.value, bit);
        }
      }
    }
  }
  std::erase_if(candidates, [&](const auto& c) { return (met & c.second) != 0; });
  std::sort(candidates.begin(), candidates.end());
  for (size_t i = 1; i < candidates.size();) {
    if (candidates[i].first != candidates[i - 1].first) {
      ++i;
      continue;
    }
    candidates[i - 1].second |= candidates[i].second;
    candidates.erase(candidates.begin() + static_cast<ptrdiff_t>(i));
  }
  const auto can = [&](uint64_t bits) { return language_.completable(shape, base.used, base.count, bits); };
  uint64_t all = met;
  for (const auto& [value, bits] : candidates) all |= bits;
  if (!can(all)) return;
  // What nothing but this value can meet, the value has to. Whether it meets the rest is found out: a thread for each
  // candidate, and where several of them get through to the end, merged() joins what they found.
  std::vector<SchemaLiteral> needed;
  uint64_t needed_bits = met;
  std::vector<std::pair<SchemaLiteral, uint64_t>> optional;
  for (size_t i = 0; i < candidates.size(); ++i) {
    uint64_t others = met;
    for (size_t k = 0; k < candidates.size(); ++k) others |= k == i ? 0 : candidates[k].second;
    if (can(others)) {
      optional.push_back(candidates[i]);
    } else {
      needed.push_back(candidates[i].first);
      needed_bits |= candidates[i].second;
    }
  }
  const auto add = [&](GoalId own, uint64_t bits) {
    JsonFrame next = base;
    next.witnessed = bits;
    out->emplace_back(own, finish(std::move(next)));
  };
  const GoalId own = needed.empty() ? goal : language_.goal_with(goal, needed);
  if (!language_.satisfiable(own)) return;
  if (can(needed_bits)) add(own, needed_bits);
  for (const auto& [value, bits] : optional) {
    const GoalId with = language_.goal_with(own, {value});
    if (language_.satisfiable(with)) add(with, needed_bits | bits);
  }
}

JsonFramePtr JsonMachine::open_array(ShapeId id, const JsonFramesPtr& outer) {
  JsonFrame f;
  f.shape = id;
  f.contained.resize(language_.array(id).rules.contains.size());
  f.unique_depth =
      static_cast<uint16_t>((outer ? outer->unique_depth : 0) + (language_.array(id).rules.unique ? 1 : 0));
  f.outer = outer;
  return array_viable(f) ? finish(std::move(f)) : nullptr;
}

bool JsonMachine::array_viable(const JsonFrame& f) {
  ArrayShape& shape = language_.array(f.shape);
  const ArrayRules& rules = shape.rules;
  if (f.count > rules.max) return false;
  for (int64_t i = f.count; i < rules.min && i <= f.count + static_cast<int64_t>(shape.prefix); ++i) {
    if (!language_.satisfiable(language_.item_goal(shape, i))) return false;
  }
  const int64_t room = rules.max - f.count;
  const bool more = room > 0 && language_.satisfiable(language_.item_goal(shape, f.count)) &&
                    (!rules.unique || any_left(language_.item_goal(shape, f.count), f, 1));
  if (!more && f.count < rules.min) return false;
  // Items that have to come are alike behind the prefix.
  const int64_t alike = rules.min - std::max(f.count, static_cast<int64_t>(shape.prefix));
  if (rules.unique && alike > 1 && !any_left(shape.goals.back(), f, alike)) return false;
  for (size_t i = 0; i < rules.contains.size(); ++i) {
    if (f.contained[i] > rules.contains[i].max) return false;
    const int64_t needed = rules.contains[i].min - f.contained[i];
    if (needed > 0 && (!more || needed > room)) return false;
    if (!language_.contains_possible(shape, f.count, rules.contains[i], f.contained[i])) return false;
  }
  for (size_t w = 0; w < rules.witnesses.size() && w < 32; ++w) {
    if ((f.witnessed >> w & 1) == 0 && !language_.witness_possible(shape, f.count, rules.witnesses[w])) return false;
  }
  if (!language_.counts_possible(shape, f.count, f.contained, f.witnessed)) return false;
  return more || std::popcount(f.witnessed) >= static_cast<int>(rules.witnesses.size());
}

// Whether the goal has `needed` values that the array has not; where values are many there always are.
bool JsonMachine::any_left(GoalId goal, const JsonFrame& f, int64_t needed) {
  if (needed <= 1 && !f.seen) return true;
  const auto& values = language_.few_values(goal);
  if (!values) return true;
  int64_t left = static_cast<int64_t>(values->size());
  if (f.seen) {
    for (const std::string& value : *f.seen) left -= std::binary_search(values->begin(), values->end(), value) ? 1 : 0;
  }
  return left >= needed;
}

bool JsonMachine::array_closable(const JsonFrame& f) {
  const ArrayRules& rules = language_.array(f.shape).rules;
  if (f.count < rules.min || f.count > rules.max ||
      std::popcount(f.witnessed) < static_cast<int>(rules.witnesses.size()))
    return false;
  for (size_t i = 0; i < rules.contains.size(); ++i) {
    if (f.contained[i] < rules.contains[i].min) return false;
  }
  return true;
}

// The ways to have one more item.
void JsonMachine::add_items(const JsonFramePtr& f, uint32_t item_begin, Members* out) {
  const ArrayShape& shape = language_.array(f->shape);
  const ArrayRules& rules = shape.rules;
  if (f->count >= rules.max) return;
  JsonFrame base = *f;
  ++base.count;
  base.item_begin = rules.unique ? item_begin : 0;
  struct Way {
    std::vector<SchemaLiteral> more;
    JsonFrame frame;
  };
  std::vector<Way> ways = {{{}, std::move(base)}};
  const auto split = [&](SchemaLiteral literal, bool must_know, auto&& count) {
    const size_t n = ways.size();
    for (size_t i = 0; i < n; ++i) {
      Way with = ways[i];
      with.more.push_back(literal);
      count(&with.frame);
      if (must_know) ways[i].more.push_back({literal.schema, !literal.negative});
      ways.push_back(std::move(with));
    }
  };
  for (size_t i = 0; i < rules.contains.size(); ++i) {
    const ArrayRules::Contains& c = rules.contains[i];
    if (c.max == INT64_MAX && f->contained[i] >= c.min) continue;
    split(c.value, c.max != INT64_MAX, [i](JsonFrame* frame) { ++frame->contained[i]; });
  }
  for (size_t w = 0; w < rules.witnesses.size() && w < 32; ++w) {
    if ((f->witnessed >> w & 1) != 0 || f->count < rules.witnesses[w].from) continue;
    split(rules.witnesses[w].value, false, [w](JsonFrame* frame) { frame->witnessed |= 1u << w; });
  }
  const GoalId goal = language_.item_goal(shape, f->count);
  for (Way& way : ways) {
    const GoalId own = language_.goal_with(goal, way.more);
    if (!language_.satisfiable(own) || (rules.unique && !any_left(own, *f, 1)) || !array_viable(way.frame)) continue;
    JsonFramePtr next = finish(std::move(way.frame));
    // Where arrays or objects are few each is followed on its own, but those that the array has.
    const std::vector<GoalId>* each = rules.unique && f->seen ? &language_.value_goals(own) : nullptr;
    if (each == nullptr || each->empty()) {
      out->emplace_back(own, std::move(next));
      continue;
    }
    const std::vector<std::string>& values = *language_.few_values(own);
    for (size_t i = 0; i < values.size(); ++i) {
      if (!std::binary_search(f->seen->begin(), f->seen->end(), values[i])) out->emplace_back((*each)[i], next);
    }
  }
}

std::optional<JsonState> JsonMachine::completed(std::vector<JsonFramePtr> frames, const JsonState& from, char last) {
  std::erase_if(frames, [&](JsonFramePtr& f) {
    if (f->is_object || !language_.array(f->shape).rules.unique || !from.item) return false;
    std::string text = from.item->from(f->item_begin);
    if (last != 0) text += last;
    const Result<JsonNode> item = parse_json_tree(text);
    if (!item.ok()) return true;
    const std::string canonical = canonical_json(*item);
    auto seen = std::make_shared<std::vector<std::string>>(f->seen ? *f->seen : std::vector<std::string>());
    const auto at = std::lower_bound(seen->begin(), seen->end(), canonical);
    if (at != seen->end() && *at == canonical) return true;
    seen->insert(at, canonical);
    JsonFrame next = *f;
    next.seen = std::move(seen);
    f = finish(std::move(next));
    return false;
  });
  return made(JsonPhase::kAfter, merged(std::move(frames)), from);
}

RegexId JsonMachine::without_seen(GoalId goal, const JsonFrame& frame, bool strings) {
  RegexPool& pool = language_.pool();
  const RegexId language = strings ? language_.strings(goal) : language_.scalars(goal);
  if (language == pool.none() || frame.is_object || !frame.seen || !language_.array(frame.shape).rules.unique)
    return language;
  std::vector<RegexId> seen;
  for (const std::string& value : *frame.seen) {
    if (strings && value[0] == '"') {
      const std::string_view text = std::string_view(value).substr(value.find(':') + 1);
      if (pool.knows(text)) seen.push_back(pool.literal(text));
    } else if (!strings && (value[0] == 'n' || value[0] == 't' || value[0] == 'f')) {
      const JsonTexts& texts = language_.schema().texts();
      seen.push_back(value[0] == 'n' ? texts.null : value[0] == 't' ? texts.true_ : texts.false_);
    } else if (!strings && (value[0] == '+' || value[0] == '-') && language_.few_scalars(goal)) {
      // The canonical form is sign, digits, exponent.
      const Result<RegexId> number = number_equal_to(parse_decimal(value.substr(value[0] == '+' ? 1 : 0)), &pool);
      if (number.ok()) seen.push_back(*number);
    }
  }
  const RegexId rest = pool.conj({language, pool.negate(pool.alt(std::move(seen)))});
  return pool.live(rest) ? rest : pool.none();
}

std::optional<JsonState> JsonMachine::close(const JsonState& state, bool is_object) {
  std::vector<JsonFramePtr> frames;
  bool whole = false;
  for (const JsonThread& t : state.threads) {
    if (t.frame->is_object != is_object || !(is_object ? object_closable(*t.frame) : array_closable(*t.frame)))
      continue;
    if (t.frame->outer) {
      frames.insert(frames.end(), t.frame->outer->list.begin(), t.frame->outer->list.end());
    } else {
      whole = true;
    }
  }
  if (whole) return made(JsonPhase::kEnd, {JsonThread{}}, state);
  return completed(std::move(frames), state, is_object ? '}' : ']');
}

std::optional<JsonState> JsonMachine::step_after(const JsonState& state, uint8_t byte) {
  if (byte == '}' || byte == ']') return close(state, byte == '}');
  if (byte != ',') return std::nullopt;
  // All threads are in the same kind of container: they read the same text.
  const bool is_object = state.threads[0].frame->is_object;
  if (is_object) {
    Threads threads;
    for (const JsonThread& t : state.threads) {
      if (any_permitted(*t.frame)) threads.push_back({.frame = t.frame});
    }
    return made(JsonPhase::kNextName, std::move(threads), state);
  }
  Members items;
  for (const JsonThread& t : state.threads) {
    add_items(t.frame, static_cast<uint32_t>(state.item ? state.item->size() + 1 : 0), &items);
  }
  return made(JsonPhase::kValue, threads_of(std::move(items)), state);
}

// --- For masks -------------------------------------------------------------------------------------------------------

bool JsonMachine::only_length(const JsonState& state, int* min, int* max) {
  if (state.phase != JsonPhase::kString || state.cursor.kind != CharCursor::Kind::kBetween || state.item) return false;
  // One language for all: then all threads end at the same places.
  for (const JsonThread& t : state.threads) {
    if (t.a != state.threads[0].a) return false;
  }
  return language_.pool().any_of_length(state.threads[0].a, min, max);
}

std::optional<JsonState> JsonMachine::after_string(const JsonState& state) {
  std::vector<JsonFramePtr> frames;
  for (const JsonThread& t : state.threads) {
    if (!t.outer) return made(JsonPhase::kEnd, {JsonThread{}}, state);
    frames.insert(frames.end(), t.outer->list.begin(), t.outer->list.end());
  }
  return completed(std::move(frames), state, '"');
}

bool JsonMachine::other_names_alike(const JsonState& state) {
  if (state.phase != JsonPhase::kName || state.cursor.kind != CharCursor::Kind::kBetween || state.item ||
      state.threads.size() != 1)
    return false;
  const JsonThread& t = state.threads[0];
  const ObjectShape& shape = language_.object(t.frame->shape);
  return t.d == language_.pool().any_text() && shape.patterns.empty() && shape.rules.clauses.empty() &&
         (shape.names.empty() || !shape.names[0].empty()) && language_.places().patterns(shape.place).empty();
}

std::optional<JsonState> JsonMachine::after_other_name(const JsonState& state) {
  Members members;
  const std::string any;
  add_member(*state.threads[0].frame, SIZE_MAX, &any, &members);
  return made(JsonPhase::kColon, threads_of(std::move(members)), state);
}

bool JsonMachine::endings(const JsonState& state, std::vector<RegexId>* languages,
                          std::vector<std::string_view>* exact) {
  RegexPool& pool = language_.pool();
  if (state.phase == JsonPhase::kString) {
    for (const JsonThread& t : state.threads) {
      languages->push_back(t.a);
      if (!state.item || !t.outer) continue;
      for (const JsonFramePtr& f : t.outer->list) {
        // Each text leaves other items to come.
        if (f->is_object || !language_.array(f->shape).rules.unique) continue;
        const RegexId next = language_.strings(language_.item_goal(language_.array(f->shape), f->count));
        if (next != pool.none() && !pool.infinite(next)) return false;
        if (!f->seen) continue;
        // A text that is there already ends nothing.
        const Result<JsonNode> begun = parse_json_tree(state.item->from(f->item_begin) + '"');
        if (!begun.ok() || !begun->is_string()) return false;
        for (const std::string& value : *f->seen) {
          if (value[0] != '"') continue;
          const std::string_view text = std::string_view(value).substr(value.find(':') + 1);
          if (text.starts_with(begun->text)) exact->push_back(text.substr(begun->text.size()));
        }
      }
    }
  } else {
    for (const JsonThread& t : state.threads) {
      const ObjectShape& shape = language_.object(t.frame->shape);
      for (uint32_t i = t.a; i < t.b; ++i) exact->push_back(std::string_view(shape.names[i]).substr(t.c));
      if (t.d == pool.none() || !state.name) continue;
      languages->push_back(t.d);
      if (t.frame->seen) {
        for (const std::string& name : *t.frame->seen) {
          if (name.starts_with(*state.name)) exact->push_back(std::string_view(name).substr(state.name->size()));
        }
      }
      std::vector<RegexId> patterns = shape.patterns;
      for (const RegexId pattern : language_.places().patterns(shape.place)) patterns.push_back(pattern);
      for (const ObjectRules::Clause& clause : shape.rules.clauses) {
        for (const ObjectRules::Option& o : clause) {
          if (o.kind == ObjectRules::Option::Kind::kName)
            patterns.push_back(language_.strings(language_.goal({o.value})));
        }
      }
      for (RegexId pattern : patterns) {
        for (size_t at = 0; at < state.name->size() && pattern != pool.none();) {
          const Utf8Char c = decode_utf8(std::string_view(*state.name).substr(at));
          pattern = pool.derive(pattern, pool.class_of(c.code));
          at += static_cast<size_t>(c.size);
        }
        if (pattern != pool.none()) languages->push_back(pattern);
      }
    }
  }
  std::sort(exact->begin(), exact->end());
  std::sort(languages->begin(), languages->end());
  languages->erase(std::unique(languages->begin(), languages->end()), languages->end());
  return true;
}

std::optional<JsonState> JsonMachine::without_text(const JsonState& state) {
  const bool within =
      state.phase == JsonPhase::kString || state.phase == JsonPhase::kName || state.phase == JsonPhase::kScalar;
  if (!within || (!state.name && !state.item)) return std::nullopt;
  JsonState bare = state;
  bare.name = nullptr;
  bare.item = nullptr;
  bare.bare = true;
  // As if there had never been any.
  bare.hash = hash_of(bare.phase, bare.threads);
  if (bare.cursor.kind != CharCursor::Kind::kBetween) bare.hash = hash_with(bare.hash, bare.cursor);
  bare.hash = mix(bare.hash, 0xBA8E);
  return bare;
}

bool JsonMachine::ends_text(const JsonState& state, uint8_t byte) {
  if (state.phase == JsonPhase::kScalar) return is_delimiter(byte);
  return (state.phase == JsonPhase::kString || state.phase == JsonPhase::kName) && byte == '"' &&
         state.cursor.kind == CharCursor::Kind::kBetween;
}

bool JsonMachine::needed_names(const JsonState& state, std::array<bool, 256>* bytes) {
  bytes->fill(false);
  bool any = false;
  for (const JsonThread& t : state.threads) {
    const ObjectShape& shape = language_.object(t.frame->shape);
    const auto allow = [&](uint32_t i) {
      const std::string& name = shape.names[i];
      (*bytes)[static_cast<uint8_t>(t.c < name.size() ? name[t.c] : '"')] = true;
      any = true;
    };
    const auto is_permitted = [&](uint32_t i) { return (t.frame->permitted[i >> 6] >> (i & 63) & 1) != 0; };
    uint32_t required = t.a;
    while (required < t.b && !(shape.required[required] && is_permitted(required))) ++required;
    if (required < t.b) {
      allow(required);
      continue;
    }
    bool first = true;
    for (uint32_t i = t.a; i < t.b; ++i) {
      if (!is_permitted(i) || (!first && !shape.in_clause[i])) continue;
      allow(i);
      first = false;
    }
  }
  return any;
}

bool JsonMachine::closable(const JsonState& state) {
  const auto may_close = [&](const JsonFramePtr& f) { return f->is_object ? object_closable(*f) : array_closable(*f); };
  return std::any_of(state.threads.begin(), state.threads.end(), [&](const JsonThread& t) {
    if (state.phase != JsonPhase::kScalar) return t.frame && may_close(t.frame);
    // The value ends with the container.
    return t.outer && language_.pool().nullable(t.a) &&
           std::any_of(t.outer->list.begin(), t.outer->list.end(), may_close);
  });
}

void JsonMachine::candidates(const JsonState& state, std::array<bool, 256>* bytes) {
  RegexPool& pool = language_.pool();
  bytes->fill(false);
  const auto allow = [&](std::string_view list) {
    for (const char c : list) (*bytes)[static_cast<uint8_t>(c)] = true;
  };
  std::vector<int8_t> alive;
  const auto follow = [&](RegexId id, bool scalar) {
    if (id == pool.none()) return;
    alive.assign(static_cast<size_t>(pool.class_count()), -1);
    const auto is_alive = [&](CharClassId c) {
      if (alive[c] < 0) {
        const RegexId next = pool.derive(id, c);
        alive[c] = next != pool.none() && pool.live(next) ? 1 : 0;
      }
      return alive[c] != 0;
    };
    for (uint32_t b = scalar ? 0 : 0x20; b < 128; ++b) (*bytes)[b] = (*bytes)[b] || is_alive(pool.class_of(b));
    bool beyond = false;
    for (int c = 0; c < pool.class_count() && !beyond && !scalar; ++c) {
      beyond = pool.reaches_beyond_ascii(static_cast<CharClassId>(c)) && is_alive(static_cast<CharClassId>(c));
    }
    for (uint32_t b = 0xC2; b <= 0xF4 && beyond; ++b) (*bytes)[b] = true;
  };
  switch (state.phase) {
    case JsonPhase::kEnd: return;
    case JsonPhase::kValue:
    case JsonPhase::kArrayBegin: allow(" \n\t]\"{[-0123456789tfn"); return;
    case JsonPhase::kObjectBegin: allow(" \n\t\"}"); return;
    case JsonPhase::kNextName: allow(" \n\t\""); return;
    case JsonPhase::kColon: allow(" \n\t:"); return;
    case JsonPhase::kAfter: allow(" \n\t,}]"); return;
    case JsonPhase::kScalar:
      for (const JsonThread& t : state.threads) follow(t.a, true);
      allow(" \n\t,}]");
      return;
    case JsonPhase::kString:
    case JsonPhase::kName:
      if (state.cursor.kind != CharCursor::Kind::kBetween) {
        bytes->fill(true);
        return;
      }
      allow("\"\\");
      for (const JsonThread& t : state.threads) {
        if (state.phase == JsonPhase::kString) {
          follow(t.a, false);
          continue;
        }
        follow(t.d, false);
        const std::vector<std::string>& names = language_.object(t.frame->shape).names;
        for (uint32_t i = t.a; i < t.b; ++i) {
          if (names[i].size() > t.c) (*bytes)[static_cast<uint8_t>(names[i][t.c])] = true;
        }
      }
      return;
  }
}

}  // namespace decant
