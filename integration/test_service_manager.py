# SPDX-License-Identifier: MIT
"""What the agent tells systemd, without one: sd_notify(3), and the grades of lines for the journal."""

import socket
import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM
from lab.processes import run as command

# Has its standard error taken for the journal; see systemd.exec(5), JOURNAL_STREAM.
TO_THE_JOURNAL = ("sh", "-c", """
    JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)
    export JOURNAL_STREAM
    exec "$@"
    """, "sh")


@pytest.fixture
def manager(tmp_path):
    """The socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


def test_service_manager_is_told_of_readiness_and_fed(manager, etcd, container):
    etcd.endpoint("/services/web/a", "10.77.0.1", 7000)
    with Agent("--netns", container, "-b", "WEB=web;80", registry=etcd.url, ready=False,
               env={"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "400000"}) as agent:
        told = [manager.recv(4096)]
        while told[-1] != b"READY=1":
            told.append(manager.recv(4096))
        assert {slot.endpoint for slot in nft.slots(container, "127.0.0.1:80/tcp")} == \
            {"10.77.0.1:7000"}
        start = time.monotonic()
        for _ in range(4):
            assert manager.recv(4096) == b"WATCHDOG=1"
        assert time.monotonic() - start >= 0.5
        assert agent.is_ready()


def test_service_manager_gets_lines_with_their_grade(etcd, container):
    etcd.endpoint("/services/web/a", "10.77.0.1", 7000)
    with Agent("--netns", container, "-b", "WEB=web;80", registry=etcd.url,
               command=(*TO_THE_JOURNAL, PROGRAM)) as agent:
        assert "<6>ready" in agent.log.splitlines()


@pytest.mark.parametrize("before, words, code, said", [
    ((), ("--no-such-option",), 2, "<3>unknown option --no-such-option"),
    ((), ("--netns", "/nowhere", "-b", "WEB=web;80"), 1, "<3>/nowhere: "),
    (("setpriv", "--bounding-set=-net_admin"), ("--netns", "x", "-b", "WEB=web;80"), 1,
     "<3>no privilege: CAP_NET_ADMIN missing"),
])
def test_service_manager_learns_why_the_agent_does_not_start(tmp_path, before, words, code, said):
    """`journalctl -p err` shows it, which has a line without a grade for information."""
    done = command(*TO_THE_JOURNAL, *before, PROGRAM, "run", "--socket", tmp_path / "s",
                   "--registry", "file:///nowhere", *words, check=False)
    assert done.returncode == code, done
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1, done
