# SPDX-License-Identifier: MIT
"""An etcd of three members.

    with Cluster() as cluster:
        cluster.members[0].stop()
        cluster.any().put(key, value)
"""

import os
import pathlib
import re
import shutil
import signal
import tempfile
import urllib.request

from lab.etcd import Etcd, free_ports
from lab.waiting import wait_until


class Member(Etcd):
    """One of them: an Etcd that can be frozen. Its start needs the others."""

    def __init__(self, cluster, number, port, peer):
        self.folder = cluster.folder / str(number)
        self.folder.mkdir()
        self._program = "etcd"
        self.certificates = self.user = self._token = self._process = None
        self.port, self._peer = port, peer
        self._cluster, self._name = cluster, f"member{number}"
        self.frozen = False

    def _command(self, peer):
        own, peers = self._web, f"http://127.0.0.1:{peer}"
        everybody = ",".join(f"{each._name}=http://127.0.0.1:{each._peer}"
                             for each in self._cluster.members)
        # An election is not to be lost to a machine that is busy for a moment.
        return [self._program, "--name", self._name, "--enable-v2",
                "--data-dir", self.folder / "data",
                "--heartbeat-interval", "200", "--election-timeout", "2000",
                "--listen-client-urls", own, "--advertise-client-urls", own,
                "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                "--initial-cluster", everybody, "--initial-cluster-state", "new"]

    def launch(self):
        """Without waiting for it."""
        self._launch()

    def is_healthy(self):
        return self._healthy()

    @property
    def is_up(self):
        return not self.frozen and self._process.ended() is None

    def freeze(self):
        """It stands still: its connections stay, and nothing is answered."""
        os.kill(self._process.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self):
        os.kill(self._process.pid, signal.SIGCONT)
        self.frozen = False

    def watchers(self):
        """How many watches of the v3 API it serves."""
        with urllib.request.urlopen(f"{self._web}/metrics", timeout=10) as answer:
            found = re.search(r"^etcd_debugging_mvcc_watcher_total (\S+)$",
                              answer.read().decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0


class Cluster:
    """Healthy when it is made. Usable with `with`."""

    SIZE = 3

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-cluster-"))
        ports = free_ports(2 * self.SIZE)
        self.members = []
        for number in range(self.SIZE):
            self.members.append(Member(self, number, ports[2 * number], ports[2 * number + 1]))
        try:
            for member in self.members:
                member.launch()
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self):
        """Until every member is healthy."""
        wait_until(lambda: all(member.is_healthy() for member in self.members), 40,
                   what="three healthy members")

    def any(self):
        """A member that is up."""
        return next(member for member in self.members if member.is_up)

    def in_use(self):
        """The member that serves a watch."""
        return wait_until(lambda: next((member for member in self.members
                                        if member.is_up and member.watchers()), None),
                          what="a member that is watched")

    @property
    def url(self):
        return "etcd://" + ",".join(member.address for member in self.members)

    @property
    def url_v2(self):
        return "etcd2://" + ",".join(member.address for member in self.members)

    def close(self):
        for member in self.members:
            if member._process:
                member.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
