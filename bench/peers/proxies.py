# SPDX-License-Identifier: MIT
"""What may stand between a client and a server: nothing, our rules, one rule, HAProxy, nginx.

Each has a stage of its own. At its far end nginx serves /small and /large on every
address that an endpoint may have; `url` is where the client goes.
"""

import os
import pathlib
import tempfile
import urllib.parse

from lab.waiting import wait_until
from peers.netlink import Ours
from stage import Stage
from state import ENDPOINT_PORT, State, address

LARGE = 8 * 2**20
ENDPOINTS = 10
PORT = 10000

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/{name}.pid;
error_log {folder}/{name}.log;
{modules}
events {{ worker_connections 4096; }}
{rest}
"""
_SERVER = """
http {{
    access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
    keepalive_requests 100000000; open_file_cache max=10;
    client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
    uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen {port} backlog=4096; root {folder}; }}
}}
"""
_STREAM = """
stream {{
    upstream service {{ {servers} }}
    server {{ listen 127.0.0.1:{port} backlog=4096; proxy_pass service; tcp_nodelay on; }}
}}
"""
_NAT = """
table ip nat {{
    chain output {{
        type nat hook output priority -100
        ip daddr 127.0.0.1 tcp dport {port} dnat to {endpoint}
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        ip saddr 127.0.0.1 oifname != "lo" tcp flags syn tcp option maxseg size set rt mtu
        ip saddr 127.0.0.1 oifname != "lo" masquerade
    }}
}}
"""
_HAPROXY = """
global
    nbthread 1
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
listen service
    bind 127.0.0.1:{port} backlog 4096
    balance random
    {servers}
"""


def _children(pid):
    found = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in found for each in _children(int(child)))]


def _processor(pid):
    """Seconds that a process was at work so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start_nginx(namespace, folder, name, modules, rest):
    configuration = folder / f"{name}.conf"
    configuration.write_text(_NGINX.format(folder=folder, name=name, modules=modules, rest=rest))
    return namespace.start("nginx", "-c", configuration, "-p", folder)


class Way:
    name = None
    url = f"http://127.0.0.1:{PORT}"

    def __init__(self, namespaces):
        self.stage = Stage(namespaces, self.name)
        self.stage.close()  # nginx has the port
        # Flows that are over would fill conntrack's table, and the ports.
        for name in ("time_wait", "close"):
            self.stage.container.sysctl(f"net.netfilter.nf_conntrack_tcp_timeout_{name}", 1)
        for namespace in (self.stage.container, self.stage.hosts):
            namespace.sysctl("net.ipv4.ip_local_port_range", "1024 65535")
            namespace.sysctl("net.ipv4.tcp_tw_reuse", 1)
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self.folder = pathlib.Path(self._folder.name)
        self.folder.chmod(0o755)
        (self.folder / "small").write_bytes(b"x" * 100)
        (self.folder / "large").write_bytes(b"x" * LARGE)
        self._processes = [_start_nginx(
            self.stage.hosts, self.folder, "server", "",
            _SERVER.format(folder=self.folder, port=ENDPOINT_PORT)), *self.begin()]
        wait_until(self._answers, what=f"{self.name} to answer")

    def begin(self):
        """Whatever stands between. Returns processes that work for each request."""
        return []

    def processor(self):
        """Seconds that server and proxy were at work so far."""
        return sum(_processor(pid) for process in self._processes
                   for pid in _children(process.pid))

    def _answers(self):
        where = urllib.parse.urlsplit(self.url)
        done = self.stage.container.run(
            "bash", "-c", f"exec 3<>/dev/tcp/{where.hostname}/{where.port} && "
            "printf 'GET /small HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3", check=False)
        return "200 OK" in done.stdout

    def close(self):
        self._folder.cleanup()


class Direct(Way):
    name = "direct"
    url = f"http://{address(5)}:{ENDPOINT_PORT}"


class Rules(Way):
    """With ten thousand services there, of which one is used."""

    name = "ours"

    def begin(self):
        self._peer = Ours(self.stage, State(10000, ENDPOINTS))
        self._peer.load()
        return []

    def close(self):
        self._peer.close()
        super().close()


class Nat(Way):
    """The least that the kernel can do: connections tracked, and one rule of each kind."""

    name = "nat"

    def begin(self):
        rules = self.folder / "nat.nft"
        rules.write_text(_NAT.format(port=PORT, endpoint=f"{address(5)}:{ENDPOINT_PORT}"))
        self.stage.open_localhost()
        self.stage.container.run("nft", "-f", rules)
        return []


class Haproxy(Way):
    name = "haproxy"

    def begin(self):
        configuration = self.folder / "haproxy.cfg"
        configuration.write_text(_HAPROXY.format(port=PORT, servers="\n    ".join(
            f"server e{number} {address(number)}:{ENDPOINT_PORT}" for number in range(ENDPOINTS))))
        return [self.stage.container.start("haproxy", "-db", "-f", configuration)]


class Nginx(Way):
    name = "nginx"

    def begin(self):
        servers = " ".join(f"server {address(number)}:{ENDPOINT_PORT};"
                           for number in range(ENDPOINTS))
        return [_start_nginx(self.stage.container, self.folder, "stream",
                             "load_module /usr/lib/nginx/modules/ngx_stream_module.so;",
                             _STREAM.format(servers=servers, port=PORT))]


WAYS = (Direct, Rules, Nat, Haproxy, Nginx)
