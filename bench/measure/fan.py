# SPDX-License-Identifier: MIT
"""One endpoint of a service that very many namespaces use: the same change in each of them.

The raw program and the agent's own path have as many namespaces of their own, each
with the same services, and take turns.
"""

import pathlib
import tempfile
import types

from measure.update import in_turn
from peers.netlink import Console, assert_in_sync
from state import State

NAMESPACES = (1, 10, 100, 1000)
SERVICES, ENDPOINTS = 1, 10


def check(size, consoles, count):
    """The first, the last and one between hold what they should, as the program has it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, console in consoles.items():
            for index in {0, count // 2, count - 1}:
                descriptor = console.ask("descriptor", index)["descriptor"]
                assert_in_sync(types.SimpleNamespace(
                    name=name, state=size,
                    endpoints=lambda service: console.ask("show", service)["endpoints"],
                    stage=types.SimpleNamespace(container=f"/proc/{console.pid}/fd/{descriptor}"),
                ), pathlib.Path(folder))


def run(results, counts=None):
    size = State(SERVICES, ENDPOINTS)
    for count in counts or (NAMESPACES if not results.quick else (1, 100)):
        consoles = {}
        try:
            for name in ("raw", "ours"):
                consoles[name] = Console(name, size, count)
                consoles[name].ask("load")
                consoles[name].ask("replace", 0, 2)
            rounds = 3 if results.quick else 8
            found = in_turn(list(consoles), rounds, lambda name, number: consoles[name].times(
                "replace", 2 + 4 * number, 4)["replace"])
            for name, times in found.items():
                results.add("fan", "replace", name, {"namespaces": count, **size.parameters},
                            sum(times, []))
            check(size, consoles, count)
        finally:
            for console in consoles.values():
                console.close()
