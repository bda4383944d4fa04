# SPDX-License-Identifier: MIT
"""The registry's answers as an adversary: cut off at every byte, and slow.

A read or an event that did not come whole tells nothing; what is known stays, and it
comes whole later. By default every 31st byte is tried, and DRAGOMAN_EVERY_CASE=1 tries
each. Answers that are whole, and wrong, are test_bad_input.py's.
"""

import contextlib
import os
import signal

import pytest

from lab import crowd, nft
from lab.agent import Agent
from lab.crowd import document
from lab.follower import Follower
from lab.relay import Relay
from lab.waiting import wait_until

STEP = 1 if os.environ.get("DRAGOMAN_EVERY_CASE") else 31
TOGETHER = 25  # as many at once, each with a relay of its own
READ = {"v3": b"/v3/kv/txn", "v2": b"quorum=true"}
KEY, BEFORE = "/services/app", {"/services/app/a": "one", "/services/app/b": "two"}
AFTER = {"/services/app/a": "one", "/services/app/c": "three"}


class Server:
    """One of the APIs."""

    def __init__(self, etcd, api):
        self.api, self._etcd, self.scheme = api, etcd, {"v3": "etcd", "v2": "etcd2"}[api]
        self.put = etcd.put if api == "v3" else etcd.put_v2
        self._delete = etcd.delete if api == "v3" else etcd.delete_v2

    def before(self):
        self._etcd.clear()
        for key, value in BEFORE.items():
            self.put(key, value)

    def after(self):
        self._delete("/services/app/b")
        self.put("/services/app/c", "three")

    @contextlib.contextmanager
    def followers(self, count):
        """Followers that know what is there, each behind a relay: pairs."""
        with contextlib.ExitStack() as stack:
            made = []
            for _ in range(count):
                relay = stack.enter_context(Relay(self._etcd.address))
                follower = Follower(f"{self.scheme}://{relay.address}")
                stack.callback(follower.close)
                follower.add(KEY)
                made.append((relay, follower))
            for relay, follower in made:
                follower.until(lambda own: own.documents.get(KEY) == BEFORE and
                               own.state == "live")
                # The read's answer, and the head of what the watch asks for.
                wait_until(lambda: relay.answered.count(b"HTTP/1.1 200") == 2, what="the watch")
            yield made


@pytest.fixture(params=["v3", "v2"])
def server(request, etcd):
    return Server(etcd, request.param)


def groups(offsets):
    offsets = list(offsets)
    return [offsets[start:start + TOGETHER] for start in range(0, len(offsets), TOGETHER)]


def length_of(server, act, until):
    """How many bytes come in when that happens to one that is not cut."""
    server.before()
    with server.followers(1) as ((relay, follower),):
        seen, updates = len(relay.answered), len(follower.updates)
        act(follower)
        until(follower, updates)
        return len(relay.answered) - seen


def states_of(follower):
    """Every state that it told, from the first on."""
    known, states = {}, []
    for update in follower.updates:
        known = {} if update["whole"] else dict(known)
        known.update(update["put"])
        for key in update["removed"]:
            known.pop(key, None)
        states.append(known)
    return states


def test_adversary_read_cut_off_at_every_byte_takes_nothing_away(server):
    length = length_of(server, lambda follower: follower.resync(), lambda follower, before:
                       follower.until(lambda own: len(own.updates) > before))
    tried = 0
    for group in groups(range(0, length, STEP)):
        server.before()
        with server.followers(len(group)) as pairs:
            for (relay, follower), offset in zip(pairs, group):
                relay.cut_after(offset + 1, of=READ[server.api])
                follower.resync()
            for (relay, follower), offset in zip(pairs, group):
                # The last byte of all is one cut too late.
                if offset + 1 < length:
                    follower.until(lambda own: own.errors)
                told = len(follower.updates)
                follower.resync()
                follower.until(lambda own: len(own.updates) > told and own.state == "live")
                assert all(state == BEFORE for state in states_of(follower)), offset
                tried += 1
            server.after()
            for _, follower in pairs:
                follower.until_holds(KEY, AFTER)
    print(f"{server.api}: {length} bytes, cut off at {tried} places")


