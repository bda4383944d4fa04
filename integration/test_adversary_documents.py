# SPDX-License-Identifier: MIT
"""Documents and keys that somebody wrote to do harm, from etcd v3, etcd v2 and a file.

The good ones beside a bad one all stand, in what is done once and in the agent;
a bad one that takes a good one's place takes its endpoint away, which comes back
with it; one line for all documents of a service says what, where and why, and
status and the metrics tell of them; nothing comes out raw.

DRAGOMAN_KEYS=100000 and DRAGOMAN_LARGE=200 make the large ones larger.
"""

import contextlib
import json
import os
import re
import subprocess

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM, Dragoman
from lab.etcd import Etcd
from lab.namespaces import Namespaces
from lab.registries import REGISTRIES
from lab.waiting import wait_until

MIB = 1 << 20
WEB = "127.0.0.1:80/tcp"
KEYS = int(os.environ.get("DRAGOMAN_KEYS", "4000"))
LARGE = int(os.environ.get("DRAGOMAN_LARGE", "6"))


def service(port="49161", address="10.9.0.1", more=""):
    """A service document with members as they stand: service('1e3'), service('"80"')."""
    return '{"ipaddress":"%s","host_port":%s%s}' % (address, port, more)


def nested(levels):
    return '{"a":' + "[" * levels + "]" * levels + "}"


# name: (value, what the reason says)
HOSTILE = {
    # Numbers
    "port-negative": (service("-1"), "host_port -1 is not 1..65535"),
    "port-0": (service("0"), "host_port 0 is not 1..65535"),
    "port-65536": (service("65536"), "host_port 65536 is not 1..65535"),
    "port-huge": (service("99999999999"), "host_port 99999999999 is not 1..65535"),
    "port-digits": (service("9" * 60000), "real number overflow"),
    "port-exponent": (service("1e999"), "real number overflow"),
    "port-half": (service("49161.5"), "host_port 49161.5 is not 1..65535"),
    "port-blank": (service('" 49161"'), 'host_port is not a number: " 49161"'),
    "port-exponent-text": (service('"1e3"'), 'host_port is not a number: "1e3"'),
    "port-hex": (service("0x10"), "not JSON"),
    "port-hex-text": (service('"0x10"'), 'host_port is not a number: "0x10"'),
    "port-nan": (service("NaN"), "not JSON"),
    "port-true": (service("true"), "host_port is not a number"),
    "port-null": (service("null"), "host_port is null"),
    "port-list": (service("[49161]"), "host_port is not a number"),
    "port-escape": (service('"\\u001b[2J"'), 'host_port is not a number: "\\x1b[2J"'),
    # Addresses
    "address-missing": ('{"host_port":1}', "missing ipaddress"),
    "address-null": ('{"ipaddress":null,"host_port":1}', "ipaddress is null"),
    "address-number": ('{"ipaddress":167772161,"host_port":1}', "ipaddress is not a string"),
    "address-name": (service(address="db.example"), "not an IP literal"),
    "address-octal": (service(address="010.0.0.1"), "not an IP literal"),
    "address-short": (service(address="10.1"), "not an IP literal"),
    "address-hex": (service(address="0x0a000001"), "not an IP literal"),
    "address-blank": (service(address="10.0.0.1 "), "not an IP literal"),
    "address-zone": (service(address="fe80::1%eth0"), "not an IP literal"),
    "address-prefix": (service(address="10.0.0.0/8"), "not an IP literal"),
    "address-multicast": (service(address="224.0.0.1"), "multicast"),
    "address-multicast6": (service(address="ff02::1"), "multicast"),
    "address-unspecified": (service(address="0.0.0.0"), "unspecified"),
    "address-unspecified6": (service(address="::"), "unspecified"),
    "address-loopback": (service(address="127.1.2.3"), "loopback"),
    "address-loopback6": (service(address="::1"), "loopback"),
    "address-broadcast": (service(address="255.255.255.255"), "broadcast"),
    "address-metadata": (service(address="169.254.169.254"), "link-local"),
    "address-mapped": (service(address="::ffff:127.0.0.1"), "loopback"),
    "address-mapped-metadata": (service(address="::ffff:169.254.169.254"), "link-local"),
    "address-huge": (service(address="1" * 60000), "not an IP literal"),
    # Members
    "tags-text": (service(more=',"tags":"prod"'), "tags is not an array of strings"),
    "tags-object": (service(more=',"tags":{}'), "tags is not an array of strings"),
    "tags-mixed": (service(more=',"tags":["prod",null]'), "tags is not an array of strings"),
    "tags-nested": (service(more=',"tags":[["prod"]]'), "tags is not an array of strings"),
    "proto-number": (service(more=',"proto":6'), "proto is not a string"),
    "weight-257": (service(more=',"weight":257'), "weight 257 is not 0..256"),
    "weight-negative": (service(more=',"weight":-1'), "weight -1 is not 0..256"),
    "weight-text": (service(more=',"weight":"heavy"'), "weight is not a number"),
    "twice": (service(more=',"host_port":0'), "host_port 0 is not 1..65535"),
    # Forms
    "empty": ("", "empty"),
    "blank": (" \n", "empty"),
    "nothing": ("{}", "neither a service document nor host and port"),
    "array": ("[1]", "neither a JSON object nor ip:port"),
    "bom": ("\ufeff" + service(), "neither a JSON object nor ip:port"),
    "half": (service()[:-1], "not JSON"),
    "more": (service() + "{}", "not JSON"),
    "deep": (nested(30000), "maximum parsing depth"),
    "deeper": (nested(100000), "at most 65536"),
    "long-name": ('{"%s":1' % ("n" * 60000), "not JSON"),
    "65537": (service().ljust(65537), "65537 bytes, at most 65536"),
    "mib": (service(more=',"x":"%s"' % ("x" * MIB)), "at most 65536"),
    "escape": ("\x1b[31mred\x1b[0m", "neither a JSON object nor ip:port"),
    "html": ("<html>10.0.0.1:80</html>", "neither a JSON object nor ip:port"),
    "port-of-plain": ("10.9.0.1:65536", "port 65536 is not 1..65535"),
}

