# SPDX-License-Identifier: MIT
"""Commands that start at the same instant, and tables as they ended, to compare."""

import json
import pathlib
import tempfile
import time

from lab.command import PROGRAM
from lab.processes import Process


class Runner:
    """A command at the start line. What it says, on both outputs, is `text`."""

    def __init__(self, dragoman, *arguments):
        self._output = tempfile.NamedTemporaryFile(prefix="dragoman-runner-")
        self._process = Process("/bin/sh", "-c", 'read -r go; exec "$@"', "sh", PROGRAM, *arguments,
                                env=dragoman.environment, output=self._output)

    def go(self):
        self._process.write_line("go")

    def ended(self):
        return self._process.ended()

    def kill(self):
        self._process.stop()

    def wait(self):
        """Its exit status, when it has ended."""
        return self._process.wait()

    @property
    def text(self):
        return pathlib.Path(self._output.name).read_text()

    def close(self):
        self._process.stop()
        self._output.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def race(*runners):
    """Starts them together; the exit statuses of all, when they have ended."""
    for runner in runners:
        runner.go()
    return [runner.wait() for runner in runners]


def spend(seconds):
    """A part of a millisecond counts here, which no scheduler is asked for."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def _plain(value):
    """JSON without handles and counters, as something that compares and sorts."""
    if isinstance(value, dict):
        return tuple(sorted((key, _plain(each)) for key, each in value.items()
                            if key not in ("handle", "packets", "bytes")))
    if isinstance(value, list):
        return tuple(_plain(each) for each in value)
    return str(value)


def _elements(listed):
    """(key, value) pairs of a set or map; the key is a tuple, the value None in a set."""
    for each in listed.get("elem", []):
        key, value = each if isinstance(each, list) else (each, None)
        if "elem" in key:
            key = key["elem"]["val"]
        yield _plain(key["concat"]), value


def _endpoints(listed):
    """{key without slot: endpoints}: which slot has which of them depends on history."""
    services = {}
    for key, value in _elements(listed):
        services.setdefault(key[:-1], {})[int(key[-1])] = _plain(value)
    for key, by_slot in services.items():
        assert sorted(by_slot) == list(range(len(by_slot))), f"slots of {key}: {by_slot}"
    return {key: sorted(by_slot.values()) for key, by_slot in services.items()}


def _chains(listed):
    """{name: what the chain and its rules say}."""
    chains = {each["chain"]["name"]: [_plain(each["chain"])] for each in listed if "chain" in each}
    for rule in (each["rule"] for each in listed if "rule" in each):
        chains[rule["chain"]].append(_plain(rule["expr"]))
    return chains


def table(namespace):
    """The table inet dragoman as nft -j tells it, or None: what stands, not how it came to be.

    Left out are handles, counters, which slot an endpoint has, and balance
    chains that no service goes to, which may stay for a while.
    """
    done = namespace.run("nft", "-j", "list", "table", "inet", "dragoman", check=False)
    if done.returncode != 0:
        assert "No such file" in done.stderr, done.stderr
        return None
    listed = json.loads(done.stdout)["nftables"]
    sets = {body["name"]: body for each in listed for kind, body in each.items()
            if kind in ("set", "map")}
    services = {name: {key: value["goto"]["target"] for key, value in _elements(sets[name])}
                for name in ("services4", "services6")}
    used = set().union(*(each.values() for each in services.values()))
    chains = {name: rules for name, rules in _chains(listed).items()
              if name in used or not name.startswith(("balance", "nth"))}
    return {"services": services,
            "endpoints": {name: _endpoints(sets[name]) for name in ("endpoints4", "endpoints6")},
            "unavailable": {name: sorted(key for key, _ in _elements(sets[name]))
                            for name in ("unavailable4", "unavailable6")},
            "sets": sorted(sets), "chains": chains}
