"""How long planning takes: forty candidates for photos of 160 pixels, no limit that would save timing any of them."""

import statistics

from benchmarks.ledger import record
from swiftlet.budget import Budget
from swiftlet.candidates import candidates_for
from swiftlet.plan import make_plan
from swiftlet.recipes import get_recipe


def run() -> None:
    budget = Budget(latency_ms=1000, runtime="onnxruntime")
    candidates = candidates_for(160)
    seconds = []
    for _ in range(3):
        made = make_plan(candidates, budget, num_classes=10, photos=3000, recipe=get_recipe("photos"), minutes=10)
        seconds.append(made.seconds)
    figures = {
        "candidates": len(candidates),
        "seconds_median": round(statistics.median(seconds), 1),
        "seconds": seconds,
    }
    record("plan", "python -m benchmarks plan", figures)
