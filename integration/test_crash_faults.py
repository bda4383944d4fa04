# SPDX-License-Identifier: MIT
"""The kernel refuses, forgets, or has no memory left: a clean error, and right again later.

Each call by itself is failed by tests/test_faults.c and tests/test_memory*.c; here the
whole program is seen from outside. strace(1) makes calls fail, for which the filter of
system calls has to be off: what is injected is a call of no number.
"""

import json
import os
import random
import re
import signal

import pytest

from lab import crowd, limits, oracle
from lab.agent import Agent
from lab.command import PROGRAM, Dragoman, Result
from lab.oracle import rules_standing
from lab.processes import run
from lab.waiting import wait_until

# The leak detector cannot do its work beside strace.
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=0"}
BACKENDS = ("-b", "WEB=web;80", "-b", "NONE=nobody;81")
FAULTS = {
    "no-room-to-send": ("sendto", "ENOBUFS"),
    "too-large-to-send": ("sendto", "EMSGSIZE"),
    "interrupted-sending": ("sendto", "EINTR"),
    "no-memory-to-send": ("sendto", "ENOMEM"),
    "answers-lost": ("recvfrom", "ENOBUFS"),
    "interrupted-receiving": ("recvfrom", "EINTR"),
    "news-lost": ("recvmsg", "ENOBUFS"),
    "no-options": ("setsockopt", "ENOBUFS"),
    "sysctl-not-written": ("pwrite64", "EIO"),
}


class Registry:
    """A file: nothing of it goes over a socket, so faults of these are the kernel's."""

    def __init__(self, folder):
        self._path = folder / "registry.json"
        self.url, self._keys = f"file://{self._path}", {}

    def put(self, *numbers, **more):
        """The endpoints of the service web; the rest are other keys."""
        self._keys = {f"/services/web/{each}": crowd.document(each, weight=index + 1)
                      for index, each in enumerate(numbers)}
        self._write({**self._keys, **more})

    def _write(self, keys):
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(keys))
        fresh.rename(self._path)

    def rules(self):
        """What has to stand."""
        return oracle.rules_of(
            [oracle.parse_descriptor("web;80"), oracle.parse_descriptor("nobody;81")],
            {key: json.dumps(each).encode() for key, each in self._keys.items()})


@pytest.fixture
def registry(tmp_path):
    made = Registry(tmp_path)
    made.put(1, 2)
    return made


def end(agent):
    """Of one beside which strace waits."""
    os.kill(agent.program_pid, signal.SIGTERM)
    wait_until(lambda: agent.ended() is not None, 20, what="its end")
    assert agent.ended() == 0, agent.log


def failing(call, error, when):
    """Words that run the program, with some of its calls failing."""
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
            "-e", f"inject={call}:error={error}:when={when}", PROGRAM]


@pytest.mark.parametrize("name", FAULTS)
def test_crash_agent_over_failing_calls_ends_exact(registry, container, name):
    call, error = FAULTS[name]
    first = random.randrange(1, 20)
    # Each try ends with the first that fails, and the next one waits twice as long.
    when = f"{first}..{first + random.randrange(0, 6)}"
    print(f"{call}:{error}:when={when}")
    with Agent("--netns", container, *BACKENDS, "--no-seccomp", registry=registry.url, ready=False,
               env=ENVIRONMENT, command=failing(call, error, when)) as agent:
        for numbers in ((1, 2), (3,), (4, 5, 6)):
            registry.put(*numbers)
            wait_until(lambda: agent.ended() is not None or
                       rules_standing(container.path) == registry.rules(), 40,
                       what=f"the rules in spite of {name}")
            if agent.ended() is not None:
                # It could not listen in a namespace that was named to it.
                assert agent.ended() == 1 and "cannot listen to the kernel" in agent.log, agent.log
                agent.start(command=(PROGRAM,))
        end(agent)


@pytest.mark.parametrize("name", FAULTS)
def test_crash_reconcile_with_a_failing_call_does_it_or_says_why(registry, container, name):
    call, error = FAULTS[name]
    dragoman = Dragoman(registry.url)
    assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
    for turn in range(3):
        old = registry.rules()
        registry.put(turn + 3, turn + 4)
        when = random.randrange(1, 12)
        command = [*failing(call, error, when), "reconcile", "--netns", container, *BACKENDS]
        done = Result(list(map(str, command)),
                      run(*command, check=False, env={**dragoman.environment, **ENVIRONMENT}))
        found = rules_standing(container.path)
        assert done.code in (0, 1), done
        assert found == registry.rules() or (done.code == 1 and found == old), done
        assert done.code == 0 or re.fullmatch(r"(dragoman: .+\n)+", done.stderr), done
        assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
        assert rules_standing(container.path) == registry.rules()


