#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes the figures of a run into the page that shows them.

    bench/page.py RESULTS.json [PAGE]

What stands in the page (bench/README.md) between `<!-- NAME -->` and
`<!-- end -->` is replaced: machine, bar, notes, better, and a table for each
`<!-- table SECTION: WHAT -->`. Plots that lie beside the results go into
bench/plots.
"""

import json
import pathlib
import re
import shutil
import sys

import bar
import figures
import report
from results import Results

FOLDER = pathlib.Path(__file__).resolve().parent
YARDSTICKS = ("raw", "ours", "direct", "nat", "empty", "time", "processor", "objects", "relocations", "watcher")
WHEN_LARGE = ("B/s", "/s")


def better(results):
    """Where somebody else's figure is the better one, yardsticks aside."""
    found = False
    for (section, what, unit), rows in report.groups(results).items():
        for row in rows:
            ours = results.find(section, what, "ours", **row["at"])
            if row["peer"] in YARDSTICKS or not ours or ours["at"] != row["at"]:
                continue
            if (row["median"] > ours["median"]) == (unit in WHEN_LARGE):
                found = True
                place = report.place(row["at"])
                yield (f"- {what}{', ' + place if place else ''}: {row['peer']} "
                       f"{figures.show(row['median'], unit)}, ours "
                       f"{figures.show(ours['median'], unit)}")
    if not found:
        yield "Nowhere in this run."


def _table(results, name):
    section, _, what = name.removeprefix("table ").partition(": ")
    for (this_section, this_what, unit), rows in report.groups(results).items():
        if (this_section, this_what) == (section, what):
            return "\n".join(report.markdown_table_of(section, unit, rows))
    return "(not measured)"


def _part(results, about, name):
    if name.startswith("table "):
        return _table(results, name)
    return "\n".join({
        "machine": lambda: report.markdown_machine(about),
        "bar": lambda: report.markdown_bar(bar.judge(results)),
        "better": lambda: better(results),
        "notes": lambda: (f"- {note}" for note in results.notes),
    }[name]())


def fill(page, results, about):
    return re.sub(r"<!-- (.+?) -->\n.*?<!-- end -->",
                  lambda found: f"<!-- {found[1]} -->\n\n{_part(results, about, found[1])}\n\n"
                                f"<!-- end -->", page, flags=re.DOTALL)


def main(file, page=FOLDER / "README.md"):
    run = json.loads(pathlib.Path(file).read_text())
    results = Results()
    results.rows, results.notes = run["rows"], run["notes"]
    page = pathlib.Path(page)
    page.write_text(fill(page.read_text(), results, run["about"]))
    (FOLDER / "plots").mkdir(exist_ok=True)
    for plot in pathlib.Path(file).parent.glob("*.svg"):
        shutil.copy(plot, FOLDER / "plots")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not sys.argv[1]:
        sys.exit("usage: make bench-page A=RESULTS.json")
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(f"bench-page: {error.filename}: {error.strerror}")
