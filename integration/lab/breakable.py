# SPDX-License-Identifier: MIT
"""A Unix socket between a client and Docker's engine, that breaks at chosen moments.

    with BreakableEngine(docker.socket) as relay:
        relay.break_at("event")          # once, with the next event
        relay.break_at("look", alone=True)
        relay.break_now()

To break is what an engine's death looks like: every connection ends (or, alone,
just that one), and what was on its way is lost; the next one is relayed again.
Moments:

    version, events, list, look    such a request has come, and is not passed on
    ... answer                     its answer has come, and is not passed on
    ... half                       half of what came of its answer was passed on
    ... done                       all that came of its answer was passed on
    event, event half, event done  the same of an event in the stream
"""

import pathlib
import re
import socket
import tempfile
import threading

MOMENTS = tuple(
    f"{what}{when}" for what in ("version", "events", "list", "look", "event")
    for when in ("", " answer", " half", " done") if (what, when) != ("event", " answer"))

_REQUEST = re.compile(rb"GET (?:/v[0-9.]+)?/(version|events|containers/json|containers/)")
_NAMES = {b"version": "version", b"events": "events", b"containers/json": "list",
          b"containers/": "look"}


class _Connection:
    """A client's connection, and ours to the engine."""

    def __init__(self, relay, client, engine):
        self._relay, self._client, self._engine = relay, client, engine
        self._asked = self._answered = None
        for function in (self._requests, self._answers):
            threading.Thread(target=function, daemon=True).start()

    def _copy(self, source, target, pass_on):
        try:
            while data := source.recv(1 << 20):
                pass_on(data, target)
        except OSError:
            pass  # broken
        self.close()

    def _requests(self):
        def pass_on(data, target):
            found = _REQUEST.match(data)
            if found:
                self._asked, self._answered = _NAMES[found[1]], None
                self._relay.reached(self._asked)
            target.sendall(data)
        self._copy(self._client, self._engine, pass_on)

    def _answers(self):
        def pass_on(data, target):
            # Of the stream of events, the head is its answer.
            what = "event" if self._answered == "events" else self._asked
            self._answered = self._asked
            self._relay.reached("event" if what == "event" else f"{what} answer")
            if self._relay.is_set(f"{what} half"):
                target.sendall(data[:len(data) // 2])
                self._relay.reached(f"{what} half")
            target.sendall(data)
            self._relay.reached(f"{what} done")
        self._copy(self._engine, self._client, pass_on)

    def close(self):
        for each in (self._client, self._engine):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended
        self._relay.forget(self)


class BreakableEngine:
    def __init__(self, engine):
        self._engine = str(engine)
        self._folder = tempfile.TemporaryDirectory(prefix="dgm-relay-")
        self.socket = pathlib.Path(self._folder.name) / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.broken = 0
        self._connections, self._lock = set(), threading.RLock()
        self._moment, self._alone = None, False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            engine = socket.socket(socket.AF_UNIX)
            try:
                engine.connect(self._engine)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._connections.add(_Connection(self, client, engine))

    def break_at(self, moment, alone=False):
        assert moment in MOMENTS, moment
        self._moment, self._alone = moment, alone

    def is_set(self, moment):
        return self._moment == moment

    def reached(self, moment):
        """Breaks where it was to; then the caller's own connection is gone, too."""
        with self._lock:
            if self._moment != moment:
                return
            self._moment = None
            self.broken += self._alone
        if not self._alone:
            self.break_now()
        raise ConnectionResetError

    def break_now(self):
        with self._lock:
            self.broken += 1
            connections = list(self._connections)
        for each in connections:
            each.close()

    def forget(self, connection):
        with self._lock:
            self._connections.discard(connection)

    def close(self):
        # Closing alone does not wake accept(2).
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.break_now()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
