# SPDX-License-Identifier: MIT
"""A Consul of our own: one server on loopback, with free ports and its own folder.

Services of the server's node are registered with its agent (`register`), which
has their checks; services of other nodes in the catalog (`put`), where nobody
looks after them.
"""

import json
import pathlib
import shutil
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid

from lab.etcd import Certificates, free_ports
from lab.processes import Process
from lab.waiting import wait_until

NODE = "laboratory"


class Consul:
    """Starts a server, waits until it leads, and ends it by its handle.

    program: its path (lab/releases.py). tls: with a certificate of its own, and
    clients must show one (certificates holds the files). acl: what is not
    allowed is denied; `token` may do all, and `grant` makes others. options:
    more of its configuration.
    """

    def __init__(self, program, tls=False, acl=False, options=None):
        self._program, self._options = program, options or {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-consul-"))
        self.certificates = Certificates(self.folder) if tls else None
        self.token = str(uuid.uuid4()) if acl else None
        self._process = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        """Somebody else may take a port meanwhile: then again, with others."""
        for _ in range(3):
            self.port, self._serf, self._rpc = free_ports(3)
            if self._try():
                return
            self._process.stop()
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        raise AssertionError("Consul does not start: " + self.log[-2000:])

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def _configuration(self):
        """Elections as they are on machines that are not busy, and nothing that asks the outside."""
        configuration = {
            "node_name": NODE, "data_dir": str(self.folder / "data"), "server": True,
            "bootstrap_expect": 1, "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
            "disable_update_check": True, "performance": {"raft_multiplier": 1},
            "ports": {"http": -1 if self.certificates else self.port,
                      "https": self.port if self.certificates else -1,
                      "dns": -1, "grpc": -1, "serf_lan": self._serf, "serf_wan": -1,
                      "server": self._rpc},
        }
        if self.certificates:
            configuration |= {"ca_file": str(self.certificates.ca),
                              "cert_file": str(self.certificates.server),
                              "key_file": str(self.certificates.server_key),
                              "verify_incoming": True}
        if self.token:
            configuration["acl"] = {"enabled": True, "default_policy": "deny",
                                    "tokens": {"master": self.token, "agent": self.token}}
        return configuration | self._options

    def _command(self):
        path = self.folder / "consul.json"
        path.write_text(json.dumps(self._configuration()))
        return [self._program, "agent", "-config-file", path]

    def launch(self):
        """Without waiting for it."""
        with (self.folder / "log").open("ab") as log:
            self._process = Process(*self._command(), output=log)

    def _try(self):
        self.launch()
        wait_until(lambda: self._process.ended() is not None or self.is_healthy(),
                   deadline=40, what="Consul's leader")
        return self._process.ended() is None

    def is_healthy(self):
        """It has a leader, and knows its own node."""
        try:
            return any(each["Node"] == self._configuration()["node_name"]
                       for each in self.call("/v1/catalog/nodes?consistent"))
        except OSError:
            return False

    def stop(self):
        """Ends the server; its data and its ports stay."""
        self._process.stop()

    def start_again(self, empty=False):
        """At the same ports, with the data that it had or with none."""
        if empty:
            shutil.rmtree(self.folder / "data")
        assert self._try(), self.log[-2000:]

    # The way there

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        """For --registry."""
        return f"{'consuls' if self.certificates else 'consul'}://{self.address}"

    def _web(self):
        return f"{'https' if self.certificates else 'http'}://{self.address}"

    def call(self, path, body=None, method=None):
        """What it answers, read as JSON; `True` where that is nothing."""
        context = None
        if self.certificates:
            context = ssl.create_default_context(cafile=self.certificates.ca)
            context.load_cert_chain(self.certificates.client, self.certificates.client_key)
        request = urllib.request.Request(
            self._web() + path, method=method, headers={"X-Consul-Token": self.token or ""},
            data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return json.loads(answer.read() or b"true")

    def _put(self, path, body=None):
        return self.call(path, body, "PUT")

    # Services of its own node, with its checks

    def register(self, service, name, address, port, status=None, **more):
        """status: of a check that says what it is told (set_check)."""
        check = {"Check": {"TTL": "1h", "Status": status}} if status else {}
        self._put("/v1/agent/service/register", {
            "ID": name, "Name": service, "Address": address, "Port": port, **check, **more})

    def deregister(self, name):
        self._put(f"/v1/agent/service/deregister/{name}")

    def set_check(self, name, what):
        """what: pass, warn or fail."""
        self._put(f"/v1/agent/check/{what}/service:{name}")

    def maintain(self, name, reason=None):
        """In maintenance mode for that reason, or no more."""
        query = urllib.parse.urlencode({"enable": str(bool(reason)).lower(),
                                        "reason": reason or ""})
        self._put(f"/v1/agent/service/maintenance/{name}?{query}")

    # Services of other nodes

    def put(self, service, name, address, port, node="elsewhere", tags=(), weight=1, attributes=None,
            **more):
        self._put("/v1/catalog/register", {
            "Node": node, "Address": "10.0.0.9", "SkipNodeUpdate": False,
            "Service": {"ID": name, "Service": service, "Address": address, "Port": port,
                        "Tags": list(tags), "Meta": attributes,
                        "Weights": {"Passing": weight, "Warning": 1}},
            **more})

    def delete(self, name, node="elsewhere"):
        self._put("/v1/catalog/deregister", {"Node": node, "ServiceID": name})

    def clear(self):
        """No services, and no other nodes."""
        for name in self.call("/v1/agent/services"):
            self.deregister(name)
        for node in self.call("/v1/catalog/nodes?consistent"):
            if node["Node"] != NODE:
                self._put("/v1/catalog/deregister", {"Node": node["Node"]})
        wait_until(lambda: set(self.call("/v1/catalog/services?consistent")) == {"consul"},
                   what="no services")

    # Tokens

    def grant(self, rules):
        """A token that may do so: rules in HCL."""
        name = str(uuid.uuid4())
        self._put("/v1/acl/policy", {"Name": name, "Rules": rules})
        token = self._put("/v1/acl/token", {"Policies": [{"Name": name}]})
        return token["SecretID"], token["AccessorID"]

    def revoke(self, accessor):
        self.call(f"/v1/acl/token/{accessor}", method="DELETE")

    def close(self):
        if self._process:
            self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
