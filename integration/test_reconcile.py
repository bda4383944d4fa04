# SPDX-License-Identifier: MIT
"""One namespace made true: the basic flow, with real traffic."""

import pytest

from lab import nft
from lab.traffic import Conversation, chi_square, connect, send, serve

LOCAL4, LOCAL4_UDP = "127.0.0.1:8080/tcp", "127.0.0.1:8080/udp"
LOCAL6, LOCAL6_UDP = "[::1]:8080/tcp", "[::1]:8080/udp"


def register(etcd, service, *endpoints, **more):
    """Service documents at /services/SERVICE/0, 1...: register(etcd, "web", "10.77.0.1:80")."""
    for number, endpoint in enumerate(endpoints):
        address, _, port = endpoint.rpartition(":")
        etcd.endpoint(f"/services/{service}/{number}", address.strip("[]"), port, **more)


def serve_all(hosts, protocol, *endpoints):
    serve(hosts, *(f"{endpoint}/{protocol}" for endpoint in endpoints))


def test_reconcile_tcp_over_ipv4_reaches_every_endpoint(etcd, dragoman, container, hosts):
    endpoints = ["10.77.0.1:7001", "10.77.0.2:7002"]
    serve_all(hosts, "tcp", *endpoints)
    register(etcd, "web", *endpoints)
    result = dragoman.reconcile(container, "WEB=web;8080")
    assert result.code == 0, result
    assert {("add", LOCAL4, endpoint) for endpoint in endpoints} <= result.changes
    assert not result.json["in_sync"]
    assert result.json["netns"] == container.inode
    assert set(connect(container, LOCAL4, 100)) == set(endpoints)


def test_reconcile_udp_over_ipv4_reaches_every_endpoint(etcd, dragoman, container, hosts):
    endpoints = ["10.77.0.1:7001", "10.77.0.2:7002"]
    serve_all(hosts, "udp", *endpoints)
    register(etcd, "dns", *endpoints)
    assert dragoman.reconcile(container, "DNS=dns;8080/udp").code == 0
    assert set(connect(container, LOCAL4_UDP, 100)) == set(endpoints)
    # One socket is one flow: it keeps its endpoint.
    assert len(send(container, LOCAL4_UDP, 100)) == 1


def test_reconcile_tcp_over_ipv6_reaches_every_endpoint(etcd, dragoman, container, hosts):
    endpoints = ["[fd77::1]:7001", "[fd77::2]:7002"]
    serve_all(hosts, "tcp", *endpoints)
    register(etcd, "web", *endpoints)
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    assert set(connect(container, LOCAL6, 100)) == set(endpoints)


def test_reconcile_udp_over_ipv6_reaches_every_endpoint(etcd, dragoman, container, hosts):
    endpoints = ["[fd77::1]:7001", "[fd77::2]:7002"]
    serve_all(hosts, "udp", *endpoints)
    register(etcd, "dns", *endpoints)
    assert dragoman.reconcile(container, "DNS=dns;8080/udp").code == 0
    assert set(connect(container, LOCAL6_UDP, 100)) == set(endpoints)


@pytest.mark.parametrize("where, endpoint", ((LOCAL4, "10.77.0.1:7001"),
                                             (LOCAL6, "[fd77::1]:7001")), ids=("IPv4", "IPv6"))
def test_reconcile_servers_with_a_larger_mtu_send_what_arrives(etcd, dragoman, container, hosts,
                                                               where, endpoint):
    """A client on the loopback would have them send segments of its MTU, or of theirs."""
    hosts.run("ip", "link", "set", "eth0", "mtu", "9000")
    serve_all(hosts, "tcp", endpoint)
    register(etcd, "web", endpoint)
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    with Conversation(container, where) as conversation:
        assert conversation.endpoint == endpoint
        said = "x" * 60000
        assert conversation.say(said) == said


def test_reconcile_service_without_endpoints_is_refused_at_once(etcd, dragoman, container, hosts):
    # Something listens there: without a rule it would answer.
    serve(container, LOCAL4, LOCAL4_UDP, LOCAL6, LOCAL6_UDP)
    result = dragoman.reconcile(container, "WEB=web;8080", "DNS=dns;8080/udp")
    assert result.code == 0, result
    assert ("add", LOCAL4, None) in result.changes
    for where in (LOCAL4, LOCAL6):
        assert connect(container, where, 3) == {"ECONNREFUSED": 3}
    for where in (LOCAL4_UDP, LOCAL6_UDP):
        assert set(connect(container, where, 3)) <= {"ECONNREFUSED", "EPERM"}
    # Other ports are nobody's business.
    serve(container, "127.0.0.1:8081/tcp")
    assert connect(container, "127.0.0.1:8081/tcp") == {"127.0.0.1:8081": 1}


