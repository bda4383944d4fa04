# SPDX-License-Identifier: MIT
"""Access to the registry as an adversary: certificates, tokens, users and permissions that
change or end while the agent runs.

What may not be read any more stays as it is known, is reported, and goes on by itself
once it may be read again. What a command makes of a wrong certificate, user or
password is test_registry_hosts.py's.
"""

import contextlib
import signal
import time

import pytest

from lab import crowd, nft
from lab.agent import Agent
from lab.crowd import document
from lab.etcd import Certificates, Etcd, encode
from lab.relay import Relay
from lab.waiting import wait_until

WEB, DB = "127.0.0.1:80/tcp", "127.0.0.1:81/tcp"


@pytest.fixture
def run(container):
    """run(url): an agent that is ready."""
    with contextlib.ExitStack() as stack:
        def start(url, *arguments):
            return stack.enter_context(Agent("--netns", container, *arguments, registry=url))
        yield start


def held(namespace, listen=WEB):
    return {crowd.number_of(slot.endpoint) for slot in nft.slots(namespace, listen)}


def wait_for(namespace, *numbers, listen=WEB):
    wait_until(lambda: held(namespace, listen) == set(numbers), 30,
               what=f"{listen} to lead to {numbers}")


def state_of(agent):
    return agent.status()["registry"]["state"]


def wait_for_words(agent, *words):
    wait_until(lambda: all(word in agent.log for word in words), 30, what=f"the log to say {words}")


# Certificates

@pytest.fixture
def own_tls():
    """With certificates that the test replaces: etcd looks at its own with each connection."""
    with Etcd(tls=True) as server:
        yield server


def reconnect(relay):
    relay.part()
    relay.join()


def test_adversary_certificate_that_expires_or_is_wrong_holds_until_it_is_renewed(
        own_tls, run, container, tmp_path):
    """In the end the CA is another one, in the same file."""
    files = own_tls.certificates
    good = tmp_path / "good.pem"
    good.write_bytes(files.server.read_bytes())
    own_tls.put("/services/web/1", document(1))
    with Relay(own_tls.address) as relay:
        agent = run(f"etcds://{relay.address}", "-b", "WEB=web;80", "--tls-ca", files.ca,
                    "--tls-cert", files.client, "--tls-key", files.client_key)
        # Good for the moment.
        end = time.time() + 3
        until = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(end))
        certificate, key = files.issue("short", until)
        files.replace(server=certificate, server_key=key)
        reconnect(relay)
        wait_until(lambda: agent.metric("watch_reconnects_total") == 1, what="it to reconnect")
        own_tls.put("/services/web/2", document(2))
        wait_for(container, 1, 2)
        # Expired: what is connected goes on, what connects does not.
        wait_until(lambda: time.time() > end + 1, what="the certificate to expire")
        assert state_of(agent) == "live"
        reconnect(relay)
        wait_for_words(agent, "certificate has expired")
        assert state_of(agent) == "lost" and held(container) == {1, 2}
        assert agent.metrics()['dragoman_errors_total{class="invalid"}'] >= 1
        # Of another CA, which the agent does not trust until it is in its file.
        others = tmp_path / "others"
        others.mkdir()
        other = Certificates(others)
        relay.part()
        files.replace(server=other.server, server_key=other.server_key)
        relay.join()
        said = len(agent.log)
        refused = len(relay.asked)
        wait_until(lambda: len(relay.asked) > refused, 30, what="it to try again")
        assert state_of(agent) == "lost" and held(container) == {1, 2}, agent.log[said:]
        relay.part()
        files.replace(ca=other.ca)
        own_tls.put("/services/web/3", document(3))
        own_tls.delete("/services/web/1")
        relay.join()
        wait_for(container, 2, 3)
        wait_until(lambda: state_of(agent) == "live", what="the watch")
        assert agent.metric("registry_reads_total") == 1
        agent.end()


# Tokens and users

@pytest.fixture
def short_tokens():
    """Its tokens are good for a second, where they are not used."""
    with Etcd(user="dragoman", password="secret", options=("--auth-token-ttl", "1")) as server:
        yield server


@pytest.fixture
def credentials(tmp_path):
    """credentials("p"): flags for the user dragoman."""
    def write(password, user="dragoman"):
        file = tmp_path / f"password-{user}"
        file.write_text(password)
        return ["--registry-user", user, "--registry-password-file", file]
    return write


