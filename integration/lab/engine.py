# SPDX-License-Identifier: MIT
"""An engine that answers what Docker's was recorded to answer, damaged at will.

    with Engine() as engine:
        web = engine.run("web", ["BACKEND_WEB=web;80"])      # and the event of its start
        engine.behave("look", hang)                          # from the next answer on
        web.behave(drip)                                     # looks at this one only

A container is a process in a network namespace of its own, or in another's; what
the engine says of it may be anything. Answers are those of Docker 20.10, in
recorded.json, with the container's own words put into them.
"""

import contextlib
import copy
import ctypes
import datetime
import itertools
import json
import os
import pathlib
import queue
import re
import secrets
import socket
import tempfile
import threading

from lab.processes import Process
from lab.waiting import wait_until

_RECORDED = json.loads((pathlib.Path(__file__).parent / "recorded.json").read_text())
_REQUEST = re.compile(rb"GET (?:/v[0-9.]+)?/(version|events|containers/json|containers/)([^/ ]*)")
_NAMES = {b"version": "version", b"events": "events", b"containers/json": "list",
          b"containers/": "look"}
KINDS = tuple(_NAMES.values())


# What becomes of an answer: each is given the connection and the answer's bytes.

def whole(connection, answer):
    connection.sendall(answer)


def hang(connection, answer):
    """Nothing, until the client or the engine ends it."""
    connection.recv(1)
    raise ConnectionError


def drip(connection, answer, pause=0.1):
    """A byte in a tenth of a second."""
    ended = threading.Event()
    for byte in answer:
        connection.sendall(bytes([byte]))
        ended.wait(pause)


def replaced_by(body, status="200 OK"):
    """Another body."""
    def behaviour(connection, answer):
        connection.sendall(http_answer(body, status))
    return behaviour


class Gate:
    """Answers wait, as they were when they were asked for, until it is opened."""

    def __init__(self):
        self.waiting, self._opened = threading.Semaphore(0), threading.Event()

    def __call__(self, connection, answer):
        self.waiting.release()
        self._opened.wait(30)
        connection.sendall(answer)

    def open(self):
        self._opened.set()


def http_answer(body, status="200 OK"):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status}", *_RECORDED["headers"],
            datetime.datetime.now(datetime.timezone.utc).strftime("Date: %a, %d %b %Y %H:%M:%S GMT"),
            f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


def recorded_stream(identity):
    """All that Docker sent of one container's life, chunk by chunk, behind the stream's head."""
    events = _RECORDED["stream"].replace("@ID@", identity).encode().splitlines(keepends=True)
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in events)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Fake:
    """A container, as the engine has it; what it says can be changed at any time."""

    def __init__(self, engine, name, env, process, **say):
        self._engine, self.name, self.env = engine, name, list(env)
        self.process, self.running = process, True
        self.id = secrets.token_hex(32)
        self.pid, self.created, self.started = process.pid, now(), now()
        self.say = say  # members of the answer, by path: {"HostConfig.NetworkMode": "host"}
        self.behaviour = None

    def __str__(self):
        return self.name

    @property
    def inode(self):
        return os.stat(f"/proc/{self.pid}/ns/net").st_ino

    def behave(self, behaviour):
        self.behaviour = behaviour

    def inspect(self):
        found = copy.deepcopy(_RECORDED["inspect"])
        found.update(Id=self.id, Name=f"/{self.name}", Created=self.created)
        found["State"].update(Running=self.running, Pid=self.pid if self.running else 0,
                              Status="running" if self.running else "exited",
                              StartedAt=self.started)
        found["Config"]["Env"] = self.env
        for path, value in self.say.items():
            *way, last = path.split(".")
            place = found
            for each in way:
                place = place[each]
            place[last] = value
        return found

    def event(self, action):
        found = copy.deepcopy(_RECORDED["event"])
        found.update(status=action, id=self.id, Action=action)
        found["Actor"].update(ID=self.id, Attributes={"image": "busybox", "name": self.name})
        return found

    def tell(self, action):
        self._engine.send(json.dumps(self.event(action)).encode() + b"\n")

    def end(self):
        """It is gone in the kernel; the engine does not say so yet."""
        self.process.stop()

    def kill(self):
        self.end()
        self.running = False
        self.tell("die")

    def start(self):
        """Again, in a namespace that is new."""
        self.process = in_new_namespace()
        self.pid, self.started, self.running = self.process.pid, now(), True
        self.tell("start")


def in_new_namespace():
    process = Process("unshare", "--net", "sleep", "86400")
    ours = os.stat("/proc/self/ns/net").st_ino
    wait_until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino != ours,
               what="a namespace")
    return process