def test_reconcile_service_of_one_family_is_refused_in_the_other(etcd, dragoman, container, hosts):
    serve_all(hosts, "tcp", "10.77.0.1:7001")
    register(etcd, "web", "10.77.0.1:7001")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    assert connect(container, LOCAL4) == {"10.77.0.1:7001": 1}
    assert connect(container, LOCAL6) == {"ECONNREFUSED": 1}


def test_reconcile_twice_sends_nothing_the_second_time(etcd, dragoman, container, hosts):
    serve_all(hosts, "tcp", "10.77.0.1:7001", "10.77.0.2:7002")
    register(etcd, "web", "10.77.0.1:7001", "10.77.0.2:7002", "[fd77::1]:7001")
    assert dragoman.reconcile(container, "WEB=web;8080", "NONE=none;9090/udp").code == 0
    connect(container, LOCAL4, 20)
    before = nft.listing(container)
    with nft.watched(container) as events:
        result = dragoman.reconcile(container, "WEB=web;8080", "NONE=none;9090/udp")
        plan = dragoman.plan(container, "WEB=web;8080", "NONE=none;9090/udp")
    assert result.code == 0 and result.json["in_sync"] and result.json["changes"] == []
    assert plan.code == 0 and plan.json["in_sync"]
    assert events == [], "a generation that differs in nothing"
    assert nft.listing(container) == before, "counters included"


def test_reconcile_change_is_one_generation_or_two_with_a_new_chain(etcd, dragoman, container):
    register(etcd, "web", "10.77.0.1:7001", "10.77.0.2:7002")
    with nft.watched(container) as events:
        dragoman.reconcile(container, "WEB=web;8080")
    assert nft.generations(events) == 1
    register(etcd, "web", "10.77.0.1:7001", "10.77.0.3:7003", "10.77.0.4:7004")
    with nft.watched(container) as events:
        dragoman.reconcile(container, "WEB=web;8080")
    # A chain that came together with what goes there would lose connections (test_straddle.py).
    assert nft.generations(events) == 2
    first = events[:next(number for number, line in enumerate(events) if "new gen" in line)]
    assert first and all("chain inet dragoman balance4-3" in line or "rule inet dragoman balance4-3"
                         in line for line in first)
    register(etcd, "web", "10.77.0.1:7001", "10.77.0.3:7003", "10.77.0.5:7005")
    with nft.watched(container) as events:
        dragoman.reconcile(container, "WEB=web;8080")
    assert nft.generations(events) == 1


def test_plan_says_what_reconcile_does_and_changes_nothing(etcd, dragoman, container):
    register(etcd, "web", "10.77.0.1:7001")
    before = nft.traces(container)
    plan = dragoman.plan(container, "WEB=web;8080")
    assert plan.code == 3, plan
    assert nft.traces(container) == before
    assert dragoman.reconcile(container, "WEB=web;8080").changes == plan.changes


def test_flush_leaves_nothing(etcd, dragoman, container, hosts):
    before = nft.traces(container)
    register(etcd, "web", "10.77.0.1:7001", "[fd77::1]:7001")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    during = nft.traces(container)
    assert during["tables"] == {"inet dragoman"}
    assert during["route_localnet"] == "1"
    assert len(during["routes"]) == len(before["routes"]) + 1
    assert dragoman.flush(container).code == 0
    assert nft.traces(container) == before
    again = dragoman.flush(container)
    assert again.code == 0 and again.json["in_sync"]


def test_flush_puts_back_the_route_localnet_that_was_found(etcd, dragoman, container):
    container.sysctl("net.ipv4.conf.all.route_localnet", 1)
    register(etcd, "web", "10.77.0.1:7001")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    assert dragoman.flush(container).code == 0
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "1"


