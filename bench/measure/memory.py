# SPDX-License-Identifier: MIT
"""Memory of the agent, peak and steady, of the kernel for what it keeps, and rest.

"Private dirty" is what smaps_rollup says: memory that is the process's own and
written to. Of the resident set the kernel keeps a mark of the peak; of private
dirty memory it does not, so that is looked at every two milliseconds.
"""

import collections
import contextlib
import os
import pathlib
import re
import signal
import threading
import time

import keep
import machine
from lab.agent import Agent
from lab.namespaces import Namespaces
from lab.waiting import wait_until
from measure.update import settle
from peers.netlink import Console, Raw
from stage import Stage
from state import State

SIZES = (State(1000, 10), State(10000, 10))
SPACES = 100
# What wakes an idle agent up: its timers, and the answers to what they ask.
NAMED = {"timer etcd watch", "io http socket", "timer http timer", "timer resync",
         "timer watchdog"}
_WOKEN = re.compile(r"^dragoman: loop: (timer|io) (.*)$", re.MULTILINE)


def _status(pid, name):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)[1])


def _calm(agent, seconds=0.5):
    """Waits until nothing has woken the agent up for a while."""
    seen = [agent.context_switches(), time.monotonic()]

    def is_calm():
        now = agent.context_switches()
        if now != seen[0]:
            seen[:] = now, time.monotonic()
        return time.monotonic() - seen[1] > seconds
    wait_until(is_calm, deadline=60, what="the agent to rest")


def idle(results, namespaces):
    """An agent without anything to keep. Returns its private dirty memory."""
    stage = Stage(namespaces, "idle")
    with keep.registry(State(1, 1)) as etcd, \
            Agent("--netns", stage.container, registry=etcd.url) as agent:
        _calm(agent)
        dirty = agent.private_dirty()
        results.add("memory", "private dirty, idle", "ours", {}, dirty, "B")
        results.add("memory", "resident, idle", "ours", {}, _status(agent.pid, "VmRSS"), "B")
    stage.close()
    return dirty


class Peak(threading.Thread):
    """The most private dirty memory of a process, as often as one can look."""

    def __init__(self, agent):
        super().__init__(daemon=True)
        self._agent, self._over, self.bytes = agent, threading.Event(), 0

    def run(self):
        while not self._over.wait(0.002):
            with contextlib.suppress(OSError, TypeError):
                self.bytes = max(self.bytes, self._agent.private_dirty())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self.join()


def _reads(agent):
    """0 while it is too busy to say."""
    with contextlib.suppress(OSError):
        return agent.metric("registry_reads_total")
    return 0


def kept(results, namespaces, state, at_rest):
    stage = Stage(namespaces, f"memory{state.services}")
    with keep.registry(state) as etcd, keep.agent(etcd, stage.container, state) as agent:
        at = state.parameters
        with Peak(agent) as peak:
            keep.wait_until_ready(agent)
            _calm(agent)
        dirty = agent.private_dirty()
        results.add("memory", "private dirty, peak", "ours", at, peak.bytes, "B")
        results.add("memory", "private dirty, steady", "ours", at, dirty, "B")
        results.add("memory", "private dirty, above idle", "ours", at, dirty - at_rest, "B")
        results.add("memory", "resident, steady", "ours", at, _status(agent.pid, "VmRSS"), "B")
        results.add("memory", "resident, peak", "ours", at, _status(agent.pid, "VmHWM"), "B")
        reads = agent.metric("registry_reads_total")
        agent.send(signal.SIGHUP)  # everything is read anew
        wait_until(lambda: _reads(agent) > reads, deadline=120, what="a resync")
        _calm(agent, 1.0)
        results.add("memory", "private dirty, after a resync", "ours", at, agent.private_dirty(),
                    "B")
    stage.close()


def _kernel(act):
    """How much more the kernel has for itself after act()."""
    settle()
    before = machine.kernel_memory()
    act()
    return machine.kernel_memory() - before


def kernel(results, namespaces):
    """By the raw program, which is the same table; elements by the difference of two sizes."""
    used = {}
    for state in SIZES:
        stage = Stage(namespaces, f"kernel{state.services}")
        raw = Raw(stage, state)
        used[state] = _kernel(raw.load)
        raw.close()
        stage.close()
    small, large = SIZES
    more = (large.services - small.services) * (large.endpoints + 2)
    results.add("memory", "kernel, for each element", "raw", {},
                (used[large] - used[small]) / more, "B")
    consoles = []

    def spaces(program, state):
        consoles.append(Console(program, state, SPACES))
        return consoles[-1]

    try:
        bare = _kernel(lambda: spaces("raw", State(1, 1)))
        ruled = _kernel(lambda: consoles[-1].ask("load"))
        both = _kernel(lambda: spaces("ours", State(1, 1)).ask("load"))
    finally:
        for console in consoles:
            console.close()
    results.add("memory", "kernel, a namespace with nothing", "raw", {}, bare / SPACES, "B")
    results.add("memory", "kernel, our table in it", "raw", {}, ruled / SPACES, "B")
    results.add("memory", "kernel, both, and what the agent holds there", "ours", {},
                both / SPACES, "B")


def rest(results, namespaces, seconds):
    """What wakes up an agent that has nothing to do."""
    stage, state = Stage(namespaces, "rest"), State(100, 10)
    # By its process: whoever removes a namespace's name wakes up those who follow another's.
    process = stage.container.start("sleep", 3600)
    wait_until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino == stage.container.inode,
               what="a process in the namespace")
    with keep.registry(state) as etcd, \
            keep.agent(etcd, process.pid, state, "--log-level", "debug") as agent:
        keep.wait_until_ready(agent)
        _calm(agent, 1.0)
        switches, told, used = agent.context_switches(), len(agent.log), agent.cpu_seconds()
        time.sleep(seconds)  # the one thing that is measured is time in which nothing happens
        woken = collections.Counter(" ".join(each) for each in _WOKEN.findall(agent.log[told:]))
        switches, used = agent.context_switches() - switches, agent.cpu_seconds() - used
    named = sum(count for name, count in woken.items() if name in NAMED)
    known = sum(woken.values())
    minutes = seconds / 60
    results.add("memory", "wake-ups a minute", "ours", {}, switches / minutes, "")
    results.add("memory", "wake-ups without a timer's name", "ours", {},
                max(0, switches - known) + known - named, "")
    results.add("memory", "processor time a minute, idle", "ours", {}, used / minutes)
    results.tell(f"memory: woken up by {dict(woken)}")
    stage.close()


def run(results):
    with Namespaces() as namespaces:
        at_rest = idle(results, namespaces)
        for state in SIZES[:1] if results.quick else SIZES:
            kept(results, namespaces, state, at_rest)
        kernel(results, namespaces)
        rest(results, namespaces, 5 if results.quick else 65)
