"""What small networks reach on public sets, measured on the delivered int8 file. Hours; needs SWIFTLET_DATA.

    python -m benchmarks.accuracy mnist --try              each row, one seed, validation only: what rows are chosen by
    python -m benchmarks.accuracy mnist --rows resnet20-0.1875 --record
    python -m benchmarks accuracy                          all rows of all tasks, recorded

Protocol. Train and test are the publishers'; a validation split, 15/85 of it, is dealt from train, always the same.
Networks, recipes and epochs are chosen by validation accuracy alone: --try trains on the rest of train, and never opens
the test split. What is reported is then trained anew, with three seeds, on train and validation but for GATE pictures,
on which float32 and int8 are compared; the last weights count, no epoch is picked. The network is exported as float32
and int8, its test split opened once, for the int8 file, and both files are scored on it with ONNX Runtime. The figure
is the mean of the seeds; each has its 95 % interval, which is that of this test set, not of the training. Bytes are
those of the int8 file with its labels, contract and golden record, packed bytes those of its container. A row with bits
goes on from another row's network, with its weights rounded to so many; its figure is that of the container, which is
opened as a user would. Rows called anchors are trained by the same recipe, to be compared with. CIFAR-10 is a JPEG copy
(the data's README), on which published figures say nothing.

Ctrl-C and SIGTERM save; the same command goes on, and shows what is finished.
"""

import argparse
import json
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy_job import DELIVERED, Job, gated, rounded
from benchmarks.accuracy_tasks import TASKS, Row, Task
from benchmarks.ledger import RESULTS, record
from swiftlet._version import __version__
from swiftlet.budget import Cost
from swiftlet.check import load_classifier, score
from swiftlet.cost.count import count_model
from swiftlet.data.photos import Photos, load_photos
from swiftlet.data.split import Split
from swiftlet.export.onnx import graph_digest
from swiftlet.files import write_atomically
from swiftlet.pack.files import SUFFIX
from swiftlet.pack.onnx import pack_onnx
from swiftlet.progress import bars
from swiftlet.run import Run
from swiftlet.runtime.machine import machine
from swiftlet.signals import stoppable, terminable
from swiftlet.train.checkpoint import Checkpoints, save_checkpoint
from swiftlet.train.distill import Teacher
from swiftlet.train.engine import Engine
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.metrics import Metrics

GATE = 2_000
SEEDS = (0, 1, 2)


