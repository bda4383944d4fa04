# SPDX-License-Identifier: MIT
"""The program gives up what it has no use for; see src/base/privilege.c.

That the agent does all of its work with what is left is what every other file
shows: the filter of system calls is in force in each of them.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import threading

import pytest

from lab import nft
from lab.agent import Agent
from lab.bad_server import BadServer, silence
from lab.command import PROGRAM
from lab.etcd import Etcd, free_ports
from lab.processes import Process, run as command
from lab.waiting import wait_until

NOBODY = 65534
WEB = "127.0.0.1:80/tcp"
NET_ADMIN, SYS_ADMIN, SYS_PTRACE = 1 << 12, 1 << 21, 1 << 19
READ_SEARCH, OVERRIDE = 1 << 2, 1 << 1
KERNEL = NET_ADMIN | SYS_ADMIN | SYS_PTRACE
SANITIZED = b"__asan_init" in pathlib.Path(PROGRAM).read_bytes()


def rights(pid):
    """What /proc/PID/status says of capabilities, no_new_privs and seccomp."""
    fields = dict(line.split(":\t", 1) for line in
                  pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    found = {name: int(fields["Cap" + name], 16) for name in ("Eff", "Prm", "Bnd", "Inh", "Amb")}
    return {**found, "NoNewPrivs": int(fields["NoNewPrivs"]), "Seccomp": int(fields["Seccomp"])}


def only(mask, seccomp, bounding=None):
    return {"Eff": mask, "Prm": mask, "Bnd": mask if bounding is None else bounding,
            "Inh": 0, "Amb": 0, "NoNewPrivs": 1, "Seccomp": seccomp}


@pytest.fixture
def public_program(tmp_path_factory):
    """A copy of the program that others can run."""
    folder = tmp_path_factory.mktemp("public")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    program = shutil.copy(PROGRAM, folder)
    os.chmod(program, 0o755)
    return program


THREE = ("net_admin", "sys_admin", "sys_ptrace")


def as_nobody(*capabilities):
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    allowed = ",".join(f"+{name}" for name in capabilities)
    return words + ([f"--inh-caps={allowed}", f"--ambient-caps={allowed}"] if allowed else [])


def follows(etcd, namespace, number):
    """Whether a change in the registry comes to the kernel."""
    etcd.endpoint("/services/web/a", f"10.77.0.{number}", 7000)
    wait_until(lambda: "inet dragoman" in nft.tables(namespace) and
               {slot.endpoint for slot in nft.slots(namespace, WEB)} == {f"10.77.0.{number}:7000"},
               what=f"10.77.0.{number} in the kernel")


# Capabilities

def test_privilege_agent_of_root_keeps_three_capabilities(etcd, container):
    with Agent("--netns", container, "-b", "WEB=web;80", registry=etcd.url) as agent:
        assert rights(agent.pid) == only(KERNEL, seccomp=2)
        follows(etcd, container, 1)
        nft.load(container, "delete table inet dragoman")
        follows(etcd, container, 2)


def test_privilege_agent_of_nobody_needs_three_capabilities(etcd, container, public_program):
    process = container.start("cat")
    with Agent("-b", "WEB=web;80", "--pid", process.pid, registry=etcd.url, owner=NOBODY,
               command=[*as_nobody(*THREE), public_program]) as agent:
        found = rights(agent.pid)
        # Without CAP_SETPCAP the bounding set stays; no_new_privs makes it nobody's.
        assert found == only(KERNEL, seccomp=2, bounding=found["Bnd"])
        follows(etcd, container, 1)
        assert pathlib.Path("/proc/sys/net/ipv4/conf/all/route_localnet").read_text() == "0\n"
        assert "127.0.0.1" in nft.listing(container)


@pytest.mark.parametrize("missing", THREE)
def test_privilege_agent_names_a_capability_that_is_missing(container, public_program, tmp_path,
                                                           missing):
    words = as_nobody(*(name for name in THREE if name != missing))
    done = command(*words, public_program, "run", "--socket", tmp_path / "s", "--netns", container,
                   "-b", "WEB=web;80", "--registry", "file:///nowhere", check=False)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1 and f"CAP_{missing.upper()} missing" in done.stderr, done


def test_privilege_agent_may_read_environs_only_where_pid_asks_for_it(etcd, container):
    process = container.start("cat", env={**os.environ, "BACKEND_WEB": "web;80"})
    with Agent("--pid", process.pid, registry=etcd.url) as agent:
        assert rights(agent.pid) == only(KERNEL | READ_SEARCH, seccomp=2)
        follows(etcd, container, 1)
    with Agent("--pid", process.pid, "-b", "WEB=web;80", registry=etcd.url) as agent:
        assert rights(agent.pid) == only(KERNEL, seccomp=2)


def test_privilege_agent_reads_no_files_of_others(etcd, container, tmp_path):
    """Not at the start either, so that nothing fails later that went well before."""
    path = tmp_path / "descriptors"
    path.write_text("BACKEND_WEB=web;80\n")
    path.chmod(0o600)
    os.chown(path, NOBODY, NOBODY)
    done = command(PROGRAM, "run", "--socket", tmp_path / "s", "--netns", container,
                   "--env-file", path, "--registry", etcd.url, check=False)
    assert done.returncode == 1, done
    assert str(path) in done.stderr and "Permission denied" in done.stderr, done
    assert "no right to other users' files" in done.stderr, done


def one_shots(container, process, secret):
    """Words, and the capabilities that they leave."""
    netns, descriptor = ["--netns", container], ["-b", "WEB=web;80"]
    return {
        "plan": (["plan", *netns, *descriptor], KERNEL),
        "plan of a process": (["plan", "--pid", process.pid], KERNEL | READ_SEARCH),
        "plan with a password": (["plan", *netns, *descriptor, "--registry-user", "me",
                                  "--registry-password-file", secret], KERNEL | READ_SEARCH),
        "reconcile": (["reconcile", *netns, *descriptor], KERNEL | OVERRIDE),
        "reconcile by force": (["reconcile", "--force", *netns, *descriptor], KERNEL),
        "resolve": (["resolve", "web;80"], 0),
    }


def test_privilege_one_shot_keeps_what_it_needs(container, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("horse\n")
    process = container.start("cat", env={**os.environ, "BACKEND_WEB": "web;80"})
    with contextlib.ExitStack() as stack:
        server = BadServer(silence)
        stack.callback(server.close)
        for name, (words, mask) in one_shots(container, process, secret).items():
            asking = stack.enter_context(Process(
                PROGRAM, *words, "--registry", f"etcd://{server.address}", "--timeout", 60))
            # It waits for the registry.
            wait_until(lambda: "socket:" in " ".join(links(asking.pid)), what="a request")
            assert rights(asking.pid) == only(mask, seccomp=0), name


def links(pid):
    found = []
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found


def test_privilege_root_asks_an_agent_of_another_user(etcd, container, dragoman, public_program):
    """Its socket is closed to others, and root without CAP_DAC_OVERRIDE is one of them."""
    with Agent("-b", "WEB=web;80", "--netns", container, registry=etcd.url, owner=NOBODY,
               command=[*as_nobody(*THREE), public_program]) as agent:
        path = agent.socket
        assert os.stat(path).st_uid == NOBODY
        assert dragoman("status", "--json", "--socket", path).json["namespaces"]
        done = dragoman.reconcile(container, "WEB=web;80", socket=path)
        assert done.code == 1 and "the running agent keeps this namespace" in done.stderr, done


# System calls

def test_privilege_no_seccomp_says_so(etcd, container):
    with Agent("--netns", container, "-b", "WEB=web;80", "--no-seccomp",
               registry=etcd.url) as agent:
        assert rights(agent.pid) == only(KERNEL, seccomp=0)
        assert "--no-seccomp: system calls are not filtered" in agent.log


# Forbids seccomp(2), as an old kernel or another's sandbox does, and runs what follows.
_WITHOUT_SECCOMP = """
import ctypes, os, struct, sys
NUMBER = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
code = [(0x20, 0, 0, 0), (0x15, 0, 1, NUMBER), (6, 0, 0, 0x50000 | 38), (6, 0, 0, 0x7fff0000)]
program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
fprog = struct.pack("HxxxxxxP", len(code), ctypes.addressof(program))
assert libc.prctl(22, 2, ctypes.create_string_buffer(fprog)) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_privilege_without_seccomp_the_agent_does_not_start(etcd, container, tmp_path):
    words = [PROGRAM, "run", "--socket", tmp_path / "s", "--netns", container, "-b", "WEB=web;80",
             "--registry", etcd.url]
    done = command("/usr/bin/python3", "-c", _WITHOUT_SECCOMP, *words, check=False)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1, done
    assert "system calls cannot be filtered here" in done.stderr and "--no-seccomp" in done.stderr


