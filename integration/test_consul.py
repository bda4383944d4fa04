# SPDX-License-Identifier: MIT
"""Consul as a registry: what is its own. What all registries have is in test_registry.py,
test_watch.py and test_agent.py."""

import contextlib
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import Dragoman
from lab.consul import NODE, Consul
from lab.consul_cluster import ConsulCluster
from lab.follower import Follower
from lab.relay import Relay
from lab.waiting import wait_until

WEB, PROD = "127.0.0.1:80/tcp", "127.0.0.1:81/tcp"
DESCRIPTORS = ("-b", "WEB=web;80", "-b", "PROD=web[prod];81")


@pytest.fixture
def run():
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, **options))
        yield start


def held(namespace, listen=WEB):
    if "inet dragoman" not in nft.tables(namespace):
        return None
    return [slot.endpoint.partition(":")[0].rpartition(".")[2]
            for slot in nft.slots(namespace, listen)]


def wait_for(namespace, *last, listen=WEB, deadline=20):
    """Until the endpoints are those of 10.77.0.0/24, one for each slot."""
    wait_until(lambda: sorted(held(namespace, listen) or []) == [str(each) for each in last],
               deadline, what=f"{last} in {listen}, where there is {held(namespace, listen)}")


def state_of(agent):
    return agent.status()["registry"]["state"]


def address(number):
    return f"10.77.0.{number}", 7000


# What an instance is

def test_consul_instances_are_endpoints(consul):
    consul.register("web", "web-1", "10.77.0.1", 80, Tags=["prod"],
                    Weights={"Passing": 3, "Warning": 1})
    consul.register("web", "web-2", "", 81)
    consul.put("web", "far", "fd77::1", 82, node="far")
    done = Dragoman(consul.url)("resolve", "--json", "--root", "/nowhere", "web;80")
    assert done.code == 0 and done.json["service"] == "web", done
    assert done.json["endpoints"] == [
        {"key": "web/far/far", "address": "fd77::1", "port": 82, "weight": 1, "tags": []},
        {"key": f"web/{NODE}/web-1", "address": "10.77.0.1", "port": 80, "weight": 3,
         "tags": ["prod"]}]
    # Of the node's own address, that of the server, which nobody else can reach.
    assert done.json["skipped"] == [{"key": f"web/{NODE}/web-2", "reason":
                                     "loopback address (see --allow-endpoints)"}]


def test_consul_instances_that_cannot_be_used_are_skipped_with_their_reason(consul):
    for name, instance in {"port": ("10.77.0.1", 0), "name": ("db.example.org", 80),
                           "good": ("10.77.0.9", 80)}.items():
        consul.put("bad", name, *instance)
    consul.register("bad", "warning", "10.77.0.2", 80, status="warning")
    consul.register("bad", "critical", "10.77.0.2", 80, status="critical")
    consul.register("bad", "upkeep", "10.77.0.3", 80, status="passing")
    consul.maintain("upkeep", "disk \x1b swap")
    done = Dragoman(consul.url)("resolve", "--json", "bad;80")
    assert [each["address"] for each in done.json["endpoints"]] == ["10.77.0.9"], done
    assert {each["key"]: each["reason"] for each in done.json["skipped"]} == {
        "bad/elsewhere/port": "port 0 is not 1..65535",
        "bad/elsewhere/name": 'host "db.example.org" is not an IP literal',
        f"bad/{NODE}/warning": "check \"Service 'bad' check\" is warning",
        f"bad/{NODE}/critical": "check \"Service 'bad' check\" is critical",
        f"bad/{NODE}/upkeep": "in maintenance mode: disk \\x1b swap"}


def test_consul_service_that_is_not_there_is_told_from_one_that_fails(consul, container):
    consul.register("web", "web-1", "10.77.0.1", 80, status="critical")
    dragoman = Dragoman(consul.url)
    assert dragoman("resolve", "wbe;80").stdout == (
        "wbe for 80/tcp: 0 endpoints, 0 skipped\n"
        "no endpoint: the registry holds nothing there\n")
    assert dragoman("resolve", "web;80").stdout == (
        f"skipped web/{NODE}/web-1: check \"Service 'web' check\" is critical\n"
        "web for 80/tcp: 0 endpoints, 1 skipped\n"
        f"no endpoint: the one document was skipped, web/{NODE}/web-1: check \"Service 'web' "
        "check\" is critical\n")
    done = dragoman.reconcile(container, "WEB=web;80", "WBE=wbe;81")
    assert done.code == 0 and len(done.errors) == 2, done
    assert "BACKEND_WBE: wbe: no endpoint, the registry holds nothing there" in done.errors
    assert "the one document was skipped" in done.stderr and "is critical" in done.stderr


