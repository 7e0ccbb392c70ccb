// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "cli/sse.h"

#include <gtest/gtest.h>

#include <vector>

namespace decant::cli {
namespace {

// "name=data" of each event, fed in pieces of `piece` bytes.
std::vector<std::string> events(std::string_view stream, size_t piece) {
  SseParser parser;
  std::vector<std::string> out;
  for (size_t i = 0; i < stream.size(); i += piece) {
    EXPECT_TRUE(parser.add(stream.substr(i, piece), [&](const SseEvent& e) { out.push_back(e.name + "=" + e.data); }));
  }
  return out;
}

TEST(Sse, EventsAreTheSameHoweverTheBytesAreCut) {
  const std::string stream =
      "\xef\xbb\xbf"
      "data: {\"a\": 1}\n\n"
      ": a comment\n\n"
      "event: error\r\ndata: one\r\ndata:two\r\n\r\n"
      "id: 7\rdata:  kept blank\r\r"
      "event: nothing\n\n"
      "data\n\n"
      "data: [DONE]\n\n"
      "data: without an end\n";
  const std::vector<std::string> expected = {"message={\"a\": 1}", "error=one\ntwo", "message= kept blank",
                                             "message=", "message=[DONE]"};
  for (size_t piece = 1; piece <= stream.size(); ++piece) EXPECT_EQ(events(stream, piece), expected) << piece;
}

TEST(Sse, AnEventThatIsTooLongEndsTheStream) {
  SseParser parser(10);
  int count = 0;
  const auto on_event = [&](const SseEvent&) { ++count; };
  EXPECT_TRUE(parser.add("data: abc\n\n", on_event));
  EXPECT_TRUE(parser.add("data: abc\n", on_event));
  EXPECT_FALSE(parser.add("data: defgh\n\n", on_event));
  EXPECT_FALSE(parser.add("data: x\n\n", on_event));
  EXPECT_EQ(count, 1);
}

}  // namespace
}  // namespace decant::cli
