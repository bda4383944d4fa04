# SPDX-License-Identifier: MIT
"""Proxies that stand in front of an etcd in real life, each a program of its own.

    with EtcdGateway(etcd.address) as proxy: Agent(registry=f"etcd://{proxy.address}")
    with HAProxy(etcd.address, certificates, idle=1) as proxy: ...etcds://{proxy.address}
"""

import pathlib
import socket
import tempfile

from lab.etcd import free_ports
from lab.processes import Process
from lab.waiting import wait_until

_HAPROXY = """
global
    maxconn 200
defaults
    mode {mode}
    timeout connect 5s
    timeout client {idle}ms
    timeout server {idle}ms
frontend agents
    bind {address} ssl crt {certificate}
    default_backend etcd
backend etcd
    server one {etcd}
"""


def _listens(address):
    try:
        socket.create_connection(address, 1).close()
        return True
    except OSError:
        return False


class _Proxy:
    def _start(self, *command):
        host, port = self.address.split(":")
        self._process = Process(*command)
        try:
            wait_until(lambda: _listens((host, int(port))), 20, what=f"{command[0]} to listen")
        except BaseException:
            self._process.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stop()


class EtcdGateway(_Proxy):
    """etcd's own, which passes on the bytes of a connection."""

    def __init__(self, etcd):
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._start("etcd", "gateway", "start", f"--endpoints={etcd}",
                    f"--listen-addr={self.address}")


class HAProxy(_Proxy):
    """Ends TLS, with the laboratory's server certificate, and a connection that is idle.

    mode: "tcp", or "http", where it understands what it passes on. idle: seconds.
    """

    def __init__(self, etcd, certificates, idle, mode="tcp"):
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-haproxy-")
        folder = pathlib.Path(self._folder.name)
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        (folder / "pem").write_bytes(pathlib.Path(certificates.server).read_bytes()
                                     + pathlib.Path(certificates.server_key).read_bytes())
        (folder / "cfg").write_text(_HAPROXY.format(
            mode=mode, idle=int(idle * 1000), address=self.address, etcd=etcd,
            certificate=folder / "pem"))
        self._start("haproxy", "-db", "-f", folder / "cfg")

    def __exit__(self, *_):
        super().__exit__()
        self._folder.cleanup()
