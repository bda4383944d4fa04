# SPDX-License-Identifier: MIT
"""A table of ours that somebody changed by hand is put right by one reconcile.

One namespace serves for all of them: each test damages it, looks whether the
damage is seen, repairs it, and compares with what stood before.
"""

import re
import types

import pytest

from lab import nft
from lab.command import Dragoman
from lab.damage import DAMAGES, LEFTOVER, OF_CHAINS, UNSEEN
from lab.namespaces import Namespaces
from lab.traffic import connect, serve

DESCRIPTORS = ("WEB=web;80", "PAIR=pair;81", "DNS=dns;53/udp", "SIX=six;80/udp", "NONE=none;5")


@pytest.fixture(scope="module")
def scene(etcd_server):
    """A container with services of one, two and three slots, over IPv4 and IPv6, and without."""
    with Namespaces() as namespaces:
        container, hosts = namespaces.new("damaged"), namespaces.new("hosts")
        namespaces.link(container, hosts)
        container.add_address("10.77.0.100/24", "fd77::100/64")
        listens = [f"10.77.0.{number}:8080/{protocol}"
                   for number in (1, 2, 3) for protocol in ("tcp", "udp")]
        for number in (1, 2, 3):
            hosts.add_address(f"10.77.0.{number}/24", f"fd77::{number}/64")
        serve(hosts, *listens, "[fd77::1]:8080/udp")
        yield types.SimpleNamespace(container=container, hosts=hosts, namespaces=namespaces,
                                    dragoman=Dragoman(etcd_server.url))


def register(etcd):
    for number in (1, 2, 3):
        etcd.endpoint(f"/services/web/{number}", f"10.77.0.{number}", 8080)
    for number in (1, 2):
        etcd.endpoint(f"/services/pair/{number}", f"10.77.0.{number}", 8080)
    etcd.endpoint("/services/dns/1", "10.77.0.1", 8080, proto="udp")
    etcd.endpoint("/services/six/1", "fd77::1", 8080, proto="udp")


@pytest.fixture
def balance(request):
    return getattr(request, "param", "random")


@pytest.fixture
def whole(scene, etcd, balance):
    """The scene with everything as it should be, a few connections counted."""
    register(etcd)
    container = scene.container
    scene.reconcile = lambda: scene.dragoman.reconcile(container, *DESCRIPTORS, balance=balance)
    scene.plan = lambda: scene.dragoman.plan(container, *DESCRIPTORS, balance=balance)
    assert scene.dragoman.flush(container).code == 0
    assert nft.tables(container) == set()
    assert scene.reconcile().code == 0
    assert sum(connect(container, "127.0.0.1:81/tcp", 4).values()) == 4
    yield scene
    for table in nft.tables(container):
        nft.load(container, f"delete table {table}")


def without_counters(text):
    return re.sub(r"counter packets \d+ bytes \d+", "counter", text)


def contents(namespace):
    """The table as a set of lines: neither order of elements nor their counters."""
    text = without_counters(nft.listing(namespace))
    lines = (line.strip().removeprefix("elements = { ").removesuffix(" }").removesuffix(",")
             for line in text.splitlines())
    return sorted(lines)


def assert_serves(scene):
    assert set(connect(scene.container, "127.0.0.1:80/tcp", 3)) <= {
        f"10.77.0.{number}:8080" for number in (1, 2, 3)}


def damage(scene, name):
    what = DAMAGES[name]
    if callable(what):
        what(scene.container)
    else:
        nft.load(scene.container, what)


ALL = [*((name, "random") for name in DAMAGES), *((name, "nth") for name in OF_CHAINS)]


@pytest.mark.parametrize(("name", "balance"), ALL, indirect=["balance"])
def test_damage_is_put_right_by_one_reconcile(whole, name):
    before, traces = contents(whole.container), nft.traces(whole.container)
    damage(whole, name)
    planned = whole.plan()
    assert planned.code == (0 if name in UNSEEN else 3), planned
    repaired = whole.reconcile()
    assert repaired.code == 0, repaired
    assert repaired.changes == planned.changes
    again = whole.plan()
    assert again.code == 0, again
    if name not in LEFTOVER:
        assert contents(whole.container) == before
    assert nft.traces(whole.container) == traces
    assert_serves(whole)


def counters(namespace):
    return {(slot.listen, slot.endpoint): slot.connections for slot in nft.slots(namespace)}


@pytest.mark.parametrize("name", ["slot-changed", "slot-added", "last-slot-deleted",
                                  "verdict-drop", "output-flushed", "unavailable-elements-flushed",
                                  "catch-all-endpoint", "map-of-another-type", "hook-later"])
def test_damage_repaired_keeps_the_counters_of_the_others(whole, name):
    """Also where the table had to be replaced."""
    before = counters(whole.container)
    assert sum(before.values()) == 4
    damage(whole, name)
    assert whole.reconcile().code == 0
    after = counters(whole.container)
    assert after.keys() == before.keys()
    assert {key: after[key] for key in after if ":81/" in key[0]} == {
        key: before[key] for key in before if ":81/" in key[0]}


@pytest.mark.parametrize("balance", ["random", "nth"], indirect=True)
def test_damage_none_the_listing_loads_again(whole):
    """What `nft list table` prints is the table, to nft and to plan."""
    container = whole.container
    before = nft.listing(container)
    nft.load(container, "delete table inet dragoman\n" + before)
    assert sorted(nft.listing(container).split()) == sorted(before.split())
    again = whole.plan()
    assert again.code == 0 and again.json["in_sync"], again
    assert_serves(whole)


