# SPDX-License-Identifier: MIT
"""Small programs on the program's own modules (integration/*.c), by name."""

import os
import pathlib

_FOLDER = pathlib.Path(os.environ.get(
    "DRAGOMAN_PROBES", pathlib.Path(__file__).resolve().parents[2] / "build" / "integration"))


def probe(name):
    return _FOLDER / name
