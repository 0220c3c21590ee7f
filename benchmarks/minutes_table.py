"""The tables of docs/minutes.md: timm's defaults, and the results from the ledger. A test compares the page."""

import json
from pathlib import Path
from typing import Any

from benchmarks.ledger import RESULTS
from benchmarks.minutes import OURS, SAME
from benchmarks.minutes_timm import DEFAULTS

PAGE = Path(__file__).parent.parent / "docs" / "minutes.md"


def results() -> str:
    """One line per row of the ledger; a sentence as long as there is none."""
    ledger = RESULTS / "minutes.json"
    if not ledger.exists():
        return "Not measured yet."
    cells = json.loads(ledger.read_text())["figures"]
    lines = [
        "| minutes | trained by | network | test accuracy | epochs | training took |",
        "|---|---|---|---|---|---|",
    ]
    for minutes in sorted(cells, key=float):
        lines += [row(minutes, who, cells[minutes][who]) for who in cells[minutes]]
    machines = sorted({cell["machine"].partition(";")[0] for rows in cells.values() for cell in rows.values()})
    return "\n".join([*lines, "", f"{' and '.join(machines)}."])


def row(minutes: str, who: str, cell: dict[str, Any]) -> str:
    by = "`swiftlet fit`" if who == OURS else "timm's script, our network" if who == SAME else "timm's script"
    low, high = cell["interval_percent"]
    accuracy = f"{cell['accuracy_percent']} % (95 % {low} to {high}, n = {cell['n']})"
    network = f"{cell['network']}, {cell['precision']}, {cell['kb']:g} KB"
    return f"| {minutes} | {by} | {network} | {accuracy} | {cell.get('epochs', '')} | {cell['seconds'] / 60:.1f} |"


def defaults() -> str:
    """One line per argument of timm's script."""
    lines = [f"| `--{name.replace('_', '-')}` | {said(value)} |" for name, value in DEFAULTS.items()]
    return "\n".join(["| argument | default |", "|---|---|", *lines])


def said(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(f"{x:.3g}" for x in value)
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def with_tables(page: str) -> str:
    """The page with both tables between their marks."""
    for name, table in (("results", results()), ("defaults", defaults())):
        before, _, rest = page.partition(f"<!-- {name} -->")
        page = f"{before}<!-- {name} -->\n{table}\n<!-- /{name} -->{rest.partition(f'<!-- /{name} -->')[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
