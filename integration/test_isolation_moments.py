# SPDX-License-Identifier: MIT
"""No frame gets in at any moment: the guard stands before localhost opens, and goes after it.

What changes the kernel are two system calls. Each time one of them is about to
be made, the program is killed, and what it leaves is attacked with all that
lab/forgeries.py has; so everything that ever stands is looked at. By hand it
may be killed at others as well: DRAGOMAN_KILL_AT=sendto,pwrite64,close,mmap.
"""

import http.client
import json
import os
import signal

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM, Dragoman
from lab.forgeries import FENCE, NEXT, STANDING, everything, open_up
from lab.neighbour import Neighbour, mac_address
from lab.processes import Process, run
from lab.waiting import wait_until

CALLS = os.environ.get("DRAGOMAN_KILL_AT", "sendto,pwrite64").split(",")
# Beside it nothing can be traced.
UNWATCHED = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
DESCRIPTORS = ("-b", "WEB=web;80", "-b", "DNS=web;80/udp")
# Whether the guard stands, and whether localhost is open.
CLEAN, GUARDED, READY, OPEN = (False, False), (True, False), (True, True), (False, True)


@pytest.fixture
def registry(tmp_path):
    path = tmp_path / "services.json"
    path.write_text(json.dumps({"/services/web/a": f"{NEXT}:8080"}))
    return f"file://{path}"


@pytest.fixture
def dragoman(registry):
    return Dragoman(registry)


@pytest.fixture
def neighbour(container, hosts):
    open_up(container)
    mac = bytes.fromhex(mac_address(container, "eth0").replace(":", ""))
    with Neighbour(hosts, container, everything(mac), STANDING, FENCE) as made:
        yield made


def get_in(neighbour):
    return {name: count for name, count in neighbour.attack().items() if count}


def look(container):
    """All that stands in it, as one text."""
    text = container.run("sh", "-c", "nft -n list ruleset && ip -6 route show table local &&"
                         " sysctl net.ipv4.conf.all.route_localnet").stdout
    return "\n".join(sorted(text.splitlines()))


def state(text):
    """Of what look() saw: whether the guard stands, and whether localhost is open."""
    return 'iifname != "lo" ip daddr 127.0.0.0/8 drop' in text, "route_localnet = 1" in text


