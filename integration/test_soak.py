# SPDX-License-Identifier: MIT
"""Containers, services, faults and kills at random, for as long as is asked for.

    make soak SECONDS=1800          (or DRAGOMAN_SOAK=1800)

In CI for a moment only. DRAGOMAN_SOAK_SEED repeats the dice of a run.
"""

import os
import random
import time

import pytest

from lab.agent import Agent
from lab.breakable import BreakableEngine
from lab.churn import Churn, cables, everything_is_let_go_of
from lab.faults import Faults
from lab.oracle import Oracle, settled
from lab.relay import Relay

pytestmark = pytest.mark.alone

SECONDS = float(os.environ.get("DRAGOMAN_SOAK", 10))
CONTAINERS = 24  # of one round
CALM = 1 / 3     # of the time, at the end, in which the agent is not killed
# What the agent's memory may be above the least of its first rounds.
GROWTH = 512 << 10


@pytest.fixture
def seed():
    seed = int(os.environ.get("DRAGOMAN_SOAK_SEED", random.randrange(1 << 32)))
    print(f"DRAGOMAN_SOAK_SEED={seed}")
    return seed


@pytest.fixture
def registry(etcd):
    with Relay(etcd.address) as relay:
        relay.url = f"etcd://{relay.address}"
        yield relay


@pytest.fixture
def engine(docker):
    with BreakableEngine(docker.socket) as relay:
        yield relay


def test_soak_ends_exact_and_gives_everything_back(docker, etcd, registry, engine, namespaces,
                                                   seed):
    oracle, ends = Oracle(docker, etcd), namespaces.new("ends")
    started, rounds, calm_memory, befell = time.monotonic(), 0, [], {}
    with Agent("--docker", engine.url, "--resync", "10", registry=registry.url) as agent, \
            Churn(docker, etcd, ends, seed=seed) as churn:
        open_first = agent.descriptor_kinds()
        while (passed := time.monotonic() - started) < SECONDS or not calm_memory:
            rounds += 1
            kills = passed < SECONDS * (1 - CALM)
            faults = Faults(agent, registry, engine, etcd, docker, f"{seed} {rounds}", kills)
            faults.during(lambda: churn.start_containers(CONTAINERS))
            settled(oracle, agent, deadline=60)
            assert cables(ends), "no namespace is tied to us: its end would not be seen"
            churn.remove_all()
            everything_is_let_go_of(agent, ends, open_first)
            for name, count in faults.count.items():
                befell[name] = befell.get(name, 0) + count
            if not kills:
                calm_memory.append(agent.private_dirty())
            print(f"{passed:.0f} s, round {rounds}: {churn.started} containers, "
                  f"{churn.changes} changes, {agent.private_dirty() >> 10} KiB", flush=True)
        assert agent.metric('errors_total{class="fatal"}') == 0
    print(f"{rounds} rounds, {churn.started} containers, {churn.changes} changes of services; "
          f"{befell}; memory {[each >> 10 for each in calm_memory]} KiB")
    assert calm_memory[-1] - min(calm_memory[:3]) <= GROWTH, calm_memory
