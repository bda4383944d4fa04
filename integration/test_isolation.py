# SPDX-License-Identifier: MIT
"""A neighbour on the link never reaches the container's loopback.

route_localnet opens it (CVE-2020-8558), the guard closes it. The namespaces
here accept packets with local sources as well, so that nothing but the guard
is in the way; each test that says "never" stands beside one that shows the
same frames arrive without it.
"""

import json

import pytest

from lab import forgeries, nft
from lab.neighbour import ARRIVALS, ASK_MAC, Neighbour, mac_address
from lab.processes import python

FENCE = "10.77.0.1:4000>10.77.0.100:7999/udp"
LISTENS4 = ("127.0.0.1:7000/udp", "127.0.0.1:7000/tcp", "127.0.0.53:7001/udp",
            "10.77.0.100:7002/udp")
# To the loopback, from the neighbour's address and from itself; to the
# container's own address in the name of its loopback.
FRAMES4 = ("10.77.0.1:4001>127.0.0.1:7000/udp", "10.77.0.1:4002>127.0.0.1:7000/tcp",
           "127.0.0.1:4003>127.0.0.1:7000/udp", "127.0.0.1:4004>127.0.0.1:7000/tcp",
           "10.77.0.1:4005>127.0.0.53:7001/udp", "127.0.0.1:4006>10.77.0.100:7002/udp",
           "127.9.9.9:4007>10.77.0.100:7002/udp")
LISTENS6 = ("[::1]:7000/udp", "[::1]:7000/tcp", "[fd77::100]:7003/udp")
FRAMES6 = ("[fd77::1]:4001>[::1]:7000/udp", "[fd77::1]:4002>[::1]:7000/tcp",
           "[::1]:4003>[::1]:7000/udp", "[::1]:4004>[fd77::100]:7003/udp")
DESCRIPTORS = ("WEB=web;80", "SEVEN=web;7000", "EIGHT=web;7001/udp")
NOTHING4 = dict.fromkeys(LISTENS4, 0)
NOTHING6 = dict.fromkeys(LISTENS6, 0)


def trust_all_sources(namespace, *devices):
    for device in ("all", "default", *devices):
        namespace.sysctl(f"net.ipv4.conf.{device}.rp_filter", 0)
        namespace.sysctl(f"net.ipv4.conf.{device}.accept_local", 1)


@pytest.fixture
def neighbour(container, hosts):
    trust_all_sources(container, "eth0")
    with Neighbour(hosts, container, FRAMES4, LISTENS4, FENCE) as made:
        yield made


@pytest.fixture
def neighbour6(container, hosts):
    with Neighbour(hosts, container, FRAMES6, LISTENS6, FENCE) as made:
        yield made


@pytest.fixture
def reconciled(container, etcd, dragoman):
    """The container's rules stand, also for the ports that the neighbour aims at."""
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    done = dragoman.reconcile(container, *DESCRIPTORS)
    assert done.code == 0, done
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "1"
    return container


def test_isolation_forged_ipv4_never_arrives(reconciled, neighbour):
    for _ in range(3):
        assert neighbour.attack() == NOTHING4
    guarded = nft.listing(reconciled, "chain", "inet", "dragoman", "guard")
    assert guarded.count("drop") == 5


def test_isolation_forged_ipv4_arrives_without_the_guard(reconciled, neighbour):
    nft.load(reconciled, "flush chain inet dragoman guard")
    arrived = neighbour.attack()
    assert arrived["127.0.0.1:7000/udp"] >= 1
    assert arrived["127.0.0.1:7000/tcp"] >= 1
    assert arrived["127.0.0.53:7001/udp"] == 1
    assert arrived["10.77.0.100:7002/udp"] == 2


def test_isolation_guard_flushed_stands_again_after_reconcile(reconciled, neighbour, dragoman):
    nft.load(reconciled, "flush chain inet dragoman guard")
    assert neighbour.attack() != NOTHING4
    assert dragoman.reconcile(reconciled, "WEB=web;80").code == 0
    neighbour.attack()  # what came before is read with it
    container_ports = neighbour.attack()
    assert container_ports["127.0.0.1:7000/udp"] == 0
    assert container_ports["127.0.0.53:7001/udp"] == 0
    assert container_ports["10.77.0.100:7002/udp"] == 0


def test_isolation_forged_ipv6_never_arrives(reconciled, neighbour6):
    assert neighbour6.attack() == NOTHING6


