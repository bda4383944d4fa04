# SPDX-License-Identifier: MIT
"""An etcd of our own: loopback, free ports, its own folder.

The v3 and v2 APIs of one server; their trees do not see each other. Keys go
in through the JSON gateway and the keys API, so that no etcdctl is needed.
"""

import base64
import json
import pathlib
import re
import shutil
import socket
import ssl
import tempfile
import urllib.error
import urllib.parse
import urllib.request

from lab.processes import Process, run
from lab.waiting import wait_until


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def encode(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return base64.b64encode(raw).decode()


def transaction(puts=(), deletes=()):
    """Of pairs or a mapping, and keys: the body of a request. A key stands there once."""
    def put(key, value):
        return {"key": encode(key), "value": encode(
            value if isinstance(value, (str, bytes)) else json.dumps(value))}

    return {"success": [*({"requestPut": put(*pair)} for pair in dict(puts).items()),
                        *({"requestDeleteRange": {"key": encode(key)}} for key in deletes)]}


class Certificates:
    """A CA, a server certificate for 127.0.0.1 and a client's, in a folder."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.ca, self.ca_key = self.folder / "ca.pem", self.folder / "ca.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-keyout", self.ca_key, "-out", self.ca, "-subj", "/CN=laboratory",
            "-days", "2", "-addext", "keyUsage=critical,keyCertSign")
        self.server, self.server_key = self._issue("server")
        self.client, self.client_key = self._issue("client")

    def issue(self, name, until, alternative="IP:127.0.0.1,DNS:localhost"):
        """A server certificate with an end ("20210101000000Z") and names of the test's choice.

        Of openssl's commands only `ca` writes a certificate whose end is past, in
        releases before and after 3.4.
        """
        folder = self.folder / f"ca-{name}"
        folder.mkdir()
        key, request, certificate, configuration, index = (
            folder / end for end in ("key", "csr", "pem", "cnf", "index"))
        index.touch()
        configuration.write_text(f"""
            [ca]
            default_ca = laboratory
            [laboratory]
            database = {index}
            serial = {folder}/serial
            new_certs_dir = {folder}
            policy = any
            default_md = sha256
            x509_extensions = names
            [any]
            commonName = supplied
            [names]
            subjectAltName = {alternative}
            extendedKeyUsage = serverAuth,clientAuth
            subjectKeyIdentifier = hash
            authorityKeyIdentifier = keyid
            """)
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        run("openssl", "ca", "-batch", "-notext", "-create_serial", "-config", configuration,
            "-cert", self.ca, "-keyfile", self.ca_key, "-in", request,
            "-out", certificate, "-startdate", "20200101000000Z", "-enddate", until)
        return certificate, key

    def replace(self, **files):
        """New content for some of ca, server..., which etcd and the agent look at anew."""
        for name, file in files.items():
            new = self.folder / "new"
            new.write_bytes(pathlib.Path(file).read_bytes())
            new.rename(getattr(self, name))

    def _issue(self, name):
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self.folder / f"{name}.cnf"
        # Python 3.13 insists on the key identifiers of RFC 5280.
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n"
                              "extendedKeyUsage=serverAuth,clientAuth\n"
                              "subjectKeyIdentifier=hash\n"
                              "authorityKeyIdentifier=keyid\n")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        run("openssl", "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key,
            "-CAcreateserial", "-out", certificate, "-days", "2", "-extfile", extensions)
        return certificate, key


class Etcd:
    """Starts a server, waits until it is healthy, and ends it by its handle.

    tls: with a certificate of its own, and clients must show one (certificates
    holds the files). user, password: authentication on. program: of another
    release (lab/releases.py). options: more of its own.
    """

    def __init__(self, tls=False, user=None, password=None, program="etcd", options=()):
        self._program, self._options = program, options
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="dragoman-etcd-"))
        self.certificates = Certificates(self.folder) if tls else None
        self.user, self.password = user, password
        self._token = None
        try:
            self._start()
            if user:
                self._enable_auth()
        except BaseException:
            self.close()
            raise

    def _start(self):
        """Somebody else may take a port meanwhile: then again, with others."""
        for _ in range(3):
            self.port, self._peer = free_ports(2)
            if self._try():
                return
            self._process.stop()
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        raise AssertionError("etcd does not start: " + (self.folder / "log").read_text()[-2000:])

    def _launch(self):
        with (self.folder / "log").open("ab") as log:
            self._process = Process(*self._command(self._peer), output=log)

    def _try(self):
        self._launch()
        wait_until(lambda: self._process.ended() is not None or self._healthy(),
                   deadline=30, what="etcd's health")
        return self._process.ended() is None

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        """Ends the server; its data and its ports stay."""
        self._process.stop()

    def back_up(self):
        """Of a server that is stopped: what start_again() takes."""
        copy = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copytree(self.folder / "data", copy / "data")
        return copy / "data"

    def start_again(self, empty=False, data=None, options=None):
        """At the same ports, with the data it had, with others or with none.

        An empty one is the same cluster to those who ask, for that is made of its
        names and addresses, and --initial-cluster-token of the options.
        """
        if options is not None:
            self._options = options
        if empty or data:
            shutil.rmtree(self.folder / "data")
        if data:
            shutil.copytree(data, self.folder / "data")
        assert self._try(), (self.folder / "log").read_text()[-2000:]

    def compact(self, physical=True):
        """Forgets all revisions but the newest; physical: has done so when this returns."""
        revision = self.call("/v3/kv/range", key=encode("/"))["header"]["revision"]
        self.call("/v3/kv/compaction", revision=revision, physical=physical)

    def _command(self, peer):
        own, peers = self._web, f"http://127.0.0.1:{peer}"
        command = [self._program, "--name", "laboratory", "--data-dir", self.folder / "data",
                   "--enable-v2", "--listen-client-urls", own, "--advertise-client-urls", own,
                   "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                   "--initial-cluster", f"laboratory={peers}"]
        if self.certificates:
            command += ["--cert-file", self.certificates.server,
                        "--key-file", self.certificates.server_key,
                        "--client-cert-auth", "--trusted-ca-file", self.certificates.ca]
        return command + list(self._options)

    @property
    def _web(self):
        return f"{'https' if self.certificates else 'http'}://127.0.0.1:{self.port}"

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        """For --registry, the v3 API."""
        return f"{'etcds' if self.certificates else 'etcd'}://{self.address}"

    @property
    def url_v2(self):
        return f"{'etcd2s' if self.certificates else 'etcd2'}://{self.address}"

    def _open(self, path, data=None, method=None, headers=None):
        context = None
        if self.certificates:
            context = ssl.create_default_context(cafile=self.certificates.ca)
            context.load_cert_chain(self.certificates.client, self.certificates.client_key)
        request = urllib.request.Request(self._web + path, data=data, method=method,
                                         headers=headers or {})
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return json.load(answer)

    def _healthy(self):
        try:
            return self._open("/health").get("health") in ("true", True)
        except OSError:
            return False

    @property
    def version(self):
        return self._open("/version")["etcdserver"]

    def call(self, path, **body):
        """POSTs a request to the v3 gateway: call("/v3/kv/range", key=...)."""
        headers = {"Authorization": self._token} if self._token else {}
        try:
            return self._open(path, json.dumps(body).encode(), "POST", headers)
        except urllib.error.HTTPError as error:
            if not self._token or b"invalid auth token" not in error.read():
                raise
        self._token = self.log_in("root", "root")
        return self.call(path, **body)

    def log_in(self, name, password):
        """A token."""
        return self._open("/v3/auth/authenticate", json.dumps(
            {"name": name, "password": password}).encode(), "POST")["token"]

    def is_valid(self, token):
        try:
            self._open("/v3/kv/range", json.dumps({"key": encode("/")}).encode(), "POST",
                       {"Authorization": token})
        except urllib.error.HTTPError as error:
            assert b"invalid auth token" in error.read()
            return False
        return True

    def _enable_auth(self):
        self.call("/v3/auth/user/add", name="root", password="root")
        self.call("/v3/auth/user/grant", user="root", role="root")
        self.call("/v3/auth/user/add", name=self.user, password=self.password)
        self.call("/v3/auth/role/add", name="reader")
        self.call("/v3/auth/role/grant", name="reader",
                  perm={"permType": "READ", "key": encode("/"), "range_end": encode("0")})
        self.call("/v3/auth/user/grant", user=self.user, role="reader")
        self.call("/v3/auth/enable")
        self._token = self.log_in("root", "root")

    # The v3 tree

    def put(self, key, value):
        """value: a str or bytes as it stands, or anything else as JSON."""
        if not isinstance(value, (str, bytes)):
            value = json.dumps(value)
        self.call("/v3/kv/put", key=encode(key), value=encode(value))

    def delete(self, key):
        """The key alone; how many were deleted."""
        return int(self.call("/v3/kv/deleterange", key=encode(key)).get("deleted", 0))

    def delete_below(self, prefix):
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        self.call("/v3/kv/deleterange", key=encode(prefix), range_end=encode(end))

    def put_many(self, pairs):
        """(key, value) pairs, a hundred in one transaction."""
        pairs = list(pairs)
        for start in range(0, len(pairs), 100):
            self.call("/v3/kv/txn", success=[
                {"requestPut": {"key": encode(key), "value": encode(
                    value if isinstance(value, (str, bytes)) else json.dumps(value))}}
                for key, value in pairs[start:start + 100]])

    def endpoint(self, key, address, port, **more):
        """Registers a service document: endpoint("/services/web/a", "10.77.0.1", 8080)."""
        self.put(key, {"ipaddress": address, "host_port": str(port), **more})

    # The v2 tree

    def put_v2(self, key, value):
        if not isinstance(value, (str, bytes)):
            value = json.dumps(value)
        self._open("/v2/keys" + urllib.parse.quote(key), method="PUT",
                   data=urllib.parse.urlencode({"value": value}).encode(),
                   headers={"Content-Type": "application/x-www-form-urlencoded"})

    def make_directory_v2(self, key):
        self._open("/v2/keys" + urllib.parse.quote(key), method="PUT", data=b"dir=true",
                   headers={"Content-Type": "application/x-www-form-urlencoded"})

    def delete_v2(self, key):
        self._open(f"/v2/keys{urllib.parse.quote(key)}?recursive=true", method="DELETE")

    def metric(self, name):
        """What the server counts of itself; 0 where it has not begun to."""
        with urllib.request.urlopen(f"{self._web}/metrics", timeout=10) as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def clear(self):
        """Empties both trees."""
        self.call("/v3/kv/deleterange", key=encode(b"\0"), range_end=encode(b"\0"))
        if self.user:
            return
        for node in self._open("/v2/keys/").get("node", {}).get("nodes", []):
            self.delete_v2(node["key"])

    def close(self):
        if getattr(self, "_process", None):
            self._process.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
