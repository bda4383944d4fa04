# SPDX-License-Identifier: MIT
"""Processes that end with the test, whatever becomes of it."""

import ctypes
import select
import signal
import subprocess
import sys
import time

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _end_with_parent():
    """In the child: if the test run is killed, so is this process."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run(*command, check=True, input=None, env=None, timeout=60):
    """Runs a command to its end; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in command],
        input=input, env=env, timeout=timeout, text=True, errors="replace",
        stdin=subprocess.DEVNULL if input is None else None,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_end_with_parent)
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(map(str, command))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Process:
    """A process in the background, line by line. Usable with `with`."""

    def __init__(self, *command, env=None, output=subprocess.PIPE):
        self.command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
            env=env, bufsize=0, preexec_fn=_end_with_parent)
        self._pending = b""

    @property
    def pid(self):
        return self._process.pid

    def ended(self):
        """The exit status, or None while it runs."""
        return self._process.poll()

    def write_line(self, text):
        self._process.stdin.write(text.encode() + b"\n")

    def read_line(self, deadline=10.0):
        """The next line of its output without the newline; fails at its end."""
        end = time.monotonic() + deadline
        while b"\n" not in self._pending:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self._process.stdout], [], [], left)[0]
            assert ready, f"no line from {self.command} in {deadline} s; so far: {self._pending!r}"
            data = self._process.stdout.read(65536)
            assert data, f"{self.command} ended: {self._pending.decode(errors='replace')}"
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line.decode(errors="replace")

    def stop(self, signum=signal.SIGKILL):
        if self._process.poll() is None:
            self._process.send_signal(signum)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def wait(self, deadline=60):
        return self._process.wait(timeout=deadline)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def python(script, *arguments):
    """The command line of a helper script of this folder."""
    return [sys.executable, "-B", "-S", "-E", str(script), *map(str, arguments)]
