# SPDX-License-Identifier: MIT
"""An agent whose etcd is behind a proxy: real ones, with what they do to a watch that is idle."""

import contextlib
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.etcd import Certificates
from lab.proxies import EtcdGateway, HAProxy
from lab.waiting import wait_until

_WEB = "127.0.0.1:80/tcp"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def run(container):
    """run(url): an agent whose one target is container."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, registry):
            return stack.enter_context(Agent("--netns", container, "-b", "WEB=web;80", *arguments,
                                             registry=registry))
        yield start


class Changes:
    """An endpoint that moves; after each move, the rules have to follow."""

    def __init__(self, put, container):
        self._put, self._container, self._number = put, container, 0

    def make(self):
        self._number = self._number % 200 + 1
        self._put("/services/web/0", {"ipaddress": f"10.77.1.{self._number}", "host_port": 7000})

    def is_followed(self):
        endpoints = [slot.endpoint for slot in nft.slots(self._container, _WEB)]
        return endpoints == [f"10.77.1.{self._number}:7000"]

    def follow(self):
        self.make()
        wait_until(self.is_followed, what="the rules to follow")


def test_agent_watches_through_etcds_gateway(etcd, container, run):
    with EtcdGateway(etcd.address) as proxy:
        changes = Changes(etcd.put, container)
        changes.make()
        agent = run(registry=f"etcd://{proxy.address}")
        for _ in range(5):
            changes.follow()
        assert agent.metric("watch_reconnects_total") == 0
        agent.end()


@pytest.mark.parametrize("mode", ["tcp", "http"])
def test_agent_learns_how_soon_a_proxy_ends_what_is_idle(etcd, container, certificates, run, mode):
    """It is cut off once, and from then on gives a sign of life in time. Nobody is told of it."""
    with HAProxy(etcd.address, certificates, idle=2.2, mode=mode) as proxy:
        changes = Changes(etcd.put, container)
        changes.make()
        agent = run("--tls-ca", certificates.ca, registry=f"etcds://{proxy.address}")
        changes.follow()
        wait_until(lambda: agent.metric("watch_reconnects_total") == 1, what="it to be cut off")
        changes.follow()
        quiet = time.monotonic()
        # Nothing says that a proxy would have cut by now, but that it has not.
        wait_until(lambda: time.monotonic() - quiet > 3 * 2.2, what="it to be idle for long")
        changes.follow()
        assert agent.metric("watch_reconnects_total") == 1
        assert agent.metric('errors_total{class="transient"}') == 0
        assert "lost" not in agent.log and agent.log.count("connected") == 1
        agent.end()


@pytest.mark.parametrize("scheme", ["etcds", "etcd2s"])
def test_change_is_not_lost_where_a_proxy_ends_each_connection_soon(etcd, container, certificates,
                                                                    run, scheme):
    """Sooner than any sign of life. Changes come at all moments, that of the cut among them."""
    with HAProxy(etcd.address, certificates, idle=1.05) as proxy:
        changes = Changes(etcd.put if scheme == "etcds" else etcd.put_v2, container)
        changes.make()
        agent = run("--tls-ca", certificates.ca, registry=f"{scheme}://{proxy.address}")
        reads = agent.metric("registry_reads_total")
        pause, longest = 0.9, 0
        while pause < 1.3:
            began = time.monotonic()
            wait_until(lambda: time.monotonic() - began > pause, what="the moment")
            began = time.monotonic()
            changes.follow()
            longest = max(longest, time.monotonic() - began)
            pause += 0.08
        assert longest < 1, longest
        # Each came by the watch, and none by reading all anew.
        assert agent.metric("registry_reads_total") == reads
        agent.end()


def test_proxy_that_is_gone_is_told_of(etcd, container, certificates, run):
    """The first of its connections that is refused is more than one that was idle."""
    changes = Changes(etcd.put, container)
    changes.make()
    with HAProxy(etcd.address, certificates, idle=60) as proxy:
        agent = run("--tls-ca", certificates.ca, registry=f"etcds://{proxy.address}")
        changes.follow()
    wait_until(lambda: agent.status()["registry"]["state"] == "lost", what="the loss to be told")
    assert "lost, what is known stays" in agent.log and changes.is_followed()
    agent.end()
