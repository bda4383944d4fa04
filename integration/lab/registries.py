# SPDX-License-Identifier: MIT
"""Registries with one face: etcd v3, etcd v2 and a file."""

import json
import urllib.parse


class Etcd3Registry:
    name = "etcd"
    holds_key_and_below = True  # a key may be a document and have others below it

    def __init__(self, server, folder):
        self._server, self.url = server, server.url

    def put(self, key, value):
        self._server.put(key, value)

    def delete(self, key):
        self._server.delete(key)


class Etcd2Registry:
    name = "etcd2"
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


class FileRegistry:
    name = "file"
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


REGISTRIES = {each.name: each for each in (Etcd3Registry, Etcd2Registry, FileRegistry)}
