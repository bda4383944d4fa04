# SPDX-License-Identifier: MIT
"""A registry that holds the state, and an agent that keeps it in a namespace."""

import contextlib
import pathlib
import tempfile
import time

from lab.agent import Agent
from lab.etcd import Etcd
from lab.waiting import wait_until
from state import document


@contextlib.contextmanager
def registry(state):
    """An etcd with all services of a state."""
    with Etcd() as etcd:
        etcd.put_many((f"/services/s{service}/{number}", document(number))
                      for service in range(state.services) for number in state.numbers(service))
        yield etcd


@contextlib.contextmanager
def agent(etcd, namespace, state, *more):
    """An agent that was just started; wait_until_ready() says how long it took."""
    with tempfile.TemporaryDirectory() as folder:
        descriptors = pathlib.Path(folder) / "descriptors"
        descriptors.write_text("".join(f"BACKEND_S{service}=s{service};{state.port(service)}\n"
                                       for service in range(state.services)))
        began = time.monotonic()
        with Agent("--netns", namespace, "--env-file", descriptors, *more, registry=etcd.url,
                   ready=False) as started:
            started.began = began
            yield started


def wait_until_ready(started):
    """Seconds from its start to that."""
    wait_until(started.is_ready, deadline=120, what="the agent to be ready")
    return time.monotonic() - started.began
