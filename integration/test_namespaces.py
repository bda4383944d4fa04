# SPDX-License-Identifier: MIT
"""Which namespace: by name, by path, by process; and what is none.

The host's own namespace is only ever asked to be refused. Where it is allowed,
"the host" is a process namespace of the test's own.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from lab import nft
from lab.command import PROGRAM
from lab.processes import run
from lab.traffic import connect, serve
from lab.waiting import wait_until

NOBODY = 65534
VERBS = ("reconcile", "plan", "flush")


@pytest.fixture
def registered(etcd):
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080)
    etcd.endpoint("/services/web/b", "fd77::1", 8080)
    return etcd


def on(dragoman, verb, *target, **options):
    words = () if verb == "flush" else ("-b", "WEB=web;80")
    return dragoman(verb, "--json", *target, *words, **options)


def sleeper(namespace, **environment):
    """A process in a namespace that does nothing, with that environment and no other."""
    words = [f"{name}={value}" for name, value in environment.items()]
    process = namespace.start("env", "-i", *words, shutil.which("sleep"), "1000")
    wait_until(lambda: comm(process.pid) == "sleep", what="the sleeper")
    return process


def comm(pid):
    return pathlib.Path(f"/proc/{pid}/comm").read_text().strip()


# Names and paths

def test_namespaces_name_and_paths_are_the_same(dragoman, registered, container, tmp_path):
    process = sleeper(container)
    mount = tmp_path / "here"
    mount.touch()
    link = tmp_path / "link"
    link.symlink_to(container.path)
    run("mount", "--bind", container.path, mount)
    try:
        assert dragoman.reconcile(container, "WEB=web;80").code == 0
        for target in (container.name, container.path, mount, link, f"/proc/{process.pid}/ns/net",
                       f"/proc/{process.pid}/task/{process.pid}/ns/net"):
            done = on(dragoman, "plan", "--netns", target)
            assert done.code == 0, done
            assert done.json["netns"] == container.inode
            assert done.json["in_sync"]
    finally:
        run("umount", mount)


def test_namespaces_relative_path_is_one_with_a_slash(dragoman, registered, container):
    done = run(PROGRAM, "flush", "--json", "--netns", f"./{container.name}", check=False,
               env={**dragoman.environment}, timeout=10)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"./{container.name}: no such namespace" in done.stderr


@pytest.fixture
def odd_files(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("name", "reason"), [
    ("file", "not a namespace"),
    ("folder", "not a namespace"),
    ("fifo", "not a namespace"),
    ("/dev/null", "not a namespace"),
    ("/proc/self/ns/mnt", "not a network namespace"),
    ("/proc/self/ns/user", "not a network namespace"),
    ("/proc/self/ns", "not a namespace"),
    ("nothing", "no such namespace"),
    ("dangling", "no such namespace"),
    ("loop", "Too many levels of symbolic links"),
    ("file/below", "Not a directory"),
])
def test_namespaces_wrong_path_is_named(dragoman, registered, odd_files, verb, name, reason):
    path = name if name.startswith("/") else str(odd_files / name)
    done = on(dragoman, verb, "--netns", path, timeout=10)
    assert done.code == 1, done
    assert len(done.errors) == 1 and done.errors[0].startswith(f"{path}: "), done
    assert reason in done.errors[0]
    assert done.json["netns"] is None and done.json["changes"] == []
    assert [entry["message"] for entry in done.json["errors"]] == done.errors


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("name", "said"), [
    ("no-such-name", "/run/netns/no-such-name: no such namespace"),
    ("x" * 255, "no such namespace"),
    ("x" * 256, "too long"),
    ("", "--netns needs a value"),
    (".", "/run/netns/."),
    ("..", "/run/netns/.."),
    ("a\x1b[31mb\nc", "\\x1b[31mb\\x0ac"),
])
def test_namespaces_wrong_name_is_named(dragoman, registered, verb, name, said):
    done = on(dragoman, verb, "--netns", name)
    assert done.code in (1, 2), done
    assert len(done.errors) == 1 and said in done.errors[0], done
    assert "\x1b" not in done.stdout + done.stderr


def test_namespaces_deleted_name_is_no_namespace(dragoman, registered, namespaces):
    """A name whose mount is gone is an empty file."""
    name = f"dgm-{os.getpid()}-stale"
    path = pathlib.Path("/run/netns") / name
    path.touch()
    try:
        done = on(dragoman, "plan", "--netns", name)
        assert done.code == 1
        assert "not a namespace" in done.stderr
    finally:
        path.unlink()


# Processes

def test_namespaces_pid_takes_descriptors_from_its_environment(dragoman, registered, laboratory):
    container, hosts = laboratory.container, laboratory.hosts
    serve(hosts, "10.77.0.1:8080/tcp")
    process = sleeper(container, BACKEND_WEB="web;80", BACKEND_NONE="none;81", HOME="/",
                      BACKEND_URL="https://example.org", OTHER_WEB="web;82")
    # The command's own are not the process's.
    done = dragoman("reconcile", "--json", "--pid", process.pid, env={"BACKEND_OWN": "web;83"})
    assert done.code == 0, done
    assert done.json["netns"] == container.inode
    listens = {change[1] for change in done.changes if len(change) == 3}
    assert listens == {"127.0.0.1:80/tcp", "[::1]:80/tcp", "127.0.0.1:81/tcp", "[::1]:81/tcp"}
    assert connect(container, "127.0.0.1:80/tcp") == {"10.77.0.1:8080": 1}
    assert dragoman("plan", "--pid", process.pid).code == 0
    assert dragoman("flush", "--pid", process.pid).code == 0
    assert nft.tables(container) == set()


def test_namespaces_pid_with_b_and_env_file_ignores_its_environment(
        dragoman, registered, container, tmp_path):
    process = sleeper(container, BACKEND_WEB="web;80")
    file = tmp_path / "env"
    file.write_text("BACKEND_FILE=web;82\n")
    done = dragoman("plan", "--json", "--pid", process.pid, "-b", "B=web;81", "--env-file", file)
    assert done.code == 3, done
    listens = {change[1] for change in done.changes if change[1].startswith("127")}
    assert listens == {"127.0.0.1:81/tcp", "127.0.0.1:82/tcp"}


def test_namespaces_netns_takes_descriptors_from_the_own_environment(
        dragoman, registered, container):
    sleeper(container, BACKEND_WEB="web;80")
    done = dragoman("plan", "--json", "--netns", container, env={"BACKEND_OWN": "web;83"})
    assert {change[1] for change in done.changes if change[1].startswith("127")} == {
        "127.0.0.1:83/tcp"}


def test_namespaces_env_prefix_chooses_others(dragoman, registered, container):
    process = sleeper(container, BACKEND_WEB="web;80", NEEDS_WEB="web;81")
    done = dragoman("plan", "--json", "--pid", process.pid, "--env-prefix", "NEEDS_")
    assert {change[1] for change in done.changes if change[1].startswith("127")} == {
        "127.0.0.1:81/tcp"}


@pytest.mark.parametrize("verb", VERBS)
def test_namespaces_pid_that_is_gone_is_named(dragoman, registered, verb):
    ended = subprocess.Popen(["true"])
    ended.wait()
    done = on(dragoman, verb, "--pid", ended.pid)
    assert done.code == 1, done
    assert done.errors == [f"process {ended.pid}: no such process"]
    assert done.json["netns"] is None


@pytest.mark.parametrize("verb", VERBS)
def test_namespaces_zombie_is_named(dragoman, registered, verb):
    """It has ended, but nobody asked how: the number is still its own."""
    zombie = subprocess.Popen(["true"])
    try:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        done = on(dragoman, verb, "--pid", zombie.pid)
        assert done.code == 1, done
        assert done.errors == [f"process {zombie.pid}: it has ended"]
    finally:
        zombie.wait()


@pytest.mark.parametrize(("pid", "code"), [("0", 2), ("-1", 2), ("1x", 2), ("", 2),
                                           ("99999999999", 2), ("2147483647", 1)])
def test_namespaces_wrong_pid_is_refused(dragoman, registered, pid, code):
    done = on(dragoman, "plan", "--pid", pid)
    assert done.code == code, done
    assert len(done.errors) == 1


def test_namespaces_one_target_is_wanted(dragoman, container):
    for target in ((), ("--netns", container, "--pid", "1"), ("--netns", container, "--netns", "x")):
        done = on(dragoman, "flush", *target)
        assert done.code == 2, done
        assert done.stdout == ""


# The host's own

@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("target", [("--netns", "/proc/self/ns/net"), ("--pid", "self")])
def test_namespaces_own_of_the_host_is_refused(dragoman, registered, verb, target):
    target = tuple(str(os.getpid()) if word == "self" else word for word in target)
    done = on(dragoman, verb, *target)
    assert done.code == 1, done
    assert len(done.errors) == 1, done
    assert "the host's own network namespace" in done.errors[0]
    assert "--allow-host-netns" in done.errors[0]
    assert done.json["changes"] == []


def test_namespaces_own_of_the_host_is_worked_on_where_allowed(dragoman, container, tmp_path):
    """In a process namespace of its own, where process 1 is of the container's namespace."""
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps({"/services/web/a": "10.77.0.1:8080"}))
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
              '"$@"; exit $?', "sh", PROGRAM)
    target = ("--json", "--netns", "/proc/1/ns/net")
    words = ("--registry", f"file://{registry}", "-b", "WEB=web;80")

    def run_inside(verb, *more):
        done = container.run(*inside, verb, *target, *more, check=False)
        return done.returncode, json.loads(done.stdout), done.stderr

    code, answer, said = run_inside("reconcile", *words)
    assert code == 1 and "the host's own" in said, said
    assert nft.tables(container) == set()
    code, answer, said = run_inside("reconcile", "--allow-host-netns", *words)
    assert code == 0, said
    assert answer["netns"] == container.inode
    assert nft.tables(container) == {"inet dragoman"}
    code, answer, said = run_inside("flush")
    assert code == 1 and nft.tables(container) == {"inet dragoman"}
    code, answer, said = run_inside("flush", "--allow-host-netns")
    assert code == 0 and nft.tables(container) == set()


