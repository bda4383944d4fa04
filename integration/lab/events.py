# SPDX-License-Identifier: MIT
"""Changes of the ruleset, element by element: what `nft monitor` shows, but counted."""

import json
import pathlib

from lab.processes import python

_SCRIPT = pathlib.Path(__file__).parent / "listen.py"
_ARRIVE = pathlib.Path(__file__).parent / "arrive.py"


class Events:
    """Listens in a namespace from now on; heard() is what came since the last time."""

    def __init__(self, namespace):
        self._process = namespace.start(*python(_SCRIPT))
        assert self._process.read_line() == "ready"

    def heard(self):
        self._process.write_line("what")
        return json.loads(self._process.read_line())


class Arrivals:
    """When endpoints came into a namespace's rules, in the order in which they did."""

    def __init__(self, namespace):
        self._process = namespace.start(*python(_ARRIVE))
        assert self._process.read_line() == "ready"

    def wait_for(self, address, deadline=10.0):
        """When that address came, by time.monotonic_ns(); what came before it is forgotten."""
        while True:
            found, when = self._process.read_line(deadline).split()
            if found == address:
                return int(when)


def elements(heard):
    """How many operations on elements there are in heard()."""
    return sum(number for name, number in heard.items() if "setelem " in name)
