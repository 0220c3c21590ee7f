"""make demo, three seeds: what the main job reaches on the built-in digits within two minutes, 100 KB and 0.5 ms."""

import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.ledger import record
from swiftlet.budget import Budget
from swiftlet.fitting import fit

BUDGET = Budget(latency_ms=0.5, size_bytes=100_000, runtime="onnxruntime")


def run() -> None:
    rows = []
    for seed in range(3):
        with tempfile.TemporaryDirectory() as folder:
            result = asdict(fit(None, BUDGET, minutes=2, out=Path(folder) / "run", seed=seed))
        rows.append(figures_of(result) | {"seed": seed})
    mean = statistics.mean(row["accuracy_percent"] for row in rows)
    record("demo", "python -m benchmarks demo", {"runs": rows, "mean_accuracy_percent": round(mean, 2), **rows[0]})


def figures_of(result: dict[str, Any]) -> dict[str, Any]:
    """What the tables quote of a result."""
    low, high = result["interval"]
    return {
        "network": result["network"],
        "precision": result["precision"],
        "accuracy_percent": round(100 * result["accuracy"], 2),
        "interval_percent": [round(100 * low, 1), round(100 * high, 1)],
        "drop_points": round(100 * (result["accuracy_float"] - result["accuracy"]), 2),
        "n": result["n"],
        "kb": round(result["size_bytes"] / 1000, 1),
        "p50_ms": round(result["p50_ms"], 3),
        "p90_ms": round(result["p90_ms"], 3),
        "seconds": round(result["seconds"]),
        "budget_met": result["budget_met"],
    }
