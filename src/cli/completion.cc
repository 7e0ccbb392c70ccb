// SPDX-FileCopyrightText: The Decant authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "cli/describe.h"

namespace decant::cli {
namespace {

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

// `text` with `before` in front of each character of `characters`.
std::string escaped(std::string_view text, std::string_view characters, char before = '\\') {
  std::string out;
  for (const char c : text) {
    if (characters.find(c) != std::string_view::npos) out += before;
    out += c;
  }
  return out;
}

// As one word of a Bourne shell.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

// ---- bash. Arrays and compgen only, so that the bash-completion package is not needed.

constexpr std::string_view kBashStart = R"sh(# bash completion of decant: decant completion bash > FOLDER/decant,
# or eval "$(decant completion bash)"

# The functions read cur, the word to complete, and fill COMPREPLY.
_decant_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
_decant_files() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}
_decant_folders() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -d -- "$cur")
}
_decant_models() {
  local names
  names=$("${COMP_WORDS[0]}" completion models 2>/dev/null)
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen -W "$names" -- "$cur"; compgen -f -- "$cur")
}

_decant() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  COMPREPLY=()
  # --option=value comes as three words.
  if [[ $cur == '=' ]]; then
    cur=
  elif [[ $prev == '=' && $COMP_CWORD -gt 2 ]]; then
    prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
)sh";

std::string bash_action(const OptionDescription& o) {
  switch (o.kind) {
    case ValueKind::kText: return ":";
    case ValueKind::kChoice: return "_decant_words " + quoted(join(o.choices, " "));
    case ValueKind::kFile: return "_decant_files";
    case ValueKind::kFolder: return "_decant_folders";
    case ValueKind::kModel: return "_decant_models";
  }
  return ":";
}

std::string all_names(const CommandDescription& command) {
  std::vector<std::string> names;
  for (const OptionDescription& o : command.options) {
    if (!o.is_argument) names.insert(names.end(), o.names.begin(), o.names.end());
  }
  return join(names, " ");
}

std::string bash_script(const ProgramDescription& program) {
  std::string out(kBashStart);
  std::vector<std::string> commands;
  for (const CommandDescription& c : program.commands) commands.push_back(c.name);
  out += fmt::format("  if [[ $COMP_CWORD -eq 1 ]]; then\n    _decant_words {}\n    return\n  fi\n  case $command in\n",
                     quoted(join(commands, " ") + " " + all_names(program.program)));
  for (const CommandDescription& c : program.commands) {
    out += fmt::format("    {})\n      case $prev in\n", c.name);
    std::string argument = ":";
    for (const OptionDescription& o : c.options) {
      if (o.is_argument) {
        argument = bash_action(o);
      } else if (!o.is_flag) {
        std::vector<std::string> names = o.names;
        names.insert(names.end(), o.aliases.begin(), o.aliases.end());
        out += fmt::format("        {}) {}; return ;;\n", join(names, " | "), bash_action(o));
      }
    }
    out += fmt::format("      esac\n      if [[ $cur == -* ]]; then _decant_words {}; else {}; fi\n      ;;\n",
                       quoted(all_names(c)), argument);
  }
  return out + "  esac\n}\ncomplete -F _decant decant\n";
}

// ---- zsh.

constexpr std::string_view kZshStart = R"sh(#compdef decant
# zsh completion of decant: decant completion zsh > FOLDER/_decant with FOLDER in fpath,
# or eval "$(decant completion zsh)"

_decant_models() {
  local -a names
  names=(${(f)"$(_call_program models decant completion models 2>/dev/null)"})
  _alternative "models:model:(${names[*]})" 'files:file:_files'
}

_decant() {
  local context state state_descr line
  typeset -A opt_args
  _arguments -C \
)sh";

std::string zsh_action(const OptionDescription& o) {
  switch (o.kind) {
    case ValueKind::kText: return " ";
    case ValueKind::kChoice: return "(" + escaped(join(o.choices, " "), ":()\\") + ")";
    case ValueKind::kFile: return "_files";
    case ValueKind::kFolder: return "_files -/";
    case ValueKind::kModel: return "_decant_models";
  }
  return " ";
}

void add_zsh_option(const OptionDescription& o, std::string* out) {
  if (o.is_argument) {
    // A message for free text would keep a lone option from being inserted.
    const std::string action = o.kind == ValueKind::kText ? "{true}" : zsh_action(o);
    *out +=
        fmt::format(" \\\n        {}", quoted(fmt::format("{}:{}:{}", o.required ? "1" : "1:", o.names[0], action)));
    return;
  }
  for (const std::string& name : o.names) {
    const std::string others = o.repeatable         ? "*"
                               : o.names.size() > 1 ? fmt::format("({})", join(o.names, " "))
                                                    : std::string();
    const std::string value = o.is_flag ? "" : fmt::format(":{}:{}", escaped(o.type, ":\\"), zsh_action(o));
    const char* equals = !o.is_flag && name.starts_with("--") ? "=" : "";
    *out += fmt::format(" \\\n        {}",
                        quoted(fmt::format("{}{}{}[{}]{}", others, name, equals, escaped(o.summary, "[]\\"), value)));
  }
}

