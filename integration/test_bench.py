# SPDX-License-Identifier: MIT
"""The benchmarks work: their smallest size, and the shape of what comes out. No time counts."""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(1, str(ROOT / "bench"))

import bar  # noqa: E402
import compare  # noqa: E402
import report  # noqa: E402
from measure import fan, update  # noqa: E402
from peers import netlink, nft  # noqa: E402
from results import Results  # noqa: E402

FIELDS = {"section", "what", "peer", "at", "unit",
          "count", "median", "q1", "q3", "p99", "min", "max"}


def test_bench_smallest_sizes_give_rows_and_a_bar(tmp_path, capsys):
    results = Results(quick=True)
    # Everybody's result is checked there: who leads elsewhere fails.
    update.run(results, services=(3,), endpoints=(), classes=(
        netlink.Raw, netlink.Ours, nft.Flat, nft.Chains))
    fan.run(results, counts=(2,))
    about = {"date": "now", "processor": "some", "processors": 2, "memory": 2**30,
             "kernel": "6", "distribution": "Debian", "versions": {"dragoman": "0"}}
    report.write(results, about, tmp_path)
    said = capsys.readouterr().out
    assert all(len(line) <= 100 for line in said.splitlines()), said
    assert "update: replace (median)" in said
    assert "| 3 x 10 |" in (tmp_path / "results.md").read_text()
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["format"] == 1 and all(FIELDS == set(row) for row in told["rows"])
    assert {row["peer"] for row in told["rows"] if row["what"] == "replace"} \
        == {"raw", "ours", "nft-flat", "nft-chains"}
    assert all(row["count"] > 0 and 0 < row["min"] <= row["median"] <= row["max"]
               for row in told["rows"])
    assert {line["verdict"] for line in told["bar"]} <= {"met", "not met", "not measured"}
    assert len(told["bar"]) == len(bar.LINES)


def run_with(rows, folder, name):
    file = folder / name
    file.write_text(json.dumps({"format": 1, "rows": rows}))
    return file


def row(peer, median):
    return {"section": "update", "what": "replace", "peer": peer, "at": {"services": 10},
            "unit": "s", "median": median, "q1": median * .98, "q3": median * 1.02,
            "count": 9}


def test_bench_compare_names_what_became_worse_beside_the_machine(tmp_path):
    before = run_with([row("raw", 1.0), row("ours", 2.0)], tmp_path, "before.json")
    slower_machine = run_with([row("raw", 1.5), row("ours", 3.0)], tmp_path, "machine.json")
    worse = run_with([row("raw", 1.0), row("ours", 3.0)], tmp_path, "worse.json")
    program = [sys.executable, "-B", compare.__file__]
    assert subprocess.run([*program, before, slower_machine]).returncode == 0
    done = subprocess.run([*program, before, worse], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 1 and "worse" in done.stdout.splitlines()[0]
