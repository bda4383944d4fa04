# SPDX-License-Identifier: MIT
"""The agent that follows a registry and an engine: from the event to the rules.

etcd: a real agent, a real etcd, and a program that writes at a rate, listens to the
kernel and connects (follow.c). A registry is on other hosts than its agents: here it
and the writers have half of the processors, and the agent and its client the other.
Beside it stands, as `watcher`, when somebody was told who does nothing but watch, on
the registry's half. etcd's data are in memory: what is measured is not a disk.

Docker: integration/measure_start.py, start by start.
"""

import json
import os

import measure_start
from lab.agent import Agent
from lab.docker import Docker
from lab.etcd import Etcd
from lab.namespaces import Namespaces
from peers.netlink import PROGRAMS
from stage import Stage
from state import document

RATES = {1: (20, 1), 100: (1000, 4), 1000: (9600, 16)}  # changes, writers
QUICK = {1: (4, 1), 100: (300, 4), 1000: (2400, 16)}
COMMIT = "put acknowledged to commit"
CONNECTION = "put acknowledged to first connection at the new endpoint"
STARTS = 100


def _number(writer, change):
    """As follow.c has it."""
    return writer << 16 | change


def _halves():
    """Two sets of processors; the same where there is one only."""
    every = sorted(os.sched_getaffinity(0))
    middle = len(every) // 2
    return (set(every[:middle]) or set(every)), set(every[middle:])


def _keep_to(pid, processors):
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), processors)


def _program(stage, etcd, agent, rate, changes, writers):
    there, here = _halves()
    _keep_to(etcd.pid, there)
    _keep_to(agent.pid, here)
    masks = [sum(1 << number for number in half) for half in (there, here)]
    done = stage.container.run(PROGRAMS / "follow", etcd.port, f"/proc/{os.getpid()}/ns/net",
                               stage.hosts.path, rate, changes, writers, *masks, timeout=300)
    return json.loads(done.stdout)


def at_rate(results, namespaces, rate, changes, writers):
    with Etcd() as etcd:
        stage = Stage(namespaces, f"follow{rate}")
        stage.close()  # the program answers for all endpoints itself
        etcd.put_many((f"/services/s{number}/0", document(_number(number, 0)))
                      for number in range(writers))
        words = [word for number in range(writers)
                 for word in ("-b", f"S{number}=s{number};{10000 + number}")]
        with Agent("--netns", stage.container, *words, registry=etcd.url) as agent:
            before, commits = agent.cpu_seconds(), agent.metric("commits_total")
            told = _program(stage, etcd, agent, rate, changes, writers)
            used, commits = agent.cpu_seconds() - before, agent.metric("commits_total") - commits
    at = {"rate": rate}
    assert told["failures"] == 0, told["failures"]
    assert len(told["connected"]) == changes
    for what in (COMMIT, CONNECTION):
        results.add("follow", what, "watcher", at, [each / 1e9 for each in told["told"]])
    results.add("follow", COMMIT, "ours", at, [each / 1e9 for each in told["committed"]])
    results.add("follow", CONNECTION, "ours", at, [each / 1e9 for each in told["connected"]])
    made = len(told["connected"])
    results.add("follow", "changes made a second", "ours", at, made / told["seconds"], "/s")
    results.add("follow", "commits a change", "ours", at, commits / made, "")
    if rate >= 100:
        results.add("follow", "processor time of 1,000 changes", "ours", at, 1000 * used / made)


def containers(results, starts):
    found = []
    with Etcd() as etcd, Docker() as docker:
        etcd.endpoint("/services/web/0", "10.77.0.1", 7000)
        docker.run("resident", {"BACKEND_WEB": "web;80"})
        events = measure_start.Events(docker)
        events.start()
        with Agent("--docker", docker.url, registry=etcd.url):
            measure_start.measure(docker, etcd, events, 0, starts, found)
    # A start that is first seen by the rules took no time at all.
    results.add("follow", "start event to rules", "ours", {},
                [max(0, arrived) / 1e9 for _, _, arrived, _ in found])
    results.add("follow", "start, by the engine's own time, to rules", "ours", {},
                [happened / 1e9 for _, happened, _, _ in found])


def run(results, starts=None):
    with Namespaces() as namespaces:
        for rate, (changes, writers) in (QUICK if results.quick else RATES).items():
            at_rate(results, namespaces, rate, changes, writers)
    containers(results, starts or (10 if results.quick else STARTS))
