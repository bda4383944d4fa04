# SPDX-License-Identifier: MIT
"""The agent under containers and services that come and go all the time.

What has to stand is told by lab/oracle.py. DRAGOMAN_CHURN_SEED repeats the
dice of a run that failed (each test prints its seed), DRAGOMAN_CHURN is the
number of containers that the long one starts, DRAGOMAN_CHURN_TIMES how often
the others do what they do.
"""

import contextlib
import os
import random
import threading
import time

import pytest

from lab.agent import Agent
from lab.breakable import MOMENTS, BreakableEngine
from lab.churn import Churn, cables, everything_is_let_go_of
from lab.command import PROGRAM
from lab.docker import Docker
from lab.etcd import Etcd
from lab.memcheck import SANITIZED
from lab.namespaces import Inside
from lab.oracle import Oracle, settled
from lab.processes import run
from lab.traffic import connect, serve
from lab.waiting import wait_until

CONTAINERS = int(os.environ.get("DRAGOMAN_CHURN", 200))
TIMES = int(os.environ.get("DRAGOMAN_CHURN_TIMES", 10))
ROUNDS, CHECKPOINTS = 2, 2
# What a second round may add to the memory that the first has left.
GROWTH = (32 << 20) if PROGRAM == SANITIZED else (512 << 10)


@pytest.fixture
def dice():
    seed = int(os.environ.get("DRAGOMAN_CHURN_SEED", random.randrange(1 << 32)))
    print(f"DRAGOMAN_CHURN_SEED={seed}")
    return random.Random(seed)


