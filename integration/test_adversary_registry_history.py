# SPDX-License-Identifier: MIT
"""The registry's history as an adversary: wiped, restored, compacted, and deletions that get lost.

In every case no endpoint goes that the registry did not remove, none that it removed
stays, and the agent's log and metrics tell what happened. DRAGOMAN_EVERY_CASE=1 tries
all of it with etcd v2, too.
"""

import base64
import contextlib
import json
import os
import random
import signal
import threading

import pytest

from lab import crowd, nft
from lab.agent import Agent
from lab.crowd import document
from lab.etcd import Etcd, encode
from lab.events import Events
from lab.registries import REGISTRIES
from lab.relay import Relay
from lab.waiting import wait_until
from lab.writers import Beat, Connection

KINDS = ["etcd"] + ["etcd2"] * bool(os.environ.get("DRAGOMAN_EVERY_CASE"))
# One that starts again would wait for others to lead it.
QUICK = ("--heartbeat-interval", "20", "--election-timeout", "200")
ANOTHER = (*QUICK, "--initial-cluster-token", "another")  # makes another cluster id
WEB, DB = "127.0.0.1:80/tcp", "127.0.0.1:81/tcp"


@pytest.fixture
def own_etcd():
    """An etcd that may be stopped and wiped."""
    with Etcd(options=QUICK) as server:
        yield server


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def registry(own_etcd, kind, tmp_path):
    """Its API of that kind; web has endpoints 1 and 2, db has 3."""
    registry = REGISTRIES[kind](own_etcd, tmp_path)
    # Enough for a revision that one that begins anew does not come to.
    for number in range(40):
        registry.put("/services/web/1", document(100 + number))
    fill(registry, web=[1, 2], db=[3])
    return registry


@pytest.fixture
def run(container):
    """run(url): an agent that leads ports 80 and 81 of the container to web and db."""
    with contextlib.ExitStack() as stack:
        def start(url, *arguments):
            return stack.enter_context(Agent(
                "--netns", container, "-b", "WEB=web;80", "-b", "DB=db;81", *arguments,
                registry=url))
        yield start


def fill(registry, **services):
    for service, numbers in services.items():
        for number in numbers:
            registry.put(f"/services/{service}/{number}", document(number))


def held(namespace):
    """(endpoints of web, endpoints of db)"""
    found = {WEB: set(), DB: set()}
    for slot in nft.slots(namespace):
        found[slot.listen].add(crowd.number_of(slot.endpoint))
    return found[WEB], found[DB]


def wait_for(namespace, web, db):
    wait_until(lambda: held(namespace) == (set(web), set(db)), 30,
               what=f"web to be {web} and db {db}")


def wipe(own_etcd, then=lambda: None, **how):
    """Ends it and starts it with other data, while nobody looks; how: start_again()'s."""
    own_etcd.stop()
    own_etcd.start_again(**how)
    then()


def wait_until_restored(agent):
    wait_until(lambda: agent.metric("watch_restorations_total") == 1, 30,
               what="the agent to see another registry")
    assert "it came back as another one" in agent.log


def assert_only_added(events):
    """Endpoints came, and none went, not for a moment."""
    heard = events.heard()
    assert "newsetelem endpoints4" in heard and "delsetelem endpoints4" not in heard, heard


@contextlib.contextmanager
def nobody_looks(relay):
    relay.part()
    yield
    relay.join()


# Wiped, and restored

def test_adversary_cluster_replaced_by_another_with_the_same_keys_changes_nothing(
        own_etcd, registry, run, container):
    with Relay(own_etcd.address) as relay:
        agent = run(registry.url.replace(own_etcd.address, relay.address))
        events = Events(container)
        with nobody_looks(relay):
            wipe(own_etcd, lambda: fill(registry, web=[1, 2], db=[3]), empty=True,
                 options=ANOTHER)
        wait_until_restored(agent)
        fill(registry, web=[4])
        wait_for(container, [1, 2, 4], [3])
        assert_only_added(events)
        assert agent.metric("services_held") == 0
        agent.end()


