# SPDX-License-Identifier: MIT
"""The agent and the containers of a real engine: Docker's, and what Podman has to be like it in."""

import pathlib
import signal

from lab.docker import Docker
from lab.followed import CACHE, DB, WEB, leads, names, notes, rules, wait_for
from lab.processes import run as command
from lab.relay import Relay
from lab.waiting import wait_until


def test_agent_gives_a_container_its_rules_when_it_starts(engine, follow, services):
    agent = follow(engine)
    usual = agent.namespace_descriptors()
    assert usual == 0
    web = engine.run("web", env={"BACKEND_WEB": "web;80", "BACKEND_BAD": "web;http", "HOME": "/"})
    wait_for(web, 1)
    known = agent.namespace(web.inode)
    assert known["containers"] == [{"id": web.id, "name": "web", "pid": web.pid}]
    assert {one["variable"]: one["state"] for one in known["backends"]} == {
        "BACKEND_WEB": "ready", "BACKEND_BAD": "invalid"}
    plain = engine.run("plain")
    wait_until(lambda: plain.inode in names(agent), what="the plain one to be known")
    assert rules(plain) is None
    services.endpoint("/services/web/0", "10.77.0.9", "7000")
    wait_until(lambda: rules(web) == {WEB: "10.77.0.9:7000"}, what="the new endpoint")
    web.kill()
    plain.remove()
    wait_until(lambda: names(agent) == {}, what="both to be let go of")
    wait_until(lambda: agent.namespace_descriptors() == 0, what="nothing of them to be held")
    assert agent.metric("services") == 0
    web.start()
    wait_until(lambda: rules(web) == {WEB: "10.77.0.9:7000"}, what="rules of the next start")
    assert agent.metric("process_doubts_total") == 0


def test_agent_finds_containers_that_run_before_it(engine, follow):
    web = engine.run("web", env={"BACKEND_WEB": "web;80"})
    db = engine.run("db", env={"BACKEND_DB": "db;3306"})
    engine.create("idle", env={"BACKEND_DB": "db;3306"})
    agent = follow(engine)
    # Ready means that all of them are done.
    assert rules(web) == leads(1) and rules(db) == leads(3)
    assert names(agent) == {web.inode: {"web"}, db.inode: {"db"}}
    agent.kill()
    third = engine.run("third", env={"BACKEND_CACHE": "cache;6379"})
    agent.start()
    assert rules(third) == leads(2)
    assert agent.metric("commits_total") == 1


def test_agent_containers_that_share_a_namespace_are_one_target(engine, follow):
    agent = follow(engine)
    first = engine.run("first", env={"BACKEND_WEB": "web;80"})
    wait_for(first, 1)
    second = engine.run("second", env={"BACKEND_CACHE": "cache;6379"}, network="container:first")
    wait_for(first, 1, 2)
    third = engine.run("third", env={"BACKEND_DB": "db;3306", "BACKEND_WEB": "cache;80"},
                       network="container:second")
    wait_for(first, 1, 2, 3)
    assert names(agent) == {first.inode: {"first", "second", "third"}}
    assert [one["state"] for one in agent.namespace(first.inode)["backends"]].count("conflict") == 1
    second.rename("other")
    wait_until(lambda: names(agent) == {first.inode: {"first", "other", "third"}}, what="a name")
    second.kill()
    wait_for(first, 1, 3)
    # The next who wants the port has it when the first is gone.
    first.kill()
    wait_until(lambda: rules(third) == {DB: "10.77.0.3:7000", WEB: "10.77.0.2:7000"},
               what="what is left of the third")


def test_agent_leaves_those_alone_that_are_to_be(engine, follow):
    engine.run("hosts", env={"BACKEND_WEB": "web;80"}, network="host")
    agent = follow(engine)
    out = engine.run("out", env={"BACKEND_WEB": "web;80"}, labels={"dragoman.enable": "false"})
    wait_until(lambda: set(notes(agent)) == {"hosts", "out"}, what="both to be noted")
    assert "host's own network namespace" in notes(agent)["hosts"]
    assert "dragoman.enable" in notes(agent)["out"]
    assert rules(out) is None
    beside = engine.run("beside", env={"BACKEND_CACHE": "cache;6379"}, network="container:out")
    wait_for(beside, 2)
    assert agent.namespace_descriptors() > 0
    beside.kill()
    wait_until(lambda: agent.namespace_descriptors() == 0, what="the namespace to be let go of")
    out.kill()
    wait_until(lambda: set(notes(agent)) == {"hosts"}, what="its note to go")


