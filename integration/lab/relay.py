# SPDX-License-Identifier: MIT
"""Stands between a client and a server, and can fail as networks and hosts do.

    with Relay(etcd.address) as relay:
        ... relay.address ...
        relay.hang()      connections stand, and nothing comes through any more
        relay.part()      connections are closed, and new ones as they come, until
        relay.join()
        relay.hang(at=b"word")               from the next request on that has that word
        relay.cut_after(100, of=b"/kv/txn")  connections are closed, once, behind so many
                                             bytes of answers since that was asked
        relay.slow(0.001) answers come byte by byte
        relay.cut()       connections are closed, new ones refused
        relay.asked, relay.answered      the bytes that came through
"""

import contextlib
import socket
import threading


class Relay:
    """To the server at address, or at the path of a socket.

    at: where it listens, else at a port that is free. replace: (old, new), in what
    the server answers, where it comes in one piece.
    """

    def __init__(self, address, at="127.0.0.1:0", replace=None):
        self._is_path = str(address).startswith("/")
        self._server = str(address) if self._is_path else self._parse(address)
        self._replace = replace
        self._listener = socket.create_server(self._parse(at))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked, self.answered = bytearray(), bytearray()
        self.connections = 0
        self._sockets, self._threads = [], []
        self._lock = threading.Lock()
        self._parted = False
        self._hung, self._hangs_at, self._ended = False, None, threading.Event()
        self._left, self._cuts, self._pause = None, None, 0
        self._start(self._accept)

    @staticmethod
    def _parse(address):
        host, _, port = address.rpartition(":")
        return host, int(port)

    def _start(self, function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    if self._ended.is_set():
                        client.close()
                        return
                    if self._parted:
                        client.close()
                        continue
                    server = socket.socket(socket.AF_UNIX if self._is_path else socket.AF_INET)
                    self._sockets += [client, server]
                    self.connections += 1
                try:
                    if not self._hung:
                        server.connect(self._server)
                except OSError:
                    client.close()
                    continue
                self._start(self._carry, client, server, self.asked)
                self._start(self._carry, server, client, self.answered)

    def _carry(self, source, sink, record):
        with contextlib.suppress(OSError):
            while not self._hung and (data := source.recv(65536)) and not self._hung:
                if self._hangs_at and record is self.asked and self._hangs_at in data:
                    self._hung = True
                    break
                record += data
                if record is self.asked and self._cuts and self._cuts[1] in data:
                    (self._left, _), self._cuts = self._cuts, None
                if self._replace and record is self.answered:
                    data = data.replace(*self._replace)
                self._send(sink, data, record is self.answered)
        if self._hung:
            self._ended.wait()
        # A half that has ended ends the other's reading, and by that the other.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _send(self, sink, data, is_answer):
        if not is_answer:
            sink.sendall(data)
            return
        is_last = self._left is not None and len(data) >= self._left
        if self._left is not None:
            data = data[:self._left]
            self._left = None if is_last else self._left - len(data)
        if self._pause:
            for byte in data:
                sink.sendall(bytes([byte]))
                self._ended.wait(self._pause)
        else:
            sink.sendall(data)
        if is_last:
            with self._lock:
                self._shut_down()

    def cut_after(self, count, of=None):
        """of: a word of the request; of whatever is answered from now on without one."""
        if of:
            self._cuts = count, of
        else:
            self._left = count

    @property
    def is_whole(self):
        """What was to be cut is cut."""
        return self._left is None and self._cuts is None

    def slow(self, pause):
        self._pause = pause

    def hang(self, at=None):
        self._hangs_at = at
        self._hung = at is None

    def part(self):
        with self._lock:
            self._parted = True
            self._shut_down()

    def _shut_down(self):
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def join(self):
        self._parted = False

    def cut(self):
        """Done with: there is no way back."""
        with self._lock:
            self._ended.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=10)
        for each in self._sockets:
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()
