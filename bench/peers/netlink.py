# SPDX-License-Identifier: MIT
"""The raw program, and the agent's own path to the kernel (raw.c, ours.c)."""

import json
import os
import pathlib
import tempfile

from lab.command import Dragoman
from lab.processes import Process
from peers import Peer
from state import document

PROGRAMS = pathlib.Path(os.environ.get(
    "DRAGOMAN_BENCHES", pathlib.Path(__file__).resolve().parents[2] / "build" / "bench"))


class Console:
    """One of the programs that take a line and answer with one. Times are in seconds."""

    def __init__(self, program, state, *more, start=Process):
        self._log = tempfile.NamedTemporaryFile(prefix="dragoman-bench-")
        self._process = start("sh", "-c", 'log=$1; shift; exec "$@" 2>"$log"', "sh",
                              self._log.name, PROGRAMS / program, state.services,
                              state.endpoints, *more)
        self.pid = self._process.pid
        assert self._read(300) == "ready"

    def _read(self, deadline):
        try:
            return self._process.read_line(deadline)
        except AssertionError as failure:
            said = pathlib.Path(self._log.name).read_text(errors="replace")
            raise AssertionError(f"{failure}\n{said[-2000:]}") from None

    def ask(self, *words):
        self._process.write_line(" ".join(map(str, words)))
        return json.loads(self._read(600))

    def times(self, *words):
        return {name: [each / 1e9 for each in values] for name, values in self.ask(*words).items()}

    def close(self):
        self._process.stop()
        self._log.close()


class Netlink(Peer):
    def __init__(self, stage, state):
        super().__init__(stage, state)
        self.console = Console(self.name, state, start=stage.container.start)

    def clear(self):
        self.console.ask("clear")

    def load(self):
        return self.console.times("load")["load"][0]

    def replace(self, first, count):
        return self.console.times("replace", first, count)["replace"]

    def grow(self, first, count):
        return self.console.times("grow", first, count)

    def endpoints(self, service):
        return self.console.ask("show", service)["endpoints"]

    def close(self):
        self.console.close()


class Raw(Netlink):
    name = "raw"

    def __init__(self, stage, state):
        super().__init__(stage, state)
        stage.open_localhost()

    def read(self, count):
        return self.console.times("read", count)["read"]


class Ours(Netlink):
    name = "ours"

    def read(self, count):
        """Reads and compares everything, as a resync does."""
        return self.console.times("resync", count)["resync"]

    def same(self, count):
        return self.console.times("same", count)["same"]


def assert_in_sync(peer, folder):
    """`dragoman plan` finds nothing to change in what a peer of our layout has left."""
    state = peer.state
    registry, descriptors = folder / "registry.json", folder / "descriptors"
    registry.write_text(json.dumps({f"/services/s{service}/{number}": document(number)
                                    for service in range(state.services)
                                    for number in peer.endpoints(service)}))
    descriptors.write_text("".join(f"BACKEND_S{service}=s{service};{state.port(service)}\n"
                                   for service in range(state.services)))
    done = Dragoman(f"file://{registry}")("plan", "--json", "--netns", peer.stage.container,
                                          "--env-file", descriptors)
    # The routes to ::1 are no part of what is measured.
    changes = [each for each in done.json["changes"] if "route" not in each.get("object", "")]
    assert not changes and not done.json["errors"], (peer.name, changes[:5], done.stderr)