@contextlib.contextmanager
def group_of(identity, pid):
    """A process in a control group named after that container's ID, and back at the end."""
    root = pathlib.Path("/sys/fs/cgroup")
    # Of cgroup v1, any hierarchy will do.
    root = root if (root / "cgroup.procs").exists() else root / "pids"
    group = root / f"dgm-{os.getpid()}-{identity[:12]}" / identity
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text(str(pid))
    try:
        yield group
    finally:
        with contextlib.suppress(OSError):
            (root / "cgroup.procs").write_text(str(pid))
        wait_until(lambda: not (group / "cgroup.procs").read_text(), what="its group to be empty")
        group.rmdir()
        group.parent.rmdir()


def _listener_in(namespace, address):
    made = []

    def inside():  # setns(2) is of the thread
        with open(namespace.path, "rb") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), 0) == 0
        made.append(socket.create_server((address, 0)))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    return made[0]


class _Stream:
    """One who listens to the events."""

    def __init__(self, connection):
        self.connection, self.waiting = connection, queue.Queue()

    def run(self):
        while (data := self.waiting.get()) is not None:
            self.connection.sendall(data)
        raise ConnectionError


class Engine:
    """tcp: an address to listen at, in the namespace, instead of a Unix socket."""

    def __init__(self, tcp=None, namespace=None):
        self._folder = tempfile.TemporaryDirectory(prefix="dgm-engine-")
        self.containers, self._streams = {}, []
        self._behaviours = dict.fromkeys(KINDS, whole)
        self.asked = dict.fromkeys(KINDS, 0)
        self._connections, self._lock = set(), threading.Lock()
        self._ended, self._threads = threading.Event(), []
        if tcp:
            self._listener = _listener_in(namespace, tcp)
            self.url = f"tcp://{tcp}:{self._listener.getsockname()[1]}"
        else:
            self.socket = pathlib.Path(self._folder.name) / "docker.sock"
            self.url = f"unix://{self.socket}"
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.socket))
            self._listener.listen(64)
        self._start(self._accept)

    def _start(self, function, *arguments):
        threading.Thread(target=function, args=arguments, daemon=True).start()

    # What the test does

    def add(self, name, env=(), process=None, **say):
        """A container that runs, and was not told of."""
        made = Fake(self, name, env, process or in_new_namespace(), **say)
        self.containers[made.id] = made
        return made

    def run(self, name, env=(), **options):
        made = self.add(name, env, **options)
        made.tell("start")
        return made

    def behave(self, kind, behaviour):
        self._behaviours[kind] = behaviour

    def remove(self, container):
        container.process.stop()
        del self.containers[container.id]

    def send(self, data):
        """Bytes of the stream of events, to all who listen, as one chunk."""
        self.send_raw(b"%x\r\n%s\r\n" % (len(data), data))

    def send_raw(self, data):
        with self._lock:
            for stream in self._streams:
                stream.waiting.put(data)

    def finish_streams(self):
        """Ends the streams behind what was sent, wherever that ended."""
        self.send_raw(None)

    def listeners(self):
        return len(self._streams)

    def cut(self):
        """Ends every connection."""
        with self._lock:
            for each in self._connections:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    # What the client sees

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with self._lock:
                    self._connections.add(connection)
                self._start(self._serve, connection)

    def _serve(self, connection):
        try:
            while request := self._read(connection):
                self._answer(connection, request)
        except OSError:
            pass  # it was ended
        with self._lock:
            self._connections.discard(connection)
        connection.close()

    @staticmethod
    def _read(connection):
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            piece = connection.recv(65536)
            if not piece:
                return None
            data += piece
        return data

    def _answer(self, connection, request):
        found = _REQUEST.match(request)
        assert found, request
        kind = _NAMES[found[1]]
        self.asked[kind] += 1
        if kind == "events":
            self._stream(connection)
            return
        container = self._find(found[2].decode()) if kind == "look" else None
        behaviour = container and container.behaviour or self._behaviours[kind]
        behaviour(connection, self._words(kind, container))

    def _find(self, name):
        """By ID first, as Docker does."""
        named = [each for each in list(self.containers.values()) if each.name == name]
        return self.containers.get(name) or (named[0] if named else None)

    def _words(self, kind, container):
        if kind == "version":
            return http_answer(_RECORDED["version"])
        if kind == "list":
            return http_answer([{**_RECORDED["listed"], "Id": each.id, "Names": [f"/{each.name}"]}
                                for each in list(self.containers.values()) if each.running])
        if container is None:
            return http_answer({"message": "No such container"}, "404 Not Found")
        return http_answer(container.inspect())

    def _stream(self, connection):
        head = "\r\n".join(["HTTP/1.1 200 OK", *_RECORDED["headers"],
                            "Transfer-Encoding: chunked", "", ""]).encode()
        stream = _Stream(connection)
        with self._lock:
            self._streams.append(stream)
        try:
            self._behaviours["events"](connection, head)
            stream.run()
        finally:
            with self._lock:
                self._streams.remove(stream)

    def close(self):
        # Closing alone does not wake accept(2).
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for stream in list(self._streams):
            stream.waiting.put(None)
        self.cut()
        for each in list(self.containers.values()):
            each.process.stop()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
