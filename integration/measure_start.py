#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From Docker's start event to rules that stand. Measures, and asserts nothing.

    integration/measure_start.py [STARTS [AT_ONCE]]

Each container joins the namespace of one that is opted out, so that a socket can
listen there beforehand; the agent knows nothing of that namespace, and the table
is deleted before the next, so for the agent it is as good as new. A start ends
with the kernel's message of the commit; it begins with the time that the engine
wrote into its event, or with that event's arrival at another client of its
stream. Half of the services are new to the agent, and have to be read first.
"""

import ctypes
import json
import os
import pathlib
import socket
import sys
import threading
import time

from lab.agent import Agent
from lab.docker import Docker, Connection
from lab.etcd import Etcd
from lab.processes import run

SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NETLINK_NETFILTER, NFNLGRP_NFTABLES = 270, 1, 12, 7


def listener(pid):
    """A socket in the namespace of a process, for the messages of nf_tables."""
    made = []

    def inside():  # setns(2) is of the thread
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{pid}/ns/net", "rb") as file:
            assert libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
        made.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    (found,) = made
    found.bind((0, 0))
    found.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
    return found


class Events(threading.Thread):
    """When start events came, and when the engine says that they happened."""

    def __init__(self, docker):
        super().__init__(daemon=True)
        self._docker, self._come = docker, threading.Condition()
        self._seen = {}

    def run(self):
        connection = Connection(self._docker.socket)
        connection.timeout = None
        connection.request("GET", '/events?filters={"event":["start"]}')
        stream = connection.getresponse()
        for line in iter(stream.readline, b""):
            arrival, event = time.time_ns(), json.loads(line)
            with self._come:
                self._seen[event["Actor"]["ID"]] = event["timeNano"], arrival
                self._come.notify_all()

    def of(self, container):
        with self._come:
            assert self._come.wait_for(lambda: container.id in self._seen, 30)
            return self._seen[container.id]


def measure(docker, etcd, events, number, starts, results):
    place = docker.run(f"place{number}", labels={"dragoman.enable": "false"})
    pid = place.pid
    come = listener(pid)
    for count in range(starts):
        service = "web" if count % 2 else f"web{number}-{count}"
        etcd.endpoint(f"/services/{service}/0", "10.77.0.1", 7000)
        container = docker.create(f"c{number}-{count}", {"BACKEND_WEB": f"{service};80"},
                                  network=f"container:{place.id}")
        come.setblocking(False)
        try:
            while come.recv(1 << 16):
                pass
        except BlockingIOError:
            come.setblocking(True)
        stands = []

        def wait():
            come.recv(1 << 16)
            stands.append(time.time_ns())

        thread = threading.Thread(target=wait)
        thread.start()
        container.start()
        thread.join(30)
        happened, arrived = events.of(container)
        results.append((service == "web", stands[0] - happened, stands[0] - arrived,
                        arrived - happened))
        container.remove()
        run("nsenter", f"--net=/proc/{pid}/ns/net", "nft", "delete", "table", "inet", "dragoman")


def show(what, values):
    values = sorted(values)
    at = [values[min(len(values) - 1, int(len(values) * part))] / 1e6 for part in (.5, .9, .99)]
    print(f"{what:52} p50 {at[0]:7.2f}  p90 {at[1]:7.2f}  p99 {at[2]:7.2f}  "
          f"max {values[-1] / 1e6:7.2f} ms ({len(values)})")


def main(starts=200, at_once=1):
    results = []
    with Etcd() as etcd, Docker() as docker:
        etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
        docker.run("resident", {"BACKEND_WEB": "web;80"})
        events = Events(docker)
        events.start()
        with Agent("--docker", docker.url, registry=etcd.url) as agent:
            threads = [threading.Thread(target=measure, args=(
                docker, etcd, events, number, starts // at_once, results))
                for number in range(at_once)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            metrics = agent.metrics()
    print(f"{at_once} at once; load {pathlib.Path('/proc/loadavg').read_text().split()[0]}")
    for known in (True, False):
        name = "a service that is followed" if known else "a service that is new"
        chosen = [each for each in results if each[0] == known]
        show(f"{name}: from the event's own time", [each[1] for each in chosen])
        show(f"{name}: from the event's arrival", [each[2] for each in chosen])
    show("all: from the event's own time", [each[1] for each in results])
    show("all: from the event's arrival", [each[2] for each in results])
    show("the engine, from the event's time to its arrival", [each[3] for each in results])
    name = "dragoman_event_to_commit_seconds"
    print("the agent's own histogram:", " ".join(
        f"<={key.split(chr(34))[1]}:{value:.0f}" for key, value in metrics.items()
        if key.startswith(f"{name}_bucket")),
        f"mean {1000 * metrics[f'{name}_sum'] / max(1, metrics[f'{name}_count']):.2f} ms")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
