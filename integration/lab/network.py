# SPDX-License-Identifier: MIT
"""An etcd of three members, each in a namespace of its own, on cables that can be cut.

    with Network() as network:
        agent = network.run("--netns", container, "-b", "WEB=web;80")
        network.members[0].part()     # from the other members; clients still reach it
        network.members[1].leave()    # and clients' cable
        network.write({key: value}, [other_key])  # as soon as a majority takes it
        network.heal()

Members have one cable to a switch of their own, by which they are a cluster, and
another to a switch of their clients.
"""

import contextlib
import http.client

from lab.agent import Agent
from lab.cluster import Cluster, Member
from lab.command import PROGRAM
from lab.etcd import transaction
from lab.namespaces import Namespaces, inside
from lab.waiting import wait_until

CLIENTS, PEERS = "10.79.0", "10.78.0"


class Switch:
    """A bridge in a namespace; what is plugged in there has addresses of one network."""

    def __init__(self, namespaces, label, prefix):
        self.namespace, self._namespaces = namespaces.new(label), namespaces
        self._device, self._prefix = label, prefix
        self.namespace.ip("link", "add", "switch", "type", "bridge")
        self.namespace.ip("link", "set", "switch", "up")

    def plug(self, namespace, number):
        """Its end is named as the switch."""
        port = f"port{number}"
        self._namespaces.link(namespace, self.namespace, self._device, port)
        self.namespace.ip("link", "set", port, "master", "switch")
        namespace.add_address(f"{self._prefix}.{number}/24", device=self._device)


class Host(Member):
    HEARTBEAT, ELECTION = 100, 1000

    def __init__(self, cluster, number, namespace):
        super().__init__(cluster, number, 2379, 2380)
        self.namespace, self._number = namespace, number + 1
        self.is_parted = False

    @property
    def address(self):
        return f"{CLIENTS}.{self._number}:{self.port}"

    @property
    def _web(self):
        return f"http://{self.address}"

    @property
    def _peer_web(self):
        return f"http://{PEERS}.{self._number}:{self._peer}"

    def _command(self, peer):
        return ["nsenter", f"--net={self.namespace.path}", *super()._command(peer)]

    def _open(self, *arguments, **options):
        """At the host itself, whatever its cables do."""
        with inside(self.namespace):
            return super()._open(*arguments, **options)

    def metric(self, name):
        with inside(self.namespace):
            return super().metric(name)

    def _cable(self, name, state):
        self.namespace.ip("link", "set", name, state)

    def part(self):
        self._cable("peers", "down")
        self.is_parted = True

    def leave(self):
        self._cable("clients", "down")

    def join(self):
        self._cable("peers", "up")
        self._cable("clients", "up")
        self.is_parted = False


class Network(Cluster):
    def __init__(self):
        self._namespaces = Namespaces()
        try:
            self._switches = [Switch(self._namespaces, "peers", PEERS),
                              Switch(self._namespaces, "clients", CLIENTS)]
            self.client = self._namespaces.new("agent")
            self._switches[1].plug(self.client, 100)
            super().__init__()
        except BaseException:
            self._namespaces.close()
            raise

    def _make_members(self):
        members = []
        for number in range(self.SIZE):
            namespace = self._namespaces.new(f"member{number}")
            for switch in self._switches:
                switch.plug(namespace, number + 1)
            members.append(Host(self, number, namespace))
        return members

    def run(self, *arguments, first=None, api="etcd", **options):
        """An agent on the clients' network, whose list of hosts begins with that member."""
        url = self.url_from(first or self.members[0]).replace("etcd:", f"{api}:")
        return Agent(*arguments, registry=url,
                     command=["nsenter", f"--net={self.client.path}", PROGRAM], **options)

    def _ask(self, act):
        """act(member), of any that may be of the majority; True once it did."""
        for member in self.members:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if member.is_up and not member.is_parted:
                    act(member)
                    return True
        return False

    def write(self, puts=(), deletes=()):
        """One transaction, by a majority."""
        body = transaction(puts, deletes)
        wait_until(lambda: self._ask(lambda member: member.call("/v3/kv/txn", **body)), 60,
                   what="a majority that writes")

    def write_v2(self, key, value):
        wait_until(lambda: self._ask(lambda member: member.put_v2(key, value)), 60,
                   what="a majority that writes")

    def heal(self):
        """Every member runs, is joined, and knows a leader."""
        for member in self.members:
            member.join()
            if member._process.ended() is not None:
                member.launch()
            if member.frozen:
                member.thaw()
        self.wait()

    def close(self):
        super().close()
        self._namespaces.close()
