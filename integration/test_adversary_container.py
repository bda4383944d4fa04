# SPDX-License-Identifier: MIT
"""Containers that are hostile, or do not live long enough: what they cost the others, and whose
namespace gets rules. The engine is one that says what the test wants (lab/engine.py), or a real
one where its own doing matters.
"""

import contextlib
import os
import pathlib
import threading
import time

import pytest

from lab import nft
from lab.command import PROGRAM
from lab.engine import Engine, Gate, group_of
from lab.followed import WEB, leads, names, notes, rules, wait_for
from lab.processes import python, run
from lab.waiting import wait_until

_REBIRTH = pathlib.Path(__file__).parent / "lab" / "rebirth.py"
_ARRIVE = pathlib.Path(__file__).parent / "lab" / "arrive.py"
# How often a container is killed, each time a little later in what is done for it.
STEPS = int(os.environ.get("DRAGOMAN_VANISH_STEPS", 8))


@pytest.fixture
def engine():
    """Not a real one: it says what one has said, or worse."""
    with Engine() as made:
        yield made


# A number that is another process's by now

@contextlib.contextmanager
def reborn(namespace, pid):
    """A process of that number, which is free, in the namespace."""
    with namespace.start(*python(_REBIRTH, pid, "sleep", "86400")) as parent:
        assert parent.read_line() == "born"
        yield


def swapped(engine, namespace, stack):
    """A container of which the engine's answer is under way, and that has ended meanwhile: its
    number is now that of a process in the namespace. Returns it, and the answer's gate."""
    gate = Gate()
    web = engine.add("web", ["BACKEND_WEB=web;80"])
    web.behave(gate)
    web.tell("start")
    assert gate.waiting.acquire(timeout=10)
    web.end()
    stack.enter_context(reborn(namespace, web.pid))
    assert web.inode == namespace.inode
    return web, gate


@pytest.fixture
def stack():
    with contextlib.ExitStack() as made:
        yield made


def test_process_whose_number_is_another_s_by_now_gets_no_rules(engine, follow, namespaces, stack):
    agent, other = follow(engine), namespaces.new("other")
    clean = nft.traces(other)
    web, gate = swapped(engine, other, stack)
    # The next answer knows.
    web.behave(None)
    web.running = False
    gate.open()
    wait_until(lambda: "asking the engine again" in agent.log, what="a doubt")
    wait_until(lambda: engine.asked["look"] >= 2 and names(agent) == {}, what="it to be forgotten")
    assert nft.traces(other) == clean
    assert agent.metric("process_doubts_total") == 1 and agent.namespace_descriptors() == 0


def test_process_of_another_container_gets_no_rules_though_the_engine_insists(
        engine, follow, namespaces, stack):
    agent, other = follow(engine), namespaces.new("other")
    clean = nft.traces(other)
    web, gate = swapped(engine, other, stack)
    stack.enter_context(group_of("e" * 64, web.pid))
    web.behave(None)
    gate.open()
    wait_until(lambda: "web" in notes(agent) and "another container's" in notes(agent)["web"],
               what="it to be refused")
    assert f"web: the engine names process {web.pid}, which is another container's" in agent.log
    assert agent.metric('errors_total{class="conflict"}') == 1
    assert agent.metric("process_doubts_total") == 1
    looks = engine.asked["look"]
    # It is not asked for without end; and when it runs again, it is served.
    beside = engine.run("beside", ["BACKEND_DB=db;3306"])
    wait_for(beside, 3)
    assert engine.asked["look"] == looks + 1 and nft.traces(other) == clean
    stack.close()
    web.start()
    wait_for(web, 1)
    assert nft.traces(other) == clean


def test_process_that_the_clock_was_set_forward_under_gets_rules(engine, follow):
    """It seems to have begun behind the container: the engine, asked again, stands by it."""
    web = engine.add("web", ["BACKEND_WEB=web;80"])
    web.started = "2026-01-01T00:00:00Z"
    agent = follow(engine)
    assert rules(web) == leads(1) and agent.metric("process_doubts_total") == 1
    # In a group of its own there is no doubt.
    with group_of(web.id, web.pid):
        again = follow(engine)
        assert again.metric("process_doubts_total") == 0 and again.metric("namespaces") == 1