# What only etcd v3 keeps as it stands.
RAW = {
    "latin": (b'{"ipaddress":"10.9.0.1","host_port":1,"x":"\xff"}', "not JSON"),
    "overlong": (b"\xc0\xaf\xed\xa0\x80", "neither a JSON object nor ip:port"),
    "nul": (b"10.9.0.1:1\0", "neither a JSON object nor ip:port"),
    "all-bytes": (bytes(range(256)), "neither a JSON object nor ip:port"),
    "utf-16": (service().encode("utf-16"), "neither a JSON object nor ip:port"),
}

# name: (value, endpoint): odd, and yet good.
ODD = {
    "odd-exponent": (service("1e3", "10.8.0.1"), "10.8.0.1:1000"),
    "odd-real": (service("49161.0", "10.8.0.2"), "10.8.0.2:49161"),
    "odd-text": (service('"49161"', "10.8.0.3"), "10.8.0.3:49161"),
    "odd-mapped": (service("80", "::ffff:10.8.0.4"), "10.8.0.4:80"),
    "odd-ipv6": (service("80", "2001:db8::1"), "[2001:db8::1]:80"),
    "odd-twice": (service("1", "10.8.0.5", ',"host_port":81'), "10.8.0.5:81"),
    "odd-tags": (service("80", "10.8.0.6", ',"tags":["a","a","\\u001b[1m"]'), "10.8.0.6:80"),
    "odd-65536": (service("80", "10.8.0.7").ljust(65536), "10.8.0.7:80"),
    "odd-blanks": ("\n\t 10.8.0.8:80\r\n", "10.8.0.8:80"),
    "odd-numbers": (service("80", "10.8.0.9", ',"x":%s,"y":{"x":1,"x":2}' % ("9" * 300)),
                    "10.8.0.9:80"),
}

GOOD = {"a": ("10.77.0.1:7000", "10.77.0.1:7000"), "z": (service("7000", "10.77.0.2"),
                                                         "10.77.0.2:7000")}
STANDS = {endpoint for _, endpoint in (*GOOD.values(), *ODD.values())}


