# SPDX-License-Identifier: MIT
"""The most likely first mistakes: each message says what is wrong, where, and what to do.

A table of them. Each is one command as a newcomer would type it, its exit status, and the
words that have to be in what it says, in this order: of the thing that is wrong, of where
that is, and of what to do about it. Kernels that lack something are tests/test_faults.c's.
"""

import contextlib
import os
import shlex
import socket
import types

import pytest

from lab.agent import Agent
from lab.bad_server import BadServer, answer
from lab.command import PROGRAM, Dragoman, Result
from lab.etcd import free_ports
from lab.namespaces import Namespaces
from lab.processes import run

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# The leak detector cannot do its work beside strace.
TRACED = {"ASAN_OPTIONS": "detect_leaks=0"}


def injecting(call, error, when="1+"):
    return ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
            "-e", f"inject={call}:error={error}:when={when}")


@contextlib.contextmanager
def unix_socket(path, listening):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        if listening:
            made.listen()
        yield path


def hang_up(_):
    """What a server of TLS, etcd's too, does with a request that is none."""
    raise ConnectionError


@pytest.fixture(scope="module")
def scene(etcd_server, docker_server, tmp_path_factory):
    """Everything that the mistakes need to be made with, once for all of them."""
    folder = tmp_path_factory.mktemp("first-failure")
    etcd_server.clear()
    etcd_server.endpoint("/services/web/a", "10.77.0.1", 8080, tags=["prod", "blue"])
    etcd_server.endpoint("/services/web/b", "10.77.0.2", 8080, tags=["prod"])
    etcd_server.endpoint("/services/redis.master/a", "10.77.0.3", 6379)
    etcd_server.endpoint("/services/six/a", "fd77::1", 8080)
    etcd_server.put("/services/broken/a", '{"ipaddress": "10.77.0.9"}')
    etcd_server.put("/services/broken/b", "nonsense")
    etcd_server.put_v2("/services/oldstyle/a", "10.77.0.4:80")
    file = folder / "registry.json"
    file.write_text('{"/services/web/a": "10.77.0.1:8080"}')
    with contextlib.ExitStack() as stack:
        namespaces = stack.enter_context(Namespaces())
        container, hosts = namespaces.new("first"), namespaces.new("hosts")
        namespaces.link(container, hosts)
        container.add_address("10.77.0.100/24", "fd77::100/64")
        hosts.add_address("10.77.0.1/24", "fd77::1/64")
        kept = namespaces.new("kept")
        agent = stack.enter_context(Agent("--netns", kept, "-b", "WEB=web;80",
                                          registry=etcd_server.url))
        docker_server.run("host", network="host")
        (closed,) = free_ports(1)
        html = stack.enter_context(BadServer(lambda _: answer(
            "<html><body>It works!</body></html>", status="501 Unsupported method")))
        closing = stack.enter_context(BadServer(hang_up))
        yield types.SimpleNamespace(
            etcd=etcd_server, url=etcd_server.url, v2=etcd_server.url_v2,
            address=etcd_server.url.removeprefix("etcd://"), file=file,
            container=container, hosts=hosts, kept=kept, agent=agent, docker=docker_server.url,
            closed=closed, pid=os.getpid(), html=html.address, closing=closing.address,
            missing=folder / "missing.sock",
            stale=stack.enter_context(unix_socket(folder / "stale.sock", False)),
            dragoman=Dragoman(etcd_server.url))
        docker_server.clear()


class Mistake:
    """said: what has to be in standard error (or output, of a result), in this order."""

    def __init__(self, name, words, code, *said, prefix=(), env=None):
        self.name, self.words, self.code, self.said = name, words, code, said
        self.prefix, self.env = prefix, env or {}
        # What these have to say is their result.
        self.is_result = words.startswith("explain -") or (words.startswith("resolve") and not code)

    def run(self, scene):
        command = [*self.prefix, PROGRAM, *shlex.split(self.words.format(**vars(scene)))]
        done = run(*command, check=False, timeout=60,
                   env={**scene.dragoman.environment, **TRACED,
                        "DRAGOMAN_SOCKET": str(scene.missing), **self.env})
        return Result(command, done)


