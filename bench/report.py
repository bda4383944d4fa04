# SPDX-License-Identifier: MIT
"""What was measured, as tables: for the terminal, as Markdown, and all of it as JSON."""

import json

import bar
import figures
import plots

WIDTH = 80
ORDER = ("raw", "ours", "nft-flat", "nft-chains", "iptables-nft", "iptables-legacy", "nftlb",
         "watcher", "direct", "nat", "haproxy", "nginx", "empty", "nft")
SHORT = {"iptables-nft": "ipt-nft", "iptables-legacy": "ipt-leg", "nft-chains": "chains"}


def _peers(rows):
    found = {row["peer"] for row in rows}
    return [each for each in ORDER if each in found] + sorted(found - set(ORDER))


def place(at):
    """ "10,000 x 10", "1,000 namespaces", "100/s" """
    rest = dict(at)
    words = []
    if "rate" in rest:
        words.append(f"{rest.pop('rate'):,}/s")
    if "namespaces" in rest:
        words.append(f"{rest.pop('namespaces'):,} namespaces")
    elif "services" in rest:
        words.append(f"{rest.pop('services'):,} x {rest.pop('endpoints'):,}")
    for name in ("services", "endpoints"):
        rest.pop(name, None)
    words += [f"{name} {value:,}" if isinstance(value, int) else str(value)
              for name, value in rest.items()]
    return ", ".join(words)


def groups(results):
    """Rows of one thing: {(section, what, unit): [rows]}, in the order of measuring."""
    groups = {}
    for row in results.rows:
        groups.setdefault((row["section"], row["what"], row["unit"]), []).append(row)
    return groups


def _ratio(rows):
    """Ours of raw, or of direct: what a line comes to."""
    by_peer = {row["peer"]: row["median"] for row in rows}
    for of in ("raw", "direct"):
        if by_peer.get("ours") and by_peer.get(of):
            return f"{by_peer['ours'] / by_peer[of]:.2f}"
    return ""


def _table(rows, unit, cell):
    """Lines of cells: a heading, then one for each place."""
    peers = _peers(rows)
    by_place = {}
    for row in rows:
        by_place.setdefault(place(row["at"]), []).append(row)
    yield ["", *(SHORT.get(peer, peer) for peer in peers), "ratio"]
    for where, found in by_place.items():
        by_peer = {row["peer"]: row for row in found}
        yield [where, *(cell(by_peer[peer], unit) if peer in by_peer else "-" for peer in peers),
               _ratio(found)]


# --- The terminal -----------------------------------------------------------------

def _lines(table):
    table = list(table)
    if not any(line[-1] for line in table[1:]):
        table = [line[:-1] for line in table]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    gap = "  " if sum(widths) + 2 * len(widths) <= WIDTH else " "
    for line in table:
        yield gap.join([line[0].ljust(widths[0]),
                         *(text.rjust(width) for text, width in zip(line[1:], widths[1:]))])


def _median(row, unit):
    return figures.show(row["median"], unit)


def _tail(row, unit):
    fields = ("median", "p99", "max") if row["count"] > 1 else ("median",)
    return " / ".join(figures.show(row[field], unit) for field in fields)


def _cell(section):
    return _tail if section == "follow" else _median


def terminal(results, about):
    yield f"dragoman {about['versions'].get('dragoman', '')}, {about['date']}"
    yield f"{about['processors']} x {about['processor']}, Linux {about['kernel']}, " \
          f"{about['distribution']}"
    for (section, what, unit), rows in groups(results).items():
        tail = "p50 / p99 / max" if section == "follow" else "median"
        yield ""
        yield f"{section}: {what} ({tail})"
        yield from ("  " + line for line in _lines(_table(rows, unit, _cell(section))))
    yield ""
    yield "The bar"
    for line in bar.judge(results):
        if line["verdict"] != "not measured":
            yield f"  {line['verdict']:8}{line['name']:56}{line['shown']:>9} {line['limit']}"
    for note in results.notes:
        yield f"  note: {note}"
    for section, said in about.get("busy", {}).items():
        yield f"  {section}: {said}"


# --- Markdown ---------------------------------------------------------------------

def _rows(table):
    heading, *lines = table
    if not any(line[-1] for line in lines):
        heading, lines = heading[:-1], [line[:-1] for line in lines]
    yield "| " + " | ".join(heading) + " |"
    yield "|---" + "|---:" * (len(heading) - 1) + "|"
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def markdown_table_of(section, unit, rows):
    """Lines of one thing."""
    return _rows(_table(rows, unit, _tail if section == "follow" else figures.show_spread))


def markdown_bar(judged):
    yield "| | figure | bar | |"
    yield "|---|---:|---:|---|"
    for line in judged:
        verdict = line["verdict"] if line["verdict"] != "not met" else "**not met**"
        yield f"| {line['name']} | {line['shown']} | {line['limit']} | {verdict} |"


def markdown_machine(about):
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    yield (f"{about['date']}; {about['processors']} x {about['processor']}, "
           f"{figures.show(about['memory'], 'B')}; Linux {about['kernel']}, "
           f"{about['distribution']}; {versions}.")
    yield ""
    yield "; ".join(f"{section}: {said}" for section, said in about.get("busy", {}).items()) + "."


def markdown(results, about, pictures=()):
    yield "# Measured"
    yield ""
    yield from markdown_machine(about)
    yield ""
    yield "Medians, and in brackets between which values half of all measures lie."
    yield ""
    yield "## The bar"
    yield ""
    yield from markdown_bar(bar.judge(results))
    last = None
    for (section, what, unit), rows in groups(results).items():
        if section != last:
            yield f"\n## {section}"
        last = section
        yield f"\n### {what}{': p50 / p99 / max' if section == 'follow' else ''}\n"
        yield from markdown_table_of(section, unit, rows)
    if results.notes:
        yield "\n## Left out\n"
        yield from (f"- {note}" for note in results.notes)
    if pictures:
        yield "\n## Plots\n"
        yield from (f"![{each.stem}]({each.name})" for each in pictures)


# --- The whole --------------------------------------------------------------------

def write(results, about, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(
        {"format": 1, "about": about, "rows": results.rows, "notes": results.notes,
         "bar": bar.judge(results)}, indent=1) + "\n")
    pictures = plots.write(results, folder)
    (folder / "results.md").write_text("\n".join(markdown(results, about, pictures)) + "\n")
    for line in terminal(results, about):
        print(line)
