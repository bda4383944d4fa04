# SPDX-License-Identifier: MIT
"""Containers that come and go, and services that change, at random.

    with Churn(docker, etcd, ends, seed=7) as churn:
        churn.start_containers(100)   # several at once, while services change
        churn.remove_all()

Each worker has containers of its own and dice of its own, so that a seed gives
each of them the same deeds in the same order; how those of several workers
fall together is the machine's. Every deed lets a few changes of services
happen, beside it.

A cable leads from (nearly) every namespace to `ends`. When a namespace is gone
from the kernel, so is the cable's end there: an end that stays is a namespace
that somebody keeps alive.
"""

import itertools
import json
import random
import threading

from lab.docker import Failure
from lab.etcd import encode
from lab.processes import run
from lab.waiting import wait_until

SERVICES = 20
TAGS = ("prod", "stats", "eu")
WORKERS, ALIVE = 4, 8  # containers of one worker that run at the same time
CHANGES = 6            # of services, for each deed
# Idle connections that libcurl keeps, at most: four for each request that was under way at once
# (CURLMOPT_MAXCONNECTS(3)), which are eight looks and four reads of the registry.
CONNECTIONS = 4 * (8 + 4)


def service_key(number):
    # /services/s1 and /services/s10 are neighbours; some lie deeper.
    return f"/services/s{number}" if number % 4 else f"/services/team.{number % 3}/s{number}"


class Registrar(threading.Thread):
    """Changes services as often as it is told to."""

    def __init__(self, etcd, dice):
        super().__init__(daemon=True)
        self._etcd, self._dice = etcd, dice
        self._told = threading.Semaphore(0)
        self._end = False
        self.changes, self.failure = 0, None

    def change(self, times=CHANGES):
        self._told.release(times)

    def run(self):
        try:
            while self._told.acquire() and not self._end:
                self._step()
                self.changes += 1
        except Exception as failure:  # told to the test, in its own thread
            self.failure = failure

    def stop(self):
        self._end = True
        self._told.release()
        self.join()
        if self.failure:
            raise self.failure

    def _key(self):
        service = service_key(self._dice.randrange(SERVICES))
        # A key may be the service itself, or lie deeper than one below it.
        return service + self._dice.choice(("/a", "/b", "/c", "/d", "/e", "/x/y", ""))

    def _document(self):
        dice = self._dice
        address = dice.choice((f"10.1.{dice.randrange(3)}.{dice.randrange(1, 6)}",
                               f"10.1.0.{dice.randrange(1, 4)}",
                               f"fd01::{dice.randrange(1, 6):x}"))
        port = dice.choice((7000, 7001))
        form = dice.random()
        if form < 0.15:
            return f"[{address}]:{port}" if ":" in address else f"{address}:{port}\n"
        names = ("ipaddress", "host_port") if form < 0.8 else ("host", "port")
        document = {names[0]: address, names[1]: dice.choice((port, str(port)))}
        if dice.random() < 0.8:
            document["tags"] = dice.sample(TAGS, dice.randrange(len(TAGS) + 1))
        if dice.random() < 0.5:
            document["weight"] = dice.choice((0, 1, 1, 2, 3, 4, 6, "12"))
        if dice.random() < 0.2:
            document["proto"] = dice.choice(("tcp", "TCP", "udp"))
        if dice.random() < 0.2:
            document["noise"] = [1, {"x": None}]
        return json.dumps(document)

    def _bad(self):
        return self._dice.choice((
            "", "{", "[]", "10.1.0.1", "10.1.0.1:0", "10.1.0.999:80", "127.0.0.1:80",
            '{"ipaddress": null, "host_port": "80"}', '{"host": "example.org", "port": 80}',
            '{"ipaddress": "10.1.0.1"}', '{"ipaddress": "169.254.169.254", "host_port": 80}',
            '{"ipaddress": "10.1.0.1", "host_port": "80", "weight": 257}',
            '{"ipaddress": "10.1.0.1", "host_port": "80", "tags": "prod"}',
            '{"ipaddress": "10.1.0.1", "host_port": 65536, "host": "10.1.0.1", "port": 80}'))

    def _lease(self):
        return self._etcd.call("/v3/lease/grant", TTL=1)["ID"]

    def _rewrite(self, key):
        found = self._etcd.call("/v3/kv/range", key=encode(key)).get("kvs", [])
        for each in found:
            self._etcd.call("/v3/kv/put", key=each["key"], value=each.get("value", ""))

    def _step(self):
        dice, key = self._dice, self._key()
        deed = dice.random()
        if deed < 0.50:
            self._etcd.put(key, self._document())
        elif deed < 0.68:
            self._etcd.delete(key)
        elif deed < 0.78:
            self._rewrite(key)
        elif deed < 0.86:
            self._etcd.put(key, self._bad())
        elif deed < 0.90:
            self._etcd.call("/v3/kv/put", key=encode(key), value=encode(self._document()),
                            lease=self._lease())
        elif deed < 0.97:
            self._etcd.put_many([(f"{service_key(dice.randrange(SERVICES))}/{name}",
                                  self._document()) for name in "abcde"])
        else:
            self._etcd.delete_below(service_key(dice.randrange(SERVICES)) + "/")


