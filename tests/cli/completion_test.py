# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Completion scripts: bash's is asked as a shell would ask it, zsh's and fish's are parsed and, where they can be, asked."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import harness
from harness import USAGE

ASK = r"""
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMPREPLY=()
_decant
printf '%s\n' "${COMPREPLY[@]}"
"""


class CompletionTest(harness.CliTest):
    def script(self, shell):
        result = self.succeed("completion", shell)
        self.assertEqual(result.errors, "")
        return self.write(f"completion.{shell}", result.out)

    def options_in_help(self, command):
        """Every option that `decant COMMAND --help` shows, short and long."""
        text = self.succeed(command, "--help").text
        options = set()
        for line in text.splitlines():
            if re.match(r"  -", line):
                options.update(re.findall(r"(?:^|,)(--?[a-z][a-z-]*)", line[2:36].split(" ")[0]))
        self.assertIn("--help", options)
        return options

    def commands(self):
        text = self.succeed("--help").text
        commands = re.findall(r"(?m)^  ([a-z-]+) ", text[text.index("Subcommands:") : text.index("Examples:")])
        self.assertIn("completion", commands)
        return commands


class BashTest(CompletionTest):
    def setUp(self):
        super().setUp()
        self.bash = shutil.which("bash")
        if self.bash is None:
            self.skipTest("no bash")

    def complete(self, *words, env=None):
        script = self.script("bash")
        command = [self.bash, "--norc", "-u", "-c", ASK, "ask", script, harness.program("decant"), *words]
        result = subprocess.run(command, cwd=self.folder, env=self.environment(**(env or {})), capture_output=True, check=False)
        self.assertEqual((result.returncode, result.stderr.replace(b"bash: ", b"")), (0, b""))
        return [line for line in result.stdout.decode().split("\n") if line]

    def test_the_script_parses(self):
        subprocess.run([self.bash, "-n", self.script("bash")], check=True)

    def test_commands(self):
        self.assertEqual(self.complete("per"), ["perplexity"])
        self.assertEqual(sorted(c for c in self.complete("") if not c.startswith("-")), sorted(self.commands()))
        self.assertNotIn("help-markdown", self.complete("h"))
        self.assertEqual(self.complete("--ver"), ["--version"])

    def test_every_option_of_the_help_is_offered_and_no_other(self):
        for command in self.commands():
            with self.subTest(command):
                self.assertEqual(set(self.complete(command, "-")), self.options_in_help(command))

    def test_values(self):
        self.assertEqual(self.complete("run", "--device", ""), ["cpu", "cuda"])
        self.assertEqual(self.complete("run", "--device", "=", "cu"), ["cuda"])
        self.assertEqual(self.complete("run", "--device", "="), ["cpu", "cuda"])
        for option in ("-ctk", "--cache-type-k", "--cache-type-v"):
            self.assertEqual(self.complete("chat", option, "q8"), ["q8_0"])
        self.assertEqual(self.complete("bench", "--logits", ""), ["last", "all"])
        self.assertEqual(self.complete("pull", "gem"), ["gemma3-270m"])
        self.assertEqual(self.complete("completion", ""), ["bash", "zsh", "fish"])

    def test_free_text_is_left_alone(self):
        self.write("file", "")
        for words in (("run", "-p", ""), ("run", ""), ("run", "-n", ""), ("methods", "")):
            self.assertEqual(self.complete(*words), [], words)

    def test_files_with_blanks(self):
        self.write("a file.txt", "")
        self.write("another", "")
        for option in ("-f", "--file", "--json", "--system-prompt-file", "-sysf", "-bf"):
            self.assertEqual(self.complete("run", option, "a "), ["a file.txt"], option)
        self.assertEqual(sorted(self.complete("run", "-f", "a")), ["a file.txt", "another"])

    def test_models_are_those_that_are_here_and_files(self):
        self.write("small.gguf", "")
        self.assertEqual(self.complete("run", "-m", "sm"), ["small.gguf"])
        cache = self.folder / "cache"
        (cache / "models").mkdir(parents=True)
        (cache / "models" / "smollm2.gguf").write_bytes(b"")
        env = {"DECANT_CACHE": cache}
        self.assertEqual(sorted(self.complete("run", "-m", "sm", env=env)), ["small.gguf", "smollm2"])
        self.assertEqual(sorted(self.complete("inspect", "sm", env=env)), ["small.gguf", "smollm2"])
        self.assertEqual(self.succeed("completion", "models", env=env).text, "smollm2\n")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, test, command):
        self.test, self.text = test, b""
        path = f"{pathlib.Path(harness.program('decant')).parent}:{os.environ['PATH']}"
        main, child = pty.openpty()
        self.process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, cwd=test.folder, start_new_session=True,
                                        env=test.environment(PATH=path, TERM="dumb"))
        os.close(child)
        self.file = main
        test.addCleanup(self.close)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.file)

    def send(self, text):
        os.write(self.file, text.encode())

    def expect(self, pattern, timeout=60):
        """The match of what comes next; what stands before it is dropped."""
        end = time.monotonic() + timeout
        while (found := re.search(pattern, self.text)) is None:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            self.test.assertTrue(ready, f"{pattern} did not come: {self.text}")
            try:
                self.text += os.read(self.file, 4096)
            except OSError:
                self.test.fail(f"the shell ended before {pattern} came: {self.text}")
        self.text = self.text[found.end() :]
        return found


