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


def _scaled(value, scales):
    if value == 0:
        return "0"
    for scale, name in scales:
        if abs(value) >= scale:
            return f"{_digits(value / scale)} {name}"
    return f"{_digits(value / scales[-1][0])} {scales[-1][1]}"


def _digits(value):
    """Three of them; whole numbers as they are."""
    size = abs(value)
    if value == int(value) and size < 1000:
        return f"{value:.0f}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def show(value, unit):
    """A value in words: show(0.0123, "s") is "12.3 ms"."""
    if value is None:
        return "-"
    if unit == "s":
        return _scaled(value, _SECONDS)
    if unit == "B":
        return _scaled(value, _BYTES)
    if unit == "B/s":
        return _scaled(value, _BYTES) + "/s"
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "x":
        return f"{_digits(value)} x"
    return f"{_digits(value)}{' ' + unit if unit else ''}"
