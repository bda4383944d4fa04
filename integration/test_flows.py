# SPDX-License-Identifier: MIT
"""Flows that are under way when the rules change: nothing goes on to where nothing is."""

import contextlib
import signal

import pytest

from lab import nft
from lab.agent import Agent
from lab.traffic import Conversation, IdleReader, connect, send, serve
from lab.waiting import wait_until

DNS, WEB = "127.0.0.1:53/udp", "127.0.0.1:80/tcp"
DNS6 = "[::1]:53/udp"
ONE, TWO, THREE = "10.77.0.1:5353", "10.77.0.2:5353", "10.77.0.3:5353"
SIX = "[fd77::2]:5353"


@pytest.fixture
def run(etcd):
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, registry=etcd.url, **options))
        yield start


@pytest.fixture
def endpoints(hosts):
    """They answer, over TCP and UDP, for as long as the test lasts."""
    for each in (ONE, TWO, THREE, SIX):
        serve(hosts, f"{each}/udp", f"{each}/tcp")


def put(etcd, key, endpoint, **more):
    address, _, port = endpoint.rpartition(":")
    etcd.put(key, {"ipaddress": address.strip("[]"), "host_port": port, **more})


def wait_for_answer(flow, wanted):
    """From some datagram on, all that is said in this flow reaches `wanted`."""
    wait_until(lambda: flow.say("who") == wanted, what=f"the flow to reach {wanted}")
    assert {flow.say("who") for _ in range(20)} == {wanted}


def entries(namespace, *filters):
    """What conntrack holds there, counted by a tool that is not ours."""
    return len(namespace.run("conntrack", "-L", "-p", "udp", *filters).stdout.splitlines())


# The agent

