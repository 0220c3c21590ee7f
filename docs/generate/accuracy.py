"""The tables of docs/accuracy.md, from the ledger of benchmarks/accuracy.py."""

import json
from typing import Any

from docs.generate.zoo import DOCS

LEDGER = DOCS.parent / "benchmarks" / "results" / "accuracy.json"
TITLES = {"mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10, JPEG copy"}
BEGIN, END = "<!-- accuracy -->", "<!-- /accuracy -->"


def with_accuracies(page: str) -> str:
    """The page with the tables of the last runs between its marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{accuracies()}\n{END}{rest.partition(END)[2]}"


def accuracies() -> str:
    """Markdown: a table per set, one line per network."""
    ledger = json.loads(LEDGER.read_text())
    tables = [table(TITLES[task], rows) for task, rows in ledger["figures"].items()]
    return "\n\n".join([*tables, f"{ledger['machine'].partition(';')[0]}; `{ledger['command']}`, {ledger['date']}."])


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"| {title} | test accuracy, int8, mean | each seed (95 % interval) | float32 "
        "| KB | download, KB | MACs | epochs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        runs, mean = row["runs"], row["mean_accuracy_percent"]
        kb = max(run["bytes"] for run in runs) / 1000
        packed = [run["packed_bytes"] for run in runs if "packed_bytes" in run]
        download = f"{max(packed) / 1000:.1f}" if len(packed) == len(runs) else ""
        seeds = ", ".join(
            f"{run['accuracy_percent']['int8']} ({run['interval_percent'][0]} to {run['interval_percent'][1]})"
            for run in runs
        )
        shown = f"{name}{' (anchor)' if row['anchor'] else ''}"
        lines.append(
            f"| {shown} | **{mean['int8']} %** | {seeds} | {mean['float32']} % | {kb:.1f} | {download} | "
            f"{runs[0]['macs'] / 1e6:.2f} M | {row['epochs']:g} |"
        )
    return "\n".join(lines)
