# SPDX-License-Identifier: MIT
"""`dragoman status --watch`: a page on a terminal, lines in a pipe; and the terminal given back."""

import os
import re
import signal
import subprocess

import pytest

from lab.agent import Agent
from lab.command import PROGRAM, Dragoman
from lab.processes import Process
from lab.terminal import Terminal
from lab.traffic import connect, serve
from lab.waiting import wait_until

ENVIRONMENT = {**Dragoman().environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"}


@pytest.fixture
def agent(etcd, container):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    etcd.endpoint("/services/web/b", "10.77.0.2", 8080)
    more = [word for port in range(81, 101) for word in ("-b", f"M{port}=web;{port}")]
    with Agent("--netns", container, "-b", "WEB=web;80", "-b", "GONE=nobody;79", *more,
               registry=etcd.url) as running:
        yield running


@pytest.fixture
def watch(agent):
    def start(*arguments, **options):
        return Terminal(PROGRAM, "status", "--watch", "--socket", agent.socket, *arguments,
                        env=ENVIRONMENT, **options)
    return start


def test_watch_shows_what_happens_while_it_happens(watch, etcd, container, hosts):
    with watch(rows=40) as terminal, serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp"):
        terminal.await_text("1 namespace, 22 backends, 1 problem")
        assert terminal.page.is_alternate and not terminal.page.has_cursor
        assert not terminal.has_echo()
        # Its first change is of the start; another one comes, and connections do.
        etcd.endpoint("/services/web/c", "10.77.0.3", 8080)
        terminal.await_text("+ 127.0.0.1:80/tcp -> 10.77.0.3:8080".replace(":80/", ":100/"))
        etcd.delete("/services/web/c")
        terminal.await_page(lambda page: re.search(r"- 127\.0\.0\.1:\d+/tcp -> 10\.77\.0\.3:8080",
                                                   page.text), "the change shown")

        def some_a_second(page):
            connect(container, "127.0.0.1:80/tcp", times=5)
            return re.search(r" [1-9][0-9.]* connections/s", page.text)

        terminal.await_page(some_a_second, "connections a second")
        assert re.search(r"event to commit [0-9.]+ ms", terminal.page.text)
        # The problem first, and then by their order.
        lines = terminal.page.text.splitlines()
        first = next(index for index, line in enumerate(lines) if str(container) + " (" in line)
        assert lines[first + 1].split()[:2] == ["empty", "79/tcp"]
        terminal.type("q")
        assert terminal.wait() == 0
        assert not terminal.page.is_alternate and terminal.page.has_cursor and terminal.has_echo()


def test_watch_fits_the_terminal_when_that_changes(watch):
    with watch(columns=80, rows=24) as terminal:
        text = terminal.await_text("lines 1 to ")
        assert "BACKEND_M81  " not in text and "scroll" in text.splitlines()[23]
        terminal.resize(200, 120)
        # A wide page has the variable on the same line; all of it fits.
        terminal.await_page(lambda page: re.search(r"ready +81/tcp +/services/web +BACKEND_M81",
                                                   page.text), "a wide page")
        assert terminal.await_text("q quits").rstrip().splitlines()[-1] == "q quits"
        terminal.resize(60, 12)
        terminal.await_text("lines 1 to ")
        terminal.type("j" * 5)
        terminal.await_text("lines 6 to ")
        terminal.type("k")
        terminal.await_text("lines 5 to ")
        terminal.type(" " * 200)
        terminal.await_page(lambda page: re.search(r"to (\d+) of \1;", page.text), "the end")
        terminal.resize(20, 3)
        terminal.resize(80, 24)
        terminal.await_text("1 namespace")
        terminal.type("q")
        assert terminal.wait() == 0


@pytest.mark.parametrize("how", ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "Ctrl-C"))
def test_watch_gives_the_terminal_back(watch, how):
    with watch() as terminal:
        before = terminal.has_echo()
        terminal.await_text("1 namespace")
        assert terminal.page.is_alternate and not terminal.has_echo()
        if how == "Ctrl-C":
            terminal.type("\x03")
        else:
            terminal.send(getattr(signal, how))
        assert terminal.wait() == 0
        assert before and terminal.has_echo()
        assert not terminal.page.is_alternate and terminal.page.has_cursor


