"""The table of results in README.md, made from the ledger; a test compares the two."""

import json
from typing import Any

from benchmarks.ledger import RESULTS

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def table() -> str:
    """Markdown: one line per set of photos, then the machine and the commands."""
    demo, photos = _entry("demo"), _entry("photos")
    lines = [
        "| photos | budget | file | accuracy on the sealed test photos | size | p50, one thread |",
        "|---|---|---|---|---|---|",
        _row("built-in digits", "0.5 ms, 100 KB, 2 minutes", demo["figures"]),
        _row("clothing10 (3,068 to train on)", "3 ms, 1000 KB, 10 minutes", photos["figures"]["clothing10"]),
        _row("imagenette160 (2,700 to train on)", "3 ms, 1000 KB, 10 minutes", photos["figures"]["imagenette160"]),
        "",
        f"{demo['machine'].partition(';')[0]}; `{demo['command']}` ({demo['date']}, first of three seeds, "
        f"mean {demo['figures']['mean_accuracy_percent']} %), `{photos['command']}` ({photos['date']}).",
    ]
    return "\n".join(lines)


def _entry(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / f"{name}.json").read_text()))


def _row(name: str, budget: str, f: dict[str, Any]) -> str:
    low, high = f["interval_percent"]
    accuracy = f"{f['accuracy_percent']} % (95 % {low} to {high}, n = {f['n']})"
    return f"| {name} | {budget} | {f['network']}, {f['precision']} | {accuracy} | {f['kb']} KB | {f['p50_ms']} ms |"


if __name__ == "__main__":
    from pathlib import Path

    readme = Path(__file__).parent.parent / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
