# SPDX-License-Identifier: MIT
"""What the agent shows of itself, what it refuses, and what it asks of the registry."""

import contextlib
import json
import os
import socket
import stat
import urllib.error
import urllib.request

import pytest

from lab import nft
from lab.agent import Agent, parse_metrics
from lab.command import Dragoman
from lab.etcd import Etcd, free_ports
from lab.traffic import connect, serve
from lab.waiting import wait_until


@pytest.fixture
def run(etcd):
    """run("--netns", web): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, registry=etcd.url, **options):
            return stack.enter_context(Agent(*arguments, registry=registry, **options))
        yield start


def refused(dragoman, *arguments):
    """The one line that `dragoman run` ends with at once."""
    result = dragoman("run", *arguments)
    assert result.code == 1, result
    return result.errors[-1]


def test_agent_status_tells_what_it_knows(etcd, run, container, hosts):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080, tags=["prod"])
    etcd.endpoint("/services/web/b", "10.77.0.2", 8080, tags=["prod"], weight=3)
    etcd.endpoint("/services/web/bad", "127.0.0.1", 8080, tags=["prod"])
    agent = run("--netns", container, "-b", "WEB=web[prod];80", "-b", "NONE=nobody;81",
                "-b", "BAD=web;http")
    with serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp"):
        for _ in range(20):
            connect(container, "127.0.0.1:80/tcp")
    status = agent.status()
    assert set(status) == {"version", "registry", "docker", "ready", "commits", "event_to_commit",
                           "changes", "namespaces"}
    assert status["ready"] is True and status["docker"] == {"state": "off", "reason": None}
    assert status["registry"]["url"] == etcd.url and status["registry"]["state"] == "live"
    assert isinstance(status["registry"]["revision"], int) and status["registry"]["revision"] > 0
    (only,) = status["namespaces"]
    assert only["netns"] == container.inode and only["note"] is None
    assert only["containers"] == [{"id": None, "name": str(container), "pid": None}]
    assert only["state"] == "kept"
    backends = {each.pop("variable"): each for each in only["backends"]}
    endpoints = backends["BACKEND_WEB"].pop("endpoints")
    assert backends["BACKEND_WEB"] == {
        "container": None, "listen": "80/tcp", "service": "/services/web", "tags": ["prod"],
        "state": "ready",
        "reason": "1 of 3 documents cannot be used, the first one /services/web/bad: "
                  "loopback address (see --allow-endpoints)"}
    counted = nft.connections(container, "127.0.0.1:80/tcp")
    assert sum(counted.values()) == 20
    assert endpoints == [
        {"address": f"10.77.0.{number}", "port": 8080, "weight": weight,
         "connections": counted[f"10.77.0.{number}:8080"]} for number, weight in ((1, 1), (2, 3))]
    assert backends["BACKEND_NONE"]["state"] == "empty" and backends["BACKEND_NONE"]["reason"]
    assert backends["BACKEND_NONE"]["endpoints"] == []
    assert backends["BACKEND_BAD"]["state"] == "invalid" and backends["BACKEND_BAD"]["reason"]
    assert backends["BACKEND_BAD"]["listen"] is None


def test_agent_status_command_shows_it(etcd, run, container, dragoman):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    agent = run("--netns", container, "-b", "WEB=web;80")
    result = dragoman("status", "--json", "--socket", agent.socket)
    assert result.code == 0 and result.json == agent.status()
    table = dragoman("status", "--socket", agent.socket)
    assert table.code == 0 and table.stderr == ""
    for word in ("80/tcp", "/services/web", "10.77.0.1:8080", "ready", str(container)):
        assert word in table.stdout, table
    narrowed = dragoman("status", "--json", "--socket", agent.socket, "--container", container)
    assert narrowed.code == 0 and len(narrowed.json["namespaces"]) == 1
    result = dragoman("status", "--json", "--socket", agent.socket, "--container", "nobody")
    assert result.code == 1 and "nobody" in result.json["errors"][0]["message"]
    agent.end()
    result = dragoman("status", "--socket", agent.socket)
    assert result.code == 1 and str(agent.socket) in result.errors[0]


def test_agent_that_has_never_reached_its_registry_says_why(run, container, dragoman, tmp_path):
    (port,) = free_ports(1)
    agent = run("--netns", container, "-b", "WEB=web;80", "--docker", f"unix://{tmp_path}/none",
                registry=f"etcd://127.0.0.1:{port}", ready=False)
    wait_until(lambda: agent.log.count("cannot be reached yet, trying again") == 2, what="both told")
    status = agent.status()
    assert "Connection refused" in status["registry"]["reason"]
    assert "is Docker running?" in status["docker"]["reason"]
    table = dragoman("status", "--socket", agent.socket)
    assert "not ready: the first full round is not done" in table.stdout
    assert "Connection refused" in table.stdout and "is Docker running?" in table.stdout
    assert "3 problems" in table.stdout, table


def test_agent_metrics_are_prometheus_text(etcd, run, container):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    agent = run("--netns", container, "-b", "WEB=web;80")
    before = agent.metrics()
    assert before["dragoman_namespaces"] == before["dragoman_services"] == 1
    assert before["dragoman_ready"] == before["dragoman_commits_total"] == 1
    etcd.endpoint("/services/web/b", "10.77.0.2", 8080)
    wait_until(lambda: agent.metric("commits_total") == 2, what="a commit")
    after = agent.metrics()
    assert set(before) == set(after)
    assert after["dragoman_registry_events_total"] == before["dragoman_registry_events_total"] + 1
    assert after["dragoman_watch_reconnects_total"] == before["dragoman_watch_reconnects_total"]
    name = "dragoman_event_to_commit_seconds"
    assert after[f"{name}_count"] == before[f"{name}_count"] + 1
    assert after[f"{name}_sum"] > before[f"{name}_sum"]
    buckets = [value for key, value in after.items() if key.startswith(f"{name}_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == after[f"{name}_count"]
    assert f'{name}_bucket{{le="+Inf"}}' in after
    assert after['dragoman_service_connections{service="/services/web"}'] == 0
    assert sum(value for key, value in after.items() if "errors_total" in key) == 0


def test_agent_answers_over_http(run, container):
    (port,) = free_ports(1)
    agent = run("--netns", container, "--metrics", f"127.0.0.1:{port}")
    assert agent.get("/healthz") == (200, "ok\n") and agent.get("/readyz") == (200, "ready\n")
    assert agent.get("/nothing")[0] == agent.get("/")[0] == 404
    mode = agent.socket.stat().st_mode
    assert stat.S_ISSOCK(mode) and not mode & 0o007

    def tcp(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.headers["Content-Type"], answer.read().decode()

    assert tcp("/metrics")[0] == "text/plain; version=0.0.4; charset=utf-8"
    assert parse_metrics(tcp("/metrics")[1])["dragoman_ready"] == 1
    kind, text = tcp("/status")
    assert kind == "application/json" and json.loads(text) == agent.status()
    with pytest.raises(urllib.error.HTTPError):
        tcp("/nothing")
    assert "can reach it" not in agent.log


def test_agent_second_on_a_host_is_refused(etcd, run, container, dragoman):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    agent = run("--netns", container, "-b", "WEB=web;80")
    before = nft.listing(container)
    words = ("--socket", agent.socket, "--netns", container, "-b", "OTHER=web;81")
    message = refused(dragoman, *words)
    assert "another agent" in message and f"{agent.socket}.lock" in message
    assert agent.get("/healthz")[0] == 200 and nft.listing(container) == before
    # A socket that one left behind is in nobody's way.
    agent.kill()
    assert agent.socket.exists()
    agent.start()
    assert nft.listing(container) == before
    agent.end()
    assert not agent.socket.exists()


def test_agent_that_cannot_start_says_why(container, dragoman, tmp_path):
    words = ("--socket", tmp_path / "s", "--netns", container)
    for address in ("nowhere", "127.0.0.1", "127.0.0.1:0x50", "127.0.0.1:99999", ":80", "[::1"):
        result = dragoman("run", *words, "--metrics", address)
        assert result.code == 2 and "--metrics" in result.stderr, result
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = "%s:%d" % taken.getsockname()
        message = refused(dragoman, *words, "--metrics", where)
        assert where in message and "in use" in message
    assert "192.0.2.1:1" in refused(dragoman, *words, "--metrics", "192.0.2.1:1")
    assert "nobody" in refused(dragoman, "--socket", tmp_path / "s", "--netns", "nobody")
    assert "twice" in refused(dragoman, *words, "--netns", container)
    message = refused(dragoman, "--socket", tmp_path / "s", "--pid", os.getpid())
    assert message.startswith(f"process {os.getpid()} is in the host's own network namespace")
    assert "--allow-host-netns" in message
    message = refused(dragoman, "--socket", tmp_path / "s", "--pid", 4194304)
    assert "4194304" in message
    assert "ssh" in refused(dragoman, "--socket", tmp_path / "s", "--docker", "ssh://host")
    long = tmp_path / "new" / ("x" * 120)
    result = dragoman("run", "--socket", long, "--netns", container)
    assert result.code == 2 and "107 bytes" in result.stderr and not long.parent.exists()
    missing = tmp_path / "none" / "such" / "s"
    assert str(missing) in refused(dragoman, "--socket", missing, "--netns", container)


def test_agent_watches_a_service_that_fifty_want_once(run, namespaces):
    """One read for all, and one watch, as etcd counts them."""
    targets = []
    for number in range(50):
        targets += ["--netns", namespaces.new(f"n{number}")]
    with Etcd() as own:
        own.endpoint("/services/web/a", "10.77.0.1", 8080)
        ranges, watchers = "etcd_debugging_mvcc_range_total", "etcd_debugging_mvcc_watcher_total"
        before = own.metric(ranges), own.metric(watchers)
        agent = run("-b", "WEB=web;80", *targets, registry=own.url)
        assert agent.metric("namespaces") == 50 and agent.metric("services") == 1
        wait_until(lambda: own.metric(watchers) == before[1] + 1, what="a watch")
        reads = own.metric(ranges) - before[0]
        assert agent.metric("registry_reads_total") == 1 and reads <= 2, reads
        own.endpoint("/services/web/b", "10.77.0.2", 8080)
        wait_until(lambda: agent.metric("commits_total") == 100, deadline=30, what="all of them")
        assert own.metric(watchers) == before[1] + 1
        assert agent.metric("registry_events_total") == 1
        agent.end()