def test_isolation_honest_packets_arrive(reconciled, hosts):
    """The same forger, with addresses that are true: its frames are well formed."""
    listens = ("10.77.0.100:7000/udp", "10.77.0.100:7000/tcp", "[fd77::100]:7004/udp",
               "[fd77::100]:7004/tcp")
    # Sources that nobody has: there is nobody to reset what the SYN began.
    frames = ("10.77.0.200:4001>10.77.0.100:7000/udp", "10.77.0.200:4002>10.77.0.100:7000/tcp",
              "[fd77::200]:4003>[fd77::100]:7004/udp", "[fd77::200]:4004>[fd77::100]:7004/tcp")
    with Neighbour(hosts, reconciled, frames, listens, FENCE) as honest:
        assert honest.attack() == dict.fromkeys(listens, 1)


def new_veth(laboratory, device="eth1"):
    laboratory.namespaces.link(laboratory.container, laboratory.hosts, device, "far")
    return device


def new_bridge(laboratory):
    """With a cable as its port."""
    container = laboratory.container
    container.ip("link", "add", "br1", "type", "bridge")
    container.ip("link", "set", new_veth(laboratory, "port"), "master", "br1")
    container.ip("link", "set", "br1", "up")
    return "br1"


def new_macvlan(laboratory):
    laboratory.container.ip("link", "add", "mac1", "link", new_veth(laboratory, "lower"),
                            "type", "macvlan", "mode", "bridge")
    laboratory.container.ip("link", "set", "mac1", "up")
    return "mac1"


def new_vxlan(laboratory):
    """A tunnel between the two: its frames come in packets that are honest."""
    for namespace, name, remote in ((laboratory.container, "vx1", "10.77.0.1"),
                                    (laboratory.hosts, "far", "10.77.0.100")):
        namespace.ip("link", "add", name, "type", "vxlan", "id", "7", "dev", "eth0",
                     "remote", remote, "dstport", "4789")
        namespace.ip("link", "set", name, "up")
    return "vx1"


def new_tun(laboratory):
    """The neighbour is at the other end of it, in a process of the container."""
    laboratory.container.ip("tuntap", "add", "dev", "tun1", "mode", "tun")
    laboratory.container.ip("link", "set", "tun1", "up")
    return "tun1"


def new_neighbour(laboratory, device):
    """With all that a neighbour has, at the far end of a new device of the container's.

    The addresses that it aims at are of eth0, which makes no difference to the kernel.
    """
    container, hosts = laboratory.container, laboratory.hosts
    container.add_address("10.78.0.100/24", device=device)
    if device == "tun1":
        attacker, far = container, "tun:tun1"
    else:
        attacker, far = hosts, "far"
    mac = bytes.fromhex(mac_address(container, device).replace(":", ""))
    return Neighbour(attacker, container, forgeries.everything(mac), forgeries.STANDING,
                     FENCE.replace("10.77.", "10.78."), device=far, victim_device=device)


def named(name):
    return lambda laboratory: new_veth(laboratory, name)


INTERFACES = {"veth": new_veth, "bridge": new_bridge, "macvlan": new_macvlan, "vxlan": new_vxlan,
              "tun": new_tun, **{name: named(name) for name in ("lo1", "lo.100", "Lo", "0lo")}}


@pytest.mark.parametrize("interface", INTERFACES)
def test_isolation_interface_added_later_is_guarded(reconciled, laboratory, dragoman, interface):
    """At once, and when it has its route to ::1."""
    forgeries.open_up(reconciled)  # the interfaces that come, too
    device = INTERFACES[interface](laboratory)
    with new_neighbour(laboratory, device) as neighbour:
        assert set(neighbour.attack().values()) == {0}
        assert dragoman.reconcile(reconciled, *DESCRIPTORS).changes >= {
            ("add", f"route local ::1/128 dev {device}")}
        assert set(neighbour.attack().values()) == {0}
        nft.load(reconciled, "flush chain inet dragoman guard")
        arrived = neighbour.attack()
        assert {name for name, count in arrived.items() if count} >= forgeries.REACHED, arrived


def test_isolation_holds_while_rules_come_and_go(container, etcd, dragoman, neighbour):
    """A storm of forged frames over fifty times reconcile and flush: none gets in.

    A sysctl that opened before its guard, or a guard that went before it,
    would let some through.
    """
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    assert neighbour.attack() == NOTHING4
    neighbour.start_storm()
    for _ in range(50):
        assert dragoman.reconcile(container, "WEB=web;80").code == 0
        assert dragoman.flush(container).code == 0
    sent, arrived = neighbour.end_storm()
    assert sent > 1000
    assert arrived == NOTHING4


