# SPDX-License-Identifier: MIT
"""Follows services of a registry, and keeps what the updates come to, as an agent would.

watch_probe prints each update as a line (watch_probe.c).

    with contextlib.closing(Follower(etcd.url)) as follower:
        follower.add("/services/app")
        follower.until_holds("/services/app", {"/services/app/a": "one"})
"""

import json
import os
import time

from lab.probes import probe
from lab.processes import Process


class Follower:
    """The probe, and the state that its updates come to."""

    def __init__(self, url, *user):
        self._probe = Process(probe("watch_probe"), url, *user)
        self.state, self.documents, self.updates = "connecting", {}, []
        self.errors, self._counts = [], None

    @property
    def pid(self):
        return self._probe.pid

    def add(self, *keys):
        for key in keys:
            self._probe.write_line(f"add {key}")

    def remove(self, key):
        self._probe.write_line(f"remove {key}")

    def resync(self):
        self._probe.write_line("resync")

    def be_patient(self, seconds):
        """How long the next stream may be quiet before it is asked; after twice that it is left."""
        self._probe.write_line(f"patience {seconds}")

    def read(self, deadline=10.0):
        """Takes in the next line."""
        line = json.loads(self._probe.read_line(deadline))
        if "state" in line:
            self.state = line["state"]
        elif "counts" in line:
            self._counts = line["counts"]
        elif line["error"]:
            self.errors.append(line["error"])
        else:
            self._apply(line)
        return line

    def _apply(self, update):
        self.updates.append(update)
        known = {} if update["whole"] else self.documents[update["key"]]
        known.update(update["put"])
        for key in update["removed"]:
            known.pop(key, None)
        self.documents[update["key"]] = known

    def until(self, condition, deadline=30.0):
        """Takes in lines until condition(follower)."""
        end = time.monotonic() + deadline
        while not condition(self):
            self.read(max(end - time.monotonic(), 0.001))

    def until_holds(self, key, documents, deadline=30.0):
        self.until(lambda own: own.documents.get(key) == documents, deadline)

    def counts(self):
        self._counts = None
        self._probe.write_line("counts")
        self.until(lambda own: own._counts)
        return self._counts

    def signal(self, number):
        os.kill(self.pid, number)

    def close(self):
        self._probe.stop()
