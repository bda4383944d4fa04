# SPDX-License-Identifier: MIT
"""The bar: what is to be reached, and whether it was.

Each line takes its figure from the rows of a run; where those are missing it was
not measured. `most` and `least` are in the figure's unit.
"""

import figures

LARGE, SMALL = {"services": 10000, "endpoints": 10}, {"services": 10, "endpoints": 10}


def _ratio(section, what, at, peer="ours", of="raw"):
    def figure(results):
        upper, lower = (results.median(section, what, each, **at) for each in (peer, of))
        return upper / lower if upper and lower else None
    return figure


def _value(section, what, at, field="median", peer="ours"):
    def figure(results):
        row = results.find(section, what, peer, **at)
        return row[field] if row else None
    return figure


def _sizes(results, what):
    """At which sizes both were measured, by services."""
    return sorted(row["at"]["services"] for row in results.rows
                  if (row["section"], row["what"], row["peer"]) == ("update", what, "ours")
                  and row["at"]["endpoints"] == 10
                  and results.find("update", what, "raw", **row["at"]))


def _worst_ratio(what):
    """Of all numbers of services."""
    def figure(results):
        ratios = [_ratio("update", what, {"services": size, "endpoints": 10})(results)
                  for size in _sizes(results, what)]
        return max(ratios) if len(ratios) > 1 else None
    return figure


def _growth(section, what, large, small, per=1):
    """How many times as much the large one takes as the small one, `per` apart."""
    def figure(results):
        upper, lower = (results.median(section, what, "ours", **at) for at in (large, small))
        return upper / lower / per if upper and lower else None
    return figure


def _away(figure):
    """How far from 1, upwards: 0.2 is a fifth more than linear."""
    def away(results):
        found = figure(results)
        return None if found is None else found - 1
    return away


def _sum_of_woken(results):
    row = results.find("memory", "wake-ups without a timer's name", "ours")
    return row["median"] if row else None


_FOLLOW = "put acknowledged to first connection at the new endpoint"
_THOUSAND = {"services": 1000, "endpoints": 10}

# name, the figure, its unit, (most or least, limit)
LINES = (
    ("first load, 10,000 x 10: of raw", _ratio("update", "first load", LARGE), "x", "most", 1.3),
    ("replace, 10,000 x 10: of raw", _ratio("update", "replace", LARGE), "x", "most", 3),
    ("replace, 10 x 10: of raw", _ratio("update", "replace", SMALL), "x", "most", 3),
    ("replace in 1,000 namespaces: of raw", _ratio("fan", "replace", {"namespaces": 1000}), "x",
     "most", 2),
    ("add, 10,000 x 10: of raw", _ratio("update", "add", LARGE), "x", "most", 2),
    ("remove, 10,000 x 10: of raw", _ratio("update", "remove", LARGE), "x", "most", 2),
    ("etcd's acknowledgement to new connections, 1/s: p99",
     _value("follow", _FOLLOW, {"rate": 1}, "p99"), "s", "most", .002),
    ("... at 100/s: p99", _value("follow", _FOLLOW, {"rate": 100}, "p99"), "s", "most", .002),
    ("... at 1,000/s: p99", _value("follow", _FOLLOW, {"rate": 1000}, "p99"), "s", "most", .002),
    ("container start event to rules: p99",
     _value("follow", "start event to rules", {}, "p99"), "s", "most", .010),
    ("throughput, keep-alive: of direct",
     _ratio("traffic", "large transfers", {}, of="direct"), "x", "least", .97),
    ("... by processor time: direct's of ours",
     _ratio("traffic", "large transfers, processor time of one", {}, "direct", "ours"), "x",
     "least", .97),
    ("... by processor time: one NAT rule's of ours",
     _ratio("traffic", "large transfers, processor time of one", {}, "nat", "ours"), "x",
     "least", .97),
    ("requests, keep-alive: of direct",
     _ratio("traffic", "small requests", {}, of="direct"), "x", "least", .97),
    ("... by processor time: direct's of ours",
     _ratio("traffic", "small requests, processor time of one", {}, "direct", "ours"), "x",
     "least", .97),
    ("... by processor time: one NAT rule's of ours",
     _ratio("traffic", "small requests, processor time of one", {}, "nat", "ours"), "x",
     "least", .97),
    ("new connections: of direct",
     _ratio("traffic", "new connections", {}, of="direct"), "x", "least", .85),
    ("... by processor time: direct's of ours",
     _ratio("traffic", "new connections, processor time of one", {}, "direct", "ours"), "x",
     "least", .85),
    ("... by processor time: one NAT rule's of ours",
     _ratio("traffic", "new connections, processor time of one", {}, "nat", "ours"), "x",
     "least", .97),
    ("10,000 services of one endpoint read from etcd v3",
     _value("registry", "read, 10,000 services", {"endpoints": 1}), "s", "most", 1),
    ("10,000 services of ten endpoints read from etcd v3",
     _value("registry", "read, 10,000 services", {"endpoints": 10}), "s", "most", 1),
    ("memory, 10,000 x 10 in one namespace",
     _value("memory", "private dirty, steady", LARGE), "B", "most", 48 * 2**20),
    ("memory, 10,000 x 10 in one namespace, peak",
     _value("memory", "private dirty, peak", LARGE), "B", "most", 48 * 2**20),
    ("memory, idle", _value("memory", "private dirty, idle", {}), "B", "most", 3 * 2**20),
    ("wake-ups when idle, without a timer's name", _sum_of_woken, "", "most", 0),
    ("one-shot, nothing to change: above an empty program",
     _value("start", "from start to end, above the empty program", {}), "s", "most", .003),
    ("... in processor time",
     _value("start", "processor time, above the empty program", {}), "s", "most", .003),
    ("growth: replace at 10,000 services, of that at 10",
     _growth("update", "replace", LARGE, SMALL), "x", "most", 1.5),
    ("growth: add at any size, of raw", _worst_ratio("add"), "x", "most", 2),
    ("growth: remove at any size, of raw", _worst_ratio("remove"), "x", "most", 2),
    ("growth: first load, 1,000 to 10,000, beyond linear",
     _away(_growth("update", "first load", LARGE, _THOUSAND, 10)), "", "most", .2),
    ("growth: replace in a service of 1,000 endpoints, of raw",
     _ratio("update", "replace", {"services": 10, "endpoints": 1000}), "x", "most", 3),
    ("growth: memory of elements, 1,000 to 10,000, beyond linear",
     _away(_growth("memory", "private dirty, above idle", LARGE, _THOUSAND, 10)), "", "most", .2),
)


def _limit(kind, limit, unit):
    return f"{'<=' if kind == 'most' else '>='} {figures.show(limit, unit)}"


def judge(results):
    """All lines: name, value (or None), the limit in words, "met", "not met" or "not measured"."""
    judged = []
    for name, figure, unit, kind, limit in LINES:
        value = figure(results)
        if value is None:
            verdict = "not measured"
        else:
            verdict = "met" if (value <= limit if kind == "most" else value >= limit) else "not met"
        judged.append({"name": name, "value": value, "unit": unit, "verdict": verdict,
                       "shown": figures.show(value, unit), "limit": _limit(kind, limit, unit)})
    return judged
