# SPDX-License-Identifier: MIT
"""A client; runs inside a namespace.

    connect.py count 127.0.0.1:8080/tcp TIMES     connects one after the other
    connect.py hold  127.0.0.1:8080/tcp           connects once, then says each
                                                  line of its input
    connect.py idle  127.0.0.1:8080/tcp           connects once, and waits for
                                                  whatever ends that
    connect.py send  127.0.0.1:8080/udp TIMES     one UDP socket, many datagrams

Prints a JSON object of answers and how often each came; a connection that
failed counts under the name of its error. hold prints the answers, a line each.
"""

import collections
import errno
import json
import socket
import sys

from addresses import parse_listen

TIMEOUT = 5.0


def open_socket(where):
    family, address, port, protocol = parse_listen(where)
    client = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    client.settimeout(TIMEOUT)
    client.connect((address, port))
    return client, protocol


def read_line(client):
    line = b""
    while not line.endswith(b"\n"):
        data = client.recv(65536)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "closed")
        line += data
    return line.decode().rstrip("\n")


def ask(client, protocol):
    if protocol == "tcp":
        return read_line(client)
    client.send(b"who")
    return client.recv(65536).decode()


def error_name(error):
    if isinstance(error, TimeoutError):
        return "ETIMEDOUT"
    return errno.errorcode.get(error.errno, str(error))


def count(where, times):
    answers = collections.Counter()
    for _ in range(times):
        try:
            client, protocol = open_socket(where)
            with client:
                answers[ask(client, protocol)] += 1
        except OSError as error:
            answers[error_name(error)] += 1
    print(json.dumps(answers))


def send(where, times):
    answers = collections.Counter()
    client, protocol = open_socket(where)
    with client:
        for _ in range(times):
            try:
                answers[ask(client, protocol)] += 1
            except OSError as error:
                answers[error_name(error)] += 1
    print(json.dumps(answers))


def hold(where):
    client, protocol = open_socket(where)
    with client:
        try:
            print(ask(client, protocol), flush=True)
        except OSError as error:
            print(error_name(error), flush=True)
        for line in sys.stdin:
            try:
                client.sendall(line.encode())
                print(read_line(client) if protocol == "tcp" else client.recv(65536).decode(), flush=True)
            except OSError as error:
                print(error_name(error), flush=True)


def idle(where):
    client, _ = open_socket(where)
    with client:
        print(read_line(client), flush=True)
        client.settimeout(None)
        try:
            print("said something" if client.recv(65536) else "closed", flush=True)
        except OSError as error:
            print(error_name(error), flush=True)


def main():
    verb, where = sys.argv[1:3]
    if verb in ("hold", "idle"):
        {"hold": hold, "idle": idle}[verb](where)
    else:
        {"count": count, "send": send}[verb](where, int(sys.argv[3]))


main()
