# SPDX-License-Identifier: MIT
"""Registries with one face: etcd v3, etcd v2, a file, and Consul.

Those of REGISTRIES hold documents at keys: put("/services/web/a", document). All
of EVERY_REGISTRY have services with endpoints, however they write them down:

    registry.add("web", "a", "10.0.0.1", 80, tags=["prod"])   again: changes it
    registry.drain("web", "a", "10.0.0.1", 80)                it takes no new connections
    registry.remove("web", "a")
    registry.service("web"), registry.key("web", "a")         as the program calls them
"""

import json
import urllib.parse


def endpoints_of(documents):
    """{"a": "10.0.0.1:80"} of {key: document}, whatever form that has."""
    found = {}
    for key, text in documents.items():
        fields = json.loads(text)
        address = fields.get("ipaddress") or fields["host"]
        port = fields.get("host_port") or fields["port"]
        found[key.rpartition("/")[2]] = f"{address}:{port}"
    return found


class _Keys:
    """An endpoint is a document below its service's key."""

    def service(self, name):
        return f"/services/{name}"

    def key(self, service, name):
        return f"{self.service(service)}/{name}"

    def add(self, service, name, address, port=8080, **more):
        self.put(self.key(service, name), {"ipaddress": address, "host_port": str(port), **more})

    def drain(self, service, name, *endpoint):
        self.add(service, name, *endpoint, weight=0)

    def remove(self, service, name):
        self.delete(self.key(service, name))


class Etcd3Registry(_Keys):
    name, server = "etcd", "etcd"
    holds_key_and_below = True  # a key may be a document and have others below it

    def __init__(self, server, folder):
        self._server, self.url = server, server.url

    def put(self, key, value):
        self._server.put(key, value)

    def delete(self, key):
        self._server.delete(key)


class Etcd2Registry(_Keys):
    name, server = "etcd2", "etcd"
    holds_key_and_below = False

    def __init__(self, server, folder):
        self._server, self.url = server, server.url_v2

    def put(self, key, value):
        self._server.put_v2(key, value)

    def delete(self, key):
        self._server.delete_v2(key)

    def make_directory(self, key):
        self._server._open(f"/v2/keys{urllib.parse.quote(key)}", b"dir=true", "PUT",
                           {"Content-Type": "application/x-www-form-urlencoded"})


class FileRegistry(_Keys):
    name, server = "file", None
    holds_key_and_below = True

    def __init__(self, server, folder):
        self._path, self._values = folder / "registry.json", {}
        self.url = f"file://{self._path}"
        self._write()

    def _write(self):
        """At once: one written in place may be read half, which is an error that is told."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(self._values))
        new.rename(self._path)

    def put(self, key, value):
        """Bytes that are no text stand in no JSON: they are for the others."""
        self._values[key] = value.decode() if isinstance(value, bytes) else value
        self._write()

    def delete(self, key):
        del self._values[key]
        self._write()


class ConsulRegistry:
    """An endpoint is an instance, on a node for each service: an ID is of a node."""

    name, server = "consul", "consul"

    def __init__(self, server, folder):
        self._server, self.url = server, server.url

    def service(self, name):
        return name

    def key(self, service, name):
        return f"{service}/of-{service}/{name}"

    def add(self, service, name, address, port=8080, **more):
        self._server.put(service, name, address, port, node=f"of-{service}", **more)

    def drain(self, service, name, *endpoint):
        """Weights are 1 and more there; what drains is in maintenance, or fails a check."""
        self.add(service, name, *endpoint, Check={
            "CheckID": f"of-{name}", "Name": "drained", "Status": "critical", "ServiceID": name})

    def remove(self, service, name):
        self._server.delete(name, node=f"of-{service}")


REGISTRIES = {each.name: each for each in (Etcd3Registry, Etcd2Registry, FileRegistry)}
EVERY_REGISTRY = REGISTRIES | {ConsulRegistry.name: ConsulRegistry}
