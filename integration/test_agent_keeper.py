# SPDX-License-Identifier: MIT
"""A namespace that the running agent keeps: commands that would change it are refused."""

import contextlib
import os
import pathlib
import types

import pytest

from lab import nft
from lab.agent import Agent
from lab.events import Events
from lab.processes import Process, run as command
from lab.waiting import wait_until

# All of what is said, in one line that names the target.
REFUSAL = ("the running agent keeps this namespace, and would undo the change "
           "(see dragoman status; --force does it all the same)")
OTHER = ("-b", "OTHER=other;81")


@pytest.fixture
def services(etcd):
    etcd.endpoint("/services/web/a", "10.77.0.1", "7000")
    etcd.endpoint("/services/other/a", "10.77.0.2", "7000")
    return etcd


@pytest.fixture
def keep(services):
    """keep("--netns", web): an agent that is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(*arguments, **options):
            return stack.enter_context(Agent(*arguments, registry=services.url, **options))
        yield start


def by_name(namespaces):
    one = namespaces.new("kept")
    return types.SimpleNamespace(path=one.path, target=("--netns", one), name=str(one),
                                 kept_as=("--netns", one, "-b", "WEB=web;80"), engine=())


def by_path(namespaces):
    """The agent has it by its name, the command by another."""
    kept = by_name(namespaces)
    kept.target, kept.name = ("--netns", kept.path), str(kept.path)
    return kept


@contextlib.contextmanager
def by_process(namespaces):
    with Process("unshare", "--net", "sleep", "1000") as process:
        path = pathlib.Path(f"/proc/{process.pid}/ns/net")
        wait_until(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino,
                   what="a namespace of its own")
        command("nsenter", f"--net={path}", "ip", "link", "set", "lo", "up")
        yield types.SimpleNamespace(
            path=path, target=("--pid", process.pid), name=f"process {process.pid}",
            kept_as=("--pid", process.pid, "-b", "WEB=web;80"), engine=())


@contextlib.contextmanager
def by_container(docker):
    web = docker.run("kept", env={"BACKEND_WEB": "web;80"})
    yield types.SimpleNamespace(
        path=pathlib.Path(f"/proc/{web.pid}/ns/net"), target=("--container", "kept"),
        name="container kept", kept_as=("--docker", docker.url), engine=("--docker", docker.url))


@pytest.fixture(params=("name", "path", "pid", "container"))
def kept(request, namespaces):
    """A namespace, how the agent is told of it, and how a command is."""
    with contextlib.ExitStack() as stack:
        if request.param == "container":
            docker = request.getfixturevalue("docker")
            yield stack.enter_context(by_container(docker))
        elif request.param == "pid":
            yield stack.enter_context(by_process(namespaces))
        else:
            yield (by_name if request.param == "name" else by_path)(namespaces)


class Inside:
    """What `lab.nft` and `lab.events` want of a namespace, for any of its files."""

    def __init__(self, path):
        self._path, self._processes = path, contextlib.ExitStack()

    def run(self, *words, **options):
        return command("nsenter", f"--net={self._path}", *words, **options)

    def start(self, *words):
        return self._processes.enter_context(
            Process("nsenter", f"--net={self._path}", *words))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._processes.close()


@pytest.fixture
def inside(kept):
    with Inside(kept.path) as space:
        yield space


def test_keeper_refuses_reconcile_and_flush_and_nothing_is_changed(keep, dragoman, kept, inside):
    agent = keep(*kept.kept_as)
    before, events = nft.listing(inside), Events(inside)
    assert "10.77.0.1" in before
    place = (*kept.target, *kept.engine)
    words = (*place, "--socket", agent.socket)
    for refused in (("reconcile", *words, *OTHER), ("reconcile", "--json", *words, *OTHER),
                    ("flush", *words), ("flush", "--json", *words)):
        result = dragoman(*refused)
        assert result.code == 1, result
        assert result.errors == [f"{kept.name}: {REFUSAL}"], result
        assert "--json" not in refused or result.json["changes"] == [], result
    # To look is free: it changes nothing.
    result = dragoman("plan", "--json", *place, *OTHER)
    assert result.code == 3 and ("add", "127.0.0.1:81/tcp", "10.77.0.2:7000") in result.changes
    assert events.heard() == {} and nft.listing(inside) == before
    assert agent.metric("drift_repairs_total") == 0


def test_keeper_puts_right_what_force_has_changed(keep, dragoman, kept, inside):
    agent = keep(*kept.kept_as)
    before = nft.whole(inside)
    words = (*kept.target, *kept.engine, "--socket", agent.socket, "--force", "--json")
    for number, forced in enumerate((("reconcile", *words, *OTHER), ("flush", *words)), 1):
        result = dragoman(*forced)
        assert result.code == 0 and result.errors == [] and result.json["changes"], result
        wait_until(lambda: agent.metric("drift_repairs_total") >= number, what="a repair")
        wait_until(lambda: nft.whole(inside) == before, what="what the agent wants")
    assert inside.run("cat", "/proc/sys/net/ipv4/conf/all/route_localnet").stdout == "1\n"


def test_keeper_lets_others_have_what_it_does_not_keep(keep, dragoman, namespaces):
    agent = keep("--netns", namespaces.new("kept"), "-b", "WEB=web;80")
    free = namespaces.new("free")
    words = ("--netns", free, "--socket", agent.socket)
    assert dragoman("reconcile", *words, *OTHER).code == 0
    assert dragoman("flush", *words).code == 0


def test_keeper_that_has_ended_keeps_nothing(keep, dragoman, namespaces):
    """Neither with its socket there nor without; nor does another's socket."""
    one = namespaces.new("kept")
    agent = keep("--netns", one, "-b", "WEB=web;80")
    words = ("--netns", one, *OTHER, "--socket")
    assert dragoman("reconcile", *words, agent.folder / "nobody").code == 0
    wait_until(lambda: agent.metric("drift_repairs_total") == 1, what="the agent to mend that")
    agent.kill()
    assert agent.socket.exists()
    assert dragoman("reconcile", *words, agent.socket).code == 0
    agent.start()
    agent.end()
    assert not agent.socket.exists()
    assert dragoman("reconcile", *words, agent.socket).code == 0


def test_keeper_is_one_for_containers_too(keep, dragoman, docker, tmp_path):
    """A second agent on the host says which lock is held, and touches nothing."""
    web = docker.run("web", env={"BACKEND_WEB": "web;80"})
    agent = keep("--docker", docker.url)
    with Inside(f"/proc/{web.pid}/ns/net") as inside:
        before, events = nft.listing(inside), Events(inside)
        result = dragoman("run", "--docker", docker.url, "--socket", agent.socket,
                          "--env-prefix", "OTHER_")
        assert result.code == 1
        assert result.errors[-1] == ("another agent runs on this host: it holds "
                                     f"{agent.socket}.lock (dragoman status shows what it "
                                     "does; end it first)")
        assert events.heard() == {} and nft.listing(inside) == before
    assert agent.get("/healthz")[0] == 200
