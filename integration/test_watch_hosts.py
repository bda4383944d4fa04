# SPDX-License-Identifier: MIT
"""The agent's watch where some of the hosts that are listed are no good, from the start or later.

What a command makes of such lists is test_registry_hosts.py's.
"""

import contextlib

import pytest

from lab import nft
from lab.agent import Agent
from lab.bad_server import BlackHole, SilentListener, refusing_address
from lab.relay import Relay
from lab.waiting import wait_until

WEB = "127.0.0.1:80/tcp"


class Api:
    """Either API of one server."""

    def __init__(self, etcd, scheme):
        self.scheme, self.address = scheme, etcd.address
        self._put = etcd.put if scheme == "etcd" else etcd.put_v2

    def put(self, number):
        self._put(f"/services/web/{number}", {"ipaddress": f"10.77.0.{number}", "host_port": 7000})

    def url(self, *hosts):
        return f"{self.scheme}://{','.join(hosts)}"


@pytest.fixture(params=["etcd", "etcd2"])
def api(request, etcd):
    return Api(etcd, request.param)


@pytest.fixture
def run(container):
    """run(url): an agent whose one target is container."""
    with contextlib.ExitStack() as stack:
        def start(url):
            return stack.enter_context(Agent("--netns", container, "-b", "WEB=web;80",
                                             "--timeout", "4", registry=url))
        yield start


def wait_for(namespace, *numbers, deadline=20):
    wanted = {f"10.77.0.{number}:7000" for number in numbers}
    wait_until(lambda: {slot.endpoint for slot in nft.slots(namespace, WEB)} == wanted,
               deadline, what=f"{wanted}")


def state(agent):
    return agent.status()["registry"]["state"]


@contextlib.contextmanager
def bad(kind):
    """The address of a host that is no good."""
    if kind == "refuses":
        yield refusing_address()
    else:
        with (SilentListener if kind == "hangs" else BlackHole)() as listener:
            yield listener.address


@pytest.mark.parametrize("kind", ["refuses", "hangs", "is-a-black-hole"])
def test_agent_watches_though_the_first_host(api, run, container, kind):
    api.put(1)
    with bad(kind) as address:
        agent = run(api.url(address, api.address))
        wait_for(container, 1)
        wait_until(lambda: state(agent) == "live", what="the watch")
        api.put(2)
        # At once: the host that is no good is not asked again for each event.
        wait_for(container, 1, 2, deadline=2)
        agent.end()


def test_agent_leaves_a_host_that_dies_for_one_that_is_left(api, run, container):
    """The next in the list is no good either, and what came meanwhile is not lost."""
    api.put(1)
    with Relay(api.address) as first, bad("refuses") as second, Relay(api.address) as third:
        agent = run(api.url(first.address, second, third.address))
        wait_until(lambda: state(agent) == "live", what="the watch")
        wait_for(container, 1)
        assert third.connections == 0
        # What is put now is held back, and lost with the host.
        first.hang()
        api.put(2)
        first.cut()
        wait_for(container, 1, 2)
        api.put(3)
        wait_for(container, 1, 2, 3)
        wait_until(lambda: state(agent) == "live", what="the watch")
        assert third.connections > 0
        agent.end()


def test_agent_waits_for_a_host_where_none_is_left(api, run, container):
    """What stands, stands, until one comes back."""
    api.put(1)
    with bad("refuses") as first, Relay(api.address) as second:
        agent = run(api.url(first, second.address))
        wait_for(container, 1)
        second.cut()
        wait_until(lambda: state(agent) == "lost", what="the loss to be told")
        api.put(2)
        assert {slot.endpoint for slot in nft.slots(container, WEB)} == {"10.77.0.1:7000"}
        with Relay(api.address, at=second.address):
            wait_for(container, 1, 2)
            wait_until(lambda: state(agent) == "live", what="the watch")
            agent.end()