class Worker:
    """Starts, stops and disturbs containers of its own."""

    def __init__(self, number, docker, ends, registrar, dice):
        self._number, self._docker, self._ends = number, docker, ends
        self._registrar, self._dice = registrar, dice
        self._count = itertools.count(1)
        self._containers = []  # that run, or are paused
        self._paused = set()
        self.started, self.refused, self.failure = 0, [], None

    # What a container says

    def _descriptor(self):
        dice = self._dice
        service = service_key(dice.randrange(SERVICES))
        if dice.random() < 0.5:
            service = service.removeprefix("/services/") if "team" not in service else service
        tags = dice.choice(("", "", "[]", "[prod]", "[prod, stats]", "[ eu ,prod]"))
        # Few ports, so that those who share a namespace meet.
        port = dice.choice((80, 81, 443, 3306, 6379, 5432))
        return f"{service}{tags};{port}{dice.choice(('', '', '/tcp', '/udp', ' / UDP'))}"

    def _environment(self):
        dice = self._dice
        found = {f"BACKEND_{name}": self._descriptor()
                 for name in dice.sample("ABCDEFGH", dice.randrange(6))}
        if dice.random() < 0.3:
            found[f"BACKEND_{dice.choice('AXYZ')}"] = dice.choice((
                "https://example.org", "", "s1;", "s1;0", "s1;65536", "s1;http", ";80", "s1;80;81",
                "s1;80/sctp", "s1[prod;80", "s1[a,,b];80", "/;80", "/services/../s1;80",
                "/services//s1;80", "s1 s2;80", "'s1;80'"))
        if dice.random() < 0.3:
            found["OTHER_A"] = "s1;80"
        return found

    # Deeds

    def _attach(self, container):
        """A cable to `ends`. It needs a route of its own, so it is an event, too."""
        pid = container.pid
        run("ip", "link", "add", f"w{self._number}-{next(self._count)}", "netns", self._ends,
            "type", "veth", "peer", "name", "eth0", "netns", pid)
        run("nsenter", f"--net=/proc/{pid}/ns/net", "ip", "link", "set", "eth0", "up")

    def _start(self):
        dice = self._dice
        kind = dice.random()
        options = {"network": "none"}
        if self._containers and kind < 0.3:
            options["network"] = f"container:{dice.choice(self._containers).name}"
        elif kind < 0.34:
            options["network"] = "host"
        elif kind < 0.40:
            options["labels"] = {"dragoman.enable": dice.choice(("false", "FALSE"))}
        short = dice.random() < 0.12
        if short:
            options["command"] = ("true",)
        name = f"w{self._number}-{next(self._count)}"
        container = self._docker.create(name, env=self._environment(), **options)
        self.started += 1
        container.start()
        if options["network"] == "none" and not short:
            self._attach(container)
        if short:
            container.remove()
        else:
            self._containers.append(container)

    def _pick(self):
        container = self._dice.choice(self._containers)
        if container.id in self._paused:
            container.unpause()
            self._paused.discard(container.id)
        return container

    def _drop(self, container):
        self._containers.remove(container)
        container.remove()

    def _end(self):
        container = self._pick()
        if self._dice.random() < 0.5:
            container.kill()
        self._drop(container)

    def _restart(self):
        container = self._pick()
        try:
            container.restart()
        except Failure:
            # Whose namespace it shared is gone.
            self._drop(container)
            return
        if container.inspect()["HostConfig"]["NetworkMode"] == "none":
            self._attach(container)

    def _pause(self):
        container = self._pick()
        container.pause()
        self._paused.add(container.id)

    def _rename(self):
        container = self._pick()
        container.rename(f"w{self._number}-{next(self._count)}-again")

    def _deed(self, goal):
        if len(self._containers) < 2 or (self.started < goal and self._dice.random() < 0.45 and
                                         len(self._containers) < ALIVE):
            return self._start
        return self._dice.choice((self._end, self._end, self._restart, self._pause, self._rename))

    def run(self, goal):
        """Until as many were started as there are to be."""
        try:
            while self.started < goal:
                self._registrar.change()
                try:
                    self._deed(goal)()
                except Failure as refused:
                    self.refused.append(str(refused))
        except Exception as failure:  # told to the test, in its own thread
            self.failure = failure

    def clear(self):
        while self._containers:
            self._drop(self._containers[-1])
        self._paused.clear()


