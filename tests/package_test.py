# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""package_test.py BUILD CXX MAKE_TINY_MODEL: installs Decant and uses what was installed, as others would.

`cmake --install` into a prefix of its own, then projects outside of the tree: tests/package by find_package, examples/ likewise, and
tests/package/main.cc by pkg-config. The prefix is moved in between: packages name no absolute paths.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD, MAKE_TINY_MODEL = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[3]).resolve()
CXX = sys.argv[2]
SOURCE = pathlib.Path(__file__).resolve().parent.parent


def call(*command, check=True, **kwargs):
    """Both streams as one text; a failure shows it."""
    result = subprocess.run([os.fspath(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **kwargs)
    if check and result.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {result.returncode}\n{result.stdout}")
    return result.stdout


class PackageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls._folder = tempfile.TemporaryDirectory(prefix="decant-package-")
        cls.folder = pathlib.Path(cls._folder.name)
        first = cls.folder / "first"
        call("cmake", "--install", BUILD, "--prefix", first)
        cls.prefix = cls.folder / "prefix"
        first.rename(cls.prefix)
        cls.model = cls.folder / "tiny.gguf"
        call(MAKE_TINY_MODEL, "llama", cls.model)
        cls.version = call(cls.prefix / "bin/decant", "--version").split()[1]
        cls.expected = call(cls.prefix / "bin/decant", "run", "-m", cls.model, "--raw", "in the end", "-n", "8", "--temp", "0")
        assert len(cls.expected) > 8, cls.expected

    @classmethod
    def tearDownClass(cls):
        cls._folder.cleanup()

    def configure(self, source, name, *options, **kwargs):
        return call("cmake", "-G", "Ninja", "-S", source, "-B", self.folder / name, f"-DCMAKE_PREFIX_PATH={self.prefix}", f"-DCMAKE_CXX_COMPILER={CXX}",
                    *options, **kwargs)

    def check_consumer(self, program):
        self.assertEqual(call(program, self.model, "in the end"), f"{self.version}\n{self.expected}")

    def test_a_project_finds_builds_and_runs_it(self):
        minor = ".".join(self.version.split(".")[:2])
        self.configure(SOURCE / "tests/package", "consumer", f"-DWANTED_VERSION={minor}")
        call("cmake", "--build", self.folder / "consumer")
        self.check_consumer(self.folder / "consumer/consumer")

    def test_a_version_that_may_be_incompatible_is_refused(self):
        major, minor, patch = map(int, self.version.split("."))
        wanted = [f"{major + 1}.0", f"{major}.{minor + 1}", f"{major}.{minor}.{patch + 1}"]
        if major == 0 and minor > 0:
            wanted.append(f"0.{minor - 1}")
        for version in wanted:
            output = self.configure(SOURCE / "tests/package", "refused", f"-DWANTED_VERSION={version}", check=False)
            self.assertIn(f'compatible with requested version "{version}"', " ".join(output.split()))

    def test_the_examples_are_a_project_of_their_own(self):
        output = self.configure(SOURCE / "examples", "examples")
        self.assertIn("Build files have been written", output)
        # One stands for all: the build of Decant compiles every one.
        call("cmake", "--build", self.folder / "examples", "--target", "example_batch")
        self.assertIn("the cat ->", call(self.folder / "examples/example_batch", self.model, "the cat"))

    def test_pkg_config_knows_it(self):
        if shutil.which("pkg-config") is None:
            self.skipTest("no pkg-config")
        (found,) = self.prefix.glob("lib*/**/pkgconfig")
        env = {**os.environ, "PKG_CONFIG_PATH": str(found)}
        self.assertEqual(call("pkg-config", "--modversion", "decant", env=env).strip(), self.version)
        flags = call("pkg-config", "--cflags", "--libs", "decant", env=env).split()
        call(CXX, SOURCE / "tests/package/main.cc", "-o", self.folder / "by-pkg-config", *flags)
        self.check_consumer(self.folder / "by-pkg-config")

    def test_what_is_installed(self):
        names = {p.relative_to(self.prefix).as_posix() for p in self.prefix.rglob("*") if p.is_file()}
        for name in ("bin/decant", "include/decant/decant.h", "include/decant/version.h", "share/bash-completion/completions/decant",
                     "share/zsh/site-functions/_decant", "share/fish/vendor_completions.d/decant.fish"):
            self.assertIn(name, names)
        self.assertEqual(len([n for n in names if n.endswith("/libdecant.a")]), 1)
        for header in (SOURCE / "include/decant").glob("*.h"):
            self.assertIn(f"include/decant/{header.name}", names)
        strangers = [n for n in names if re.search(r"decant_|gtest|\.in$|\.cc$", n)]
        self.assertEqual(strangers, [])
        # Nothing points to where Decant was built.
        for path in self.prefix.rglob("*"):
            if path.suffix in (".cmake", ".pc", ".h"):
                text = path.read_text()
                for place in (BUILD, SOURCE, self.folder):
                    self.assertNotIn(str(place), text, path)

    def test_public_headers_include_the_standard_library_only(self):
        for path in (self.prefix / "include/decant").glob("*.h"):
            for target in re.findall(r'(?m)^\s*#\s*include\s*["<]([^">]+)[">]', path.read_text()):
                self.assertRegex(target, r"\A([a-z_]+|decant/[a-z_]+\.h)\Z", path.name)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