def test_flush_leaves_foreign_tables_alone(etcd, dragoman, container):
    # As Docker's embedded DNS has it.
    nft.load(container, """
        table ip nat {
            chain DOCKER_OUTPUT { type nat hook output priority -100
                ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40053
            }
        }""")
    foreign = nft.listing(container, "table", "ip", "nat")
    register(etcd, "web", "10.77.0.1:7001")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    assert nft.listing(container, "table", "ip", "nat") == foreign
    assert dragoman.flush(container).code == 0
    assert nft.listing(container, "table", "ip", "nat") == foreign


def test_reconcile_random_is_even(etcd, dragoman, container, hosts):
    endpoints = ["10.77.0.1:7001", "10.77.0.2:7002", "10.77.0.3:7003"]
    serve_all(hosts, "tcp", *endpoints)
    register(etcd, "web", *endpoints)
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    counts = connect(container, LOCAL4, 3000)
    assert sum(counts[endpoint] for endpoint in endpoints) == 3000, counts
    # 2 degrees of freedom: beyond 19.4 once in 16,000 runs.
    assert chi_square(counts, dict.fromkeys(endpoints, 1000)) < 19.4, counts
    assert nft.connections(container, LOCAL4) == counts


def test_reconcile_weights_are_shares(etcd, dragoman, container, hosts):
    serve_all(hosts, "tcp", "10.77.0.1:7001", "10.77.0.2:7002", "10.77.0.3:7003")
    etcd.endpoint("/services/web/a", "10.77.0.1", 7001, weight=3)
    etcd.endpoint("/services/web/b", "10.77.0.2", 7002)
    etcd.endpoint("/services/web/c", "10.77.0.3", 7003, weight=0)
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    assert len(nft.slots(container, LOCAL4)) == 4
    counts = connect(container, LOCAL4, 2000)
    # 1 degree of freedom: beyond 15.1 once in 10,000 runs.
    assert chi_square(counts, {"10.77.0.1:7001": 1500, "10.77.0.2:7002": 500}) < 15.1, counts
    assert sum(counts.values()) == counts["10.77.0.1:7001"] + counts["10.77.0.2:7002"]


def test_reconcile_nth_is_exact(etcd, dragoman, container, hosts):
    endpoints = ["10.77.0.1:7001", "10.77.0.2:7002", "10.77.0.3:7003"]
    serve_all(hosts, "tcp", *endpoints)
    register(etcd, "web", *endpoints)
    assert dragoman.reconcile(container, "WEB=web;8080", balance="nth").code == 0
    assert connect(container, LOCAL4, 300) == dict.fromkeys(endpoints, 100)


def test_reconcile_endpoint_in_the_own_namespace_is_reached(etcd, dragoman, container, hosts):
    own = ["10.77.0.100:7001", "[fd77::100]:7001"]
    serve_all(container, "tcp", *own)
    register(etcd, "own", *own)
    assert dragoman.reconcile(container, "OWN=own;8080").code == 0
    assert connect(container, LOCAL4, 3) == {own[0]: 3}
    assert connect(container, LOCAL6, 3) == {own[1]: 3}


def test_reconcile_established_connection_survives_an_update(etcd, dragoman, container, hosts):
    serve_all(hosts, "tcp", "10.77.0.1:7001", "10.77.0.2:7002", "[fd77::1]:7001", "[fd77::2]:7002")
    register(etcd, "web", "10.77.0.1:7001", "[fd77::1]:7001")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    with Conversation(container, LOCAL4) as four, Conversation(container, LOCAL6) as six:
        assert (four.endpoint, six.endpoint) == ("10.77.0.1:7001", "[fd77::1]:7001")
        register(etcd, "web", "10.77.0.2:7002", "[fd77::2]:7002")
        assert dragoman.reconcile(container, "WEB=web;8080").code == 0
        assert connect(container, LOCAL4, 3) == {"10.77.0.2:7002": 3}
        assert connect(container, LOCAL6, 3) == {"[fd77::2]:7002": 3}
        assert four.say("still there") == "still there"
        assert six.say("still there") == "still there"
        etcd.delete_below("/services/web/")
        assert dragoman.reconcile(container, "WEB=web;8080").code == 0
        assert connect(container, LOCAL4) == {"ECONNREFUSED": 1}
        assert four.say("and on") == "and on"
        assert six.say("and on") == "and on"


