# SPDX-License-Identifier: MIT
"""A Consul of three servers, each in a namespace of its own, on one switch.

    with ConsulCluster(program) as cluster:
        agent = cluster.run("--netns", container, "-b", "WEB=web;80")
        cluster.leader().stop()
        cluster.put("web", "a", "10.77.0.1", 80)    as soon as a majority takes it
        cluster.heal()
"""

import contextlib
import http.client
import pathlib
import shutil
import tempfile

from lab.agent import Agent
from lab.command import PROGRAM
from lab.consul import Consul
from lab.namespaces import Namespaces, inside
from lab.network import Switch
from lab.waiting import wait_until

PREFIX = "10.78.1"


class Server(Consul):
    def __init__(self, cluster, number, namespace, program):
        self.folder = cluster.folder / str(number)
        self.folder.mkdir()
        self._program, self._options = program, {}
        self.certificates = self.token = self._process = None
        self.port, self._serf, self._rpc = 8500, 8301, 8300
        self._cluster, self._number, self.namespace = cluster, number, namespace

    @property
    def host(self):
        return f"{PREFIX}.{self._number}"

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def _configuration(self):
        return super()._configuration() | {
            "node_name": f"server{self._number}", "bootstrap_expect": self._cluster.SIZE,
            "bind_addr": self.host, "client_addr": self.host,
            "retry_join": [each.host for each in self._cluster.servers], "retry_interval": "1s"}

    def _command(self):
        return ["nsenter", f"--net={self.namespace.path}", *super()._command()]

    def call(self, *arguments, **options):
        with inside(self.namespace):
            return super().call(*arguments, **options)

    @property
    def is_up(self):
        return self._process.ended() is None


class ConsulCluster:
    """It has a leader when it is made. Usable with `with`."""

    SIZE = 3

    def __init__(self, program):
        self._namespaces = Namespaces()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-consuls-"))
        self.servers = []
        try:
            switch = Switch(self._namespaces, "servers", PREFIX)
            self.client = self._namespaces.new("agent")
            switch.plug(self.client, 100)
            for number in range(1, self.SIZE + 1):
                namespace = self._namespaces.new(f"server{number}")
                switch.plug(namespace, number)
                self.servers.append(Server(self, number, namespace, program))
            for server in self.servers:
                server.launch()
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self):
        """Until every server knows of a leader, and itself in its catalog."""
        wait_until(lambda: all(server.is_healthy() for server in self.servers), 60,
                   what="three servers with a leader")

    def leader(self):
        def look():
            for server in self.servers:
                with contextlib.suppress(OSError):
                    host = server.is_up and server.call("/v1/status/leader").partition(":")[0]
                    found = [each for each in self.servers if each.host == host and each.is_up]
                    if found:
                        return found[0]
            return None
        return wait_until(look, 40, what="a leader that runs")

    def run(self, *arguments, first, **options):
        """An agent on their network, whose list of hosts begins with that server."""
        others = [each for each in self.servers if each is not first]
        url = "consul://" + ",".join(each.address for each in [first, *others])
        return Agent(*arguments, registry=url,
                     command=["nsenter", f"--net={self.client.path}", PROGRAM], **options)

    def put(self, *instance, **more):
        """As Consul's, at any that takes it."""
        def ask():
            for server in self.servers:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    if server.is_up:
                        server.put(*instance, **more)
                        return True
            return False
        wait_until(ask, 60, what="a majority that writes")

    def heal(self):
        """Every server runs, and has a leader."""
        for server in self.servers:
            if not server.is_up:
                server.launch()
        self.wait()

    def close(self):
        for server in self.servers:
            if server._process:
                server.stop()
        self._namespaces.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
