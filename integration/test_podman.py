# SPDX-License-Identifier: MIT
"""What Podman's compatible socket does in its own way. The rest is in test_agent_docker.py."""

import contextlib
import os
import pathlib
import signal

import pytest

from lab.agent import Agent
from lab.followed import CACHE, DB, WEB, leads, names, rules, wait_for
from lab.podman import Podman
from lab.processes import run as command
from lab.waiting import wait_until


@pytest.fixture
def services(etcd):
    for number, name in enumerate(("web", "cache", "db"), 1):
        etcd.endpoint(f"/services/{name}/0", f"10.77.0.{number}", "7000")
    return etcd


@pytest.fixture
def follow(services):
    with contextlib.ExitStack() as stack:
        def start(podman):
            return stack.enter_context(Agent("--docker", podman.url, registry=services.url))
        yield start


def test_agent_containers_of_a_pod_are_one_target(podman, follow):
    agent = follow(podman)
    pod = podman.pod("pod")
    one = pod.run("one", env={"BACKEND_WEB": "web;80"})
    wait_for(one, 1)
    two = pod.run("two", env={"BACKEND_CACHE": "cache;6379"})
    wait_for(one, 1, 2)
    assert {"one", "two"} <= names(agent)[one.inode] and len(names(agent)) == 1
    one.kill()
    wait_until(lambda: rules(two) == leads(2), what="what is left")
    pod.remove()
    wait_until(lambda: names(agent) == {}, what="the pod to be let go of")
    wait_until(lambda: agent.namespace_descriptors() == 0, what="nothing of it to be held")


def test_agent_follows_a_podman_container_through_all_that_it_can_do(podman, follow):
    agent = follow(podman)
    web = podman.run("web", env={"BACKEND_WEB": "web;80"})
    wait_for(web, 1)
    first = web.inode
    web.rename("other")
    wait_until(lambda: names(agent) == {first: {"other"}}, what="its name")
    commits = agent.metric("commits_total")
    web.pause()
    web.unpause()
    web.restart()
    wait_for(web, 1)
    wait_until(lambda: names(agent) == {web.inode: {"other"}}, what="its namespace")
    assert agent.metric("commits_total") == commits + 1
    web.kill()
    wait_until(lambda: names(agent) == {}, what="it to be let go of")
    web.start()
    wait_for(web, 1)
    web.remove()
    wait_until(lambda: names(agent) == {}, what="it to be let go of")


def test_agent_outlives_podmans_service(follow):
    """Containers do not notice."""
    with Podman() as podman:
        web = podman.run("web", env={"BACKEND_WEB": "web;80"})
        other = podman.run("other", env={"BACKEND_DB": "db;3306"})
        pids = web.pid, other.pid
        agent = follow(podman)
        commits = agent.metric("commits_total")
        podman.stop()
        wait_until(lambda: agent.status()["docker"]["state"] == "lost", what="the loss to be told")
        os.kill(pids[1], signal.SIGKILL)
        wait_until(lambda: len(names(agent)) == 1, what="the one that ended to be let go of")
        podman.start()
        wait_until(lambda: agent.status()["docker"]["state"] == "live", deadline=40,
                   what="the service to be back")
        assert web.pid == pids[0] and rules(web) == leads(1)
        third = podman.run("third", env={"BACKEND_CACHE": "cache;6379"})
        wait_for(third, 2)
        assert names(agent) == {web.inode: {"web"}, third.inode: {"third"}}
        assert agent.metric("commits_total") == commits + 1
        agent.end()


def test_container_of_podman_is_found_reconciled_and_flushed(services, podman, dragoman):
    web = podman.run("web", env={"BACKEND_WEB": "web;80"})
    side = podman.run("side", env={"BACKEND_CACHE": "cache;6379"}, network="container:web")
    pod = podman.pod("pod").run("one", env={"BACKEND_DB": "db;3306"})

    def on(verb, container):
        return dragoman(verb, "--json", "--container", container, "--docker", podman.url)

    for name in ("web", web.id, web.id[:12], "side"):
        result = on("plan", name)
        assert result.code == 3 and result.json["netns"] == web.inode, result
        assert {change[1:] for change in result.changes if len(change) == 3 and change[2]} == {
            (f"{WEB}/tcp", "10.77.0.1:7000"), (f"{CACHE}/tcp", "10.77.0.2:7000")}
    assert on("reconcile", "side").code == 0 and rules(web) == leads(1, 2)
    assert on("reconcile", "one").code == 0 and rules(pod) == leads(3)
    assert on("flush", "web").code == 0 and rules(side) is None
    assert on("plan", "nobody").code == 1
    podman.create("created")
    assert on("plan", "created").errors == ["container created: it does not run (created)"]
