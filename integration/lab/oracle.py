# SPDX-License-Identifier: MIT
"""What has to stand in the namespaces of a host's containers: a second opinion.

    oracle = Oracle(docker, etcd)
    oracle.expected()    {inode: Rules} from Docker's API and etcd's
    oracle.found(pid)    Rules from nft -j

Nothing here asks dragoman, or shares a line with it: descriptors, documents,
who wins a port, tags and weights are read anew from what the README promises.
Registries are read by the v3 API below /services, the default --root.
"""

import base64
import collections
import contextlib
import ipaddress
import json
import math
import os
import re

from lab.docker import Failure
from lab.etcd import encode
from lab.processes import run
from lab.waiting import wait_until

ROOT, PREFIX = "/services", "BACKEND_"
_FAMILIES = {4: "127.0.0.1", 6: "::1"}
_VALUE = re.compile(r"[ \t]*(?P<service>[A-Za-z0-9._-]+|/[A-Za-z0-9._/-]+)[ \t]*"
                    r"(?:\[(?P<tags>[^\[\]\t]*)\][ \t]*)?;"
                    r"[ \t]*(?P<port>[0-9]{1,5})[ \t]*(?:/[ \t]*(?P<proto>tcp|udp)[ \t]*)?",
                    re.IGNORECASE)

Descriptor = collections.namedtuple("Descriptor", "key tags port proto")


class Rules:
    """shares: {"127.0.0.1:80/tcp": {"10.0.0.1:7000": slots}}; unavailable: {"[::1]:80/tcp"}.

    amiss: what else the namespace lacks, or has and should not, in words.
    """

    def __init__(self, amiss=()):
        self.shares, self.unavailable, self.amiss = {}, set(), list(amiss)

    def __eq__(self, other):
        return (self.shares, self.unavailable, self.amiss) == (
            other.shares, other.unavailable, other.amiss)

    def __repr__(self):
        lines = [f"{listen} -> {dict(sorted(shares.items()))}"
                 for listen, shares in sorted(self.shares.items())]
        return "\n".join(lines + [f"{listen} unavailable" for listen in sorted(self.unavailable)] +
                         self.amiss)


def listen_text(family, port, proto):
    return f"{'[::1]' if family == 6 else '127.0.0.1'}:{port}/{proto}"


def endpoint_text(address, port):
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


# Descriptors

