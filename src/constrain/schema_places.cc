// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include "constrain/schema_places.h"

#include <algorithm>
#include <unordered_set>

namespace decant {

PlaceId SchemaPlaces::root() {
  return schema_.property_order() == PropertyOrder::kSchema ? where({schema_.root()}) : kNoPlace;
}

// All that applies to the same value, as one meets it who reads the text and follows each reference where it stands.
std::vector<SchemaId> SchemaPlaces::in_place(const std::vector<SchemaId>& schemas) {
  struct Reading {
    SchemaId id;
    size_t next = 0;
    bool listed = false;
  };
  std::vector<SchemaId> nodes;
  std::unordered_set<SchemaId> met;
  const auto list = [&](SchemaId id) {
    const SchemaNode& n = schema_.node(id);
    if (!n.properties.empty() || !n.pattern_properties.empty() || n.additional_properties != kNoSchema ||
        n.unevaluated_properties != kNoSchema || n.has_prefix || n.items != kNoSchema ||
        n.unevaluated_items != kNoSchema)
      nodes.push_back(id);
  };
  for (const SchemaId schema : schemas) {
    std::vector<Reading> open;
    if (met.insert(schema).second) open.push_back({schema});
    while (!open.empty()) {
      if (++work_ > kMaxWork) return {};
      Reading& at = open.back();
      const SchemaNode& n = schema_.node(at.id);
      if (at.next < n.in_place.size()) {
        const SchemaId next = n.in_place[at.next++];
        if (next != kNoSchema) {
          if (met.insert(next).second) open.push_back({next});
        } else if (!at.listed) {
          at.listed = true;
          list(at.id);
        }
        continue;
      }
      if (!at.listed) list(at.id);
      for (const JsonNode* value : n.values) {
        if (value->is_object() || value->is_array()) {
          const SchemaId constant = schema_.structured_constant(*value);
          if (met.insert(constant).second) list(constant);
        }
      }
      open.pop_back();
    }
  }
  return nodes;
}

PlaceId SchemaPlaces::where(const std::vector<SchemaId>& schemas) {
  std::vector<SchemaId> nodes = in_place(schemas);
  if (nodes.empty()) return kNoPlace;
  const auto [it, is_new] = ids_.emplace(nodes, static_cast<PlaceId>(places_.size()));
  if (!is_new) return it->second;
  auto place = std::make_unique<Place>();
  for (const SchemaId id : nodes) {
    const SchemaNode& n = schema_.node(id);
    for (const auto& [name, schema] : n.properties) {
      auto& with_name = place->named[name];
      if (with_name.empty()) place->names.push_back(name);
      with_name.emplace_back(id, schema);
    }
    for (const auto& [pattern, schema] : n.pattern_properties) place->patterns.push_back(pattern);
    place->prefix = std::max(place->prefix, n.prefix_items.size());
  }
  std::sort(place->patterns.begin(), place->patterns.end());
  place->patterns.erase(std::unique(place->patterns.begin(), place->patterns.end()), place->patterns.end());
  place->nodes = std::move(nodes);
  places_.push_back(std::move(place));
  return it->second;
}

PlaceId SchemaPlaces::member(PlaceId id, std::string_view name) {
  if (id == kNoPlace) return kNoPlace;
  Place& place = *places_[id];
  const auto named = place.named.find(name);
  if (named != place.named.end()) {
    if (const auto it = place.members.find(named->first); it != place.members.end()) return it->second;
  } else if (place.other_members) {
    return *place.other_members;
  }
  std::vector<SchemaId> schemas;
  size_t next = 0;
  for (const SchemaId s : place.nodes) {
    const SchemaNode& n = schema_.node(s);
    const size_t before = schemas.size();
    if (named != place.named.end() && next < named->second.size() && named->second[next].first == s)
      schemas.push_back(named->second[next++].second);
    for (const auto& [pattern, schema] : n.pattern_properties) {
      if (schema_.pool().matches(pattern, name)) schemas.push_back(schema);
    }
    if (schemas.size() > before) continue;
    const SchemaId rest = n.additional_properties != kNoSchema ? n.additional_properties : n.unevaluated_properties;
    if (rest != kNoSchema) schemas.push_back(rest);
  }
  const PlaceId found = where(schemas);
  if (named != place.named.end()) {
    place.members.emplace(named->first, found);
  } else if (place.patterns.empty()) {
    place.other_members = found;
  }
  return found;
}

PlaceId SchemaPlaces::item(PlaceId id, int64_t index) {
  if (id == kNoPlace) return kNoPlace;
  Place& place = *places_[id];
  const size_t at = std::min(static_cast<size_t>(index), place.prefix);
  if (const auto it = place.items.find(at); it != place.items.end()) return it->second;
  std::vector<SchemaId> schemas;
  for (const SchemaId s : place.nodes) {
    const SchemaNode& n = schema_.node(s);
    const SchemaId own = at < n.prefix_items.size() ? n.prefix_items[at]
                         : n.items != kNoSchema     ? n.items
                                                    : n.unevaluated_items;
    if (own != kNoSchema) schemas.push_back(own);
  }
  const PlaceId found = where(schemas);
  place.items.emplace(at, found);
  return found;
}

}  // namespace decant
