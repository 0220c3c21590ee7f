"""Milliseconds of every variant of the zoo, float32 and int8 in one race each, on one thread of ONNX Runtime.

The weights are random: they do not decide the time. docs/zoo.md shows these figures beside the counted costs.
"""

from typing import Any

from benchmarks.ledger import record
from swiftlet.catalogue import Row, build_row, catalogue, described
from swiftlet.data.contract import InputContract
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race

SECONDS = 1.0  # per variant


def run() -> None:
    figures = []
    for row in catalogue():
        figures.append(measure(row))
        print(f"{row.network} {described(row.arguments)} {row.side}: {figures[-1]['ms']}", flush=True)
    record("zoo", "python -m benchmarks zoo", {"seconds_per_variant": SECONDS, "variants": figures})


def measure(row: Row) -> dict[str, Any]:
    """p50 in ms and bytes in KB by precision, and whether either was too noisy to rank."""
    files = untrained_files(build_row(row), InputContract(side=row.side))
    contestants = [
        Contestant(precision, get_runtime("onnxruntime").load(file, 1), "onnxruntime", 1)
        for precision, file in files.items()
    ]
    timed = dict(zip(files, race(contestants, seconds=SECONDS), strict=True))
    return {
        "network": row.network,
        "arguments": row.arguments,
        "side": row.side,
        "ms": {precision: round(m.p50_ms, 3 if m.p50_ms < 10 else 2) for precision, m in timed.items()},
        "kb": {precision: round(len(file) / 1000, 1) for precision, file in files.items()},
        "stable": all(m.stable for m in timed.values()),
    }
