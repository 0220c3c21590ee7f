"""The GPU's column beside the CPU's: its ceilings, and every study that times float networks, on an NVIDIA GPU.

At batch 8, as in ShuffleNet V2's paper, and at batch 1, where a GPU waits for memory and has too little to do. About
nine minutes; the ledger is written after each study, because a lent machine may go back any minute.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.ledger import record
from swiftlet.runtime.ceilings import ceilings
from swiftlet.study.bench import Bench
from swiftlet.study.run import run_study

FIGURES = Path(__file__).parent.parent / "docs" / "studies" / "gpu"
RUNTIME = "torch-cuda-graph"
SECONDS = 0.05  # for each case
SHORT = ("g1", "g2", "g3", "g4", "gemm", "activations", "kernels", "fused")
LONG = ("staircase", "separable", "multipliers", "macs-vs-ms")
RUNS = [(batch, name) for names in (SHORT, LONG) for batch in (8, 1) for name in names][:-2]  # what fits the time
DRAWN = 8  # the batch whose figures are kept
ON_CPU = {"gemm"}  # it draws what PyTorch does on the CPU beside the convolutions


def run() -> None:
    FIGURES.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    figures = {"gpu": torch.cuda.get_device_name(), "ceilings": ceilings(gpu=True).to_json(), "studies": found}
    for batch, name in RUNS:
        start = time.monotonic()
        bench = Bench(runtimes=(RUNTIME,), batch=batch, seconds=SECONDS)
        command = f"swiftlet study {name} --runtime {RUNTIME} --batch {batch} --seconds {SECONDS:g}"
        with tempfile.TemporaryDirectory() as folder:
            finding, paths = run_study(name, bench, Path(folder), command)
            if batch == DRAWN and name not in ON_CPU:
                shutil.copy(paths["png"], FIGURES / f"{name}.png")
        minutes = round((time.monotonic() - start) / 60, 2)
        verdict = {"verdict": finding.verdict, "sentence": finding.sentence, "minutes": minutes}
        found.setdefault(name, {})[f"batch {batch}"] = verdict
        print(f"batch {batch}, {name}: {finding.verdict}: {finding.sentence}", flush=True)
        record("gpu", "python -m benchmarks gpu", figures)
