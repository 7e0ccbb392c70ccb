# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Packages that tests of the server use, in a folder of their own in the build folder.

    python_packages.py FOLDER    installs them there (does nothing if they are there)

Tests call import_packages(), and are skipped with the reason where the packages cannot be had.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

# The official client, and a checker of OpenAPI documents.
REQUIREMENTS = ("openai>=1.60,<4", "openapi-spec-validator>=0.7,<1")
MARK = "complete.txt"


def install(folder):
    """The folder with the packages; OSError with the reason if that does not work."""
    folder = pathlib.Path(folder)
    if (folder / MARK).is_file() and (folder / MARK).read_text() == "\n".join((sys.version, *REQUIREMENTS)):
        return folder
    part = folder.with_name(f"{folder.name}.part{os.getpid()}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--retries", "1",
               "--timeout", "20", "--target", str(part), *REQUIREMENTS]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400)
        if result.returncode != 0:
            lines = [x for x in result.stderr.splitlines() if x.startswith("ERROR")] or ["pip failed"]
            raise OSError(lines[-1])
        (part / MARK).write_text("\n".join((sys.version, *REQUIREMENTS)))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except subprocess.TimeoutExpired:
        raise OSError("pip took too long") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def import_packages(decant):
    """Makes them importable. `decant`: the program that is tested."""
    if os.environ.get("DECANT_TEST_NO_PIP"):
        raise unittest.SkipTest("DECANT_TEST_NO_PIP is set")
    try:
        sys.path.insert(0, str(install(pathlib.Path(decant).resolve().parent.parent / "test-packages")))
    except OSError as error:
        raise unittest.SkipTest(f"packages cannot be installed: {error}") from None


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(install(sys.argv[1]))
