# SPDX-License-Identifier: MIT
"""The way to a registry: TLS, users, several hosts, and time."""

import time
import types

import pytest

from lab import nft
from lab.bad_server import (BadServer, SilentListener, answer, refusing_address, silence,
                            tls_context)
from lab.command import Dragoman
from lab.etcd import Certificates, encode
from lab.registries import EVERY_REGISTRY


def endpoints(resolved):
    return [f"{each['address']}:{each['port']}" for each in resolved["endpoints"]]


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


@pytest.mark.parametrize(("name", "until", "alternative", "said"), [
    ("expired", "20210101000000Z", "IP:127.0.0.1", "expired"),
    ("elsewhere", "20491231000000Z", "DNS:elsewhere.example.org", "127.0.0.1"),
    ("other-address", "20491231000000Z", "IP:127.0.0.2", "127.0.0.1"),
])
def test_registry_tls_certificate_is_checked(other_certificates, name, until, alternative, said):
    context = tls_context(*other_certificates.issue(name, until, alternative))
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
    done = dragoman.reconcile(container, *descriptors, "NEW=/services/secret/new;82",
                              **part)
    assert done.code == 1, done
    assert {slot.listen: slot.endpoint for slot in nft.slots(container)} == {
        "127.0.0.1:80/tcp": "10.0.0.3:80", "127.0.0.1:81/tcp": "10.0.0.2:80"}
    assert sorted(entry["variable"] for entry in done.json["errors"]) == [
        "BACKEND_NEW", "BACKEND_SECRET"]
    assert len(done.errors) == 2
    for line in done.errors:
        assert "permission denied" in line and "/services/secret" in line


# Hosts and time

SCHEMES = ["etcd", "etcd2", "consul"]


def elapsed(dragoman, *words):
    start = time.monotonic()
    done = dragoman(*words)
    return done, time.monotonic() - start


@pytest.fixture(params=SCHEMES)
def scheme(request, tmp_path):
    """Of one that has 10.0.0.1:80 as web, at scheme.address; others may stand before it."""
    kind = EVERY_REGISTRY[request.param]
    server = request.getfixturevalue(kind.server)
    kind(server, tmp_path).add("web", "a", "10.0.0.1", 80)
    return types.SimpleNamespace(name=request.param, address=server.address)


def test_registry_first_host_refuses(scheme):
    url = f"{scheme.name}://{refusing_address()},{refusing_address()},{scheme.address}"
    done, seconds = elapsed(Dragoman(url), "resolve", "--json", "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    assert seconds < 2


def test_registry_first_host_hangs(scheme):
    with SilentListener() as silent:
        url = f"{scheme.name}://{silent.address},{scheme.address}"
        done, seconds = elapsed(Dragoman(url), "resolve", "--json", "--timeout", 4, "web;80")
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done
    assert seconds < 4


def test_registry_slow_host_has_its_share_of_the_time_limit():
    """A third of it, or nearly, where three are listed; and not a ninth."""
    def slow(_):
        time.sleep(0.7)
        yield answer('{"errorCode": 100, "message": "Key not found"}', "404 Not Found",
                     ["X-Etcd-Index: 7"])

    refusing = refusing_address()
    with BadServer(slow) as server:
        url = f"etcd2://{server.address},{refusing},{refusing}"
        done = Dragoman(url)("resolve", "--json", "--timeout", 4, "web;80")
    assert done.code == 0 and endpoints(done.json) == [], done


def test_registry_every_host_but_the_last_hangs(scheme, container):
    with SilentListener() as one, SilentListener() as two:
        url = f"{scheme.name}://{one.address},{two.address},{scheme.address}"
        done = Dragoman(url).reconcile(container, "WEB=web;80", timeout=4)
    assert done.code == 0, done
    assert [slot.endpoint for slot in nft.slots(container)] == ["10.0.0.1:80"]


@pytest.mark.parametrize("status", ["500 Internal Server Error", "503 Service Unavailable",
                                    "404 Not Found", "200 OK"])
def test_registry_first_host_is_none(scheme, status):
    with BadServer(lambda _: answer("<html>no</html>", status)) as server:
        url = f"{scheme.name}://{server.address},{scheme.address}"
        done = Dragoman(url)("resolve", "--json", "web;80")
    assert server.requests
    assert done.code == 0 and endpoints(done.json) == ["10.0.0.1:80"], done


@pytest.mark.parametrize("scheme", SCHEMES)
def test_registry_every_host_fails_and_each_is_named(scheme):
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
