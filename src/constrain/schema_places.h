// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The places of values in a schema, which decide the order of members (PropertyOrder::kSchema). A place is reached by
// names and indexes from the root, whatever the values on the way are: so all alternatives of a value agree on it, and
// the order takes texts away without changing which values there are.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "constrain/schema.h"

namespace decant {

using PlaceId = uint32_t;
inline constexpr PlaceId kNoPlace = 0;  // no order is asked for, here and within

class SchemaPlaces {
 public:
  explicit SchemaPlaces(Schema* schema) : schema_(*schema) { places_.emplace_back(std::make_unique<Place>()); }

  PlaceId root();
  // Of the value of a member and of an item.
  PlaceId member(PlaceId place, std::string_view name);
  PlaceId item(PlaceId place, int64_t index);

  // The names that come first, in their order.
  const std::vector<std::string_view>& names(PlaceId place) const { return places_[place]->names; }
  // That tell other names apart.
  const std::vector<RegexId>& patterns(PlaceId place) const { return places_[place]->patterns; }
  // Items of this index and later ones have the same place.
  int64_t prefix(PlaceId place) const { return static_cast<int64_t>(places_[place]->prefix); }
  // Whether there were too many: then kNoPlace stands for others.
  bool exhausted() const { return work_ > kMaxWork; }

 private:
  struct Place {
    std::vector<SchemaId> nodes;  // that say something of members or items, in the order of the text
    std::vector<std::string_view> names;
    std::vector<RegexId> patterns;
    // By name: which of the nodes have it, and what they say.
    std::unordered_map<std::string_view, std::vector<std::pair<SchemaId, SchemaId>>> named;
    size_t prefix = 0;
    std::unordered_map<std::string_view, PlaceId> members;
    std::optional<PlaceId> other_members;  // where there are no patterns
    std::map<size_t, PlaceId> items;
  };

  // Where all of these apply.
  PlaceId where(const std::vector<SchemaId>& schemas);
  std::vector<SchemaId> in_place(const std::vector<SchemaId>& schemas);

  static constexpr size_t kMaxWork = 20'000'000;  // schemas read, over and over

  Schema& schema_;
  size_t work_ = 0;
  std::vector<std::unique_ptr<Place>> places_;
  std::map<std::vector<SchemaId>, PlaceId> ids_;
};

}  // namespace decant
