# SPDX-License-Identifier: MIT
"""An engine that says too much, too little, nonsense, or nothing: lab/engine.py replays what a
real one answers, and damages it. Nothing that it tells of is lost, and nobody waits for it.
"""

import contextlib
import json
import os
import re
import signal
import time
import types

import pytest

from lab.agent import Agent
from lab.bad_server import BlackHole
from lab.command import PROGRAM, Dragoman
from lab.engine import Engine, drip, hang, recorded_stream, replaced_by, whole
from lab.followed import leads, names, rules, wait_for
from lab.memcheck import SANITIZED
from lab.waiting import wait_until

# A container's variables, and the bytes of its environment.
VARIABLES = int(os.environ.get("DRAGOMAN_ENGINE_VARIABLES", 10000))
ENVIRONMENT = 10 << 20
ROUNDS = int(os.environ.get("DRAGOMAN_ENGINE_ROUNDS", 2))
# The stream of events is cut behind each so many bytes; 1: at every one.
CUT_STEP = int(os.environ.get("DRAGOMAN_ENGINE_CUT_STEP", 293))
# What an endless event may add to the memory.
GROWTH = (96 << 20) if PROGRAM == SANITIZED else (4 << 20)
# Whether to wait until a connection that has vanished is found, which takes a minute.
SILENCE = "DRAGOMAN_ENGINE_SILENCE" in os.environ


@pytest.fixture
def engine():
    """Not a real one: it says what one has said, or worse."""
    with Engine() as made:
        yield made


def docker_is(agent, state, deadline=40):
    wait_until(lambda: agent.status()["docker"]["state"] == state, deadline,
               what=f"an engine that is {state}")


# Too much

