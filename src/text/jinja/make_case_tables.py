#!/usr/bin/env python3
# SPDX-FileCopyrightText: The Decant authors
# SPDX-License-Identifier: Apache-2.0
"""Writes case_tables.inc: what str.upper(), lower(), title(), isprintable(), isdecimal(), isdigit() and isnumeric() say of each
character in the Python that runs this script.

    python3 make_case_tables.py > case_tables.inc
"""
import unicodedata

LAST = 0x110000


def mapping_ranges(mapped):
    """(first, last, step, delta) of single-character mappings: codes first, first+step, ..., last map to code + delta."""
    out = []
    for code in range(LAST):
        if 0xD800 <= code < 0xE000:
            continue
        text = mapped(chr(code))
        if len(text) != 1 or ord(text) == code:
            continue
        delta = ord(text) - code
        if out and out[-1][3] == delta:
            first, last, step, _ = out[-1]
            gap = code - last
            if (last == first and gap <= 2) or (last > first and gap == step):
                out[-1] = [first, code, gap, delta]
                continue
        out.append([code, code, 1, delta])
    return out


def long_mappings(mapped):
    return [(code, mapped(chr(code))) for code in range(LAST)
            if not 0xD800 <= code < 0xE000 and len(mapped(chr(code))) != 1]


def ranges(holds):
    out = []
    for code in range(LAST):
        if not holds(chr(code)):
            continue
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def table(kind, name, items):
    print(f"\nconstexpr {kind} {name}[] = {{")
    line = "   "
    for item in items:
        if len(line) + len(item) + 1 > 120:
            print(line)
            line = "   "
        line += " " + item
    print(line)
    print("};")


def quoted(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def main():
    print("// SPDX-FileCopyrightText: The Decant authors")
    print("// SPDX-License-Identifier: Apache-2.0")
    print("//")
    print(f"// Written by make_case_tables.py from the Unicode Character Database {unicodedata.unidata_version}.")
    for name, mapped in (("Upper", str.upper), ("Lower", str.lower), ("Title", str.title)):
        table("CaseRange", f"k{name}Ranges", (f"{{0x{a:X}, 0x{b:X}, {s}, {d}}}," for a, b, s, d in mapping_ranges(mapped)))
        table("LongCase", f"k{name}Long", (f"{{0x{code:X}, {quoted(text)}}}," for code, text in long_mappings(mapped)))
    for name, holds in (("Printable", str.isprintable), ("Decimal", str.isdecimal), ("Digit", str.isdigit),
                        ("Numeric", str.isnumeric), ("UpperLetter", str.isupper), ("LowerLetter", str.islower)):
        table("CodeSpan", f"k{name}Spans", (f"{{0x{a:X}, 0x{b:X}}}," for a, b in ranges(holds)))


if __name__ == "__main__":
    main()
