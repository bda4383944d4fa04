# SPDX-License-Identifier: MIT
"""Services as registries hold them: the same from etcd v3, etcd v2 and a file."""

import json
import time

import pytest

from lab import nft
from lab.bad_server import (BadServer, SilentListener, answer, refusing_address, silence,
                            tls_context)
from lab.command import Dragoman
from lab.etcd import Certificates, encode
from lab.processes import run
from lab.registries import REGISTRIES
from lab.traffic import connect, serve


@pytest.fixture(params=REGISTRIES)
def registry(request, etcd, tmp_path):
    """One of each kind; what is below is tested with all of them."""
    return REGISTRIES[request.param](etcd, tmp_path)


@pytest.fixture
def ask(registry):
    """ask("web;80") resolves; ask.dragoman is the program."""
    dragoman = Dragoman(registry.url)

    def resolve(descriptor, *flags):
        done = dragoman("resolve", "--json", *flags, descriptor)
        assert done.code == 0 and done.stderr == "", done
        return done.json
    resolve.dragoman = dragoman
    return resolve


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


def test_registry_nothing_there_is_an_answer(registry, ask):
    assert ask("nothing[a,b];6379/UDP") == {
        "service": "/services/nothing", "tags": ["a", "b"], "listen": "6379/udp",
        "endpoints": [], "skipped": [], "errors": []}


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


def test_registry_tags_must_all_be_there(registry, ask):
    for name, tags in (("none", []), ("prod", ["prod"]), ("both", ["stats", "prod"]),
                       ("more", ["prod", "stats", "x y", "prod"])):
        registry.put(f"/services/web/{name}", document(port=80 + len(name) + len(tags), tags=tags))

    def keys(descriptor):
        return {each["key"].rpartition("/")[2] for each in ask(descriptor)["endpoints"]}
    assert keys("web;80") == {"none", "prod", "both", "more"} == keys("web[];80")
    assert keys("web[prod];80") == {"prod", "both", "more"}
    assert keys("web[ stats , prod ];80") == {"both", "more"} == keys("web[prod,stats,prod];80")
    assert keys("web[x y];80") == {"more"}
    assert keys("web[Prod];80") == set()
    assert skipped(ask("web[prod,stats];80")) == {"none": "lacks tag prod",
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
def test_registry_admission_is_just_what_is_named(registry, ask, admitted, expected):
    addresses = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "10.0.1.1", "fd77::1", "::1")
    for number, address in enumerate(addresses):
        registry.put(f"/services/web/{number}", document(address))
    found = ask("web;80", "--allow-endpoints", admitted)
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

def test_registry_to_the_kernel_and_back(registry, ask, container, hosts):
    """The whole way, with changes: added, weighted, drained, gone."""
    dragoman = ask.dragoman
    serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp", "[fd77::3]:8080/tcp")
    registry.put("/services/web/a", document("10.77.0.1", weight=3))
    registry.put("/services/web/b", document("10.77.0.2", tags=["x"]))
    registry.put("/services/web/c", "[fd77::3]:8080")
    registry.put("/services/web/bad", "bad")
    assert dragoman.reconcile(container, "WEB=web;80", "X=web[x];81").code == 0
    assert [slot.endpoint for slot in nft.slots(container, "127.0.0.1:80/tcp")].count(
        "10.77.0.1:8080") == 3
    assert set(connect(container, "127.0.0.1:80/tcp", 30)) == {"10.77.0.1:8080", "10.77.0.2:8080"}
    assert connect(container, "127.0.0.1:81/tcp", 2) == {"10.77.0.2:8080": 2}
    assert connect(container, "[::1]:80/tcp", 2) == {"[fd77::3]:8080": 2}
    registry.put("/services/web/a", document("10.77.0.1", weight=0))
    registry.delete("/services/web/c")
    done = dragoman.reconcile(container, "WEB=web;80", "X=web[x];81")
    assert done.code == 0, done
    assert connect(container, "127.0.0.1:80/tcp", 5) == {"10.77.0.2:8080": 5}
    assert connect(container, "[::1]:80/tcp", 2) == {"ECONNREFUSED": 2}
    assert dragoman.plan(container, "WEB=web;80", "X=web[x];81").json["in_sync"]