def test_watch_stopped_gives_the_terminal_to_the_shell(watch):
    with watch() as terminal:
        terminal.await_text("1 namespace")
        terminal.send(signal.SIGTSTP)
        terminal.await_page(lambda page: not page.is_alternate, "the page left")
        wait_until(terminal.has_echo, what="the terminal as it was")
        terminal.send(signal.SIGCONT)
        terminal.await_text("1 namespace")
        assert terminal.page.is_alternate and not terminal.has_echo()
        terminal.type("q")
        assert terminal.wait() == 0


def test_watch_outlives_the_agent_and_tells_that_it_is_gone(watch, agent):
    with watch() as terminal:
        terminal.await_text("1 namespace")
        agent.end()
        terminal.await_page(lambda page: "no agent runs here" in page.words, "the agent gone")
        assert "what follows is older" in terminal.page.words
        agent.start()
        terminal.await_page(lambda page: "no agent" not in page.words
                            and "1 namespace" in page.text, "the agent again")
        terminal.type("q")
        assert terminal.wait() == 0


def test_watch_lets_no_escape_through(etcd, namespaces):
    """Page fails at any sequence and control character but our own."""
    name = namespaces.new("evil\x1b[2J\x07")
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    etcd.put("/services/web/\x1b]0;owned\x07", "nonsense")
    with Agent("--netns", name, "-b", "WEB=web;80", registry=etcd.url) as running, \
            Terminal(PROGRAM, "status", "--watch", "--socket", running.socket,
                     env=ENVIRONMENT) as terminal:
        terminal.await_text("1 namespace")
        words = terminal.page.words
        assert "evil\\x1b[2J\\x07" in words and "\\x1b]0;owned\\x07" in words, words
        terminal.type("q")
        assert terminal.wait() == 0


def test_watch_in_a_pipe_writes_lines(agent, etcd):
    command = (PROGRAM, "status", "--watch", "--socket", agent.socket)
    with Process(*command, env=ENVIRONMENT) as process:
        first = process.read_line()
        assert re.fullmatch(r"\d\d:\d\d:\d\d  1 namespace, 22 backends, 1 problem", first), first
        etcd.endpoint("/services/nobody/a", "10.77.0.4", 8080)
        seen = []
        while not seen or ": + 127.0.0.1:79/tcp -> 10.77.0.4:8080" not in seen[-1]:
            seen.append(process.read_line())
        assert all("\x1b" not in line for line in seen)
        wait_until(lambda: "0 problems" in process.read_line(), what="no problem")
    # Whoever reads has gone: that is the end, and no failure.
    reader, writer = os.pipe()
    ended = subprocess.Popen([str(word) for word in command], stdout=writer, env=ENVIRONMENT,
                             stderr=subprocess.PIPE)
    os.close(writer)
    assert os.read(reader, 1)
    os.close(reader)
    assert ended.communicate(timeout=20)[1] == b"" and ended.returncode == 0


def test_watch_without_an_agent_is_an_error(tmp_path):
    with Terminal(PROGRAM, "status", "--watch", "--socket", tmp_path / "none",
                  env=ENVIRONMENT) as terminal:
        assert os.waitstatus_to_exitcode(terminal.wait()) == 1
        # It is said on the terminal's own page.
        assert not terminal.page.is_alternate
        assert "no agent runs here" in terminal.page.text.replace("\n", "")
        assert terminal.has_echo()
    result = Dragoman()("status", "--watch", "--json")
    assert result.code == 2 and "one of them is enough" in result.stderr
