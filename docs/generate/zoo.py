"""docs/zoo.md, one line per variant, and docs/published.md, where a printed count and ours differ."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from docs.generate.families import millions, percent
from swiftlet.catalogue import Row, catalogue, described
from swiftlet.zoo import card, list_models

DOCS = Path(__file__).parent.parent
LEDGER = DOCS.parent / "benchmarks" / "results" / "zoo.json"


def zoo_page() -> str:
    """Counts from the code, accuracies as printed, milliseconds from the ledger."""
    ledger = json.loads(LEDGER.read_text())
    timed = {_key(t["network"], t["arguments"], t["side"]): t for t in ledger["figures"]["variants"]}
    rows = sorted(catalogue(), key=lambda row: (card(row.network).family, row.network))
    lines = [
        "# The zoo",
        "",
        f"{len(list_models())} networks, {len(rows)} published variants. By `python -m docs.generate`: parameters, "
        "multiply-adds and memory access are counted from the code for one picture "
        "([the rule](numbers.md)); top-1 is what the source prints for ImageNet, or for the set it names, with its own "
        "recipe: nothing here was trained by us. Milliseconds are ours: the exported file, random weights, batch 1, "
        f"one thread of ONNX Runtime on {ledger['machine'].partition(';')[0]} (`{ledger['command']}`, "
        f"{ledger['date']}); ~ marks wide intervals. int8 is not always faster: compare the two columns. "
        "A network without *safe* has h-swish, swish or SE, which plain int8 is known to wreck; "
        "most of those have a twin with `int8_safe=true`.",
        "",
        "`swiftlet list --sort macs`, `--under 2MB`, `--fits 5ms` give the same on your machine. "
        "[What each family is for](families/README.md), with pictures; "
        "[where the prints and the counts differ](published.md).",
        "",
        "| network | side | params, M | MACs, M | memory, MB | top-1, % | printed in | float32, ms | int8, ms | int8 |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|---|",
        *(_line(row, timed.get(_key(row.network, row.arguments, row.side))) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _line(row: Row, timed: dict[str, Any] | None) -> str:
    noisy = "" if timed is None or timed["stable"] else "~"
    cells = (
        f"[{row.network}](families/{card(row.network).family}.md) {described(row.arguments)}".strip(),
        str(row.side),
        millions(row.cost.params or 0),
        millions(row.cost.macs or 0),
        f"{(row.cost.memory_access_bytes or 0) / 1e6:.1f}",
        "" if row.top1 is None else percent(row.top1),
        row.source,
        *(("", "") if timed is None else (f"{noisy}{timed['ms'][p]:g}" for p in ("float32", "int8"))),
        "safe" if row.int8_safe else "",
    )
    return f"| {' | '.join(cells)} |"


def _key(network: str, arguments: dict[str, Any], side: int) -> str:
    return json.dumps([network, arguments, side], sort_keys=True)


def published_page() -> str:
    """The exceptions of published.csv for networks of the zoo; tests/test_published.py proves all its other rows."""
    rows = list(csv.DictReader((DOCS / "published.csv").read_text().splitlines()))
    ours = [row for row in rows if row["network"]]
    differ = [row for row in ours if row["exception"]]
    lines = [
        "# Where the prints and the counts differ",
        "",
        f"[published.csv](published.csv) holds {len(rows)} printed figures of parameters and multiply-adds. "
        f"{len(ours)} are of networks in the zoo; a test recounts them, and {len(ours) - len(differ)} come out to the "
        f"printed precision, rounded or cut off. The other {len(differ)}:",
        "",
        "| printed as | side | params, M | MACs, M | in | why ours differs |",
        "|---|--:|--:|--:|---|---|",
        *(
            f"| {row['model']} {row['variant']} | {row['side']} | {row['params_millions']} | {row['macs_millions']} "
            f"| {row['source']} | {row['exception']} |"
            for row in differ
        ),
        "",
        f"The remaining {len(rows) - len(ours)} are of other networks, or have a detection or segmentation head; the "
        "file says which.",
    ]
    return "\n".join(lines) + "\n"
