# SPDX-License-Identifier: MIT
"""The agent when the registry bursts, ends, forgets, hangs or moves, and when it is ended itself.

In the end the kernel holds what the registry holds, and until then nothing was
taken away that the registry did not take away.
"""

import base64
import contextlib
import json
import random
import re
import statistics
import threading
import time

import pytest

from lab import crowd, nft
from lab.agent import Agent
from lab.cluster import Cluster
from lab.crowd import Crowd
from lab.etcd import Etcd, encode
from lab.events import Arrivals, Events
from lab.registries import REGISTRIES, Etcd2Registry, Etcd3Registry
from lab.relay import Relay
from lab.waiting import wait_until
from lab.writers import Connection

WEB = f"{crowd.LISTEN}/tcp"
SECOND = 10**9


@pytest.fixture
def run():
    """run("--netns", web, registry=url): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, **options))
        yield start


@pytest.fixture
def own_etcd():
    """An etcd that may be stopped."""
    with Etcd() as server:
        yield server


def held(namespace, listen=WEB):
    """The numbers of the endpoints that the kernel holds."""
    return {crowd.number_of(slot.endpoint) for slot in nft.slots(namespace, listen)}


def wait_for(namespace, *numbers, deadline=30):
    wait_until(lambda: held(namespace) == set(numbers), deadline, what=f"endpoints {numbers}")


def wait_for_clients(namespace):
    wait_until(lambda: all(slot.connections for slot in nft.slots(namespace, WEB)),
               what="somebody to come to each endpoint that stands")


def state_of(agent):
    return agent.status()["registry"]["state"]


# A burst

class Pulse:
    """Asks for /healthz without a pause; `slowest` is in seconds."""

    def __init__(self, agent):
        self._agent, self._end = agent, threading.Event()
        self.slowest, self.asked, self.answers = 0, 0, set()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._end.is_set():
            started = time.monotonic()
            self.answers.add(self._agent.get("/healthz"))
            self.slowest = max(self.slowest, time.monotonic() - started)
            self.asked += 1
            self._end.wait(0.01)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()


SERVICES, KEYS = 20, 25


def burst(etcd, seed, transactions=28, size=100):
    """Keys put, deleted and put again, at random, in transactions."""
    dice = random.Random(seed)
    keys = [f"/services/s{service}/{key}" for service in range(SERVICES) for key in range(KEYS)]
    with Connection(etcd) as registry:
        for _ in range(transactions):
            chosen = dice.sample(keys, size)
            gone = set(dice.sample(chosen, dice.randrange(size // 2)))
            registry.together({key: crowd.document(dice.randrange(65536), tags=dice.choice(
                ([], ["odd"], ["even"], ["even", "odd"]))) for key in chosen if key not in gone},
                gone)


def registered(etcd):
    """What the registry holds, as this test reads it: [(service, number, tags)]."""
    answer = etcd.call("/v3/kv/range", key=encode("/services/"), range_end=encode("/services0"))
    found = []
    for pair in answer.get("kvs", []):
        key = base64.b64decode(pair["key"]).decode()
        document = json.loads(base64.b64decode(pair["value"]))
        found.append((key.split("/")[2], f"{document['ipaddress']}:{document['host_port']}",
                      set(document["tags"])))
    return found


def refused(namespace):
    """The ports that are refused for want of endpoints."""
    text = nft.listing(namespace, "set", "inet", "dragoman", "unavailable4")
    return {int(port) for port in re.findall(r"127\.0\.0\.1 \. (?:tcp|6) \. (\d+)", text)}


def test_agent_burst_of_ten_thousand_events_ends_exact(etcd, run, namespaces):
    tags = (None, "odd", "even", "nobody")
    targets = {namespaces.new(f"n{number}"): tag for number, tag in enumerate(tags)}
    words = []
    for namespace, tag in targets.items():
        words += ["--netns", namespace]
        for service in range(SERVICES):
            words += ["-b", f"S{service}=s{service}{f'[{tag}]' if tag else ''};{8000 + service}"]
    agent = run(*words, registry=etcd.url)

    def true(namespace, tag):
        wanted = {}
        for service, endpoint, has in registered(etcd):
            if tag is None or tag in has:
                listen = f"127.0.0.1:{8000 + int(service[1:])}/tcp"
                wanted.setdefault(listen, set()).add(endpoint)
        found = {}
        for slot in nft.slots(namespace):
            found.setdefault(slot.listen, set()).add(slot.endpoint)
        empty = {8000 + service for service in range(SERVICES)
                 if f"127.0.0.1:{8000 + service}/tcp" not in wanted}
        return found == wanted and refused(namespace) == empty

    seed = random.randrange(10**9)
    print(f"seed {seed}")
    before, cpu, started = agent.metrics(), agent.cpu_seconds(), time.monotonic()
    with Pulse(agent) as pulse:
        writers = [threading.Thread(target=burst, args=(etcd, f"{seed} {number}"))
                   for number in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        written = time.monotonic() - started
        for namespace, tag in targets.items():
            wait_until(lambda: true(namespace, tag), 60, what=f"{namespace} to be true")
    after = agent.metrics()
    events, commits = (after[f"dragoman_{name}_total"] - before[f"dragoman_{name}_total"]
                       for name in ("registry_events", "commits"))
    print(f"{events:.0f} events in {written:.2f} s, true after {time.monotonic() - started:.2f} s; "
          f"{commits:.0f} commits, {agent.cpu_seconds() - cpu:.2f} s of CPU; the slowest of "
          f"{pulse.asked} answers of /healthz took {pulse.slowest * 1000:.0f} ms")
    assert after["dragoman_drift_repairs_total"] == 0
    assert pulse.answers == {(200, "ok\n")} and pulse.slowest < 1
    # Ten thousand were written; of one key in one wake-up the last is told.
    assert events >= 5000
    assert after["dragoman_registry_reads_total"] == before["dragoman_registry_reads_total"]


# Its own end

ENDS = {"killed": Agent.kill, "ended": Agent.end}


@pytest.mark.parametrize("end", ENDS)
def test_agent_started_again_sends_no_batch_where_nothing_changed(etcd, run, container, end):
    etcd.put("/services/web/a", crowd.document(1))
    etcd.put("/services/web/b", crowd.document(2))
    agent = run("--netns", container, "-b", "WEB=web;80", "-b", "NONE=nobody;81",
                registry=etcd.url)
    events, before = Events(container), nft.listing(container)
    for _ in range(3):
        ENDS[end](agent)
        agent.start()
        assert agent.metric("commits_total") == 0
    assert events.heard() == {} and nft.listing(container) == before


@pytest.mark.parametrize("end", ENDS)
def test_agent_started_again_sends_no_batch_to_containers(etcd, run, docker, end):
    etcd.put("/services/web/a", crowd.document(1))
    for number in range(3):
        docker.run(f"web{number}", env={"BACKEND_WEB": "web;80", "BACKEND_NONE": "nobody;81"})
    agent = run("--docker", docker.url, registry=etcd.url)
    assert agent.metric("commits_total") == 3
    for _ in range(2):
        ENDS[end](agent)
        agent.start()
        assert agent.metric("namespaces") == 3 and agent.metric("commits_total") == 0


@pytest.mark.alone
def test_agent_started_again_applies_within_a_second_what_changed(etcd, run, container):
    """The median of twenty: the machine may be busy with something else."""
    with Connection(etcd) as registry:
        registry.put("/services/web/a", crowd.document(1))
        agent = run("--netns", container, "-b", "WEB=web;80", registry=etcd.url)
        arrivals, taken = Arrivals(container), []
        for number in range(2, 22):
            ENDS[("killed", "ended")[number % 2]](agent)
            registry.put("/services/web/a", crowd.document(number))
            started = time.monotonic_ns()
            agent.start()
            taken.append(arrivals.wait_for(crowd.address(number)) - started)
    print(f"from exec to the rules: {statistics.median(taken) / 1e6:.0f} ms (median), "
          f"{max(taken) / 1e6:.0f} ms at most")
    assert statistics.median(taken) < SECOND


# The registry's end

@pytest.mark.parametrize("kind", ("etcd", "etcd2"))
def test_agent_over_a_restart_of_etcd_goes_on(own_etcd, run, container, hosts, tmp_path, kind):
    registry = REGISTRIES[kind](own_etcd, tmp_path)
    for number in (1, 2):
        registry.put(f"/services/web/{number}", crowd.document(number))
    agent = run("--netns", container, "-b", "WEB=web;80", registry=registry.url)
    clients = Crowd(container, hosts, "tcp", rate=500)
    clients.begin()
    for turn in range(2):
        own_etcd.stop()
        wait_until(lambda: state_of(agent) == "lost", what="the loss to be told")
        assert held(container) == {2 * turn + 1, 2 * turn + 2}
        own_etcd.start_again()
        registry.put(f"/services/web/{2 * turn + 3}", crowd.document(2 * turn + 3))
        registry.delete(f"/services/web/{2 * turn + 1}")
        registry.put(f"/services/web/{2 * turn + 4}", crowd.document(2 * turn + 4))
        registry.delete(f"/services/web/{2 * turn + 2}")
        wait_for(container, 2 * turn + 3, 2 * turn + 4)
        wait_until(lambda: state_of(agent) == "live", what="the registry to be back")
    wait_for_clients(container)
    told, metrics = clients.end(), agent.metrics()
    print(told)
    assert told.failures == {} and set(told.seen) == {1, 2, 3, 4, 5, 6}
    assert metrics["dragoman_watch_reconnects_total"] == 2
    assert metrics["dragoman_watch_compactions_total"] == 0
    if kind == "etcd":
        # It goes on where it stopped.
        assert metrics["dragoman_registry_reads_total"] == 1


@pytest.mark.parametrize("kind", ("etcd", "etcd2"))
def test_agent_cut_off_while_etcd_forgets_ends_exact(own_etcd, run, container, hosts, tmp_path,
                                                     kind):
    """v3: its revision is compacted; v2: more than the thousand events that are kept."""
    registry = REGISTRIES[kind](own_etcd, tmp_path)
    for number in (1, 2, 3):
        registry.put(f"/services/web/{number}", crowd.document(number))
    with Relay(own_etcd.address) as relay:
        agent = run("--netns", container, "-b", "WEB=web;80",
                    registry=f"{kind}://{relay.address}")
        events, clients = Events(container), Crowd(container, hosts, "tcp", rate=500)
        clients.begin()
        relay.part()
        wait_until(lambda: state_of(agent) == "lost", what="the loss to be told")
        registry.delete("/services/web/1")
        registry.put("/services/web/2", crowd.document(4))
        for number in range(1100 if kind == "etcd2" else 20):
            registry.put("/services/web/5", crowd.document(1000 + number))
        registry.put("/services/web/5", crowd.document(5))
        own_etcd.compact()
        assert events.heard() == {} and agent.metric("watch_compactions_total") == 0
        relay.join()
        wait_for(container, 3, 4, 5)
        wait_for_clients(container)
        heard, told, metrics = events.heard(), clients.end(), agent.metrics()
        registry.put("/services/web/6", crowd.document(6))
        wait_for(container, 3, 4, 5, 6)
        agent.end()
    print(told, heard)
    assert told.failures == {} and set(told.seen) == {1, 2, 3, 4, 5}
    # What stayed was not touched, and what was forgotten did not come by.
    assert heard["newgen"] == 1 and heard["newsetelem endpoints4"] == 2
    assert metrics["dragoman_watch_compactions_total"] == 1
    assert metrics["dragoman_watch_reconnects_total"] == 1
    assert metrics["dragoman_registry_reads_total"] >= 2


# A registry of several

@pytest.fixture
def cluster():
    with Cluster() as made:
        yield made


def test_agent_moves_on_from_a_member_that_ends_or_hangs(cluster, run, laboratory, tmp_path):
    """It takes a minute until a stream that hangs is given up; for polls of v2, which
    are given up a little later, the member comes back before that."""
    container, hosts = laboratory.container, laboratory.hosts
    other = laboratory.namespaces.new("other")
    agents = {}

    def put(number):
        member = cluster.any()
        wait_until(member.is_healthy, 40, what="a leader")
        for registry in (Etcd3Registry(member, tmp_path), Etcd2Registry(member, tmp_path)):
            registry.put("/services/web/a", crowd.document(number))
            registry.put(f"/services/web/{number}", crowd.document(number))
            if number > 1:
                registry.delete(f"/services/web/{number - 1}")

    def wait(number, *where, deadline=30):
        started = time.monotonic()
        for namespace in where:
            wait_for(namespace, number, deadline=deadline)
            print(f"endpoint {number} after {time.monotonic() - started:.1f} s: {namespace}")

    put(1)
    agents["v3"] = run("--netns", container, "-b", "WEB=web;80", registry=cluster.url)
    agents["v2"] = run("--netns", other, "-b", "WEB=web;80", registry=cluster.url_v2)
    clients = Crowd(container, hosts, "tcp", rate=500)
    clients.begin()
    reads = agents["v3"].metric("registry_reads_total")
    ended = cluster.in_use()
    ended.stop()
    put(2)
    wait(2, container, other)
    assert cluster.in_use() is not ended
    ended.start_again()
    cluster.wait()
    frozen = cluster.in_use()
    frozen.freeze()
    put(3)
    wait(3, container, deadline=120)
    assert cluster.in_use() is not frozen
    frozen.thaw()
    cluster.wait()
    put(4)
    wait(4, container, other)
    wait_for_clients(container)
    told, metrics = clients.end(), agents["v3"].metrics()
    print(told)
    assert told.failures == {} and set(told.seen) == {1, 2, 3, 4}
    assert metrics["dragoman_watch_reconnects_total"] == 2
    # Nothing was read anew: every event came through a watch.
    assert metrics["dragoman_registry_reads_total"] == reads
    assert agents["v2"].metric("watch_reconnects_total") >= 1
