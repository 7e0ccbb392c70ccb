// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The input is a regular expression, a zero byte, and a text. What parses is derived by the text; an expression that
// can still match is live, as long as no search gave up.
#include <cstddef>
#include <cstdint>
#include <string>

#include "constrain/regex.h"
#include "fuzz/scratch_folder.h"
#include "text/unicode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 256) return 0;
  const auto [pattern_bytes, text_bytes] = decant::fuzz::split_at_zero({data, size});
  const std::string pattern(pattern_bytes.begin(), pattern_bytes.end()), text(text_bytes.begin(), text_bytes.end());
  for (const decant::RegexDialect dialect : {decant::RegexDialect::kSearch, decant::RegexDialect::kFull}) {
    decant::RegexPool pool;
    const auto id = decant::parse_regex(pattern, dialect, &pool);
    if (!id.ok()) continue;
    pool.freeze();
    decant::RegexId at = *id;
    for (size_t i = 0; i < text.size() && at != pool.none() && pool.size() < 20000;) {
      const decant::Utf8Char c = decant::decode_utf8(std::string_view(text).substr(i));
      at = pool.derive(at, pool.class_of(c.code));
      i += c.size;
    }
    if (pool.nullable(at)) DECANT_CHECK(pool.live(at));
  }
  return 0;
}