def assert_printable(*outputs):
    """UTF-8 of characters that no terminal acts upon."""
    for raw in outputs:
        found = re.search(r"[^\n -~\u00a0-\U0010ffff]", raw.decode())
        assert not found, repr(found)


def run(dragoman, *words):
    """(exit status, output, errors), as bytes."""
    done = subprocess.run([PROGRAM, *map(str, words)], env=dragoman.environment,
                          capture_output=True, timeout=120)
    assert_printable(done.stdout, done.stderr)
    return done.returncode, done.stdout, done.stderr


def log_of(agent):
    raw = (agent.folder / "log").read_bytes()
    assert_printable(raw)
    return raw.decode()


def complaints(agent):
    return [line for line in log_of(agent).splitlines() if "cannot be used" in line]


def held(namespace):
    if "inet dragoman" not in nft.tables(namespace):
        return None
    return {slot.endpoint for slot in nft.slots(namespace)}


def wait_for(namespace, wanted):
    wait_until(lambda: held(namespace) == wanted, 30, what=f"{wanted}, not {held(namespace)}")


@pytest.fixture(params=REGISTRIES)
def registry(request, etcd, tmp_path):
    return REGISTRIES[request.param](etcd, tmp_path)


@pytest.fixture
def web():
    """A namespace without anything else: IPv6 works there, and there is no link."""
    with Namespaces() as namespaces:
        yield namespaces.new("web")


@pytest.fixture
def follow(web):
    """follow(registry): an agent that keeps WEB=web;80 there."""
    with contextlib.ExitStack() as stack:
        def start(registry, *arguments):
            return stack.enter_context(Agent("--netns", web, "-b", "WEB=web;80", *arguments,
                                             registry=registry.url))
        yield start


def hostile_of(registry):
    return {**HOSTILE, **(RAW if registry.name == "etcd" else {})}


def put_all(registry, documents):
    for name, (value, _) in documents.items():
        registry.put(f"/services/web/{name}", value)


# Values

def test_adversary_documents_do_not_stop_the_good_ones(registry, web):
    hostile = hostile_of(registry)
    put_all(registry, {**GOOD, **ODD, **hostile})
    dragoman = Dragoman(registry.url)
    words = ("--netns", web, "-b", "WEB=web;80")
    code, _, errors = run(dragoman, "reconcile", *words)
    assert code == 0 and held(web) == STANDS
    # One line for all of them.
    (line,) = errors.decode().splitlines()
    total = len(hostile) + len(STANDS)
    assert line.startswith(f"dragoman: /services/web: {len(hostile)} of {total} documents cannot "
                           f"be used, the first one /services/web/65537: 65537 bytes"), line
    assert run(dragoman, "plan", *words)[0] == 0
    code, output, errors = run(dragoman, "resolve", "--json", "web;80")
    assert code == 0 and errors == b""
    told = {each["key"]: each["reason"] for each in json.loads(output)["skipped"]}
    assert told.keys() == {f"/services/web/{name}" for name in hostile}
    wrong = {name: told[f"/services/web/{name}"] for name, (_, said) in hostile.items()
             if said not in told[f"/services/web/{name}"]}
    assert wrong == {}
    assert max(map(len, told.values())) < 160
    code, output, _ = run(dragoman, "resolve", "web;80")
    assert code == 0 and output.count(b"skipped ") == len(hostile)


