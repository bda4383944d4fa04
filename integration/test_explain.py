# SPDX-License-Identifier: MIT
"""`dragoman explain`: why localhost:PORT goes where it goes, and what to look at if it does not."""

import contextlib
import os

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM, Dragoman
from lab.processes import run
from lab.traffic import connect, serve

WEB = "WEB=web[prod];80"


def words(result):
    """What was said, as one line: where a line was broken is the terminal's business."""
    return " ".join(result.stdout.split())


def wrong(result):
    return [each["what"] for each in result.json["findings"] if each["wrong"]]


@pytest.fixture
def web(etcd):
    """Two endpoints of web that can be used, and two documents that cannot."""
    etcd.endpoint("/services/web/a", "10.77.0.1", 8080, tags=["prod"], weight=3)
    etcd.endpoint("/services/web/b", "10.77.0.2", 8080, tags=["prod"])
    etcd.endpoint("/services/web/c", "127.0.0.1", 8080, tags=["prod"])
    etcd.endpoint("/services/web/d", "10.77.0.3", 8080, tags=["test"])
    return etcd


@pytest.fixture
def explain(dragoman, container, tmp_path):
    """explain("80", "-b", ...): on the container, where no agent runs."""
    def ask(*arguments, **options):
        return dragoman("explain", "--netns", container, "--socket", tmp_path / "none", *arguments,
                        **options)
    return ask


def test_explain_before_anything_stands_says_what_to_start(web, explain):
    result = explain("80", "-b", WEB)
    assert result.code == 3 and result.stderr == ""
    for word in ("BACKEND_WEB asks for it", "agent none:", "/services/web[prod] in etcd://",
                 "2 used, 2 skipped", "used 10.77.0.1:8080, weight 3: /services/web/a",
                 "skipped /services/web/c: loopback address",
                 "skipped /services/web/d: lacks tag prod",
                 "no table inet dragoman", "1. the kernel has no table inet dragoman",
                 "start the agent (dragoman run), or dragoman reconcile --netns"):
        assert word in words(result), (word, result)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_explain_tells_the_whole_way(web, dragoman, container, hosts, explain):
    assert dragoman.reconcile(container, WEB).code == 0
    with serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp"):
        for _ in range(8):
            connect(container, "127.0.0.1:80/tcp")
        result = explain("localhost:80/TCP", "-b", WEB)
        assert result.code == 0, result
        assert "All is as it should be" in result.stdout
        for word in ("127.0.0.1:80/tcp goes to chain balance4-4, at random one of 4 slots",
                     "slots 0-2 -> 10.77.0.1:8080", "slot 3 -> 10.77.0.2:8080",
                     "[::1]:80/tcp is refused at once: there is no endpoint of that family",
                     "all endpoints are of IPv4: [::1]:80 is refused at once"):
            assert word in words(result), (word, result)
        before = sum(nft.connections(container, "127.0.0.1:80/tcp").values())
        assert before == 8
        tried = explain("80", "-b", WEB, "--probe")
        assert tried.code == 0, tried
        assert "127.0.0.1:80 answers after" in tried.stdout
        assert "through our rules" in tried.stdout and "was tried" in tried.stdout
        # One through localhost, and those to the endpoints are no business of the rules.
        assert sum(nft.connections(container, "127.0.0.1:80/tcp").values()) == before + 1


def test_explain_names_an_endpoint_that_does_not_answer(web, dragoman, container, hosts, explain):
    assert dragoman.reconcile(container, WEB).code == 0
    with serve(hosts, "10.77.0.1:8080/tcp"):
        result = explain("80", "-b", WEB, "--probe", "--json")
    assert result.code == 3 and result.json["broken"] is True
    assert wrong(result) == ["10.77.0.2:8080 does not answer: Connection refused"]
    assert {each["endpoint"]: each["error"] for each in result.json["probes"]
            if "through_rules" not in each} == {"10.77.0.1:8080": None,
                                                "10.77.0.2:8080": "Connection refused"}