def test_adversary_stream_closed_mid_event_loses_and_invents_nothing(server):
    length = length_of(server, lambda _: server.after(), lambda follower, _:
                       follower.until_holds(KEY, AFTER))
    tried = 0
    for group in groups(range(1, length, STEP)):
        server.before()
        with server.followers(len(group)) as pairs:
            for (relay, _), offset in zip(pairs, group):
                relay.cut_after(offset)
            server.after()
            for (relay, follower), offset in zip(pairs, group):
                follower.until_holds(KEY, AFTER)
                wait_until(lambda: relay.is_whole, what=f"the cut at {offset}")
                # Of the deletion and the put that came, in this order, each is seen once.
                between = {"/services/app/a": "one"}
                states = states_of(follower)
                assert [state for at, state in enumerate(states) if state != states[at - 1]
                        or at == 0] in ([BEFORE, between, AFTER], [BEFORE, AFTER]), offset
                tried += 1
    print(f"{server.api}: {length} bytes, closed at {tried} places")


@pytest.fixture
def relay(etcd):
    with Relay(etcd.address) as made:
        yield made


def held(namespace):
    return {crowd.number_of(slot.endpoint) for slot in nft.slots(namespace)}


def test_adversary_slow_answers_are_taken_when_they_are_whole(etcd, relay, container):
    """A byte in half a millisecond, of reads and of events."""
    etcd.put("/services/web/1", document(1))
    relay.slow(0.0005)
    with Agent("--netns", container, "-b", "WEB=web;80",
               registry=f"etcd://{relay.address}") as agent:
        for number in range(2, 4):
            etcd.put(f"/services/web/{number}", document(number))
            etcd.delete(f"/services/web/{number - 1}")
            wait_until(lambda: held(container) == {number}, 20, what=f"endpoint {number}")
        assert agent.metric("registry_reads_total") == 1
        assert agent.status()["registry"]["state"] == "live"


def test_adversary_answers_too_slow_hold_what_is_known(etcd, relay, container):
    """A read that does not end in time is told; it is tried again until one does."""
    etcd.put("/services/web/1", document(1))
    with Agent("--netns", container, "-b", "WEB=web;80", "--timeout", "0.5",
               registry=f"etcd://{relay.address}") as agent:
        assert held(container) == {1}
        relay.slow(0.05)
        agent.send(signal.SIGHUP)
        wait_until(lambda: agent.metric("services_held") == 1, what="the service to be held")
        assert "/services/web: " in agent.log and "what is known stays" in agent.log
        assert agent.metrics()['dragoman_errors_total{class="transient"}'] >= 1
        assert held(container) == {1}
        relay.slow(0)
        wait_until(lambda: agent.metric("services_held") == 0, 30, what="a read that ends")
        assert held(container) == {1}


@pytest.mark.parametrize("offset", [1, 150, 300])
def test_adversary_read_cut_off_leaves_the_rules(etcd, relay, container, offset):
    """What the followers above show, as the kernel sees it."""
    etcd.put("/services/web/1", document(1))
    with Agent("--netns", container, "-b", "WEB=web;80",
               registry=f"etcd://{relay.address}") as agent:
        before = nft.whole(container)
        relay.cut_after(offset, of=READ["v3"])
        agent.send(signal.SIGHUP)
        wait_until(lambda: relay.is_whole and agent.metric("registry_reads_total") >= 3,
                   what="it to be read again")
        wait_until(lambda: agent.metric("services_held") == 0, what="an answer")
        assert nft.whole(container) == before and agent.metric("commits_total") == 1
        etcd.put("/services/web/2", document(2))
        wait_until(lambda: held(container) == {1, 2}, what="what came later")
