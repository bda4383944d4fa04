# SPDX-License-Identifier: MIT
"""Where rules stand and are tried: a "container" and, over a cable, everybody else.

Every endpoint there may be answers at the other end: one socket there listens on
port 7000 of whatever address it is asked for, and its own address tells who was
reached.
"""

import contextlib
import os
import socket
import struct
import time

import state
from lab.namespaces import inside

_RESET = struct.pack("ii", 1, 0)


class Taken(float):
    """Seconds from start to end; processor: how many of them it was at work."""

    processor = None


def time_command(*command, input=os.devnull):
    """What a command takes, from its start to its end."""
    words = [str(word) for word in command]
    actions = [(os.POSIX_SPAWN_OPEN, 0, input, os.O_RDONLY, 0),
               (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    took = Taken(time.perf_counter() - began)
    took.processor = used.ru_utime + used.ru_stime
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"{' '.join(words)}: exit {code}"
    return took


class Stage:
    def __init__(self, namespaces, label):
        self.container, self.hosts = namespaces.new(label), namespaces.new(f"{label}-hosts")
        namespaces.link(self.container, self.hosts)
        self.container.add_address("10.63.0.100/24", "fd77::100/64")
        self.hosts.add_address("10.63.0.1/24", "fd77::1/64")
        self.container.ip("route", "add", state.ADDRESSES, "via", "10.63.0.1")
        self.hosts.ip("route", "add", "local", state.ADDRESSES, "dev", "lo")
        with inside(self.hosts):
            self._server = socket.create_server(("0.0.0.0", state.ENDPOINT_PORT), backlog=4096)
        self._server.settimeout(5)

    def open_localhost(self):
        """What dragoman does by itself, and other people's rules rely on."""
        self.container.sysctl("net.ipv4.conf.all.route_localnet", 1)

    def time(self, *command, input=os.devnull):
        """Seconds that a command takes in the container's namespace."""
        with inside(self.container):
            return time_command(*command, input=input)

    def reached(self, port, expected):
        """The numbers of the endpoints that 127.0.0.1:port leads to: it is tried until all that
        are expected were seen, or as often as leaves no doubt."""
        seen = set()
        with inside(self.container):
            for tried in range(30 * len(expected) + 50):
                seen.add(self._connect(port))
                if tried >= 2 * len(expected) and seen >= expected:
                    break
        return seen

    def _connect(self, port):
        with contextlib.closing(socket.socket()) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.settimeout(5)
            client.connect(("127.0.0.1", port))
            accepted, _ = self._server.accept()
            with contextlib.closing(accepted):
                return state.number_of(accepted.getsockname()[0])

    def close(self):
        self._server.close()