def test_adversary_cluster_replaced_by_another_with_fewer_keys_takes_what_it_holds(
        own_etcd, registry, run, container):
    with Relay(own_etcd.address) as relay:
        agent = run(registry.url.replace(own_etcd.address, relay.address))
        with nobody_looks(relay):
            wipe(own_etcd, lambda: fill(registry, web=[2], db=[3]), empty=True, options=ANOTHER)
        wait_for(container, [2], [3])
        wait_until_restored(agent)
        agent.end()


@pytest.mark.parametrize(("kind", "options"), [("etcd", QUICK), ("etcd2", ANOTHER), *(
    (kind, options) for kind, options in (("etcd", ANOTHER), ("etcd2", QUICK)) if len(KINDS) > 1)],
    indirect=["kind"])
def test_adversary_cluster_wiped_spares_services_until_they_are_registered_again(
        own_etcd, registry, run, container, options):
    """Its data were lost, and nobody removed anything."""
    agent, events = run(registry.url), Events(container)
    wipe(own_etcd, empty=True, options=options)
    wait_until(lambda: agent.metric("services_held") == 2, 30, what="both to be spared")
    wait_until_restored(agent)
    assert events.heard() == {} and held(container) == ({1, 2}, {3})
    assert agent.log.count("the registry came back without it, which is no removal") == 2
    assert {each["state"] for each in agent.namespace(container.inode)["backends"]} == {"held"}
    # One is as it was; of the other nothing is left but what is registered now.
    fill(registry, db=[3])
    wait_until(lambda: agent.metric("services_held") == 1, what="db to be known again")
    assert held(container) == ({1, 2}, {3})
    fill(registry, web=[5])
    wait_for(container, [5], [3])
    assert agent.metric("services_held") == 0
    # From now on what is removed is removed.
    registry.delete("/services/web/5")
    wait_for(container, [], [3])


@pytest.mark.parametrize("what", ["resync", "SIGHUP"])
def test_adversary_cluster_wiped_and_left_empty_is_believed_at_the_resync(
        own_etcd, registry, run, container, what):
    agent = run(registry.url, "--resync", "2" if what == "resync" else "300")
    fill(registry, web=[6])
    wipe(own_etcd, empty=True, options=ANOTHER)
    wait_until(lambda: "without it, which is no removal" in agent.log, 30,
               what="both to be spared")
    if what == "SIGHUP":
        wait_until(lambda: agent.metric("services_held") == 2, 30, what="both to be spared")
        agent.send(signal.SIGHUP)
    wait_for(container, [], [])
    assert agent.log.count("still not there at the resync: it is empty") == 2
    assert agent.metric("services_held") == 0
    fill(registry, web=[1])
    wait_for(container, [1], [])


def test_adversary_revision_going_back_takes_what_the_backup_holds(own_etcd, registry, run,
                                                                   container):
    """Since the backup 4 came and 2 went: now 2 is back, and 4 is gone."""
    own_etcd.stop()
    backup = own_etcd.back_up()
    own_etcd.start_again()
    agent = run(registry.url)
    wait_for(container, [1, 2], [3])
    fill(registry, web=[4])
    registry.delete("/services/web/2")
    fill(registry, web=[4] * 20)
    wait_for(container, [1, 4], [3])
    wipe(own_etcd, data=backup)
    wait_for(container, [1, 2], [3])
    wait_until_restored(agent)
    assert "its revision is" in agent.log
    fill(registry, db=[7])
    wait_for(container, [1, 2], [3, 7])


def test_adversary_host_of_another_cluster_is_left_for_one_that_is_known(etcd, kind, run,
                                                                         container, tmp_path):
    """One of the hosts that are listed was set up anew, alone."""
    registry = REGISTRIES[kind](etcd, tmp_path)
    fill(registry, web=[1])
    with Etcd(options=ANOTHER) as stranger, Relay(etcd.address) as first, \
            Relay(etcd.address) as last:
        agent = run(f"{kind}://{first.address},{stranger.address},{last.address}")
        wait_for(container, [1], [])
        events = Events(container)
        first.cut()
        wait_until(lambda: last.connections > 0, 30, what="the last host to be asked")
        fill(registry, web=[2])
        wait_for(container, [1, 2], [])
        assert_only_added(events)
        assert "another cluster" in agent.log
        assert agent.metric("watch_restorations_total") == 0
        agent.end()


