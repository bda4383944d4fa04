# SPDX-License-Identifier: MIT
"""No leak, no bad access, no descriptor left open: on success, and where things go wrong.

Each case runs twice: under valgrind, and as a build with ASan and UBSan.
"""

import contextlib
import json
import os

import pytest

from lab import nft
from lab.bad_server import BadServer, answer, flood, refusing_address, silence, then_close
from lab.command import Dragoman
from lab.memcheck import WATCHERS, valgrind
from lab.namespaces import Namespaces

TARGETED = ("reconcile", "plan")
DESCRIPTORS = ("WEB=web;80", "DNS=dns;53/udp", "SIX=six;81", "NONE=none;82")


class Scene:
    """A namespace with a cable, files good and bad; its registry is etcd, v3 and v2."""

    def __init__(self, namespaces, etcd, folder, stack):
        self.container, self.other = namespaces.new("watched"), namespaces.new("other")
        namespaces.link(self.container, self.other)
        self.container.add_address("10.77.0.100/24", "fd77::100/64")
        self.etcd, self.folder, self._stack = etcd, folder, stack
        self.dragoman = Dragoman(etcd.url)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def bad(self, what, scheme="etcd"):
        """The URL of a registry that answers so."""
        server = BadServer(what if callable(what) else lambda _: what)
        self._stack.callback(server.close)
        return f"{scheme}://{server.address}"

    def on(self, verb, *words):
        """A command on the namespace; with no descriptors of its own, with the usual ones."""
        usual = [word for each in DESCRIPTORS for word in ("-b", each)]
        own = verb == "flush" or any(word in ("-b", "--env-file") for word in words)
        # Under valgrind, on a busy machine, they take longer than the default, a handshake too.
        patient = [] if "--timeout" in words else ["--timeout", 60]
        return [verb, "--netns", self.container, *patient, *words, *([] if own else usual)]

    def standing(self):
        assert self.dragoman.reconcile(self.container, *DESCRIPTORS).code == 0

    def damaged(self):
        self.standing()
        nft.load(self.container, "flush chain inet dragoman output\n"
                 "flush map inet dragoman endpoints4\n"
                 "add chain inet dragoman mine\n"
                 "add set inet dragoman mine { type ipv4_addr; }\n")

    def foreign(self):
        """A table of our name that cannot be changed in place."""
        nft.load(self.container, "table inet dragoman {"
                 " map endpoints4 { type ipv4_addr : ipv4_addr; };"
                 " chain guard { type filter hook input priority 3; }; }")

    def many(self):
        return self.file("many.env", "".join(
            f"BACKEND_M{number}=web;{number + 1000}\n" for number in range(2000)))


def register(etcd):
    for number in range(1, 6):
        etcd.endpoint(f"/services/web/{number}", f"10.77.0.{number}", 8080, weight=number,
                      tags=["prod"])
        etcd.put_v2(f"/services/web/{number}", f"10.77.0.{number}:8080")
    etcd.put("/services/dns", {"host": "10.77.0.1", "port": 53})
    etcd.put("/services/six/1", "[fd77::1]:80")
    for name, value in {"a": "{", "b": "{\"ipaddress\": null}", "c": "[]", "d": b"\xff\0",
                        "e": "127.0.0.1:80", "f": "10.0.0.1:0", "g": "x" * 70000}.items():
        etcd.put(f"/services/odd/{name}", value)


@pytest.fixture(scope="module")
def scene(etcd_server, tmp_path_factory):
    with Namespaces() as namespaces, contextlib.ExitStack() as stack:
        yield Scene(namespaces, etcd_server, tmp_path_factory.mktemp("leaks"), stack)


# What is run on the scene, and the exit status that it has to end with.

