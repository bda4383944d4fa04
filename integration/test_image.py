# SPDX-License-Identifier: MIT
"""The agent as a container, with the flags that contrib/image/README.md tells, and without.

The image is not the recipe's, for which a base and a mirror are needed, but the program
with its libraries.
"""

import argparse
import contextlib
import http.client
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from lab.command import PROGRAM
from lab.docker import Connection
from lab.namespaces import Inside
from lab.processes import run
from lab.traffic import connect, serve
from lab.waiting import wait_until

README = pathlib.Path(__file__).parent.parent / "contrib/image/README.md"


def documented():
    """The words of `docker run` there; a flag that is not known here is an error."""
    text = README.read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^ +docker run (.*)", text, re.MULTILINE)
    parser = argparse.ArgumentParser(exit_on_error=False)
    for name in ("--name", "--restart", "--pid", "--network"):
        parser.add_argument(name)
    for name in ("--detach", "--read-only"):
        parser.add_argument(name, action="store_true")
    for name in ("--cap-drop", "--cap-add", "--security-opt", "--volume"):
        parser.add_argument(name, action="append")
    parser.add_argument("image")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    return parser.parse_args(shlex.split(line))


@pytest.fixture(scope="module")
def image(docker_server, tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for name in re.findall(r"(/\S+) \(0x", run("ldd", PROGRAM).stdout):
        (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, root / name[1:])
    (root / "usr/sbin").mkdir(parents=True, exist_ok=True)
    shutil.copy(PROGRAM, root / "usr/sbin/dragoman")
    archive = subprocess.run(["tar", "-C", root, "-c", "."], check=True,
                             stdout=subprocess.PIPE).stdout
    docker_server.api("POST", "/images/create?fromSrc=-&repo=dragoman", archive,
                      "application/x-tar", parse=False)
    return "dragoman"


class Agent:
    """The container. Host paths of the test stand for those of the documentation."""

    def __init__(self, docker, image, flags, registry, folder):
        self._docker, self._folder = docker, folder
        here = {"/var/run/docker.sock": docker.socket, "/run/dragoman": folder}
        binds = [f"{here[host]}:{inside}" for host, inside in
                 (volume.split(":") for volume in flags.volume)]
        # What the client of Docker makes of it.
        system = "systempaths=unconfined" in flags.security_opt
        made = docker.api("POST", f"/containers/create?name={flags.name}", {
            "Image": image, "Entrypoint": ["/usr/sbin/dragoman"],
            "Cmd": [*flags.words[:flags.words.index("--registry")], "--registry", registry],
            "Env": [f"{name}={os.environ[name]}" for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")
                    if name in os.environ],
            "HostConfig": {
                "PidMode": flags.pid or "", "NetworkMode": flags.network,
                "ReadonlyRootfs": flags.read_only,
                "CapDrop": flags.cap_drop, "CapAdd": flags.cap_add, "Binds": binds,
                "SecurityOpt": [each for each in flags.security_opt
                                if not each.startswith("systempaths=")],
                **({"MaskedPaths": [], "ReadonlyPaths": []} if system else {}),
                "CgroupParent": f"/{docker._cgroup}"}})
        self.id = made["Id"]
        docker.api("POST", f"/containers/{self.id}/start")

    def log(self):
        connection = Connection(self._docker.socket)
        connection.request("GET", f"/containers/{self.id}/logs?stdout=1&stderr=1")
        with contextlib.closing(connection):
            return connection.getresponse().read().decode(errors="replace")

    def runs(self):
        return self._docker.api("GET", f"/containers/{self.id}/json")["State"]["Running"]

    def get(self, path):
        connection = Connection(self._folder / "dragoman.sock")
        with contextlib.closing(connection):
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def is_ready(self):
        assert self.runs(), self.log()
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/readyz")[0] == 200
        return False


@pytest.fixture
def start(docker, image, etcd, tmp_path):
    """start(flags): the agent's container; it ends with the test."""
    return lambda flags: Agent(docker, image, flags, etcd.url, tmp_path)


@pytest.fixture
def web(docker, hosts, etcd):
    """A container on a cable, at whose other end there is an endpoint of its service."""
    etcd.endpoint("/services/web/a", "10.78.0.1", 7000)
    made = docker.run("web", env={"BACKEND_WEB": "web;80"})
    inside = Inside(made.pid)
    run("ip", "link", "add", "to-web", "netns", hosts, "type", "veth", "peer", "name", "eth0",
        "netns", made.pid)
    hosts.ip("link", "set", "to-web", "up")
    hosts.add_address("10.78.0.1/24", device="to-web")
    inside.run("ip", "address", "add", "10.78.0.2/24", "dev", "eth0")
    inside.run("ip", "link", "set", "eth0", "up")
    serve(hosts, "10.78.0.1:7000/tcp")
    return made


def test_image_agent_leads_localhost_with_the_documented_flags(start, web):
    agent = start(documented())
    wait_until(agent.is_ready, what="the agent in its container")
    assert connect(Inside(web.pid), "127.0.0.1:80/tcp", 10) == {"10.78.0.1:7000": 10}
    (known,) = [each for each in json.loads(agent.get("/status")[1])["namespaces"]
                if each["netns"] == web.inode]
    assert [each["name"] for each in known["containers"]] == ["web"]


@pytest.mark.parametrize("capability", documented().cap_add)
def test_image_names_a_capability_that_is_missing(start, capability):
    flags = documented()
    flags.cap_add.remove(capability)
    agent = start(flags)
    wait_until(lambda: not agent.runs(), what="the agent to end")
    assert f"CAP_{capability} missing" in agent.log()


def test_image_says_that_sysctls_cannot_be_written(start, web):
    flags = documented()
    flags.security_opt.remove("systempaths=unconfined")
    agent = start(flags)
    wait_until(lambda: "/proc/sys/net/ipv4/conf/all/route_localnet is not writable here"
               in agent.log(), what="the reason")


def test_image_says_that_processes_are_out_of_sight(start, web):
    flags = documented()
    flags.pid = None
    agent = start(flags)
    wait_until(lambda: f"web: there is no process {web.pid} here" in agent.log(),
               what="the reason")
