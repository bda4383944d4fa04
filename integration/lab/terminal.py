# SPDX-License-Identifier: MIT
"""A program on a terminal of its own, and what stands on that terminal's page.

    with Terminal("dragoman", "status", "--watch", columns=80, rows=24) as terminal:
        terminal.await_text("problems")
        terminal.type("q")

Of the escape sequences that programs write it understands the few that dragoman does; any
other one fails, since that is what a terminal would be given.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

_SEQUENCE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])")


class Page:
    """What a terminal shows."""

    def __init__(self, columns, rows):
        self.resize(columns, rows)
        self.is_alternate, self.has_cursor = False, True

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.lines, self.row, self.column = [""] * rows, 0, 0

    def feed(self, text):
        """Returns what is left: the beginning of a sequence."""
        while text:
            if text[0] == "\x1b":
                found = _SEQUENCE.match(text)
                if not found:
                    assert len(text) < 16, f"no escape sequence of ours: {text[:16]!r}"
                    return text
                self._obey(*found.groups())
                text = text[found.end():]
                continue
            self._put(text[0])
            text = text[1:]
        return ""

    def _put(self, character):
        if character == "\r":
            self.column = 0
        elif character == "\n":
            assert self.row + 1 < self.rows or not self.is_alternate, "the page would scroll"
            self.row = min(self.row + 1, self.rows - 1)
        else:
            assert character >= " " and character != "\x7f", f"{character!r} went to the terminal"
            if self.column == self.columns:
                assert not self.is_alternate, f"wider than the page: {self.lines[self.row]}"
                self.row, self.column = min(self.row + 1, self.rows - 1), 0
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[:self.column] + character + line[self.column + 1:]
            self.column += 1

    def _obey(self, numbers, letter):
        if letter == "m":
            return
        if (numbers, letter) in (("?1049", "h"), ("?1049", "l")):
            self.is_alternate = letter == "h"
            self.resize(self.columns, self.rows)
        elif (numbers, letter) in (("?25", "h"), ("?25", "l")):
            self.has_cursor = letter == "h"
        elif letter == "H" and not numbers:
            self.row = self.column = 0
        elif letter == "K" and not numbers:
            self.lines[self.row] = self.lines[self.row][:self.column]
        elif letter == "J" and not numbers:
            self.lines[self.row] = self.lines[self.row][:self.column]
            self.lines[self.row + 1:] = [""] * (self.rows - self.row - 1)
        else:
            raise AssertionError(f"no escape sequence of ours: {numbers}{letter}")

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.lines)

    @property
    def words(self):
        """The text as one line."""
        return " ".join(self.text.split())


class Terminal:
    def __init__(self, *command, columns=80, rows=24, env=None):
        self.page, self._left = Page(columns, rows), b""
        self._pending, self._code = "", None
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            self._become([str(word) for word in command], columns, rows, env)
        self._before = None

    @staticmethod
    def _become(command, columns, rows, env):
        try:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execvpe(command[0], command, env)
        finally:
            os._exit(127)

    def attributes(self):
        return termios.tcgetattr(self._fd)

    def has_echo(self):
        return bool(self.attributes()[3] & termios.ECHO)

    def resize(self, columns, rows):
        self.page.resize(columns, rows)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self._fd, keys.encode())

    def send(self, signum):
        os.kill(self._pid, signum)

    def _read(self, left):
        if not select.select([self._fd], [], [], left)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        text = (self._left + data).decode(errors="ignore")
        self._left = b""
        self._pending = self.page.feed(self._pending + text)
        return bool(data)

    def await_page(self, condition, what, deadline=15):
        """Reads until condition(page) holds."""
        end = time.monotonic() + deadline
        while not condition(self.page):
            left = end - time.monotonic()
            assert left > 0, f"not {what} in {deadline} s:\n{self.page.text}"
            self._read(min(left, 0.2))
        return self.page.text

    def await_text(self, words, deadline=15):
        return self.await_page(lambda page: words in page.text, repr(words), deadline)

    def wait(self, deadline=10):
        """The exit status (as waitpid(2) has it) when it ends; all that it wrote was read."""
        end = time.monotonic() + deadline
        while self._code is None:
            self._read(0.05)
            pid, code = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._code = code
            assert self._code is not None or time.monotonic() < end, self.page.text
        while self._read(0):
            pass
        return self._code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)
