"""Every study, one after the other: verdicts for the ledger, figures for docs/studies. Needs SWIFTLET_DATA."""

import os
import time
from pathlib import Path

from benchmarks.ledger import record
from swiftlet.study import STUDIES
from swiftlet.study.bench import Bench, default_runtimes
from swiftlet.study.run import run_study

FIGURES = Path(__file__).parent.parent / "docs" / "studies"
SECONDS = 0.1  # for each case on each runtime


def run() -> None:
    figures = {}
    mnist = Path(os.environ["SWIFTLET_DATA"]) / "mnist" / "mnist.npz"
    for name in STUDIES:
        data = mnist if name == "deep-compression" else None
        start = time.monotonic()
        bench = Bench(runtimes=default_runtimes(), seconds=SECONDS)
        finding, paths = run_study(name, bench, FIGURES, f"swiftlet study {name} --seconds {SECONDS:g}", data)
        paths["json"].unlink()  # the page holds the same tables
        paths["html"].unlink()
        minutes = round((time.monotonic() - start) / 60, 1)
        figures[name] = {"verdict": finding.verdict, "sentence": finding.sentence, "minutes": minutes}
        print(f"{name}: {finding.verdict}: {finding.sentence}", flush=True)
    record("studies", "python -m benchmarks studies", figures)
