# SPDX-License-Identifier: MIT
"""Services as registries hold them: the same from etcd v3, etcd v2, a file and Consul."""

import json

import pytest

from lab import nft
from lab.command import Dragoman
from lab.registries import REGISTRIES
from lab.traffic import connect, serve


def asker(registry):
    """ask("web;80") resolves; ask.dragoman is the program."""
    dragoman = Dragoman(registry.url)

    def resolve(descriptor, *flags):
        done = dragoman("resolve", "--json", *flags, descriptor)
        assert done.code == 0 and done.stderr == "", done
        return done.json
    resolve.dragoman = dragoman
    return resolve


@pytest.fixture
def ask(registry):
    return asker(registry)


@pytest.fixture
def ask_any(any_registry):
    return asker(any_registry)


def document(address="10.77.0.1", port="8080", **more):
    return {"ipaddress": address, "host_port": port, **more}


def endpoints(resolved):
    return [f"{each['address']}:{each['port']}" for each in resolved["endpoints"]]


def skipped(resolved):
    return {each["key"].rpartition("/")[2]: each["reason"] for each in resolved["skipped"]}


# Keys

def test_registry_key_ends_at_a_border(registry, ask):
    registry.put("/services/prod/app/a", document("10.0.0.1"))
    registry.put("/services/prod/app2/b", document("10.0.0.2"))
    registry.put("/services/prod/app-x/c", document("10.0.0.3"))
    registry.put("/services/prod/app.x/d", document("10.0.0.4"))
    registry.put("/services/prod/ap/e", document("10.0.0.5"))
    registry.put("/services/prod/app0", document("10.0.0.6"))
    registry.put("/other/services/prod/app/f", document("10.0.0.7"))
    for descriptor in ("/services/prod/app;80", "/services/prod/app/;80"):
        assert endpoints(ask(descriptor)) == ["10.0.0.1:8080"]
    assert ask("/services/prod/app;80")["service"] == "/services/prod/app"


def test_registry_key_itself_is_a_document(registry, ask):
    registry.put("/services/app", document("10.0.0.1"))
    registry.put("/services/app2", document("10.0.0.2"))
    assert endpoints(ask("app;80")) == ["10.0.0.1:8080"]
    if registry.holds_key_and_below:
        registry.put("/services/app/b", document("10.0.0.3"))
        assert endpoints(ask("app;80")) == ["10.0.0.1:8080", "10.0.0.3:8080"]


def test_registry_levels_below_are_all_of_it(registry, ask):
    for number, below in enumerate(("a", "b/c", "b/d/e", "f/g/h/i/j/k")):
        registry.put(f"/services/app/{below}", document(f"10.0.0.{number + 1}"))
    assert endpoints(ask("app;80")) == [f"10.0.0.{number}:8080" for number in (1, 2, 3, 4)]
    assert endpoints(ask("/services/app/b;80")) == ["10.0.0.2:8080", "10.0.0.3:8080"]


def test_registry_etcd2_empty_directories_are_nothing(etcd, tmp_path):
    registry = REGISTRIES["etcd2"](etcd, tmp_path)
    dragoman = Dragoman(registry.url)
    registry.make_directory("/services/empty")
    registry.make_directory("/services/nested/80/49173")
    registry.put("/services/nested/80/49175/a", document("10.0.0.1"))
    registry.make_directory("/services/nested/443")
    done = dragoman("resolve", "--json", "empty;80")
    assert done.code == 0 and done.json["endpoints"] == [] and done.json["skipped"] == []
    assert endpoints(dragoman("resolve", "--json", "nested;80").json) == ["10.0.0.1:8080"]


