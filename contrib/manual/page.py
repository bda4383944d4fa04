# SPDX-License-Identifier: MIT
"""What a manual page says, by way of mandoc, which knows best how mdoc(7) is meant.

mandoc's HTML keeps what each word is: Fl a flag, Ar an argument, Cm a word typed as it stands,
Ev a variable. A page becomes a list of blocks, each a heading, a paragraph, a term or what is
said of it, an example or a cell of the synopsis, made of such words.
"""

import html.parser
import re
import subprocess

_BLOCKS = {"h1": "section", "h2": "subsection", "p": "text", "dt": "term", "dd": "about",
           "pre": "example", "div": "example", "td": "cell"}
_MACROS = {"Fl", "Ar", "Cm", "Ev", "Nm", "Li", "Pa", "Sx", "Xr"}


class Block:
    """kind, and words: pairs of a macro (or "") and text. path: its section and subsection."""

    def __init__(self, kind, path):
        self.kind, self.path, self.words = kind, path, []

    @property
    def text(self):
        return "".join(text for _, text in self.words)

    def all(self, macro):
        return [text for kind, text in self.words if kind == macro]


class _Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.blocks, self.path, self.stack = [], ("", ""), []

    def handle_starttag(self, tag, attributes):
        names = dict(attributes).get("class", "").split()
        if tag in ("br", "link", "meta", "hr", "col"):
            return
        kind = _BLOCKS.get(tag)
        if tag == "td" and "Nm" not in self._tables():
            kind = None
        if tag == "div" and "Bd" not in names:
            kind = None
        if kind:
            self.blocks.append(Block(kind, self.path))
        self.stack.append((tag, names))

    def _tables(self):
        return {name for tag, names in self.stack if tag == "table" for name in names}

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop()[0] != tag:
            pass
        if tag in ("h1", "h2"):
            title = " ".join(self.blocks[-1].text.split())
            self.path = (title, "") if tag == "h1" else (self.path[0], title)
            self.blocks[-1].path = self.path
        # What follows a list, or an example, within an item.
        if tag in ("pre", "dl", "p") and any(each == "dd" for each, _ in self.stack):
            self.blocks.append(Block("about", self.path))

    def handle_data(self, data):
        if not self.blocks or (not self.stack and not data.strip()):
            return
        macro = next((name for _, names in reversed(self.stack) for name in names
                      if name in _MACROS), "")
        literal = any(tag == "pre" for tag, _ in self.stack)
        self.blocks[-1].words.append((macro, data if literal else re.sub(r"\s+", " ", data)))


def _mandoc(text, *words):
    return subprocess.run(["mandoc", *words], input=text, text=True, capture_output=True, check=True).stdout


def read(text):
    """The blocks of a page's mdoc."""
    reader = _Reader()
    reader.feed(_mandoc(text, "-T", "html", "-O", "fragment"))
    return [block for block in reader.blocks if block.words]


def shown(text):
    """Its lines on a terminal, with an indent of 5; that of groff is 7, since 1.23."""
    return re.sub(".\b", "", _mandoc(text, "-T", "utf8", "-O", "width=78")).splitlines()