# Rules as Docker's engine writes them for its resolver, a user's firewall,
# and tables with our name in other families.
FOREIGN = """
table ip nat {
    chain DOCKER_OUTPUT {
        meta l4proto tcp ip daddr 127.0.0.11 tcp dport 53 counter packets 0 bytes 0 dnat to 127.0.0.11:43661
        meta l4proto udp ip daddr 127.0.0.11 udp dport 53 counter packets 0 bytes 0 dnat to 127.0.0.11:37431
    }
    chain OUTPUT {
        type nat hook output priority -100; policy accept;
        ip daddr 127.0.0.11 counter packets 0 bytes 0 jump DOCKER_OUTPUT
    }
    chain DOCKER_POSTROUTING {
        meta l4proto tcp ip saddr 127.0.0.11 tcp sport 43661 counter packets 0 bytes 0 snat to :53
        meta l4proto udp ip saddr 127.0.0.11 udp sport 37431 counter packets 0 bytes 0 snat to :53
    }
    chain POSTROUTING {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr 127.0.0.11 counter packets 0 bytes 0 jump DOCKER_POSTROUTING
    }
}
table inet firewall {
    comment "a user's own"
    set admitted { type ipv4_addr; flags interval; elements = { 10.77.0.0/24 } }
    map services4 { type ipv4_addr . inet_proto . inet_service : verdict; }
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr != @admitted iifname != "lo" counter packets 0 bytes 0 drop
    }
    chain output { type filter hook output priority filter; policy accept; };
    chain balance4-3 { counter packets 0 bytes 0; }
}
table ip dragoman { chain guard { type filter hook input priority 1; policy accept; }; }
table ip6 dragoman { chain output { type filter hook output priority 1; policy accept; }; }
table inet dragoman2 { chain guard { type filter hook input priority 2; policy accept; }; }
"""


@pytest.mark.parametrize("name", ["services-flushed", "map-of-another-type", "table-dormant"])
def test_damage_repair_touches_no_foreign_table(whole, name):
    container, names = whole.container, FOREIGN_TABLES
    nft.load(container, FOREIGN)
    before = [foreign_listing(container, table) for table in names]
    assert whole.reconcile().json["in_sync"]
    damage(whole, name)
    with nft.watched(container) as events:
        assert whole.reconcile().code == 0
        assert_serves(whole)
        assert whole.dragoman.flush(container).code == 0
    assert [foreign_listing(container, table) for table in names] == before
    assert nft.tables(container) == set(names)
    ours = [line for line in events if " inet dragoman " in line or line.endswith("inet dragoman")]
    others = [line for line in events if line not in ours and not line.startswith("#")]
    assert ours and not [line for line in others if any(table in line for table in names)], events


def foreign_listing(namespace, table):
    return namespace.run("nft", "-a", "-n", "-s", "list", "table", *table.split()).stdout


FOREIGN_TABLES = ("ip nat", "inet firewall", "ip dragoman", "ip6 dragoman", "inet dragoman2")


@pytest.fixture
def traces_before(scene, etcd, request):
    """The namespace as dragoman finds it, with route_localnet at request.param."""
    register(etcd)
    container = scene.container
    assert scene.dragoman.flush(container).code == 0
    container.sysctl("net.ipv4.conf.all.route_localnet", request.param)
    yield nft.traces(container)
    for table in nft.tables(container):
        nft.load(container, f"delete table {table}")
    container.sysctl("net.ipv4.conf.all.route_localnet", 0)


@pytest.mark.parametrize("traces_before", [0, 1], indirect=True)
@pytest.mark.parametrize("name", [None, "table-dormant", "every-chain-flushed", "foreign-chain-hooked",
                                  "map-of-another-type", "service-deleted", "foreign-counter",
                                  "route-in-another-table", "foreign-chain-uses-ours"])
def test_flush_leaves_no_trace(scene, traces_before, name):
    """Whatever was done to the table meanwhile, but for its comment."""
    container = scene.container
    assert scene.dragoman.reconcile(container, *DESCRIPTORS).code == 0
    assert nft.traces(container) != traces_before
    if name:
        damage(scene, name)
    done = scene.dragoman.flush(container)
    assert done.code == 0, done
    assert nft.traces(container) == traces_before
    assert "proto 213" not in container.ip("-6", "route", "show", "table", "all").stdout
    again = scene.dragoman.flush(container)
    assert again.code == 0 and again.json["in_sync"] and again.json["changes"] == [], again


@pytest.mark.parametrize("traces_before", [0], indirect=True)
@pytest.mark.parametrize("name", ["table-deleted", "table-emptied", "comment-of-another-schema"])
@pytest.mark.parametrize("repaired", [False, True])
def test_flush_without_the_comment_closes_localhost(scene, traces_before, name, repaired):
    container = scene.container
    assert scene.dragoman.reconcile(container, *DESCRIPTORS).code == 0
    damage(scene, name)
    if repaired:
        assert scene.dragoman.reconcile(container, *DESCRIPTORS).code == 0
    assert scene.dragoman.flush(container).code == 0
    assert nft.traces(container) == traces_before
