# SPDX-License-Identifier: MIT
"""Servers that are no good registry: what they answer is given by the test."""

import contextlib
import socket
import ssl
import threading
import time


def answer(body, status="200 OK", headers=(), length=None):
    """The bytes of an HTTP answer; length claims another one than the body's."""
    body = body if isinstance(body, bytes) else body.encode()
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}",
            "Content-Type: application/json", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class BadServer:
    """Answers each request with what behaviour(request) gives: bytes, or an iterable of bytes.

    After that the connection is kept until the client leaves; behaviours that
    end early raise ConnectionError. requests holds the request lines.
    """

    def __init__(self, behaviour, context=None):
        self._behaviour, self._context = behaviour, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.requests = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self):
        while not self._ending.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection):
        with contextlib.suppress(OSError), connection:
            connection.settimeout(20)
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while request := self._read_request(connection):
                    self.requests.append(request.partition("\r\n")[0])
                    self._send(connection, self._behaviour(request))

    @staticmethod
    def _read_request(connection):
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            if not piece:
                return ""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                while len(body) < int(line.split(b":")[1]):
                    body += connection.recv(65536)
        return (head + b"\r\n\r\n" + body).decode(errors="replace")

    def _send(self, connection, what):
        for piece in [what] if isinstance(what, bytes) else what:
            if self._ending.is_set():
                raise ConnectionError
            connection.sendall(piece)

    def close(self):
        self._ending.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=25)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class SilentListener:
    """Connections are taken by the kernel, and never by anybody else."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()


class BlackHole:
    """What is sent there gets no answer at all: its queue of connections is full."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._waiting = []
        with contextlib.suppress(TimeoutError):
            while True:
                self._waiting.append(
                    socket.create_connection(self._listener.getsockname(), timeout=0.2))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in [*self._waiting, self._listener]:
            each.close()


def refusing_address():
    """An address of a port that nobody listens at (any more)."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def tls_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def silence(_):
    """Nothing, until the client has gone."""
    while True:
        time.sleep(0.02)
        yield b""


def drip(_):
    """A byte now and then: never idle, never done."""
    yield answer(b"", length=1000000)
    while True:
        time.sleep(0.02)
        yield b" "


def flood(total, chunked):
    def behaviour(_):
        piece = b" " * (1 << 20)
        if chunked:
            yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        else:
            yield answer(b"", length=total)
        for _ in range(total // len(piece)):
            yield b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece
    return behaviour


def then_close(data):
    def behaviour(_):
        yield data
        raise ConnectionError
    return behaviour
