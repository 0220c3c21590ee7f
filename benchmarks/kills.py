"""A small training killed with SIGKILL at random moments of every phase, and gone on with, until it ends: is anything
lost? And what a checkpoint costs."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.files import write_json
from swiftlet.run import Run
from swiftlet.train import loop, metrics
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.metrics import Metrics
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

STEPS = 40
PHASES = ("load", "step", "save", "rename", "log", "evaluate")
KILLS = 200


def training(*, width: float = 0.1, steps: int = STEPS) -> Training:
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (50, 20, 20, 3), np.uint8), rng.integers(0, 4, 50))
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", width=width, num_classes=4, stem_stride=1, dropout=0.2)
    return Training(model, pictures, InputContract(side=16), Recipe(name="kills", batch=8), steps=steps, seed=0)


def work(folder: Path, phases: Connection | None) -> None:
    """What is killed, in a run folder: a training with its log, an evaluation, and the digests of what came out.

    The name of every phase that it enters goes down the pipe, ahead of the call.
    """
    tell = phases.send_bytes if phases else lambda _: None
    for owner, name, phase in (
        (Training, "advance", "step"), (Checkpoints, "save", "save"), (os, "rename", "rename"),
        (metrics, "_append", "log"), (Checkpoints, "latest", "load"),
    ):  # fmt: skip
        setattr(owner, name, _told(getattr(owner, name), phase.encode(), tell))
    loop.SAVE_SECONDS, loop.SAVE_SHARE = 0.02, float("inf")
    with Run(folder):
        t, log = training(), Metrics(folder / "log.jsonl", every=3)
        t.run(checkpoints=Checkpoints(folder / "run"), metrics=log)
        tell(b"evaluate")
        t.model.load_state_dict(t.averaged())
        small = t.pictures.pixels[:, 2:18, 2:18]
        log.write({"step": t.step, "accuracy": accuracy(t.model, small, t.pictures.labels, t.contract)})
        tensors, _ = t.state()
        digests = {name: _digest(tensor.contiguous().numpy().tobytes()) for name, tensor in tensors.items()}
        write_json(folder / "result.json", {"tensors": digests, "log": _digest(log.path.read_bytes())})


def _told(call: Callable[..., Any], phase: bytes, tell: Callable[[bytes], object]) -> Callable[..., Any]:
    def telling(*args: Any, **kwargs: Any) -> Any:
        tell(phase)
        return call(*args, **kwargs)

    return telling


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Outcome:
    kills: Counter[str] = field(default_factory=Counter)  # by the phase that was hit
    ends: int = 0  # trainings that came to their end
    mismatches: int = 0  # of those, with another result than the undisturbed one
    manual_steps: int = 0  # restarts that failed, so that somebody would have had to do something
    leftovers: int = 0  # half-written things that were there at an end


def kill_and_resume(kills: int, folder: Path, *, seed: int = 0) -> Outcome:
    """Kill `kills` times, over as many trainings as that takes; the last one is brought to its end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # imported once; torch's optimizers want the latter
    rng = random.Random(seed)
    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    undisturbed.mkdir()
    lone = context.Process(target=work, args=(undisturbed, None))
    lone.start()
    lone.join()
    expected = json.loads((undisturbed / "result.json").read_text())
    outcome, tries = Outcome(), 0
    while outcome.kills.total() < kills or disturbed.exists():
        disturbed.mkdir(exist_ok=True)
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=work, args=(disturbed, there))
        child.start()
        there.close()
        tries += 1
        phase = PHASES[tries % len(PHASES)] if outcome.kills.total() < kills else "never"
        hit = _kill(child, here, phase, entry=rng.randint(1, 8), delay=rng.random() ** 3 * 0.02)
        child.join()
        if child.exitcode == -signal.SIGKILL:
            outcome.kills[hit] += 1
        elif child.exitcode == 0:
            outcome.ends += 1
            outcome.mismatches += json.loads((disturbed / "result.json").read_text()) != expected
            outcome.leftovers += len(list(disturbed.rglob("*tmp*")))
            shutil.rmtree(disturbed)
        else:
            outcome.manual_steps += 1
            shutil.rmtree(disturbed)
    return outcome


def _kill(child: BaseProcess, phases: Connection, phase: str, *, entry: int, delay: float) -> str:
    """SIGKILL `delay` seconds after the process enters the phase for the entry-th time (load and evaluate: the first);
    not at all if it ends before. Gives the phase that it was in when it ended."""
    left = 1 if phase in ("load", "evaluate") else entry
    last = "load"
    while True:
        try:
            last = phases.recv_bytes().decode()
        except EOFError:
            return last
        left -= last == phase
        if left == 0:
            time.sleep(delay)
            child.kill()


def save_cost(width: float) -> dict[str, float]:
    """Of the network at a width: kilobytes of a checkpoint, median ms of a save, and the most that saving can take of
    the time at the default interval, in percent."""
    t = training(width=width, steps=4)
    t.run()
    seconds = []
    with TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "run")
        for step in range(20):
            began = time.perf_counter()
            tensors, facts = t.state()
            path = checkpoints.save(step, tensors, facts)
            seconds.append(time.perf_counter() - began)
        size = sum(file.stat().st_size for file in path.iterdir())
    median = statistics.median(seconds)
    interval = max(loop.SAVE_SECONDS, median / loop.SAVE_SHARE)
    return {"kB": round(size / 1000, 1), "ms": round(1000 * median, 2), "percent": round(100 * median / interval, 3)}


def run() -> None:
    with TemporaryDirectory() as folder:
        outcome = kill_and_resume(KILLS, Path(folder))
    figures = {
        "kills": outcome.kills.total(),
        "by_phase": dict(sorted(outcome.kills.items())),
        "ends": outcome.ends,
        "mismatches": outcome.mismatches,
        "manual_steps": outcome.manual_steps,
        "leftovers": outcome.leftovers,
        "save": {f"mobilenet_v1 {width:g}": save_cost(width) for width in (0.0625, 0.25, 1.0)},
    }
    record("kills", "python -m benchmarks kills", figures)