class Resolver:
    """An /etc/nsswitch.conf and an /etc/hosts that one program sees, and that can be changed."""

    def __init__(self, folder):
        self._switch, self._hosts = folder / "nsswitch.conf", folder / "hosts"

    def write(self, switch, hosts):
        self._switch.write_text(f"passwd: files\nhosts: {switch}\n")
        self._hosts.write_text(hosts)

    @property
    def command(self):
        return ["unshare", "--mount", "sh", "-c",
                f"mount --bind {self._switch} /etc/nsswitch.conf &&"
                f' mount --bind {self._hosts} /etc/hosts && exec "$@"', "sh", PROGRAM]


# What glibc keeps of nsswitch.conf the leak detector takes for lost.
UNWATCHED = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}

# libcurl knows by itself where localhost is.
NAME, KNOWN = "registry.example", "127.0.0.1 registry.example\n"


@pytest.mark.parametrize("switch", [
    "files dns", "files", "files mymachines mdns4_minimal [NOTFOUND=return] resolve "
    "[!UNAVAIL=return] dns myhostname # and so on", "hesiod compat nothing_of_the_kind files"])
def test_privilege_names_are_resolved(etcd, container, tmp_path, switch):
    """With the modules that /etc/nsswitch.conf names."""
    resolver = Resolver(tmp_path)
    resolver.write(switch, KNOWN)
    with Agent("--netns", container, "-b", "WEB=web;80", command=resolver.command,
               env=UNWATCHED, registry=etcd.url.replace("127.0.0.1", NAME)) as agent:
        maps = pathlib.Path(f"/proc/{agent.pid}/maps").read_text()
        assert ("libnss_hesiod" in maps) == ("hesiod" in switch)
        follows(etcd, container, 1)


