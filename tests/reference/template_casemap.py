#!/usr/bin/env python3
"""Writes lua/wane/template/casemap.lua: the case mappings of Unicode as Python's str methods have them.

usage: python3 tests/reference/template_casemap.py > lua/wane/template/casemap.lua
"""
import textwrap
import unicodedata

POINTS = [c for c in range(0x80, 0x110000) if not 0xD800 <= c < 0xE000]


def ranges(function):
    """Runs (first, last, step, delta) of code points that move by the same distance."""
    rows, run = [], None
    for c in POINTS:
        to = function(chr(c))
        if to == chr(c) or len(to) != 1:
            continue
        delta = ord(to) - c
        if run and run[3] == delta and (c - run[1] == run[2] or (run[0] == run[1] and c - run[1] <= 2)):
            run[1], run[2] = c, c - run[1]
            continue
        run = [c, c, 1, delta]
        rows.append(run)
    return rows


def show(name, function):
    rows = [f"{a:x} {b:x} {s} {d:+d}," for a, b, s, d in ranges(function)]
    print(f"casemap.{name} = [[")
    print("\n".join(textwrap.wrap(" ".join(rows), 98, break_on_hyphens=False)))
    print("]]")


def specials(name, function, otherwise):
    rows = []
    for c in POINTS:
        to = function(chr(c))
        if (len(to) != 1) if otherwise is None else (to != otherwise(chr(c))):
            rows.append(f"{c:x}=" + "+".join(f"{ord(x):x}" for x in to))
    print(f"casemap.{name} = [[")
    print("\n".join(textwrap.wrap(" ".join(rows), 98, break_on_hyphens=False)))
    print("]]")


print(f"""--- casemap.lua: upper, lower and title case of the code points from 0x80 up.
--
-- Made by tests/reference/template_casemap.py from the Unicode Character Database {unicodedata.unidata_version}; do not edit.
-- `upper` and `lower`: rows "first last step delta" (hexadecimal but for the last two). `upper_long` and
-- `lower_long`: code points that become several. `title`: code points whose title case is not their upper case.
local casemap = {{}}
""")
show("upper", str.upper)
show("lower", str.lower)
specials("upper_long", str.upper, None)
specials("lower_long", str.lower, None)
specials("title", str.title, str.upper)
print("\nreturn casemap")