def killer(call, number):
    """Kills what it traces when that is about to make the NUMBERth call of that name."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
            "-e", f"inject={call}:signal=KILL:when={number}"]


class Killings:
    """Each call in turn: killed at the first, at the second, until one comes through.

    for kill in Killings(): run something by kill.strace, and kill.tell(its exit status).
    """

    def __init__(self):
        self._survived = False

    def __iter__(self):
        for call in CALLS:
            number, self._survived = 0, False
            while not self._survived:
                number += 1
                self.strace, self.at = killer(call, number), (call, number)
                yield self
            print(f"killed at each {call}, {number - 1} times")

    def tell(self, code):
        assert code in (0, -signal.SIGKILL), (self.at, code)
        self._survived = code == 0


def one_shots_killed(dragoman, *words):
    """Runs the command again and again, killed somewhere else each time; yields where."""
    for kill in Killings():
        done = run(*kill.strace, "-D", PROGRAM, *words, check=False,
                   env={**dragoman.environment, **UNWATCHED})
        kill.tell(done.returncode)
        yield kill.at


def attack_wherever_killed(container, neighbour, dragoman, words, again):
    """Attacks whatever stands then; again() brings back what stood before. All states seen."""
    seen, before = set(), look(container)
    for at in one_shots_killed(dragoman, *words):
        found = look(container)
        seen.add(state(found))
        assert get_in(neighbour) == {}, at
        if found != before:
            again()
            assert look(container) == before, at
    return seen


def test_isolation_holds_wherever_reconcile_is_killed(container, dragoman, neighbour):
    def again():
        assert dragoman.flush(container).code == 0
    assert attack_wherever_killed(
        container, neighbour, dragoman, ["reconcile", "--netns", container, *DESCRIPTORS],
        again) == {CLEAN, GUARDED, READY}


def test_isolation_holds_wherever_flush_is_killed(container, dragoman, neighbour):
    def again():
        assert dragoman("reconcile", "--netns", container, *DESCRIPTORS).code == 0
    again()
    assert attack_wherever_killed(container, neighbour, dragoman, ["flush", "--netns", container],
                                  again) == {CLEAN, GUARDED, READY}


def test_isolation_holds_wherever_a_replaced_table_is_killed(container, dragoman, neighbour):
    """One that cannot be mended: the guard that goes and the one that comes are one transaction."""
    words = ["reconcile", "--netns", container, *DESCRIPTORS]

    def again():
        assert dragoman(*words).code == 0
        nft.load(container, "delete chain inet dragoman unavailable\nadd chain inet dragoman "
                 "unavailable { type filter hook input priority 0; }")
    again()
    assert attack_wherever_killed(container, neighbour, dragoman, words, again) == {READY}


def test_isolation_holds_wherever_a_starting_agent_is_killed(container, registry, neighbour,
                                                             dragoman):
    seen = set()
    for kill in Killings():
        with Agent("--netns", container, *DESCRIPTORS, registry=registry, env=UNWATCHED,
                   ready=False, command=[*kill.strace, "-D", PROGRAM]) as agent:
            wait_until(lambda: agent.has_ended() or is_ready(agent), deadline=30,
                       what="the agent to be killed or ready")
            kill.tell(agent.wait() if agent.has_ended() else 0)
            agent.kill()
        seen.add(state(look(container)))
        assert get_in(neighbour) == {}, kill.at
        assert dragoman.flush(container).code == 0
    assert seen == {CLEAN, GUARDED, READY}


def is_ready(agent):
    try:
        return agent.get("/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_isolation_holds_wherever_an_ending_agent_is_killed(container, registry, neighbour):
    """With --flush-on-exit; the next one takes over what the last one left."""
    seen = set()
    for kill in Killings():
        with Agent("--netns", container, *DESCRIPTORS, "--flush-on-exit", registry=registry,
                   env=UNWATCHED) as agent:
            assert state(look(container)) == READY
            with Process(*kill.strace, "-p", agent.pid) as strace:
                wait_until(lambda: is_traced(agent.pid), what="strace to be there")
                agent.send(signal.SIGTERM)
                kill.tell(agent.wait())
                strace.wait()
        seen.add(state(look(container)))
        assert get_in(neighbour) == {}, kill.at
    assert seen == {CLEAN, GUARDED, READY}


def is_traced(pid):
    with open(f"/proc/{pid}/status") as status:
        return any(line.startswith("TracerPid:") and int(line.split()[1]) for line in status)


def test_isolation_holds_while_agents_come_and_go(container, registry, neighbour):
    """A storm of all that a neighbour has, over agents that flush when they end."""
    neighbour.start_storm()
    for _ in range(5):
        with Agent("--netns", container, *DESCRIPTORS, "--flush-on-exit", registry=registry):
            pass
        assert state(look(container)) == CLEAN
    sent, arrived = neighbour.end_storm()
    assert sent > 1000
    assert {name: count for name, count in arrived.items() if count} == {}


def test_isolation_is_open_while_nobody_mends_a_flushed_ruleset(container, registry, dragoman,
                                                                neighbour):
    """What remains, see SECURITY.md: the sysctl outlives the table. An agent ends that, and so
    does flush.
    """
    assert dragoman("reconcile", "--netns", container, *DESCRIPTORS).code == 0
    nft.load(container, "flush ruleset")
    assert state(look(container)) == OPEN
    assert get_in(neighbour)
    with Agent("--netns", container, *DESCRIPTORS, registry=registry):
        neighbour.attack()  # connections that had begun
        assert get_in(neighbour) == {}
        nft.load(container, "flush ruleset")
        wait_until(lambda: state(look(container)) == READY, what="the agent to mend it")
        neighbour.attack()
        assert get_in(neighbour) == {}
    nft.load(container, "flush ruleset")
    assert dragoman.flush(container).code == 0
    assert state(look(container)) == CLEAN
    neighbour.attack()
    assert get_in(neighbour) == {}


def test_isolation_flush_says_where_it_cannot_know(namespaces, dragoman):
    """What remains, too: without IPv6 there is no route to tell that the sysctl was our doing."""
    container = namespaces.new("container", ipv6=False)
    assert dragoman("reconcile", "--netns", container, *DESCRIPTORS).code == 0
    nft.load(container, "flush ruleset")
    done = dragoman.flush(container)
    assert done.code == 0, done
    assert "route_localnet is 1, and nothing tells whose doing that is" in done.stderr
    assert state(look(container)) == OPEN
