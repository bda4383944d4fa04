# SPDX-License-Identifier: MIT
"""Too little memory: of the address space (RLIMIT_AS), and of a control group."""

import contextlib
import itertools
import os
import pathlib
import re
import resource

from lab.probes import probe

# Without sanitizers, whose shadow fits into no limit. `make integration` builds it.
PLAIN = probe("").parent / "dragoman"

_numbers = itertools.count(1)


def address_space(pid):
    """What a process has of it, in bytes."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmSize:\s+(\d+) kB$", text, re.MULTILINE)[1]) * 1024


def limit_address_space(pid, size):
    """None takes the limit away."""
    size = resource.RLIM_INFINITY if size is None else size
    resource.prlimit(pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


class Group:
    """A control group of the memory controller, of version 1 or 2."""

    def __init__(self, path, names):
        self._path, (self._limit, self._usage) = path, names

    def add(self, pid):
        (self._path / "cgroup.procs").write_text(str(pid))

    @property
    def usage(self):
        return int((self._path / self._usage).read_text())

    def limit(self, size):
        (self._path / self._limit).write_text(str(size))


@contextlib.contextmanager
def memory_group():
    """with memory_group() as group: group.add(pid); it has to be empty in the end."""
    root, name = pathlib.Path("/sys/fs/cgroup"), f"dgm-{os.getpid()}-memory-{next(_numbers)}"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    path = root / "memory" / name
    if not path.parent.is_dir():
        control = root / "cgroup.subtree_control"
        if "memory" not in control.read_text().split():
            control.write_text("+memory")
        names, path = ("memory.max", "memory.current"), root / name
    path.mkdir()
    try:
        yield Group(path, names)
    finally:
        path.rmdir()
