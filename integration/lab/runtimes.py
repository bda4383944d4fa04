# SPDX-License-Identifier: MIT
"""Container runtimes, given a bundle: what an engine does, without the engine.

    with Runtime("runc", folder) as runtime:
        runtime.run(namespace, ["nc", "127.0.0.1", "80"], env=["BACKEND_WEB=web;80"],
                    hooks=[runtime.hook("--registry", etcd.url)])
"""

import itertools
import json
import os
import pathlib
import shutil

from lab.command import PROGRAM
from lab.processes import run

_numbers = itertools.count(1)
_PROGRAMS = {
    "runc": ["runc"],
    # It does not go where a host has control groups of both kinds.
    "crun": ["unshare", "--mount", "sh", "-c",
             "mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec crun --cgroup-manager=disabled \"$@\"",
             "crun"],
}


def make_root(folder):
    """A root file system with a shell and a client in it."""
    root = pathlib.Path(folder) / "root"
    (root / "bin").mkdir(parents=True)
    for name in ("dev", "proc"):
        (root / name).mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("nc", "sh", "true"):
        (root / "bin" / name).symlink_to("busybox")
    return root


def hook(*arguments, timeout=10):
    """As it stands in a bundle. Nothing of the host's own settings comes in."""
    words = [str(word) for word in ("dragoman", "hook", "--config", "/dev/null", *arguments)]
    found = [f"{name}={os.environ[name]}" for name in ("LLVM_PROFILE_FILE", "ASAN_OPTIONS")
             if name in os.environ]
    return {"path": PROGRAM, "args": words, "env": found, "timeout": timeout}


def bundle(folder, root, env=(), command=("true",), namespace=None, hooks=(), annotations=None,
           group=None):
    """Writes a bundle's config.json there."""
    network = {"type": "network", "path": str(namespace.path)} if namespace else None
    document = {
        "ociVersion": "1.0.2",
        "process": {"args": list(command), "cwd": "/", "env": ["PATH=/bin", *env],
                    "user": {"uid": 0, "gid": 0}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "root": {"path": str(root), "readonly": True},
        "annotations": annotations or {},
        "hooks": {"createRuntime": list(hooks)},
        "linux": {"cgroupsPath": group,
                  "namespaces": [{"type": "pid"}, {"type": "mount"},
                                 *([network] if network else [])]},
    }
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(document))
    return folder


class Runtime:
    """runc or crun, with a state of its own."""

    def __init__(self, program, folder):
        self._program, self._folder = program, pathlib.Path(folder)
        self._root = make_root(folder)

    def run(self, namespace, command, **options):
        """A container, to its end. Without a namespace it is in the host's network."""
        name = f"dgm-oci-{os.getpid()}-{next(_numbers)}"
        where = bundle(self._folder / name, self._root, command=command, namespace=namespace,
                       group=f"/{name}", **options)
        return run(*_PROGRAMS[self._program], "--root", self._folder / "state", "run", "--bundle", where, name,
                   check=False)
