# SPDX-License-Identifier: MIT
"""A thousand services of ten endpoints, and one of as many as there may be."""

import re
import urllib.request

import pytest

from lab import nft
from lab.events import Events, elements
from lab.traffic import connect

SERVICES, ENDPOINTS, FIRST_PORT = 1000, 10, 10000


def listen_of(service):
    return f"127.0.0.1:{FIRST_PORT + service}/tcp"


def document(service, endpoint):
    """Nobody listens there; the kernel counts connections that are refused, too."""
    return {"ipaddress": f"10.77.0.{endpoint % 9 + 1}",
            "host_port": str(20000 + service * 20 + endpoint)}


def requests(etcd):
    """How many calls etcd has begun so far, by name."""
    with urllib.request.urlopen(f"http://{etcd.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    started = re.findall(r'grpc_server_started_total{grpc_method="(\w+)".*} (\d+)', text)
    assert started
    return sum(int(number) for _, number in started)


@pytest.fixture
def thousand(etcd, dragoman, container, tmp_path):
    """Registers them; returns what reconciles them all."""
    etcd.put_many((f"/services/s{service}/{endpoint}", document(service, endpoint))
                  for service in range(SERVICES) for endpoint in range(ENDPOINTS))
    env = tmp_path / "env"
    env.write_text("".join(f"BACKEND_S{service}=s{service};{FIRST_PORT + service}\n"
                           for service in range(SERVICES)))

    def reconcile():
        result = dragoman("reconcile", "--json", "--netns", container, "--env-file", env)
        assert result.code == 0, result
        return result

    return reconcile


def counters(namespace):
    return {(slot.listen, slot.number): (slot.endpoint, slot.connections)
            for slot in nft.slots(namespace)}


def test_scale_thousand_services_in_a_handful_of_requests(etcd, container, thousand):
    before = requests(etcd)
    result = thousand()
    made = requests(etcd) - before
    print(f"{made} requests")
    assert 0 < made <= 20
    assert len([entry for entry in result.json["changes"] if entry.get("endpoint")]) \
        == SERVICES * ENDPOINTS
    standing = counters(container)
    assert standing.keys() == {(listen_of(service), slot) for service in range(SERVICES)
                               for slot in range(ENDPOINTS)}
    for service in (0, 517, SERVICES - 1):
        documents = [document(service, endpoint) for endpoint in range(ENDPOINTS)]
        assert {standing[listen_of(service), slot][0] for slot in range(ENDPOINTS)} \
            == {f"{each['ipaddress']}:{each['host_port']}" for each in documents}


@pytest.mark.parametrize("others", (0, 1, 60))
def test_scale_services_among_others_get_their_own(etcd, dragoman, container, others):
    """Read together while that is worth it. One lies below another, and is of both."""
    wanted, services = {}, [f"s{number:03}" for number in range(150)] + ["s007/deep"]
    for number, service in enumerate(services):
        wanted[service] = {f"10.77.{number}.{endpoint}:80" for endpoint in (1, 2)}
    wanted["s007"] |= wanted["s007/deep"]
    pairs = [(f"/services/{service}/x{address}", address)
             for service in services for address in wanted[service]]
    pairs += [(f"/services/{service}{behind}/{number}", "10.78.0.1:80") for service in services[:-1]
              for behind in ("-", "0", ".x") for number in range(others)]
    etcd.put_many(pairs)
    before = requests(etcd)
    flags = [word for number, service in enumerate(services)
             for word in ("-b", f"S{number}=/services/{service};{number + 1}")]
    done = dragoman("plan", "--json", "--netns", container, *flags)
    assert done.code == 3, done
    found = {service: set() for service in services}
    for change in done.json["changes"]:
        if change.get("endpoint"):
            port = int(change["listen"].split(":")[1].split("/")[0])
            found[services[port - 1]].add(change["endpoint"])
    assert found == wanted
    made = requests(etcd) - before
    print(f"{made} requests, {len(pairs)} keys")
    assert made <= (3 if others < 2 else 8)


def test_scale_one_change_among_ten_thousand_is_a_few_elements(etcd, container, thousand):
    """Replaced: two. Removed: five at most, and so added. Nothing: no transaction."""
    listen = listen_of(500)
    thousand()
    assert connect(container, listen, 100) == {"ECONNREFUSED": 100}
    assert connect(container, listen_of(7), 50) == {"ECONNREFUSED": 50}
    before = counters(container)
    assert sum(connections for _, connections in before.values()) == 150
    events = Events(container)

    assert thousand().json["in_sync"]
    assert events.heard() == {}
    assert counters(container) == before

    etcd.put("/services/s500/4", {"ipaddress": "10.77.0.9", "host_port": "9"})
    assert thousand().changes == {("replace", listen, "10.77.0.9:9")}
    assert events.heard() == {"delsetelem endpoints4": 1, "newsetelem endpoints4": 1, "newgen": 1}
    after = counters(container)
    changed = {key for key in before if before[key] != after[key]}
    assert after.keys() == before.keys() and len(changed) == 1
    assert after[changed.pop()] == ("10.77.0.9:9", 0)

    before = after
    etcd.delete("/services/s500/4")
    assert thousand().changes >= {("remove", listen, "10.77.0.9:9")}
    heard = events.heard()
    # The chain for one slot less is new, and comes before what goes there.
    assert elements(heard) <= 5 and heard["newgen"] == 2 and heard["newchain"] == 1, heard
    after = counters(container)
    assert {key: slot for key, slot in after.items() if key[0] != listen} \
        == {key: slot for key, slot in before.items() if key[0] != listen}
    # The one that moved into the hole took its counter along.
    assert sorted(slot for key, slot in after.items() if key[0] == listen) \
        == sorted(slot for key, slot in before.items()
                  if key[0] == listen and slot[0] != "10.77.0.9:9")

    before = after
    etcd.put("/services/s500/4", {"ipaddress": "10.77.0.9", "host_port": "9"})
    assert thousand().changes >= {("add", listen, "10.77.0.9:9")}
    heard = events.heard()
    assert elements(heard) <= 5 and heard["newgen"] == 1, heard
    after = counters(container)
    assert before.items() <= after.items() and len(after) == len(before) + 1


def test_scale_service_of_4096_endpoints_and_one_too_many(etcd, dragoman, container):
    etcd.put_many((f"/services/big/{number:05}", f"10.{number // 256}.{number % 256}.1:80")
                  for number in range(4096))
    result = dragoman.reconcile(container, "BIG=big;80")
    assert result.code == 0, result
    assert [slot.number for slot in nft.slots(container)] == list(range(4096))
    assert len({slot.endpoint for slot in nft.slots(container)}) == 4096
    assert "goto balance4-4096" in nft.listing(container, "map", "inet", "dragoman", "services4")

    etcd.put("/services/big/99999", "10.99.99.99:80")
    resolved = dragoman("resolve", "--json", "big;80")
    assert resolved.code == 0 and len(resolved.json["endpoints"]) == 4096
    skipped, = resolved.json["skipped"]
    assert skipped["key"] == "/services/big/99999" and "4096" in skipped["reason"].replace(",", "")
    again = dragoman.reconcile(container, "BIG=big;80")
    assert again.code == 0 and again.json["in_sync"], again