@pytest.mark.parametrize("mode", ["reject", "hold"])
def test_registry_genuinely_empty_is_on_empty(registry, ask, container, mode):
    dragoman = ask.dragoman
    registry.put("/services/web/a", document())
    assert dragoman.reconcile(container, "WEB=web;80", on_empty=mode).code == 0
    registry.delete("/services/web/a")
    done = dragoman.reconcile(container, "WEB=web;80", "NEW=new;81", on_empty=mode)
    assert done.code == 0, done
    kept = {slot.endpoint for slot in nft.slots(container)}
    assert kept == ({"10.77.0.1:8080"} if mode == "hold" else set())
    unavailable = nft.listing(container, "set", "inet", "dragoman", "unavailable4")
    assert "127.0.0.1 . 6 . 81" in unavailable
    assert ("127.0.0.1 . 6 . 80" in unavailable) == (mode == "reject")


# TLS

def tls_flags(certificates, **others):
    files = {"tls-ca": certificates.ca, "tls-cert": certificates.client,
             "tls-key": certificates.client_key, **others}
    return [word for name, file in files.items() if file for word in (f"--{name}", file)]


@pytest.mark.parametrize("version", ["v3", "v2"])
def test_registry_tls_with_ca_and_client_certificate(etcd_tls, version):
    put, url = ((etcd_tls.put, etcd_tls.url) if version == "v3"
                else (etcd_tls.put_v2, etcd_tls.url_v2))
    put("/services/web/a", "10.0.0.1:80")
    dragoman = Dragoman(url)
    done = dragoman("resolve", "--json", *tls_flags(etcd_tls.certificates), "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    files = {"DRAGOMAN_TLS_CA": str(etcd_tls.certificates.ca),
             "DRAGOMAN_TLS_CERT": str(etcd_tls.certificates.client),
             "DRAGOMAN_TLS_KEY": str(etcd_tls.certificates.client_key)}
    assert dragoman("resolve", "web;80", env=files).code == 0


def assert_one_error(done, *said):
    """Exit 1, one line on standard error that says all of it, and one JSON document."""
    assert done.code == 1, done
    assert len(done.errors) == 1, done
    for each in said:
        assert each in done.errors[0], done
    assert [entry["message"] for entry in done.json["errors"]] == done.errors
    assert "\x1b" not in done.stdout + done.stderr


@pytest.fixture(scope="session")
def other_certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_registry_tls_wrong_ca_is_refused(etcd_tls, other_certificates):
    flags = tls_flags(etcd_tls.certificates, **{"tls-ca": other_certificates.ca})
    done = Dragoman(etcd_tls.url)("resolve", "--json", *flags, "web;80")
    assert_one_error(done, etcd_tls.address, "certificate")


def test_registry_tls_without_client_certificate_is_refused(etcd_tls):
    done = Dragoman(etcd_tls.url)("resolve", "--json", "--tls-ca", etcd_tls.certificates.ca,
                                  "web;80")
    assert_one_error(done, etcd_tls.address, "certificate")


def test_registry_tls_client_certificate_of_another_ca_is_refused(etcd_tls, other_certificates):
    flags = tls_flags(etcd_tls.certificates, **{"tls-cert": other_certificates.client,
                                                "tls-key": other_certificates.client_key})
    done = Dragoman(etcd_tls.url)("resolve", "--json", *flags, "web;80")
    assert_one_error(done, etcd_tls.address)


