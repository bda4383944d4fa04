# SPDX-License-Identifier: MIT
"""Traffic through the rules, through proxies, and with nothing in between.

wrk at one end of a cable, nginx at the other; one thread each, so that two
processors are enough. A proxy has to share them, as it would with whatever it
stands beside.

Beside what came through stands what it cost: the processor time of client, server
and proxy. That depends less on how busy others keep the machine.
"""

import re
import resource

from lab.namespaces import Namespaces
from measure.update import in_turn
from peers.proxies import WAYS

_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_TIMES = {"us": 1e-6, "ms": 1e-3, "s": 1}


def _number(text, pattern, scales):
    found = re.search(pattern, text)
    assert found, text
    return float(found[1]) * scales[found[2]]


def _own_processor():
    """Seconds that processes which have ended were at work: wrk is one of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def wrk(way, path, connections, seconds, *more):
    """What it says: requests and bytes a second, and the latency's p50 and p99."""
    before = _own_processor() + way.processor()
    said = way.stage.container.run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
                                   "--timeout", "10s", *more, f"{way.url}/{path}").stdout
    used = _own_processor() + way.processor() - before
    assert "Socket errors" not in said and "Non-2xx" not in said, f"{way.name}: {said}"
    made = int(re.search(r"(\d+) requests in", said)[1])
    return {"requests": _number(said, r"Requests/sec: +([\d.]+)()", {"": 1}),
            "bytes": _number(said, r"Transfer/sec: +([\d.]+)([KMG]?)B", _SIZES),
            "processor": used / made,
            "p50": _number(said, r"50% +([\d.]+)(us|ms|s)", _TIMES),
            "p99": _number(said, r"99% +([\d.]+)(us|ms|s)", _TIMES)}


# What is measured: path, connections, words more, and what of it is told, in which unit.
MEASURES = {
    "large transfers": ("large", 4, (), {
        "large transfers": ("bytes", "B/s"),
        "large transfers, processor time of one": ("processor", "s")}),
    "small requests": ("small", 16, (), {
        "small requests": ("requests", "/s"),
        "small requests, processor time of one": ("processor", "s")}),
    "new connections": ("small", 16, ("-H", "Connection: close"),
                        {"new connections": ("requests", "/s"),
                         "new connections, processor time of one": ("processor", "s")}),
    "latency": ("small", 1, (), {"latency of a request, p50": ("p50", "s"),
                                 "latency of a request, p99": ("p99", "s")}),
}


def run(results, seconds=1):
    with Namespaces() as namespaces:
        ways = []
        try:
            for way in WAYS:
                ways.append(way(namespaces))
            for path, connections, more, told in MEASURES.values():
                found = in_turn(ways, 1 if results.quick else 15, lambda way, _: wrk(
                    way, path, connections, seconds, *more))
                for what, (field, unit) in told.items():
                    for way, all_of_it in found.items():
                        results.add("traffic", what, way.name, {},
                                    [each[field] for each in all_of_it], unit)
        finally:
            for way in ways:
                way.close()
