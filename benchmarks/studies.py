"""Studies, one after the other: verdicts for the ledger, figures for docs/studies. Needs SWIFTLET_DATA.

python -m benchmarks studies                             those that only time, about a quarter of an hour
python -m benchmarks.studies g1 linear-bottleneck        these; the others in the ledger stay
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from benchmarks.ledger import RESULTS, record
from benchmarks.shrink_start import cifar10
from swiftlet.runtime.machine import machine
from swiftlet.study import STUDIES
from swiftlet.study.bench import Bench, default_runtimes
from swiftlet.study.run import run_study, taken_by

FIGURES = Path(__file__).parent.parent / "docs" / "studies"
KEPT = Path("runs") / "studies"
SECONDS = 0.1  # for each case on each runtime
# what a study is shown, below SWIFTLET_DATA; the others that train: CIFAR-10 (JPEG q75)
PICTURES = {"deep-compression": "mnist/mnist.npz", "linear-bottleneck": "fashion_mnist/fashion_mnist.npz"}
MINUTES = {
    "linear-bottleneck": 20.0,
    "low-rank": 10.0,
    "thin-or-shallow": 20.0,
    "families": 20.0,
    "precision": 10.0,
    "compression-curve": 6.0,
}
USUAL = 12.0  # minutes of the others that train


def run(names: Sequence[str] = ()) -> None:
    ledger = RESULTS / "studies.json"
    figures = json.loads(ledger.read_text())["figures"] if ledger.exists() else {}
    for name in names or [name for name in STUDIES if "data" not in taken_by(name)]:
        takes = taken_by(name)
        data = pictures(name) if "data" in takes else None
        minutes = MINUTES.get(name, USUAL) if "lab" in takes else None
        asked = [f"--data {data.name}"] if data else []
        asked += [f"--minutes {minutes:g}"] if minutes else []
        asked += [f"--seconds {SECONDS:g}"] if "bench" in takes else []
        start = time.monotonic()
        bench = Bench(runtimes=default_runtimes(), seconds=SECONDS)
        finding, paths = run_study(name, bench, KEPT, " ".join(["swiftlet study", name, *asked]), data, minutes=minutes)
        (FIGURES / paths["png"].name).write_bytes(paths["png"].read_bytes())
        figures[name] = {
            "verdict": finding.verdict,
            "sentence": finding.sentence,
            "minutes": round((time.monotonic() - start) / 60, 1),
            "machine": str(machine()),
            "date": date.today().isoformat(),
        }
        record("studies", "python -m benchmarks.studies NAME", figures)


def pictures(name: str) -> Path:
    if name in PICTURES:
        return Path(os.environ["SWIFTLET_DATA"]) / PICTURES[name]
    KEPT.mkdir(parents=True, exist_ok=True)
    return cifar10(KEPT)


if __name__ == "__main__":
    run(sys.argv[1:])
