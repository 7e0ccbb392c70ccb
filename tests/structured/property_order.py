# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""What `--property-order schema` asks of a value, said a second time and for draft 2020-12: see docs/structured.md.

A place is the list of schemas that apply to a value, in the order of the text.
"""
import validator


class Order:
    def __init__(self, root):
        self.root_schema = root
        self.constants = {}
        self.places = {}
        self.root = self.place([root])

    def ordered(self, value, place=None):
        place = self.root if place is None else place
        if isinstance(value, dict):
            order = list(dict.fromkeys(name for schema in place for name in schema.get("properties", {})))
            ranks = [order.index(name) if name in order else len(order) for name in value]
            return ranks == sorted(ranks) and all(self.ordered(v, self.member(place, k)) for k, v in value.items())
        if isinstance(value, list):
            return all(self.ordered(v, self.item(place, i)) for i, v in enumerate(value))
        return True

    def place(self, schemas):
        nodes, met = [], set()
        for schema in schemas:
            self.read(schema, nodes, met)
        return nodes

    def read(self, schema, nodes, met):
        if not isinstance(schema, dict) or id(schema) in met:
            return
        met.add(id(schema))
        own = [schema]
        for keyword, value in schema.items():
            if keyword == "properties":
                nodes += own
                own = []
            elif keyword in ("allOf", "anyOf", "oneOf"):
                for part in value:
                    self.read(part, nodes, met)
            elif keyword == "dependentSchemas":
                for part in value.values():
                    self.read(part, nodes, met)
            elif keyword == "$ref":
                target = self.root_schema
                for step in value.split("/")[1:]:
                    target = target[step]
                self.read(target, nodes, met)
            elif keyword == "if" or (keyword in ("then", "else") and "if" in schema):
                self.read(value, nodes, met)
        nodes += own
        for value in schema.get("enum", [schema["const"]] if "const" in schema else []):
            constant = self.constant(value)
            if id(constant) not in met:
                met.add(id(constant))
                nodes.append(constant)

    def constant(self, value):
        if id(value) not in self.constants:
            schema = {}
            if isinstance(value, dict):
                schema = {"properties": {k: self.constant(v) for k, v in value.items()}}
            elif isinstance(value, list):
                schema = {"prefixItems": [self.constant(v) for v in value]}
            self.constants[id(value)] = (value, schema)  # keeps the value, and so its id
        return self.constants[id(value)][1]

    def member(self, place, name):
        schemas = []
        for schema in place:
            own = [schema["properties"][name]] if name in schema.get("properties", {}) else []
            own += [s for pattern, s in schema.get("patternProperties", {}).items() if validator.compiled(pattern).find(name)]
            schemas += own or [schema[k] for k in ("additionalProperties", "unevaluatedProperties") if k in schema][:1]
        return self.place(schemas)

    def item(self, place, index):
        schemas = []
        for schema in place:
            prefix = schema.get("prefixItems", [])
            schemas += [prefix[index]] if index < len(prefix) else [schema[k] for k in ("items", "unevaluatedItems") if k in schema][:1]
        return self.place(schemas)
