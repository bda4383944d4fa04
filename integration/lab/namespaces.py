# SPDX-License-Identifier: MIT
"""Network namespaces and the cables between them.

    with Namespaces() as namespaces:
        web, hosts = namespaces.new("web"), namespaces.new("hosts")
        namespaces.link(web, hosts)
        web.add_address("10.77.0.100/24")
"""

import contextlib
import ctypes
import itertools
import os
import pathlib

from lab.processes import Process, run
from lab.waiting import wait_until

_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace):
    """What this thread connects meanwhile is of that namespace: setns(2) is of a thread."""
    def enter(file):
        assert _libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    with open("/proc/thread-self/ns/net", "rb") as here, open(namespace.path, "rb") as there:
        enter(there)
        try:
            yield
        finally:
            enter(here)


class Namespace:
    """A namespace in /run/netns; str() is its name there."""

    def __init__(self, name):
        self.name = name
        self.path = pathlib.Path("/run/netns") / name
        self._processes = []

    def __str__(self):
        return self.name

    @property
    def inode(self):
        return self.path.stat().st_ino

    def ip(self, *arguments, **options):
        return run("ip", "-n", self.name, *arguments, **options)

    def run(self, *command, **options):
        """Runs a command inside, to its end."""
        return run("nsenter", f"--net={self.path}", *command, **options)

    def start(self, *command, **options):
        """Starts a command inside; it ends with the namespace at the latest."""
        process = Process("nsenter", f"--net={self.path}", *command, **options)
        self._processes.append(process)
        return process

    def add_address(self, *addresses, device="eth0"):
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            self.ip("address", "add", address, "dev", device, *nodad)

    def sysctl(self, name, value=None):
        """Reads, or writes, a sysctl of the namespace: sysctl("net.ipv4.ip_forward")."""
        path = "/proc/sys/" + name.replace(".", "/")
        if value is None:
            return self.run("cat", path).stdout.strip()
        return self.run("tee", path, input=f"{value}\n").stdout.strip()

    def stop_processes(self):
        for process in self._processes:
            process.stop()
        self._processes.clear()


class Inside(Namespace):
    """The namespace of a process."""

    def __init__(self, pid):
        super().__init__(str(pid))
        self.path = f"/proc/{pid}/ns/net"


class Namespaces:
    """Makes namespaces and deletes just those."""

    def __init__(self):
        self._all = []

    def new(self, label, ipv6=True):
        """A namespace of a name that nobody else has, with lo up."""
        name = f"dgm-{os.getpid()}-{next(_numbers)}-{label}"
        run("ip", "netns", "add", name)
        namespace = Namespace(name)
        self._all.append(namespace)
        # No address is ever checked for duplicates here, so it is usable at once.
        namespace.sysctl("net.ipv6.conf.default.accept_dad", 0)
        if not ipv6:
            namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
            namespace.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        namespace.ip("link", "set", "lo", "up")
        return namespace

    def link(self, one, other, device="eth0", peer="eth0"):
        """A cable between two namespaces, up at both ends."""
        run("ip", "link", "add", device, "netns", one, "type", "veth",
            "peer", "name", peer, "netns", other)
        one.ip("link", "set", device, "up")
        other.ip("link", "set", peer, "up")
        for namespace, name in ((one, device), (other, peer)):
            wait_until(lambda: "LOWER_UP" in namespace.ip("link", "show", name).stdout,
                       what=f"the carrier of {name} in {namespace}")

    def delete(self, namespace):
        namespace.stop_processes()
        run("ip", "netns", "delete", namespace.name)
        self._all.remove(namespace)

    def close(self):
        for namespace in list(reversed(self._all)):
            self.delete(namespace)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