def test_adversary_documents_that_turn_bad_and_good_again(registry, web, follow):
    """In the place of a good one: that endpoint goes, and comes back."""
    put_all(registry, {**GOOD, "x": ("10.77.0.3:7000", None)})
    agent = follow(registry)
    good = {endpoint for _, endpoint in GOOD.values()}
    assert held(web) == good | {"10.77.0.3:7000"}
    some = list(hostile_of(registry).values())[::8]
    for value, _ in some:
        registry.put("/services/web/x", "10.77.0.3:7000")
        wait_for(web, good | {"10.77.0.3:7000"})
        registry.put("/services/web/x", value)
        wait_for(web, good)
    backend = agent.status()["namespaces"][0]["backends"][0]
    assert backend["state"] == "ready"
    assert backend["reason"].startswith(
        "1 of 3 documents cannot be used, the first one /services/web/x: "), backend
    assert agent.metric("documents") == 3 and agent.metric("documents_unusable") == 1
    assert agent.metric("documents_rejected_total") == len(some)
    assert agent.metric('errors_total{class="invalid"}') == 0
    registry.put("/services/web/x", "10.77.0.3:7000")
    wait_for(web, good | {"10.77.0.3:7000"})
    assert agent.metric("documents_unusable") == 0
    assert agent.status()["namespaces"][0]["backends"][0]["reason"] is None
    # At most one line in ten seconds; a slow machine takes longer than that for all.
    assert 1 <= len(complaints(agent)) < 10, complaints(agent)
    registry.delete("/services/web/x")
    wait_for(web, good)


def test_adversary_documents_are_told_of_once_and_told_to_be_good_again(etcd, web, follow):
    registry = REGISTRIES["etcd"](etcd, None)
    put_all(registry, {**GOOD, "0": ("{", None)})
    agent = follow(registry)
    good = held(web)
    wait_until(lambda: complaints(agent), what="a line")
    assert "1 of 3 documents cannot be used, the first one /services/web/0: not JSON" in (
        complaints(agent)[0])
    etcd.put_many((f"/services/web/bad-{number}", "bad") for number in range(1000))
    wait_until(lambda: agent.metric("documents_unusable") == 1001, what="all of them")
    assert held(web) == good
    etcd.delete_below("/services/web/bad-")
    etcd.put("/services/web/0", GOOD["a"][0])
    wait_until(lambda: agent.metric("documents_unusable") == 0, what="none of them")
    wait_until(lambda: "/services/web: all documents can be used again" in log_of(agent),
               deadline=30, what="the end of it")
    # Where all of that took longer than ten seconds there is another.
    assert len(complaints(agent)) <= 3, complaints(agent)
    assert agent.metric("documents_rejected_total") == 1001
    assert held(web) == good


def test_adversary_documents_of_many_services_are_told_of_in_a_few_lines(etcd, web, tmp_path):
    registry = REGISTRIES["file"](etcd, tmp_path)
    wants = []
    for number in range(100):
        registry.put(f"/services/s{number}/good", "10.77.0.1:7000")
        registry.put(f"/services/s{number}/bad", "bad")
        wants += ["-b", f"S{number}=s{number};{number + 1}"]
    code, _, errors = run(Dragoman(registry.url), "reconcile", "--netns", web, *wants)
    assert code == 0 and errors.count(b" 1 of 2 documents cannot be used") == 10
    assert len(errors.splitlines()) == 11 and b"more services" in errors, errors
    with Agent("--netns", web, *wants, registry=registry.url) as agent:
        assert agent.metric("documents_unusable") == 100
        wait_until(lambda: complaints(agent), what="lines")
        assert len(complaints(agent)) == 10
        assert "and the documents of 90 more services; see status" in log_of(agent)
        assert len(nft.slots(web)) == 100


@pytest.mark.parametrize("on_empty", ["reject", "hold"])
def test_adversary_documents_the_last_that_turns_bad(registry, web, follow, on_empty):
    registry.put("/services/web/a", "10.77.0.1:7000")
    agent = follow(registry, "--on-empty", on_empty)
    registry.put("/services/web/a", "{")
    wait_until(lambda: agent.metric("documents_unusable") == 1, what="a bad document")
    wait_for(web, {"10.77.0.1:7000"} if on_empty == "hold" else set())
    backend = agent.status()["namespaces"][0]["backends"][0]
    assert backend["state"] == "empty", backend
    assert "/services/web/a: not JSON" in backend["reason"], backend
    registry.put("/services/web/a", "10.77.0.2:7000")
    wait_for(web, {"10.77.0.2:7000"})


# Keys

ALL_BYTES = bytes(range(256))