def test_privilege_names_are_resolved_after_a_module_was_named(etcd, container, tmp_path):
    """libc loads it at once, which is refused, and goes on with the next."""
    resolver = Resolver(tmp_path)
    resolver.write("files", "127.0.0.1 other.example\n")
    with Agent("--netns", container, "-b", "WEB=web;80", command=resolver.command, ready=False,
               env=UNWATCHED, registry=etcd.url.replace("127.0.0.1", NAME)) as agent:
        wait_until(lambda: "Could not resolve host" in agent.log, what="an attempt")
        resolver.write("hesiod compat files", KNOWN)
        follows(etcd, container, 1)
        maps = pathlib.Path(f"/proc/{agent.pid}/maps").read_text().splitlines()
        assert not [line for line in maps if "libnss_hesiod" in line and " r-xp " in line]
        assert rights(agent.pid)["Seccomp"] == 2


def test_privilege_memory_is_closed_to_our_own_user(etcd, container, public_program):
    """/proc/PID belongs to root then, and no core is dumped, whatever core_pattern says."""
    with Agent("-b", "WEB=web;80", "--netns", container, registry=etcd.url, owner=NOBODY,
               command=[*as_nobody(*THREE), public_program]) as agent:
        owner = os.stat(f"/proc/{agent.pid}/mem").st_uid
        # The leak detector needs a process that can be traced.
        assert owner == (NOBODY if SANITIZED else 0)


# Secrets

def test_privilege_secrets_are_told_to_nobody(container, tmp_path):
    """Not in arguments, the log, the answers; and no core is written when it crashes."""
    word = "correct-horse-battery"
    secret = tmp_path / "secret"
    secret.write_text(word + "\n")
    with Etcd(user="dragoman", password=word) as etcd:
        etcd.endpoint("/services/web/a", "10.77.0.1", 7000)
        agent = Agent("--netns", container, "-b", "WEB=web;80", "--registry-user", "dragoman",
                      "--registry-password-file", secret, "--log-level", "debug",
                      registry=etcd.url, command=["prlimit", "--core=unlimited", PROGRAM])
        with contextlib.suppress(AssertionError), agent:
            told = {
                "arguments": pathlib.Path(f"/proc/{agent.pid}/cmdline").read_text(),
                "environment": pathlib.Path(f"/proc/{agent.pid}/environ").read_text(),
                "log": agent.log,
                **{path: agent.get(path)[1] for path in ("/status", "/metrics", "/readyz")},
            }
            agent.send(signal.SIGABRT)
            ended = os.waitid(os.P_PID, agent.pid, os.WEXITED | os.WNOWAIT)
            agent.kill()
        assert ended.si_code == os.CLD_KILLED and ended.si_status == signal.SIGABRT, ended
    for where, what in told.items():
        assert what and word not in what and word.encode().hex() not in what, where


# Those who ask over HTTP

def send(address, data, chunk=65536, pause=None):
    """What comes back, until the other end closes."""
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=30) as client:
        with contextlib.suppress(OSError):
            for start in range(0, len(data), chunk):
                client.sendall(data[start:start + chunk])
                if pause and pause.wait(0.1):
                    break
        answer = b""
        while more := client.recv(65536):
            answer += more
        return answer
    return b""


def test_privilege_hostile_requests_do_not_hold_the_agent_up(etcd, container):
    (port,) = free_ports(1)
    address = ("127.0.0.1", port)
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    over = threading.Event()
    with Agent("--netns", container, "-b", "WEB=web;80", "--metrics", f"127.0.0.1:{port}",
               registry=etcd.url) as agent:
        slow = [threading.Thread(target=send, args=(address, request + b"X: y\r\n" * 2000, 1, over))
                for _ in range(40)]
        for each in slow:
            each.start()
        try:
            for number, hostile in enumerate([
                    request + b"X: " + b"x" * (1 << 20) + b"\r\n\r\n", b"\0\xff\x80" * 40000,
                    (request + b"\r\n") * 500, b"GET /" + b"a" * (1 << 20), b"\r\n" * 100000,
                    b"POST /status HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n" + b"x" * 9999,
                    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET"], start=1):
                thread = threading.Thread(target=send, args=(address, hostile))
                thread.start()
                follows(etcd, container, number)
                thread.join(30)
                assert not thread.is_alive()
            assert agent.get("/healthz") == (200, "ok\n")
        finally:
            over.set()
            for each in slow:
                each.join(30)
        wait_until(lambda: send(address, request + b"\r\n").startswith(b"HTTP/1.1 200"),
                   what="an answer")
        follows(etcd, container, 9)
        resident = int(pathlib.Path(f"/proc/{agent.pid}/statm").read_text().split()[1]) * 4096
        assert resident < (512 if SANITIZED else 64) << 20