def test_adversary_token_that_expires_is_renewed_without_a_loss(short_tokens, run, container,
                                                                credentials, tmp_path):
    """A service that is added later is watched with a token of its own time."""
    etcd, variables = short_tokens, tmp_path / "env"
    for number, service in enumerate(("web", "db"), 1):
        etcd.put(f"/services/{service}/a", document(number))
    variables.write_text("WEB=web;80\n")
    agent = run(etcd.url, "--env-file", variables, *credentials("secret"))
    wait_for(container, 1)
    token = etcd.log_in("dragoman", "secret")
    # To look is to use it, which keeps it alive: not before it may have ended.
    time_over = time.monotonic() + 2.5
    wait_until(lambda: time.monotonic() > time_over, what="the tokens to expire")
    wait_until(lambda: not etcd.is_valid(token), what="the token to be refused")
    variables.write_text("WEB=web;80\nDB=db;81\n")
    agent.send(signal.SIGHUP)
    wait_for(container, 2, listen=DB)
    etcd.put("/services/web/a", document(11))
    etcd.put("/services/db/a", document(12))
    wait_for(container, 11)
    wait_for(container, 12, listen=DB)
    assert agent.metric("services_held") == 0 and state_of(agent) == "live"
    assert "what is known stays" not in agent.log


def test_adversary_password_changed_holds_until_it_is_right_again(short_tokens, run, container,
                                                                  credentials):
    etcd = short_tokens
    etcd.put("/services/web/a", document(1))
    with Relay(etcd.address) as relay:
        agent = run(f"etcd://{relay.address}", "-b", "WEB=web;80", *credentials("secret"))
        etcd.call("/v3/auth/user/changepw", name="dragoman", password="another")
        reconnect(relay)
        wait_for_words(agent, "/services/web: ", "authentication failed", "what is known stays")
        assert agent.metric("services_held") == 1 and held(container) == {1}
        assert "secret" not in agent.log
        etcd.put("/services/web/a", document(2))
        etcd.call("/v3/auth/user/changepw", name="dragoman", password="secret")
        wait_for(container, 2)
        wait_until(lambda: agent.metric("services_held") == 0, what="the service to be known")
        agent.end()


def permit(etcd, verb, service):
    """verb: grant or revoke; whether the user limited may read that service."""
    where = {"key": encode(f"/services/{service}"), "range_end": encode(f"/services/{service}0")}
    if verb == "grant":
        etcd.call("/v3/auth/role/grant", name="some", perm={"permType": "READ", **where})
    else:
        etcd.call("/v3/auth/role/revoke", role="some", **where)


def test_adversary_user_without_permission_on_one_key_keeps_that_one_and_follows_others(
        etcd_auth, run, container, credentials):
    etcd = etcd_auth
    etcd.call("/v3/auth/user/add", name="limited", password="p")
    etcd.call("/v3/auth/role/add", name="some")
    etcd.call("/v3/auth/user/grant", user="limited", role="some")
    for number, service in enumerate(("web", "db"), 1):
        permit(etcd, "grant", service)
        etcd.put(f"/services/{service}/a", document(number))
    with Relay(etcd.address) as relay:
        agent = run(f"etcd://{relay.address}", "-b", "WEB=web;80", "-b", "DB=db;81",
                    *credentials("p", "limited"))
        wait_for(container, 2, listen=DB)
        permit(etcd, "revoke", "db")
        reconnect(relay)
        wait_for_words(agent, "/services/db: ", "permission denied", "what is known stays")
        for number in (3, 4):
            etcd.put("/services/db/a", document(number + 10))
            etcd.put("/services/web/a", document(number))
            wait_for(container, number)
        assert held(container, DB) == {2} and agent.metric("services_held") == 1
        assert "/services/web: " not in agent.log
        backends = {each["variable"]: each for each in agent.namespace(container.inode)["backends"]}
        assert backends["BACKEND_DB"]["state"] == "held"
        assert "permission denied" in backends["BACKEND_DB"]["reason"]
        assert backends["BACKEND_WEB"]["state"] == "ready"
        permit(etcd, "grant", "db")
        wait_for(container, 14, listen=DB)
        assert agent.metric("services_held") == 0
        agent.end()
    etcd.call("/v3/auth/user/delete", name="limited")
    etcd.call("/v3/auth/role/delete", role="some")
