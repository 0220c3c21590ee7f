"""Studies, one after the other: verdicts for the ledger, figures for docs/studies. Needs SWIFTLET_DATA.

python -m benchmarks studies                             all of them
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
from swiftlet.runtime.machine import machine
from swiftlet.study import STUDIES
from swiftlet.study.bench import Bench, default_runtimes
from swiftlet.study.run import run_study

FIGURES = Path(__file__).parent.parent / "docs" / "studies"
KEPT = Path("runs") / "studies"
SECONDS = 0.1  # for each case on each runtime
PICTURES = {"deep-compression": "mnist/mnist.npz", "linear-bottleneck": "fashion_mnist/fashion_mnist.npz"}


def run(names: Sequence[str] = tuple(STUDIES)) -> None:
    ledger = RESULTS / "studies.json"
    figures = json.loads(ledger.read_text())["figures"] if ledger.exists() else {}
    for name in names:
        file = PICTURES.get(name)
        data = Path(os.environ["SWIFTLET_DATA"]) / file if file else None
        asked = f"--data {Path(file).name}" if file else f"--seconds {SECONDS:g}"
        start = time.monotonic()
        bench = Bench(runtimes=default_runtimes(), seconds=SECONDS)
        finding, paths = run_study(name, bench, KEPT, f"swiftlet study {name} {asked}", data)
        (FIGURES / paths["png"].name).write_bytes(paths["png"].read_bytes())
        figures[name] = {
            "verdict": finding.verdict,
            "sentence": finding.sentence,
            "minutes": round((time.monotonic() - start) / 60, 1),
            "machine": str(machine()),
            "date": date.today().isoformat(),
        }
        record("studies", "python -m benchmarks studies", figures)


if __name__ == "__main__":
    run(sys.argv[1:])
