# SPDX-License-Identifier: MIT
"""Listens, and tells what came; runs inside a namespace.

    arrivals.py FENCE LISTEN...

Prints "ready"; then, for each datagram that comes to FENCE, a JSON object:
how many datagrams came to each UDP listener since, and how many SYNs stand
at each TCP listener now.
"""

import collections
import json
import pathlib
import socket
import sys

from addresses import parse_listen

_SYN_RECEIVED = "03"


def listen(where):
    family, address, port, protocol = parse_listen(where)
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    server.bind((address, port))
    if protocol == "tcp":
        server.listen(128)
    return server


def drain(server):
    count = 0
    while True:
        try:
            server.recv(2048, socket.MSG_DONTWAIT)
            count += 1
        except BlockingIOError:
            return count


def half_open():
    """Requests by local port: what a SYN leaves until its handshake is over."""
    counts = collections.Counter()
    for name in ("tcp", "tcp6"):
        path = pathlib.Path("/proc/net") / name
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            local, state = line.split()[1], line.split()[3]
            if state == _SYN_RECEIVED:
                counts[int(local.rpartition(":")[2], 16)] += 1
    return counts


def main():
    fence = listen(sys.argv[1])
    servers = {where: listen(where) for where in sys.argv[2:]}
    print("ready", flush=True)
    while True:
        fence.recv(2048)
        requests = half_open()
        print(json.dumps({where: drain(server) if where.endswith("/udp")
                          else requests[server.getsockname()[1]]
                          for where, server in servers.items()}), flush=True)


main()