KEYS_OF_ETCD3 = [
    b"\x1b[31mred\x1b[0m", b"line\nfeed\r\n", b"\xff\xfe\xc0\xaf", b"\xed\xa0\x80", b"nul\0nul",
    b"..", b"../../other", b"./.", b"/", b"//x//", b"a b;c[d]=e", b"\\", b'"quoted"', b"%2e%2e",
    "\u202e\u2028\ufeffé".encode(), "\U0001f4a9".encode(), b"\x7f\x80\x9b", ALL_BYTES,
    b"k" * 60000, b"\x01" * 20000,
]
KEYS_OF_OTHERS = [key.decode() for key in KEYS_OF_ETCD3
                  if key not in (ALL_BYTES, b"..", b"../../other", b"./.", b"/", b"//x//")
                  and len(key) < 1000 and key.isascii() and b"\0" not in key]


def put_keys(registry):
    """Half of them good, half bad; how many of each."""
    keys = KEYS_OF_ETCD3 if registry.name == "etcd" else KEYS_OF_OTHERS
    for number, key in enumerate(keys):
        whole = (b"/services/web/" if isinstance(key, bytes) else "/services/web/") + key
        registry.put(whole, f"10.8.0.{number + 1}:80" if number % 2 == 0 else "bad")
    return {f"10.8.0.{number + 1}:80" for number in range(0, len(keys), 2)}, len(keys) // 2


def test_adversary_keys_of_every_byte_name_endpoints(registry, web, follow):
    registry.put("/services/web/a", "10.77.0.1:7000")
    agent = follow(registry)
    more, bad = put_keys(registry)
    wait_for(web, more | {"10.77.0.1:7000"})
    wait_until(lambda: agent.metric("documents_unusable") == bad, what="the bad ones")
    assert_printable(agent.get("/status")[1].encode(), agent.get("/metrics")[1].encode())
    assert "/services/web/" in agent.status()["namespaces"][0]["backends"][0]["reason"]
    dragoman = Dragoman(registry.url)
    code, output, _ = run(dragoman, "resolve", "--json", "web;80")
    resolved = json.loads(output)
    assert code == 0 and len(resolved["skipped"]) == bad
    assert len(resolved["endpoints"]) == len(more) + 1
    assert run(dragoman, "resolve", "web;80")[0] == 0
    # What was read in one go is what came key by key.
    code, output, errors = run(dragoman, "plan", "--json", "--netns", web, "-b", "WEB=web;80")
    assert code == 0 and json.loads(output)["in_sync"], output
    assert len(errors.splitlines()) == 1 and len(errors) < 2048
    code, output, _ = run(dragoman, "status", "--socket", agent.socket)
    assert code == 0 and b"cannot be used" in output
    wait_until(lambda: complaints(agent), what="a line")
    assert max(map(len, complaints(agent))) < 2048


def test_adversary_keys_are_removed_as_they_were_put(etcd, web, follow):
    registry = REGISTRIES["etcd"](etcd, None)
    registry.put("/services/web/a", "10.77.0.1:7000")
    follow(registry)
    more, _ = put_keys(registry)
    wait_for(web, more | {"10.77.0.1:7000"})
    for key in KEYS_OF_ETCD3:
        registry.delete(b"/services/web/" + key)
    wait_for(web, {"10.77.0.1:7000"})


# Much of it

class LargeEtcd(Etcd):
    """Takes requests of 8 MiB."""

    def _command(self, peer):
        return [*super()._command(peer), "--max-request-bytes", str(8 * MIB)]


