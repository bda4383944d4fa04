# SPDX-License-Identifier: MIT
"""Endpoints that answer and clients that ask, each in its namespace."""

import collections
import json
import pathlib

from lab.processes import python

_HERE = pathlib.Path(__file__).parent


def serve(namespace, *listens):
    """Starts endpoints that answer with their name; they listen when this returns.

    serve(hosts, "10.77.0.1:8080/tcp", "[fd77::1]:8080/udp"). Returns the
    process; it ends with the namespace.
    """
    process = namespace.start(*python(_HERE / "serve.py", *listens))
    line = process.read_line()
    assert line == "ready", f"endpoints {listens}: {line}"
    return process


def connect(namespace, where, times=1):
    """Connects to "127.0.0.1:8080/tcp" from inside, one after the other.

    Returns a Counter by the name of the endpoint that answered, or by the name
    of the error: Counter({"10.77.0.1:8080": 99, "ECONNREFUSED": 1}).
    """
    done = namespace.run(*python(_HERE / "connect.py", "count", where, times), timeout=300)
    return collections.Counter(json.loads(done.stdout))


def send(namespace, where, times=1):
    """The same over one UDP socket: one flow, many datagrams."""
    done = namespace.run(*python(_HERE / "connect.py", "send", where, times), timeout=300)
    return collections.Counter(json.loads(done.stdout))


class Conversation:
    """One connection that stays. `endpoint` is the name that greeted it."""

    def __init__(self, namespace, where):
        self._process = namespace.start(*python(_HERE / "connect.py", "hold", where))
        self.endpoint = self._process.read_line()

    def say(self, text):
        """What comes back: the same text, or the name of an error."""
        self._process.write_line(text)
        return self._process.read_line()

    def end(self):
        self._process.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class IdleReader:
    """A TCP connection that says nothing, and waits for what is said to it."""

    def __init__(self, namespace, where):
        self._process = namespace.start(*python(_HERE / "connect.py", "idle", where))
        self.endpoint = self._process.read_line()

    def end_of_it(self, deadline=10):
        """How it ended: the name of an error, or "closed"."""
        return self._process.read_line(deadline)

    def is_open(self):
        return self._process.ended() is None


def chi_square(counts, expected):
    """Pearson's statistic of counts (a mapping) against expected (a mapping)."""
    return sum((counts.get(name, 0) - number) ** 2 / number for name, number in expected.items())
