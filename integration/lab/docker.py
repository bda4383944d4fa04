# SPDX-License-Identifier: MIT
"""A Docker engine of its own, that leaves the host as it found it (but for empty
directories in /run).

    with Docker() as docker:
        web = docker.run("web", env={"BACKEND_DB": "db;3306"})
        web.pid, web.inode
        web.remove()

dockerd runs with directories of its own, no bridge, and no hand on the host's
rules or sysctls. Containers have a network namespace with nothing but lo; the
one image holds busybox. What dockerd starts (containerd, shims, containers)
ends with it.
"""

import concurrent.futures
import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse

from lab.processes import Process, run
from lab.waiting import wait_until

_numbers = itertools.count(1)


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Failure(Exception):
    """The engine said no: status and its message."""

    def __init__(self, status, message):
        super().__init__(f"status {status}: {message}")
        self.status = status


class Container:
    """A container, known by its ID; str() is its name when it was made."""

    def __init__(self, docker, name, identity):
        self.docker, self.name, self.id = docker, name, identity

    def __str__(self):
        return self.name

    def inspect(self):
        return self.docker.api("GET", f"/containers/{self.id}/json")

    @property
    def pid(self):
        return self.inspect()["State"]["Pid"]

    @property
    def inode(self):
        """The number of its network namespace."""
        return os.stat(f"/proc/{self.pid}/ns/net").st_ino

    def _post(self, verb, **parameters):
        query = urllib.parse.urlencode(parameters)
        self.docker.api("POST", f"/containers/{self.id}/{verb}?{query}")

    def start(self):
        self._post("start")
        return self

    def kill(self):
        self._post("kill")
        self._post("wait")

    def restart(self):
        self._post("restart", t=0)

    def rename(self, name):
        self._post("rename", name=name)
        self.name = name

    def connect(self, network):
        self.docker.api("POST", f"/networks/{network}/connect", {"Container": self.id})

    def disconnect(self, network):
        self.docker.api("POST", f"/networks/{network}/disconnect", {"Container": self.id})

    def pause(self):
        self._post("pause")

    def unpause(self):
        self._post("unpause")

    def remove(self):
        self.docker.remove(self.id)