def parse_descriptor(value):
    """A Descriptor, or None where the value is ignored or invalid."""
    found = _VALUE.fullmatch(value)
    if not found or not 1 <= int(found["port"]) <= 65535:
        return None
    service = found["service"]
    segments = service.removeprefix("/").removesuffix("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return None
    tags = frozenset()
    if found["tags"] and found["tags"].strip(" "):
        tags = frozenset(tag.strip(" ") for tag in found["tags"].split(","))
        if "" in tags:
            return None
    key = "/" + "/".join(segments) if service.startswith("/") else f"{ROOT}/{service}"
    return Descriptor(key, tags, int(found["port"]), (found["proto"] or "tcp").lower())


def settle(environments):
    """The descriptors that are used, by port and protocol.

    environments: of each container, in the order in which they were created.
    The first that asks for a port has it.
    """
    used = {}
    for environment in environments:
        for variable in sorted(environment, key=str.encode):
            descriptor = parse_descriptor(environment[variable])
            if variable.startswith(PREFIX) and len(variable) > len(PREFIX) and descriptor:
                used.setdefault((descriptor.port, descriptor.proto), descriptor)
    return list(used.values())


# Documents

def _number(value, least, most):
    if isinstance(value, str):
        value = int(value) if re.fullmatch("[0-9]+", value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return int(value) if value == int(value) and least <= value <= most else None


def _address(text):
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    address = getattr(address, "ipv4_mapped", None) or address
    refused = (address.is_unspecified or address.is_multicast or address.is_loopback or
               address.is_link_local or str(address) == "255.255.255.255" or
               address in ipaddress.ip_network("0.0.0.0/8"))
    return None if refused else address


def _plain(text):
    found = re.fullmatch(r"\[(?P<six>[^\]]+:[^\]]*)\]:(?P<p6>[0-9]+)|"
                         r"(?P<four>[^:\[\]]+):(?P<p4>[0-9]+)", text)
    if not found:
        return None
    address, port = _address(found["six"] or found["four"]), found["p6"] or found["p4"]
    return {"address": address, "port": _number(port, 1, 65535)} if address else None


def parse_document(value):
    """{"address", "port", "proto", "tags", "weight"}, or None where it cannot be used."""
    text = value.decode(errors="replace").strip()
    if not text.startswith("{"):
        read = {}
        found = _plain(text)
    else:
        try:
            read = json.loads(text)
        except ValueError:
            return None
        own = "ipaddress" in read or "host_port" in read
        address = read.get("ipaddress" if own else "host")
        found = {"address": _address(address) if isinstance(address, str) else None,
                 "port": _number(read.get("host_port" if own else "port"), 1, 65535)}
    if not found or not found["address"] or not found["port"]:
        return None
    tags, weight = read.get("tags"), read.get("weight")
    tags = [] if tags is None else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return None
    found["weight"] = 1 if weight is None else _number(weight, 0, 256)
    found.update(tags=frozenset(tags), proto=read.get("proto"))
    return None if found["weight"] is None else found


def select(documents, descriptor):
    """{(address, port): weight} of what a descriptor stands for."""
    chosen = {}
    for key in sorted(documents, key=str.encode):
        found = parse_document(documents[key])
        if (key != descriptor.key and not key.startswith(descriptor.key + "/")) or not found:
            continue
        if found["proto"] is not None and found["proto"].lower() != descriptor.proto:
            continue
        if descriptor.tags <= found["tags"]:
            chosen.setdefault((found["address"], found["port"]), found["weight"])
    return chosen


def rules_of(descriptors, documents):
    rules = Rules()
    for descriptor in descriptors:
        chosen = select(documents, descriptor)
        for family in _FAMILIES:
            weights = {endpoint_text(*endpoint): weight for endpoint, weight in chosen.items()
                       if endpoint[0].version == family and weight}
            listen = listen_text(family, descriptor.port, descriptor.proto)
            if weights:
                divisor = math.gcd(*weights.values())
                rules.shares[listen] = {one: weight // divisor for one, weight in weights.items()}
            else:
                rules.unavailable.add(listen)
    return rules


# What stands

def _elements(ruleset):
    """The elements of each map and set of our table, by its name; None where there is none."""
    found, stands = {}, False
    for (kind, entry), in (each.items() for each in ruleset["nftables"]):
        if kind == "table":
            stands = stands or (entry["family"], entry["name"]) == ("inet", "dragoman")
        if kind in ("map", "set") and (entry["family"], entry["table"]) == ("inet", "dragoman"):
            found[entry["name"]] = entry.get("elem", [])
    return found if stands else None


_MAPS = {f"{name}{family}" for name in ("services", "endpoints", "unavailable")
         for family in _FAMILIES}


def _listen(family, key):
    address, proto, port = key[:3]
    assert address == _FAMILIES[family], key
    return listen_text(family, port, proto)


def _shares(found, family):
    slots = collections.defaultdict(dict)
    for element, (address, port) in ((each[0], each[1]["concat"])
                                     for each in found[f"endpoints{family}"]):
        key = element["elem"]["val"]["concat"]
        endpoint = endpoint_text(ipaddress.ip_address(address), port)
        slots[_listen(family, key)][key[3]] = endpoint
    targets = {_listen(family, key["concat"]): verdict["goto"]["target"]
               for key, verdict in found[f"services{family}"]}
    # Every slot from 0 on, and a balance chain that chooses from as many.
    assert targets == {listen: f"balance{family}-{len(each)}" for listen, each in slots.items()}
    assert all(sorted(each) == list(range(len(each))) for each in slots.values()), slots
    return {listen: dict(collections.Counter(each.values())) for listen, each in slots.items()}


_LOOK = """nft -j list ruleset && ip -j link && ip -6 route show table local && echo &&
cd /proc/sys/net && grep . ipv6/conf/*/disable_ipv6 ipv4/conf/all/route_localnet"""


def _amiss(links, routes, sysctls, stands):
    """What is wrong besides the table: a route to ::1 for each link, and route_localnet."""
    def has_ipv6(name):
        return sysctls.get(f"ipv6/conf/{name}/disable_ipv6") == "0"

    wanted = {link["ifname"] for link in json.loads(links) if "UP" in link["flags"] and
              "LOOPBACK" not in link["flags"] and has_ipv6(link["ifname"])}
    wanted = wanted if stands and has_ipv6("lo") else set()
    found = {match[1] for match in re.finditer(r"^local ::1 dev (\S+) .*$", routes, re.MULTILINE)}
    words = [f"route to ::1 of {name}" for name in sorted(wanted ^ (found - {"lo"}))]
    if (sysctls["ipv4/conf/all/route_localnet"] == "1") != stands:
        words.append("route_localnet")
    return words


def rules_found(pid):
    """What stands in the namespace of a process, as nft -j and ip tell it."""
    return rules_standing(f"/proc/{pid}/ns/net")


def rules_standing(path):
    """The same of a namespace by its file."""
    said = run("nsenter", f"--net={path}", "sh", "-c", _LOOK).stdout
    ruleset, links, rest = said.split("\n", 2)
    routes, sysctls = rest.rsplit("\n\n", 1) if "\n\n" in rest else ("", rest)
    sysctls = dict(line.split(":", 1) for line in sysctls.split("\n") if line)
    elements = _elements(json.loads(ruleset))
    # Somebody may just have put a table of his own in the place of ours.
    assert elements is None or _MAPS <= set(elements), f"just {sorted(elements)} in the table"
    rules = Rules(_amiss(links, routes, sysctls, elements is not None))
    for family in _FAMILIES if elements is not None else ():
        rules.shares.update(_shares(elements, family))
        rules.unavailable.update(_listen(family, each["concat"])
                                 for each in elements[f"unavailable{family}"])
    return rules


# Who runs

class Oracle:
    """Looks at the containers of an engine and the keys of an etcd, whenever it is asked."""

    def __init__(self, docker, etcd):
        self._docker, self._etcd = docker, etcd
        self._host = os.stat("/proc/self/ns/net").st_ino

    def documents(self):
        answer = self._etcd.call("/v3/kv/range", key=encode(ROOT + "/"),
                                 range_end=encode(ROOT + "0"))
        return {base64.b64decode(each["key"]).decode(): base64.b64decode(each.get("value", ""))
                for each in answer.get("kvs", [])}

    def running(self):
        """What the engine tells of each container that runs; inode is its namespace's number."""
        found = []
        for each in self._docker.api("GET", "/containers/json"):
            # One that ends meanwhile was short.
            with contextlib.suppress(Failure, FileNotFoundError):
                told = self._docker.api("GET", f"/containers/{each['Id']}/json")
                told["inode"] = os.stat(f"/proc/{told['State']['Pid']}/ns/net").st_ino
                found.append(told)
        return found

    @staticmethod
    def _created(told):
        seconds, _, fraction = told["Created"].rstrip("Z").partition(".")
        return seconds, fraction.ljust(9, "0"), told["Id"]

    @staticmethod
    def _environment(told):
        return dict(word.split("=", 1) for word in told["Config"]["Env"] or () if "=" in word)

    def followed(self):
        """{inode: containers, in the order of their creation} of those that dragoman keeps."""
        spaces = collections.defaultdict(list)
        for told in sorted(self.running(), key=self._created):
            labels = told["Config"]["Labels"] or {}
            if (told["HostConfig"]["NetworkMode"] != "host" and told["inode"] != self._host and
                    labels.get("dragoman.enable", "").lower() != "false"):
                spaces[told["inode"]].append(told)
        return dict(spaces)

    def differences(self):
        """What is not as it has to be, in words; {} where everything is."""
        documents, spaces = self.documents(), self.followed()
        wrong = {}
        for inode, containers in spaces.items():
            wanted = rules_of(settle(map(self._environment, containers)), documents)
            try:
                found = rules_found(containers[0]["State"]["Pid"])
            except AssertionError as error:  # half a change, or none that may stand
                found = error
            if isinstance(found, AssertionError) or found != wanted:
                names = ", ".join(each["Name"] for each in containers)
                wrong[inode] = f"--- {names}\n{found!r}\n--- has to be\n{wanted!r}\n"
        return wrong


def settled(oracle, agent, deadline=20):
    """Waits until the kernel holds what the oracle says, and the agent just those namespaces."""
    told = {}

    def is_settled():
        told.clear()
        told.update(oracle.differences())
        kept = {each["netns"]: {one["id"] for one in each["containers"]}
                for each in agent.status()["namespaces"] if each["netns"] is not None}
        wanted = {inode: {each["Id"] for each in containers}
                  for inode, containers in oracle.followed().items()}
        if kept != wanted:
            told["kept"] = f"it keeps {kept}\n--- has to be\n{wanted}\n"
        return not told

    try:
        wait_until(is_settled, deadline=deadline, what="the rules of all namespaces")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{''.join(told.values())}") from None