def test_reconcile_removed_endpoint_gets_nothing_and_counters_go_on(etcd, dragoman, container, hosts):
    endpoints = ["10.77.0.1:7001", "10.77.0.2:7002", "10.77.0.3:7003"]
    serve_all(hosts, "tcp", *endpoints)
    register(etcd, "web", *endpoints)
    dragoman.reconcile(container, "WEB=web;8080")
    counts = connect(container, LOCAL4, 60)
    etcd.delete("/services/web/0")
    assert dragoman.reconcile(container, "WEB=web;8080").code == 0
    later = connect(container, LOCAL4, 60)
    assert set(later) == set(endpoints[1:])
    # Nobody connected meanwhile, so that nothing was lost where a slot moved.
    assert nft.connections(container, LOCAL4) == {
        endpoint: counts[endpoint] + later[endpoint] for endpoint in endpoints[1:]}


def test_reconcile_descriptor_that_is_gone_takes_its_rules_along(etcd, dragoman, container, hosts):
    serve(container, LOCAL4)
    serve_all(hosts, "tcp", "10.77.0.1:7001")
    register(etcd, "web", "10.77.0.1:7001")
    dragoman.reconcile(container, "WEB=web;8080", "OTHER=web;9090")
    assert connect(container, LOCAL4) == {"10.77.0.1:7001": 1}
    result = dragoman.reconcile(container, "OTHER=web;9090")
    assert ("remove", LOCAL4, "10.77.0.1:7001") in result.changes
    assert connect(container, LOCAL4) == {"127.0.0.1:8080": 1}
    assert connect(container, "127.0.0.1:9090/tcp") == {"10.77.0.1:7001": 1}


def test_reconcile_listing_loads_again(etcd, dragoman, container, hosts):
    serve_all(hosts, "tcp", "10.77.0.1:7001", "[fd77::1]:7001")
    register(etcd, "web", "10.77.0.1:7001", "[fd77::1]:7001")
    etcd.endpoint("/services/heavy/0", "10.77.0.1", 7001, weight=3)
    etcd.endpoint("/services/heavy/1", "10.77.0.2", 7002, weight=2)
    wanted = ("WEB=web;8080", "HEAVY=heavy;9090", "NONE=none;9091/udp")
    for balance in ("random", "nth"):
        assert dragoman.reconcile(container, *wanted, balance=balance).code == 0
        listing = nft.listing(container)
        nft.load(container, "delete table inet dragoman\n" + listing)
        assert nft.listing(container) == listing
        # Nor does dragoman see a difference in what nft made of it.
        assert dragoman.plan(container, *wanted, balance=balance).json["changes"] == []
        assert connect(container, LOCAL4) == {"10.77.0.1:7001": 1}
        assert connect(container, LOCAL6) == {"[fd77::1]:7001": 1}


def test_reconcile_namespace_without_ipv6_is_no_error(etcd, dragoman, namespaces):
    container, hosts = namespaces.new("container", ipv6=False), namespaces.new("hosts")
    namespaces.link(container, hosts)
    container.add_address("10.77.0.100/24")
    hosts.add_address("10.77.0.1/24")
    serve_all(hosts, "tcp", "10.77.0.1:7001")
    register(etcd, "web", "10.77.0.1:7001", "[fd77::1]:7001")
    result = dragoman.reconcile(container, "WEB=web;8080")
    assert result.code == 0, result
    assert connect(container, LOCAL4, 3) == {"10.77.0.1:7001": 3}
    assert dragoman.flush(container).code == 0


# Words

def test_plan_without_descriptors_says_where_none_were_found(dragoman, container, tmp_path):
    (empty := tmp_path / "empty.env").write_text("# none\n")
    process = container.start("sleep", "1000")
    for arguments, said in (
            (("--netns", container), "no BACKEND_ variables in the environment (sudo drops them"),
            (("--netns", container, "--env-file", empty),
             "no descriptors in the file given with --env-file"),
            (("--pid", process.pid), "no BACKEND_ variables in the environment of")):
        result = dragoman("plan", *arguments)
        assert result.code == 0 and said in result.stderr, result


def test_help_of_a_command_is_the_same_however_it_is_asked_for(dragoman):
    for command in ("run", "reconcile", "plan", "resolve", "status", "flush"):
        asked = dragoman("help", command)
        assert asked.code == 0 and asked.stdout.startswith(f"Usage: dragoman {command} ")
        assert dragoman(command, "--help").stdout == asked.stdout
    assert dragoman("help", "nonsense").code == 2