def test_registry_root_and_paths(registry, ask):
    registry.put("/prod/web/a", document("10.0.0.1"))
    registry.put("/services/web/a", document("10.0.0.2"))
    assert endpoints(ask("web;80", "--root", "/prod")) == ["10.0.0.1:8080"]
    assert endpoints(ask("web;80", "--root", "/prod/")) == ["10.0.0.1:8080"]
    assert endpoints(ask("/services/web;80", "--root", "/prod")) == ["10.0.0.2:8080"]
    assert endpoints(ask("prod;80", "--root", "/")) == ["10.0.0.1:8080"]


def test_registry_nothing_there_is_an_answer(any_registry, ask_any):
    told = ask_any("nothing[a,b];6379/UDP")
    assert any_registry.name != "consul" or told["hint"] is None
    del told["hint"]
    assert told == {
        "service": any_registry.service("nothing"), "tags": ["a", "b"], "listen": "6379/udp",
        "endpoints": [], "skipped": [], "errors": [], "reason": "the registry holds nothing there"}


def test_registry_nothing_there_is_answered_with_what_may_have_been_meant(registry, ask):
    assert ask("nothing;6379")["hint"] == "and nothing else either: the registry is empty"
    registry.put("/services/other/a", document("10.0.0.1"))
    assert ask("nothing;6379")["hint"] == "below /services there is only other"
    assert ask("otter;6379")["hint"] == "did you mean /services/other?"
    assert ask("other;6379")["hint"] is None


# Documents

REGISTRATOR_EXAMPLE = {
    "id": "13532987eae2831eb7d41f38172cb82db668b3c72d10f513551026b2525e634f", "host": "fury",
    "ipaddress": "192.168.13.90",
    "env": {"ENVIRONMENT": "prod", "NAME": "apache", "HOME": "/",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "APACHE_RUN_USER": "www-data", "APACHE_LOG_DIR": "/var/log/apache2"},
    "tags": [], "name": "/trusting_shockley", "image": "eboraas/apache",
    "hostname": "13532987eae2", "host_port": "49161", "proto": "tcp", "port": "80",
    "path": "/services/prod/apache/80/49161/13532987eae2"}


def test_registry_branch_as_users_have_it(registry, ask):
    branch = "/services/prod/apache/80"
    for number, below in ((88, "49173/e6d41829bd76"), (89, "49175/9fb514731beb")):
        registry.put(f"{branch}/{below}",
                     {**REGISTRATOR_EXAMPLE, "ipaddress": f"192.168.13.{number}"})
    registry.put(f"{branch}/49177/6b06da408f97", REGISTRATOR_EXAMPLE)
    for descriptor in ("/services/prod/apache;80", "/services/prod/apache/80;80",
                       "/services/prod/apache/80[];80/TCP"):
        found = ask(descriptor)
        assert endpoints(found) == [f"192.168.13.{last}:49161" for last in (88, 89, 90)]
    last = found["endpoints"][2]
    assert last == {"key": f"{branch}/49177/6b06da408f97", "address": "192.168.13.90",
                    "port": 49161, "weight": 1, "tags": []}


GOOD = {
    "service-document": (document(), "10.77.0.1:8080"),
    "service-document-with-skydns": ({**document(), "host": "10.0.0.9", "port": "9"},
                                     "10.77.0.1:8080"),
    "port-as-number": (document(port=8080), "10.77.0.1:8080"),
    "skydns": ({"host": "10.77.0.2", "port": 8081, "priority": 10, "ttl": 30}, "10.77.0.2:8081"),
    "nerve": ({"host": "10.77.0.3", "port": "8082", "name": "i-1"}, "10.77.0.3:8082"),
    "registrator": ("10.77.0.4:8083", "10.77.0.4:8083"),
    "registrator-six": ("[fd77::5]:8084", "fd77::5:8084"),
    "registrator-newline": ("10.77.0.4:8083\n", "10.77.0.4:8083"),
    "six": (document("fd77::6"), "fd77::6:8080"),
    "mapped": (document("::ffff:10.77.0.7"), "10.77.0.7:8080"),
    "nulls": (document(tags=None, proto=None, weight=None), "10.77.0.1:8080"),
    "proto-in-capitals": (document(proto="TCP"), "10.77.0.1:8080"),
    "weight-0": (document(weight=0), "10.77.0.1:8080"),
    "weight-256": (document(weight="256"), "10.77.0.1:8080"),
    "blanks-around": ("  " + json.dumps(document()) + "\n\n", "10.77.0.1:8080"),
}