def test_consul_key_paths_are_invalid_and_say_so(consul, container):
    consul.put("web", "a", "10.77.0.1", 80)
    dragoman = Dragoman(consul.url)
    said = "a key path, where the registry knows services by name alone (Consul)"
    done = dragoman("resolve", "--json", "/services/web;80")
    assert done.code == 1 and said in done.errors[0], done
    done = dragoman.reconcile(container, "WEB=web;80", "PATH=/services/web;81")
    assert done.code == 1, done
    assert done.errors == [f"BACKEND_PATH: column 1: {said}"]
    assert [slot.listen for slot in nft.slots(container)] == [WEB]


def test_consul_weights_are_slots_however_large_they_are(consul, container):
    consul.put("web", "a", "10.77.0.1", 80, weight=3000)
    consul.put("web", "b", "10.77.0.2", 80, weight=1000)
    assert Dragoman(consul.url).reconcile(container, "WEB=web;80").code == 0
    assert held(container).count("1") == 3 * held(container).count("2")


# What is followed

def test_consul_instances_are_followed_through_all_that_happens_to_them(consul, run, container):
    """Registration, checks, tags, weights, maintenance mode of either kind, deregistration."""
    agent = run("--netns", container, *DESCRIPTORS, registry=consul.url)
    assert agent.namespace(container.inode)["backends"][0]["reason"] == (
        "the registry holds nothing there")
    consul.register("web", "a", *address(1), status="passing", Tags=["prod"])
    wait_for(container, 1)
    consul.register("web", "b", *address(2), status="critical", Tags=["prod"])
    consul.register("web", "c", *address(3))
    wait_for(container, 1, 3)
    wait_for(container, 1, listen=PROD)
    consul.set_check("b", "pass")
    wait_for(container, 1, 2, 3)
    consul.set_check("a", "fail")
    wait_for(container, 2, listen=PROD)
    consul.set_check("b", "warn")
    wait_for(container, listen=PROD)
    assert "BACKEND_PROD: web: no endpoint is left, all 3 documents were skipped, the first one " \
        f"web/{NODE}/a: check \"Service 'web' check\" is critical" in agent.log
    wait_for(container, 3)
    consul.set_check("a", "pass")
    consul.register("web", "c", *address(3), Tags=["prod"])
    wait_for(container, 1, 3, listen=PROD)
    consul.register("web", "c", *address(3), Tags=[])
    wait_for(container, 1, listen=PROD)
    consul.register("web", "c", *address(3), Weights={"Passing": 2, "Warning": 1})
    wait_for(container, 1, 3, 3)
    consul.maintain("c", "upkeep")
    wait_for(container, 1)
    consul.maintain("c")
    wait_for(container, 1, 3, 3)
    consul.call("/v1/agent/maintenance?enable=true", method="PUT")
    wait_for(container)
    assert agent.namespace(container.inode)["backends"][0]["reason"] == (
        f"all 3 documents were skipped, the first one web/{NODE}/a: in maintenance mode: "
        "Maintenance mode is enabled for this node, but no reason was provided. This is a "
        "default message.")
    consul.call("/v1/agent/maintenance?enable=false", method="PUT")
    wait_for(container, 1, 3, 3)
    for name in "abc":
        consul.deregister(name)
    wait_for(container)
    assert agent.metric("documents") == 0 and agent.metric("documents_rejected_total") == 0
    assert agent.metric("registry_reads_total") == 1
    assert "cannot be used" not in agent.log


def test_consul_is_asked_once_for_a_service_of_many_containers(consul, run, namespaces):
    some = [namespaces.new(f"n{number}") for number in range(5)]
    consul.put("web", "a", *address(1))
    with Relay(consul.address) as relay:
        agent = run("-b", "WEB=web;80", "-b", "PROD=web[prod];81",
                    *(word for each in some for word in ("--netns", each)),
                    registry=f"consul://{relay.address}")
        wait_until(lambda: b"&index=" in relay.asked, what="a blocking query")
        consul.put("web", "b", *address(2))
        for each in some:
            wait_for(each, 1, 2)
        wait_until(lambda: relay.asked.count(b"&index=") == 2, what="the next one")
        assert relay.asked.count(b"GET /v1/health/service/web?consistent") == 3
        assert relay.connections <= 2 and agent.metric("services") == 1


# The way there

