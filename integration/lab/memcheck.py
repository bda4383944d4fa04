# SPDX-License-Identifier: MIT
"""The program under those who watch its memory and its descriptors.

A watcher runs a command and returns its Result; an error, a leak or a
descriptor that is still open at the end is an AssertionError.
"""

import os
import pathlib
import re
import shutil
import tempfile

from lab.command import PROGRAM, Result
from lab.processes import run

SANITIZED = os.environ.get("DRAGOMAN_SANITIZED", str(
    pathlib.Path(__file__).resolve().parents[2] / "build" / "sanitize" / "dragoman"))
_FOUND = 99  # an exit status that the program does not have


def left_open(log):
    """The descriptors that a log of --track-fds=yes names, but for those that were there before."""
    return [match[1] for match in re.finditer(r"== Open (.*)\n==\d+==    (?!<inherited)", log)]


def _run(command, environment, output):
    """With its standard output to a file, where one is named."""
    if output:
        command = ["/bin/sh", "-c", f'exec "$@" >{output}', "sh", *command]
    return run(*command, check=False, env=environment, timeout=120)


def valgrind(dragoman, *arguments, program=PROGRAM, output=None):
    with tempfile.NamedTemporaryFile("r", prefix="dragoman-valgrind-") as log:
        command = ["valgrind", f"--error-exitcode={_FOUND}", "--leak-check=full",
                   "--show-leak-kinds=definite,indirect,possible",
                   "--errors-for-leak-kinds=definite,indirect,possible", "--track-fds=yes",
                   f"--log-file={log.name}", program, *map(str, arguments)]
        done = _run(command, dragoman.environment, output)
        said = log.read()
    result = Result(list(map(str, command)), done)
    assert done.returncode != _FOUND, f"{result}--- valgrind\n{said}"
    assert "FILE DESCRIPTORS" in said, said
    assert not left_open(said), f"{result}--- valgrind\n{said}"
    return result


def sanitizers(dragoman, *arguments, output=None):
    """A build with ASan and UBSan, leaks included (make build/sanitize/dragoman)."""
    assert shutil.which(SANITIZED), f"{SANITIZED} is not there: `make integration` builds it"
    options = {"ASAN_OPTIONS": f"exitcode={_FOUND}:detect_stack_use_after_return=1:detect_leaks=1",
               "UBSAN_OPTIONS": f"exitcode={_FOUND}:print_stacktrace=1"}
    command = [SANITIZED, *map(str, arguments)]
    done = _run(command, {**dragoman.environment, **options}, output)
    result = Result(command, done)
    assert done.returncode != _FOUND and not re.search(
        r"(Address|Leak|UndefinedBehavior)Sanitizer|runtime error:", done.stderr), result
    return result


# Where all tests run with the sanitizers' build, there is nothing for valgrind to run.
WATCHERS = {"sanitizers": sanitizers}
if PROGRAM != SANITIZED:
    WATCHERS["valgrind"] = valgrind
