#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures, side by side, and says what of the bar is met.

    bench/run.py [--only SECTION[,SECTION]] [--quick] [--limit SECONDS] [--results FOLDER]

Tables go to the terminal; Markdown, JSON and plots to the folder.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
import time
import traceback

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import machine  # noqa: E402
import report  # noqa: E402
from results import Results  # noqa: E402

SECTIONS = ("update", "fan", "start", "follow", "registry", "memory", "traffic")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--quick", action="store_true", help="within two minutes, less exact")
    parser.add_argument("--limit", type=float, default=180, help="seconds that a peer's load may "
                        "be expected to take; those who take longer are left out")
    parser.add_argument("--results", default="bench-results", type=pathlib.Path)
    options = parser.parse_args()
    options.only = [each for each in options.only.split(",") if each]
    for section in options.only:
        if section not in SECTIONS:
            parser.error(f"{section} is no section; there are {', '.join(SECTIONS)}")
    return options


def main():
    options = parse()
    # Whatever is measured, it is no disk.
    if pathlib.Path("/dev/shm").is_dir():
        tempfile.tempdir = "/dev/shm"
    results = Results(options.quick, options.limit)
    about = machine.describe()
    began, about["busy"], failed = time.monotonic(), {}, []
    for section in options.only:
        results.tell(f"--- {section}")
        before = machine.busy()
        try:
            importlib.import_module(f"measure.{section}").run(results)
        except Exception:  # what the others measured is not lost for that
            traceback.print_exc()
            results.note(f"{section}: it failed")
            failed.append(section)
        about["busy"][section] = machine.share(before)
        results.tell(f"--- {section}: {time.monotonic() - began:.0f} s so far; "
                     f"{about['busy'][section]}")
    about["seconds"] = round(time.monotonic() - began)
    report.write(results, about, options.results)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