def test_flow_of_udp_follows_an_endpoint_that_is_replaced(etcd, run, container, endpoints):
    put(etcd, "/services/dns/a", ONE)
    agent = run("--netns", container, "-b", "DNS=dns;53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == ONE
        for turn in range(10):
            old, new = ((ONE, TWO), (TWO, ONE))[turn % 2]
            assert flow.say("who") == old
            put(etcd, "/services/dns/a", new)
            wait_for_answer(flow, new)
    assert agent.metric("stale_flows_removed_total") >= 10


def test_flow_of_udp_over_ipv6_follows(etcd, run, container, endpoints, hosts):
    put(etcd, "/services/dns/a", "[fd77::1]:5353")
    serve(hosts, "[fd77::1]:5353/udp")
    run("--netns", container, "-b", "DNS=dns;53/udp")
    with Conversation(container, DNS6) as flow:
        assert flow.endpoint == "[fd77::1]:5353"
        put(etcd, "/services/dns/a", SIX)
        wait_for_answer(flow, SIX)


def test_flow_of_udp_ends_with_the_last_endpoint_and_comes_back(etcd, run, container, endpoints):
    """Whatever hole it is in: it ends where the service has an endpoint again."""
    put(etcd, "/services/dns/a", ONE)
    run("--netns", container, "-b", "DNS=dns;53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == ONE
        etcd.delete("/services/dns/a")
        wait_until(lambda: flow.say("who") in ("EPERM", "ECONNREFUSED"), what="the end of the flow")
        put(etcd, "/services/dns/a", TWO)
        wait_for_answer(flow, TWO)


def test_flow_of_udp_begun_before_the_first_rule_is_led(etcd, run, container, endpoints):
    """It reached what listens on localhost itself, or nobody."""
    put(etcd, "/services/dns/a", ONE)
    serve(container, "127.0.0.1:53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == "127.0.0.1:53"
        run("--netns", container, "-b", "DNS=dns;53/udp")
        wait_for_answer(flow, ONE)


def test_flow_of_udp_ends_with_its_service(etcd, run, container, endpoints, tmp_path):
    put(etcd, "/services/dns/a", ONE)
    lines = tmp_path / "env"
    lines.write_text("BACKEND_DNS=dns;53/udp\n")
    agent = run("--netns", container, "--env-file", lines)
    serve(container, "127.0.0.1:53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == ONE
        lines.write_text("BACKEND_DNS=dns;54/udp\n")
        agent.send(signal.SIGHUP)
        wait_for_answer(flow, "127.0.0.1:53")


def test_flow_of_udp_is_put_right_by_the_next_agent(etcd, run, container, endpoints):
    """What changed while none was there."""
    put(etcd, "/services/dns/a", ONE)
    agent = run("--netns", container, "-b", "DNS=dns;53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == ONE
        agent.kill()
        # Somebody took the rules away and put others there, and nobody looked after flows.
        put(etcd, "/services/dns/a", TWO)
        nft.load(container, "delete table inet dragoman")
        agent.start()
        wait_for_answer(flow, TWO)


def test_flow_of_udp_goes_on_where_no_new_ones_shall(etcd, run, container, endpoints):
    """Weight 0 drains."""
    put(etcd, "/services/dns/a", ONE)
    agent = run("--netns", container, "-b", "DNS=dns;53/udp")
    with Conversation(container, DNS) as flow:
        put(etcd, "/services/dns/b", TWO)
        put(etcd, "/services/dns/a", ONE, weight=0)
        wait_until(lambda: {slot.endpoint for slot in nft.slots(container, DNS)} == {TWO},
                   what="no new ones")
        # The next sweep shows that this one is over.
        with Conversation(container, DNS) as other:
            assert other.endpoint == TWO
            put(etcd, "/services/dns/b", THREE)
            wait_for_answer(other, THREE)
        assert {flow.say("who") for _ in range(20)} == {ONE}
        agent.send(signal.SIGHUP)
        assert {flow.say("who") for _ in range(20)} == {ONE}


def test_flows_of_others_are_left_alone(etcd, run, container, endpoints):
    """To the same endpoint by its own address, to other ports, of another service."""
    put(etcd, "/services/dns/a", ONE)
    put(etcd, "/services/other/a", ONE)
    run("--netns", container, "-b", "DNS=dns;53/udp", "-b", "OTHER=other;54/udp")
    with Conversation(container, DNS) as flow, \
            Conversation(container, "127.0.0.1:54/udp") as other, \
            Conversation(container, f"{ONE}/udp") as direct, \
            Conversation(container, f"{THREE}/udp") as away:
        assert [each.endpoint for each in (flow, other, direct, away)] == [ONE, ONE, ONE, THREE]
        for each in (other, direct, away):
            each.say("who")
        listed = ("-p", "udp", "-o", "id")
        before = {line for line in container.run("conntrack", "-L", *listed).stdout.splitlines()
                  if "dport=53 " not in line}
        put(etcd, "/services/dns/a", TWO)
        wait_for_answer(flow, TWO)
        after = container.run("conntrack", "-L", *listed).stdout
        ids = {word for line in before for word in line.split() if word.startswith("id=")}
        assert len(ids) == 3 and all(each in after for each in ids)


def test_many_flows_of_udp_all_follow(etcd, run, container, endpoints):
    put(etcd, "/services/dns/a", ONE)
    run("--netns", container, "-b", "DNS=dns;53/udp")
    assert connect(container, DNS, 2000) == {ONE: 2000}
    led = ("--orig-port-dst", "53", "--reply-src", "10.77.0.1")
    # Some had the source port of another that was over.
    assert entries(container, *led) > 1000
    put(etcd, "/services/dns/a", TWO)
    wait_until(lambda: entries(container, *led) == 0, what="all of them to go")
    assert send(container, DNS, 10) == {TWO: 10}


# TCP

def test_connection_lives_on_when_its_endpoint_is_removed(etcd, run, container, endpoints):
    put(etcd, "/services/web/a", ONE)
    put(etcd, "/services/dns/a", ONE)
    run("--netns", container, "-b", "WEB=web;80", "-b", "DNS=dns;53/udp")
    idle = IdleReader(container, WEB)
    with Conversation(container, WEB) as connection, Conversation(container, DNS) as flow:
        assert connection.endpoint == idle.endpoint == flow.endpoint == ONE
        put(etcd, "/services/web/a", TWO)
        put(etcd, "/services/dns/a", TWO)
        wait_for_answer(flow, TWO)
        assert connection.say("still here") == "still here"
        assert idle.is_open()


def test_connection_is_reset_where_that_is_asked_for(etcd, run, container, endpoints):
    """A reader that waits for nothing in particular knows at once, and others do not notice."""
    put(etcd, "/services/web/a", ONE)
    put(etcd, "/services/web/b", TWO)
    agent = run("--netns", container, "-b", "WEB=web;80", "--on-remove", "reset")
    readers = [IdleReader(container, WEB) for _ in range(20)]
    direct = IdleReader(container, f"{ONE}/tcp")
    serve(container, "127.0.0.1:81/tcp")
    local = IdleReader(container, "127.0.0.1:81/tcp")
    assert {each.endpoint for each in readers} == {ONE, TWO}
    etcd.delete("/services/web/a")
    for reader in readers:
        if reader.endpoint == ONE:
            assert reader.end_of_it() in ("ECONNABORTED", "ECONNRESET")
    assert all(each.is_open() for each in readers if each.endpoint == TWO)
    assert direct.is_open() and local.is_open()
    closed = sum(each.endpoint == ONE for each in readers)
    wait_until(lambda: agent.metric("sockets_closed_total") == closed, what=f"{closed} counted")


def test_connection_to_localhost_itself_is_not_reset(etcd, run, container, endpoints):
    """It was there before the service was."""
    serve(container, "127.0.0.1:80/tcp")
    local = IdleReader(container, WEB)
    assert local.endpoint == "127.0.0.1:80"
    put(etcd, "/services/web/a", ONE)
    agent = run("--netns", container, "-b", "WEB=web;80", "--on-remove", "reset")
    reader = IdleReader(container, WEB)
    assert reader.endpoint == ONE
    put(etcd, "/services/web/a", TWO)
    assert reader.end_of_it() in ("ECONNABORTED", "ECONNRESET")
    assert local.is_open()
    wait_until(lambda: agent.metric("sockets_closed_total") == 1, what="one counted")


# One command

def test_reconcile_ends_flows_that_its_changes_leave_behind(etcd, container, dragoman, endpoints):
    put(etcd, "/services/dns/a", ONE)
    words = ("--netns", container, "-b", "DNS=dns;53/udp")
    serve(container, "127.0.0.1:53/udp")
    with Conversation(container, DNS) as flow:
        assert flow.endpoint == "127.0.0.1:53"
        assert dragoman("reconcile", *words).code == 0
        assert flow.say("who") == ONE
        put(etcd, "/services/dns/a", TWO)
        dragoman("plan", *words)
        assert flow.say("who") == ONE
        assert dragoman("reconcile", *words).code == 0
        assert flow.say("who") == TWO
        assert dragoman("flush", "--netns", container).code == 0
        assert flow.say("who") == "127.0.0.1:53"


def test_reconcile_resets_connections_where_that_is_asked_for(etcd, container, dragoman, endpoints):
    put(etcd, "/services/web/a", ONE)
    words = ("--netns", container, "-b", "WEB=web;80", "--on-remove", "reset")
    assert dragoman("reconcile", *words).code == 0
    reader = IdleReader(container, WEB)
    assert dragoman("reconcile", *words).code == 0
    assert reader.is_open()
    put(etcd, "/services/web/a", TWO)
    assert dragoman("reconcile", *words).code == 0
    assert reader.end_of_it() in ("ECONNABORTED", "ECONNRESET")
    second = IdleReader(container, WEB)
    assert second.endpoint == TWO
    assert dragoman("flush", "--netns", container, "--on-remove", "reset").code == 0
    assert second.end_of_it() in ("ECONNABORTED", "ECONNRESET")