def test_container_read_once_is_not_another_s_process(engine, dragoman, services, namespaces,
                                                      stack):
    other, web = namespaces.new("other"), engine.add("web", ["BACKEND_WEB=web;80"])
    web.end()
    stack.enter_context(reborn(other, web.pid))
    group = stack.enter_context(group_of("e" * 64, web.pid))
    clean = nft.traces(other)
    done = dragoman("reconcile", "--json", "--container", "web", env={"DOCKER_HOST": engine.url})
    assert done.code == 1 and f"process {web.pid} is another container's" in done.stderr
    assert nft.traces(other) == clean
    del group


# Containers that look like others, of a real engine

def test_container_named_after_another_gets_just_its_own_rules(docker, follow):
    """Docker finds by names, too: who is called like the ID of another is found in its stead,
    when that is gone."""
    agent = follow(docker)
    web = docker.run("web", env={"BACKEND_WEB": "web;80"})
    whole = docker.run(web.id, env={"BACKEND_CACHE": "cache;6379"})
    short = docker.run(web.id[:12], env={"BACKEND_DB": "db;3306"})
    for number, each in enumerate((web, whole, short), 1):
        wait_for(each, number)
    web.remove()
    wait_until(lambda: names(agent) == {whole.inode: {web.id}, short.inode: {web.id[:12]}},
               what="it to be let go of")
    wait_until(lambda: "answer is about another container" in agent.log, what="the confusion")
    assert rules(whole) == leads(2) and rules(short) == leads(3)


def test_container_whose_words_no_json_holds_hides_nobody(docker, follow):
    """Docker takes a NUL in a label's name, and shows it in the listing of all."""
    web = docker.run("web", env={"BACKEND_WEB": "web;80"}, labels={"a\0b\ud800": "\0\x1b[2J"})
    beside = docker.run("beside", env=["BACKEND_DB=db;3306", "BACKEND_X=\udc80\x1b;80", "Y=\n"])
    agent = follow(docker)
    assert rules(web) == leads(1) and rules(beside) == leads(3)
    assert "\x1b" not in agent.log and "BACKEND_X: column 4: control" in agent.log


def test_container_by_way_of_others_does_not_get_into_the_hosts_namespace(docker, follow):
    agent = follow(docker)
    docker.run("hosts", env={"BACKEND_WEB": "web;80"}, network="host")
    docker.run("beside", env={"BACKEND_WEB": "web;80"}, network="container:hosts")
    docker.run("third", env={"BACKEND_WEB": "web;80"}, network="container:beside")
    wait_until(lambda: set(notes(agent)) == {"hosts", "beside", "third"}, what="all to be noted")
    assert all("the host's own network namespace" in note for note in notes(agent).values())
    assert "dragoman" not in run("nft", "list", "tables").stdout
    assert agent.namespace_descriptors() == 0 and agent.metric("namespaces") == 0


# Namespaces that vanish