def run(tasks: Sequence[str] = tuple(TASKS)) -> None:
    """All rows of the tasks, three seeds each, into the ledger."""
    for name in tasks:
        main([name, "--record"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__.partition("\n")[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--try", dest="trial", action="store_true", help="seed 0, and no look at the test split")
    parser.add_argument("--rows", nargs="+", help="names of rows; default all")
    parser.add_argument("--seeds", nargs="+", type=int, help=f"default {SEEDS}")
    parser.add_argument("--epochs", type=float, help="instead of the rows' own")
    parser.add_argument("--out", type=Path, default=Path("runs") / "accuracy")
    parser.add_argument("--workers", type=int, default=1, help="processes that share the cores, or the GPU")
    parser.add_argument("--record", action="store_true", help="put the means into benchmarks/results/accuracy.json")
    given = parser.parse_args(arguments)
    if given.record and given.trial:
        parser.error("--try is to choose rows by; only what was tested is recorded")
    task = TASKS[given.task]
    if given.epochs is not None:
        task = replace(task, rows=tuple(replace(row, epochs=given.epochs) for row in task.rows))
    rows = [task.find(name) for name in given.rows] if given.rows else list(task.rows)
    seeds = given.seeds or (SEEDS[:1] if given.trial else SEEDS)
    jobs = [Job(task=task, row=row, seed=s, trial=given.trial, out=given.out) for row in rows for s in seeds]
    if given.workers > 1:
        finish_together(jobs, given.workers)
    figures: dict[str, Any] = {}
    for row in rows:
        runs = [finish(job) for job in jobs if job.row is row]
        figures[row.name] = summary(row, runs)
        print(json.dumps({f"{task.name} {row.name}": figures[row.name]}, indent=1), flush=True)
    if given.record:
        ledger = RESULTS / "accuracy.json"
        known = json.loads(ledger.read_text())["figures"] if ledger.exists() else {}
        before = known.get(task.name, {})
        for row in rows:
            figures[row.name] = with_other_seeds(row, figures[row.name]["runs"], before.get(row.name, {}))
        record("accuracy", "python -m benchmarks accuracy", known | {task.name: before | figures})


def with_other_seeds(row: Row, runs: list[dict[str, Any]], before: dict[str, Any]) -> dict[str, Any]:
    """The summary of these runs and of those that were recorded of the same row with other seeds, on another day."""
    new = summary(row, runs)
    if any(before.get(name) != new[name] for name in ("recipe", "epochs", "teacher", "bits")):
        return new
    seeds = {run["seed"] for run in runs}
    kept = [run for run in before["runs"] if run["seed"] not in seeds]
    return summary(row, sorted(kept + runs, key=lambda run: run["seed"]))


def summary(row: Row, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """What the tables quote of a row."""
    of = {precision: [r["accuracy_percent"][precision] for r in runs] for precision in ("float32", DELIVERED)}
    return {
        "recipe": row.recipe.name,
        "epochs": row.epochs,
        "teacher": row.teacher,
        "bits": row.bits,
        "anchor": row.anchor,
        "split": runs[0]["split"],
        "mean_accuracy_percent": {precision: round(statistics.mean(values), 2) for precision, values in of.items()},
        "runs": runs,
    }


def finish_together(jobs: Sequence[Job], workers: int) -> None:
    """Finish them in as many processes; those that teach others come first."""
    teachers = {job.teacher.folder: job.teacher for job in jobs if job.teacher}
    others = [job for job in jobs if job.folder not in teachers]
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool:
        for batch in (teachers.values(), others):
            list(pool.map(finish, batch))


def finish(job: Job) -> dict[str, Any]:
    """The figures of a job, which is trained first, or further, if it is not finished."""
    if job.teacher is not None:
        finish(job.teacher)
    photos = load(job.task)
    facts = {"photos": photos.audit.digest, "row": job.row.to_json(), "seed": job.seed, "trial": job.trial}
    with terminable(), Run(job.folder) as run, bars() as progress:
        run.claim(facts | {"swiftlet": __version__})

        def show(step: int, steps: int, loss: float) -> None:
            progress(f"training {job.name}, loss {loss:.2f}", step, steps)
            run.tick()

        learned, held_back = pictures_of(job, photos)
        run.once("trained", lambda: train(job, learned, show))
        progress(f"checking {job.name}", 0, 0)
        return run.once("result", lambda: measured(job, photos, learned, held_back, run.seconds))


@cache
def load(task: Task) -> Photos:
    return load_photos(Path(os.environ["SWIFTLET_DATA"]) / task.data)


def pictures_of(job: Job, photos: Photos) -> tuple[Pictures, Split]:
    """What is trained on, and the photos on which float32 and int8 are compared."""
    pixels, labels = photos.train.pixels(job.contract), photos.train.labels
    if job.trial:
        return Pictures(pixels, labels), photos.val
    order = np.random.default_rng(0).permutation(len(photos.val))
    more, held_back = photos.val.subset(order[GATE:]), photos.val.subset(order[:GATE])
    pixels = np.concatenate((pixels, more.pixels(job.contract)))
    return Pictures(pixels, np.concatenate((labels, more.labels))), held_back


def train(job: Job, learned: Pictures, show: Any) -> dict[str, Any]:
    """To the end, into JOB/trained.safetensors."""
    teacher = None if job.teacher is None else Teacher(job.teacher.trained(), job.contract)
    recipe = job.row.recipe
    steps = max(1, round(job.row.epochs * (len(learned.labels) // min(recipe.batch, len(learned.labels)))))
    engine = Engine(device="cuda" if torch.cuda.is_available() else "cpu")
    training = Training(
        job.start(learned), learned, job.contract, recipe, steps=steps, seed=job.seed, engine=engine, teacher=teacher
    )
    checkpoints, metrics = Checkpoints(job.folder / "checkpoints"), Metrics(job.folder / "metrics.jsonl")
    with stoppable() as asked:
        training.run(checkpoints=checkpoints, metrics=metrics, should_stop=asked, progress=show)
    state = {name: tensor.cpu() for name, tensor in training.delivered().items()}
    save_checkpoint(job.folder / "trained.safetensors", state, {"steps": steps})
    return {"steps": steps, "engine": str(engine)}


def measured(job: Job, photos: Photos, learned: Pictures, held_back: Split, seconds: float) -> dict[str, Any]:
    """The files, their accuracies on the test split (of a trial, on the validation photos), and what they cost."""
    files, p50_ms = (rounded if job.row.bits else gated)(job, photos, learned, held_back)
    packed = pack_onnx(files[DELIVERED])
    for precision, file in files.items():
        write_atomically(job.folder / f"{precision}.onnx", file)
    write_atomically(job.folder / f"{DELIVERED}{SUFFIX}", packed)
    split = held_back
    if not job.trial:
        split = photos.test.open(graph_digest(files[DELIVERED]), job.folder / "test-opened.json")
    pixels, paths = split.pixels(job.contract), {precision: job.folder / f"{precision}.onnx" for precision in files}
    if job.row.bits:
        paths[DELIVERED] = job.folder / f"{DELIVERED}{SUFFIX}"
    scored = {precision: score(load_classifier(path), split, pixels) for precision, path in paths.items()}
    counted = count_model(job.build(), (3, job.task.side, job.task.side)).cost
    bytes_ = len(files[DELIVERED])
    cost = Cost(params=counted.params, macs=counted.macs, size_bytes=bytes_, packed_bytes=len(packed))
    return {
        "seed": job.seed,
        "split": "validation" if job.trial else "test",
        "n": len(scored[DELIVERED].labels),
        "accuracy_percent": {precision: round(100 * s.accuracy, 2) for precision, s in scored.items()},
        "interval_percent": [round(100 * end, 2) for end in scored[DELIVERED].interval],
        "bytes": cost.size_bytes,
        "packed_bytes": cost.packed_bytes,
        "params": cost.params,
        "macs": cost.macs,
        "over": job.row.budget.over(cost),
        "p50_ms": {precision: round(ms, 4) for precision, ms in p50_ms.items()},
        "seconds": round(seconds),
        "machine": str(machine()),
    }


if __name__ == "__main__":
    main()
