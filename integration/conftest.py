# SPDX-License-Identifier: MIT
"""Fixtures of the integration tests. They need root, nftables, iproute2, etcd, Docker and Podman.

A test reads: these endpoints answer, this stands in the registry, this
command ran; so these connections went there. `laboratory` is the usual
arrangement: a container on one end of a cable, everybody else on the other.
"""

import contextlib
import os
import types

import pytest

from lab.agent import Agent
from lab.command import Dragoman
from lab.consul import Consul
from lab.docker import Docker
from lab.etcd import Etcd
from lab.namespaces import Namespaces
from lab.podman import Podman
from lab.registries import EVERY_REGISTRY, REGISTRIES
from lab.releases import Releases


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time, or looks at the whole host: nothing "
                                       "else runs meanwhile (contrib/run-integration)")


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        pytest.exit("integration tests make network namespaces: run them as root", 2)


@pytest.fixture
def namespaces():
    """Makes namespaces and cables; all of them are gone afterwards."""
    with Namespaces() as made:
        yield made


@pytest.fixture
def laboratory(namespaces):
    """`container` and `hosts`, joined by a cable: eth0 at both ends.

    hosts has 10.77.0.1 to 10.77.0.9 and fd77::1 to fd77::9; the container
    10.77.0.100 and fd77::100.
    """
    container, hosts = namespaces.new("container"), namespaces.new("hosts")
    namespaces.link(container, hosts)
    container.add_address("10.77.0.100/24", "fd77::100/64")
    for number in range(1, 10):
        hosts.add_address(f"10.77.0.{number}/24", f"fd77::{number}/64")
    return types.SimpleNamespace(container=container, hosts=hosts, namespaces=namespaces)


@pytest.fixture
def container(laboratory):
    return laboratory.container


@pytest.fixture
def hosts(laboratory):
    return laboratory.hosts


@pytest.fixture(scope="session")
def etcd_server():
    with Etcd() as server:
        yield server


@pytest.fixture
def etcd(etcd_server):
    """An etcd that holds nothing, v3 and v2."""
    etcd_server.clear()
    return etcd_server


@pytest.fixture(scope="session")
def releases():
    """Programs of the other Debian release."""
    with Releases() as unpacked:
        yield unpacked


@pytest.fixture(scope="session", params=[12, 13], ids=["etcd-3.4", "etcd-3.5"])
def etcd_program(request, releases):
    """The etcd of Debian 12, and that of Debian 13."""
    if request.param == releases.host:
        return "etcd"
    return releases.program("etcd-server", "usr/bin/etcd", request.param)


@pytest.fixture(scope="session")
def each_etcd_server(etcd_program):
    with Etcd(program=etcd_program) as server:
        yield server


@pytest.fixture
def each_etcd(each_etcd_server):
    """An etcd of either release that holds nothing."""
    each_etcd_server.clear()
    return each_etcd_server


@pytest.fixture(scope="session")
def etcd_tls_server():
    with Etcd(tls=True) as server:
        yield server


@pytest.fixture
def etcd_tls(etcd_tls_server):
    """The same behind TLS that asks for a client certificate: etcd_tls.certificates."""
    etcd_tls_server.clear()
    return etcd_tls_server


@pytest.fixture(scope="session")
def etcd_auth_server():
    with Etcd(user="dragoman", password="correct horse") as server:
        yield server


@pytest.fixture
def etcd_auth(etcd_auth_server):
    """The same with authentication: etcd_auth.user may read."""
    etcd_auth_server.clear()
    return etcd_auth_server


@pytest.fixture(scope="session")
def consul_program(releases):
    """That of Debian 11, the last release that has one."""
    return releases.program("consul", "usr/bin/consul", 11)


@pytest.fixture(scope="session")
def consul_server(consul_program):
    with Consul(consul_program) as server:
        yield server


@pytest.fixture
def consul(consul_server):
    """A Consul that holds nothing."""
    consul_server.clear()
    return consul_server


@pytest.fixture(params=REGISTRIES)
def registry(request, etcd, tmp_path):
    """One of each kind that has keys, and holds nothing."""
    return REGISTRIES[request.param](etcd, tmp_path)


@pytest.fixture(params=EVERY_REGISTRY)
def any_registry(request, tmp_path):
    """One of every kind, that holds nothing: services with endpoints, not keys."""
    kind = EVERY_REGISTRY[request.param]
    return kind(kind.server and request.getfixturevalue(kind.server), tmp_path)


@pytest.fixture(scope="session")
def docker_server():
    with Docker() as server:
        yield server


@pytest.fixture
def docker(docker_server):
    """A Docker engine of our own without containers; those that a test makes are removed."""
    yield docker_server
    docker_server.clear()


@pytest.fixture(scope="session")
def podman_server():
    with Podman() as server:
        yield server


@pytest.fixture
def podman(podman_server):
    """The same of Podman's socket."""
    yield podman_server
    podman_server.clear()


@pytest.fixture(params=["docker", "podman"])
def engine(request):
    """A Docker engine, and Podman's socket."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def dragoman(etcd):
    """The program; its registry is etcd."""
    return Dragoman(etcd.url)


# Agents that follow an engine

@pytest.fixture
def services(etcd):
    """An etcd with one endpoint each of web, cache and db: 10.77.0.1 to 10.77.0.3."""
    for number, name in enumerate(("web", "cache", "db"), 1):
        etcd.endpoint(f"/services/{name}/0", f"10.77.0.{number}", "7000")
    return etcd


@pytest.fixture
def follow(services):
    """follow(docker): an agent that follows its containers, is ready, and ends with the test."""
    with contextlib.ExitStack() as stack:
        def start(docker, *arguments, **options):
            return stack.enter_context(Agent("--docker", docker.url, *arguments,
                                             registry=services.url, **options))
        yield start
