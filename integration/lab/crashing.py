# SPDX-License-Identifier: MIT
"""A host that changes without a pause, and what may be found on it at any instant.

    with Host(namespaces, etcd, seed) as host, Agent(*host.targets, ...) as agent:
        agent.kill()
        host.check()            # each table is whole: of a state before, or of the one after
        agent.start()
        with host.paused():
            host.wait_until_exact()

Each service goes from state to state, each put by one transaction of the registry, and
no two of them alike. What is found is of one of them, whole: nft's listing, read by
lab/oracle.py, which knows nothing of dragoman's code.
"""

import contextlib
import json
import random
import threading
import time

from lab import crowd, nft, oracle
from lab.crowd import Crowd
from lab.waiting import wait_until
from lab.writers import Connection

SERVICES, KEYS = 6, 4
# Changes a second at most; clients want some of the machine, too.
RATE = 300


class Service:
    """documents of each state there was, the newest last."""

    def __init__(self, number, dice):
        self.number, self.key, self.states = number, f"/services/s{number}", []
        self._dice = dice

    def _document(self, state, slot):
        # Of the first ones clients are told apart by IPv4; the last one is of IPv6 as well.
        found = crowd.document((state * KEYS + slot) % 60000 + 1)
        if self.number == SERVICES - 1 and self._dice.random() < 0.5:
            found["ipaddress"] = f"fd64::{state:x}:{slot:x}"
        if self._dice.random() < 0.4:
            found["weight"] = self._dice.choice((1, 2, 3, 4))
        return found

    def next(self):
        """The next state; with clients there is always an endpoint."""
        slots = self._dice.sample(range(KEYS), self._dice.randrange(
            1 if self.number < SERVICES - 2 else 0, KEYS + 1))
        number = len(self.states) + 1
        self.states.append({f"{self.key}/{slot}": self._document(number, slot)
                            for slot in slots})
        return self.states[-1]

    def rules(self, state, port):
        """What one of its states comes to at a port."""
        documents = {key: json.dumps(each).encode() for key, each in self.states[state].items()}
        return oracle.rules_of([oracle.Descriptor(self.key, frozenset(), port, "tcp")], documents)


class Writer(threading.Thread):
    def __init__(self, etcd, services, dice):
        super().__init__(daemon=True)
        self._registry, self._services, self._dice = Connection(etcd), services, dice
        self._turn, self._end, self._failure = threading.Lock(), False, None
        for service in services:
            self._put(service)

    def _put(self, service):
        # It is among those there were before anybody can have heard of it.
        state = service.next()
        self._registry.together(state, [f"{service.key}/{slot}" for slot in range(KEYS)
                                        if f"{service.key}/{slot}" not in state])

    def run(self):
        try:
            while not self._end:
                with self._turn:
                    self._put(self._dice.choice(self._services))
                time.sleep(1 / RATE)
        except Exception as failure:  # told to the test, in its own thread
            self._failure = failure

    @contextlib.contextmanager
    def paused(self):
        with self._turn:
            yield
        assert not self._failure, self._failure

    def stop(self):
        self._end = True
        self.join()
        assert not self._failure, self._failure


class Place:
    """A namespace, its client, and which state each service was last seen in."""

    def __init__(self, namespaces, number, services, clients):
        self.namespace, hosts = namespaces.new(f"c{number}"), namespaces.new(f"h{number}")
        namespaces.link(self.namespace, hosts)
        self.namespace.add_address("10.77.0.100/24", "fd77::100/64")
        hosts.add_address("10.77.0.1/24", "fd77::1/64")
        # Port 80 is the clients'.
        self.ports = {80 if each.number == number else 8000 + each.number: each
                      for each in services}
        self.seen = dict.fromkeys(self.ports, 0)
        self.clients = Crowd(self.namespace, hosts, "tcp", rate=clients)

    @property
    def target(self):
        words = ["--netns", self.namespace]
        for port, service in self.ports.items():
            words += ["-b", f"P{port}=s{service.number};{port}"]
        return words

    @staticmethod
    def _part(found, port):
        """What is found of one port."""
        listens = [oracle.listen_text(family, port, "tcp") for family in (4, 6)]
        mine = oracle.Rules()
        mine.shares = {each: found.shares[each] for each in listens if each in found.shares}
        mine.unavailable = found.unavailable & set(listens)
        return mine

    def _state_of(self, found, port):
        """The number of the state that a port is in; it never goes back."""
        service, mine = self.ports[port], self._part(found, port)
        for state in range(self.seen[port], len(service.states)):
            if service.rules(state, port) == mine:
                return state
        raise AssertionError(
            f"{self.namespace}: {mine!r}\nis no state of {service.key} from "
            f"{self.seen[port]} on: {service.states[self.seen[port]:]}")

    def check(self):
        found = oracle.rules_standing(self.namespace.path)
        assert not found.amiss, f"{self.namespace}: {found}"
        listens = {oracle.listen_text(family, port, "tcp")
                   for port in self.ports for family in (4, 6)}
        assert set(found.shares) | found.unavailable == listens, found
        for port in self.ports:
            self.seen[port] = self._state_of(found, port)
        return found

    def is_exact(self):
        found = self.check()
        return all(self._part(found, port) == service.rules(-1, port)
                   for port, service in self.ports.items())


class Host:
    """clients: connections a second in each of its namespaces."""

    def __init__(self, namespaces, etcd, seed, size=4, clients=100):
        dice = random.Random(seed)
        self.services = [Service(number, random.Random(dice.random()))
                         for number in range(SERVICES)]
        self._writer = Writer(etcd, self.services, random.Random(dice.random()))
        self.places = [Place(namespaces, number, self.services, clients)
                       for number in range(size)]
        self.targets = [word for each in self.places for word in each.target]

    @property
    def states(self):
        return sum(len(each.states) for each in self.services)

    def begin(self):
        """Clients begin when the rules stand."""
        self._writer.start()
        for place in self.places:
            place.clients.begin()

    def paused(self):
        """with host.paused(): the registry rests."""
        return self._writer.paused()

    def check(self):
        for place in self.places:
            place.check()

    def wait_until_exact(self, deadline=20):
        wait_until(lambda: all(place.is_exact() for place in self.places), deadline,
                   what="the rules of the last states")

    def end(self):
        """What clients tell, of each namespace."""
        self._writer.stop()
        return [place.clients.end() for place in self.places]


def guard_stands(namespace):
    """Whether what route_localnet opens is closed, as nft tells it."""
    listed = namespace.run("nft", "-n", "list", "chain", "inet", "dragoman", "guard", check=False)
    return all(f'iifname != "lo" ip {side} 127.0.0.0/8 drop' in listed.stdout
               for side in ("daddr", "saddr")) and "type filter hook prerouting" in listed.stdout


def check_half_done(namespace, wanted):
    """What may be found where a first set-up, or a flush, was cut off: the table is whole or not
    there, localhost is open behind the guard only, and no route is there without the table."""
    open_wide = namespace.sysctl("net.ipv4.conf.all.route_localnet") == "1"
    assert not open_wide or guard_stands(namespace), nft.listing(namespace, "ruleset")
    found = oracle.rules_standing(namespace.path)
    if "inet dragoman" in nft.tables(namespace):
        assert (found.shares, found.unavailable) == (wanted.shares, wanted.unavailable), found
    else:
        assert found == oracle.Rules(), found
