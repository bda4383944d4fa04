# SPDX-License-Identifier: MIT
"""A one-shot with nothing to change, beside an empty program with the same libraries.

Both are started, in turn, and waited for. The registry is a file. Processor time is
what of it they were at work, and does not depend on how busy others are. What makes the
libraries slow to load is asked of each by itself: an empty program that is linked
with it, and with what it brings along, alone.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile

from lab.command import PROGRAM
from lab.namespaces import Namespaces
from lab.processes import run as run_command
from measure.update import in_turn
from peers.netlink import PROGRAMS
from stage import Stage, time_command
from state import State, document

SIZES = (State(10, 10), State(1000, 10))
LIBRARIES = ("libnftnl", "libmnl", "libcurl", "libmicrohttpd", "jansson", "libcap-ng",
             "libseccomp")


class OneShot:
    """The command line of plan and reconcile in a namespace where all is true already."""

    def __init__(self, stage, state, folder):
        registry, descriptors = folder / f"{state.services}.json", folder / f"{state.services}.env"
        registry.write_text(json.dumps({f"/services/s{service}/{number}": document(number)
                                        for service in range(state.services)
                                        for number in state.numbers(service)}))
        descriptors.write_text("".join(f"BACKEND_S{service}=s{service};{state.port(service)}\n"
                                       for service in range(state.services)))
        self._words = ["--netns", stage.container, "--registry", f"file://{registry}",
                       "--env-file", descriptors]
        run_command(PROGRAM, "reconcile", *self._words)

    def command(self, verb):
        return [PROGRAM, verb, *self._words]


def _loader(command):
    """What the loader says of itself: relocations that it had to make, and objects."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          env={**os.environ, "LD_DEBUG": "statistics,files"}, check=False)
    relocations = re.search(r"final number of relocations: (\d+)", done.stderr)
    objects = re.findall(r"calling init: (\S+)", done.stderr)
    return int(relocations[1]), len(set(objects))


def _link(folder, library):
    """An empty program with one library, or with none but libc."""
    program = folder / f"with-{library}"
    flags = run_command("pkg-config", "--libs", library).stdout.split() if library else []
    source = pathlib.Path(__file__).resolve().parents[1] / "empty.c"
    run_command(os.environ.get("CC", "gcc"), "-O2", "-o", program, source, "-Wl,--no-as-needed",
                *flags)
    return [program]


def _time(rounds, commands):
    """{name: [seconds]}"""
    return in_turn(list(commands), rounds, lambda name, _: time_command(*commands[name]))


def _processor(taken):
    return taken.processor


def one_shot(results, stage, state, folder, rounds):
    shot = OneShot(stage, state, folder)
    found = _time(rounds, {"empty": [PROGRAMS / "empty"], "plan": shot.command("plan"),
                           "reconcile": shot.command("reconcile")})
    listed = ("nft", "list", "table", "inet", "dragoman")
    found["nft"] = [stage.time(*listed) for _ in range(rounds // 3)]
    for what, of in (("from start to end", float), ("processor time", _processor)):
        rows = {name: results.add("start", what, name, state.parameters, map(of, times))
                for name, times in found.items()}
        results.add("start", f"{what}, above the empty program", "ours", state.parameters,
                    rows["reconcile"]["median"] - rows["empty"]["median"])


def run(results, rounds=None):
    rounds = rounds or (40 if results.quick else 300)
    with tempfile.TemporaryDirectory() as name, Namespaces() as namespaces:
        for state in SIZES:
            stage = Stage(namespaces, f"start{state.services}")
            one_shot(results, stage, state, pathlib.Path(name),
                     rounds if state.services < 1000 else rounds // 5)
            stage.close()
        libraries(results, pathlib.Path(name), rounds // 2)


def libraries(results, folder, rounds):
    """What each of them costs a program that does nothing."""
    commands = {"libc alone": _link(folder, None),
                **{library: _link(folder, library) for library in LIBRARIES},
                "all of them": [PROGRAMS / "empty"], "dragoman": [PROGRAM, "--version"]}
    found = _time(rounds, commands)
    for name, command in commands.items():
        relocations, objects = _loader(command)
        at = {"linked with": name}
        results.add("start", "an empty program", "time", at, found[name])
        results.add("start", "an empty program", "processor", at, map(_processor, found[name]))
        results.add("start", "an empty program, counts", "objects", at, objects, "")
        results.add("start", "an empty program, counts", "relocations", at, relocations, "")
