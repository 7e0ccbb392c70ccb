// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
//
// The commands and their options as data, read from the definitions that also parse and print the help; and what is
// generated from it: completion for shells and the tables in docs/cli.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace decant::cli {

// What a value may be, as far as a shell can help.
enum class ValueKind { kText, kChoice, kFile, kFolder, kModel };

struct OptionDescription {
  std::vector<std::string> names;    // with dashes, short ones first; of an argument: its name
  std::vector<std::string> aliases;  // accepted, and not in the help
  std::string type;                  // "N", "FILE", ...; "" for flags and arguments
  std::string summary;
  std::string group;
  std::vector<std::string> choices;
  ValueKind kind = ValueKind::kText;
  bool is_flag = false;
  bool is_argument = false;  // no dashes: found by its place
  bool required = false;
  bool repeatable = false;
};

struct CommandDescription {
  std::string name;
  std::string summary;
  std::string examples;  // and other text that ends the help
  std::vector<OptionDescription> options;
};

struct ProgramDescription {
  CommandDescription program;
  std::vector<CommandDescription> commands;
};

// From the definitions in options.cc.
ProgramDescription describe_program();

// A script for "bash", "zsh" or "fish"; "" for another shell. It calls `decant completion models` for names after -m.
std::string completion_script(const ProgramDescription& program, std::string_view shell);

// The generated parts of docs/cli.md, each between a line that names the command and a line that ends it;
// scripts/cli_docs.py puts them where they belong.
std::string markdown_parts(const ProgramDescription& program);

}  // namespace decant::cli