class Churn:
    def __init__(self, docker, etcd, ends, seed):
        self._registrar = Registrar(etcd, random.Random(f"{seed} registrar"))
        self._workers = [Worker(number, docker, ends, self._registrar,
                                random.Random(f"{seed} {number}")) for number in range(WORKERS)]
        self._goal = 0

    def _each(self, function):
        threads = [threading.Thread(target=function, args=(worker,)) for worker in self._workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for failure in [each.failure for each in (*self._workers, self._registrar)]:
            if failure:
                raise failure

    def start_containers(self, count):
        """As many more, among whatever else happens to those that run."""
        self._goal += count
        share = -(-self._goal // WORKERS)
        self._each(lambda worker: worker.run(share))

    def remove_all(self):
        self._each(Worker.clear)

    @property
    def started(self):
        return sum(worker.started for worker in self._workers)

    @property
    def changes(self):
        return self._registrar.changes

    @property
    def refused(self):
        """What the engine refused to do."""
        return [each for worker in self._workers for each in worker.refused]

    def __enter__(self):
        self._registrar.start()
        return self

    def __exit__(self, *_):
        self._registrar.stop()


# Afterwards

def cables(ends):
    """The ends of cables, all but lo; of a namespace that is gone there is none."""
    return {line.split(": ")[1] for line in ends.ip("-o", "link").stdout.splitlines()} - {"lo"}


def everything_is_let_go_of(agent, ends, descriptors):
    """Waits for that; descriptors: those of the agent (descriptor_kinds()) before all began."""
    wait_until(lambda: not [each for each in agent.status()["namespaces"] if each["containers"]],
               what="all containers to be let go of")
    assert agent.namespace_descriptors() == 0
    assert agent.metric("services") == agent.metric("namespaces") == 0
    # One worker of the kernel takes all namespaces of the machine apart, in turn.
    wait_until(lambda: not cables(ends), deadline=120, what="the namespaces to be gone")
    before, now = dict(descriptors), agent.descriptor_kinds()
    assert now.pop("connection") <= before.pop("connection") + CONNECTIONS
    assert now == before
