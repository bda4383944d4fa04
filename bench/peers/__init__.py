# SPDX-License-Identifier: MIT
"""Those who are measured. Each brings the same about, in its own way.

    peer.clear()          removes what stands
    peer.load()           all of it, into nothing; returns seconds
    peer.replace(7, 3)    the changes 7, 8 and 9; a list of seconds
    peer.grow(7, 3)       one endpoint more, then one less; two lists, "add" and "remove"
    peer.check()          its endpoints are reached and no others, or AssertionError
"""

import pathlib
import tempfile


class Peer:
    name = None

    def __init__(self, stage, state):
        self.stage, self.state = stage, state

    def endpoints(self, service):
        """The numbers of the endpoints that a service has now."""
        raise NotImplementedError

    def check(self, fresh=False):
        """Connects, from within the namespace, to a sample of the services. fresh: nothing has
        changed since it was loaded."""
        for service in self.state.sample():
            expected = set(self.endpoints(service))
            assert len(expected) == self.state.endpoints, f"{self.name}: {len(expected)} endpoints"
            assert not fresh or expected == set(self.state.numbers(service)), self.name
            seen = self.stage.reached(self.state.port(service), expected)
            assert seen == expected, (f"{self.name}: service {service} leads to "
                                      f"{sorted(seen)}, not {sorted(expected)}")

    def close(self):
        pass


class Model(Peer):
    """One that is told of each change in words, and so needs to know what stands."""

    def __init__(self, stage, state):
        super().__init__(stage, state)
        self.slots = {}

    def endpoints(self, service):
        return self.slots[service]

    def start_anew(self):
        self.slots = {each: self.state.numbers(each) for each in range(self.state.services)}

    def replace(self, first, count):
        times = []
        for change in range(first, first + count):
            service, slot = self.state.changed(change)
            before, after = self.slots[service], list(self.slots[service])
            after[slot] = self.state.replaced(change)
            times.append(self.change(service, before, after))
            self.slots[service] = after
        return times

    def grow(self, first, count):
        added, removed = [], []
        for change in range(first, first + count):
            service, slot = self.state.changed(change)
            before = self.slots[service]
            more = [*before, self.state.added(change)]
            added.append(self.change(service, before, more))
            # As the kernel's map has it: the last takes the place of the one that goes.
            less = more[:-1]
            less[slot] = more[-1]
            removed.append(self.change(service, more, less))
            self.slots[service] = less
        return {"add": added, "remove": removed}

    def change(self, service, before, after):
        """The service's endpoints are others from now on. Returns seconds."""
        raise NotImplementedError


class Written(Model):
    """One that reads what to do from a file. whole() is the text of all of it."""

    def __init__(self, stage, state):
        super().__init__(stage, state)
        stage.open_localhost()
        self._folder = tempfile.TemporaryDirectory(prefix="dragoman-bench-")
        self.input = pathlib.Path(self._folder.name) / "input"
        self._whole = pathlib.Path(self._folder.name) / "whole"

    def load(self):
        if not self._whole.exists():
            self._whole.write_text(self.whole())
        self.start_anew()
        return self.run(self._whole)

    def run_text(self, text):
        self.input.write_text(text)
        return self.run(self.input)

    def run(self, file):
        """Has it read. Returns seconds."""
        raise NotImplementedError

    def whole(self):
        raise NotImplementedError

    def close(self):
        self._folder.cleanup()
