# SPDX-License-Identifier: MIT
"""--container: one container of a real Docker engine, and those that share its namespace."""

import pathlib
import socket

import pytest

from lab.docker import Failure
from lab.processes import run

DB, CACHE = "127.0.0.1:3306/tcp", "127.0.0.1:6379/tcp"


@pytest.fixture
def services(etcd):
    for number, name in enumerate(("db", "cache", "other"), 1):
        etcd.endpoint(f"/services/{name}/0", f"10.77.0.{number}", "7000")


@pytest.fixture
def on(dragoman, docker):
    """on("plan", "web", ...): the command on that container."""
    def call(verb, container, *arguments, **options):
        return dragoman(verb, "--json", "--container", container, *arguments,
                        env={"DOCKER_HOST": docker.url}, **options)
    return call


def nsenter(path, *command):
    return run("nsenter", f"--net={path}", *command).stdout


def added(result):
    """The endpoints that it adds, each with where it listens."""
    return {change[1:] for change in result.changes if len(change) == 3 and change[2]}


def test_container_is_found_by_name_id_and_start_of_its_id(services, docker, on):
    web = docker.run("web", env={"BACKEND_DB": "db;3306", "PATH": "/bin"})
    for name in ("web", "/web", web.id, web.id[:12], web.id[:7]):
        result = on("plan", name)
        assert result.code == 3, result
        assert result.json["netns"] == web.inode
        assert added(result) == {(DB, "10.77.0.1:7000")}


def test_container_is_reconciled_and_flushed(services, docker, on):
    web = docker.run("web", env={"BACKEND_DB": "db;3306"})
    assert on("reconcile", "web").code == 0
    again = on("reconcile", "web")
    assert again.code == 0 and again.json["in_sync"]
    table = pathlib.Path(f"/proc/{web.pid}/ns/net")
    assert "10.77.0.1" in nsenter(table, "nft", "list", "table", "inet", "dragoman")
    assert on("flush", "web").code == 0
    assert "dragoman" not in nsenter(table, "nft", "list", "tables")


def test_containers_that_share_a_namespace_are_one(services, docker, on):
    web = docker.run("web", env={"BACKEND_DB": "db;3306"})
    side = docker.run("side", env={"BACKEND_CACHE": "cache;6379"}, network="container:web")
    docker.run("chain", env={"BACKEND_THIRD": "other;81"}, network="container:side")
    docker.run("alone", env={"BACKEND_X": "other;82"})
    for container in (web, side):
        result = on("plan", container)
        assert result.code == 3, result
        assert result.json["netns"] == web.inode == side.inode
        assert added(result) == {(DB, "10.77.0.1:7000"), (CACHE, "10.77.0.2:7000"),
                                 ("127.0.0.1:81/tcp", "10.77.0.3:7000")}


def test_container_created_first_wins_a_conflict(services, docker, on):
    first = docker.run("first", env={"BACKEND_Z": "db;3306"})
    docker.run("second", env={"BACKEND_A": "other;3306"}, network="container:first")
    for container in ("first", "second"):
        result = on("plan", container)
        assert result.code == 1, result
        assert added(result) == {(DB, "10.77.0.1:7000")}
        assert [error["variable"] for error in result.json["errors"]] == ["BACKEND_A"]
        message = result.json["errors"][0]["message"]
        assert message.startswith("container second: conflict: port 3306/tcp is taken by ")
        assert first.name in message


def test_container_with_given_descriptors_uses_those(services, docker, on):
    docker.run("web", env={"BACKEND_DB": "db;3306"})
    result = on("plan", "web", "-b", "CACHE=cache;6379")
    assert added(result) == {(CACHE, "10.77.0.2:7000")}


def test_container_that_is_not_there_is_an_error(docker, on):
    result = on("plan", "nobody")
    assert result.code == 1
    assert result.errors == ["container nobody: No such container: nobody"]
    for name in ("..", "../version", "a/../../version", "x?all=1", "x y", "\x1b[31m"):
        result = on("plan", name)
        assert result.code == 1, result
        assert "\x1b" not in result.stderr
        assert len(result.errors) == 1
        assert result.errors[0].endswith(": that is no name or ID of a container")


def test_container_that_does_not_run_is_an_error(docker, on):
    docker.create("created")
    docker.run("ended").kill()
    assert on("plan", "created").errors == ["container created: it does not run (created)"]
    assert on("flush", "ended").errors == ["container ended: it does not run (exited)"]


def test_container_of_the_hosts_network_is_refused(docker, on):
    docker.run("hosts", network="host")
    for verb in ("plan", "reconcile", "flush"):
        result = on(verb, "hosts")
        assert result.code == 1
        assert result.errors == ["container hosts: this is the host's own network namespace "
                                 "(that of --net=host), where rules would change localhost for the "
                                 "whole host: refused without --allow-host-netns"]


def test_container_that_has_opted_out_is_refused(services, docker, on):
    out = docker.run("out", env={"BACKEND_DB": "db;3306"}, labels={"dragoman.enable": "false"})
    docker.run("web", env={"BACKEND_CACHE": "cache;6379"}, network="container:out")
    result = on("reconcile", "out")
    assert result.code == 1
    assert result.errors == [f"container out: it has opted out with its label "
                             f"dragoman.enable=false (--pid {out.pid} names its namespace all "
                             "the same)"]
    # Its neighbour has not.
    assert added(on("plan", "web")) == {(CACHE, "10.77.0.2:7000")}


def test_container_that_is_paused_counts(services, docker, on):
    web = docker.run("web", env={"BACKEND_DB": "db;3306"})
    web.pause()
    assert added(on("plan", "web")) == {(DB, "10.77.0.1:7000")}
    web.unpause()


def test_container_variable_with_a_nul_is_not_two(docker):
    """Docker takes it, and shows it; no process starts with it."""
    bad = docker.create("bad", env=["A=b\0BACKEND_EVIL=db;1"])
    assert bad.inspect()["Config"]["Env"] == ["A=b\0BACKEND_EVIL=db;1"]
    with pytest.raises(Failure):
        bad.start()


def test_engine_that_is_not_there_is_told_with_a_hint(dragoman, tmp_path):
    result = dragoman("plan", "--container", "web", "--docker", f"unix://{tmp_path}/none")
    assert result.code == 1
    assert f"unix://{tmp_path}/none: " in result.errors[0]
    assert "is Docker running? --docker names another engine" in result.errors[0]
    result = dragoman("plan", "--container", "web", "--docker", "ssh://host")
    assert result.code == 1 and "ssh is not built" in result.errors[0]


def test_engine_that_hangs_is_given_up_in_time(dragoman, tmp_path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/s")
        listener.listen()
        result = dragoman("plan", "--container", "web", "--docker", f"unix://{tmp_path}/s",
                          "--timeout", "0.4", timeout=10)
    assert result.code == 1
    assert "no answer within the time limit" in result.errors[0]


def test_engine_is_the_one_that_docker_names(services, docker, dragoman):
    docker.run("web", env={"BACKEND_DB": "db;3306"})
    result = dragoman("plan", "--json", "--container", "web", "--docker", docker.url,
                      env={"DOCKER_HOST": "unix:///nowhere"})
    assert result.code == 3, result