def test_registry_every_form_of_document_is_used(registry, ask):
    for name, (value, _) in GOOD.items():
        registry.put(f"/services/{name}/x", value)
    for name, (_, expected) in GOOD.items():
        found = ask(f"{name};80")
        assert endpoints(found) == [expected], (name, found)
        assert found["skipped"] == []


# name: (document, what its reason says)
BAD = {
    "no-address": ({"host_port": "1"}, "missing ipaddress"),
    "no-port": ({"ipaddress": "10.0.0.1"}, "missing host_port"),
    "no-fallback": ({"ipaddress": "10.0.0.1", "host": "10.0.0.2", "port": 1}, "missing host_port"),
    "port-null": (document(port=None), "host_port is null"),
    "address-null": (document(None), "ipaddress is null"),
    "address-number": (document(1), "ipaddress is not a string"),
    "name": (document("db.example.org"), "not an IP literal"),
    "skydns-name": ({"host": "db.example.org", "port": 1}, "not an IP literal"),
    "zone": (document("fe80::1%eth0"), "not an IP literal"),
    "leading-zero": (document("010.0.0.1"), "not an IP literal"),
    "port-0": (document(port="0"), "1..65535"),
    "port-65536": (document(port=65536), "1..65535"),
    "port-negative": (document(port=-1), "1..65535"),
    "port-fraction": (document(port=80.5), "1..65535"),
    "port-huge": (json.dumps(document(port=10 ** 30)), "1..65535"),
    "port-text": (document(port="http"), "not a number"),
    "port-list": (document(port=[80]), "not a number"),
    "proto-udp": (document(proto="udp"), "proto udp, not tcp"),
    "proto-number": (document(proto=6), "proto is not a string"),
    "proto-escape": (document(proto="\x1b[31m"), "\\x1b"),
    "tags-string": (document(tags="prod"), "tags is not an array of strings"),
    "tags-numbers": (document(tags=[1]), "tags is not an array of strings"),
    "weight-257": (document(weight=257), "0..256"),
    "weight-negative": (document(weight=-1), "0..256"),
    "weight-text": (document(weight="heavy"), "not a number"),
    "empty": ("", "empty"),
    "blanks": (" \n ", "empty"),
    "words": ("hello", "neither a JSON object nor ip:port"),
    "array": ("[1]", "neither a JSON object nor ip:port"),
    "no-members": ({}, "neither a service document nor host and port"),
    "half": ('{"ipaddress": "10.0', "not JSON"),
    "html": ("<html>10.0.0.1:80</html>", "neither a JSON object nor ip:port"),
    "address-alone": ("10.0.0.1", "without a port"),
    "six-without-brackets": ("fd77::1:80", "without a port"),
    "plain-port-0": ("10.0.0.1:0", "1..65535"),
    "too-long": (document(padding="x" * 65536), "at most 65536"),
    "deep": ('{"a":' * 3000 + "1" + "}" * 3000, "not JSON"),
    "unspecified": (document("0.0.0.0"), "unspecified"),
    "multicast": (document("224.0.0.1"), "multicast"),
    "broadcast": (document("255.255.255.255"), "broadcast"),
    "loopback": (document("127.0.0.1"), "loopback"),
    "loopback-far": (document("127.9.9.9"), "loopback"),
    "mapped-loopback": (document("::ffff:127.0.0.1"), "loopback"),
    "link-local": (document("169.254.169.254"), "link-local"),
    "unspecified-six": (document("::"), "unspecified"),
    "loopback-six": (document("::1"), "loopback"),
    "multicast-six": (document("ff02::1"), "multicast"),
    "link-local-six": (document("fe80::1"), "link-local"),
}


