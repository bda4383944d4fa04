# SPDX-License-Identifier: MIT
"""Killed at any instant: what stands is whole, old or new, and the next start needs no care.

DRAGOMAN_KILLS is how often the agent of a changing host is killed,
DRAGOMAN_KILLS_SEED repeats the dice of a run that failed (it is printed).
DRAGOMAN_KILL_EVERY is 1 for a kill before every system call that changes
anything in a namespace, N for every Nth of them.
"""

import itertools
import os
import random
import signal
import time

import pytest

from lab import crowd, nft, oracle
from lab.agent import Agent
from lab.command import PROGRAM, Dragoman, Result
from lab.crashing import Host, check_half_done
from lab.processes import run
from lab.waiting import wait_until

KILLS = int(os.environ.get("DRAGOMAN_KILLS", 26))
EVERY = int(os.environ.get("DRAGOMAN_KILL_EVERY", 3))
# What changes something in a namespace goes through one of these.
CALLS = "sendto,sendmsg,pwrite64"
# The leak detector cannot do its work beside strace.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0"}


def killed_at(number):
    """Words that run the program, and kill it before the Nth of those calls."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={CALLS}",
            "-e", f"inject={CALLS}:signal=SIGKILL:when={number}", PROGRAM]


def test_crash_agent_killed_at_any_instant_leaves_whole_tables_and_clients_see_nothing(
        etcd, namespaces):
    seed = int(os.environ.get("DRAGOMAN_KILLS_SEED", random.randrange(1 << 32)))
    print(f"DRAGOMAN_KILLS_SEED={seed}")
    dice, host = random.Random(seed), Host(namespaces, etcd, seed)
    started = time.monotonic()
    with Agent(*host.targets, registry=etcd.url) as agent:
        host.begin()
        duration, kills = 0.05, 0
        while kills < KILLS:
            # One that follows the registry...
            time.sleep(dice.uniform(0, 0.05))
            agent.kill()
            host.check()
            # ...and one that is still beginning.
            agent.start(ready=False)
            time.sleep(dice.uniform(0, 1.2 * duration))
            agent.kill()
            host.check()
            kills += 2
            before = time.monotonic()
            agent.start()
            duration = min(duration, time.monotonic() - before)
            with host.paused():
                host.wait_until_exact()
    told = host.end()
    print(f"{kills} kills and {host.states} states in {time.monotonic() - started:.0f} s; a start "
          f"takes {duration * 1000:.0f} ms; {'; '.join(map(str, told))}")
    for each in told:
        assert each.failures == {} and each.strangers == 0 and each.asked > 0


def test_crash_tests_would_see_a_table_that_is_not_whole(etcd, namespaces):
    """The instrument."""
    host = Host(namespaces, etcd, 1, size=1)
    place = host.places[0]
    with Agent(*host.targets, registry=etcd.url) as agent:
        host.wait_until_exact()
        agent.kill()
        host.check()
        slot = nft.slots(place.namespace)[-1]
        listen, _, port = slot.listen.partition("/")[0].rpartition(":")
        key = f"{listen.strip('[]')} . tcp . {port} . {slot.number}"
        name = f"endpoints{6 if ':' in listen else 4}"
        place.namespace.run("nft", "delete", "element", "inet", "dragoman", name, f"{{ {key} }}")
        with pytest.raises(AssertionError):
            host.check()
        agent.start()
        host.wait_until_exact()
    host.services[0].states[-1]["/services/s0/0"] = crowd.document(65535)
    with pytest.raises(AssertionError):
        host.check()


# One thing at a time

BACKENDS = ("-b", "WEB=web;80", "-b", "SIX=six;81", "-b", "NONE=nobody;82")


@pytest.fixture
def services(etcd):
    for number in (1, 2, 3):
        etcd.put(f"/services/web/{number}", crowd.document(number, weight=number))
    etcd.endpoint("/services/six/a", "fd64::1", 7000)
    return etcd


@pytest.fixture
def wanted(services):
    """What has to stand."""
    found = oracle.rules_of([oracle.parse_descriptor(each) for each in ("web;80", "six;81",
                                                                       "nobody;82")],
                            oracle.Oracle(None, services).documents())
    assert len(found.shares) == 2 and len(found.unavailable) == 4
    return found


def instants():
    """From one on that differs from run to run."""
    return itertools.count(random.randrange(1, EVERY + 1), EVERY)


@pytest.mark.parametrize("before", ("0", "1"), ids=("closed", "open"))
def test_crash_commands_killed_at_any_system_call_leave_all_or_nothing(services, container, wanted,
                                                                       before):
    """reconcile in a namespace that was never touched, and then flush."""
    dragoman, kills = Dragoman(services.url), {"reconcile": 0, "flush": 0}
    container.sysctl("net.ipv4.conf.all.route_localnet", before)
    clean = nft.traces(container)

    def cut_off(number, verb, *words):
        command = [*killed_at(number), verb, "--netns", container, *words]
        done = run(*command, check=False, env={**dragoman.environment, **ENVIRONMENT})
        assert done.returncode in (0, -signal.SIGKILL, 128 + signal.SIGKILL), Result(
            list(map(str, command)), done)
        if before == "0":
            check_half_done(container, wanted)
        kills[verb] += done.returncode != 0
        return done.returncode != 0

    for number in instants():
        if not cut_off(number, "reconcile", *BACKENDS):
            break
        assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
        assert oracle.rules_standing(container.path) == wanted
        assert dragoman.flush(container).code == 0
        assert nft.traces(container) == clean
    for number in instants():
        assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
        if not cut_off(number, "flush"):
            break
        assert dragoman.flush(container).code == 0
        assert nft.traces(container) == clean
    print(kills)
    assert min(kills.values()) >= 6 // EVERY


def test_crash_agent_killed_at_any_system_call_of_its_beginning_and_end(services, laboratory,
                                                                        wanted):
    """Two namespaces that were never touched, --flush-on-exit, and a start that needs no care."""
    places = [laboratory.container, laboratory.namespaces.new("other")]
    clean = [nft.traces(each) for each in places]
    targets = [word for each in places for word in ("--netns", each)]

    def ended(agent):
        return agent.ended() is not None

    moments = {"beginning": 0, "end": 0}
    for instant in instants():
        with Agent(*BACKENDS, *targets, "--flush-on-exit", registry=services.url,
                   env=ENVIRONMENT, command=killed_at(instant), ready=False) as agent:
            moment = "beginning"
            wait_until(lambda: ended(agent) or agent.answers(), 30, what="it to begin, or to end")
            if not ended(agent):
                moment = "end"
                os.kill(agent.program_pid, signal.SIGTERM)
                wait_until(lambda: ended(agent), 30, what="its end")
            for each in places:
                check_half_done(each, wanted)
            if agent.ended() == 0:
                break
            assert agent.ended() in (-signal.SIGKILL, 128 + signal.SIGKILL), agent.log
            moments[moment] += 1
            agent.start(command=(PROGRAM,))
            for each in places:
                assert oracle.rules_standing(each.path) == wanted
            agent.end()
            assert [nft.traces(each) for each in places] == clean
    print(moments)
    assert [nft.traces(each) for each in places] == clean
    assert min(moments.values()) >= 12 // EVERY
