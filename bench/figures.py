# SPDX-License-Identifier: MIT
"""Figures: what many measures come to, and how they are written."""

import statistics


def percentile(values, part):
    """The value that `part` of all (0..1) do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def summary(values):
    """Median, spread and tail of some measures."""
    ordered = sorted(values)
    return {"count": len(ordered), "median": statistics.median(ordered),
            "q1": percentile(ordered, .25), "q3": percentile(ordered, .75),
            "p99": percentile(ordered, .99), "min": ordered[0], "max": ordered[-1]}


_SECONDS = ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def _scale(value, scales):
    """How large a unit to write a value in, and its name."""
    return next(((scale, name) for scale, name in scales if abs(value) >= scale), scales[-1])


def _digits(value):
    """Three of them; whole numbers as they are."""
    size = abs(value)
    if value == int(value) and size < 1000:
        return f"{value:.0f}"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _unit(value, unit):
    """What to divide by, and what to write behind."""
    if value and unit in ("s", "B", "B/s"):
        scale, name = _scale(value, _SECONDS if unit == "s" else _BYTES)
        return scale, f" {name}{'/s' if unit == 'B/s' else ''}"
    return 1, {"x": " x", "/s": "/s"}.get(unit, f" {unit}" if unit and value else "")


def show(value, unit):
    """A value in words: show(0.0123, "s") is "12.3 ms"."""
    if value is None:
        return "-"
    scale, name = _unit(value, unit)
    return _digits(value / scale) + name


def show_spread(row, unit):
    """The median, and between which values half of all lie: "12.3 ms (11.8-13.0)"."""
    if row["count"] == 1:
        return show(row["median"], unit)
    scale, _ = _unit(row["median"], unit)
    return (f"{show(row['median'], unit)} ({_digits(row['q1'] / scale)}-"
            f"{_digits(row['q3'] / scale)})")
