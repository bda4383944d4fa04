# SPDX-License-Identifier: MIT
"""`dragoman run`, the agent, as a service manager starts it.

    with Agent(registry=etcd.url, targets=["--netns", web, "-b", "WEB=web;80"]) as agent:
        agent.status()["registry"]["state"], agent.metrics()["dragoman_commits_total"]

Started, it is ready; at the end it is asked to end, and has to do so cleanly.
"""

import collections
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile

from lab.command import PROGRAM, Dragoman
from lab.processes import Process
from lab.waiting import wait_until

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)"
    r"(?P<labels>\{(?:[a-zA-Z_][a-zA-Z0-9_]*=\"(?:[^\"\\\n]|\\[\\\"n])*\",?)*\})?"
    r" (?P<value>[-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|Inf|NaN))")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def parse_metrics(text):
    """Samples of the text format 0.0.4, by name with its labels; fails where it is none."""
    samples, types = {}, {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
        elif not line.startswith("# HELP "):
            found = _SAMPLE.fullmatch(line)
            assert found, line
            name, key = found["name"], found["name"] + (found["labels"] or "")
            family = name if name in types else _SUFFIX.sub("", name)
            assert family in types, f"{line}: of no type"
            assert types[family] != "counter" or family.endswith("_total"), line
            assert key not in samples, f"{line}: twice"
            samples[key] = float(found["value"])
    return samples


class _Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Agent:
    """A running agent. Usable with `with`.

    command: the program, with words before it that run it in some way, such as
    ["setpriv", "--reuid=65534", PROGRAM]; owner: a user for the socket's folder.
    """

    def __init__(self, *arguments, registry, ready=True, env=None, command=(PROGRAM,), owner=None):
        self._command = command
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dgm-agent-"))
        if owner is not None:
            os.chown(self.folder, owner, owner)
        self.socket = self.folder / "agent.sock"
        self._arguments = [str(word) for word in arguments]
        self._environment = {**Dragoman(registry).environment, **(env or {})}
        self._process = None
        self._said = open(self.folder / "log", "ab")
        try:
            self.start(ready)
        except BaseException:
            self._discard()
            raise

    def start(self, ready=True, command=None):
        """command: as at first, unless it is given."""
        self._process = Process(*(command or self._command), "run", "--socket", self.socket, *self._arguments,
                                env=self._environment, output=self._said)
        if ready:
            wait_until(self.is_ready, deadline=30, what="the agent to be ready")

    @property
    def pid(self):
        return self._process.pid

    @property
    def program_pid(self):
        """The program's own, where it was started by another that stays, such as strace."""
        children = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0]) if children else self.pid

    def ended(self):
        """The exit status, or None while it runs."""
        return self._process.ended()

    @property
    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def get(self, path):
        """One request: status and body."""
        connection = _Connection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def is_ready(self):
        ended = self._process.ended()
        assert ended is None, f"exit {ended}\n{self.log[-4000:]}"
        return self.answers()

    def answers(self):
        """Whether it says that it is ready."""
        try:
            return self.get("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def status(self):
        code, text = self.get("/status")
        assert code == 200
        return json.loads(text)

    def namespace(self, inode):
        """What it says of one namespace, or None."""
        found = [each for each in self.status()["namespaces"] if each["netns"] == inode]
        assert len(found) <= 1, found
        return found[0] if found else None

    def metrics(self):
        code, text = self.get("/metrics")
        assert code == 200
        return parse_metrics(text)

    def metric(self, name):
        return self.metrics()[f"dragoman_{name}"]

    def send(self, number):
        os.kill(self.pid, number)

    def minds_signals(self):
        """Whether SIGHUP would not just end it, as it does a program that is being loaded."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        blocked = int(re.search(r"^SigBlk:\s+([0-9a-f]+)$", text, re.MULTILINE)[1], 16)
        return blocked & 1 << (signal.SIGHUP - 1)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def context_switches(self):
        """How often it has gone to sleep of its own accord: each time something woke it up."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE)[1])

    def descriptors(self):
        """What its descriptors are: "socket:[4711]", "anon_inode:inotify"..."""
        found = []
        for entry in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(entry))
        return found

    def namespace_descriptors(self):
        """How many of its descriptors are of other namespaces: nsfs files and sockets."""
        here = set()
        for table in ("tcp", "tcp6", "unix", "netlink"):
            lines = pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            column = {"unix": 6, "netlink": 9}.get(table, 9)
            here.update(f"socket:[{line.split()[column]}]" for line in lines)
        return sum(each.startswith("net:") or (each.startswith("socket:") and each not in here)
                   for each in self.descriptors())

    def descriptor_kinds(self):
        """Its descriptors, counted by kind; connections (of the host) apart: curl keeps some."""
        connections = set()
        for table, column in (("tcp", 9), ("tcp6", 9), ("unix", 6)):
            lines = pathlib.Path(f"/proc/net/{table}").read_text().splitlines()[1:]
            connections.update(f"socket:[{line.split()[column]}]" for line in lines)
        return collections.Counter(
            "connection" if name in connections else re.sub(r":\[\d+\]$", "", name)
            for name in self.descriptors())

    def private_dirty(self):
        """Bytes of memory that are its own and written to."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Private_Dirty: +(\d+) kB$", text, re.MULTILINE)[1]) * 1024

    def kill(self):
        self._process.stop(signal.SIGKILL)

    def has_ended(self):
        return self._process.ended() is not None

    def wait(self, deadline=20):
        """Its exit status when it ends by itself, or by another's hand."""
        return self._process.wait(deadline)

    def end(self, signum=signal.SIGTERM):
        """Asks it to end; it has to, with status 0."""
        if self._process.ended() is None:
            self.send(signum)
        code = self._process.wait(20)
        self._process.stop()
        assert code == 0, f"exit {code}\n{self.log[-4000:]}"

    def _discard(self):
        if self._process:
            # What strace runs outlives it.
            if self._process.ended() is None and self.program_pid != self.pid:
                os.kill(self.program_pid, signal.SIGKILL)
            self._process.stop()
        self._said.close()
        shutil.rmtree(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                if self._process.ended() is None:
                    self.end()
            else:
                print(f"--- the agent said\n{self.log[-8000:]}")
        finally:
            self._discard()
