# SPDX-License-Identifier: MIT
"""Those who ask the agent over HTTP to do it harm: each costs one of a few connections, for a
while, and nothing of the agent's own work.

What a request may be byte by byte is in tests/test_http_server.c.
"""

import contextlib
import errno
import os
import socket
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM
from lab.etcd import free_ports
from lab.registries import FileRegistry
from lab.waiting import wait_until

CONNECTIONS = int(os.environ.get("DRAGOMAN_CONNECTIONS", "1000"))
MIB = 1 << 20
WEB = "127.0.0.1:80/tcp"
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


class Asked:
    """An agent that answers on a socket and on a port, and follows a registry."""

    def __init__(self, agent, etcd, namespace, port):
        self.agent, self._etcd, self._namespace = agent, etcd, namespace
        self._port, self._number = port, 0

    def connect(self, kind, blocking=True):
        """Blocking ones are there when this returns; the others may come to wait."""
        unix = kind == "unix"
        client = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        client.settimeout(30)
        client.setblocking(blocking)
        if blocking:
            client.settimeout(30)
        try:
            client.connect(str(self.agent.socket) if unix else ("127.0.0.1", self._port))
        except BlockingIOError:
            pass
        return client

    def follows(self):
        """Whether a change in the registry comes to the kernel; the seconds that it took."""
        self._number = self._number % 250 + 1
        wanted = f"10.77.0.{self._number}:7000"
        start = time.monotonic()
        self._etcd.put("/services/web/a", wanted)
        wait_until(lambda: {slot.endpoint for slot in nft.slots(self._namespace, WEB)} == {wanted},
                   what=wanted)
        return time.monotonic() - start


@pytest.fixture
def asked(etcd, container):
    etcd.put("/services/web/a", "10.77.0.251:7000")
    (port,) = free_ports(1)
    with Agent("--netns", container, "-b", "WEB=web;80", "--metrics", f"127.0.0.1:{port}",
               registry=etcd.url) as agent:
        yield Asked(agent, etcd, container, port)


def rest(client):
    """All that comes, until the other end closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.recv(65536):
            answer += more
    return answer


def pour(client, piece, most):
    """Sends it again and again, up to that many bytes; how many went before the other closed."""
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < most:
            sent += client.send(piece)
    return sent


KINDS = pytest.mark.parametrize("kind", ["unix", "tcp"])


@KINDS
def test_adversary_requests_a_thousand_connections(asked, kind):
    """Most of them wait to be accepted. The other door is as open as before."""
    other = {"unix": "tcp", "tcp": "unix"}[kind]
    before = len(asked.agent.descriptors())
    with contextlib.ExitStack() as stack:
        refused = 0
        for _ in range(CONNECTIONS):
            try:
                client = stack.enter_context(asked.connect(kind, blocking=False))
                client.send(REQUEST)
            except OSError as error:
                assert error.errno in (errno.EAGAIN, errno.ENOTCONN, errno.ECONNREFUSED), error
                refused += 1
        for _ in range(5):
            asked.follows()
        with asked.connect(other) as client:
            client.sendall(REQUEST + b"\r\n")
            assert rest(client).startswith(b"HTTP/1.1 200 ")
        assert len(asked.agent.descriptors()) <= before + 40
        resident = asked.agent.private_dirty()
    with wait_until(lambda: served(asked, kind), deadline=30, what="an answer"):
        pass
    assert resident < (512 if "ASAN_OPTIONS" in os.environ else 32) * MIB
    wait_until(lambda: len(asked.agent.descriptors()) <= before + 2, what="all to be closed")
    asked.follows()


def served(asked, kind):
    """The connection, where it was answered."""
    client = asked.connect(kind)
    client.settimeout(2)
    try:
        client.sendall(REQUEST + b"\r\n")
        if rest(client).startswith(b"HTTP/1.1 200 "):
            return client
    except OSError:
        pass
    client.close()
    return None


@KINDS
def test_adversary_requests_half_closed(asked, kind):
    """Who has asked all there is to ask is answered; who has not is let go of at once."""
    with asked.connect(kind) as client:
        client.sendall(REQUEST + b"\r\n")
        client.shutdown(socket.SHUT_WR)
        assert rest(client).startswith(b"HTTP/1.1 200 ")
    start = time.monotonic()
    for part in (b"", b"GET", REQUEST, REQUEST + b"X: "):
        with asked.connect(kind) as client:
            client.sendall(part)
            client.shutdown(socket.SHUT_WR)
            assert b"200" not in rest(client)
    # All of them together, where a request has ten seconds.
    assert time.monotonic() - start < 10
    asked.follows()


@KINDS
def test_adversary_requests_pipelined_are_answered_once(asked, kind):
    with asked.connect(kind) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall((REQUEST + b"\r\n") * 500)
        assert rest(client).count(b"HTTP/1.1 ") == 1
    asked.follows()


ENDLESS = {
    "path": (b"GET /", b"a" * 65536),
    "header": (REQUEST + b"X: ", b"x" * 65536),
    "headers": (REQUEST, b"X: y\r\n" * 10000),
    "noise": (b"", b"\0\xff\x80\r" * 16384),
    "lines": (b"", b"\r\n" * 32768),
    "chunks": (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
               b"8000\r\n" + b"x" * 32768 + b"\r\n"),
    "body": (b"GET /status HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999\r\n\r\n",
             b"x" * 65536),
}


@KINDS
def test_adversary_requests_without_end_are_cut_off(asked, kind):
    """Long before all that somebody would send."""
    for name, (head, piece) in ENDLESS.items():
        with asked.connect(kind) as client:
            client.sendall(head)
            assert pour(client, piece, 256 * MIB) < 256 * MIB, name
            rest(client)
        asked.follows()
    assert asked.agent.private_dirty() < (512 if "ASAN_OPTIONS" in os.environ else 32) * MIB


def test_adversary_requests_whose_answers_nobody_reads(asked):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(asked.connect("unix")) for _ in range(20)]
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.sendall(REQUEST.replace(b"healthz", b"metrics") + b"\r\n")
        for _ in range(5):
            asked.follows()
        assert asked.agent.get("/healthz") == (200, "ok\n")


# Who may ask

@pytest.mark.parametrize(("address", "warns"), [
    ("0.0.0.0", True), ("[::]", True), ("10.77.0.1", True), ("127.0.0.1", False),
    ("127.1.2.3", False), ("[::1]", False)])
def test_adversary_requests_metrics_warns_beyond_loopback(laboratory, tmp_path, address, warns):
    registry = FileRegistry(None, tmp_path)
    inside = ["nsenter", f"--net={laboratory.hosts.path}"]
    with Agent("--netns", laboratory.container, "-b", "WEB=web;80", "--metrics",
               f"{address}:9999", registry=registry.url, command=[*inside, PROGRAM]) as agent:
        assert (f"--metrics {address}:9999: this is open to whoever can reach it"
                in agent.log) == warns
        assert ("open to whoever" in agent.log) == warns
        assert agent.socket.stat().st_mode & 0o777 == 0o660
