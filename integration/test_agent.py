# SPDX-License-Identifier: MIT
"""The agent with targets given by hand: it follows the registry, and keeps the rules true."""

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM
from lab.consul import Consul
from lab.etcd import Etcd
from lab.events import Events
from lab.processes import Process, run as command
from lab.registries import EVERY_REGISTRY, REGISTRIES
from lab.scheduling import knows_slices, scheduling
from lab.waiting import wait_until

WEB, CACHE = "127.0.0.1:80/tcp", "127.0.0.1:6379/tcp"


@pytest.fixture
def run():
    """run("--netns", web, registry=url): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, **options))
        yield start


@pytest.fixture
def web(container):
    """It has an interface beside lo, so that a route to ::1 is part of its rules."""
    return container


def document(number, port=7000, **more):
    return {"ipaddress": f"10.77.0.{number}", "host_port": str(port), **more}


def address(number):
    return f"10.77.0.{number}", 7000


def endpoint(number, port=7000):
    return f"10.77.0.{number}:{port}"


def held(namespace, listen=WEB):
    """The endpoints that the kernel holds for a port."""
    if "inet dragoman" not in nft.tables(namespace):
        return None
    return {slot.endpoint for slot in nft.slots(namespace, listen)}


def wait_for(namespace, *numbers, listen=WEB, deadline=20):
    wanted = {endpoint(number) for number in numbers}
    wait_until(lambda: held(namespace, listen) == wanted, deadline,
               what=f"{wanted} in {listen}, where there is {held(namespace, listen)}")


# What the registry holds, the kernel does

def test_agent_follows_endpoints_that_come_and_go(any_registry, run, web):
    any_registry.add("web", "a", *address(1))
    agent = run("--netns", web, "-b", "WEB=web;80", "-b", "CACHE=web[x];6379",
                registry=any_registry.url)
    assert held(web) == {endpoint(1)}
    any_registry.add("web", "b", *address(2))
    wait_for(web, 1, 2)
    any_registry.add("web", "a", *address(3))
    wait_for(web, 2, 3)
    any_registry.add("web", "a", *address(3), tags=["x"])
    wait_for(web, 3, listen=CACHE)
    any_registry.remove("web", "b")
    wait_for(web, 3)
    any_registry.add("web", "a", *address(3), tags=["y"])
    wait_for(web, listen=CACHE)
    assert held(web) == {endpoint(3)}
    any_registry.remove("web", "a")
    wait_for(web)
    assert "127.0.0.1 . 6 . 80" in nft.listing(web, "set", "inet", "dragoman", "unavailable4")
    assert {each["state"] for each in agent.namespace(web.inode)["backends"]} == {"empty"}
    assert agent.log.count("no endpoint is left, the registry holds nothing there") == 1
    any_registry.add("web", "c", *address(4))
    wait_for(web, 4)
    before = nft.listing(web)
    agent.end()
    assert nft.listing(web) == before


def test_agent_rewrite_of_what_stands_there_sends_no_batch(any_registry, run, web):
    any_registry.add("web", "a", *address(1))
    agent = run("--netns", web, "-b", "WEB=web;80", registry=any_registry.url)
    events, commits = Events(web), agent.metric("commits_total")
    for _ in range(5):
        any_registry.add("web", "a", *address(1))
    any_registry.add("web", "a", *address(1), attributes={"of": "nobody"})
    # Only what comes after them shows that they were seen.
    any_registry.add("web", "b", *address(2))
    wait_for(web, 1, 2)
    assert agent.metric("commits_total") == commits + 1
    # The chain for two slots is made before anything goes there.
    assert events.heard().get("newgen") == 2


def test_agent_descriptors_before_the_first_target_are_for_all(etcd, run, namespaces, tmp_path):
    one, two, three = (namespaces.new(name) for name in ("one", "two", "three"))
    for number, name in enumerate(("web", "cache", "db"), 1):
        etcd.put(f"/services/{name}/a", document(number))
    (tmp_path / "env").write_text("BACKEND_DB=db;3306\n")
    run("-b", "WEB=web;80", "--netns", one, "--netns", two, "-b", "CACHE=cache;6379",
        "--netns", three.path, "--env-file", tmp_path / "env", registry=etcd.url)
    held_by = [{slot.listen: slot.endpoint for slot in nft.slots(each)}
               for each in (one, two, three)]
    assert held_by == [{WEB: endpoint(1)}, {CACHE: endpoint(2)},
                       {"127.0.0.1:3306/tcp": endpoint(3)}]


def test_agent_target_without_descriptors_is_left_without_traces(etcd, run, namespaces):
    bare = namespaces.new("bare")
    before = nft.traces(bare)
    agent = run("--netns", bare, registry=etcd.url)
    assert agent.namespace(bare.inode)["backends"] == []
    assert nft.traces(bare) == before


def test_agent_sighup_looks_at_everything_anew(etcd, run, web, tmp_path):
    etcd.put("/services/web/a", document(1))
    etcd.put("/services/cache/a", document(2))
    lines = tmp_path / "env"
    lines.write_text("BACKEND_WEB=web;80\n")
    agent = run("--netns", web, "--env-file", lines, registry=etcd.url)
    before, reads = nft.listing(web), agent.metric("registry_reads_total")
    agent.send(signal.SIGHUP)
    wait_until(lambda: agent.metric("registry_reads_total") > reads, what="the registry to be read")
    assert nft.listing(web) == before
    lines.write_text("BACKEND_CACHE=cache;6379\n")
    agent.send(signal.SIGHUP)
    wait_for(web, 2, listen=CACHE)
    assert held(web) == set()
    # A file that cannot be read changes nothing.
    lines.unlink()
    before = nft.listing(web)
    agent.send(signal.SIGHUP)
    wait_until(lambda: str(lines) in agent.log, what="a word about the file")
    assert agent.is_ready() and nft.listing(web) == before


# Its end, and its next start

@pytest.mark.parametrize("signum", (signal.SIGTERM, signal.SIGINT))
def test_agent_leaves_the_rules_when_it_ends(etcd, run, web, signum):
    etcd.put("/services/web/a", document(1))
    agent = run("--netns", web, "-b", "WEB=web;80", registry=etcd.url)
    before = nft.listing(web)
    agent.end(signum)
    assert nft.listing(web) == before and "10.77.0.1" in before


def test_agent_flushes_on_exit_where_it_is_asked_to(etcd, run, namespaces, web):
    other = namespaces.new("other")
    clean = [nft.traces(each) for each in (web, other)]
    etcd.put("/services/web/a", document(1))
    agent = run("-b", "WEB=web;80", "--netns", web, "--netns", other, "--flush-on-exit",
                registry=etcd.url)
    assert [nft.traces(each) for each in (web, other)] != clean
    agent.end()
    assert [nft.traces(each) for each in (web, other)] == clean


def test_agent_killed_and_started_again_sends_no_batch(any_registry, run, web):
    any_registry.add("web", "a", *address(1))
    any_registry.add("cache", "a", *address(2))
    agent = run("--netns", web, "-b", "WEB=web;80", "-b", "CACHE=cache;6379",
                registry=any_registry.url)
    events, before = Events(web), nft.listing(web)
    for _ in range(3):
        agent.kill()
        agent.start()
        assert agent.metric("commits_total") == 0
    assert events.heard() == {} and nft.listing(web) == before
    agent.kill()
    any_registry.add("web", "a", *address(3))
    any_registry.remove("cache", "a")
    any_registry.add("cache", "b", *address(4))
    agent.start()
    # Ready means that it is done.
    assert held(web) == {endpoint(3)} and held(web, CACHE) == {endpoint(4)}
    assert events.heard().get("newgen") == 1


# Somebody else's hand

HANDS = {
    "ruleset-flushed": "flush ruleset",
    "table-deleted": "delete table inet dragoman",
    "element-deleted": "delete element inet dragoman services4 { 127.0.0.1 . tcp . 80 }",
    "slot-deleted": "delete element inet dragoman endpoints4 { 127.0.0.1 . tcp . 80 . 0 }",
    "chain-flushed": "flush chain inet dragoman output",
    "rule-added": "insert rule inet dragoman guard accept",
}


def test_agent_puts_right_what_others_change(etcd, run, web):
    for number in (1, 2, 3):
        etcd.put(f"/services/web/{number}", document(number))
    agent = run("--netns", web, "-b", "WEB=web;80", registry=etcd.url)
    before, repairs = nft.whole(web), agent.metric("drift_repairs_total")
    for turn in range(5):
        for name, hand in HANDS.items():
            nft.load(web, hand)
            wait_until(lambda: nft.whole(web) == before, what=f"rules to be whole after {name}")
            repairs += 1
            wait_until(lambda: agent.metric("drift_repairs_total") == repairs,
                       what=f"repair {repairs} to be counted")


def test_agent_leaves_other_tables_alone(etcd, run, web):
    etcd.put("/services/web/a", document(1))
    agent = run("--netns", web, "-b", "WEB=web;80", registry=etcd.url)
    events, commits = Events(web), agent.metric("commits_total")
    nft.load(web, "add table inet other\nadd chain inet other dragoman")
    nft.load(web, "delete table inet other")
    # Its answer comes after what it has heard.
    etcd.put("/services/web/b", document(2))
    wait_for(web, 1, 2)
    assert agent.metric("commits_total") == commits + 1
    assert agent.metric("drift_repairs_total") == 0
    # Two of that other, the chain for two slots, and what goes there.
    assert events.heard()["newgen"] == 4


def test_agent_fight_without_end_costs_bounded_cpu(etcd, run, web):
    etcd.put("/services/web/a", document(1))
    agent = run("--netns", web, "-b", "WEB=web;80", registry=etcd.url)
    before, repairs = nft.whole(web), agent.metric("drift_repairs_total")

    def damage():
        """Waits where the other one has not kept up."""
        for _ in range(100):
            other.write_line("flush chain inet dragoman output")
        return agent.metric("drift_repairs_total") >= repairs + 200

    with web.start("nft", "-i", output=subprocess.DEVNULL) as other:
        started, cpu = time.monotonic(), agent.cpu_seconds()
        wait_until(damage, deadline=40, what="two hundred repairs")
        took, spent = time.monotonic() - started, agent.cpu_seconds() - cpu
        done = agent.metric("drift_repairs_total") - repairs
    print(f"{done} repairs in {took:.2f} s, {spent:.2f} s of CPU")
    # A few at once, then one in ten milliseconds; no more than half of a processor for it.
    assert done <= 50 + took / 0.01
    assert spent <= took / 2
    wait_until(lambda: nft.whole(web) == before, what="rules to be whole in the end")


def test_agent_follows_links_and_routes_to_the_loopback_address(etcd, run, web, namespaces):
    etcd.put("/services/web/a", document(1))
    run("--netns", web, "-b", "WEB=web;80", registry=etcd.url)

    def devices():
        return set(re.findall(r"::1 dev (eth\d)", "\n".join(nft.traces(web)["routes"])))

    assert devices() == {"eth0"}
    web.ip("-6", "route", "delete", "local", "::1/128", "dev", "eth0", "table", "local")
    wait_until(lambda: devices() == {"eth0"}, what="the route to be back")
    namespaces.link(web, namespaces.new("further"), device="eth1")
    wait_until(lambda: devices() == {"eth0", "eth1"}, what="a route of the new link")
    web.ip("link", "set", "eth0", "down")
    wait_until(lambda: devices() == {"eth1"}, what="the route to go with the link")
    web.ip("link", "set", "eth0", "up")
    wait_until(lambda: devices() == {"eth0", "eth1"}, what="the route to come with the link")


# Namespaces that end

@pytest.fixture
def short(namespaces):
    """A cable from a namespace that will end; short.is_dead() when the kernel took it apart."""
    keeper = namespaces.new("keeper")
    keeper.ip("link", "add", "cable", "type", "veth", "peer", "name", "eth0")

    class Short:
        def put_into(self, namespace):
            keeper.ip("link", "set", "eth0", "netns", namespace)

        def is_dead(self):
            return "cable" not in keeper.ip("link", "show").stdout
    return Short()


def test_agent_lets_go_of_a_namespace_that_is_deleted(etcd, run, web, namespaces, short):
    etcd.put("/services/web/a", document(1))
    gone = namespaces.new("gone")
    short.put_into(gone)
    with Agent("-b", "WEB=web;80", "--netns", web, registry=etcd.url) as alone:
        usual = alone.namespace_descriptors()
    agent = run("-b", "WEB=web;80", "--netns", web, "--netns", gone, registry=etcd.url)
    inode = gone.inode
    assert held(gone) == {endpoint(1)} and agent.namespace(inode)
    assert usual
    wait_until(lambda: agent.namespace_descriptors() == 2 * usual, what=f"{usual} more")
    namespaces.delete(gone)
    wait_until(short.is_dead, what="the namespace to end")
    wait_until(lambda: agent.namespace_descriptors() == usual, what=f"{usual} descriptors")
    assert not agent.namespace(inode) and agent.namespace(web.inode)
    assert agent.metric("namespaces") == 1
    etcd.put("/services/web/b", document(2))
    wait_for(web, 1, 2)


def test_agent_watches_all_names_with_one_descriptor(etcd, run, namespaces):
    """A user has 128 of them, and there may be a thousand namespaces."""
    some = [namespaces.new(f"n{number}") for number in range(3)]
    agent = run("-b", "WEB=web;80", *(word for each in some for word in ("--netns", each)),
                registry=etcd.url)
    assert agent.descriptors().count("anon_inode:inotify") == 1
    namespaces.delete(some.pop(1))
    wait_until(lambda: agent.metric("namespaces") == 2, what="one to be let go of")
    assert all(agent.namespace(each.inode) for each in some)


def own_rules(process):
    return command("nsenter", f"--net=/proc/{process.pid}/ns/net", "nft", "list",
                   "ruleset").stdout


def test_agent_lets_go_of_the_namespace_of_a_process_that_ends(etcd, run, web, short):
    etcd.put("/services/web/a", document(1))
    with Process("unshare", "--net", "sleep", "1000") as process:
        path = f"/proc/{process.pid}/ns/net"
        wait_until(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino,
                   what="a namespace of its own")
        inode = os.stat(path).st_ino
        short.put_into(process.pid)
        with Agent("-b", "WEB=web;80", "--netns", web, registry=etcd.url) as alone:
            usual = alone.namespace_descriptors()
        agent = run("-b", "WEB=web;80", "--netns", web, "--pid", process.pid, registry=etcd.url)
        assert "10.77.0.1" in own_rules(process)
        assert agent.namespace(inode)
    wait_until(short.is_dead, what="the namespace to end")
    wait_until(lambda: agent.namespace_descriptors() == usual, what=f"{usual} descriptors")
    assert not agent.namespace(inode) and held(web) == {endpoint(1)}


def test_agent_outlives_its_last_target(etcd, run, namespaces):
    gone = namespaces.new("gone")
    agent = run("-b", "WEB=web;80", "--netns", gone, registry=etcd.url)
    namespaces.delete(gone)
    wait_until(lambda: agent.status()["namespaces"] == [], what="the namespace to be let go of")
    assert agent.metric("services") == 0 and agent.is_ready()
    agent.send(signal.SIGHUP)
    wait_until(lambda: "SIGHUP" in agent.log, what="SIGHUP to be heard")
    assert agent.status()["namespaces"] == []


# A registry that goes and comes

@pytest.fixture
def own_etcd():
    """An etcd that may be stopped."""
    with Etcd() as server:
        yield server


@pytest.fixture(params=("etcd", "etcd2", "consul"))
def own_registry(request, tmp_path):
    """One of those that may be stopped, and its server."""
    kind = EVERY_REGISTRY[request.param]
    program = request.getfixturevalue("consul_program") if kind.server == "consul" else None
    with Consul(program) if program else Etcd() as server:
        yield kind(server, tmp_path), server


def state_of(agent):
    return agent.status()["registry"]["state"]


def test_agent_keeps_the_rules_while_the_registry_is_away(own_registry, run, web):
    registry, server = own_registry
    registry.add("web", "a", *address(1))
    agent = run("--netns", web, "-b", "WEB=web;80", "--resync", "1", registry=registry.url)
    before = nft.whole(web)
    assert state_of(agent) == "live"
    server.stop()
    wait_until(lambda: state_of(agent) == "lost", what="the loss to be told")
    wait_until(lambda: agent.namespace(web.inode)["backends"][0]["state"] == "held",
               what="what is known to be held")
    # What others change is still put right.
    nft.load(web, "flush ruleset")
    wait_until(lambda: nft.whole(web) == before, what="rules to be whole without a registry")
    assert agent.get("/readyz")[0] == 200
    server.start_again()
    wait_until(lambda: state_of(agent) == "live", deadline=30, what="the registry to be back")
    wait_until(lambda: agent.namespace(web.inode)["backends"][0]["state"] == "ready",
               what="the state to be ready again")
    assert nft.whole(web) == before
    assert agent.metric("watch_restorations_total") == 0
    registry.add("web", "b", *address(2))
    wait_for(web, 1, 2)
    registry.remove("web", "a")
    wait_for(web, 2)


@pytest.mark.parametrize("kind", ("etcd", "etcd2"))
def test_agent_catches_up_after_a_compaction(own_etcd, run, web, tmp_path, kind):
    registry = REGISTRIES[kind](own_etcd, tmp_path)
    registry.put("/services/web/a", document(1))
    registry.put("/services/web/b", document(2))
    agent = run("--netns", web, "-b", "WEB=web;80", "-b", "CACHE=cache;6379",
                registry=registry.url)
    # While the agent stands still, its connection is lost and its revision forgotten.
    agent.send(signal.SIGSTOP)
    own_etcd.stop()
    own_etcd.start_again()
    registry.delete("/services/web/a")
    for number in range(1, 1200 if kind == "etcd2" else 20):
        registry.put("/services/cache/x", document(number % 200 + 3))
    own_etcd.compact()
    registry.put("/services/web/c", document(9))
    agent.send(signal.SIGCONT)
    wait_for(web, 2, 9, deadline=30)
    wait_for(web, number % 200 + 3, listen=CACHE, deadline=30)
    assert agent.metric("watch_compactions_total") >= 1
    registry.put("/services/web/d", document(10))
    wait_for(web, 2, 9, 10)


def test_agent_waits_for_a_registry_that_is_not_there_yet(own_registry, run, web):
    registry, server = own_registry
    registry.add("web", "a", *address(1))
    server.stop()
    agent = run("--netns", web, "-b", "WEB=web;80", registry=registry.url, ready=False)
    wait_until(lambda: server.address in agent.log, what="a word about the registry")
    assert agent.status()["registry"]["state"] != "live" and not agent.is_ready()
    server.start_again()
    wait_until(agent.is_ready, deadline=30, what="the agent to be ready")
    wait_for(web, 1)


def test_agent_asks_the_scheduler_for_short_slices_and_for_no_more(etcd, run, web):
    """A change that has come waits for nobody who computes. As nice as before: no greater share."""
    agent = run("--netns", web, registry=etcd.url, command=("nice", "-n", "3", PROGRAM))
    (policy, nice, length), = scheduling(agent.pid)
    assert (policy, nice) == (0, os.nice(0) + 3)
    assert length == 200000 or not knows_slices()
