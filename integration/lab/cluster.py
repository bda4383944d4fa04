# SPDX-License-Identifier: MIT
"""An etcd of three members.

    with Cluster() as cluster:
        cluster.members[0].stop()
        cluster.any().put(key, value)
"""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile

from lab.etcd import Etcd, free_ports
from lab.waiting import wait_until


class Member(Etcd):
    """One of them: an Etcd that can be frozen. Its start needs the others."""

    # Milliseconds. An election is not to be lost to a machine that is busy for a moment.
    HEARTBEAT, ELECTION = 200, 2000

    def __init__(self, cluster, number, port, peer):
        self.folder = cluster.folder / str(number)
        self.folder.mkdir()
        self._program, self._options = "etcd", ()
        self.certificates = self.user = self._token = self._process = None
        self.port, self._peer = port, peer
        self._cluster, self._name = cluster, f"member{number}"
        self.frozen = False

    @property
    def _peer_web(self):
        return f"http://127.0.0.1:{self._peer}"

    def _command(self, peer):
        own, peers = self._web, self._peer_web
        everybody = ",".join(f"{each._name}={each._peer_web}" for each in self._cluster.members)
        return [self._program, "--name", self._name, "--enable-v2",
                "--data-dir", self.folder / "data",
                "--heartbeat-interval", str(self.HEARTBEAT),
                "--election-timeout", str(self.ELECTION),
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
        return self.metric("etcd_debugging_mvcc_watcher_total")

    def polls(self):
        """How many of the v2 API."""
        return self.metric("etcd_debugging_store_watchers")

    def is_leader(self):
        """As it says itself."""
        status = self.call("/v3/maintenance/status")
        return status.get("leader", "0") == status["header"]["member_id"]


class Cluster:
    """Healthy when it is made. Usable with `with`."""

    SIZE = 3

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-cluster-"))
        self.members = self._make_members()
        try:
            for member in self.members:
                member.launch()
            self.wait()
        except BaseException:
            self.close()
            raise

    def _make_members(self):
        ports = free_ports(2 * self.SIZE)
        return [Member(self, number, ports[2 * number], ports[2 * number + 1])
                for number in range(self.SIZE)]

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

    def leader(self):
        """The member that leads the others."""
        def look():
            for member in self.members:
                with contextlib.suppress(OSError):
                    if member.is_up and member.is_leader():
                        return member
            return None
        return wait_until(look, 40, what="a leader")

    @property
    def url(self):
        return self.url_from(self.members[0])

    def url_from(self, first):
        """With that member as the first one."""
        others = [member for member in self.members if member is not first]
        return "etcd://" + ",".join(member.address for member in [first, *others])

    @property
    def url_v2(self):
        return self.url.replace("etcd://", "etcd2://")

    def close(self):
        for member in self.members:
            if member._process:
                member.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
