# SPDX-License-Identifier: MIT
"""Traffic through the rules while the registry changes without a pause.

No byte of it passes through the agent; a change of the rules must not cost a
connection. DRAGOMAN_CHANGES and DRAGOMAN_MEASURED are how many changes there are.
"""

import contextlib
import os
import random
import statistics
import time

import pytest

from lab import crowd, nft
from lab.agent import Agent
from lab.crowd import Crowd
from lab.events import Arrivals
from lab.waiting import wait_until
from lab.writers import Beat, Churn, Connection

pytestmark = pytest.mark.alone

CHANGES = int(os.environ.get("DRAGOMAN_CHANGES", "10000"))
MEASURED = int(os.environ.get("DRAGOMAN_MEASURED", "200"))
SECOND = 10**9


@pytest.fixture
def run(etcd):
    """run("--netns", web): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments):
            return stack.enter_context(Agent(*arguments, registry=etcd.url))
        yield start


def held(namespace, protocol):
    """The numbers of the endpoints that the kernel holds."""
    return {crowd.number_of(slot.endpoint)
            for slot in nft.slots(namespace, f"{crowd.LISTEN}/{protocol}")}


def percentiles(times):
    """p50, p99 and the largest, of nanoseconds, in milliseconds."""
    ordered = sorted(times)
    return " / ".join(f"{ordered[min(len(ordered) * part // 100, len(ordered) - 1)] / 1e6:.2f}"
                      for part in (50, 99, 100))


@pytest.mark.parametrize("protocol", ("tcp", "udp"))
def test_agent_changes_ten_thousand_times_without_a_failed_connection(
        etcd, run, container, hosts, protocol):
    seed = random.randrange(10**9)
    print(f"seed {seed}")
    churn = Churn(etcd, "/services/web", CHANGES, seed)
    agent = run("--netns", container, "-b", f"WEB=web;80/{protocol}")
    before, cpu = agent.metrics(), agent.cpu_seconds()
    clients = Crowd(container, hosts, protocol)
    clients.begin()
    churn.run()
    wait_until(lambda: held(container, protocol) == churn.standing, 30,
               what="the rules to be what the registry holds")
    told = clients.end()
    after = agent.metrics()
    commits = after["dragoman_commits_total"] - before["dragoman_commits_total"]
    late = [told.seen[number].last - life.removed for number, life in churn.lives.items()
            if number in told.seen and life.removed]
    print(f"{churn.changes} changes in {churn.seconds:.1f} s, "
          f"{churn.changes / churn.seconds:.0f} a second, {commits:.0f} commits, "
          f"{agent.cpu_seconds() - cpu:.1f} s of the agent's CPU\n{told}\n"
          f"a removed endpoint's last connection, after the acknowledgement: "
          f"{percentiles(late)} ms (p50 / p99 / max)")
    assert told.failures == {} and told.strangers == 0
    assert churn.changes >= CHANGES and commits >= CHANGES / 10
    assert after["dragoman_registry_events_total"] >= CHANGES / 2
    # Who answered, was named when the connection was made, or a moment ago.
    assert set(told.seen) <= set(churn.lives)
    assert all(told.seen[number].first_answered >= churn.lives[number].named
               for number in told.seen)
    assert max(late) < 2 * SECOND


def test_agent_follows_an_acknowledged_put_at_once(etcd, run, container, hosts):
    """Fifty changes a second, if the machine can do it."""
    with Connection(etcd) as registry:
        registry.put("/services/web/a", crowd.document(1))
        run("--netns", container, "-b", "WEB=web;80")
        arrivals, clients = Arrivals(container), Crowd(container, hosts, "tcp", rate=5000)
        clients.begin()
        acknowledged, committed = {}, {}
        beat = Beat(0.02)
        for number in range(2, MEASURED + 2):
            beat.wait()
            registry.put("/services/web/a", crowd.document(number))
            acknowledged[number] = time.monotonic_ns()
            committed[number] = arrivals.wait_for(crowd.address(number))
        wait_until(lambda: held(container, "tcp") == {MEASURED + 1}, what="the last of them")
        told = clients.end()
    to_commit = [committed[number] - acknowledged[number] for number in acknowledged]
    to_connection = [told.seen[number].first_answered - acknowledged[number]
                     for number in acknowledged if number in told.seen]
    print(f"{told}\nfrom the acknowledgement of a put, p50 / p99 / max in milliseconds:\n"
          f"to the commit {percentiles(to_commit)}\n"
          f"to the answer of the first connection there {percentiles(to_connection)}, "
          f"of {len(to_connection)}")
    assert told.failures == {}
    assert len(to_connection) > MEASURED / 2
    # Polling would be slower; a busy machine is not.
    assert statistics.median(to_commit) < SECOND / 10
