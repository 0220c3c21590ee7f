"""clothing10 from scratch: accuracy against minutes of two CPU cores, ours beside timm's training script. Three hours.

    python -m benchmarks.minutes                                 5, 20 and 60 minutes, swiftlet and timm
    python -m benchmarks.minutes 5 20                            these minutes
    python -m benchmarks.minutes 5 --who mobilenetv2_050-96px    another network that timm has, at this side

Ours is what a user with N minutes runs: `fit` within 3 ms and 1000 KB, which plans, tries networks, shrinks one and
measures its file; all that is inside of its minutes. `timm` is the very network and side that `fit` delivered at these
minutes, trained by timm's script with its defaults (benchmarks/minutes_timm.py), so that only the training differs. It
need not look for a network, nor for how many epochs its minutes hold: the epochs that tell it are not counted. The
other rows are networks that a timm user might take instead. All are scored on the same sealed test photos, ours as the
file that is delivered, timm's in PyTorch with timm's evaluation transform. One seed each.

Needs SWIFTLET_DATA, and a machine on which nothing else runs. What is finished lies in OUT, and is shown, not made
again; Ctrl-C ends timm's row, which then starts anew, and saves ours. Every run adds to the ledger;
`python -m benchmarks.minutes_table` then brings docs/minutes.md up to date.
"""

import argparse
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.demo import figures_of
from benchmarks.ledger import RESULTS, record
from benchmarks.photos import BUDGET
from swiftlet._version import __version__
from swiftlet.check import wilson
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput
from swiftlet.files import write_json
from swiftlet.fitting import fit
from swiftlet.plan import Plan
from swiftlet.progress import bars
from swiftlet.run import Run
from swiftlet.runtime.machine import machine

PHOTOS = "clothing10"
MINUTES = (5.0, 20.0, 60.0)
THREADS = 2
OURS, SAME = "swiftlet", "timm"
OTHERS = {
    "mobilenetv2_050-96px": ("mobilenetv2_050", 96),
    "mobilenetv3_small_100-128px": ("mobilenetv3_small_100", 128),
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of the table: who trains, and for how long."""

    minutes: float
    who: str
    out: Path

    @property
    def folder(self) -> Path:
        return self.out / f"{self.minutes:g}" / self.who

    @property
    def result(self) -> Path:
        return self.folder.with_suffix(".json")


def run() -> None:
    """Ours and timm's at all minutes, into the ledger."""
    main([])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.minutes", description=__doc__.partition("\n")[0])
    parser.add_argument("minutes", nargs="*", type=float, default=MINUTES, help=f"default {MINUTES}")
    parser.add_argument("--who", nargs="+", choices=[OURS, SAME, *OTHERS], default=[OURS, SAME])
    parser.add_argument("--out", type=Path, default=Path("runs") / "minutes")
    given = parser.parse_args(arguments)
    for minutes in given.minutes:
        for who in given.who:
            add(Cell(minutes=minutes, who=who, out=given.out), finish(Cell(minutes=minutes, who=who, out=given.out)))


def add(cell: Cell, figures: dict[str, Any]) -> None:
    """To what is in the ledger from other rows, and other days."""
    ledger = RESULTS / "minutes.json"
    known = json.loads(ledger.read_text())["figures"] if ledger.exists() else {}
    rows = known.get(f"{cell.minutes:g}", {}) | {cell.who: figures}
    record("minutes", "python -m benchmarks minutes", known | {f"{cell.minutes:g}": rows})


def finish(cell: Cell) -> dict[str, Any]:
    """Its figures, from its file if it is finished; otherwise it is trained first, in a process of its own."""
    if cell.who == SAME:
        finish(replace(cell, who=OURS))  # which says what network that is
    if not cell.result.exists():
        compute = ours if cell.who == OURS else theirs
        figures = apart(compute, cell) | {"date": date.today().isoformat(), "swiftlet": __version__}
        write_json(cell.result, figures)
    found: dict[str, Any] = json.loads(cell.result.read_text())
    return found


def apart(compute: Callable[[Cell], dict[str, Any]], cell: Cell) -> dict[str, Any]:
    """In a fresh process, so that no row inherits what another one loaded or set."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), as_a_user_would, (THREADS,)) as pool:
        return pool.submit(compute, cell).result()


def as_a_user_would(threads: int) -> None:
    """A spawned process spawns its own in turn, by default; then each worker of a loader would import PyTorch anew."""
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(threads)


def data() -> Path:
    return Path(os.environ["SWIFTLET_DATA"]) / PHOTOS


def ours(cell: Cell) -> dict[str, Any]:
    with bars() as progress:
        result = fit(data(), BUDGET, minutes=cell.minutes, out=cell.folder, progress=progress)
    if result.interrupted:
        raise KeyboardInterrupt  # its test photos are still sealed, and the same command goes on
    if result.weights:
        raise BadInput(f"minutes: fit started from {result.weights['source']}, not from scratch; empty the hub's cache")
    found = figures_of(asdict(result)) | {"recipe": result.recipe.partition(":")[0], "machine": result.machine}
    return found | {"macs": result.cost.macs}


def theirs(cell: Cell) -> dict[str, Any]:
    from benchmarks import minutes_timm as script

    cell.folder.mkdir(parents=True, exist_ok=True)
    build, network, side = network_of(cell)
    trial, checkpoints = cell.folder / "trial", cell.folder / "checkpoints"
    for folder in (trial, checkpoints):  # of a row that was cut short
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    with bars() as progress:
        progress("timing epochs of timm's script", 0, 0)
        epochs = script.epochs_for(cell.minutes, build, data(), side, trial)
        trained = script.train(build, data(), side, epochs, checkpoints, progress)
    right, n = script.score(trained.model, script.loader(trained.model, data(), "test", side))
    counted = count_model(trained.model, (3, side, side)).cost
    return {
        "network": network,
        "precision": "float32",
        "accuracy_percent": round(100 * right / n, 2),
        "interval_percent": [round(100 * end, 1) for end in wilson(right, n)],
        "n": n,
        "kb": round(4 * (counted.params or 0) / 1000, 1),
        "macs": counted.macs,
        "epochs": epochs,
        "best_epoch": trained.best_epoch,
        "validation_percent": round(trained.validation_percent, 2),
        "seconds": round(sum(trained.seconds)),
        "machine": str(machine()),
    }


def network_of(cell: Cell) -> tuple[Callable[[], nn.Module], str, int]:
    """Of a row of timm's: what builds it untrained, its name, and its side."""
    from timm import create_model

    from benchmarks.minutes_timm import DEFAULTS

    classes = sum(folder.is_dir() for folder in (data() / "train").iterdir())
    if cell.who != SAME:
        name, side = OTHERS[cell.who]
        return partial(create_model, name, num_classes=classes, drop_rate=DEFAULTS["drop"]), cell.who, side
    fitted = replace(cell, who=OURS)
    delivered = finish(fitted)["network"]
    with Run(fitted.folder) as run:
        candidate = Plan.from_json(run.stored("plan")).find(delivered).candidate
    return partial(candidate.build, classes, DEFAULTS["seed"]), delivered, candidate.side


if __name__ == "__main__":
    main()
