#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Two runs side by side: what became slower, faster or larger than the noise explains.

    bench/compare.py BEFORE.json AFTER.json

A row counts as changed where its median, of a few measures at least, moved by more
than a tenth, and the middle halves of both do not overlap. Where `raw` or `direct`
moved along, so did the machine: then the ratio to it is what counts. Ends with
status 1 where something became worse.
"""

import json
import pathlib
import sys

import figures

NOTABLE, SEVERAL = 0.10, 3
BETTER_WHEN_LARGE = ("B/s", "/s")
YARDSTICKS = ("raw", "direct", "nat", "empty")


def _key(row):
    return row["section"], row["what"], row["peer"], tuple(sorted(row["at"].items()))


def _read(path):
    run = json.loads(pathlib.Path(path).read_text())
    assert run["format"] == 1, f"{path}: of another format"
    return run, {_key(row): row for row in run["rows"]}


def _scale(before, after, key):
    """How much the machine itself moved, by what the yardstick of that row says."""
    section, what, _, at = key
    for peer in YARDSTICKS:
        yard = section, what, peer, at
        if yard in before and yard in after and before[yard]["median"]:
            return after[yard]["median"] / before[yard]["median"]
    return 1.0


def _apart(one, other, scale):
    """Whether the middle halves do not overlap."""
    return one["q3"] * scale < other["q1"] or other["q3"] < one["q1"] * scale


def compare(before, after):
    """(key, before, after, ratio, verdict) of each row of ours that both have."""
    for key, old in before.items():
        new = after.get(key)
        if key[2] != "ours" or not new or not old["median"]:
            continue
        scale = _scale(before, after, key)
        ratio = new["median"] / old["median"] / scale
        several = min(old["count"], new["count"]) >= SEVERAL
        notable = several and abs(ratio - 1) > NOTABLE and _apart(old, new, scale)
        worse = ratio < 1 if old["unit"] in BETTER_WHEN_LARGE else ratio > 1
        yield key, old, new, ratio, ("worse" if worse else "better") if notable else ""


def main(one, other):
    (_, before), (_, after) = _read(one), _read(other)
    worse = 0
    for (section, what, _, at), old, new, ratio, verdict in compare(before, after):
        place = " ".join(f"{name}={value}" for name, value in at)
        print(f"{verdict:7}{ratio:6.2f}  {figures.show(old['median'], old['unit']):>9} -> "
              f"{figures.show(new['median'], new['unit']):>9}  {section}: {what} {place}")
        worse += verdict == "worse"
    print(f"{worse} worse")
    return worse > 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or not all(sys.argv[1:]):
        sys.exit("usage: make bench-compare A=BEFORE.json B=AFTER.json")
    try:
        sys.exit(main(*sys.argv[1:]))
    except OSError as error:
        sys.exit(f"bench-compare: {error.filename}: {error.strerror}")
