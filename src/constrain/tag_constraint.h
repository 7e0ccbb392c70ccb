// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// Structural tags: free text in which certain texts begin a structure, such as a tool call. A trigger that comes up in
// the free text is the beginning of some structure's begin tag; its content follows, which a constraint of its own
// describes, then its end tag, and then free text again. Tokens may span all of these borders.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "constrain/constraint.h"
#include "constrain/json_vocabulary.h"

namespace decant {

struct StructuralTag {
  std::string begin;                    // may be empty where there is no free text
  std::shared_ptr<Constraint> content;  // made for the same vocabulary
  std::string end;                      // "": the structure ends where its content may
  bool last = false;                    // nothing may follow
};

// A control token, which stands for no text elsewhere, and the text that it stands for in tags.
struct TagToken {
  TokenId token;
  std::string text;
};

struct StructuralTags {
  std::vector<StructuralTag> tags;
  // Every begin tag starts with one of them. The trigger that is complete first counts, of those
  // that end with the same character the longest.
  std::vector<std::string> triggers;
  bool free_text = true;      // false: the answer is structures alone, with `separator` between them
  bool at_least_one = false;  // free_text: whether the answer may be without any structure
  std::string separator = "\n";
  std::vector<TagToken> tokens;
};

// Guarantee: masks are exact if those of the contents are. kInvalidArgument for a begin tag without a trigger, a
// trigger without a begin tag, and empty ones.
Result<std::shared_ptr<Constraint>> make_tag_constraint(StructuralTags tags,
                                                        std::shared_ptr<const JsonVocabulary> vocabulary);

}  // namespace decant
