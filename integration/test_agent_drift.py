# SPDX-License-Identifier: MIT
"""Somebody else's hand in a watched namespace: how soon the rules are whole, and what a
fight costs. The damage is done, and the time taken, by drift.c.
"""

import contextlib
import json
import os
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.probes import probe
from lab.traffic import serve
from lab.waiting import wait_until

# At least 200, of each sort as many; more by hand.
TRIALS = int(os.environ.get("DRAGOMAN_DRIFT_TRIALS", "200"))
SORTS = ("flush-ruleset", "delete-table", "delete-element", "delete-slot", "flush-chain")
ENDPOINT = "10.77.0.1:8080"
FIRST_PORT = 8000
MOST_US = 50_000


@pytest.fixture
def run(etcd):
    """run("--netns", web): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, registry=etcd.url, **options))
        yield start


@pytest.fixture
def web(container, hosts):
    """A container, and one endpoint that answers."""
    serve(hosts, f"{ENDPOINT}/tcp")
    return container


def register(etcd, services, endpoints):
    """s0 has the one endpoint that answers; the others as many as asked for."""
    address, _, port = ENDPOINT.partition(":")
    etcd.endpoint("/services/s0/0", address, port)
    etcd.put_many((f"/services/s{service}/{number}",
                   {"ipaddress": f"10.77.{number}.{service % 250 + 1}", "host_port": "7000"})
                  for service in range(1, services) for number in range(endpoints))


def descriptors(folder, services):
    env = folder / "env"
    env.write_text("".join(f"BACKEND_S{number}=s{number};{FIRST_PORT + number}\n"
                           for number in range(services)))
    return "--env-file", env


def mend(namespace, agent, trials, pause_us):
    done = namespace.run(probe("drift"), "mend", agent.pid, FIRST_PORT, trials, pause_us,
                         timeout=300)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == trials
    return found


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def told(what, found):
    """One line for each sort of damage; the worst trial as it was."""
    for sort in (*SORTS, None):
        times = [each["whole"] for each in found if sort in (None, each["damage"])]
        print(f"{what}, {sort or 'all'}: {len(times)} trials, p50 {percentile(times, 0.5)} us, "
              f"p99 {percentile(times, 0.99)} us, max {max(times)} us")
    worst = max(found, key=lambda each: each["whole"])
    print(f"{what}: the worst: {worst}")
    return worst


@pytest.mark.parametrize("pause_us", (0, 20_000), ids=("without-a-pause", "one-in-20-ms"))
def test_drift_is_put_right_within_fifty_milliseconds(etcd, run, web, tmp_path, pause_us):
    """Without a pause there is a repair in ten milliseconds, and that is within it."""
    register(etcd, 10, 10)
    agent = run("--netns", web, *descriptors(tmp_path, 10))
    before, repairs = nft.whole(web), agent.metric("drift_repairs_total")
    worst = told("10 services", mend(web, agent, TRIALS, pause_us))
    assert worst["whole"] <= MOST_US, worst
    wait_until(lambda: agent.metric("drift_repairs_total") == repairs + TRIALS,
               what=f"{TRIALS} repairs to be counted")
    assert nft.whole(web) == before


def test_drift_of_a_large_table_is_put_right(etcd, run, web, tmp_path):
    """Each trial may write ten thousand endpoints anew."""
    register(etcd, 1000, 10)
    agent = run("--netns", web, *descriptors(tmp_path, 1000))
    before, repairs = nft.whole(web), agent.metric("drift_repairs_total")
    trials = 4 * len(SORTS)
    told("1,000 services", mend(web, agent, trials, 0))
    wait_until(lambda: agent.metric("drift_repairs_total") == repairs + trials,
               what=f"{trials} repairs to be counted")
    wait_until(lambda: nft.whole(web) == before, what="rules to be whole")
