# SPDX-License-Identifier: MIT
"""The program under test, as a user runs it."""

import json
import os
import pathlib

from lab.processes import run

PROGRAM = os.environ.get(
    "DRAGOMAN", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "dragoman"))


class Result:
    """code, stdout, stderr of a run; json is its one document."""

    def __init__(self, command, done):
        self.command = command
        self.code, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr

    @property
    def json(self):
        return json.loads(self.stdout)

    @property
    def changes(self):
        """What plan or reconcile would change or has changed, as a set of tuples.

        ("add", "127.0.0.1:8080/tcp", "10.77.0.1:8080"), or ("add", "sysctl ...").
        """
        return {tuple(entry[key] for key in ("verdict", "listen", "endpoint", "object")
                      if key in entry) for entry in self.json["changes"]}

    @property
    def errors(self):
        """Lines on standard error without the program's name."""
        return [line.removeprefix("dragoman: ") for line in self.stderr.splitlines()]

    def __repr__(self):
        return (f"{' '.join(self.command)}\nexit {self.code}\n"
                f"--- stdout\n{self.stdout}--- stderr\n{self.stderr}")


class Dragoman:
    """dragoman("resolve", "web;80"), dragoman.reconcile(web, "WEB=web;80", balance="nth").

    Runs with an environment of its own, where DRAGOMAN_REGISTRY names the
    registry given here.
    """

    def __init__(self, registry=None):
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "DRAGOMAN_CHECK", "LLVM_PROFILE_FILE"):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        if registry:
            self.environment["DRAGOMAN_REGISTRY"] = registry

    def __call__(self, *arguments, env=None, input=None, timeout=60):
        command = [PROGRAM, *map(str, arguments)]
        done = run(*command, check=False, env={**self.environment, **(env or {})}, input=input,
                   timeout=timeout)
        assert done.returncode in (0, 1, 2, 3), Result(command, done)
        return Result(command, done)

    def _on(self, verb, namespace, descriptors, flags):
        words = [verb, "--json", "--netns", namespace]
        for descriptor in descriptors:
            words += ["-b", descriptor]
        for name, value in flags.items():
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [flag, value]
        return self(*words)

    def reconcile(self, namespace, *descriptors, **flags):
        return self._on("reconcile", namespace, descriptors, flags)

    def plan(self, namespace, *descriptors, **flags):
        return self._on("plan", namespace, descriptors, flags)

    def flush(self, namespace, **flags):
        return self._on("flush", namespace, (), flags)
