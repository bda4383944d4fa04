# SPDX-License-Identifier: MIT
"""The agent beside the programs of either Debian release: 12's etcd is 3.4, 13's is 3.5.

What a watch is told by each of them is test_watch.py's.
"""

import time

import pytest

from lab import nft
from lab.agent import Agent
from lab.etcd import Etcd
from lab.releases import machine_source
from lab.waiting import wait_until

WEB = "127.0.0.1:80/tcp"


def wait_for(namespace, *wanted):
    """Until those endpoints are what the kernel holds; how many seconds it took."""
    started = time.monotonic()
    wait_until(lambda: "inet dragoman" in nft.tables(namespace)
               and {slot.endpoint for slot in nft.slots(namespace, WEB)} == set(wanted),
               what=f"{wanted}")
    return time.monotonic() - started


def test_agent_with_the_etcd_of_either_release(etcd_program, container):
    with Etcd(program=etcd_program) as etcd:
        etcd.endpoint("/services/web/a", "10.77.0.1", 7000)
        with Agent("--netns", container, "-b", "WEB=web;80", registry=etcd.url) as agent:
            wait_for(container, "10.77.0.1:7000")
            etcd.endpoint("/services/web/b", "10.77.0.2", 7000)
            taken = wait_for(container, "10.77.0.1:7000", "10.77.0.2:7000")
            print(f"etcd {etcd.version}: in the kernel within {1000 * taken:.0f} ms of the put")
            assert taken < 1
            etcd.stop()
            wait_until(lambda: agent.status()["registry"]["state"] == "lost", what="the loss")
            assert len(nft.slots(container, WEB)) == 2
            etcd.start_again()
            etcd.delete("/services/web/a")
            wait_for(container, "10.77.0.2:7000")
            etcd.delete("/services/web/b")
            wait_for(container)
            assert agent.namespace(container.inode)["backends"][0]["state"] == "empty"


_DEB822 = """
# The machine's own.
Types: deb deb-src
URIs: http://one/debian
Suites: bookworm bookworm-updates
Components: main
Enabled: no

Types: deb
URIs: http://two/security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://three/debian
# between
Suites: bookworm
  bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
"""

_LIST = """
# deb http://no/debian bookworm main
deb-src http://no/debian bookworm main
deb http://no/debian bookworm-security main
deb http://no/debian bookworm contrib
deb [ arch=amd64 signed-by=/a/key.gpg ] http://three/debian bookworm main contrib # comment
"""


@pytest.mark.parametrize("name, text, key", [
    ("debian.sources", _DEB822, "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF"),
    ("debian.list", _LIST, "/a/key.gpg")], ids=["deb822", "lines"])
def test_laboratory_takes_the_mirror_of_the_machines_own_sources(tmp_path, name, text, key):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "another.list.disabled").write_text("deb http://x bookworm main")
    (tmp_path / "sources.list.d" / name).write_text(text)
    source = machine_source("bookworm", tmp_path)
    assert source["uris"] == "http://three/debian" and source["signed-by"] == key
    with pytest.raises(AssertionError, match="trixie"):
        machine_source("trixie", tmp_path)
