# SPDX-License-Identifier: MIT
"""A client that connects without a pause, and every endpoint that it may be led to.

    crowd = Crowd(container, hosts, "tcp")
    crowd.begin()
    ...                     # the registry names crowd.document(1), then others
    told = crowd.end()      # told.failures, told.seen[1].last

The program is integration/crowd.c. The cable of `laboratory` has to lie between
the two namespaces. Times are those of time.monotonic_ns().
"""

import collections
import json

from lab.probes import probe

LISTEN = "127.0.0.1:80"
PORT = 7000
GATEWAY, ADDRESSES = "10.77.0.1", "10.64.0.0/16"

Seen = collections.namedtuple("Seen", "count first first_answered last")


def address(number):
    """Of the endpoint of that number, up to 65535."""
    return f"10.64.{number >> 8}.{number & 255}"


def number_of(endpoint):
    """The same from "10.64.0.1:7000"."""
    high, low = endpoint.rpartition(":")[0].split(".")[2:]
    return int(high) << 8 | int(low)


def document(number, **more):
    return {"ipaddress": address(number), "host_port": str(PORT), **more}


class Told:
    """What came of it: asked, seconds, failures (by error), strangers, slowest (ns), and seen:
    of each endpoint that answered, by number, how often, and when."""

    def __init__(self, told):
        self.__dict__.update(told)
        self.seen = {number: Seen(*rest) for number, *rest in told["seen"]}

    @property
    def rate(self):
        return self.asked / self.seconds

    def __str__(self):
        return (f"{self.asked} connections in {self.seconds:.1f} s, {self.rate:.0f} a second, "
                f"the slowest {self.slowest / 1e6:.1f} ms, to {len(self.seen)} endpoints; "
                f"failures {self.failures}")


class Crowd:
    """rate: connections a second; as many as it can where it is left out."""

    def __init__(self, container, hosts, protocol, rate=None):
        if ADDRESSES not in container.ip("route").stdout:
            container.ip("route", "add", ADDRESSES, "via", GATEWAY)
            hosts.ip("route", "add", "local", ADDRESSES, "dev", "lo")
        # Flows that are over would fill conntrack's table; and a port that comes
        # again would be led where the one before it was.
        for name in ("tcp_timeout_close", "udp_timeout"):
            container.sysctl(f"net.netfilter.nf_conntrack_{name}", 1)
        self._process = container.start(probe("crowd"), protocol, hosts.path,
                                        *([rate] if rate else []))
        assert self._process.read_line() == "ready"

    def begin(self):
        self._process.write_line("begin")

    def end(self):
        self._process.write_line("end")
        told = Told(json.loads(self._process.read_line(deadline=60)))
        self._process.wait()
        return told
