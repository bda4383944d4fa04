# SPDX-License-Identifier: MIT
"""The laboratory itself: what the other tests stand on."""

from lab import nft
from lab.traffic import Conversation, connect, send, serve


def test_laboratory_endpoints_answer_with_their_name(container, hosts):
    serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.1:8080/udp", "[fd77::1]:8080/tcp",
          "[fd77::1]:8080/udp")
    assert connect(container, "10.77.0.1:8080/tcp", 3) == {"10.77.0.1:8080": 3}
    assert connect(container, "10.77.0.1:8080/udp", 3) == {"10.77.0.1:8080": 3}
    assert connect(container, "[fd77::1]:8080/tcp", 3) == {"[fd77::1]:8080": 3}
    assert connect(container, "[fd77::1]:8080/udp", 3) == {"[fd77::1]:8080": 3}
    assert send(container, "10.77.0.1:8080/udp", 3) == {"10.77.0.1:8080": 3}
    with Conversation(container, "10.77.0.1:8080/tcp") as conversation:
        assert conversation.endpoint == "10.77.0.1:8080"
        assert conversation.say("hello") == "hello"


def test_laboratory_closed_port_counts_as_its_error(container, hosts):
    assert connect(container, "10.77.0.1:8080/tcp", 2) == {"ECONNREFUSED": 2}


def test_laboratory_monitor_sees_each_commit_once(container):
    with nft.watched(container) as events:
        nft.load(container, "add table inet somebody")
    assert nft.generations(events) == 1
    assert any("somebody" in line for line in events)
    with nft.watched(container) as events:
        nft.listing(container, "ruleset")
    assert events == []


def test_laboratory_etcd_keeps_both_trees(etcd):
    etcd.put("/services/a", {"x": 1})
    etcd.put_v2("/services/b", "text")
    etcd.put_many((f"/many/{number}", str(number)) for number in range(250))
    etcd.delete_below("/many/1")
    assert etcd.delete("/services/a") == 1
    assert etcd.delete("/many/2") == 1
    assert etcd.delete("/many/1") == 0
    etcd.clear()
    assert etcd.delete("/many/3") == 0


def test_laboratory_etcd_with_tls_and_authentication(etcd_tls, etcd_auth):
    etcd_tls.put("/services/a", "text")
    etcd_auth.put("/services/a", "text")
    assert etcd_tls.delete("/services/a") == 1
    assert etcd_auth.delete("/services/a") == 1
