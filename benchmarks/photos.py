"""Ten minutes from scratch on two sets of real photos, within 3 ms and 1000 KB. Needs SWIFTLET_DATA."""

import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.demo import figures_of
from benchmarks.ledger import record
from swiftlet.budget import Budget
from swiftlet.fitting import fit

BUDGET = Budget(latency_ms=3, size_bytes=1_000_000, runtime="onnxruntime")


def run() -> None:
    data = Path(os.environ["SWIFTLET_DATA"])
    figures = {}
    for name in ("clothing10", "imagenette160"):
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = figures_of(asdict(fit(data / name, BUDGET, minutes=10, out=Path(folder) / "run")))
    record("photos", "python -m benchmarks photos", figures)