def test_explain_finds_what_somebody_changed(web, dragoman, container, explain):
    assert dragoman.reconcile(container, WEB).code == 0
    container.run("nft", "delete element inet dragoman services4 { 127.0.0.1 . tcp . 80 }")
    result = explain("80", "-b", WEB, "--json")
    assert result.code == 3
    assert wrong(result) == ["nothing stands for 127.0.0.1:80 in the kernel"]
    container.sysctl("net.ipv4.conf.all.route_localnet", 0)
    container.run("nft", "flush chain inet dragoman guard")
    result = explain("80", "-b", WEB, "--json")
    assert wrong(result)[:2] == [
        "chain guard of the table is not as it was written",
        "net.ipv4.conf.all.route_localnet is 0: what goes to 127.0.0.1 does not leave the "
        "namespace"]
    assert result.json["kernel"]["route_localnet"] == 0


def test_explain_finds_what_is_not_in_the_kernel_yet(web, dragoman, container, explain):
    assert dragoman.reconcile(container, WEB).code == 0
    web.endpoint("/services/web/e", "10.77.0.5", 8080, tags=["prod"])
    result = explain("80", "-b", WEB, "--json")
    assert result.code == 3
    assert wrong(result) == ["what stands for 127.0.0.1:80 is not what the registry says"]
    assert "dragoman plan --netns" in result.json["findings"][-1]["look"]


@pytest.mark.parametrize("tool", ("iptables-legacy", "iptables-nft"))
def test_explain_sees_rules_that_are_in_the_way(web, dragoman, container, hosts, explain, tool):
    """Among chains of the same priority the kernel asks the one first that came last."""
    assert dragoman.reconcile(container, WEB).code == 0
    container.run(tool, "-t", "nat", "-A", "OUTPUT", "-d", "127.0.0.11", "-p", "tcp",
                  "-j", "REDIRECT", "--to-ports", "53")
    container.run(tool, "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "--dport", "81",
                  "-j", "REDIRECT", "--to-ports", "9000")
    with serve(hosts, "10.77.0.1:8080/tcp", "10.77.0.2:8080/tcp"), \
            serve(container, "127.0.0.1:9000/tcp"):
        # Rules for other addresses and ports are none of our business.
        result = explain("80", "-b", WEB, "--probe", "--json")
        assert result.code == 0, result
        (other,) = result.json["kernel"]["others"]
        assert other["rules"] == 2 and other["may_match"] == 0
        assert other["legacy"] == (tool == "iptables-legacy")
        container.run(tool, "-t", "nat", "-I", "OUTPUT", "-p", "tcp", "--dport", "80",
                      "-j", "REDIRECT", "--to-ports", "9000")
        result = explain("80", "-b", WEB)
        assert "1 rule of others may take connections to 127.0.0.1:80" in words(result)
        result = explain("80", "-b", WEB, "--probe")
        assert result.code == 3, result
        assert ("1. 127.0.0.1:80 answers, but not through our rules: something else takes the "
                "connection before them") in words(result)
        assert ("iptables-legacy -t nat -S OUTPUT" if tool == "iptables-legacy"
                else "chain OUTPUT of table ip nat") in words(result)


def test_explain_of_one_family_says_which(etcd, dragoman, container, explain):
    etcd.endpoint("/services/six/a", "fd77::1", 8080)
    assert dragoman.reconcile(container, "SIX=six;80").code == 0
    result = explain("80", "-b", "SIX=six;80")
    assert result.code == 0, result
    assert "all endpoints are of IPv6: 127.0.0.1:80 is refused at once" in words(result)
    assert "what the client connects to: localhost, or [::1]" in words(result)


def test_explain_of_a_port_that_nobody_asks_for_names_others(web, explain):
    result = explain("81", "-b", WEB, "-b", "OTHER=web;http")
    assert result.code == 3
    assert "1. nobody asks for 81/tcp here, but for 80/tcp" in words(result)
    assert "2. BACKEND_OTHER is invalid: column 5" in words(result)
    assert explain("80/udp", "-b", WEB).code == 3


def test_explain_without_a_registry_shows_the_rest(web, dragoman, container, explain):
    assert dragoman.reconcile(container, WEB).code == 0
    result = explain("80", "-b", WEB, "--registry", "etcd://127.0.0.1:1")
    assert result.code == 1 and "127.0.0.1:1" in result.errors[0]
    assert "slots 0-2 -> 10.77.0.1:8080" in words(result)
    assert "1. the registry gave no answer" in words(result)