std::string zsh_script(const ProgramDescription& program) {
  std::string out(kZshStart);
  for (const OptionDescription& o : program.program.options) {
    for (const std::string& name : o.names) {
      out += fmt::format("    {} \\\n", quoted(fmt::format("(- *){}[{}]", name, escaped(o.summary, "[]\\"))));
    }
  }
  out +=
      "    '1:command:->command' \\\n    '*::argument:->argument' && return\n"
      "  case $state in\n    command)\n      local -a commands=(\n";
  for (const CommandDescription& c : program.commands) {
    out += fmt::format("        {}\n", quoted(escaped(c.name, ":\\") + ":" + escaped(c.summary, "\\")));
  }
  out += "      )\n      _describe command commands\n      ;;\n    argument)\n      case $words[1] in\n";
  for (const CommandDescription& c : program.commands) {
    out += fmt::format("      {})\n        _arguments -s", c.name);
    for (const OptionDescription& o : c.options) add_zsh_option(o, &out);
    out += "\n        ;;\n";
  }
  return out +
         "      esac\n      ;;\n  esac\n}\n\n"
         "if [[ $funcstack[1] == _decant ]]; then _decant \"$@\"; else compdef _decant decant; fi\n";
}

// ---- fish.

std::string fish_quoted(std::string_view text) { return "'" + escaped(text, "\\'") + "'"; }

std::string fish_action(const OptionDescription& o) {
  if (o.is_flag) return " -f";
  switch (o.kind) {
    case ValueKind::kText: return " -x";
    case ValueKind::kChoice: return " -x -a " + fish_quoted(join(o.choices, " "));
    case ValueKind::kFile: return " -r -F";
    case ValueKind::kFolder: return " -x -a '(__fish_complete_directories)'";
    case ValueKind::kModel: return " -r -F -a '(decant completion models 2>/dev/null)'";
  }
  return " -x";
}

std::string fish_script(const ProgramDescription& program) {
  std::string out =
      "# fish completion for decant: decant completion fish > ~/.config/fish/completions/decant.fish\n\n"
      "complete -c decant -f\n";
  const auto add = [&](const CommandDescription& c, std::string_view condition) {
    for (const OptionDescription& o : c.options) {
      std::string line = fmt::format("complete -c decant -n {}", fish_quoted(condition));
      if (o.is_argument) {
        if (o.kind == ValueKind::kText) continue;
        // A place, not an option: it takes the files and words but none of -r and -x.
        line += o.kind == ValueKind::kChoice  ? " -a " + fish_quoted(join(o.choices, " "))
                : o.kind == ValueKind::kModel ? " -F -a '(decant completion models 2>/dev/null)'"
                                              : " -F";
      } else {
        for (const std::string& name : o.names) {
          line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
        }
        line += fish_action(o);
        line += " -d " + fish_quoted(o.summary);
      }
      out += line + "\n";
    }
  };
  add(program.program, "__fish_use_subcommand");
  for (const CommandDescription& c : program.commands) {
    out += fmt::format("complete -c decant -n __fish_use_subcommand -a {} -d {}\n", c.name, fish_quoted(c.summary));
  }
  for (const CommandDescription& c : program.commands) add(c, "__fish_seen_subcommand_from " + c.name);
  return out;
}

// ---- Markdown.

// Code in backquotes stays as it is.
std::string markdown_text(std::string_view text) {
  std::string out;
  bool code = false;
  for (const char c : text) {
    if (c == '`') code = !code;
    if (c == '|' || (!code && (c == '\\' || c == '*' || c == '<'))) out += '\\';
    out += c;
  }
  return out;
}

std::string markdown_names(const OptionDescription& o) {
  std::vector<std::string> names;
  for (const std::string& name : o.names) names.push_back("`" + name + "`");
  if (!o.type.empty()) names.back().insert(names.back().size() - 1, " " + escaped(o.type, "|"));
  return join(names, ", ");
}

void add_markdown(const CommandDescription& c, std::string* out) {
  *out += fmt::format("<!-- generated: {} -->\n\n    decant {} [options]", c.name, c.name);
  for (const OptionDescription& o : c.options) {
    if (o.is_argument) *out += o.required ? " " + o.names[0] : " [" + o.names[0] + "]";
  }
  *out += "\n";
  std::vector<std::string> groups;
  for (const OptionDescription& o : c.options) {
    if (std::find(groups.begin(), groups.end(), o.group) == groups.end()) groups.push_back(o.group);
  }
  for (const std::string& group : groups) {
    *out += fmt::format("\n| {} | |\n| --- | --- |\n", group);
    for (const OptionDescription& o : c.options) {
      if (o.group != group) continue;
      *out += fmt::format("| {} | {} |\n", markdown_names(o), markdown_text(o.summary));
    }
  }
  *out += "\n<!-- end -->\n";
}

}  // namespace

std::string completion_script(const ProgramDescription& program, std::string_view shell) {
  if (shell == "bash") return bash_script(program);
  if (shell == "zsh") return zsh_script(program);
  if (shell == "fish") return fish_script(program);
  return "";
}

std::string markdown_parts(const ProgramDescription& program) {
  std::string out = "<!-- generated: commands -->\n\n| command | |\n| --- | --- |\n";
  for (const CommandDescription& c : program.commands) {
    out += fmt::format("| [`{}`](#{}) | {} |\n", c.name, c.name, markdown_text(c.summary));
  }
  out += "\n<!-- end -->\n";
  for (const CommandDescription& c : program.commands) add_markdown(c, &out);
  return out;
}

}  // namespace decant::cli