def test_consul_agent_restarted_is_followed_on(consul_program, run, container):
    with Consul(consul_program) as consul:
        consul.put("web", "a", *address(1))
        consul.register("web", "b", *address(2), status="critical")
        # It remembers what it was told of a check, and not how that began.
        consul.set_check("b", "pass")
        agent = run("--netns", container, *DESCRIPTORS, registry=consul.url)
        wait_for(container, 1, 2)
        consul.stop()
        wait_until(lambda: state_of(agent) == "lost", what="the loss")
        wait_for(container, 1, 2)
        consul.start_again()
        wait_until(lambda: state_of(agent) == "live", 30, what="Consul to be back")
        consul.put("web", "c", *address(3))
        wait_for(container, 1, 2, 3)
        assert agent.metric("watch_restorations_total") == 0
        assert agent.metric("watch_reconnects_total") == 1
        # All is lost there; nothing is taken away for that.
        consul.stop()
        consul.start_again(empty=True)
        wait_until(lambda: agent.metric("watch_restorations_total") == 1, 30,
                   what="the restoration")
        wait_until(lambda: "the registry came back without it" in agent.log, what="a word of it")
        wait_for(container, 1, 2, 3)
        consul.put("web", "d", *address(4))
        wait_for(container, 4)


def test_consul_cluster_is_followed_over_the_end_of_servers(consul_program, container):
    """The leader killed, then the majority, then all back again."""
    with ConsulCluster(consul_program) as cluster:
        leader = cluster.leader()
        cluster.put("web", "a", *address(1))
        with cluster.run("--netns", container, *DESCRIPTORS, first=leader) as agent:
            wait_for(container, 1)
            leader.stop()
            cluster.put("web", "b", *address(2))
            wait_for(container, 1, 2, deadline=40)
            left = cluster.leader()
            left.stop()
            wait_until(lambda: state_of(agent) == "lost", 90, what="the loss of the majority")
            assert sorted(held(container)) == ["1", "2"]
            cluster.heal()
            cluster.put("web", "c", *address(3))
            wait_for(container, 1, 2, 3, deadline=60)
            assert agent.metric("watch_restorations_total") == 0


@pytest.fixture
def follow():
    with contextlib.ExitStack() as stack:
        def start(url, service):
            follower = stack.enter_context(contextlib.closing(Follower(url)))
            follower.be_patient(0.2)
            follower.add(service)
            follower.until(lambda own: service in own.documents and own.state == "live")
            return follower
        yield start


def test_consul_queries_whose_time_is_over_tell_nothing(consul, follow):
    consul.put("app", "a", "10.0.0.1", 80)
    with Relay(consul.address) as relay:
        follower = follow(f"consul://{relay.address}", "app")
        wait_until(lambda: relay.asked.count(b"&index=") >= 5, what="five queries")
        assert len(follower.updates) == 1
        consul.put("app", "a", "10.0.0.2", 80)
        follower.until(lambda own: "10.0.0.2" in str(own.documents["app"]))
        counts = follower.counts()
        assert len(follower.updates) == 2 and relay.connections <= 2
        assert counts["errors"] == 0 and counts["reads"] == 1 and counts["events"] == 1


def test_consul_that_hangs_is_left_for_the_next_host(consul, follow):
    consul.put("app", "a", "10.0.0.1", 80)
    with Relay(consul.address) as first, Relay(consul.address) as second:
        follower = follow(f"consul://{first.address},{second.address}", "app")
        wait_until(lambda: b"&index=" in first.asked, what="a query")
        first.hang()
        consul.put("app", "a", "10.0.0.2", 80)
        follower.until(lambda own: own.state == "lost")
        follower.until(lambda own: "10.0.0.2" in str(own.documents["app"]))
        assert second.connections > 0 and follower.counts()["reads"] == 1


def token_flags(tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token + "\n")
    return "--registry-password-file", file


def test_consul_token_says_what_may_be_read(consul_program, run, container, tmp_path):
    with Consul(consul_program, acl=True) as consul:
        consul.put("web", "a", *address(1))
        token, accessor = consul.grant(
            'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }')
        flags = token_flags(tmp_path, token)
        dragoman = Dragoman(consul.url)
        done = dragoman("resolve", "--json", *flags, "web;80")
        assert [each["address"] for each in done.json["endpoints"]] == ["10.77.0.1"], done
        agent = run("--netns", container, *DESCRIPTORS, *flags, registry=consul.url)
        wait_for(container, 1)
        consul.put("web", "b", *address(2))
        wait_for(container, 1, 2)
        # What it may not read any more stays as it is.
        consul.revoke(accessor)
        consul.put("web", "c", *address(3))
        wait_until(lambda: "ACL not found" in agent.log, what="a word about the token")
        assert sorted(held(container)) == ["1", "2"]
        assert agent.namespace(container.inode)["backends"][0]["state"] == "held"
        done = dragoman("resolve", "--json", *flags, "web;80")
        assert done.code == 1 and "ACL not found" in done.errors[0], done
        told = agent.log + done.stdout + done.stderr + str(agent.status())
        assert token not in told


