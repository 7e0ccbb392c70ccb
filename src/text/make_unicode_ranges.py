#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Writes unicode_ranges.inc: the code points of \\p{L}, \\p{N}, \\p{M}, of upper and title case, and of lower case, as ranges.

The Unicode version is part of the tokenizers' behaviour: a code point that a later version calls a letter splits text
elsewhere. llama.cpp's tables, against which token equality is tested, follow 15.1, so these do too.

    pip install unicodedata2==15.1.0 && python3 make_unicode_ranges.py > unicode_ranges.inc
"""
import sys

import unicodedata2 as unicodedata

VERSION = "15.1.0"


def ranges(*groups):
    out = []
    for code in range(0x110000):
        if not unicodedata.category(chr(code)).startswith(groups):
            continue
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"unicodedata2 has Unicode {unicodedata.unidata_version}; install unicodedata2=={VERSION}")
    print("// SPDX-FileCopyrightText: The Decant authors")
    print("// SPDX-License-Identifier: Apache-2.0")
    print("//")
    print(f"// Written by make_unicode_ranges.py from the Unicode Character Database {VERSION}. First and last code point.")
    for name, *groups in (("kLetterRanges", "L"), ("kNumberRanges", "N"), ("kMarkRanges", "M"),
                          ("kUpperRanges", "Lu", "Lt"), ("kLowerRanges", "Ll")):
        print(f"\nconstexpr CodeRange {name}[] = {{")
        line = "   "
        for first, last in ranges(*groups):
            item = f" {{0x{first:X}, 0x{last:X}}},"
            if len(line) + len(item) > 120:
                print(line)
                line = "   "
            line += item
        print(line)
        print("};")


if __name__ == "__main__":
    main()