@pytest.mark.parametrize("argument", ("", "0", "65536", "80/sctp", "http", "80/", "-80",
                                      "10.0.0.1:80"))
def test_explain_of_no_port_is_a_usage_error(explain, argument):
    result = explain("--", argument)
    assert result.code == 2 and "PORT" in result.stderr, result


def test_explain_needs_a_target_where_no_agent_runs(dragoman, tmp_path):
    result = dragoman("explain", "80", "--socket", tmp_path / "none")
    assert result.code == 1
    assert result.errors == ["no target, and no agent that would know: one of --netns, --pid and "
                             "--container is needed"]


# With an agent

@pytest.fixture
def agent(web, container, namespaces):
    """One that keeps the container, with a port that nobody else asks for."""
    beside = namespaces.new("beside")
    with Agent("--netns", container, "-b", WEB, "-b", "CACHE=cache;6379", "--netns", beside,
               "-b", WEB, registry=web.url) as running:
        yield running


def test_explain_takes_the_agents_word(web, agent, container):
    # No variable of its own, and no registry: the agent has both.
    program = Dragoman()
    result = program("explain", "--socket", agent.socket, "--netns", container, "80")
    assert result.code == 0, result
    assert "BACKEND_WEB asks for it" in words(result)
    assert "agent keeps this namespace: ready" in words(result)
    assert web.url in words(result)
    # Where it is the only one that asks, it need not be named.
    result = program("explain", "--socket", agent.socket, "6379")
    assert result.code == 3, result
    assert str(container) in result.stdout
    assert "/services/cache has no endpoint: the registry holds nothing there" in words(result)
    result = program("explain", "--socket", agent.socket, "80")
    assert result.code == 1 and "several namespaces" in result.errors[0], result
    assert str(container) in result.errors[0] and "beside" in result.errors[0]
    result = program("explain", "--socket", agent.socket, "81")
    assert result.code == 1 and "81/tcp" in result.errors[0], result


def test_explain_without_rights_tells_what_the_others_say(web, agent, container):
    """As a member of the socket's group would be told, who may do nothing else."""
    os.chmod(agent.socket, 0o666)
    os.chmod(agent.folder, 0o755)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PROGRAM)
    done = run(*nobody, "explain", "--socket", agent.socket, "--netns", container, "80",
               check=False, env=Dragoman().environment)
    text = " ".join(done.stdout.split())
    assert done.returncode == 1 and "CAP_SYS_ADMIN" in done.stderr, done
    for words in ("BACKEND_WEB asks for it", "agent keeps this namespace: ready",
                  "used 10.77.0.1:8080, weight 3: /services/web/a",
                  "kernel not known", "Nothing is wrong as far as could be seen"):
        assert words in text, (words, done.stdout)


def test_explain_of_a_container_names_whose_variable_it_is(docker, web):
    with contextlib.ExitStack() as stack:
        docker.run("shop", env={"BACKEND_WEB": "web[prod];80"})
        docker.run("side", network="container:shop", env={"BACKEND_OTHER": "web;80"})
        docker.run("gone", env={"BACKEND_WEB": "web;80"}, labels={"dragoman.enable": "false"})
        running = stack.enter_context(Agent("--docker", docker.url, registry=web.url))
        program = Dragoman()
        given = ("--socket", running.socket, "--docker", docker.url)
        result = program("explain", *given, "--container", "shop", "80", "--json")
        assert result.code == 3, result
        assert result.json["variables"] == [
            {"variable": "BACKEND_WEB", "container": "shop", "state": "used", "reason": None},
            {"variable": "BACKEND_OTHER", "container": "side", "state": "conflict",
             "reason": "port 80/tcp is taken by BACKEND_WEB (container shop)"}]
        assert wrong(result) == ["BACKEND_OTHER of container side loses: port 80/tcp is taken by "
                                 "BACKEND_WEB (container shop)"]
        # The process is the agent's to name: the engine need not be asked.
        result = program("explain", "--socket", running.socket, "80", "--docker", "unix:///none")
        assert result.code == 3 and "process" in result.stdout, result
        result = program("explain", *given, "--container", "gone", "80")
        assert result.code == 1 and "dragoman.enable=false" in result.errors[0]
        assert "left alone: the label dragoman.enable is false" in words(result)