@pytest.fixture
def follow(etcd):
    """follow(docker): an agent that follows its containers, is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(docker, *arguments, registry=etcd, **options):
            return stack.enter_context(Agent("--docker", docker.url, *arguments,
                                             registry=registry.url, **options))
        yield start


@pytest.fixture
def etcd_of_its_own():
    with Etcd() as server:
        yield server


@pytest.fixture
def oracle(docker, etcd):
    return Oracle(docker, etcd)


@contextlib.contextmanager
def beside(function):
    """Runs it in a thread beside the block, from the same instant on."""
    barrier, failures = threading.Barrier(2), []

    def body():
        try:
            barrier.wait(30)
            function()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    barrier.wait(30)
    try:
        yield thread
    finally:
        thread.join()
    if failures:
        raise failures[0]


def start_duration(docker):
    """Seconds that the engine takes to start a container."""
    container = docker.create("measure")
    before = time.monotonic()
    container.start()
    duration = time.monotonic() - before
    container.remove()
    return duration


# Churn

def test_agent_is_exact_under_churn_and_gives_everything_back(docker, etcd, follow, oracle,
                                                              namespaces, dice):
    agent, ends = follow(docker), namespaces.new("ends")
    open_first, memory = agent.descriptor_kinds(), []
    with Churn(docker, etcd, ends, seed=dice.random()) as churn:
        for _ in range(ROUNDS):
            for _ in range(CHECKPOINTS):
                churn.start_containers(CONTAINERS // ROUNDS // CHECKPOINTS)
                settled(oracle, agent)
            assert cables(ends), "no namespace is tied to us: its end would not be seen"
            churn.remove_all()
            everything_is_let_go_of(agent, ends, open_first)
            memory.append(agent.private_dirty())
    print(f"{churn.started} containers, {churn.changes} changes of services, "
          f"{len(churn.refused)} refused: {churn.refused}; memory {memory}")
    assert churn.started >= CONTAINERS and len(churn.refused) < CONTAINERS / 10, churn.refused
    assert memory[-1] - memory[0] <= GROWTH, memory
    assert agent.metric('errors_total{class="fatal"}') == 0


def test_agent_churn_would_see_a_namespace_kept_alive(docker, namespaces):
    """The instrument: a namespace that somebody holds keeps its end of the cable."""
    ends, container = namespaces.new("ends"), docker.run("held")
    run("ip", "link", "add", "held", "netns", ends, "type", "veth", "peer", "name", "eth0",
        "netns", container.pid)
    with open(f"/proc/{container.pid}/ns/net", "rb"):
        container.remove()
        with pytest.raises(AssertionError, match="in vain"):
            wait_until(lambda: not cables(ends), deadline=1)
    wait_until(lambda: not cables(ends), deadline=120, what="the namespace to be gone")


# No lost start

def test_agent_misses_no_start_while_it_starts(docker, etcd, follow, oracle):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    agent = follow(docker)
    duration = start_duration(docker)
    for number in range(TIMES):
        agent.end() if number % 2 else agent.kill()
        web = docker.create(f"web{number}", env={"BACKEND_WEB": f"web;{number + 1}"})
        with beside(web.start):
            # The instants go from before the engine begins to after it is done.
            time.sleep(duration * 1.1 * number / TIMES)
            agent.start()
        settled(oracle, agent)
        if number % 5 == 4:
            docker.clear()


@pytest.mark.parametrize("moment", MOMENTS)
def test_agent_misses_no_start_while_the_stream_of_events_breaks(docker, etcd, follow, oracle,
                                                                 moment):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    before = docker.run("before", env={"BACKEND_WEB": "web;80"})
    with BreakableEngine(docker.socket) as relay:
        agent = follow(relay)
        for number in range(max(1, TIMES // 10)):
            web = docker.create(f"web{number}", env={"BACKEND_WEB": f"web;{number + 81}"})
            broken = relay.broken
            relay.break_at(moment, alone=number % 2)
            with beside(web.start):
                # Those of a session's beginning come with the next one.
                if moment.startswith(("version", "events", "list")):
                    relay.break_now()
                    broken += 1
            wait_until(lambda: relay.broken > broken, deadline=30, what=f"the break at {moment}")
            if number % 2:
                before.rename(f"renamed{number}")
            settled(oracle, agent)
        wait_until(lambda: agent.status()["docker"]["state"] == "live", what="the engine")
        names = {one["name"] for each in agent.status()["namespaces"]
                 for one in each["containers"]}
        assert before.name in names
        agent.end()


def test_agent_misses_no_start_in_the_instant_of_a_registry_event(docker, etcd, follow, oracle):
    agent = follow(docker)
    for number in range(TIMES):
        # Of a service that is new to it, and of one that it follows already.
        service = f"/services/web{number if number % 2 else ''}"
        etcd.endpoint(f"{service}/0", "10.77.0.1", 7000)
        web = docker.create(f"web{number}", env={"BACKEND_WEB": f"{service};80"})
        with beside(web.start) as thread:
            port = 7000
            while thread.is_alive():
                port += 1
                etcd.endpoint(f"{service}/{port % 3}", "10.77.0.1", port)
        settled(oracle, agent)
        if number % 5 == 4:
            docker.clear()


# The engine

def engine_is(agent, state):
    wait_until(lambda: agent.status()["docker"]["state"] == state, deadline=40,
               what=f"an engine that is {state}")


def test_agent_follows_an_engine_that_takes_its_containers_along(etcd, follow):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    with Docker() as docker:
        oracle = Oracle(docker, etcd)
        docker.run("once", env={"BACKEND_WEB": "web;80"})
        docker.run("always", env={"BACKEND_WEB": "web;81"}, restart="always")
        agent = follow(docker)
        usual = agent.namespace_descriptors()
        settled(oracle, agent)
        docker.stop()
        engine_is(agent, "lost")
        # All of them have ended, and nobody is there to tell.
        wait_until(lambda: agent.namespace_descriptors() == 0, what="both to be let go of")
        docker.start()
        wait_until(lambda: agent.namespace_descriptors() == usual // 2, deadline=40,
                   what="the one that starts with the engine")
        engine_is(agent, "live")
        settled(oracle, agent)
        docker.run("more", env={"BACKEND_WEB": "web;82"})
        settled(oracle, agent)
        agent.end()


def test_agent_outlives_an_engine_that_is_killed_and_comes_back(etcd, follow):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    with Docker("--live-restore") as docker:
        oracle = Oracle(docker, etcd)
        stays = docker.run("stays", env={"BACKEND_WEB": "web;80"})
        agent = follow(docker)
        commits, pid = agent.metric("commits_total"), stays.pid
        for number in range(2):
            docker.stop(9)
            engine_is(agent, "lost")
            # Services go on to be followed.
            etcd.endpoint("/services/web/0", "10.77.0.1", 7001 + number)
            wait_until(lambda: agent.metric("commits_total") == commits + number + 1,
                       what="the new endpoint")
            docker.start()
            engine_is(agent, "live")
            assert stays.pid == pid
            settled(oracle, agent)
        stays.restart()
        settled(oracle, agent)
        agent.end()


def test_agent_keeps_the_rules_of_containers_that_are_disturbed(etcd, follow, docker, oracle,
                                                                namespaces):
    etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
    agent = follow(docker)
    web = docker.run("web", env={"BACKEND_WEB": "web;80"})
    side = docker.run("side", env={"BACKEND_WEB": "web;81"}, network="container:web")
    settled(oracle, agent)
    commits = agent.metric("commits_total")
    web.pause()
    web.rename("other")
    wait_until(lambda: "other" in str(agent.namespace(web.inode)), what="its new name")
    web.unpause()
    settled(oracle, agent)
    assert agent.metric("commits_total") == commits
    web.pause()
    etcd.endpoint("/services/web/0", "10.77.0.1", 7001)
    wait_until(lambda: agent.metric("commits_total") == commits + 1, what="the new endpoint")
    settled(oracle, agent)
    web.unpause()
    # A link that comes late, by the hand of somebody else, needs a route of its own.
    run("ip", "link", "add", "late", "netns", namespaces.new("ends"), "type", "veth",
        "peer", "name", "eth0", "netns", web.pid)
    Inside(web.pid).sysctl("net.ipv6.conf.all.disable_ipv6", 0)  # Docker turns it off
    Inside(web.pid).run("ip", "link", "set", "eth0", "up")
    assert "::1 dev lo" in Inside(web.pid).run("ip", "-6", "route", "show", "table", "local").stdout
    settled(oracle, agent)
    before = web.inode
    web.restart()
    # The one beside it stays where it is; their ways part.
    assert web.inode != before == side.inode
    settled(oracle, agent)
    side.restart()
    assert web.inode == side.inode
    settled(oracle, agent)


def test_agent_follows_networks_that_come_and_go(namespaces, etcd, follow):
    home = namespaces.new("engine")
    etcd.endpoint("/services/web/0", "10.78.1.1", 7000)
    with Docker(namespace=home) as docker, docker.network("one", "10.78.1.0/24"), \
            docker.network("two", "10.78.2.0/24"):
        oracle = Oracle(docker, etcd)
        agent = follow(docker)
        web = docker.run("web", env={"BACKEND_WEB": "web;80"}, network="one")
        settled(oracle, agent)
        serve(home, "10.78.1.1:7000/tcp", "10.78.2.1:7000/tcp")

        def answer():
            return set(connect(Inside(web.pid), "127.0.0.1:80/tcp"))

        assert answer() == {"10.78.1.1:7000"}
        web.connect("two")
        etcd.endpoint("/services/web/0", "10.78.2.1", 7000)
        wait_until(lambda: answer() == {"10.78.2.1:7000"}, what="the other network's endpoint")
        web.disconnect("one")
        assert answer() == {"10.78.2.1:7000"}
        settled(oracle, agent)
        web.disconnect("two")
        etcd.endpoint("/services/web/1", "10.78.1.1", 7000)
        settled(oracle, agent)
        etcd.delete("/services/web/0")
        web.connect("one")
        wait_until(lambda: answer() == {"10.78.1.1:7000"}, what="the first network's endpoint")
        settled(oracle, agent)
        agent.end()
        docker.clear()


# What it costs the registry

def test_agent_watches_a_service_of_fifty_containers_once(docker, follow, etcd_of_its_own):
    """One read for all, and one watch, as etcd counts them."""
    etcd = etcd_of_its_own
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    ranges, watchers = "etcd_debugging_mvcc_range_total", "etcd_debugging_mvcc_watcher_total"
    before = etcd.metric(ranges), etcd.metric(watchers)

    def start(numbers):
        for number in numbers:
            docker.run(f"n{number}", env={"BACKEND_WEB": f"web;{number + 1}"})

    # Half of them are there before it, half of them come later.
    with beside(lambda: start(range(0, 12))):
        start(range(12, 25))
    agent = follow(docker, registry=etcd)
    with beside(lambda: start(range(25, 37))):
        start(range(37, 50))
    wait_until(lambda: agent.metric("commits_total") == 50, what="all of them")
    assert agent.metric("namespaces") == 50 and agent.metric("services") == 1
    assert etcd.metric(watchers) == before[1] + 1
    reads = etcd.metric(ranges) - before[0]
    assert agent.metric("registry_reads_total") == 1 and reads <= 2, reads
    etcd.endpoint("/services/web/b", "10.77.0.2", 8080)
    wait_until(lambda: agent.metric("commits_total") == 100, deadline=30, what="all of them")
    oracle = Oracle(docker, etcd)
    assert oracle.differences() == {}
    assert etcd.metric(watchers) == before[1] + 1 and agent.metric("registry_events_total") == 1