# Privilege

@pytest.fixture
def as_nobody(tmp_path_factory):
    """Runs the program as nobody, from a place where nobody can read it."""
    folder = tmp_path_factory.mktemp("public")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    program = shutil.copy(PROGRAM, folder)
    os.chmod(program, 0o755)

    def run_as_nobody(dragoman, *words):
        return run("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                   "--inh-caps=-all", program, *words, check=False, env=dragoman.environment)
    return run_as_nobody


@pytest.mark.parametrize("verb", VERBS)
def test_namespaces_no_privilege_is_named(dragoman, registered, container, as_nobody, verb):
    process = sleeper(container)
    words = () if verb == "flush" else ("-b", "WEB=web;80")
    for target in (("--netns", container), ("--pid", process.pid)):
        done = as_nobody(dragoman, verb, "--json", *target, *words)
        assert done.returncode == 1, done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "root" in done.stderr and "CAP_" in done.stderr
        assert json.loads(done.stdout)["changes"] == []
    assert nft.tables(container) == set()


def test_namespaces_resolve_needs_no_privilege(dragoman, registered, as_nobody):
    done = as_nobody(dragoman, "resolve", "web;80")
    assert done.returncode == 0, done.stderr
    assert "10.77.0.1:8080" in done.stdout


# IPv6, links

def route_devices(namespace):
    """The interfaces that have a route of ours to ::1."""
    text = namespace.ip("-6", "route", "show", "table", "local").stdout
    return {line.split()[3] for line in text.splitlines()
            if line.startswith("local ::1 ") and "proto 213" in line}


def test_namespaces_without_ipv6_is_no_error(dragoman, registered, namespaces):
    container, hosts = namespaces.new("four", ipv6=False), namespaces.new("hosts")
    namespaces.link(container, hosts)
    container.add_address("10.77.0.100/24")
    hosts.add_address("10.77.0.1/24")
    serve(hosts, "10.77.0.1:8080/tcp")
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    assert connect(container, "127.0.0.1:80/tcp") == {"10.77.0.1:8080": 1}
    assert route_devices(container) == set()
    assert dragoman.plan(container, "WEB=web;80").json["in_sync"]
    assert dragoman.flush(container).code == 0
    assert nft.tables(container) == set()
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "0"


def test_namespaces_ipv6_switched_off_and_on_again(dragoman, registered, container):
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    assert route_devices(container) == {"eth0"}
    container.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    assert route_devices(container) == set()
    assert dragoman.plan(container, "WEB=web;80").code == 0
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    container.sysctl("net.ipv6.conf.all.disable_ipv6", 0)
    planned = dragoman.plan(container, "WEB=web;80")
    assert planned.changes == {("add", "route local ::1/128 dev eth0")}, planned
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    assert route_devices(container) == {"eth0"}


def test_namespaces_ipv6_off_on_one_interface(dragoman, registered, laboratory):
    container = laboratory.container
    laboratory.namespaces.link(container, laboratory.hosts, "eth1", "eth1")
    container.sysctl("net.ipv6.conf.eth1.disable_ipv6", 1)
    done = dragoman.reconcile(container, "WEB=web;80")
    assert done.code == 0, done
    assert route_devices(container) == {"eth0"}
    assert dragoman.plan(container, "WEB=web;80").json["in_sync"]
    assert dragoman.flush(container).code == 0
    assert route_devices(container) == set()


def test_namespaces_ipv6_off_on_lo(dragoman, registered, container):
    container.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
    done = dragoman.reconcile(container, "WEB=web;80")
    assert done.code == 0, done
    assert dragoman.plan(container, "WEB=web;80").json["in_sync"]
    assert dragoman.flush(container).code == 0
    assert route_devices(container) == set()


@pytest.mark.parametrize("switch", ["sysctl", "link"])
def test_namespaces_without_ipv6_on_lo_are_flushed_whole(dragoman, registered, container, switch):
    """The other interfaces' routes to ::1 outlive lo's; nor is 1 forgotten for them."""
    container.sysctl("net.ipv4.conf.all.route_localnet", 1)
    before = nft.traces(container)
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    assert route_devices(container) == {"eth0"}
    if switch == "link":
        container.ip("link", "set", "lo", "down")
    else:
        container.sysctl("net.ipv6.conf.lo.disable_ipv6", 1)
    assert route_devices(container) == {"eth0"}
    assert dragoman.flush(container).code == 0
    assert route_devices(container) == set()
    container.ip("link", "set", "lo", "up")
    container.sysctl("net.ipv6.conf.lo.disable_ipv6", 0)
    assert dragoman.flush(container).changes == set()
    assert nft.traces(container) == before


def test_namespaces_with_sysctls_that_cannot_be_written(dragoman, registered, container):
    """What else could be done was done, and a flush that cannot close localhost keeps the guard."""
    def read_only(*words):
        script = ("mount --make-rprivate / && mount --bind /proc/sys /proc/sys && "
                  "mount -o remount,ro,bind /proc/sys && exec \"$@\"")
        return run("unshare", "-m", "sh", "-c", script, "sh", PROGRAM, *words, "--netns", container,
                   check=False, env=dragoman.environment)

    done = read_only("reconcile", "-b", "WEB=web;80")
    assert done.returncode == 1 and "route_localnet" in done.stderr, done
    assert route_devices(container) == {"eth0"}
    assert dragoman.plan(container, "WEB=web;80").changes == {
        ("replace", "sysctl net.ipv4.conf.all.route_localnet = 1")}
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    done = read_only("flush")
    assert done.returncode == 1 and "route_localnet" in done.stderr, done
    assert nft.tables(container) == {"inet dragoman"}
    assert container.sysctl("net.ipv4.conf.all.route_localnet") == "1"


def test_namespaces_links_down_lose_routes_and_get_them_again(dragoman, registered, laboratory):
    container, hosts = laboratory.container, laboratory.hosts
    serve(hosts, "[fd77::1]:8080/tcp")
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    container.ip("link", "set", "eth0", "down")
    assert route_devices(container) == set()
    done = dragoman.reconcile(container, "WEB=web;80")
    assert done.code == 0, done
    assert dragoman.plan(container, "WEB=web;80").code == 0
    container.ip("link", "set", "eth0", "up")
    container.add_address("fd77::100/64")
    assert dragoman.plan(container, "WEB=web;80").changes == {
        ("add", "route local ::1/128 dev eth0")}
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    wait_until(lambda: connect(container, "[::1]:80/tcp") == {"[fd77::1]:8080": 1},
               what="a connection over ::1")


def test_namespaces_without_any_interface(dragoman, registered, namespaces):
    """lo is all there is, up or down."""
    lonely = namespaces.new("lonely")
    for state in ("up", "down"):
        lonely.ip("link", "set", "lo", state)
        assert dragoman.reconcile(lonely, "WEB=web;80").code == 0
        assert dragoman.plan(lonely, "WEB=web;80").json["in_sync"]
        assert dragoman.flush(lonely).code == 0
        assert nft.tables(lonely) == set()


@pytest.mark.parametrize("name", ["lo2", "eth0.100", "-x", "a\"b", "tür", "x" * 15, "!", "{}", "\\x",
                                  "\x1b[31mred"])
def test_namespaces_odd_interface_names_are_fine(dragoman, registered, laboratory, name):
    container = laboratory.container
    container.ip("link", "set", "eth0", "down")
    container.ip("link", "set", "dev", "eth0", "name", name)
    container.ip("link", "set", "dev", name, "up")
    done = dragoman.reconcile(container, "WEB=web;80")
    assert done.code == 0, done
    assert "\x1b" not in done.stdout + done.stderr
    routes = [change[1] for change in done.changes if change[1].startswith("route ")]
    assert len(routes) == 1 and (routes[0].endswith(f" dev {name}") or "\\x" in routes[0]), routes
    assert dragoman.plan(container, "WEB=web;80").json["in_sync"]
    text = dragoman("flush", "--netns", container)
    assert text.code == 0 and "\x1b" not in text.stdout, text


def test_namespaces_many_interfaces(dragoman, registered, container):
    for number in range(30):
        container.ip("link", "add", f"a{number}", "type", "veth", "peer", "name", f"b{number}")
        container.ip("link", "set", f"a{number}", "up")
        container.ip("link", "set", f"b{number}", "up")
    assert dragoman.reconcile(container, "WEB=web;80").code == 0
    assert len(route_devices(container)) == 61
    assert dragoman.plan(container, "WEB=web;80").json["in_sync"]
    assert dragoman.flush(container).code == 0
    assert route_devices(container) == set()
