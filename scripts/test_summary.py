#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""test_summary.py FOLDER...: adds up the reports that ./test left in each FOLDER, one line for each.

A folder holds `title`, ctest.xml (JUnit, by ctest) and units/*.json (GoogleTest's format, also written by tests/cli). Exit code 1 when
a test failed, when a program died without a report, or when nothing ran.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree


def read_units(folder):
    """Returns numbers of passed, failed and skipped test cases and the names of those that failed."""
    passed, skipped, failures = 0, 0, []
    for path in sorted((folder / "units").glob("*.json")):
        for suite in json.loads(path.read_text()).get("testsuites", []):
            for case in suite["testsuite"]:
                name = f"{suite['name']}.{case['name']}"
                if case.get("failures"):
                    failures.append(name)
                elif case.get("result") == "SKIPPED":
                    skipped += 1
                elif case.get("status") == "RUN":
                    passed += 1
    return passed, skipped, failures


def summarize(folder):
    passed, skipped, failures = read_units(folder)
    seconds = 0.0
    programs = 0
    for case in xml.etree.ElementTree.parse(folder / "ctest.xml").getroot().iter("testcase"):
        programs += 1
        seconds += float(case.get("time", "0"))
        if case.get("status") == "fail" or case.find("failure") is not None:
            failures.append(f"program {case.get('name')}")
    title = (folder / "title").read_text().strip()
    run = passed + len([f for f in failures if not f.startswith("program ")])
    print(f"{title}: {programs} programs, {run} tests run, {passed} passed, {run - passed} failed, {skipped} skipped, {seconds:.1f} s")
    for name in failures:
        print(f"  FAILED {name}")
    if programs == 0:
        print("  FAILED no test program ran")
    return not failures and programs > 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: test_summary.py FOLDER...")
    sys.exit(0 if all([summarize(pathlib.Path(f)) for f in sys.argv[1:]]) else 1)