GOOD = {
    "help": (lambda at: ["--help"], 0),
    "help of a command": (lambda at: ["reconcile", "--help"], 0),
    "version": (lambda at: ["--version"], 0),
    "first reconcile": (lambda at: at.on("reconcile"), 0),
    "first reconcile, json": (lambda at: at.on("reconcile", "--json"), 0),
    "nth": (lambda at: at.on("reconcile", "--balance", "nth"), 0),
    "many services": (lambda at: at.on("reconcile", "--env-file", at.many()), 0),
    "second reconcile": (lambda at: at.standing() or at.on("reconcile"), 0),
    "a service less": (lambda at: at.standing() or at.on("reconcile", "-b", "WEB=web;80"), 0),
    "held": (lambda at: at.standing() or at.on("reconcile", "--on-empty", "hold",
                                               "-b", "WEB=gone;80"), 0),
    "put right": (lambda at: at.damaged() or at.on("reconcile"), 0),
    "replaced": (lambda at: at.foreign() or at.on("reconcile"), 0),
    "plan of all": (lambda at: at.on("plan"), 3),
    "plan of nothing": (lambda at: at.standing() or at.on("plan", "--json"), 0),
    "flush": (lambda at: at.standing() or at.on("flush"), 0),
    "flush of nothing": (lambda at: at.on("flush", "--json"), 0),
    "by process": (lambda at: ["plan", "--pid", at.container.start("cat").pid,
                               "-b", "A=web;80"], 3),
    "by environ": (lambda at: ["plan", "--pid", at.container.start(
        "cat", env={**os.environ, "BACKEND_WEB": "web;80", "BACKEND_BAD": "web;0"}).pid], 1),
    "resolve": (lambda at: ["resolve", "web[prod];80"], 0),
    "resolve, odd documents": (lambda at: ["resolve", "--json", "odd;80"], 0),
    "resolve, v2": (lambda at: ["resolve", "web;80", "--registry", at.etcd.url_v2], 0),
    "resolve, file": (lambda at: ["resolve", "web;80", "--registry", "file://" + str(at.file(
        "good.json", json.dumps({"/services/web/1": "10.0.0.1:80", "/services/web": {}})))], 0),
    "second host": (lambda at: ["resolve", "web;80", "--registry",
                                f"etcd://{refusing_address()},{at.etcd.address}"], 0),
}

USAGE = {
    "no command": (lambda at: [], 2),
    "unknown command": (lambda at: ["reconsile"], 2),
    "unknown option": (lambda at: at.on("plan", "--bogus"), 2),
    "no value": (lambda at: ["plan", "--netns"], 2),
    "no target": (lambda at: ["plan", "-b", "WEB=web;80"], 2),
    "two targets": (lambda at: at.on("plan", "--pid", 1), 2),
    "addresses of nobody": (lambda at: at.on("plan", "--allow-endpoints", "10.0.0.0/8,x"), 2),
    "no descriptor to resolve": (lambda at: ["resolve"], 2),
}

BAD = {
    "no such namespace": (lambda at: ["plan", "--netns", "nobodys", "-b", "WEB=web;80"], 1),
    "no namespace": (lambda at: ["plan", "--netns", "/dev/null", "-b", "WEB=web;80"], 1),
    "another kind": (lambda at: ["plan", "--netns", "/proc/self/ns/uts", "-b", "WEB=web;80"], 1),
    "no such process": (lambda at: ["plan", "--pid", 2**22 - 1, "-b", "WEB=web;80"], 1),
    "the host's": (lambda at: ["flush", "--netns", "/proc/1/ns/net"], 1),
    "invalid, conflict": (lambda at: at.on("reconcile", "-b", "A=web;80", "-b", "B=dns;80",
                                           "-b", "C=web;x", "-b", "D=other"), 1),
    "no such env file": (lambda at: at.on("plan", "--env-file", at.folder / "none"), 1),
    "env file is a folder": (lambda at: at.on("plan", "--env-file", at.folder), 1),
    "a line of 1 MiB": (lambda at: at.on("plan", "--env-file", at.file(
        "long.env", "BACKEND_A=" + "x" * (1 << 20) + ";80\n")), 1),
    "odd bytes": (lambda at: at.on("plan", "--env-file", at.file(
        "odd.env", b"BACKEND_A=\xff\x1b;80\nBACKEND_\xffB=web;80\nBACKEND_C=a\0b;8\n\x00=;")), 1),
    "invalid descriptor": (lambda at: ["resolve", "web[;80"], 1),
    "full disk": (lambda at: ["resolve", "--json", "web;80"], 1),
}


def registry_case(url, code=1):
    return (lambda at: at.on("reconcile", "--registry", url(at)), code)


