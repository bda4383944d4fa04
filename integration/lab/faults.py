# SPDX-License-Identifier: MIT
"""What befalls an agent on a bad day, at random, while something else goes on.

    faults = Faults(agent, relay, engine, etcd, docker, seed=7)
    faults.during(lambda: churn.start_containers(24))
    faults.count         {"the agent is killed": 3, ...}

relay stands before the registry, engine (a BreakableEngine) before Docker.
Afterwards everything is as it should be again, but for what the agent still
has to make good.
"""

import collections
import contextlib
import os
import random
import signal
import threading

from lab import nft
from lab.breakable import MOMENTS
from lab.docker import Failure
from lab.namespaces import Inside
from lab.waiting import wait_until

PAUSE = 1.0  # seconds between two of them, at most


class Faults:
    """kills: whether the agent may end; else its memory can be compared."""

    def __init__(self, agent, relay, engine, etcd, docker, seed, kills=True):
        self._agent, self._relay, self._engine = agent, relay, engine
        self._etcd, self._docker = etcd, docker
        self._dice, self._kills = random.Random(f"{seed} faults"), kills
        self._end = threading.Event()
        self.count = collections.Counter()

    def _pass(self, most=PAUSE):
        self._end.wait(self._dice.uniform(0, most))

    def _start_the_agent(self):
        self._pass(0.3)
        self._agent.start(ready=False)
        # No program can take a signal before its own first line.
        wait_until(self._agent.minds_signals, what="the agent to begin")

    # What befalls

    def _the_agent_is_killed(self):
        self._agent.kill()
        self._start_the_agent()

    def _the_agent_is_asked_to_end(self):
        self._agent.end()
        self._start_the_agent()

    def _the_agent_is_asked_to_look(self):
        self._agent.send(signal.SIGHUP)

    def _the_agent_is_held(self):
        self._agent.send(signal.SIGSTOP)
        self._pass(0.5)
        self._agent.send(signal.SIGCONT)

    def _the_registry_is_parted(self):
        self._relay.part()
        self._pass(2)
        self._relay.join()

    def _the_registry_forgets(self):
        # What is forgotten already cannot be forgotten once more.
        self._etcd.put("/elsewhere", "")
        self._etcd.compact()

    def _the_engine_breaks(self):
        self._engine.break_now()

    def _the_engine_breaks_at_its_moment(self):
        self._engine.break_at(self._dice.choice(MOMENTS), alone=self._dice.random() < 0.5)

    def _somebody_edits_a_table(self):
        inside = self._inside()
        if inside is None:
            return
        script = self._dice.choice((
            "flush ruleset", "delete table inet dragoman", "flush chain inet dragoman output",
            "flush chain inet dragoman guard", "flush map inet dragoman endpoints4",
            "flush set inet dragoman unavailable4", "delete table inet dragoman\n"
            "add table inet dragoman"))
        # There may be no table, or no namespace any more.
        with contextlib.suppress(AssertionError, OSError):
            nft.load(inside, script)

    def _inside(self):
        """The namespace of a container that runs, or None."""
        with contextlib.suppress(Failure, IndexError):
            running = [each for each in self._docker.api("GET", "/containers/json")
                       if each["HostConfig"]["NetworkMode"] != "host"]
            told = self._docker.api("GET", f"/containers/{self._dice.choice(running)['Id']}/json")
            pid = told["State"]["Pid"]
            with contextlib.suppress(FileNotFoundError):
                if pid and (os.stat(f"/proc/{pid}/ns/net").st_ino !=
                            os.stat("/proc/self/ns/net").st_ino):
                    return Inside(pid)
        return None

    def _deeds(self):
        deeds = [self._the_agent_is_asked_to_look, self._the_agent_is_held,
                 self._the_registry_is_parted, self._the_registry_forgets,
                 self._the_engine_breaks, self._the_engine_breaks_at_its_moment,
                 self._somebody_edits_a_table, self._somebody_edits_a_table]
        if self._kills:
            deeds += [self._the_agent_is_killed, self._the_agent_is_asked_to_end]
        return deeds

    def during(self, function):
        """Runs it in a thread of its own; here, faults: a process ends with whose thread began it."""
        failures = []

        def body():
            try:
                function()
            except BaseException as failure:
                failures.append(failure)
            self._end.set()

        thread = threading.Thread(target=body)
        thread.start()
        try:
            while not self._end.is_set():
                deed = self._dice.choice(self._deeds())
                self.count[deed.__name__.strip("_").replace("_", " ")] += 1
                deed()
                self._pass()
        finally:
            thread.join()
        if failures:
            raise failures[0]
        wait_until(self._agent.is_ready, deadline=30, what="the agent to be ready again")
