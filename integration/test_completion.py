# SPDX-License-Identifier: MIT
"""The completions of contrib/completion, by the shells that they are for."""

import os
import re
import shutil
import time

import pytest

from lab.command import PROGRAM
from lab.processes import run
from lab.shells import SHELLS

COMMANDS = {"reconcile", "plan", "resolve", "flush", "run", "status", "explain", "hook", "help"}


@pytest.fixture(scope="module", params=SHELLS)
def shell(request, tmp_path_factory):
    with SHELLS[request.param](tmp_path_factory.mktemp("shell")) as started:
        yield started


@pytest.fixture(params=SHELLS)
def shell_with(request, tmp_path):
    """shell_with(docker="script"): a shell to which just that is docker; None: nothing is."""
    started = []

    def start(docker=None, **environment):
        programs = tmp_path / "bin"
        programs.mkdir()
        for name in ("timeout", "mv", "sleep", "sh", "cat"):
            (programs / name).symlink_to(shutil.which(name))
        if docker:
            (programs / "docker").write_text(f"#!/bin/sh\n{docker}\n")
            (programs / "docker").chmod(0o755)
        shell = SHELLS[request.param](tmp_path, PATH=str(programs), **environment)
        started.append(shell)
        return shell

    yield start
    for each in started:
        each.__exit__()


def test_completion_offers_every_command(shell):
    assert shell.complete("dragoman ").words >= COMMANDS
    assert shell.complete("dragoman ").words - COMMANDS <= {"--help", "--version"}
    assert shell.complete("dragoman re").words == {"reconcile", "resolve"}


def test_completion_of_help_offers_the_commands(shell):
    assert shell.complete("dragoman help st").words == {"status"}


@pytest.mark.parametrize("command", sorted(COMMANDS - {"help"}))
def test_completion_offers_the_options_that_help_shows(shell, command):
    text = run(PROGRAM, command, "--help").stdout
    expected = set(re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE))
    assert shell.complete(f"dragoman {command} --").words == expected


@pytest.mark.parametrize("typed, expected", [
    ("plan --balance ", {"random", "nth"}),
    ("plan --balance=", {"random", "nth"}),
    ("run --netns x --on-empty h", {"hold"}),
    ("flush --on-remove ", {"drain", "reset"}),
    ("status --log-level w", {"warn"}),
    ("resolve --registry consul", {"consul://", "consuls://"}),
    ("plan --timeout ", set()),
    ("nosuch --", set()),
    ("plan --probe", set()),
])
def test_completion_offers_values(shell, typed, expected):
    assert shell.complete(f"dragoman {typed}").words == expected


def test_completion_offers_namespaces(shell, namespaces):
    name = namespaces.new("completed").name
    for typed in ("reconcile --netns ", f"run --netns {name[:-2]}", f"plan --netns={name[:-2]}"):
        assert name in shell.complete(f"dragoman {typed}").words


def test_completion_offers_files(shell, tmp_path):
    (tmp_path / "one.env").write_text("")
    for option in ("--env-file ", "--tls-ca ", "--registry-password-file ", "--socket ", "--netns "):
        words = shell.complete(f"dragoman reconcile {option}{tmp_path}/one.e").words
        assert {os.path.basename(each) for each in words} == {"one.env"}, option


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_completion_of_the_only_one_makes_a_whole_word(tmp_path, name):
    # Behind an option zsh puts a =, and bash a blank.
    behind = {"bash": " ", "zsh": "="}[name]
    with SHELLS[name](tmp_path) as shell:
        for typed, completed in (
                ("rec", "reconcile "),
                ("plan --log", f"plan --log-level{behind}"),
                ("plan --balance n", "plan --balance nth "),
                ("plan --balance=n", "plan --balance=nth "),
                # A colon is a border to bash, and the address comes behind it.
                ("plan --registry etcd2s", "plan --registry etcd2s://"),
                ("plan --registry=etcd2s:", "plan --registry=etcd2s://")):
            assert shell.complete(f"dragoman {typed}").line == f"dragoman {completed}"


def test_completion_offers_running_containers(docker, tmp_path):
    docker.run("alpha"), docker.run("beta")
    for name, shell in SHELLS.items():
        with shell(tmp_path, DOCKER_HOST=docker.url) as started:
            words = started.complete("dragoman reconcile --container ").words
            assert words == {"alpha", "beta"}, name
            assert started.complete("dragoman status --container al").words == {"alpha"}, name
        with shell(tmp_path / "named", DOCKER_HOST="unix:///nowhere") as started:
            for option in (f"--docker {docker.url}", f"--docker={docker.url}"):
                words = started.complete(f"dragoman plan {option} --container ").words
                assert words == {"alpha", "beta"}, (name, option)


@pytest.mark.parametrize("docker", [None, "echo gone >&2; exit 1", "exec sleep 60"],
                         ids=["not-there", "fails", "hangs"])
def test_completion_without_an_engine_is_quick_and_says_nothing(shell_with, docker):
    shell = shell_with(docker)
    begun = time.monotonic()
    assert shell.complete("dragoman reconcile --container ").words == set()
    assert time.monotonic() - begun < 5