def test_agent_targets_by_hand_and_containers_meet_in_one_namespace(engine, follow):
    web = engine.run("web", env={"BACKEND_WEB": "web;80"})
    agent = follow(engine, "--pid", web.pid, "-b", "CACHE=cache;6379")
    assert rules(web) == leads(1, 2)
    assert len(agent.status()["namespaces"]) == 1
    web.restart()
    wait_for(web, 1)
    wait_until(lambda: names(agent) == {web.inode: {"web"}}, what="the process to be let go of")


def test_agent_outlives_the_engine(follow):
    with Docker("--live-restore") as docker:
        web = docker.run("web", env={"BACKEND_WEB": "web;80"})
        other = docker.run("other", env={"BACKEND_DB": "db;3306"})
        pids = web.pid, other.pid
        agent = follow(docker)
        commits = agent.metric("commits_total")

        def engine():
            return agent.status()["docker"]["state"]

        assert engine() == "live"
        docker.stop()
        wait_until(lambda: engine() == "lost", what="the loss to be told")
        assert len(names(agent)) == 2
        # One that ends meanwhile is let go of without the engine.
        command("kill", "-KILL", pids[1])
        wait_until(lambda: len(names(agent)) == 1, what="the one that ended to be let go of")
        docker.start()
        wait_until(lambda: engine() == "live", deadline=40, what="the engine to be back")
        assert web.pid == pids[0] and rules(web) == leads(1)
        third = docker.run("third", env={"BACKEND_CACHE": "cache;6379"})
        wait_for(third, 2)
        assert names(agent) == {web.inode: {"web"}, third.inode: {"third"}}
        assert agent.metric("commits_total") == commits + 1
        agent.end()


def test_agent_waits_for_an_engine_that_is_not_there_yet(follow, docker, tmp_path):
    class Later:
        url = f"unix://{tmp_path}/docker.sock"
    agent = follow(Later, ready=False)
    wait_until(lambda: f"{tmp_path}/docker.sock" in agent.log, what="a word about the engine")
    assert agent.get("/readyz")[0] == 503 and agent.get("/healthz")[0] == 200
    web = docker.run("web", env={"BACKEND_WEB": "web;80"})
    pathlib.Path(f"{tmp_path}/docker.sock").symlink_to(docker.socket)
    wait_until(agent.is_ready, deadline=40, what="the agent to be ready")
    assert rules(web) == leads(1)


def test_agent_speaks_the_oldest_version_with_an_engine_that_knows_no_other(engine, follow):
    """Engines answer in that of the request; one that is so old has no MinAPIVersion."""
    newest = engine.api("GET", "/version")["ApiVersion"].encode()
    with Relay(engine.socket, replace=(b'"ApiVersion":"%s"' % newest,
                                       b'"ApiVersion":"1.24"')) as relay:
        class Old:
            url = f"tcp://{relay.address}"
        web = engine.run("web", env={"BACKEND_WEB": "web;80"})
        agent = follow(Old)
        assert rules(web) == leads(1)
        beside = engine.run("beside", env={"BACKEND_DB": "db;3306"}, network="container:web")
        wait_for(web, 1, 3)
        out = engine.run("out", env={"BACKEND_WEB": "web;80"}, labels={"dragoman.enable": "false"})
        wait_until(lambda: set(notes(agent)) == {"out"}, what="the one that opted out")
        out.remove()
        beside.rename("other")
        wait_until(lambda: names(agent) == {web.inode: {"web", "other"}}, what="a name")
        web.kill()
        wait_until(lambda: rules(beside) == leads(3), what="what is left")
        assert b"GET /v1.24/events?" in relay.asked and b"GET /v1.24/containers/" in relay.asked
        assert newest not in relay.asked
        agent.end()


def test_agent_tells_a_bad_variable_once(follow, docker):
    agent = follow(docker)
    docker.run("shop", env={"BACKEND_WEB": "web;80", "BACKEND_BAD": "web;http"})
    wait_until(lambda: "BACKEND_BAD" in agent.log, what="the first")
    # Another one in its namespace has faults of its own, and not those once more.
    docker.run("side", network="container:shop", env={"BACKEND_OTHER": "cache;80"})
    wait_until(lambda: "BACKEND_OTHER" in agent.log, what="the second")
    agent.send(signal.SIGHUP)
    wait_until(lambda: "looking at everything anew" in agent.log, what="a resync")
    docker.run("last", env={"BACKEND_LAST": ";80"})
    wait_until(lambda: "BACKEND_LAST" in agent.log, what="the last")
    lines = [line for line in agent.log.splitlines() if "BACKEND_BAD" in line
             or "BACKEND_OTHER" in line]
    assert lines == ["dragoman: shop: BACKEND_BAD: column 5: 'h' is not a digit of a port",
                     "dragoman: side: BACKEND_OTHER: conflict: port 80/tcp is taken by "
                     "BACKEND_WEB (container shop)"]
