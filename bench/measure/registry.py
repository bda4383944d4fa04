# SPDX-License-Identifier: MIT
"""A large registry: services read from etcd v3, and an agent's first sync with it, and
with a Consul, which is asked for one service after the other.

Beside it, as `raw`, one range of everything, whose answer is received and thrown
away: what etcd and the socket need of that time.
"""

import http.client
import json
import time

import keep
from lab.consul import Consul
from lab.etcd import encode
from lab.namespaces import Namespaces
from lab.releases import Releases
from measure.update import in_turn
from peers.netlink import PROGRAMS
from lab.processes import run as run_command
from stage import Stage
from state import ENDPOINT_PORT, State, address

SIZES = (State(10000, 1), State(10000, 10))
OF_CONSUL = State(1000, 10)
SYNC = "first sync, from the agent's start to ready"


def range_of_all(etcd):
    """Seconds, to the last byte."""
    connection = http.client.HTTPConnection("127.0.0.1", etcd.port, timeout=60)
    try:
        began = time.perf_counter()
        connection.request("POST", "/v3/kv/range", json.dumps(
            {"key": encode("/services/"), "range_end": encode("/services0")}))
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        return time.perf_counter() - began
    finally:
        connection.close()


def read(results, etcd, state, rounds):
    used = []

    def ours(_):
        told = json.loads(run_command(PROGRAMS / "registry", etcd.url, state.services, 1).stdout)
        assert told["documents"] == state.services * state.endpoints, told
        used.append(told["processor"][0] / 1e9)
        return told["read"][0] / 1e9

    measures = {"raw": lambda _: range_of_all(etcd), "ours": ours}
    for name, times in in_turn(list(measures), rounds,
                               lambda name, number: measures[name](number)).items():
        results.add("registry", f"read, {state.services:,} services", name, state.parameters,
                    times)
    results.add("registry", f"read, {state.services:,} services, processor time of the reader",
                "ours", state.parameters, used)


def first_sync(results, etcd, state, namespaces, rounds, what=SYNC):
    times = []
    for number in range(rounds):
        stage = Stage(namespaces, f"registry{state.endpoints}-{number}")
        with keep.agent(etcd, stage.container, state) as agent:
            times.append(keep.wait_until_ready(agent))
        stage.close()
        namespaces.delete(stage.container)
        namespaces.delete(stage.hosts)
    results.add("registry", what, "ours", state.parameters, times)


def consul(results, state, namespaces, rounds):
    with Releases() as releases, \
            Consul(releases.program("consul", "usr/bin/consul", 11)) as server:
        for service in range(state.services):
            for number in state.numbers(service):
                server.put(f"s{service}", f"s{service}-{number}", address(number), ENDPOINT_PORT)
        first_sync(results, server, state, namespaces, rounds, f"{SYNC}, with Consul")


def run(results):
    with Namespaces() as namespaces:
        for state in SIZES[:1] if results.quick else SIZES:
            with keep.registry(state) as etcd:
                read(results, etcd, state, 3 if results.quick else 9)
                first_sync(results, etcd, state, namespaces, 1 if results.quick else 3)
        consul(results, State(100, 10) if results.quick else OF_CONSUL, namespaces,
               1 if results.quick else 3)