def test_adversary_documents_of_1_mib_and_more_use_up_nothing(web, follow):
    """With DRAGOMAN_LARGE=70 they have more bytes together than a service may have."""
    with LargeEtcd() as etcd:
        registry = REGISTRIES["etcd"](etcd, None)
        put_all(registry, GOOD)
        agent = follow(registry)
        good = held(web)
        before = agent.private_dirty()
        sizes = [5 * MIB, 1536 * 1024, 1537 * 1024, *[MIB] * LARGE]
        for number, size in enumerate(sizes):
            registry.put(f"/services/web/large-{number}", service(more=',"x":"%s"' % ("x" * size)))
        wait_until(lambda: agent.metric("documents_unusable") == len(sizes), 60, what="all")
        assert held(web) == good
        registry.put("/services/web/b", "10.77.0.3:7000")
        wait_for(web, good | {"10.77.0.3:7000"})
        agent.send(1)  # SIGHUP: all is read anew
        registry.put("/services/web/b", "10.77.0.4:7000")
        wait_for(web, good | {"10.77.0.4:7000"})
        wait_until(lambda: agent.metric("registry_reads_total") >= 2, what="a read")
        code, output, _ = run(Dragoman(registry.url), "plan", "--json", "--timeout", 60,
                              "--netns", web, "-b", "WEB=web;80")
        assert code == 0 and json.loads(output)["in_sync"], output
        wait_until(lambda: agent.status()["namespaces"][0]["backends"][0]["state"] == "ready",
                   what="the answer to the read")
        print(f"{len(sizes)} large documents: {(agent.private_dirty() - before) >> 10} KiB more")


def many(count):
    """One in ten is bad, and one in a thousand has the tag."""
    for number in range(count):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        if number % 10 == 5:
            value = service("0", address)
        else:
            value = service("80", address, ',"tags":["%s"]' % ("few" if number % 1000 == 0
                                                               else "many"))
        yield f"/services/web/{number:06}", value


def test_adversary_keys_without_number_below_one_service(etcd, web):
    etcd.put_many(many(KEYS))
    wanted = {f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(0, KEYS, 1000)}
    dragoman = Dragoman(etcd.url)
    words = ("--timeout", 60, "--netns", web, "-b", "WEB=web[few];80")
    code, _, errors = run(dragoman, "reconcile", *words)
    assert code == 0 and held(web) == wanted
    assert f"{KEYS // 10} of {KEYS} documents cannot be used" in errors.decode()
    assert len(errors.splitlines()) == 1
    assert run(dragoman, "plan", *words)[0] == 0
    with Agent("--netns", web, "-b", "WEB=web[few];80", registry=etcd.url) as agent:
        assert agent.metric("documents") == KEYS
        assert agent.metric("documents_unusable") == KEYS // 10
        assert held(web) == wanted
        etcd.put("/services/web/000000", service("81", "10.0.0.0", ',"tags":["few"]'))
        wait_for(web, wanted - {"10.0.0.0:80"} | {"10.0.0.0:81"})
        assert agent.metric("commits_total") == 1
        wait_until(lambda: complaints(agent), what="a line")
        assert len(complaints(agent)) == 1 and len(log_of(agent)) < 10000
        etcd.delete_below("/services/web/")
        wait_for(web, set())
        assert agent.metric("documents") == 0


# A file

def other_reason(agent, before):
    """Why the service is held, where that is not what it was."""
    backend = agent.status()["namespaces"][0]["backends"][0]
    return backend["reason"] if backend["state"] == "held" and backend["reason"] != before else None


def test_adversary_file_that_turns_bad_leaves_all_as_it_was(etcd, web, follow, tmp_path):
    """A file is trusted whole or not at all: also where the mistake is inside one document."""
    registry = REGISTRIES["file"](etcd, tmp_path)
    put_all(registry, GOOD)
    agent = follow(registry)
    good, path = held(web), tmp_path / "registry.json"
    sound = path.read_text()
    reason = None
    for content in [
            '{"/services/web/a": {"x": 1, "x": 2}}', '{"/services/web/a": %s}' % nested(100000),
            '{"/services/web/a": "\ud800"}'.encode(errors="surrogatepass"), b"\xef\xbb\xbf" +
            sound.encode(), '{"/services/web/a": 1e999}', '{"/services/web/../a": "x"}', ""]:
        new = path.with_suffix(".new")
        new.write_bytes(content if isinstance(content, bytes) else content.encode())
        new.rename(path)
        reason = wait_until(lambda: other_reason(agent, reason), what=f"what is wrong: {content}")
        assert str(path) in reason and held(web) == good
    assert agent.metric('errors_total{class="invalid"}') >= 7
    path.write_text(sound.replace("10.77.0.1", "10.77.0.3"))
    wait_for(web, good - {"10.77.0.1:7000"} | {"10.77.0.3:7000"})
    assert log_of(agent).count("; what is known stays") == 1
