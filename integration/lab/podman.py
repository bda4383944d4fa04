# SPDX-License-Identifier: MIT
"""Podman's Docker-compatible socket, with all that it keeps in a directory of its own.

    with Podman() as podman:
        web = podman.run("web", env={"BACKEND_DB": "db;3306"})
        pod = podman.pod("pod")
        pod.run("a", env={"BACKEND_CACHE": "cache;6379"})

Containers are those of lab/docker.py. Other than dockerd's they go on when the
service ends, and nothing is started with it: each has a monitor of its own.
"""

import contextlib
import os

from lab.docker import Container, Docker, Failure
from lab.processes import Process

_CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
[network]
network_config_dir = "{directory}/networks"
"""
_STORAGE = """
[storage]
driver = "vfs"
graphroot = "{directory}/data"
runroot = "{directory}/run"
"""


# The first process of a container is spared SIGTERM unless it cares for it.
_IDLE = ["sh", "-c", "trap exit TERM; sleep 86400 & wait"]


class Pod:
    """Containers that share the namespace of one that does nothing else."""

    def __init__(self, podman, name):
        self._podman, self.name = podman, name
        podman.api("POST", "/v4.0.0/libpod/pods/create", {
            "name": name, "infra_image": podman.image, "infra_command": _IDLE,
            "netns": {"nsmode": "none"}, "cgroup_parent": podman.cgroup})

    def run(self, name, env=()):
        made = self._podman.api("POST", "/v4.0.0/libpod/containers/create", {
            "name": name, "image": self._podman.image, "command": ["sleep", "86400"],
            "pod": self.name, "env": dict(env), "stop_signal": 9})
        return Container(self._podman, name, made["Id"]).start()

    def remove(self):
        self._podman.api("DELETE", f"/v4.0.0/libpod/pods/{self.name}?force=true")


class Podman(Docker):
    """A running service. Usable with `with`."""

    name = "podman"

    def _configure(self):
        for name, text in (("containers.conf", _CONFIGURATION), ("storage.conf", _STORAGE)):
            (self.directory / name).write_text(text.format(directory=self.directory))

    def _engine(self):
        place = self.directory
        self.socket.unlink(missing_ok=True)
        environment = {**os.environ, "CONTAINERS_CONF": str(place / "containers.conf"),
                       "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
                       "HOME": str(place), "TMPDIR": str(place)}
        # In a mount namespace of its own, since it has a cache in /var/lib whatever it is told.
        return Process("unshare", "--mount", "sh", "-c",
                       "mount -t tmpfs -o mode=755 podman /var/lib && exec \"$@\"", "sh",
                       "podman", "--root", place / "data", "--runroot", place / "run",
                       "--tmpdir", place / "tmp", *self._flags,
                       "system", "service", "--time=0", self.url,
                       env=environment, output=self._log)

    @property
    def cgroup(self):
        return f"/{self._cgroup}"

    def pod(self, name):
        return Pod(self, name)

    def clear(self):
        """Removes every pod and container, those first that no other needs."""
        for pod in self.api("GET", "/v4.0.0/libpod/pods/json") or ():
            self.api("DELETE", f"/v4.0.0/libpod/pods/{pod['Id']}?force=true")
        left = None
        while found := self.api("GET", "/containers/json?all=1"):
            assert left is None or len(found) < left, found
            left = len(found)
            for container in found:
                with contextlib.suppress(Failure):
                    self.remove(container["Id"])