def issue(certificates, name, until, alternative):
    """A server certificate of that CA with an end and names of the test's choice.

    Of openssl's commands only `ca` writes a certificate whose end is past, in
    releases before and after 3.4.
    """
    folder = certificates.folder / f"ca-{name}"
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
        """)
    run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    run("openssl", "ca", "-batch", "-notext", "-create_serial", "-config", configuration,
        "-cert", certificates.ca, "-keyfile", certificates.ca_key, "-in", request,
        "-out", certificate, "-startdate", "20200101000000Z", "-enddate", until)
    return certificate, key


@pytest.mark.parametrize(("name", "until", "alternative", "said"), [
    ("expired", "20210101000000Z", "IP:127.0.0.1", "expired"),
    ("elsewhere", "20491231000000Z", "DNS:elsewhere.example.org", "127.0.0.1"),
    ("other-address", "20491231000000Z", "IP:127.0.0.2", "127.0.0.1"),
])
def test_registry_tls_certificate_is_checked(other_certificates, name, until, alternative, said):
    context = tls_context(*issue(other_certificates, name, until, alternative))
    with BadServer(lambda _: answer("{}"), context) as server:
        done = Dragoman(f"etcds://{server.address}")(
            "resolve", "--json", "--tls-ca", other_certificates.ca, "web;80")
    assert server.requests == []
    assert_one_error(done, server.address, "certificate", said)


def test_registry_tls_and_plain_do_not_mix(etcd, etcd_tls, other_certificates):
    done = Dragoman(f"etcds://{etcd.address}")(
        "resolve", "--json", "--tls-ca", other_certificates.ca, "web;80")
    assert_one_error(done, etcd.address)
    done = Dragoman(f"etcd://{etcd_tls.address}")("resolve", "--json", "web;80")
    assert_one_error(done, etcd_tls.address)


@pytest.mark.parametrize(("flag", "content", "said"), [
    ("tls-ca", None, "No such file"), ("tls-ca", "no certificate", ""),
    ("tls-cert", None, "No such file"), ("tls-key", None, "No such file"),
    ("tls-key", "no key", ""), ("registry-password-file", None, "No such file")])
def test_registry_bad_files_are_named(etcd_tls, tmp_path, flag, content, said):
    file = tmp_path / "bad.pem"
    if content:
        file.write_text(content)
    flags = tls_flags(etcd_tls.certificates, **{flag: file})
    if flag == "registry-password-file":
        flags += ["--registry-user", "dragoman"]
    done = Dragoman(etcd_tls.url)("resolve", "--json", *flags, "web;80")
    assert_one_error(done, str(file), said)


# Users

@pytest.fixture
def password(tmp_path):
    def write(text):
        file = tmp_path / "password"
        file.write_text(text)
        return file
    return write


def test_registry_user_and_password(etcd_auth, password):
    etcd_auth.put("/services/web/a", "10.0.0.1:80")
    dragoman = Dragoman(etcd_auth.url)
    flags = ("--registry-user", "dragoman", "--registry-password-file")
    done = dragoman("resolve", "--json", *flags, password("correct horse\n"), "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    done = dragoman("resolve", "--json", *flags, password("wrong"), "web;80")
    assert_one_error(done, etcd_auth.address, "password")
    assert "wrong" not in done.stdout.replace("wrong user", "")
    done = dragoman("resolve", "--json", "--registry-user", "nobody",
                    "--registry-password-file", password("correct horse"), "web;80")
    assert_one_error(done, etcd_auth.address)
    done = dragoman("resolve", "--json", "web;80")
    assert_one_error(done, etcd_auth.address)


@pytest.fixture
def limited(etcd_auth):
    """A user that may read /services/web and what is below it, and nothing else."""
    call = etcd_auth.call
    call("/v3/auth/user/add", name="limited", password="p")
    call("/v3/auth/role/add", name="web")
    call("/v3/auth/role/grant", name="web", perm={
        "permType": "READ", "key": encode("/services/web"), "range_end": encode("/services/web0")})
    call("/v3/auth/user/grant", user="limited", role="web")
    yield etcd_auth
    call("/v3/auth/user/delete", name="limited")
    call("/v3/auth/role/delete", role="web")


def test_registry_missing_permission_keeps_that_service_alone(limited, password, container):
    """What may not be read stays as it stands; the others are programmed."""
    dragoman = Dragoman(limited.url)
    limited.put("/services/web/a", "10.0.0.1:80")
    limited.put("/services/secret/a", "10.0.0.2:80")
    descriptors = ("WEB=web;80", "SECRET=secret;81")
    whole = {"registry_user": "dragoman", "registry_password_file": password("correct horse")}
    assert dragoman.reconcile(container, *descriptors, **whole).code == 0
    limited.put("/services/web/a", "10.0.0.3:80")
    limited.put("/services/secret/a", "10.0.0.4:80")
    part = {"registry_user": "limited", "registry_password_file": password("p")}
    done = dragoman.reconcile(container, *descriptors, "NEW=secret/new;82".replace(
        "secret/new", "/services/secret/new"), **part)
    assert done.code == 1, done
    assert {slot.listen: slot.endpoint for slot in nft.slots(container)} == {
        "127.0.0.1:80/tcp": "10.0.0.3:80", "127.0.0.1:81/tcp": "10.0.0.2:80"}
    assert sorted(entry["variable"] for entry in done.json["errors"]) == [
        "BACKEND_NEW", "BACKEND_SECRET"]
    assert len(done.errors) == 2
    for line in done.errors:
        assert "permission denied" in line and "/services/secret" in line


# Hosts and time

SCHEMES = ["etcd", "etcd2"]


def elapsed(dragoman, *words):
    start = time.monotonic()
    done = dragoman(*words)
    return done, time.monotonic() - start


@pytest.fixture(params=SCHEMES)
def scheme(request, etcd):
    etcd.put("/services/web/a", "10.0.0.1:80")
    etcd.put_v2("/services/web/a", "10.0.0.1:80")
    return request.param


def test_registry_first_host_refuses(scheme, etcd):
    url = f"{scheme}://{refusing_address()},{refusing_address()},{etcd.address}"
    done, seconds = elapsed(Dragoman(url), "resolve", "--json", "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    assert seconds < 2


def test_registry_first_host_hangs(scheme, etcd):
    with SilentListener() as silent:
        url = f"{scheme}://{silent.address},{etcd.address}"
        done, seconds = elapsed(Dragoman(url), "resolve", "--json", "--timeout", 4, "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    assert seconds < 4


def test_registry_every_host_but_the_last_hangs(scheme, etcd, container):
    with SilentListener() as one, SilentListener() as two:
        url = f"{scheme}://{one.address},{two.address},{etcd.address}"
        done = Dragoman(url).reconcile(container, "WEB=web;80", timeout=4)
    assert done.code == 0, done
    assert [slot.endpoint for slot in nft.slots(container)] == ["10.0.0.1:80"]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable",
                                    "404 Not Found", "200 OK"])
def test_registry_first_host_is_none(scheme, etcd, status):
    with BadServer(lambda _: answer("<html>no</html>", status)) as server:
        url = f"{scheme}://{server.address},{etcd.address}"
        done = Dragoman(url)("resolve", "--json", "web;80")
    assert server.requests
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done


def test_registry_every_host_fails_and_each_is_named(scheme, etcd):
    refusing = refusing_address()
    with BadServer(lambda _: answer("{}", "500 Internal Server Error")) as server:
        done = Dragoman(f"{scheme}://{refusing},{server.address}")("resolve", "--json", "web;80")
    assert_one_error(done, refusing, server.address, "500", "refused")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_registry_silent_server_ends_with_the_time_limit(etcd, scheme, container):
    """In about that time, and nothing is changed."""
    etcd.put("/services/web/a", "10.0.0.1:80")
    assert Dragoman(etcd.url).reconcile(container, "WEB=web;80").code == 0
    before = nft.listing(container)
    with BadServer(silence) as server:
        dragoman = Dragoman(f"{scheme}://{server.address}")
        done, seconds = elapsed(dragoman, "reconcile", "--json", "--timeout", 2, "--netns",
                                container, "-b", "WEB=web;80", "-b", "NEW=new;81")
    assert_one_error(done, server.address)
    assert 1.2 < seconds < 3
    assert nft.listing(container) == before