def test_consul_token_is_no_user_and_no_other_header(consul, tmp_path):
    dragoman = Dragoman(consul.url)
    flags = token_flags(tmp_path, "token")
    done = dragoman("resolve", *flags, "--registry-user", "me", "web;80")
    assert done.code == 1 and "Consul has no users" in done.stderr, done
    done = dragoman("resolve", *token_flags(tmp_path, "a: b"), "web;80")
    assert done.code == 1 and "no token" in done.stderr and "a: b" not in done.stderr, done


def test_consul_tls_with_client_certificate(consul_program, run, container):
    with Consul(consul_program, tls=True) as consul:
        consul.put("web", "a", *address(1))
        files = consul.certificates
        flags = ("--tls-ca", files.ca, "--tls-cert", files.client, "--tls-key", files.client_key)
        dragoman = Dragoman(consul.url)
        done = dragoman("resolve", "--json", "--tls-ca", files.ca, "web;80")
        assert done.code == 1 and "certificate" in done.errors[0], done
        done = dragoman("resolve", "--json", *flags[2:], "web;80")
        assert done.code == 1 and "certificate" in done.errors[0], done
        run("--netns", container, *DESCRIPTORS, *flags, registry=consul.url)
        wait_for(container, 1)
        consul.put("web", "b", *address(2))
        wait_for(container, 1, 2)


def test_consul_datacenter_namespace_and_stale_are_asked_for(consul):
    consul.put("web", "a", *address(1))
    with Relay(consul.address) as relay:
        dragoman = Dragoman(f"consul://{relay.address}")
        assert dragoman("resolve", "--consul-stale", "--consul-datacenter", "dc1",
                        "web;80").code == 0
        assert b"GET /v1/health/service/web?stale&dc=dc1 " in relay.asked
        assert b"X-Consul-Effective-Consistency: stale" in relay.answered
        done = dragoman("resolve", "--consul-datacenter", "elsewhere", "web;80")
        assert done.code == 1 and "No path to datacenter" in done.stderr, done
        done = dragoman("resolve", "--consul-namespace", "team", "web;80")
        assert done.code == 1 and "Enterprise feature" in done.stderr, done
    done = Dragoman("etcd://127.0.0.1:1")("resolve", "--consul-stale", "web;80")
    assert done.code == 1 and "options of Consul" in done.stderr, done


def connections(consul, agent):
    """That the agent has to it, by the kernel's word."""
    port = f":{consul.port:04X}"
    with open(f"/proc/{agent.pid}/net/tcp", encoding="ascii") as file:
        return sum(line.split()[2].endswith(port) and line.split()[3] == "01" for line in file)


@pytest.mark.parametrize(("at_once", "seconds"), [(64, 15), (250, 5)])
def test_consul_two_hundred_services_are_followed(consul_program, run, container, at_once,
                                                  seconds):
    """In turns within what Consul takes of one address, or, where it takes more, all at once."""
    services = [f"s{number}" for number in range(200)]
    limits = {} if at_once == 64 else {"limits": {"http_max_conns_per_client": 1000}}
    with Consul(consul_program, options=limits) as consul:
        for number, name in enumerate(services):
            consul.put(name, name, f"10.77.1.{number}", 80)
        agent = run("--netns", container, "--consul-connections", at_once,
                    *(word for number, name in enumerate(services)
                      for word in ("-b", f"{name}={name};{2000 + number}")), registry=consul.url)
        slots = nft.slots(container)
        assert {slot.endpoint for slot in slots} == {f"10.77.1.{number}:80"
                                                     for number in range(200)}
        wait_until(lambda: connections(consul, agent) >= min(at_once, 200), what="its queries")
        started = time.monotonic()
        for number, name in enumerate(services):
            consul.put(name, name, f"10.77.2.{number}", 80)
        written = time.monotonic()
        wait_until(lambda: {slot.endpoint for slot in nft.slots(container)} == {
            f"10.77.2.{number}:80" for number in range(200)}, seconds, what="every change")
        print(f"{at_once} at once: all seen {time.monotonic() - written:.2f} s after the last of "
              f"200 changes, which took {written - started:.2f} s; "
              f"{connections(consul, agent)} connections")
        # Now that most of them wait, too.
        for number in (7, 77, 177):
            consul.put(services[number], services[number], f"10.77.3.{number}", 80)
            wait_until(lambda: f"10.77.3.{number}:80" in {
                slot.endpoint for slot in nft.slots(container)}, seconds, what="one change")
        # Eight more are for reads.
        assert connections(consul, agent) <= min(at_once, 200) + 8
        assert agent.metric("registry_reads_total") <= 2
        assert "lost" not in agent.log
