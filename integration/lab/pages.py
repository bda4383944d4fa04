# SPDX-License-Identifier: MIT
"""What the manual pages show, to be held to it: read from their mdoc(7) as it stands."""

import pathlib
import re

_PAGES = pathlib.Path(__file__).resolve().parents[2] / "contrib" / "man"


def _plain(text):
    return text.replace("\\e", "\\").replace("\\&", "")


class Page:
    def __init__(self, name):
        self._text = (_PAGES / name).read_text()

    def part(self, start, end=r"^\.S[hs] "):
        """From the line `start` to the next heading, or what `end` matches."""
        rest = self._text.split(f"\n{start}\n", 1)[1]
        return re.split(end, rest, maxsplit=1, flags=re.MULTILINE)[0]

    def blocks(self, start=None, end=r"^\.S[hs] "):
        """The examples, each a text; of one part, or of the whole page."""
        text = self.part(start, end) if start else self._text
        return [_plain(each) for each in
                re.findall(r"^\.Bd -literal.*\n((?:(?!\.Ed).*\n)*)\.Ed", text, re.MULTILINE)]

    def lines(self, *arguments, **options):
        """Lines of the examples; what a backslash breaks is one."""
        return [line for block in self.blocks(*arguments, **options)
                for line in re.sub(r"\\\n\s*", "", block).splitlines()]

    def commands(self, *arguments, **options):
        """Those that a root's shell is shown with."""
        return [line.removeprefix("# ") for line in self.lines(*arguments, **options)
                if line.startswith("# ")]
