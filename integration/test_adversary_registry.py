# SPDX-License-Identifier: MIT
"""The registry's network as an adversary: members that end, hang or are cut off from each other.

Three members, each in a namespace of its own (lab/network.py). In every case no endpoint
goes that the registry did not remove, none that it removed stays once it is back, and the
agent's log and metrics tell what happened. A member that hangs is test_agent_faults.py's.
DRAGOMAN_EVERY_CASE=1 also cuts off a member that leads.
"""

import contextlib
import os

import pytest

from lab import crowd, nft
from lab.crowd import document
from lab.events import Events
from lab.network import Network
from lab.waiting import wait_until

WEB = f"{crowd.LISTEN}/tcp"


@pytest.fixture(scope="module")
def healthy():
    with Network() as made:
        yield made


@pytest.fixture
def network(healthy):
    """Whole at the beginning; endpoint 1 is registered."""
    healthy.heal()
    healthy.any().delete_below("/")
    healthy.write({"/services/web/1": document(1)})
    return healthy


@pytest.fixture
def run(network):
    """run(namespace, first=member): an agent that keeps it."""
    with contextlib.ExitStack() as stack:
        def start(namespace, *arguments, **options):
            agent = stack.enter_context(network.run(
                "--netns", namespace, "-b", "WEB=web;80", *arguments, **options))
            wait_until(lambda: state_of(agent) == "live" and held(namespace) == {1},
                       what="the agent to follow")
            return agent
        yield start


def held(namespace):
    return {crowd.number_of(slot.endpoint) for slot in nft.slots(namespace, WEB)}


def wait_for(namespace, *numbers, deadline=40):
    wait_until(lambda: held(namespace) == set(numbers), deadline, what=f"endpoints {numbers}")


def state_of(agent):
    return agent.status()["registry"]["state"]


def wait_for_state(agent, state):
    wait_until(lambda: state_of(agent) == state, 40, what=f"the registry to be {state}")


def register(network, *numbers, without=()):
    network.write({f"/services/web/{number}": document(number) for number in numbers},
                  [f"/services/web/{number}" for number in without])


def test_adversary_leader_killed_loses_and_adds_nothing(network, run, laboratory):
    """One agent was watching the leader, another one a member that is left."""
    leader = network.leader()
    other = next(member for member in network.members if member is not leader)
    there, here = laboratory.container, laboratory.namespaces.new("other")
    agents = [run(there, first=leader), run(here, first=other)]
    events = [Events(there), Events(here)]
    leader.stop()
    wait_until(lambda: "what is known stays" in agents[0].log, what="the loss to be told")
    assert [each.heard() for each in events] == [{}, {}]
    register(network, 2, 3, without=[1])
    for namespace in (there, here):
        wait_for(namespace, 2, 3)
    network.heal()
    register(network, 4, without=[3])
    for namespace in (there, here):
        wait_for(namespace, 2, 4)
    # Nobody had to read anew: all of it came by watches.
    assert [agent.metric("registry_reads_total") for agent in agents] == [1, 1]
    assert agents[0].metric("watch_reconnects_total") >= 1
    assert agents[0].metrics()['dragoman_errors_total{class="transient"}'] >= 1


@pytest.mark.parametrize("which", ["a follower"] + ["the leader"] * bool(
    os.environ.get("DRAGOMAN_EVERY_CASE")))
def test_adversary_watch_on_the_minority_side_is_left_for_the_majority(network, run, container,
                                                                       which):
    """Clients reach every member, and the one that is watched would go on serving what it
    knows: it is cut off from the others, and does not say so of its own accord."""
    leader = network.leader()
    watched = leader if which == "the leader" else next(
        member for member in network.members if member is not leader)
    agent = run(container, first=watched)
    assert network.in_use() is watched
    watched.part()
    register(network, 2, without=[1])
    wait_for(container, 2)
    assert network.in_use() is not watched
    assert "no leader" in agent.log
    assert agent.metric("watch_reconnects_total") >= 1
    assert agent.metric("registry_reads_total") == 1
    watched.join()
    register(network, 3)
    wait_for(container, 2, 3)


def test_adversary_poll_on_the_minority_side_is_left_at_the_resync(network, container):
    """Of v2: nothing in its answers tells, but a read of it needs a majority."""
    network.write_v2("/services/web/1", document(1))
    with network.run("--netns", container, "-b", "WEB=web;80", "--resync", "2", "--timeout", "2",
                     api="etcd2") as agent:
        wait_for(container, 1)
        wait_until(network.members[0].polls, what="a poll")
        network.members[0].part()
        network.write_v2("/services/web/1", document(2))
        wait_for(container, 2)
        wait_until(lambda: any(member.polls() for member in network.members[1:]),
                   what="a poll at the majority")
        network.write_v2("/services/web/1", document(3))
        wait_for(container, 3)
        agent.end()


def test_adversary_majority_lost_holds_what_is_known(network, run, container):
    """No member has a leader; each of them answers clients that it has none."""
    agent = run(container, "--resync", "1")
    events = Events(container)
    for member in network.members[1:]:
        member.part()
    wait_for_state(agent, "lost")
    wait_until(lambda: agent.metric("services_held") == 1, 40, what="the service to be held")
    assert "no leader" in agent.log and agent.metric("registry_connected") == 0
    (backend,) = agent.namespace(container.inode)["backends"]
    assert backend["state"] == "held" and backend["reason"]
    assert events.heard() == {}
    network.heal()
    register(network, 2, without=[1])
    wait_for(container, 2)
    wait_for_state(agent, "live")
    wait_until(lambda: agent.metric("services_held") == 0, 40, what="the service to be known")


def test_adversary_agent_on_the_minority_side_holds_what_is_known(network, run, container):
    """It reaches one member only, which the others do not reach; they go on without both."""
    alone, *others = network.members
    agent = run(container, "--resync", "1", first=alone)
    events = Events(container)
    alone.part()
    for member in others:
        member.leave()
    register(network, 2, without=[1])
    wait_for_state(agent, "lost")
    wait_until(lambda: agent.metric("services_held") == 1, 40, what="the service to be held")
    assert events.heard() == {}
    network.heal()
    wait_for(container, 2)
    wait_for_state(agent, "live")
