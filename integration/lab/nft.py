# SPDX-License-Identifier: MIT
"""What the kernel holds, as nft and ip tell it: a second opinion."""

import contextlib
import itertools
import re

from lab.waiting import wait_until

_markers = itertools.count(1)

# 127.0.0.1 . tcp . 8080 . 0 counter packets 5 bytes 300 : 10.77.0.1 . 8080
_ELEMENT = re.compile(
    r"(?P<listen>127\.0\.0\.1|::1) \. (?P<proto>tcp|udp|6|17) \. (?P<port>[\w-]+) \. (?P<slot>\w+)"
    r" counter packets (?P<packets>\d+) bytes \d+ : (?P<address>[0-9a-f.:]+) \. (?P<target>[\w-]+)")


def listing(namespace, *what):
    """`nft -n list ...` as text; "table inet dragoman" where nothing is named."""
    what = what or ("table", "inet", "dragoman")
    return namespace.run("nft", "-n", "list", *what).stdout


def tables(namespace):
    """The names of all tables: {"inet dragoman"}."""
    lines = namespace.run("nft", "list", "tables").stdout.splitlines()
    return {line.removeprefix("table ") for line in lines if line}


def load(namespace, text):
    """nft -f."""
    namespace.run("nft", "-f", "-", input=text)


def whole(namespace):
    """Our table without counters, which start again where an element is made anew; or None.

    Chains stand in the order in which they were made, and that is no difference.
    """
    if "inet dragoman" not in tables(namespace):
        return None
    text = re.sub(r"packets \d+ bytes \d+", "", listing(namespace))
    return sorted(re.split(r"\n(?=\t\w)", text.rstrip("}\n")))


class Slot:
    def __init__(self, found):
        brackets = "[{}]" if ":" in found["address"] else "{}"
        local = "[::1]" if found["listen"] == "::1" else "127.0.0.1"
        proto = {"6": "tcp", "17": "udp"}.get(found["proto"], found["proto"])
        self.listen = f"{local}:{int(found['port'], 0)}/{proto}"
        self.number = int(found["slot"], 0)
        self.endpoint = f"{brackets.format(found['address'])}:{int(found['target'], 0)}"
        self.connections = int(found["packets"])

    def __repr__(self):
        return f"{self.listen} {self.number} -> {self.endpoint} ({self.connections})"


def slots(namespace, listen=None):
    """The elements of endpoints4 and endpoints6, in the order of listen and slot."""
    text = "".join(listing(namespace, "map", "inet", "dragoman", name)
                   for name in ("endpoints4", "endpoints6"))
    found = [Slot(match) for match in _ELEMENT.finditer(re.sub(r"\s+", " ", text))]
    return sorted((slot for slot in found if listen in (None, slot.listen)),
                  key=lambda slot: (slot.listen, slot.number))


def connections(namespace, listen):
    """Connections counted by the kernel, by endpoint."""
    totals = {}
    for slot in slots(namespace, listen):
        totals[slot.endpoint] = totals.get(slot.endpoint, 0) + slot.connections
    return totals


def traces(namespace):
    """Everything that dragoman may leave in a namespace, to compare before and after."""
    routes = namespace.ip("-6", "route", "show", "table", "local").stdout.splitlines()
    return {"tables": tables(namespace),
            "routes": {line.strip() for line in routes if "::1" in line.split()},
            "route_localnet": namespace.sysctl("net.ipv4.conf.all.route_localnet")}


class Monitor:
    """`nft monitor` of a namespace; the lines between start and end."""

    def __init__(self, namespace):
        self._namespace = namespace
        self._process = namespace.start("stdbuf", "-oL", "nft", "monitor")
        self.lines = []

    def mark(self):
        """Makes a change of our own and reads up to its event: all before it was seen."""
        name = f"marker-{next(_markers)}"
        load(self._namespace, f"add table inet {name}\ndelete table inet {name}\n")
        seen = []
        while True:
            line = self._process.read_line()
            if name in line and line.startswith("delete"):
                seen.append(self._process.read_line())  # its own generation
                return [each for each in seen[:-1] if name not in each]
            seen.append(line)

    def close(self):
        self._process.stop()


@contextlib.contextmanager
def watched(namespace):
    """with watched(ns) as events: ...; then events holds nft monitor's lines.

    A commit ends in a line "# new generation N by process P (NAME)".
    """
    monitor = Monitor(namespace)
    events = []
    try:
        # It listens when it shows a change of ours.
        wait_until(lambda: _shows(monitor, namespace), what="nft monitor")
        monitor.mark()
        yield events
        events += monitor.mark()
    finally:
        monitor.close()


def _shows(monitor, namespace):
    load(namespace, "add table inet marker-start\ndelete table inet marker-start\n")
    try:
        return "marker-start" in monitor._process.read_line(deadline=0.2)
    except AssertionError:
        assert monitor._process.ended() is None
        return False


def generations(events):
    """How many transactions were committed."""
    return sum("new generation" in line for line in events)