def test_registry_unusable_documents_are_skipped_with_their_reason(registry, ask):
    for name, (value, _) in BAD.items():
        registry.put(f"/services/bad/{name}", value)
    registry.put("/services/bad/good", document("10.0.0.9"))
    found = ask("bad;80")
    assert endpoints(found) == ["10.0.0.9:8080"]
    reasons = skipped(found)
    assert reasons.keys() == BAD.keys()
    wrong = {name: reasons[name] for name, (_, said) in BAD.items() if said not in reasons[name]}
    assert wrong == {}
    text = ask.dragoman("resolve", "bad;80")
    assert text.code == 0 and "\x1b" not in text.stdout
    assert text.stdout.count("\nskipped /services/bad/") == len(BAD)


@pytest.mark.parametrize("kind", ["etcd", "etcd2"])
def test_registry_bytes_that_are_no_text_are_skipped(kind, etcd, tmp_path):
    registry = REGISTRIES[kind](etcd, tmp_path)
    for name, value in (("nul", b"10.0.0.1:80\0"), ("high", b"\xff\xfe"), ("escape", b"\x1b[31m")):
        if kind == "etcd" or name == "escape":
            registry.put(f"/services/web/{name}", value)
    done = Dragoman(registry.url)("resolve", "--json", "web;80")
    assert done.code == 0 and done.json["endpoints"] == [], done
    assert done.json["skipped"] and "\x1b" not in done.stdout


def test_registry_tags_must_all_be_there(any_registry, ask_any):
    for name, tags in (("none", []), ("prod", ["prod"]), ("both", ["stats", "prod"]),
                       ("more", ["prod", "stats", "x y", "prod"])):
        any_registry.add("web", name, "10.77.0.1", 80 + len(name) + len(tags), tags=tags)

    def keys(descriptor):
        return {each["key"].rpartition("/")[2] for each in ask_any(descriptor)["endpoints"]}
    assert keys("web;80") == {"none", "prod", "both", "more"} == keys("web[];80")
    assert keys("web[prod];80") == {"prod", "both", "more"}
    assert keys("web[ stats , prod ];80") == {"both", "more"} == keys("web[prod,stats,prod];80")
    assert keys("web[x y];80") == {"more"}
    assert keys("web[Prod];80") == set()
    assert skipped(ask_any("web[prod,stats];80")) == {"none": "lacks tag prod",
                                                     "prod": "lacks tag stats"}


def test_registry_proto_must_be_the_descriptors(registry, ask):
    registry.put("/services/dns/tcp", document("10.0.0.1", proto="tcp"))
    registry.put("/services/dns/udp", document("10.0.0.2", proto="udp"))
    registry.put("/services/dns/any", document("10.0.0.3"))
    assert endpoints(ask("dns;53/udp")) == ["10.0.0.3:8080", "10.0.0.2:8080"]
    assert endpoints(ask("dns;53")) == ["10.0.0.3:8080", "10.0.0.1:8080"]


def test_registry_duplicates_are_one_endpoint(registry, ask):
    registry.put("/services/web/b", document("10.0.0.1", weight=3))
    registry.put("/services/web/a", document("10.0.0.1"))
    registry.put("/services/web/c", "[::ffff:10.0.0.1]:8080")
    registry.put("/services/web/d", document("10.0.0.1", port="8081"))
    found = ask("web;80")
    assert [(each["key"], each["weight"]) for each in found["endpoints"]] == [
        ("/services/web/a", 1), ("/services/web/d", 1)]
    assert skipped(found) == {"b": "same endpoint as /services/web/a",
                              "c": "same endpoint as /services/web/a"}


