# SPDX-License-Identifier: MIT
"""Several at once in one namespace, and one that is killed: never a mixture."""

import fcntl
import json
import pathlib
import random
import re
import time

import pytest

from lab import nft
from lab.command import Dragoman
from lab.processes import python
from lab.race import Runner, race, spend, table

EDITOR = pathlib.Path(__file__).parent / "lab" / "edit.py"
GAVE_UP = re.compile(r"conflict: .*(\d+) times.*gave up|conflict: .* gave up after \d+ tries")


def services(letter, ports, endpoints):
    """A registry of services of so many endpoints each, and their descriptors."""
    keys, variables = {}, []
    for number, port in enumerate(ports):
        name = f"{letter}{number}"
        variables.append(f"BACKEND_{name.upper()}={name};{port}")
        for each in range(endpoints):
            keys[f"/services/{name}/{each}"] = f"10.{ord(letter)}.{number % 200}.{each + 1}:80"
    return keys, variables


class State:
    """A desired state: how to ask for it, and what it looks like."""

    def __init__(self, folder, name, variables):
        self.name, self.file = name, folder / f"{name}.env"
        self.file.write_text("\n".join(variables) + "\n")

    def arguments(self, namespace, *more):
        return ["reconcile", "--netns", namespace, "--env-file", self.file, *more]

    def learn(self, namespaces, dragoman):
        """By reconciling it where nobody disturbs."""
        namespace = namespaces.new(f"only-{self.name}")
        result = dragoman(*self.arguments(namespace))
        assert result.code == 0, result
        self.table = table(namespace)
        assert self.table["endpoints"]["endpoints4"]
        return self