REGISTRY = {
    "a URL of nobody": registry_case(lambda at: "gopher://localhost", code=2),
    "refused": registry_case(lambda at: f"etcd://{refusing_address()}"),
    "no such file": registry_case(lambda at: f"file://{at.folder}/none.json"),
    "file is a folder": registry_case(lambda at: f"file://{at.folder}"),
    "file is no JSON": registry_case(lambda at: f"file://{at.file('no.json', '{')}"),
    "file is a list": registry_case(lambda at: f"file://{at.file('list.json', '[1]')}"),
    "silent": (lambda at: at.on("reconcile", "--timeout", 1, "--registry", at.bad(silence)), 1),
    "unsaid CA": (lambda at: at.on("plan", "--registry", f"etcds://{at.etcd.address}"), 1),
    "no CA": (lambda at: at.on("plan", "--registry", f"etcds://{at.etcd.address}",
                               "--tls-ca", at.folder / "none"), 1),
    "no password": (lambda at: at.on("plan", "--registry-user", "me", "--registry-password-file",
                                     at.folder / "none"), 1),
}
for _name, _what in {
        "404": answer("<html>", "404 Not Found"), "500": answer("{}", "500 Internal Server Error"),
        "HTML": answer("<html>"), "half a document": answer('{"header": {"rev'),
        "cut off": then_close(answer('{"header"', length=1000)), "no answer": then_close(b""),
        "a flood": flood(100 << 20, chunked=True), "a list": answer("[]"),
        "other types": answer('{"header": 1, "responses": {}, "node": [], "kvs": 2}')}.items():
    for _scheme in ("etcd", "etcd2"):
        REGISTRY[f"{_name}, {_scheme}"] = registry_case(
            lambda at, what=_what, scheme=_scheme: at.bad(what, scheme))

CASES = {**GOOD, **USAGE, **BAD, **REGISTRY}
# valgrind 3.19 has no pidfd_open(2).
NOT_IN_VALGRIND = {"by process", "by environ"}


@pytest.mark.parametrize(("name", "watcher"), [
    (name, watcher) for name in CASES for watcher in WATCHERS
    if watcher != "valgrind" or name not in NOT_IN_VALGRIND])
def test_leaks_none(scene, etcd, watcher, name):
    register(etcd)
    nft.load(scene.container, "flush ruleset")
    words, code = CASES[name]
    full = "/dev/full" if name == "full disk" else None
    result = WATCHERS[watcher](scene.dragoman, *words(scene), output=full)
    assert result.code == code, result
    if code == 1:
        assert result.stderr.startswith("dragoman: "), result
    scene.container.stop_processes()


@pytest.mark.parametrize("watcher", WATCHERS)
def test_leaks_none_with_tls(scene, etcd_tls, watcher):
    register(etcd_tls)
    files = etcd_tls.certificates
    result = WATCHERS[watcher](scene.dragoman, *scene.on(
        "plan", "--registry", etcd_tls.url, "--tls-ca", files.ca,
        "--tls-cert", files.client, "--tls-key", files.client_key))
    assert result.code == 3, result


@pytest.mark.parametrize("watcher", WATCHERS)
@pytest.mark.parametrize(("password", "code"), [("correct horse", 3), ("wrong", 1)])
def test_leaks_none_with_a_user(scene, etcd_auth, watcher, password, code):
    etcd_auth.endpoint("/services/web/1", "10.77.0.1", 80)
    result = WATCHERS[watcher](scene.dragoman, *scene.on(
        "plan", "--registry", etcd_auth.url, "--registry-user", etcd_auth.user,
        "--registry-password-file", scene.file("secret", password)))
    assert result.code == code, result


CONSUL = {
    "whole": (None, 3), "500": (answer("No cluster leader", "500 Internal Server Error"), 1),
    "half an answer": (answer('[{"Node": {"No', headers=["X-Consul-Index: 7"]), 1),
    "no instances": (answer("[1, {}]", headers=["X-Consul-Index: 7"]), 1),
    "refused": (answer("Permission denied", "403 Forbidden"), 1),
}


@pytest.mark.parametrize("watcher", WATCHERS)
def test_leaks_none_with_a_consul(scene, consul, watcher):
    """Of an answer with everything in it, and of those that are none."""
    for number, name in enumerate(("good", "bad port", "bad address"), 1):
        consul.put("web", name, "10.77.0.1" if "address" not in name else "x",
                   number - 2 if name == "bad port" else 80, weight=number * 900, tags=["prod"])
    consul.register("web", "failing", "10.77.0.2", 80, status="critical")
    token = ("--registry-password-file", scene.file("token", "anonymous"))
    for name, (what, code) in CONSUL.items():
        url = scene.bad(what, "consul") if what else consul.url
        result = WATCHERS[watcher](scene.dragoman, *scene.on("plan", "--registry", url, *token))
        assert result.code == code, (name, result)


@pytest.mark.skipif("valgrind" not in WATCHERS, reason="no valgrind in this run")
def test_leaks_a_descriptor_left_open_is_seen(scene):
    with pytest.raises(AssertionError, match="Open file descriptor 5: /etc/passwd"):
        valgrind(scene.dragoman, "-c", "exec 5</etc/passwd", program="/bin/sh")
