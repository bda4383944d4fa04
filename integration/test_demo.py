# SPDX-License-Identifier: MIT
"""contrib/demo: what a newcomer runs first is so, and leaves nothing behind."""

import os
import pathlib
import signal

import pytest

from lab.processes import Process
from lab.waiting import wait_until

pytestmark = pytest.mark.alone

ROOT = pathlib.Path(__file__).parent.parent


def start_demo():
    # Started by make, it would build as that one was told to.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return Process(ROOT / "contrib/demo", env=env)


def read_to(demo, what):
    """Its lines up to the one that starts with what."""
    lines = [demo.read_line(deadline=120)]
    while not lines[-1].startswith(what):
        lines.append(demo.read_line(deadline=120))
    return lines


def process_namespace(pid):
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None  # it has ended


def stages(demo):
    """The namespaces of processes that its descendants are in, besides ours."""
    found, pids = set(), [demo.pid]
    for pid in pids:
        found.add(process_namespace(pid))
        try:
            pids += map(int, pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except OSError:
            pass  # it has ended
    return found - {process_namespace("self"), None}


def leftovers(demo, stages):
    """What it left: processes, control groups, mounts, names of namespaces."""
    processes = [entry.name for entry in pathlib.Path("/proc").glob("[0-9]*")
                 if process_namespace(entry.name) in stages]
    groups = list(pathlib.Path("/sys/fs/cgroup").glob(f"**/dragoman-demo-{demo.pid}"))
    mounts = [line for line in pathlib.Path("/proc/mounts").read_text().splitlines()
              if " /run/demo" in line]
    names = [entry.name for entry in pathlib.Path("/run/netns").glob("*")
             if entry.name in ("alpha", "app", "beta", "shop")]
    return processes + groups + mounts + names


def test_demo_is_so_and_leaves_nothing():
    with start_demo() as demo:
        read_to(demo, "== A client connects without a pause")
        inside = stages(demo)
        assert inside
        assert read_to(demo, "All of this was so.")[-1].endswith("Nothing of it is left.")
        assert demo.wait() == 0
        assert leftovers(demo, inside) == []


@pytest.mark.parametrize("moment", ["== 300 connections", "== A client connects"])
def test_demo_interrupted_leaves_nothing(moment):
    with start_demo() as demo:
        read_to(demo, moment)
        inside = stages(demo)
        assert inside
        demo.stop(signal.SIGINT)
        assert demo.ended() == 128 + signal.SIGINT
        assert leftovers(demo, inside) == []


def test_demo_killed_takes_its_processes_along():
    with start_demo() as demo:
        read_to(demo, "== 300 connections")
        inside = stages(demo)
        os.kill(demo.pid, signal.SIGKILL)
        wait_until(lambda: not any(process_namespace(entry.name) in inside
                                   for entry in pathlib.Path("/proc").glob("[0-9]*")),
                   deadline=60, what="the demo's processes to end")
        with pytest.raises(AssertionError, match="ended: "):
            read_to(demo, "== And out again")  # where it would have come to by itself
    for group in pathlib.Path("/sys/fs/cgroup").glob(f"**/dragoman-demo-{demo.pid}"):
        for path, _, _ in os.walk(group, topdown=False):
            os.rmdir(path)