def handle_of(namespace):
    """Another one is another table."""
    return re.search(r"table inet dragoman \{.*# handle (\d+)",
                     namespace.run("nft", "-a", "list", "table", "inet", "dragoman").stdout)[1]


def test_crash_agent_does_not_replace_a_table_for_a_sysctl_that_fails(registry, container):
    with Agent("--netns", container, *BACKENDS, "--no-seccomp", registry=registry.url, ready=False,
               env=ENVIRONMENT, command=failing("pwrite64", "EROFS", "1+")) as agent:
        wait_until(lambda: "route_localnet" in agent.log, 30, what="a word about the sysctl")
        # Each failure is tried again, a little later each time.
        handle = handle_of(container)
        errors = agent.metric('errors_total{class="invalid"}')
        wait_until(lambda: agent.metric('errors_total{class="invalid"}') >= errors + 2, 30,
                   what="two more tries")
        assert handle_of(container) == handle
        end(agent)


# Memory

NOT_LOADED = 127


def load(registry, numbers):
    """A registry that takes much memory to read, with other endpoints of web."""
    registry.put(*numbers, **{f"/services/other/{each}": {"x": "y" * 60000}
                              for each in range(300)})


def test_crash_reconcile_in_any_address_space_does_it_or_says_so(registry, container):
    """From one in which it cannot even be loaded to one that is enough."""
    dragoman, codes = Dragoman(registry.url), []
    assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
    old = registry.rules()
    registry.put(3, 4, 5)

    def in_space_of(size, *more):
        command = ["prlimit", f"--as={size}", limits.PLAIN, "reconcile", "--netns", container,
                   *BACKENDS, *more]
        return Result(list(map(str, command)), run(*command, check=False,
                                                   env=dragoman.environment))

    def try_in(size):
        done = in_space_of(size)
        # glibc's dynamic linker says so and ends with 127, or, of 2.41, crashes in places.
        if done.code not in (0, 1):
            assert done.code in (127, -signal.SIGSEGV), done
            assert in_space_of(size, "--help").code == done.code, done
            return NOT_LOADED
        assert done.code == 0 or (done.stderr and rules_standing(container.path) == old), done
        return done.code

    least, most = 8 << 20, 512 << 20
    while most - least > 32 << 10:
        middle = (least + most) // 2
        least, most = (middle, most) if try_in(middle) == NOT_LOADED else (least, middle)
        if rules_standing(container.path) != old:
            registry.put(1, 2)
            assert dragoman.reconcile(container, *BACKENDS[1::2]).code == 0
            registry.put(3, 4, 5)
    for size in range(most, 512 << 20, 32 << 10):
        codes.append(try_in(size))
        if codes[-1] == 0:
            break
    print(most, codes)
    assert rules_standing(container.path) == registry.rules()
    assert codes.count(1) >= 3, codes


def test_crash_agent_out_of_address_space_goes_on_or_ends_and_leaves_the_rules(registry,
                                                                               container):
    with Agent("--netns", container, *BACKENDS, registry=registry.url,
               command=[limits.PLAIN]) as agent:
        old = registry.rules()
        assert rules_standing(container.path) == old
        limits.limit_address_space(agent.pid, limits.address_space(agent.pid) + (1 << 20))
        load(registry, (3, 4))
        wait_until(lambda: re.search("out of memory|Cannot allocate memory", agent.log) or
                   agent.ended() is not None, 30,
                   what="a word about memory")
        assert agent.ended() in (None, 1), agent.log
        assert rules_standing(container.path) == old
        if agent.ended() is None:
            limits.limit_address_space(agent.pid, None)
            agent.send(signal.SIGHUP)
        else:
            agent.start()
        wait_until(lambda: rules_standing(container.path) == registry.rules(), 30,
                   what=f"the new rules\n{agent.log}")
        agent.end()


def test_crash_agent_killed_for_memory_leaves_the_rules_and_starts_again(registry, container):
    with limits.memory_group() as group:
        with Agent("--netns", container, *BACKENDS, registry=registry.url,
                   command=[limits.PLAIN]) as agent:
            old = registry.rules()
            group.add(agent.pid)
            group.limit(group.usage + (4 << 20))
            load(registry, (3, 4))
            wait_until(lambda: agent.ended() is not None, 30, what="it to be killed")
            assert agent.ended() == -9, agent.log
            assert rules_standing(container.path) == old
            agent.start()
            assert rules_standing(container.path) == registry.rules()
            agent.end()