MISTAKES = [
    # Who runs it, and where
    Mistake("not-root-agent", "run --netns {container}", 1,
            "no privilege", "CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_SYS_PTRACE", "root is needed",
            prefix=NOBODY),
    Mistake("not-root-command", "plan --netns {container} -b 'WEB=web;80'", 1,
            "{container}: cannot enter the network namespace", "root, or CAP_SYS_ADMIN, is needed",
            prefix=NOBODY),
    Mistake("host-namespace", "plan --pid {pid} -b 'WEB=web;80'", 1,
            "process {pid}: this is the host's own network namespace", "for the whole host",
            "--allow-host-netns"),
    Mistake("host-container", "plan --docker {docker} --container host", 1,
            "container host: this is the host's own network namespace", "--net=host",
            "--allow-host-netns"),
    Mistake("no-namespace", "plan --netns nosuch -b 'WEB=web;80'", 1,
            "/run/netns/nosuch: no such namespace", "ip netns list"),
    Mistake("old-kernel", "plan --pid 1 -b 'WEB=web;80'", 1,
            "process 1: Function not implemented", "Linux 5.10 or later is needed",
            prefix=injecting("pidfd_open", "ENOSYS")),
    # With a file for a registry all sockets are the kernel's.
    Mistake("no-nf-tables", "plan --netns {container} --registry file://{file} -b 'WEB=web;80'", 1,
            "{container}: cannot open a netlink socket: Protocol not supported",
            "without nf_tables", "CONFIG_NF_TABLES",
            prefix=injecting("socket", "EPROTONOSUPPORT")),

    # The registry
    Mistake("etcd-down", "resolve --registry etcd://127.0.0.1:{closed} 'web;80'", 1,
            "etcd://127.0.0.1:{closed}", "Connection refused", "does the registry run there",
            "port for its clients"),
    Mistake("wrong-port", "resolve --registry etcd://{html} 'web;80'", 1,
            "{html}: status 501", "<html>", "is this an etcd?"),
    Mistake("no-scheme", "resolve --registry {address} 'web;80'", 2,
            "--registry", "no scheme", "etcd://127.0.0.1:2379"),
    Mistake("tls-where-none-is", "resolve --registry etcds://{address} 'web;80'", 1,
            "https://{address}", "without TLS the URL is etcd://"),
    Mistake("no-tls-where-some-is", "resolve --registry etcd://{closing} 'web;80'", 1,
            "http://{closing}", "where TLS is spoken the URL begins with etcds://"),
    Mistake("v2-asked-through-v3", "resolve 'oldstyle;80'", 0,
            "/services/oldstyle for 80/tcp", "no endpoint", "etcd v2 has 1 document there",
            "--registry {v2}"),
    Mistake("v3-asked-through-v2", "resolve --registry {v2} 'web;80'", 0,
            "/services/web for 80/tcp", "no endpoint", "etcd v3 has 2 documents there",
            "--registry {url}"),
    Mistake("key-near-another", "resolve 'redis.mastr;6379'", 0,
            "/services/redis.mastr for 6379/tcp", "no endpoint", "holds nothing there",
            "did you mean /services/redis.master?"),
    Mistake("key-near-another-v2", "resolve --registry {v2} 'oldstile;80'", 0,
            "/services/oldstile for 80/tcp", "did you mean /services/oldstyle?"),
    Mistake("key-near-another-file", "resolve --registry file://{file} 'wep;80'", 0,
            "/services/wep for 80/tcp", "did you mean /services/web?"),
    Mistake("root-near-another", "resolve '/servces/web;80'", 0,
            "/servces/web for 80/tcp", "no endpoint", "did you mean /services/web?"),
    Mistake("key-near-nothing", "resolve 'zzzzzz;80'", 0,
            "/services/zzzzzz for 80/tcp", "no endpoint",
            "below /services there are broken, redis.master, six, web"),
    Mistake("key-near-another-plan", "plan --netns {container} -b 'CACHE=redis.mastr;6379'", 3,
            "BACKEND_CACHE: /services/redis.mastr: no endpoint",
            "did you mean /services/redis.master?"),
    Mistake("tags-match-nothing", "resolve 'web[production];80'", 0,
            "/services/web [production] for 80/tcp", "no endpoint",
            "none of the 2 documents carries the tag production",
            "the tags there are: blue, prod"),
    Mistake("all-skipped", "resolve 'broken;80'", 0,
            "/services/broken for 80/tcp", "no endpoint", "all 2 documents were skipped",
            "/services/broken/a: missing host_port"),
    Mistake("one-skipped-of-others", "plan --netns {container} -b 'ALL=/services;80'", 3,
            "/services: 2 of 6 documents cannot be used", "/services/broken/a: missing host_port"),

    # Descriptors
    Mistake("no-port", "plan --netns {container} -b 'WEB=web;'", 1,
            "BACKEND_WEB: column 4: no port after ';'"),
    # What a shell leaves of -b WEB=web;80, and of redis.master[prod];6379.
    Mistake("semicolon-eaten", "plan --netns {container} -b WEB=web", 1,
            "BACKEND_WEB: no ';' in it, so no port", "'SERVICE[TAG,...];PORT'", "in quotes",
            "a shell takes ';'"),
    Mistake("semicolon-eaten-resolve", "resolve 'redis.master[prod]'", 1,
            "redis.master[prod]: no ';' in it, so no port", "in quotes"),
    Mistake("bracket-open", "plan --netns {container} -b 'WEB=web[prod;80'", 1,
            "BACKEND_WEB: column 4: '[' without ']'"),
    Mistake("colon-for-semicolon", "plan --netns {container} -b WEB=web:80", 1,
            "BACKEND_WEB: no ';' in it", "'web;80'"),
    Mistake("quoted-twice", "plan --netns {container} -b \"WEB='web;80'\"", 1,
            "BACKEND_WEB: column 1: the value stands in quotes", "write it without"),
    Mistake("quoted-whole", "plan --netns {container} -b '\"WEB=web;80\"'", 2,
            "--backend", "begins with a quote", "is enough"),
    Mistake("no-variables", "plan --netns {container}", 0,
            "no BACKEND_ variables in the environment", "sudo drops them", "-b and --env-file"),
    Mistake("port-conflict", "plan --netns {container} -b 'A=web;80' -b 'B=six;80'", 1,
            "BACKEND_B: conflict: port 80/tcp is taken by BACKEND_A"),

    # Docker
    Mistake("no-docker-socket", "plan --docker unix://{missing} --container web", 1,
            "container web: unix://{missing}: No such file or directory", "is Docker running?",
            "--docker"),
    Mistake("docker-not-permitted", "plan --docker {docker} --container host", 1,
            "container host: {docker}: Permission denied",
            "root, or a member of the socket's group",
            prefix=NOBODY),

    # The agent
    Mistake("second-agent", "run --socket {agent.socket} --netns {container}", 1,
            "another agent runs on this host", "{agent.socket}.lock", "end it first"),
    Mistake("kept-by-agent", "reconcile --socket {agent.socket} --netns {kept} -b 'A=web;80'", 1,
            "{kept}: the running agent keeps this namespace", "dragoman status", "--force"),
    Mistake("no-agent", "status", 1,
            "{missing}: No such file or directory", "no agent runs here", "dragoman run",
            "--socket"),
    Mistake("stale-socket", "status --socket {stale}", 1,
            "{stale}: Connection refused", "the agent that made this socket is gone",
            "start it again"),
    Mistake("socket-not-permitted", "status --socket {agent.socket}", 1,
            "{agent.socket}: Permission denied", "as root, or as a member of the group",
            prefix=NOBODY),
    Mistake("no-folder-for-socket", "run --socket /nowhere/at/all.sock --netns {container}", 1,
            "/nowhere/at/all.sock.lock: No such file or directory", "make the socket's folder",
            "--socket"),
    Mistake("unknown-container", "status --socket {agent.socket} --container kep", 1,
            "no container or namespace 'kep'", "there are {kept}"),

    # Where it goes
    Mistake("nothing-stands", "explain --netns {container} -b 'SIX=six;81' 81", 3,
            "no table inet dragoman", "dragoman reconcile --netns {container}"),
    Mistake("no-target", "explain 80", 1, "no target", "--netns, --pid and --container"),
    Mistake("no-command", "explian 80", 2, "unknown command 'explian'", "did you mean 'explain'?"),
    Mistake("no-option", "plan --netsn x", 2, "unknown option --netsn", "did you mean --netns?"),
]


def assert_said(text, said, result):
    """The words, in that order; broken lines are the terminal's business."""
    text, at = " ".join(text.split()), 0
    for words in said:
        found = text.find(words, at)
        assert found >= 0, (words, result)
        at = found + len(words)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_first_failure_is_told(scene, mistake):
    result = mistake.run(scene)
    assert result.code == mistake.code, result
    said = [words.format(**vars(scene)) for words in mistake.said]
    assert_said(result.stdout if mistake.is_result else result.stderr, said, result)
    assert all(line.startswith("dragoman: ") for line in result.stderr.splitlines()), result