class ZshTest(CompletionTest):
    def setUp(self):
        super().setUp()
        self.zsh = shutil.which("zsh")
        if self.zsh is None:
            self.skipTest("no zsh")

    def test_the_script_parses_and_names_every_option(self):
        script = self.script("zsh")
        subprocess.run([self.zsh, "-f", "-n", script], check=True)
        text = pathlib.Path(script).read_text()
        self.assertTrue(text.startswith("#compdef decant\n"))
        for command in self.commands():
            body = re.search(rf"(?ms)^      {command}\)\n(.*?)^        ;;$", text).group(1)
            offered = set(re.findall(r"'(?:\([^)]*\)|\*)?(--?[a-z][a-z-]*)=?\[", body))
            self.assertEqual(offered, self.options_in_help(command), command)

    def test_the_tab_key_completes(self):
        shell = Terminal(self, [self.zsh, "-f", "-i"])
        # ^X shows the line and empties it.
        shell.send(f"PS1=; autoload -Uz compinit; compinit -D -u; source {self.script('zsh')}; "
                   "show() { print -r -- \"<<$BUFFER>>\"; zle .kill-whole-line }; zle -N show; bindkey '^X' show; echo REA''DY\n")
        shell.expect(rb"READY")
        for line, expected in (
            ("decant per", "decant perplexity "),
            ("decant --ver", "decant --version "),
            ("decant run --dev", "decant run --device="),
            ("decant run hello --dev", "decant run hello --device="),
            ("decant run --device cu", "decant run --device cuda "),
            ("decant bench --logits la", "decant bench --logits last "),
            ("decant pull gem", "decant pull gemma3-270m "),
            ("decant chat --cache-type-k=q8", "decant chat --cache-type-k=q8_0 "),
        ):
            shell.send(line + "\t\x18")
            self.assertEqual(shell.expect(rb"<<(.*?)>>").group(1).decode(), expected)
        shell.send("exit\n")


class FishTest(CompletionTest):
    def setUp(self):
        super().setUp()
        self.fish = shutil.which("fish")
        if self.fish is None:
            self.skipTest("no fish")

    def complete(self, line):
        ask = "source $argv[1]; complete -C $argv[2]"
        path = f"{pathlib.Path(harness.program('decant')).parent}:{os.environ['PATH']}"
        result = subprocess.run([self.fish, "--no-config", "-c", ask, self.script("fish"), line], cwd=self.folder, capture_output=True,
                                check=True, env=self.environment(XDG_CONFIG_HOME=self.folder, XDG_DATA_HOME=self.folder, PATH=path))
        self.assertEqual(result.stderr, b"")
        return [entry.split("\t")[0] for entry in result.stdout.decode().splitlines()]

    def test_commands_options_and_values(self):
        self.assertEqual(self.complete("decant per"), ["perplexity"])
        self.assertEqual(self.complete("decant run --device "), ["cpu", "cuda"])
        self.assertEqual(self.complete("decant chat --cache-type-k q8"), ["q8_0"])
        self.assertEqual(self.complete("decant pull gem"), ["gemma3-270m"])
        for command in self.commands():
            with self.subTest(command):
                offered = self.complete(f"decant {command} --")
                self.assertEqual({o for o in offered if o.startswith("--")},
                                 {o for o in self.options_in_help(command) if o.startswith("--")})


class CommandTest(CompletionTest):
    def test_other_shells_are_refused(self):
        self.refuse(USAGE, ["bash, zsh or fish", "csh"], "completion", "csh")
        self.refuse(USAGE, ["shell"], "completion")

    def test_no_models_no_output(self):
        self.assertEqual(self.succeed("completion", "models").out, b"")


if __name__ == "__main__":
    harness.main()