def test_isolation_holds_while_a_table_is_replaced(reconciled, dragoman, neighbour):
    """A table that cannot be mended is replaced in one transaction, the guard with it."""
    neighbour.start_storm()
    for _ in range(20):
        nft.load(reconciled, "delete chain inet dragoman unavailable\n"
                 "add chain inet dragoman unavailable { type filter hook input priority 0; }")
        done = dragoman.reconcile(reconciled, "WEB=web;80")
        assert done.code == 0, done
    _, arrived = neighbour.end_storm()
    assert arrived == NOTHING4


class OwnedTable:
    """A table of our name that another process owns: the kernel lets nobody else change it."""

    def __init__(self, namespace):
        self._nft = namespace.start("stdbuf", "-oL", "nft", "-i")
        self._nft.write_line("add table inet dragoman { "
                             'comment "dragoman schema=1 route_localnet=0"; flags owner; }')
        self._nft.write_line("list tables")
        line = ""
        while "table inet dragoman" not in line or "add" in line:
            line = self._nft.read_line()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._nft.stop()


def test_isolation_sysctl_stays_closed_where_the_guard_is_refused(container, etcd, dragoman):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    with OwnedTable(container):
        done = dragoman.reconcile(container, "WEB=web;80")
    assert done.code == 1, done
    assert "Operation not permitted" in done.stderr
    assert done.json["changes"] == []
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "0"


def test_isolation_sysctl_is_closed_before_the_guard_goes(container, dragoman):
    container.sysctl("net.ipv4.conf.all.route_localnet", 1)
    with OwnedTable(container):
        done = dragoman.flush(container)
        assert nft.tables(container) == {"inet dragoman"}
    assert done.code == 1, done
    assert "Operation not permitted" in done.stderr
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "0"


# What the sysctl opens in the other direction

def send_from(namespace, source, destination):
    """One datagram by an ordinary socket; what send() said."""
    script = ("import socket, sys\n"
              "made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
              "made.bind((sys.argv[1], 5999))\n"
              "try:\n    made.sendto(b'as another', (sys.argv[2], int(sys.argv[3])))\n"
              "except OSError as error:\n    print(error.strerror)\n")
    return namespace.run("/usr/bin/python3", "-c", script, source, *destination.split(":")).stdout


class Careless:
    """Hosts that take packets from 127.0.0.1 off the wire, and what comes to them."""

    def __init__(self, hosts, container):
        trust_all_sources(hosts, "eth0")
        hosts.sysctl("net.ipv4.conf.all.route_localnet", 1)
        container.ip("neighbour", "replace", "10.77.0.1", "dev", "eth0",
                     "lladdr", mac_address(hosts, "eth0"))
        self._listener = hosts.start(
            *python(ARRIVALS, "10.77.0.1:7999/udp", "10.77.0.1:7010/udp"))
        assert self._listener.read_line() == "ready"
        self._container = container

    def arrived(self):
        assert send_from(self._container, "10.77.0.100", "10.77.0.1:7999") == ""
        return json.loads(self._listener.read_line())["10.77.0.1:7010/udp"]


def test_isolation_container_cannot_send_as_loopback(reconciled, hosts):
    careless = Careless(hosts, reconciled)
    for source in ("127.0.0.1", "127.9.9.9"):
        assert send_from(reconciled, source, "10.77.0.1:7010") == "Operation not permitted\n"
    assert careless.arrived() == 0
    nft.load(reconciled, "flush chain inet dragoman postrouting")
    assert send_from(reconciled, "127.0.0.1", "10.77.0.1:7010") == ""
    assert careless.arrived() == 1


def test_isolation_neighbour_can_ask_whether_localhost_is_led(container, hosts, etcd, dragoman):
    """ARP passes no rule of ours: with route_localnet it is answered for 127.0.0.1, too."""
    def answered():
        return hosts.run(*python(ASK_MAC, "eth0", "10.77.0.1", "127.0.0.1", "10.77.0.100"),
                         timeout=20).stdout.split()
    assert answered() == ["10.77.0.100"]
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    assert dragoman.reconcile(container, *DESCRIPTORS).code == 0
    assert answered() == ["127.0.0.1", "10.77.0.100"]
