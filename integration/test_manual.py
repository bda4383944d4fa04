# SPDX-License-Identifier: MIT
"""What the manual pages show, held to what is; their options are contrib/check-manual's."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from lab import nft
from lab.agent import Agent
from lab.command import PROGRAM
from lab.pages import Page
from lab.processes import run
from lab.traffic import Conversation, connect, serve

MANUAL, KERNEL, DESCRIPTOR = map(Page, ("dragoman.8", "dragoman-kernel.7", "dragoman-descriptor.7"))
# The services of dragoman-kernel(7).
SERVICES = {"/services/redis.master/a": "10.0.0.2:49161", "/services/redis.master/b": "10.0.0.3:49161",
            "/services/redis.master/c": "10.0.0.4:49161", "/services/dns/a": "10.0.0.5:53",
            "/services/dns/b": "[2001:db8::5]:53"}
ASKED = ("CACHE=redis.master;6379", "DNS=dns;53/udp", "DB=mysql;3306")


@pytest.fixture
def scene(laboratory, dragoman, tmp_path):
    """The namespace of dragoman-kernel(7): scene.keep() has it reconciled."""
    laboratory.container.add_address("10.0.0.100/24", "2001:db8::100/64")
    for number in (2, 3, 4, 5):
        laboratory.hosts.add_address(f"10.0.0.{number}/24")
    laboratory.hosts.add_address("2001:db8::5/64")
    file = tmp_path / "services.json"
    file.write_text(json.dumps(SERVICES))

    def keep(**options):
        return dragoman.reconcile(laboratory.container, *ASKED, registry=laboratory.registry, **options)

    def plan():
        return dragoman.plan(laboratory.container, *ASKED, registry=laboratory.registry)

    laboratory.keep, laboratory.plan, laboratory.registry = keep, plan, f"file://{file}"
    return laboratory


def objects(container):
    """Names of chains, maps and sets that stand, with numbers and services left out of them."""
    listed = json.loads(container.run("nft", "-j", "list", "table", "inet", "dragoman").stdout)
    kinds = {(kind, entry["name"]) for each in listed["nftables"] for kind, entry in each.items()
             if kind in ("chain", "map", "set")}
    return {(kind, re.sub(r"^(balance\d)-\d+$|^(nth\d)-\d+-\w+$",
                          lambda found: f"{found[1]}-N" if found[1] else f"{found[2]}-port-proto", name))
            for kind, name in kinds}


def test_manual_names_exactly_what_stands(scene):
    rows = re.findall(r"^\.It (Li .*?) Ta (map|set|chain) Ta", KERNEL.part(".Sh THE TABLE"), re.MULTILINE)
    named = set()
    for names, kind in rows:
        words = re.sub(r" ?\b(?:Ns|Ar|Li)\b ?", "", names).replace(" ", "").split(",")
        named |= {(kind, re.sub(r"^nth6-\.\.\.$", "nth6-port-proto", word)) for word in words}
    assert scene.keep().code == 0
    random = objects(scene.container)
    assert scene.keep(balance="nth").code == 0
    assert random | objects(scene.container) == named
    assert {name for _, name in random if name.startswith("nth")} == set()


def test_manual_shows_the_rules_that_stand(scene):
    parts = [block for block in KERNEL.blocks(".Sh THE TABLE", end=r"^\.Sh ")
             if block.startswith(("map ", "set ", "chain ", "comment "))]
    nft.load(scene.container, "table inet dragoman {\n" + "".join(parts) + "}\n")
    planned = scene.plan()
    assert planned.changes == {("replace", "sysctl net.ipv4.conf.all.route_localnet = 1"),
                               ("add", "route local ::1/128 dev eth0")}, planned


@pytest.mark.parametrize("found", [0, 1])
def test_manual_undoes_by_hand_what_flush_would(scene, dragoman, found):
    container = scene.container
    container.sysctl("net.ipv4.conf.all.route_localnet", found)
    before = nft.traces(container)
    commands = KERNEL.commands(".Sh UNDOING IT BY HAND")
    assert len(commands) == 5
    undo, forget = commands[:3], commands[3:]

    assert scene.keep().code == 0
    send_to_dns(container)
    assert flows(container) == {"127.0.0.1", "::1"}
    comment = re.search(r"route_localnet=(\d+)", nft.listing(container))[1]
    for command in undo:
        container.run("sh", "-c", command.replace("route_localnet=0", f"route_localnet={comment}"))
    assert nft.traces(container) == before
    assert flows(container) == {"127.0.0.1", "::1"}
    for command in forget:
        container.run("sh", "-c", command)
    assert flows(container) == set()
    flushed = dragoman.flush(container)
    assert flushed.code == 0 and flushed.changes == set()

    assert scene.keep().code == 0
    send_to_dns(container)
    assert dragoman.flush(container).code == 0
    assert nft.traces(container) == before and flows(container) == set()


def send_to_dns(container):
    container.run("/usr/bin/python3", "-c", """if True:
        import socket
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (address, 53))""")


def flows(container):
    """The addresses that flows of UDP to port 53 were begun with."""
    told = "".join(container.run("conntrack", "-L", "-f", family, "-p", "udp", "--dport", "53").stdout
                   for family in ("ipv4", "ipv6"))
    return set(re.findall(r"dst=(\S+) sport=\d+ dport=53 ", told))


def test_manual_commands_that_look_show_what_they_should(scene):
    container = scene.container
    assert scene.keep().code == 0
    container.run("sh", "-c", "\n".join(["set -e", *KERNEL.commands(".Sh THE WAY OF A PACKET")]))
    shown = {command: container.run("sh", "-c", command).stdout
             for part in (".Sh LOOKING AT IT", ".Sh THE SYSCTL AND THE ROUTES")
             for command in KERNEL.commands(part)}
    assert "goto balance4-3" in shown["nft get element inet dragoman services4 '{ 127.0.0.1 . tcp . 6379 }'"]
    assert "local ::1 dev eth0 metric 2048" in shown["ip -6 route show table local proto 213"]
    serve(scene.hosts, *(f"10.0.0.{number}:49161/tcp" for number in (2, 3, 4)))
    with Conversation(container, "127.0.0.1:6379/tcp") as conversation:
        told = container.run("ss", "-tn", "dst", "127.0.0.1:6379").stdout
        assert re.search(r"ESTAB .* 127.0.0.1:\d+ +127.0.0.1:6379", told)
        told = container.run(*"conntrack -L -p tcp --orig-dst 127.0.0.1 --dport 6379".split()).stdout
        endpoint = re.escape(conversation.endpoint.split(":")[0])
        assert re.search(rf"ESTABLISHED src=127.0.0.1 dst=127.0.0.1 .* src={endpoint} dst=10.0.0.100", told)
        container.run("sh", "-c", "ss -K -t dst 127.0.0.1")
        assert conversation.say("still there?") == "ECONNABORTED"


def test_manual_says_whose_rule_translates(scene, dragoman):
    container, port = scene.container, "127.0.0.1:6379/tcp"
    serve(scene.hosts, *(f"10.0.0.{number}:49161/tcp" for number in (2, 3, 4, 5)))
    theirs = {"10.0.0.5:49161"}
    ours = {f"10.0.0.{number}:49161" for number in (2, 3, 4)}
    assert scene.keep().code == 0
    container.run(*"iptables -t nat -A OUTPUT -p tcp -d 127.0.0.1 --dport 6379 -j DNAT"
                  " --to-destination 10.0.0.5:49161".split())
    assert set(connect(container, port, 10)) == theirs
    assert dragoman.flush(container).code == 0 and scene.keep().code == 0
    assert set(connect(container, port, 10)) <= ours


# --- dragoman(8) --------------------------------------------------------------

def keys(value, path=""):
    """Every key in a document, with those above it: of a list as if it were what it holds."""
    if isinstance(value, list):
        return set().union(*(keys(each, path) for each in value))
    if not isinstance(value, dict):
        return set()
    return set().union(*({f"{path}/{key}"} | keys(each, f"{path}/{key}") for key, each in value.items()))


def test_manual_shows_the_keys_of_json(scene, dragoman):
    part = MANUAL.part(".Sh JSON", end=r"^\.Sh ")
    # "[ ... ]" is what another example shows.
    shown = {name: keys(json.loads(text.replace("[ ... ]", '[ {"...": 0} ]'))) for name, text in
             zip(("plan", "resolve", "status", "explain"), MANUAL.blocks(".Sh JSON", end=r"^\.Sh "))}
    # Told of, and not shown.
    assert {"was", "slots"} <= set(re.findall(r"^\.Li (\w+)", part, re.MULTILINE))
    in_words = {"/changes/was", "/changes/slots"}
    with Agent("--netns", scene.container, *(word for each in ASKED for word in ("-b", each)),
               "-b", "X=x;", registry=scene.registry) as agent:
        told = {
            "plan": dragoman.plan(scene.hosts, *ASKED, "X=x;", registry=scene.registry),
            "resolve": dragoman("resolve", "dns[x];53", "--json", "--registry", scene.registry),
            "status": dragoman("status", "--json", "--socket", agent.socket),
            "explain": dragoman("explain", "6379", "--json", "--socket", agent.socket),
        }
    for name, result in told.items():
        seen = keys(result.json)
        opened = tuple(each.removesuffix("...") for each in shown[name] if each.endswith("/..."))
        assert {each for each in seen - shown[name] - in_words
                if not (opened and each.startswith(opened))} == set(), (name, result)
        # One that has no endpoints does not show what they are like, nor one that has.
        assert {each for each in shown[name] - seen
                if not re.search(r"/endpoints/|/\.\.\.$", each)} == set(), (name, result)


def test_manual_names_every_metric(scene):
    part = MANUAL.part(".Ss Status and metrics").split("The metrics, each with")[1]
    named = {word for line in re.findall(r"^\.It Li (.*)", part, re.MULTILINE)
             for word in re.sub(r" Ns Brq.*", "", line).split(" , ")}
    with Agent("--netns", scene.container, "-b", ASKED[0], registry=scene.registry) as agent:
        kinds = re.findall(r"^# TYPE (?:dragoman_)?(\w+)", agent.get("/metrics")[1], re.MULTILINE)
    # One of them is there only where an engine is followed.
    assert {*kinds, "engine_connected"} == named


# --- dragoman-descriptor(7) ---------------------------------------------------

def test_manual_shows_what_resolve_says(dragoman, tmp_path):
    (session,) = [block for block in DESCRIPTOR.blocks(".Sh EXAMPLES") if "$ cat" in block]
    steps = [step.partition("\n") for step in session.removeprefix("$ ").split("\n$ ")]
    file = tmp_path / "services.json"
    assert steps[0][0] == "cat /tmp/services.json" and steps[1][0].endswith("=file:///tmp/services.json")
    file.write_text(steps[0][2])
    for command, _, expected in steps[2:]:
        words = re.fullmatch(r"dragoman (\w+) '(.*)'", command).groups()
        result = dragoman(*words, env={"DRAGOMAN_REGISTRY": f"file://{file}"})
        assert result.stdout.rstrip("\n") == expected.rstrip("\n"), result
        assert result.code == 0 and result.stderr == "", result


def test_manual_names_descriptors_that_are_ones(dragoman, tmp_path):
    (block,) = [each for each in DESCRIPTOR.blocks(".Sh DESCRIPTORS") if "dns;53/UDP" in each]
    (tmp_path / "none.json").write_text("{}")
    for line in block.splitlines():
        result = dragoman("resolve", "--registry", f"file://{tmp_path}/none.json", line)
        assert result.code == 0 and result.stderr == "", result


def wrong_descriptors():
    part = DESCRIPTOR.part(".Ss What is ignored, and what is an error")
    listed = re.findall(r"^\.It Li (.*)\n(.*)$", part, re.MULTILINE)
    return [(value, reason.replace("\\&", "")) for value, reason in listed]


@pytest.mark.parametrize("value, reason", wrong_descriptors())
def test_manual_names_what_is_wrong_in_the_programs_words(dragoman, value, reason):
    result = dragoman("resolve", value)
    assert result.code == 1
    assert re.fullmatch(rf"dragoman: .*: column \d+: {re.escape(reason)}\n", result.stderr), result


def test_manual_shows_documents_that_are_ones(dragoman, tmp_path):
    (block,) = [each for each in DESCRIPTOR.blocks(".Sh DOCUMENTS") if '"ipaddress"' in each]
    documents = re.findall(r"^(?:\{[^}]*\}|\S+)$", block, re.MULTILINE)
    assert len(documents) == 4
    for document in documents:
        file = tmp_path / "one.json"
        file.write_text(json.dumps({"/services/one/a": document}))
        result = dragoman("resolve", "--json", "--registry", f"file://{file}", "one;80")
        assert [each["port"] for each in result.json["endpoints"]] == [49161], result


def endpoints_as_shown(part, server, environment):
    """Runs the examples of a registry against one that is ours; what each resolve said."""
    said, lease = [], "694d77aa9e38260f"
    for line in DESCRIPTOR.lines(f".Ss {part}"):
        line = re.sub(r"127\.0\.0\.1:\d+", server, line).replace("694d77aa9e38260f", lease)
        # It would go on as long as the registrar does.
        line = line.replace("keep-alive", "keep-alive --once")
        told = run("sh", "-c", line, env={**environment, "LC_ALL": "C.UTF-8"})
        granted = re.search(r"lease (\w+) granted", told.stdout)
        lease = granted[1] if granted else lease
        if line.startswith("dragoman"):
            said.append({each for each in re.findall(r"^(\S+:\d+) ", told.stdout, re.MULTILINE)})
    return said


def path_with(*programs):
    return ":".join([*(str(pathlib.Path(each).parent) for each in (PROGRAM, *programs)), os.environ["PATH"]])


def test_manual_registers_in_etcd_as_shown(etcd):
    server = etcd.url.removeprefix("etcd://")
    environment = {"PATH": path_with(), "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": f"http://{server}"}
    assert endpoints_as_shown("etcd v3", server, environment) == [{"10.0.0.2:49161"}]
    assert endpoints_as_shown("etcd v2", server, environment) == [{"10.0.0.3:49161", "10.0.0.4:49161"}]


def test_manual_registers_in_consul_as_shown(consul, consul_program):
    server = consul.url.removeprefix("consul://")
    environment = {"PATH": path_with(consul_program), "CONSUL_HTTP_ADDR": server}
    assert endpoints_as_shown("Consul", server, environment) == [{"10.0.0.2:49161"}]


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_manual_quotes_for_every_shell(shell):
    (block,) = [each for each in DESCRIPTOR.blocks(".Sh QUOTING") if each.startswith("dragoman resolve")]
    for line in block.splitlines():
        words = re.match(r"(?:export )?(.*)", line)[1]
        options = ["--no-config"] if shell == "fish" else []
        told = subprocess.run([shell, *options, "-c", f"printf '%s\\n' {words}"], text=True,
                              capture_output=True, check=True).stdout
        assert any(each.endswith("redis.master[prod];6379") for each in told.splitlines()), told
