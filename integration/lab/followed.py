# SPDX-License-Identifier: MIT
"""Containers that an agent follows: what their rules are, and what it knows of them."""

import re

from lab.processes import run
from lab.waiting import wait_until

WEB, CACHE, DB = "127.0.0.1:80", "127.0.0.1:6379", "127.0.0.1:3306"
_SLOT = re.compile(r"(127\.0\.0\.1) \. (?:tcp|6) \. (\d+) \. \d+ counter packets \d+ bytes \d+ : "
                   r"([0-9.]+) \. (\d+)")


def rules(container):
    """Where its ports lead, or None where there is no table of ours."""
    inside = ("nsenter", f"--net=/proc/{container.pid}/ns/net", "nft", "-n", "list")
    if "table inet dragoman" not in run(*inside, "tables").stdout:
        return None
    text = re.sub(r"\s+", " ", run(*inside, "map", "inet", "dragoman", "endpoints4").stdout)
    return {f"{found[1]}:{found[2]}": f"{found[3]}:{found[4]}" for found in _SLOT.finditer(text)}


def leads(*numbers):
    """What rules() are of web, cache, db, where those are 1, 2, 3."""
    return {(WEB, CACHE, DB)[number - 1]: f"10.77.0.{number}:7000" for number in numbers}


def wait_for(container, *numbers):
    wait_until(lambda: rules(container) == leads(*numbers), 30,
               what=f"rules of {container}: {leads(*numbers)}")


def names(agent):
    """The containers that it knows, by namespace (None: left alone)."""
    found = {}
    for each in agent.status()["namespaces"]:
        found.setdefault(each["netns"], set()).update(one["name"] for one in each["containers"])
    return found


def notes(agent):
    return {each["containers"][0]["name"]: each["note"]
            for each in agent.status()["namespaces"] if each["netns"] is None}
