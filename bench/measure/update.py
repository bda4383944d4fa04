# SPDX-License-Identifier: MIT
"""Rules that are loaded, and that change: ours beside the kernel's own cost and the peers.

At each size everybody loads the same state into a namespace of its own, in turn,
several times over; then the endpoints that are reached are compared with those
that should be. Then the changes: some of the first, some of the second, and round
again, so that a machine that gets slower does so for all. At the end it is looked
at again. A peer whose loads so far let expect that the next size takes longer than the
limit is left out from there on, and that is said.
"""

import math
import pathlib
import tempfile
import time

import machine
from lab.namespaces import Namespaces
from peers import iptables, netlink, nft
from peers.nftlb import Nftlb
from stage import Stage
from state import State

SERVICES, ENDPOINTS = (10, 100, 1000, 10000), 10
BY_ENDPOINTS, ENDPOINT_COUNTS = 10, (1, 10, 100, 1000)  # services; endpoints of each
PEERS = (netlink.Raw, netlink.Ours, nft.Flat, nft.Chains, iptables.IptablesNft,
         iptables.IptablesLegacy, Nftlb)

SLOW = 5  # a load that takes as long is measured once
CHEAP = 0.005  # a change below that is measured by the dozen


class Expectation:
    """What a load of the next size will take of a peer, at worst."""

    def __init__(self):
        self._loads = {}

    def learn(self, peer, size, seconds):
        self._loads.setdefault(peer, []).append((size, seconds))

    def of(self, peer, size):
        """As it grew so far, and a power more: what it takes to begin hides how it grows."""
        known = self._loads.get(peer, [])
        if not known:
            return 0
        last_size, last = known[-1]
        power = 1.0
        if len(known) > 1:
            before_size, before = known[-2]
            power += math.log(last / before) / math.log(last_size / before_size)
        return last * (size / last_size) ** max(1.0, power)


class Company:
    """Those who are measured at one size."""

    def __init__(self, namespaces, state, classes):
        self.state, self.peers = state, []
        for each in classes:
            self.peers.append(each(Stage(namespaces, each.name), state))
        ours = self.find("ours")
        for peer in self.peers:
            if isinstance(peer, nft.Flat):
                peer.source = ours

    def find(self, name):
        return next((peer for peer in self.peers if peer.name == name), None)

    def close(self):
        for peer in self.peers:
            peer.close()
            peer.stage.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def in_turn(peers, rounds, measure):
    """measure(peer, round) of the first, the second..., and round again, beginning with another
    each time; {peer: [results]}."""
    found = {peer: [] for peer in peers}
    for number in range(rounds):
        first = number % max(1, len(peers))
        for peer in [*peers[first:], *peers[:first]]:
            found[peer].append(measure(peer, number))
    return found


def settle():
    """The kernel frees what was removed in the background, and would disturb who comes next:
    waits until its memory does not become less any more."""
    least, calm_since = machine.kernel_memory(), time.monotonic()
    deadline = calm_since + 3
    while time.monotonic() < min(deadline, calm_since + 0.1):
        time.sleep(0.02)
        now = machine.kernel_memory()
        if now < least:
            least, calm_since = now, time.monotonic()


def load(results, company, expectation):
    """The first load, several times, of those who are slow once."""
    rounds = 2 if results.quick else 5 if company.state.services >= 10000 else 7
    times = {peer: [] for peer in company.peers}

    def one(peer, _):
        if not times[peer] or times[peer][0] < SLOW:
            if times[peer]:
                peer.clear()
                settle()
            times[peer].append(peer.load())

    in_turn(company.peers, rounds, one)
    for peer in company.peers:
        results.add("update", "first load", peer.name, company.state.parameters, times[peer])
        expectation.learn(peer.name, company.state.services * company.state.endpoints,
                          min(times[peer]))


def warm_up(results, company):
    """The first change finds caches cold, and the first service of one slot more has its chain
    made. Returns the seconds that a change takes of each peer."""
    took = {}
    for peer in company.peers:
        took[peer] = peer.replace(0, 2)[1]
        added = peer.grow(0, 1)["add"]
        if peer.name == "ours":
            results.add("update", "add, a new number of slots", peer.name,
                        company.state.parameters, added)
    return took


def change(results, company):
    """Replaced, added, removed: often of those who are fast, seldom of those who are not; and
    replaced with a pause before each, which is how changes come."""
    took = warm_up(results, company)
    fast = [peer for peer in company.peers if took[peer] < CHEAP]
    slow = [peer for peer in company.peers if took[peer] >= CHEAP]
    found = in_turn(fast, 6 if results.quick else 12, lambda peer, number: {
        "replace": peer.replace(100 + 20 * number, 20), **peer.grow(100 + 20 * number, 10)})
    alone = in_turn(fast, 50 if results.quick else 200,
                    lambda peer, number: peer.replace(1000 + number, 1))
    found |= in_turn(slow, 1 if results.quick else 4, lambda peer, number: {
        "replace": peer.replace(100 + 2 * number, 2), **peer.grow(100 + 2 * number, 2)})
    for what in ("replace", "add", "remove"):
        for peer, times in found.items():
            results.add("update", what, peer.name, company.state.parameters,
                        [time for each in times for time in each[what]])
    for peer, times in alone.items():
        results.add("update", "replace, one at a time", peer.name, company.state.parameters,
                    sum(times, []))


def nothing(results, company):
    """Nothing has changed: an event that says nothing new, and reading everything anew."""
    ours = company.find("ours")
    few = [each for each in (company.find("raw"), ours) if each]
    for peer, found in in_turn(few, 1 if results.quick else 3,
                               lambda peer, _: peer.read(2)).items():
        results.add("update", "read all", peer.name, company.state.parameters, sum(found, []))
    if ours:
        results.add("update", "rewritten unchanged", "ours", company.state.parameters,
                    ours.same(100))


def check(company, folder, fresh=False):
    for peer in company.peers:
        peer.check(fresh)
        if peer.name in ("raw", "ours", "nft-flat"):
            netlink.assert_in_sync(peer, folder)


def measure(results, state, classes, expectation):
    size = state.services * state.endpoints
    chosen = []
    for each in classes:
        # Those by whom the others are measured are always there.
        needed = issubclass(each, netlink.Netlink)
        if not needed and expectation.of(each.name, size) > results.limit:
            results.note(f"update: {each.name} is left out at {state.services:,} x "
                         f"{state.endpoints:,}: a load may take longer than {results.limit:.0f} s")
        else:
            chosen.append(each)
    with tempfile.TemporaryDirectory() as folder, Namespaces() as namespaces, \
            Company(namespaces, state, chosen) as company:
        load(results, company, expectation)
        check(company, pathlib.Path(folder), fresh=True)
        change(results, company)
        nothing(results, company)
        check(company, pathlib.Path(folder))


def run(results, services=None, endpoints=None, classes=PEERS):
    """services: at which numbers of services; endpoints: at which numbers of endpoints."""
    expectation = Expectation()
    for count in services or (SERVICES if not results.quick else (10, 1000, 10000)):
        measure(results, State(count, ENDPOINTS), classes, expectation)
    # The peers have shown what they have to: how it grows with services.
    expectation = Expectation()
    some = [each for each in classes if each is not Nftlb]
    if results.quick:
        some = [each for each in classes if issubclass(each, netlink.Netlink)]
    for count in endpoints if endpoints is not None else (
            ENDPOINT_COUNTS if not results.quick else (1000,)):
        if count != ENDPOINTS:
            measure(results, State(BY_ENDPOINTS, count), some, expectation)
