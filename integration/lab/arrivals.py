# SPDX-License-Identifier: MIT
"""Listens, and tells what came; runs inside a namespace.

    arrivals.py FENCE LISTEN...

A listener is 127.0.0.1:80/tcp, 127.0.0.1:80/udp, or of another protocol, by
its number, and without a port: 127.0.0.1:0/132. A UDP one as LISTEN>ADDRESS:PORT
sends a datagram there first, so that a flow begins at it.

Prints "ready"; then, for each datagram that comes to FENCE, a JSON object:
how many packets came to each listener since, of TCP how many SYNs.
"""

import json
import pathlib
import socket
import sys

from addresses import parse_listen

_SYN_RECEIVED = "03"


def listen(where):
    where, arrow, first = where.partition(">")
    family, address, port, protocol = parse_listen(where)
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(protocol, socket.SOCK_RAW)
    number = int(protocol) if kind == socket.SOCK_RAW else 0
    server = socket.socket(family, kind, number)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    server.bind((address, port))
    if protocol == "tcp":
        server.listen(128)
    if arrow:
        to_address, _, to_port = first.rpartition(":")
        server.sendto(b"first", (to_address, int(to_port)))
    return server


def drain(server):
    count = 0
    while True:
        try:
            server.recv(2048, socket.MSG_DONTWAIT)
            count += 1
        except BlockingIOError:
            return count


class Requests:
    """What a SYN leaves until its handshake is over, each counted once."""

    def __init__(self):
        self._told = set()

    def count_new(self):
        """By local port."""
        counts = {}
        for name in ("tcp", "tcp6"):
            path = pathlib.Path("/proc/net") / name
            for line in path.read_text().splitlines()[1:] if path.exists() else ():
                local, remote, state = line.split()[1:4]
                if state == _SYN_RECEIVED and (local, remote) not in self._told:
                    self._told.add((local, remote))
                    port = int(local.rpartition(":")[2], 16)
                    counts[port] = counts.get(port, 0) + 1
        return counts


def main():
    fence = listen(sys.argv[1])
    servers = {where: listen(where) for where in sys.argv[2:]}
    requests = Requests()
    print("ready", flush=True)
    while True:
        fence.recv(2048)
        new = requests.count_new()
        print(json.dumps({where: new.get(server.getsockname()[1], 0) if where.endswith("/tcp")
                          else drain(server) for where, server in servers.items()}), flush=True)


main()
