# SPDX-License-Identifier: MIT
"""An agent that has nothing to do sleeps: nothing wakes it up but its named timers."""

import collections
import concurrent.futures
import contextlib
import os
import re
import time

import pytest

from lab.agent import Agent
from lab.processes import Process
from lab.registries import REGISTRIES
from lab.waiting import wait_until

pytestmark = pytest.mark.alone

# By hand: DRAGOMAN_IDLE_SECONDS=60 DRAGOMAN_IDLE_CONTAINERS=100.
SECONDS = float(os.environ.get("DRAGOMAN_IDLE_SECONDS", "10"))
CONTAINERS = int(os.environ.get("DRAGOMAN_IDLE_CONTAINERS", "15"))
TARGETS, SERVICES = 100, 20

# What src/registry/watch.c calls quiet: then a sign of life is asked for.
QUIET = 30
_WOKEN = re.compile(r"^dragoman: loop: (timer|io) (.*)$", re.MULTILINE)


@pytest.fixture
def run():
    """run("--netns", web, registry=url): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, "--log-level", "debug", **options))
        yield start


@pytest.fixture
def services(request, etcd, tmp_path):
    registry = REGISTRIES[getattr(request, "param", "etcd")](etcd, tmp_path)
    for number in range(SERVICES):
        registry.put(f"/services/s{number}/0",
                     {"ipaddress": f"10.77.0.{number + 1}", "host_port": "7000"})
    return registry


def wanted(number):
    """Three of the services; all together want each."""
    return {f"BACKEND_S{k}": f"s{(number + k) % SERVICES};{8000 + k}" for k in range(3)}


@pytest.fixture
def by_hand():
    """by_hand(3): the words, for `run`, of as many processes in namespaces of their own.

    Not by name: whatever else is removed from /run/netns would wake the agent up.
    """
    with contextlib.ExitStack() as stack:
        def words(count):
            found, started = [], [stack.enter_context(Process("unshare", "--net", "sleep", "1000"))
                                  for _ in range(count)]
            for number, process in enumerate(started):
                path = f"/proc/{process.pid}/ns/net"
                wait_until(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino,
                           what="a namespace of its own")
                found += ["--pid", process.pid]
                for name, value in wanted(number).items():
                    found += ["-b", f"{name}={value}"]
            return found
        yield words


class Rest:
    """What woke the agent up, and how often, in SECONDS of rest: rest["timer resync"]."""

    def __init__(self, agent, seconds=SECONDS):
        self._agent = agent
        self._wait_for_peace()
        before, told, cpu = agent.context_switches(), len(agent.log), agent.cpu_seconds()
        # The one thing that is measured here is time in which nothing happens.
        time.sleep(seconds)
        self.switches = agent.context_switches() - before
        self.cpu = agent.cpu_seconds() - cpu
        self.said = agent.log[told:]
        self.woken = collections.Counter(" ".join(each) for each in _WOKEN.findall(self.said))
        print(f"{seconds} s: {self.switches} context switches, {self.cpu:.2f} s of CPU, "
              f"{dict(self.woken)}")

    def _wait_for_peace(self):
        """What there was to do at the start is done when nothing came for half a second."""
        seen = self._agent.context_switches(), time.monotonic()

        def is_calm():
            nonlocal seen
            now = self._agent.context_switches()
            if now != seen[0]:
                seen = now, time.monotonic()
            return time.monotonic() - seen[1] > 0.5
        wait_until(is_calm, deadline=30, what="the agent to rest")

    def assert_named(self, *allowed):
        """Nothing but these, and no wake-up that does not say what it was."""
        assert set(self.woken) <= set(allowed), self.said[-4000:]
        assert self.switches <= sum(self.woken.values()), self.said[-4000:]


def signs_of_life(seconds):
    """How many there can be in that time."""
    return int(seconds // QUIET) + 1


def test_idle_agent_with_a_hundred_targets_sleeps(docker, services, by_hand, run):
    """Containers, one of which is asked for its health, and namespaces; etcd v3."""
    with concurrent.futures.ThreadPoolExecutor(4) as several:
        list(several.map(lambda number: docker.run(f"c{number}", env=wanted(number)),
                         range(CONTAINERS - 1)))
    well = docker.run("well", env=wanted(CONTAINERS), healthcheck=["sleep", "0"])
    agent = run("--docker", docker.url, *by_hand(TARGETS - CONTAINERS),
                registry=services.url)
    assert agent.metric("namespaces") == TARGETS and agent.metric("services") == SERVICES
    wait_until(lambda: well.inspect()["State"]["Health"]["Log"], deadline=30, what="its health")
    asked = well.inspect()["State"]["Health"]["Log"][-1]["Start"]
    rest = Rest(agent)
    # Meanwhile the engine has told others of that: it begins each with an event.
    assert well.inspect()["State"]["Health"]["Log"][-1]["Start"] > asked
    rest.assert_named("timer etcd watch", "io http socket", "timer http timer")
    # It asks, libcurl wants to be called for that, it writes, and reads the answer.
    assert rest.woken["timer http timer"] <= rest.woken["timer etcd watch"]
    assert rest.woken["timer etcd watch"] <= signs_of_life(SECONDS)
    assert rest.woken["io http socket"] <= 2 * rest.woken["timer etcd watch"]


def test_idle_agent_wakes_up_for_its_watchdog(services, by_hand, run):
    """Twice in the time that the service manager gives; and for --resync."""
    agent = run(*by_hand(3), "--resync", "2", registry=services.url,
                env={"WATCHDOG_USEC": "1000000", "NOTIFY_SOCKET": "/nowhere"})
    reads, commits = agent.metric("registry_reads_total"), agent.metric("commits_total")
    told, start = len(agent.log), time.monotonic()

    def woken():
        return collections.Counter(" ".join(each) for each in _WOKEN.findall(agent.log[told:]))

    wait_until(lambda: woken()["timer resync"] >= 2, what="two resyncs")
    took = time.monotonic() - start
    assert took >= 2 and woken()["timer resync"] == 2
    assert took / 0.5 - 2 <= woken()["timer watchdog"] <= took / 0.5 + 1
    wait_until(lambda: agent.metric("registry_reads_total") > reads, what="the registry to be read")
    assert agent.metric("commits_total") == commits


@pytest.mark.parametrize("services", ("etcd2", "file"), indirect=True)
def test_idle_agent_of_another_registry_sleeps(services, by_hand, run):
    """A poll of etcd v2 ends after QUIET seconds at the earliest, and is made again."""
    agent = run(*by_hand(SERVICES), registry=services.url)
    rest = Rest(agent, SECONDS / 2)
    if services.name == "file":
        assert not rest.woken and rest.switches == 0
        return
    # It ends, the next one is sent, and its answer's head is read.
    rest.assert_named("timer http limit", "timer http timer", "io http socket")
    polls = rest.woken["timer http limit"]
    assert polls <= SERVICES * signs_of_life(SECONDS / 2)
    assert rest.woken["timer http timer"] <= polls
    assert rest.woken["io http socket"] <= 3 * polls
