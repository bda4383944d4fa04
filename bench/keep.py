# SPDX-License-Identifier: MIT
"""A registry that holds the state, and an agent that keeps it in a namespace."""

import contextlib
import pathlib
import tempfile
import time

from lab.agent import Agent
from lab.etcd import Etcd, transaction
from lab.waiting import wait_until
from state import document


_AT_ONCE = 5000


@contextlib.contextmanager
def registry(state):
    """An etcd with all services of a state."""
    # Limits of what one may write at once; of what is read they change nothing.
    with Etcd(options=("--max-txn-ops", _AT_ONCE, "--max-request-bytes", 2**26)) as etcd:
        pairs = [(f"/services/s{service}/{number}", document(number))
                 for service in range(state.services) for number in state.numbers(service)]
        for start in range(0, len(pairs), _AT_ONCE):
            etcd.call("/v3/kv/txn", **transaction(pairs[start:start + _AT_ONCE]))
        yield etcd


@contextlib.contextmanager
def agent(etcd, target, state, *more):
    """An agent that was just started; wait_until_ready() says how long it took. target: a
    namespace, or the number of a process in it."""
    with tempfile.TemporaryDirectory() as folder:
        descriptors = pathlib.Path(folder) / "descriptors"
        descriptors.write_text("".join(f"BACKEND_S{service}=s{service};{state.port(service)}\n"
                                       for service in range(state.services)))
        began = time.monotonic()
        with Agent("--pid" if isinstance(target, int) else "--netns", target, "--env-file", descriptors, *more, registry=etcd.url,
                   ready=False) as started:
            started.began = began
            yield started


def wait_until_ready(started):
    """Seconds from its start to that."""
    wait_until(started.is_ready, deadline=120, what="the agent to be ready")
    return time.monotonic() - started.began
