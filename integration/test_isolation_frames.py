# SPDX-License-Identifier: MIT
"""Every kind of frame that a neighbour may forge: none reaches a listener on loopback.

The container is as open as its sysctls make it: sources of any kind are
believed, source routes are followed. Each row of lab/forgeries.py is sent
while the guard stands, then without its rules, and then with them again, when
conntrack may know the frame from the time before.
"""

import contextlib
import json
import types

import pytest

from lab import frames, nft
from lab.command import Dragoman
from lab.forgeries import (CLIENT, FENCE, LISTENERS, NEXT, NEXT6, OPEN, OWN, OWN6, ROWS, open_up,
                           plain, shapes)
from lab.namespaces import Namespaces
from lab.neighbour import Neighbour


@contextlib.contextmanager
def without_guard(namespace):
    """As it would be if nobody had thought of it."""
    chain = nft.listing(namespace, "chain", "inet", "dragoman", "guard")
    nft.load(namespace, "flush chain inet dragoman guard")
    try:
        yield
    finally:
        nft.load(namespace, "flush chain inet dragoman guard\n" + chain)
    assert nft.listing(namespace, "chain", "inet", "dragoman", "guard") == chain


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    """One for all rows: .container with the rules, .neighbour, and its victim's .mac."""
    registry = tmp_path_factory.mktemp("registry") / "services.json"
    registry.write_text(json.dumps({"/services/web/a": f"{NEXT}:8080"}))
    with Namespaces() as namespaces:
        container, hosts = namespaces.new("container"), namespaces.new("hosts")
        namespaces.link(container, hosts)
        container.add_address(f"{OWN}/24", f"{OWN6}/64")
        hosts.add_address(f"{NEXT}/24", f"{NEXT6}/64")
        done = Dragoman(f"file://{registry}").reconcile(
            container, "WEB=web;80", "DNS=web;80/udp", "SEVEN=web;7002")
        assert done.code == 0, done
        open_up(container)
        with Neighbour(hosts, container, (), LISTENERS, FENCE) as neighbour:
            neighbour.attack()  # what the flows began with is read with it
            yield types.SimpleNamespace(container=container, neighbour=neighbour,
                                        mac=bytes.fromhex(neighbour.mac.replace(":", "")))


def arrived(stage, packets):
    """Who of the listeners got something, and how often."""
    return {name: count for name, count in stage.neighbour.attack(packets).items() if count}


@pytest.fixture(scope="module")
def outcomes(stage):
    """By row: what arrived while the guard stood, without its rules, and with them again."""
    def send_all():
        return {row.name: arrived(stage, row.build(stage.mac)) for row in ROWS}
    before = send_all()
    with without_guard(stage.container):
        without = send_all()
    again = send_all()
    return {row.name: (before[row.name], without[row.name], again[row.name]) for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_isolation_frame_never_arrives(outcomes, row):
    before, without, again = outcomes[row.name]
    assert before == {}
    assert without == ({row.listener: 1} if row.listener else {})
    assert again == {}


@pytest.mark.parametrize("shape", shapes(OWN, 7004))
def test_isolation_shape_is_well_formed(stage, shape):
    """To an address that is open it arrives, and the guard does not mind."""
    assert arrived(stage, shapes(OWN, 7004)[shape](stage.mac)) == {OPEN: 1}


def test_isolation_forged_reply_comes_to_its_own_flow_alone(stage):
    """Who knows the endpoint's address, and the ports, may answer in its place, as anywhere.

    One number that is not the flow's, and nothing comes.
    """
    def reply(source, from_port, to_port):
        return arrived(stage, plain(frames.ip(source, OWN, frames.udp(from_port, to_port)))(stage.mac))
    assert reply(NEXT, 8080, 5001) == {CLIENT: 1}
    assert reply(NEXT, 8081, 5001) == {}
    assert reply("10.77.0.200", 8080, 5001) == {}
    for port in (5002, 7000, 7001, 7003, 80):
        assert reply(NEXT, 8080, port) == {}
    stage.container.run("conntrack", "-D", "-p", "udp", "--orig-port-src", "5001")
    assert reply(NEXT, 8080, 5001) == {}
