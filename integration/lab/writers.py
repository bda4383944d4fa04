# SPDX-License-Identifier: MIT
"""Writers to etcd that are as fast as it takes what they say, and know what they said when.

    with Connection(etcd) as registry:
        registry.put("/services/web/a", document)

    writers = Churn(etcd, "/services/web", changes=10000, seed=1)
    writers.run()
    writers.lives[17].named         # of endpoint 17: when it was put, and when it went
"""

import http.client
import itertools
import json
import random
import threading
import time

from lab.crowd import document
from lab.etcd import encode


class Connection:
    """One connection to etcd's gateway that stays open. Each request is acknowledged
    when it returns."""

    def __init__(self, etcd):
        self._http = http.client.HTTPConnection("127.0.0.1", etcd.port, timeout=30)

    def _call(self, path, body):
        self._http.request("POST", path, json.dumps(body))
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        return json.loads(text)

    def put(self, key, value):
        self._call("/v3/kv/put", _put(key, value))

    def delete(self, key):
        self._call("/v3/kv/deleterange", {"key": encode(key)})

    def together(self, puts, deletes):
        """One transaction: puts is a mapping, deletes are keys; a key stands there once."""
        self._call("/v3/kv/txn", {"success": [
            *({"requestPut": _put(key, value)} for key, value in puts.items()),
            *({"requestDeleteRange": {"key": encode(key)}} for key in deletes)]})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.close()


def _put(key, value):
    return {"key": encode(key), "value": encode(json.dumps(value))}


class Life:
    """When an endpoint was named by the registry, at most (put sent, removal acknowledged).

    removed is None while it stands there.
    """

    def __init__(self):
        self.named, self.removed = time.monotonic_ns(), None


class Churn:
    """Adds, replaces and removes endpoints of a service, each of a number that was
    never named before. There is always one at least."""

    WRITERS, KEYS = 4, 4  # keys of each writer
    RATE = 500  # changes a second at most; clients want some of the machine, too

    def __init__(self, etcd, service, changes, seed):
        self.lives, self.changes, self.seconds = {}, 0, 0
        self._etcd, self._service, self._wanted, self._seed = etcd, service, changes, seed
        self._numbers = itertools.count(1)
        self._live = [{} for _ in range(self.WRITERS)]
        self._failed = []
        with Connection(etcd) as registry:
            for which, live in enumerate(self._live):
                self._put(registry, which, live, 0)

    @property
    def standing(self):
        """The numbers that the registry names now."""
        return {number for live in self._live for number in live.values()}

    def _key(self, which, slot):
        return f"{self._service}/{which}-{slot}"

    def _new(self, live, slot):
        number = next(self._numbers)
        old, live[slot] = live.get(slot), number
        self.lives[number] = Life()
        return number, [old] if old else []

    def _forget(self, numbers):
        for number in numbers:
            self.lives[number].removed = time.monotonic_ns()

    def _put(self, registry, which, live, slot):
        number, gone = self._new(live, slot)
        registry.put(self._key(which, slot), document(number))
        self._forget(gone)

    def _delete(self, registry, which, live, slot):
        gone = live.pop(slot)
        registry.delete(self._key(which, slot))
        self._forget([gone])

    def _move(self, registry, which, live, slot, to):
        """Away here and there again, at once."""
        number, gone = self._new(live, to)
        gone.append(live.pop(slot))
        registry.together({self._key(which, to): document(number)}, [self._key(which, slot)])
        self._forget(gone)

    def _change(self, registry, dice, which, live):
        """Returns how many keys it changed."""
        slot = dice.randrange(self.KEYS)
        if slot not in live or dice.random() < 0.5:
            self._put(registry, which, live, slot)
        elif len(live) > 1 and dice.random() < 0.7:
            self._delete(registry, which, live, slot)
        else:
            self._move(registry, which, live, slot, (slot + 1) % self.KEYS)
            return 2
        return 1

    def _write(self, which):
        dice = random.Random(f"{self._seed} {which}")
        beat, done = Beat(self.WRITERS / self.RATE), 0
        try:
            with Connection(self._etcd) as registry:
                while done < self._wanted / self.WRITERS:
                    beat.wait()
                    done += self._change(registry, dice, which, self._live[which])
        except BaseException as error:
            self._failed.append(error)
        self.changes += done

    def run(self):
        """All of it, and returns when it is acknowledged."""
        started = time.monotonic()
        threads = [threading.Thread(target=self._write, args=(which,))
                   for which in range(self.WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.seconds = time.monotonic() - started
        if self._failed:
            raise self._failed[0]


class Beat:
    """A pace to write at: wait() returns once in `seconds`, or at once where it is a
    little late."""

    def __init__(self, seconds):
        self._seconds, self._next = seconds, time.monotonic()

    def wait(self):
        self._next = max(self._next + self._seconds, time.monotonic() - 10 * self._seconds)
        time.sleep(max(self._next - time.monotonic(), 0))
