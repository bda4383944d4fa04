# SPDX-License-Identifier: MIT
"""Cost against size, by gnuplot: SVG, and PNG for where that is wanted."""

import itertools
import shutil
import subprocess

# file, title, section, what, what is along the x axis, what is fixed
PLOTS = (
    ("load-services", "First load, 10 endpoints a service", "update", "first load", "services",
     {"endpoints": 10}),
    ("replace-services", "One endpoint replaced, 10 endpoints a service", "update", "replace",
     "services", {"endpoints": 10}),
    ("add-services", "One endpoint added, 10 endpoints a service", "update", "add", "services",
     {"endpoints": 10}),
    ("remove-services", "One endpoint removed, 10 endpoints a service", "update", "remove",
     "services", {"endpoints": 10}),
    ("replace-endpoints", "One endpoint replaced, 10 services", "update", "replace", "endpoints",
     {"services": 10}),
    ("load-endpoints", "First load, 10 services", "update", "first load", "endpoints",
     {"services": 10}),
    ("fan-namespaces", "One endpoint replaced in many namespaces", "fan", "replace", "namespaces",
     {}),
)
STYLES = {"raw": "lc rgb '#888888' dt 2", "ours": "lc rgb '#c0392b' lw 3"}
COLOURS = ("#2471a3", "#1e8449", "#b7950b", "#6c3483", "#117a65", "#873600")

_SCRIPT = """
set terminal {terminal}
set output '{output}'
set title '{title}'
set xlabel '{axis}'
set ylabel 'seconds'
set logscale xy
set format x '10^{{%L}}'
set format y '10^{{%L}}'
set grid
set key outside right
plot {lines}
{data}
"""


def _points(results, section, what, axis, fixed):
    """{peer: [(x, median, q1, q3)]} of those that have two points at least."""
    found = {}
    for row in results.rows:
        if (row["section"], row["what"]) == (section, what) and axis in row["at"] and all(
                row["at"].get(name) == value for name, value in fixed.items()):
            found.setdefault(row["peer"], []).append(
                (row["at"][axis], row["median"], row["q1"], row["q3"]))
    return {peer: sorted(points) for peer, points in found.items() if len(points) > 1}


def _script(points, title, axis, terminal, output):
    colours = itertools.cycle(COLOURS)
    lines, data = [], []
    for peer in sorted(points, key=lambda peer: -points[peer][-1][1]):
        style = STYLES.get(peer) or f"lc rgb '{next(colours)}'"
        lines += [f"'-' using 1:2 with linespoints pt 7 ps 0.6 {style} title '{peer}'",
                  f"'-' using 1:2:3:4 with yerrorbars pt 0 {style} notitle"]
        text = "\n".join(" ".join(map(str, point)) for point in points[peer]) + "\ne"
        data += [text, text]
    return _SCRIPT.format(terminal=terminal, output=output, title=title, axis=axis,
                          lines=", ".join(lines), data="\n".join(data))


def write(results, folder):
    """Those for which there are points. Returns the SVG files."""
    if not shutil.which("gnuplot"):
        results.note("no plots: gnuplot is missing")
        return []
    written = []
    for name, title, section, what, axis, fixed in PLOTS:
        points = _points(results, section, what, axis, fixed)
        if "ours" not in points:
            continue
        for ending, terminal in (("svg", "svg size 760,420 font 'sans,11' background 'white'"),
                                 ("png", "pngcairo size 1140,630 font 'sans,12'")):
            output = folder / f"{name}.{ending}"
            subprocess.run(["gnuplot"], input=_script(points, title, axis, terminal, output),
                           text=True, check=True)
        written.append(folder / f"{name}.svg")
    return written