def test_engine_variables_in_abundance_delay_nobody(engine, follow):
    """10 MiB of them, 10,000 descriptors: who starts beside it is served meanwhile, again and
    again, while it is restarted without a pause."""
    agent = follow(engine)
    env = [f"BACKEND_V{number}=s{number};{number + 1000}" for number in range(VARIABLES)]
    padding = (ENVIRONMENT - sum(map(len, env))) // 80
    env += [f"PADDING_{number}={'x' * (131072 - 20)}" for number in range(padding * 80 // 131072)]
    assert sum(map(len, env)) > ENVIRONMENT * 0.95
    hog = engine.add("hog", env)
    took = []
    for number in range(ROUNDS):
        start = time.monotonic()
        hog.tell("start") if number == 0 else hog.start()
        calm = engine.run(f"calm{number}", ["BACKEND_WEB=web;80"])
        wait_until(lambda: rules(calm) == leads(1), 15, what="the rules of who started beside it")
        took.append(time.monotonic() - start)
        hog.end() if number < ROUNDS - 1 else None
    print(f"beside it: {', '.join(f'{each:.2f}' for each in took)} s; memory "
          f"{agent.private_dirty() >> 20} MiB")
    wait_until(lambda: agent.metric('descriptors{state="used"}') == VARIABLES + ROUNDS, 30,
               what="all of its descriptors")
    assert agent.metric('errors_total{class="fatal"}') == 0
    # With it, all that was kept of it goes.
    hog.kill()
    wait_until(lambda: agent.metric("services") == 1, what="its services to be left")


def test_engine_variables_that_are_all_wrong_are_told_in_fifty_lines(engine, follow):
    agent = follow(engine)
    said = len(agent.log)
    engine.run("wrong", [f"BACKEND_V{number}=web;port" for number in range(VARIABLES)])
    wait_until(lambda: agent.metric('descriptors{state="invalid"}') == VARIABLES, what="all")
    lines = agent.log[said:].splitlines()
    assert len(lines) == 51 and lines[-1].endswith(
        f"and {VARIABLES - 50} more (`dragoman status` shows them)")
    assert len(next(each for each in agent.status()["namespaces"])["backends"]) == VARIABLES


# Words

HOSTILE = ("\n", "\r\n", "\x1b[2J\x1b[31m", "\x1b]0;title\x07", "\x9b1m", "\x00", "\x7f", "\u2028",
           "\ufffd", "\ud800", '"}]}', "\\", "%s%n", "\ndragoman: forged: line", "\u202e")


def test_engine_words_never_reach_a_terminal_raw(engine, follow, services):
    """Names, variables and values of containers, and what the engine has to say itself."""
    agent = follow(engine)
    for number, each in enumerate(HOSTILE):
        engine.add(f"name{each}{number}", [
            f"BACKEND_A{each}=web;{number + 1}", f"BACKEND_B=web{each};80", f"BACKEND_C=web[{each}];81",
            f"BACKEND_D=web;82{each}", f"BACKEND_{each}=web;83", "BACKEND_E=web;90",
            f"BACKEND_F=db{each}[a];90"])
    last = engine.run("last", ["BACKEND_WEB=web;80"])
    broken = engine.add("broken")
    broken.behave(replaced_by({"message": "".join(HOSTILE)}, "500 Oops"))
    agent.send(signal.SIGHUP)
    wait_for(last, 1)
    wait_until(lambda: "status 500" in agent.log, 20, what="the failure to be told")
    at = {"DOCKER_HOST": engine.url, "DRAGOMAN_SOCKET": str(agent.socket)}
    dragoman = Dragoman(services.url)
    outputs = [agent.get("/status")[1], agent.get("/metrics")[1],
               (agent.folder / "log").read_bytes().decode("utf-8")]
    for words in (("status",), ("status", "--json"), ("plan", "--container", "last"),
                  ("plan", "--json", "--container", "last")):
        done = dragoman(*words, env=at)
        outputs += [done.stdout, done.stderr]
        if "--json" in words:
            json.loads(done.stdout)
    for output in outputs:
        # A line ends where we end it.
        raw = re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", output)
        assert not raw, (raw, output[:2000])
        assert not re.search(r"^(dragoman: )?forged", output, re.MULTILINE), output
    assert "\\x1b[2J" in agent.log and len(agent.status()["namespaces"]) == len(HOSTILE) + 1


def test_engine_words_that_are_not_utf_8_spoil_nothing_but_themselves(engine, follow):
    """Docker would have made text of them; some other engine may not."""
    agent = follow(engine)
    bad = engine.add("bad", ["BACKEND_BAD=wXX;80", "BACKEND_WEB=web;80", "OTHER=XX"])
    bad.behave(replaced_by(json.dumps(bad.inspect()).encode().replace(b"XX", b"\xff\x1b\xc3")))
    bad.tell("start")
    wait_for(bad, 1)
    states = {each["variable"]: each for each in agent.namespace(bad.inode)["backends"]}
    assert states["BACKEND_BAD"]["state"] == "invalid" and "\ufffd" in states["BACKEND_BAD"]["reason"]
    assert "bad: BACKEND_BAD: column 2: " in agent.log


def test_engine_answer_that_is_damaged_is_tried_again(engine, follow):
    agent = follow(engine)
    bad = engine.run("bad", ["BACKEND_WEB=web;80"])
    wait_for(bad, 1)
    bad.behave(replaced_by(json.dumps(bad.inspect()).encode()[:-10]))
    bad.tell("rename")
    wait_for(engine.run("good", ["BACKEND_DB=db;3306"]), 3)
    wait_until(lambda: f"docker: container {bad.id[:12]}: answer is not JSON" in agent.log, 20,
               what="a word about it")
    assert agent.metric('errors_total{class="transient"}') == 1
    # What was known of it stands.
    assert rules(bad) == leads(1)
    bad.behave(None)
    bad.name = "better"
    bad.tell("rename")
    wait_until(lambda: "better" in str(names(agent)), 20, what="the next look at it")


# The stream of events

def test_engine_stream_cut_at_any_byte_loses_nothing(engine, follow):
    """What a real engine sent while a container was made, started, renamed, restarted and removed,
    and its head; another container starts while nobody listens."""
    agent = follow(engine)
    web = engine.add("web", ["BACKEND_WEB=web;80"])
    stream = recorded_stream(web.id)
    for end in range(0, len(stream) + 1, CUT_STEP):
        docker_is(agent, "live")
        wait_until(lambda: engine.listeners() == 1, what="somebody who listens")
        engine.send_raw(stream[:end])
        engine.finish_streams()
        calm = engine.add(f"calm{end}", ["BACKEND_DB=db;3306"])
        wait_until(lambda: engine.listeners() == 0, what="the stream's end")
        # Else it waits, a little longer each time.
        docker_is(agent, "lost")
        agent.send(signal.SIGHUP)
        wait_for(calm, 3)
        assert rules(web) == leads(1)
        calm.kill()
        engine.remove(calm)
    assert agent.metric('errors_total{class="fatal"}') == 0


@pytest.mark.parametrize("rubbish", (
    b"garbage", b"[]", b"\x00\xff\xfe", b'{"status":"start"}', b'{"Type":"container"}{}', b"}{",
    b'{"a":' * 1000, b'{"a":"' + b"x" * (24 << 20)), ids=lambda each: each[:12].decode("latin-1"))
def test_engine_stream_of_rubbish_is_left_or_listed_anew(engine, follow, rubbish):
    agent = follow(engine)
    web = engine.add("web", ["BACKEND_WEB=web;80"])
    wait_until(lambda: engine.listeners() == 1, what="somebody who listens")
    memory = agent.private_dirty()
    engine.send(rubbish)
    if rubbish == b'{"a":' * 1000:
        # It ends nowhere, but may yet: what is behind it is found by the next listing.
        agent.send(signal.SIGHUP)
    wait_for(web, 1)
    docker_is(agent, "live")
    assert agent.private_dirty() - memory < GROWTH


# Too little

def stuck_over(engine, count):
    """Containers over which the engine hangs: more than are looked at at once."""
    stuck = [engine.add(f"stuck{number}", ["BACKEND_DB=db;3306"]) for number in range(count)]
    for each in stuck:
        each.behave(hang)
        each.tell("start")
    return stuck


def test_engine_that_hangs_is_given_up_in_time_and_found_again(engine, follow):
    """All ways to hang at once, each with an agent of its own; then it comes to itself."""
    with contextlib.ExitStack() as stack:
        agent, found = follow(engine), []
        stuck = stuck_over(engine, 20)
        for kind, behaviour in (("version", hang), ("list", hang), ("version", drip),
                                ("list", drip)):
            each = stack.enter_context(Engine())
            each.behave(kind, behaviour)
            web = each.add("web", ["BACKEND_WEB=web;80"])
            found.append((each, kind, web, follow(each, ready=False)))
        # The others are served, whomever it hangs over.
        wait_for(engine.run("good", ["BACKEND_WEB=web;80"]), 1)
        assert engine.asked["look"] >= 9 and "docker: container" not in agent.log
        with BlackHole() as nowhere:
            deaf = follow(types.SimpleNamespace(url=f"tcp://{nowhere.address}"), ready=False)
            for each, kind, _, other in found:
                wait_until(lambda: "docker: cannot be reached yet" in other.log, 30,
                           what="a word about the engine")
                assert "within 10 s" in other.log and other.get("/healthz")[0] == 200, other.log
                assert other.metric('errors_total{class="transient"}') >= 1
                each.behave(kind, whole)
                each.cut()
            wait_until(lambda: "docker: cannot be reached yet" in deaf.log, 30,
                       what="a word about the engine")
        wait_until(lambda: all(f"docker: container {each.id[:12]}: " in agent.log
                               for each in stuck), 30, what="a word about each")
        assert agent.metric('errors_total{class="transient"}') == len(stuck)
        assert "no answer within 10 s" in agent.log and agent.status()["docker"]["state"] == "live"
        for each in stuck:
            each.behave(None)
        for _, _, web, other in found:
            wait_until(other.is_ready, 40, what="the agent to be ready")
            assert rules(web) == leads(1)
        for each in stuck:
            wait_for(each, 3)


def test_engine_that_is_slow_with_its_events_is_understood(engine, follow):
    """The head of the stream never comes: it lists all the same. Then an event, byte by byte."""
    engine.behave("events", lambda connection, head: None)
    engine.add("web", ["BACKEND_WEB=web;80"])
    agent = follow(engine)
    engine.behave("events", whole)
    engine.cut()
    wait_until(lambda: engine.listeners() == 1, what="the next session")
    docker_is(agent, "live")
    late = engine.add("late", ["BACKEND_DB=db;3306"])
    for byte in recorded_stream(late.id).partition(b"\n\r\n")[0]:
        engine.send_raw(bytes([byte]))
    engine.send_raw(b"\n\r\n")
    wait_for(late, 3)


def test_engine_over_tcp_that_vanishes_is_found_by_the_kernel(services, namespaces):
    """Nobody asks an engine that is silent whether it is there, but for the kernel, which wakes
    nobody up: so the stream of events is one of those that it asks after."""
    here, there = namespaces.new("here"), namespaces.new("there")
    namespaces.link(here, there)
    here.add_address("10.77.0.1/24")
    there.add_address("10.77.0.2/24")
    with Engine(tcp="10.77.0.2", namespace=there) as engine, Agent(
            "--docker", engine.url, "--resync", "3600", registry="file:///dev/null", ready=False,
            command=["nsenter", f"--net={here.path}", PROGRAM]) as agent:
        wait_until(agent.socket.exists, what="the agent's socket")
        docker_is(agent, "live")
        wait_until(lambda: engine.listeners() == 1, what="somebody who listens")
        shown = here.run("ss", "-tno", "state", "established").stdout
        assert "timer:(keepalive," in shown, shown
        if not SILENCE:
            return
        start = time.monotonic()
        here.ip("link", "set", "eth0", "down")
        docker_is(agent, "lost", 90)
        print(f"found after {time.monotonic() - start:.0f} s\n{agent.log}")
        here.ip("link", "set", "eth0", "up")
        docker_is(agent, "live", 60)