class States:
    """Two that share some ports and differ in them, of services, families and numbers."""

    def __init__(self, folder, namespaces, count=20):
        keys_a, variables_a = services("a", range(8000, 8000 + count), 3)
        keys_b, variables_b = services("b", range(8000 + count // 2, 8000 + count // 2 + count), 2)
        keys_b["/services/b1/six"] = "[fd77::1]:80"
        registry = folder / "registry.json"
        registry.write_text(json.dumps({**keys_a, **keys_b}))
        # A file is read in the same time by both, so that they meet in the kernel.
        self.dragoman = Dragoman(f"file://{registry}")
        self.a = State(folder, "a", [*variables_a, "BACKEND_NONE=none;9000/udp"])
        self.b = State(folder, "b", variables_b)
        for state in (self.a, self.b):
            state.learn(namespaces, self.dragoman)

    def which(self, found):
        """The state that a table is exactly, or None."""
        return next((state for state in (self.a, self.b) if state.table == found), None)

    def run(self, verb, *arguments):
        return Runner(self.dragoman, verb, "--log-level", "debug", *arguments)


@pytest.fixture
def states(tmp_path, namespaces):
    return States(tmp_path, namespaces)


def conflicts(runner):
    """How often it met another: found the lock taken, or the generation moved on."""
    return len(re.findall(r"^dragoman: (?:try \d+: |.*: waiting for another)", runner.text,
                          re.MULTILINE))


def assert_clean_end(runner, code):
    assert code == 0 or (code == 1 and GAVE_UP.search(runner.text)), f"{code}\n{runner.text}"


def test_concurrency_two_reconciles_end_in_one_of_two_states(states, container):
    """A hundred times: from one of the two, or, each fourth time, from nothing."""
    met, won = 0, {"a": 0, "b": 0}
    clean = nft.traces(container)
    for turn in range(100):
        if turn % 4 == 0:
            assert states.dragoman.flush(container).code == 0
            assert nft.traces(container) == clean
        with states.run(*states.a.arguments(container)) as one, \
                states.run(*states.b.arguments(container)) as other:
            runners = (one, other) if turn % 2 else (other, one)
            codes = race(*runners)
            for runner, code in zip(runners, codes):
                assert_clean_end(runner, code)
            assert 0 in codes
            met += conflicts(one) + conflicts(other)
        state = states.which(table(container))
        assert state, f"turn {turn}: {nft.listing(container)}"
        won[state.name] += 1
        # The program agrees, of the rest too: route_localnet, and routes to ::1.
        assert states.dragoman("plan", *state.arguments(container)[1:]).code == 0
    print(f"{met} conflicts; ended in {won}")
    assert met > 0, "they never met"


def test_concurrency_reconcile_against_flush_leaves_all_or_nothing(states, container):
    clean = nft.traces(container)
    met, ends = 0, {"reconciled": 0, "flushed": 0}
    for turn in range(60):
        with states.run(*states.a.arguments(container)) as one, \
                states.run("flush", "--netns", container) as other:
            runners = (one, other) if turn % 2 else (other, one)
            for runner, code in zip(runners, race(*runners)):
                assert_clean_end(runner, code)
            met += conflicts(one) + conflicts(other)
            said = one.text + other.text
        if table(container) is None:
            assert nft.traces(container) == clean, f"turn {turn}\n{said}"
            ends["flushed"] += 1
        else:
            assert states.which(table(container)) is states.a, f"turn {turn}\n{said}"
            plan = states.dragoman("plan", *states.a.arguments(container)[1:])
            assert plan.code == 0, f"turn {turn}\n{said}{plan}"
            ends["reconciled"] += 1
    print(f"{met} conflicts; {ends}")
    assert met > 0, "they never met"


def test_concurrency_lock_that_somebody_keeps_delays_but_does_not_forbid(states, container):
    """Any process in the namespace can take it."""
    with container.path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        plan = states.dragoman("plan", *states.a.arguments(container)[1:])
        assert plan.code == 3 and "lock" not in plan.stderr
        result = states.dragoman(*states.a.arguments(container, "--timeout", 2))
    assert result.code == 0 and "going on without the namespace's lock" in result.stderr
    assert states.which(table(container)) is states.a
    again = states.dragoman(*states.b.arguments(container))
    assert again.code == 0 and "lock" not in again.stderr


def test_concurrency_reconcile_while_somebody_edits_another_table(tmp_path, namespaces, container):
    """Each transaction of anybody moves the generation on: here, thousands a second."""
    states = States(tmp_path, namespaces, count=100)
    editor = container.start(*python(EDITOR))
    met = done = edits = 0
    for turn in range(30):
        state = (states.a, states.b)[turn % 2]
        before = states.which(table(container))
        with states.run(*state.arguments(container)) as runner:
            editor.write_line("begin")
            assert editor.read_line() == "editing"
            code, = race(runner)
            editor.write_line("end")
            edits += int(editor.read_line())
            assert_clean_end(runner, code)
            met += conflicts(runner)
        after = states.which(table(container))
        assert after is (state if code == 0 else before), f"turn {turn}, exit {code}"
        done += code == 0
    print(f"{edits} edits, met {met} times, {done} of 30 came through")
    assert met > 0, "nobody met the editor"
    # How many depends on how fast the machine lets the editor be.
    assert done >= 10, "it gave up too often"
    assert nft.tables(container) == {"inet dragoman"}


def timed(states, state, namespace):
    """Reconciles it; the seconds that it took."""
    start = time.perf_counter()
    result = states.dragoman(*state.arguments(namespace))
    assert result.code == 0, result
    return time.perf_counter() - start


def test_concurrency_killed_reconcile_leaves_old_or_new(tmp_path, namespaces, container):
    """At random instants of its life; the batch of so many services takes a good part of it."""
    states = States(tmp_path, namespaces, count=250)
    seed = time.time_ns()
    print(f"seed {seed}")
    dice = random.Random(seed)
    duration = timed(states, states.a, container)
    old, ends = states.a, {"old": 0, "new": 0}
    for turn in range(30):
        new = states.b if old is states.a else states.a
        with states.run(*new.arguments(container)) as runner:
            runner.go()
            spend(dice.uniform(0, duration))
            runner.kill()
        state = states.which(table(container))
        assert state in (old, new), f"turn {turn}: {nft.listing(container)}"
        ends["new" if state is new else "old"] += 1
        duration = max(timed(states, new, container), duration / 2)
        assert states.which(table(container)) is new
        assert states.dragoman("plan", *new.arguments(container)[1:]).code == 0
        old = new
    print(f"{ends}, life {duration}")
    assert min(ends.values()) > 0, f"never killed before the commit, or never behind it: {ends}"
