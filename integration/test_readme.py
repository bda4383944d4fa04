# SPDX-License-Identifier: MIT
"""README.md says what is so: its tour is typed, and what it answers is what stands there."""

import os
import pathlib
import re

from lab.command import PROGRAM, Dragoman
from lab.processes import Process, run
from lab.waiting import wait_until

README = (pathlib.Path(__file__).parent.parent / "README.md").read_text()

# What shows something, and changes nothing, is typed until it shows what it should.
LOOKS = ("cat ", "tail ", "dragoman status", "dragoman explain")
# What goes to the background is there when this succeeds.
BACKGROUND = {
    "etcd ": "etcdctl endpoint health",
    "python3 -m http.server 49161": "curl -sf localhost:49161",
    "python3 -m http.server 49162": "curl -sf localhost:49162",
    "dragoman run": "curl -sf --unix-socket /run/dragoman/dragoman.sock http://agent/readyz",
}


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## )", README, re.MULTILINE | re.DOTALL)[1]


def blocks(text):
    """What is indented by four blanks, line by line."""
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def tour():
    """Each command, and the lines that stand below it."""
    steps = []
    for line in blocks(section("Five minutes")):
        if line.startswith("$ "):
            steps.append((line[2:], []))
        else:
            steps[-1][1].append(line)
    return steps


def sense(lines):
    """The same of two answers that differ in numbers, addresses, units of time and bars."""
    text = re.sub(r"\d+(\.\d+)? (us|ms|s)\b", "0 ms", "\n".join(lines))
    text = re.sub(r"[\d.]*\d", "0", text.replace("█", ""))
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


class Stage:
    """A shell with processes, mounts and a network of its own, as root on a machine of one's own."""

    def __init__(self, directory):
        environment = Dragoman().environment
        environment["PATH"] = f"{os.path.dirname(PROGRAM)}:{environment['PATH']}"
        self._shell = Process("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child",
                              "--mount-proc", "bash", env=environment)
        self.type("mount -t tmpfs tmpfs /run")
        self.type("ip link set lo up")
        self.type(f"cd {directory}")

    def type(self, command):
        """What it answers, standard error included, line by line."""
        self._shell.write_line(f"{command}\nprintf '\\n%s\\n' 'that is all'")
        lines = []
        while not lines or lines[-1] != "that is all":
            lines.append(self._shell.read_line(deadline=60))
        return lines[:-1] if lines[-2] else lines[:-2]

    def succeeds(self, command):
        return self.type(f"{command} >/dev/null 2>&1; echo $?") == ["0"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._shell.stop()


def answer(stage, command, expected):
    answers = [stage.type(command)]
    for beginning, condition in BACKGROUND.items():
        if command.startswith(beginning):
            wait_until(lambda: stage.succeeds(condition), what=condition)
    if command.startswith(LOOKS):
        for _ in range(50):
            if sense(answers[-1]) == sense(expected):
                break
            answers.append(stage.type(f"sleep 0.1; {command}"))
    return answers[-1]


def test_readme_tour_answers_what_stands_there(tmp_path):
    transcript, wrong = [], []
    with Stage(tmp_path) as stage:
        for command, expected in tour():
            seen = answer(stage, command, expected)
            transcript += [f"    $ {command}", *(f"    {line}" for line in seen)]
            if sense(seen) != sense(expected):
                wrong.append(command)
    assert wrong == [], "\n".join(["README.md has other answers than these:", *transcript])


def test_readme_names_options_and_variables_that_exist():
    helps = run(PROGRAM, "--help").stdout
    commands = re.findall(r"^  (\w+) ", re.split("Commands:|  help", helps)[1], re.MULTILINE)
    helps += "".join(run(PROGRAM, command, "--help").stdout for command in commands)
    text = "\n".join([*blocks(section("On a host")), *re.findall(r"`([^`]+)`", README)])
    others = {"--now", "--net", "--network-namespace-path"}  # of systemctl, nsenter, docker and nspawn
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - others
    variables = set(re.findall(r"\bDRAGOMAN_[A-Z_]+", text)) - {"DRAGOMAN_OPTIONS"}  # of the unit
    assert len(options) > 15 and len(variables) > 5
    assert [word for word in sorted(options | variables)
            if not re.search(rf"{word}(?![\w-])", helps)] == []


def test_readme_configuration_is_taken(tmp_path):
    """Of a wrong option or value the exit status is 2, and nothing else is looked at before."""
    variables = dict(line.split("=", 1) for line in blocks(section("On a host"))
                     if re.match(r"[A-Z_]+=", line))
    options = variables.pop("DRAGOMAN_OPTIONS").split()
    done = Dragoman()("run", *options, "--socket", tmp_path / "socket", env=variables)
    assert (done.code, done.errors) == \
        (1, ["CA file /etc/dragoman/ca.pem: No such file or directory"]), done