class Docker:
    """A running engine. Usable with `with`.

    namespace: where it runs, else in the host's; networks can be made in one of its own.
    """

    name = "docker"
    image = "busybox"

    def __init__(self, *flags, namespace=None):
        self._flags = flags
        self._inside = ["nsenter", f"--net={namespace.path}"] if namespace else []
        # A socket's path is short, so not below a test's own directory.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"dgm-{self.name}-"))
        self.socket = self.directory / f"{self.name}.sock"
        self.url = f"unix://{self.socket}"
        self._cgroup = f"dgm-{os.getpid()}-{next(_numbers)}"
        self._process = None
        self._log = open(self.directory / "log", "ab")
        try:
            self._configure()
            self.start()
            self._import_image()
        except BaseException:
            self.close()
            raise

    def _configure(self):
        (self.directory / "config.json").write_text("{}")

    def _engine(self):
        """The engine's process, started."""
        place = self.directory
        return Process(
            *self._inside, "dockerd", "--config-file", place / "config.json", "--host", self.url,
            "--data-root", place / "data", "--exec-root", place / "exec",
            "--pidfile", place / "pid", "--group", "root",
            # Nothing of the host's network is touched.
            "--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false",
            "--ip-masq=false", "--userland-proxy=false",
            "--storage-driver", "vfs", "--exec-opt", "native.cgroupdriver=cgroupfs",
            "--cgroup-parent", f"/{self._cgroup}", *self._flags, output=self._log)

    def start(self):
        """Starts the engine, and waits until it answers."""
        self._process = self._engine()
        wait_until(self._answers, deadline=60, what=f"{self.name}'s answer")

    def _answers(self):
        log = self.directory / "log"
        assert self._process.ended() is None, log.read_text(errors="replace")[-4000:]
        try:
            return self.api("GET", "/_ping", parse=False)
        except (OSError, http.client.HTTPException, Failure):
            return False

    def stop(self, signum=signal.SIGTERM):
        """Ends dockerd; containers end with it unless it was started with --live-restore."""
        self._process.stop(signum)
        # containerd ends with a dockerd that was killed; the next one would wait for it
        # where nobody reaps it.
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def api(self, method, path, body=None, kind="application/json", parse=True):
        """One request; the answer's JSON, or None where it has no body."""
        connection = Connection(self.socket)
        try:
            data = json.dumps(body) if isinstance(body, dict) else body
            connection.request(method, path, data, {"Content-Type": kind} if data else {})
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        finally:
            connection.close()
        if answer.status >= 400:
            raise Failure(answer.status, text)
        return json.loads(text) if parse and text else text or None

    def _import_image(self):
        root = self.directory / "root"
        (root / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for name in ("cat", "env", "nc", "sh", "sleep", "true", "wget"):
            (root / "bin" / name).symlink_to("busybox")
        archive = subprocess.run(["tar", "-C", root, "-c", "."], check=True,
                                 stdout=subprocess.PIPE).stdout
        self.api("POST", f"/images/create?fromSrc=-&repo={self.image}", archive,
                 "application/x-tar", parse=False)

    def create(self, name, env=(), network="none", labels=None, command=("sleep", "86400"),
               healthcheck=None, restart="no"):
        """A container that does not run yet. env is a dictionary, or a list of strings;
        healthcheck a command that the engine runs in it once a second; restart is the
        policy: "always" starts it with the engine."""
        if isinstance(env, dict):
            env = [f"{key}={value}" for key, value in env.items()]
        # A new namespace begins with what the host has, where others may have it on.
        sysctls = {} if network == "host" or network.startswith(("container:", "ns:")) else {
            "net.ipv4.conf.all.route_localnet": "0"}
        made = self.api("POST", f"/containers/create?name={name}", {
            "Image": self.image, "Cmd": list(command), "Env": list(env), "Labels": labels or {},
            # Else it takes ten seconds to end what does not care for SIGTERM.
            "StopSignal": "SIGKILL",
            "Healthcheck": {"Test": ["CMD", *healthcheck], "Interval": 10 ** 9}
            if healthcheck else None,
            "HostConfig": {"NetworkMode": network, "RestartPolicy": {"Name": restart},
                           "Sysctls": sysctls,
                           "CgroupParent": f"/{self._cgroup}"}})
        return Container(self, name, made["Id"])

    def run(self, name, *arguments, **options):
        return self.create(name, *arguments, **options).start()

    def remove(self, identity):
        try:
            self.api("DELETE", f"/containers/{identity}?force=1&v=1")
        except Failure as failure:
            if failure.status != 404:
                raise

    @contextlib.contextmanager
    def network(self, name, subnet):
        """A bridge; only for an engine in a namespace of its own."""
        assert self._inside, "bridges are not made on the host"
        self.api("POST", "/networks/create", {
            "Name": name, "Driver": "bridge", "IPAM": {"Config": [{"Subnet": subnet}]}})
        yield name
        self.api("DELETE", f"/networks/{name}")

    def clear(self):
        """Removes every container, some at a time."""
        found = [each["Id"] for each in self.api("GET", "/containers/json?all=1")]
        with concurrent.futures.ThreadPoolExecutor(4) as several:
            list(several.map(self.remove, found))

    def _groups(self):
        """Our control groups, of each hierarchy."""
        return pathlib.Path("/sys/fs/cgroup").glob(f"**/{self._cgroup}")

    def _end_containers(self):
        """Whether that could be done: groups, of others too, go while they are looked for."""
        try:
            for group in self._groups():
                for members in group.glob("**/cgroup.procs"):
                    for pid in members.read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
        except OSError:
            return False
        return True

    def _end_children(self):
        """What outlives dockerd that was killed: containerd and shims, known by our
        directory in their words, and containers, known by their control group."""
        wait_until(self._end_containers, what="the containers to be ended")
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
                if str(self.directory).encode() in words:
                    os.kill(int(process.name), signal.SIGKILL)
            except OSError:
                pass  # it has ended

    def _groups_are_gone(self):
        try:
            for group in list(self._groups()):
                for path, _, _ in os.walk(group, topdown=False):
                    os.rmdir(path)
        except OSError:
            return False  # a process is on its way out
        return True

    def close(self):
        if self._process and self._process.ended() is None:
            self.clear()
        if self._process:
            self.stop()
        self._end_children()
        self._log.close()
        for line in reversed(pathlib.Path("/proc/mounts").read_text().splitlines()):
            where = re.sub(r"\\040", " ", line.split()[1])
            if where.startswith(f"{self.directory}/"):
                run("umount", "--lazy", where, check=False)
        wait_until(self._groups_are_gone, what="the containers' control groups to go")
        shutil.rmtree(self.directory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
