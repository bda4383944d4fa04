# SPDX-License-Identifier: MIT
"""What was measured: rows, each of one thing, one peer and one size.

    {"section": "update", "what": "replace", "peer": "ours",
     "at": {"services": 10000, "endpoints": 10}, "unit": "s", "count": 60, "median": ...}
"""

import sys

import figures


class Results:
    def __init__(self, quick=False, limit=240):
        self.quick, self.limit = quick, 2 if quick else limit
        self.rows, self.notes = [], []

    def add(self, section, what, peer, at, values, unit="s"):
        """values: all that was measured of it; a number stands for one."""
        values = [values] if isinstance(values, (int, float)) else list(values)
        row = {"section": section, "what": what, "peer": peer, "at": at, "unit": unit,
               **figures.summary(values)}
        self.rows.append(row)
        where = " ".join(f"{name} {value:,}" if isinstance(value, int) else str(value)
                         for name, value in at.items())
        place = ", ".join(filter(None, (what, where)))
        self.tell(f"{section}: {place}: {peer} {figures.show(row['median'], unit)}")
        return row

    def note(self, text):
        """What was left out, and why."""
        self.notes.append(text)
        self.tell(text)

    @staticmethod
    def tell(text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def find(self, section, what, peer, **at):
        """The row, or None. `at` need not name everything."""
        for row in self.rows:
            if (row["section"], row["what"], row["peer"]) == (section, what, peer) and all(
                    row["at"].get(name) == value for name, value in at.items()):
                return row
        return None

    def median(self, section, what, peer, **at):
        row = self.find(section, what, peer, **at)
        return row["median"] if row else None