# Compacted, and lost

def test_adversary_deletion_lost_by_a_compaction_is_found_on_return(etcd, run, container):
    """The deletion is the newest revision, and what the registry forgets: a watch that
    goes on behind what it knows is told nothing, by etcd 3.4 (its issue 18089)."""
    for number in (1, 2):
        etcd.put(f"/services/web/{number}", document(number))
    with Relay(etcd.address) as relay:
        agent = run(f"etcd://{relay.address}")
        wait_for(container, [1, 2], [])
        with nobody_looks(relay):
            etcd.delete("/services/web/1")
            etcd.compact()
        wait_for(container, [2], [])
        assert agent.metric("watch_compactions_total") >= 1
        agent.end()


def test_adversary_deletion_that_no_event_tells_is_mended_by_the_resync(etcd, run, container):
    """On its way the event's watcher is made one that is not known."""
    for number in (1, 2):
        etcd.put(f"/services/web/{number}", document(number))
    lost = [b'"watch_id":"%d","events":[{"type":"DELETE"' % number for number in (1, 9)]
    with Relay(etcd.address, replace=lost) as relay:
        agent = run(f"etcd://{relay.address}", "--resync", "2")
        wait_for(container, [1, 2], [])
        etcd.delete("/services/web/1")
        wait_for(container, [2], [])
        assert agent.metric("resync_changes_total") == 1
        assert "/services/web: the resync found a change that no event had told" in agent.log
        agent.end()


def registered(etcd):
    """(endpoints of web, endpoints of db), as this test reads it."""
    found = {"web": set(), "db": set()}
    answer = etcd.call("/v3/kv/range", key=encode("/services/"), range_end=encode("/services0"))
    for pair in answer.get("kvs", []):
        service = base64.b64decode(pair["key"]).decode().split("/")[2]
        at = json.loads(base64.b64decode(pair["value"]))
        found[service].add(crowd.number_of(f"{at['ipaddress']}:{at['host_port']}"))
    return found["web"], found["db"]


class Load(threading.Thread):
    """Puts and deletes endpoints of web, 400 a second, and compacts every twentieth time."""

    def __init__(self, etcd, seed):
        super().__init__()
        self._etcd, self._dice = etcd, random.Random(seed)
        self._end, self.error, self.compactions = threading.Event(), None, 0

    def run(self):
        beat, here = Beat(1 / 400), set()
        try:
            with Connection(self._etcd) as connection:
                while not self._end.is_set():
                    beat.wait()
                    number = self._dice.randrange(1, 30)
                    key = f"/services/web/{number}"
                    if number in here:
                        connection.delete(key)
                    else:
                        connection.put(key, document(number))
                    here ^= {number}
                    if self._dice.random() < 0.05:
                        self._etcd.compact(physical=False)
                        self.compactions += 1
        except BaseException as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self.join()
        assert not self.error, self.error


def test_adversary_compactions_under_load_end_exact(etcd, run, container):
    """The connection is lost again and again meanwhile; db, of which nothing changes, stays."""
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    etcd.put("/services/db/200", document(200))
    with Relay(etcd.address) as relay:
        agent = run(f"etcd://{relay.address}")
        with Load(etcd, seed) as load:
            for turn in range(3):
                wait_until(lambda: load.compactions >= 15 * (turn + 1), 30, what="compactions")
                with nobody_looks(relay):
                    wait_until(lambda: load.compactions >= 15 * turn + 20, 30, what="more")
                assert held(container)[1] == {200}
        wait_until(lambda: held(container) == registered(etcd), 40, what="the end to be true")
        metrics = agent.metrics()
        print({name: value for name, value in metrics.items() if "_watch_" in name}, "of",
              load.compactions, "compactions")
        assert metrics["dragoman_watch_compactions_total"] >= 1
        assert metrics["dragoman_watch_reconnects_total"] >= 1
        agent.end()
