# SPDX-License-Identifier: MIT
"""Endpoints that say who they are; runs inside a namespace.

    serve.py 10.77.0.1:8080/tcp [fd77::1]:8080/udp ...

Prints "ready" when all of them listen. Over TCP each connection is greeted
with "ADDRESS:PORT\\n" of the endpoint, and what it says then is echoed; over
UDP each datagram is answered with the same text.
"""

import selectors
import socket
import sys

from addresses import parse_listen


def on_tcp_connection(connection, selector):
    data = b""
    try:
        data = connection.recv(65536)
        if data:
            connection.sendall(data)
    except OSError:
        data = b""
    if not data:
        selector.unregister(connection)
        connection.close()


def on_tcp_listener(listener, selector, name):
    try:
        connection, _ = listener.accept()
        connection.sendall(name + b"\n")
    except OSError:
        return
    connection.settimeout(5)
    selector.register(connection, selectors.EVENT_READ,
                      lambda: on_tcp_connection(connection, selector))


def on_datagram(server, name):
    try:
        _, sender = server.recvfrom(65536)
        server.sendto(name, sender)
    except OSError:
        pass  # an ICMP error of an earlier answer


def listen(where, selector):
    family, address, port, protocol = parse_listen(where)
    name = where.rsplit("/", 1)[0].encode()
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((address, port))
    if protocol == "tcp":
        server.listen(4096)
        selector.register(server, selectors.EVENT_READ,
                          lambda: on_tcp_listener(server, selector, name))
    else:
        selector.register(server, selectors.EVENT_READ, lambda: on_datagram(server, name))


def main():
    selector = selectors.DefaultSelector()
    for where in sys.argv[1:]:
        listen(where, selector)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            key.data()


main()