def test_namespace_that_vanishes_at_any_step_is_let_go_of(engine, follow, tmp_path):
    """Every step is made slow, and a container killed at the first, the next one at the second..."""
    steps = tmp_path / "steps"
    calls = "pidfd_open,openat,setns,socket,bind,sendto,sendmsg,pwrite64"
    # Leaks cannot be looked for in a process that is traced.
    options = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    agent = follow(engine, env={"ASAN_OPTIONS": options}, command=[
        "strace", "-D", "-f", "-qq", "-o", steps, f"--trace={calls}",
        f"--inject={calls}:delay_enter=4000", PROGRAM])
    calm = engine.run("calm", ["BACKEND_WEB=web;80"])
    wait_for(calm, 1)

    def done():
        return steps.read_bytes().count(b"\n")

    before = done()
    beside = engine.run("beside", ["BACKEND_WEB=web;80"])
    wait_for(beside, 1)
    usual, all_steps, killed = agent.namespace_descriptors(), done() - before, set()
    for number in range(0, all_steps, max(1, all_steps // STEPS)):
        before = done()
        web = engine.run(f"web{number}", ["BACKEND_WEB=web;80"])
        wait_until(lambda: done() >= before + number, what=f"step {number} of {all_steps}")
        # The engine does not say so, and thinks that it runs.
        web.end()
        killed.add(steps.read_text().splitlines()[before + number - 1].split("(")[0].split()[-1])
        wait_until(lambda: set(names(agent)) == {calm.inode, beside.inode},
                   what="it to be let go of")
        wait_until(lambda: agent.namespace_descriptors() == usual, what="nothing of it to be held")
        engine.remove(web)
    print(f"killed at {sorted(killed)}; {all_steps} steps; the agent said\n{agent.log}")
    assert agent.metric('errors_total{class="fatal"}') == 0
    assert len(killed) >= 4 and rules(calm) == leads(1)


# Those who want more than their share

class Beside(threading.Thread):
    """Runs it beside the rest; result() waits for it."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self._function, self._arguments, self._result, self._failure = function, arguments, None, None
        self.start()

    def run(self):
        try:
            self._result = self._function(*self._arguments)
        except BaseException as failure:  # told to the test, in its own thread
            self._failure = failure

    def result(self):
        self.join()
        if self._failure:
            raise self._failure
        return self._result


def start_calm(engine, count):
    """Containers started one by one, each served; and how long that took."""
    took = []
    for number in range(count):
        calm = engine.add(f"calm{number}", ["BACKEND_WEB=web;80"])
        start = time.monotonic()
        calm.tell("start")
        wait_until(lambda: rules(calm) == leads(1), 10, what="rules of a calm one")
        took.append(time.monotonic() - start)
        calm.kill()
        engine.remove(calm)
    took.sort()
    return f"{len(took)} calm ones, p50 {took[len(took) // 2] * 1e3:.0f} ms, " \
           f"max {took[-1] * 1e3:.0f} ms"


def test_container_that_restarts_in_a_loop_delays_nobody(engine, follow):
    agent = follow(engine)
    wild = [engine.run(f"wild{number}", ["BACKEND_WEB=web;80", "BACKEND_DB=db;81"])
            for number in range(3)]
    print("before:", start_calm(engine, 5))
    cpu, start, restarts = agent.cpu_seconds(), time.monotonic(), 0
    calm = Beside(start_calm, engine, 5)
    while calm.is_alive() or restarts < 60:
        wild[restarts % 3].kill()
        wild[restarts % 3].start()
        restarts += 1
    print(f"beside: {calm.result()}; {restarts} restarts, {agent.cpu_seconds() - cpu:.2f} s of CPU "
          f"in {time.monotonic() - start:.2f} s")
    for each in wild:
        wait_until(lambda: rules(each) == {WEB: "10.77.0.1:7000", "127.0.0.1:81": "10.77.0.3:7000"},
                   what="the rules of the last start")
    wait_until(lambda: set(names(agent)) == {each.inode for each in wild}, what="no more of them")
    # They have no control groups, and were there before the engine said when.
    assert agent.metric("process_doubts_total") == 0


# Those who fight, with CAP_NET_ADMIN and nothing else

RIGHTS = ("setpriv", "--inh-caps=-all,+net_admin", "--bounding-set=-all,+net_admin")


def lines_of(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def flip_links(folder):
    return "ip", "-batch", lines_of(folder, "links", "".join(
        f"link set dev lo mtu {1500 + number % 2}\n" for number in range(2000)))


def flip_routes(folder):
    return "ip", "-6", "-force", "-batch", lines_of(folder, "routes", "".join(
        f"route {'add' if number % 2 else 'del'} local ::1 dev eth0 table local metric 2048\n"
        for number in range(1, 2001)))


def flood_beside(folder, times=3):
    """A table of its own, which is no business of ours, but heard of."""
    numbers = ", ".join(map(str, range(1000)))
    return "nft", "-f", lines_of(folder, "flood", "".join((
        "add table ip own\nadd set ip own s { type inet_service; }\n",
        *[f"add element ip own s {{ {numbers} }}\nflush set ip own s\n"] * times)))


def stuff_ours(folder):
    """So many elements in our own table that to look at it takes long."""
    return "nft", "-f", lines_of(folder, "stuff", "".join(
        "add element inet dragoman unavailable4 { " + ", ".join(
            f"10.{high}.{low}.1 . tcp . {port}" for low in range(100) for port in range(1, 11))
        + " }\n" for high in range(20)))


@pytest.mark.parametrize("deed", (flip_links, flip_routes, flood_beside, stuff_ours))
def test_container_that_fights_gets_a_bounded_share(engine, follow, services, namespaces, deed,
                                                    tmp_path):
    home, ends = namespaces.new("wild"), namespaces.new("ends")
    namespaces.link(home, ends)
    wild = engine.run("wild", ["BACKEND_WEB=web;80", "BACKEND_DB=db;3306"],
                      process=home.start("sleep", "86400"))
    calm = engine.run("calm", ["BACKEND_DB=db;3306"])
    agent = follow(engine)
    before = nft.whole(home)
    words = [str(word) for word in deed(tmp_path)]
    cpu, start, said, took = agent.cpu_seconds(), time.monotonic(), len(agent.log), []
    turns = tmp_path / "turns"
    loop = f"while :; do {' '.join(words)} 2>>{tmp_path}/said; echo >> {turns}; done"
    with home.start(*RIGHTS, "sh", "-c", loop):
        while time.monotonic() - start < 1.5 or len(took) < 5 or not turns.exists():
            number = len(took) % 250 + 1
            change = time.monotonic()
            services.endpoint("/services/db/0", f"10.78.0.{number}", "7000")
            wait_until(lambda: f"10.78.0.{number}:7000" in str(rules(calm)), 10,
                       what="a change beside the fight")
            took.append(time.monotonic() - change)
    seconds, used = time.monotonic() - start, agent.cpu_seconds() - cpu
    metrics = agent.metrics()
    print(f"{deed.__name__}: {len(took)} changes beside it, max {max(took) * 1e3:.0f} ms; "
          f"{used:.2f} s of CPU in {seconds:.2f} s; "
          f"{turns.read_text().count(chr(10))} turns: {(tmp_path / 'said').read_text()[:200]}; "
          f"{metrics['dragoman_drift_repairs_total']:.0f} repairs; "
          f"{agent.log[said:].count(chr(10))} lines said")
    assert turns.exists() and "rror" not in (tmp_path / "said").read_text()
    assert used < seconds / 2
    assert agent.log[said:].count("\n") < 50 + 2 * len(took)
    services.endpoint("/services/db/0", "10.77.0.3", "7000")
    wait_until(lambda: nft.whole(home) == before, 60, what="rules to be whole in the end")
    assert rules(wild) == leads(1, 3)


def waits_until(finished, services, arrivals):
    """Seconds from etcd's acknowledgement of a change to the kernel of a calm container, for one
    change after the other, fifty a second at most."""
    took = []
    while not finished.wait(0.02):
        address = f"10.78.{len(took) >> 7}.{len(took) % 128 + 1}"
        services.endpoint("/services/db/0", address, "7000")
        acknowledged = time.monotonic_ns()
        while (line := arrivals.read_line().split())[0] != address:
            pass
        took.append((int(line[1]) - acknowledged) / 1e9)
    return took


def keep_to(pid, processors):
    """All threads that it has, and so those that they will make."""
    for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), processors)


@pytest.fixture
def apart(etcd):
    """Two processors, one of them for what stays in the kernel for seconds: a kernel that is built
    not to be preempted there leaves nothing else a turn, etcd neither."""
    all_of_them = os.sched_getaffinity(0)
    assert len(all_of_them) > 1, "this takes two processors"
    ours, theirs = min(all_of_them), max(all_of_them)
    for pid in (os.getpid(), etcd.pid):
        keep_to(pid, {ours})
    yield ("taskset", "-c", str(theirs))
    for pid in (os.getpid(), etcd.pid):
        keep_to(pid, all_of_them)


@pytest.mark.alone
def test_container_that_holds_the_kernels_lock_keeps_nobody_waiting(apart, engine, follow, services,
                                                                    namespaces, tmp_path):
    """Transactions that take seconds, one behind the other. Both containers want what changes, so
    that the agent would have to wait for each. (Two of them that wait for each other stop all
    that is to do with nf_tables on the whole host: the kernel's own, with us or without.)"""
    home, beside = namespaces.new("wild"), namespaces.new("calm")
    wild = engine.run("wild", ["BACKEND_DB=db;3306"], process=home.start("sleep", "86400"))
    engine.run("calm", ["BACKEND_DB=db;3306"],
               process=beside.start("setpriv", "--bounding-set=-net_admin", "sleep", "86400"))
    follow(engine)
    words = [str(word) for word in flood_beside(tmp_path, times=25)]
    loop = f"for turn in 1 2 3 4; do {' '.join(words)} || exit; cut -d' ' -f1 /proc/uptime; done"
    with beside.start(*python(_ARRIVE)) as arrivals, \
            home.start(*apart, *RIGHTS, "sh", "-c", loop) as flood:
        assert arrivals.read_line() == "ready"
        finished = threading.Event()
        took = Beside(waits_until, finished, services, arrivals)
        ends = [float(flood.read_line(30)) for _ in range(4)]
        finished.set()
        took = sorted(took.result())
    turn = min(b - a for a, b in zip(ends, ends[1:]))
    print(f"{len(took)} changes beside transactions of {turn:.2f} s and more, p50 "
          f"{took[len(took) // 2] * 1e3:.1f} ms, max {took[-1] * 1e3:.1f} ms")
    assert took[-1] < turn / 3
    services.endpoint("/services/db/0", "10.77.0.3", "7000")
    wait_for(wild, 3)