@pytest.mark.parametrize(("admitted", "expected"), [
    ("127.0.0.0/8", {"127.0.0.1"}),
    ("169.254.0.0/16,10.0.0.0/24", {"169.254.169.254", "10.0.0.1"}),
    ("10.0.1.1", {"10.0.1.1"}),
    ("fd77::/64, ::1", {"fd77::1", "::1"}),
    ("0.0.0.0/0", {"127.0.0.1", "169.254.169.254", "10.0.0.1", "10.0.1.1"}),
])
def test_registry_admission_is_just_what_is_named(any_registry, ask_any, admitted, expected):
    addresses = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "10.0.1.1", "fd77::1", "::1")
    for number, address in enumerate(addresses):
        any_registry.add("web", str(number), address)
    found = ask_any("web;80", "--allow-endpoints", admitted)
    assert {each["address"] for each in found["endpoints"]} == expected
    assert set(skipped(found).values()) <= {"not in --allow-endpoints"}


def test_registry_more_than_4096_endpoints_are_skipped(etcd, dragoman):
    etcd.put_many((f"/services/many/{number:05}", f"10.1.{number >> 8}.{number & 255}:80")
                  for number in range(4100))
    done = dragoman("resolve", "--json", "many;80")
    assert done.code == 0
    assert len(done.json["endpoints"]) == 4096
    assert skipped(done.json) == {f"{number:05}": "more than 4096 endpoints"
                                  for number in range(4096, 4100)}


# To the kernel

def test_registry_to_the_kernel_and_back(any_registry, ask_any, container, hosts):
    """The whole way, with changes: added, weighted, drained, gone."""
    dragoman = ask_any.dragoman
    serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp", "[fd77::3]:8080/tcp")
    any_registry.add("web", "a", "10.77.0.1", weight=3)
    any_registry.add("web", "b", "10.77.0.2", tags=["x"])
    any_registry.add("web", "c", "fd77::3")
    any_registry.add("web", "bad", "bad")
    assert dragoman.reconcile(container, "WEB=web;80", "X=web[x];81").code == 0
    assert [slot.endpoint for slot in nft.slots(container, "127.0.0.1:80/tcp")].count(
        "10.77.0.1:8080") == 3
    assert set(connect(container, "127.0.0.1:80/tcp", 30)) == {"10.77.0.1:8080", "10.77.0.2:8080"}
    assert connect(container, "127.0.0.1:81/tcp", 2) == {"10.77.0.2:8080": 2}
    assert connect(container, "[::1]:80/tcp", 2) == {"[fd77::3]:8080": 2}
    any_registry.drain("web", "a", "10.77.0.1")
    any_registry.remove("web", "c")
    done = dragoman.reconcile(container, "WEB=web;80", "X=web[x];81")
    assert done.code == 0, done
    assert connect(container, "127.0.0.1:80/tcp", 5) == {"10.77.0.2:8080": 5}
    assert connect(container, "[::1]:80/tcp", 2) == {"ECONNREFUSED": 2}
    assert dragoman.plan(container, "WEB=web;80", "X=web[x];81").json["in_sync"]


@pytest.mark.parametrize("mode", ["reject", "hold"])
def test_registry_genuinely_empty_is_on_empty(any_registry, ask_any, container, mode):
    dragoman = ask_any.dragoman
    any_registry.add("web", "a", "10.77.0.1")
    assert dragoman.reconcile(container, "WEB=web;80", on_empty=mode).code == 0
    any_registry.remove("web", "a")
    done = dragoman.reconcile(container, "WEB=web;80", "NEW=new;81", on_empty=mode)
    assert done.code == 0, done
    kept = {slot.endpoint for slot in nft.slots(container)}
    assert kept == ({"10.77.0.1:8080"} if mode == "hold" else set())
    unavailable = nft.listing(container, "set", "inet", "dragoman", "unavailable4")
    assert "127.0.0.1 . 6 . 81" in unavailable
    assert ("127.0.0.1 . 6 . 80" in unavailable) == (mode == "reject")
