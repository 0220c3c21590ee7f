"""Training steps of MobileNet V2, ours beside timm's, in turns.

Each contestant is a process of its own and makes a few steps when it is told to, so that all see the same disturbances
and none another's memory. timm's step is that of its train.py by default: float32, channels first, SGD with Nesterov's
momentum, label smoothing, the loss read after each step; and, to see where a difference comes from, channels-last, and
with AMP on a GPU. Its pictures lie ready, normalised. Ours is the whole step of a run: pictures picked and augmented,
averaged weights kept up, on the engine that `fastest` finds.
"""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.recipes import get_recipe
from swiftlet.runtime.measurement import compare
from swiftlet.train.fastest import fastest
from swiftlet.train.loop import Pictures, Training
from swiftlet.zoo import create_model

THREADS = 2
SIDES = (96, 224)
BATCH = {"cpu": 64, "cuda": 256}
STEPS = {"cpu": 2, "cuda": 30}  # in a round, after one that is not timed
ROUNDS = 15
CLASSES = 1000
TIMM: dict[str, dict[str, dict[str, bool]]] = {
    "cpu": {"timm": {}, "timm channels-last": {"channels_last": True}},
    "cuda": {"timm": {"channels_last": True, "amp": True}, "timm default": {}},
}


class Job(NamedTuple):
    """step() may leave work to the device; wait() ends with it; loader() makes a batch and nothing else."""

    step: Callable[[], object]
    facts: dict[str, Any]
    around: AbstractContextManager[None] = nullcontext()
    loader: Callable[[], object] | None = None


def their_job(side: int, batch: int, device: str, *, channels_last: bool = False, amp: bool = False) -> Job:
    import tests.torchvision_ops  # noqa: F401, I001  (first: timm imports torchvision)
    import timm
    from timm.loss import LabelSmoothingCrossEntropy  # type: ignore[attr-defined]
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model: Any = timm.create_model("mobilenetv2_100", num_classes=CLASSES)
    model = model.train().to(device, memory_format=layout)
    optimizer = create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=2e-5)
    loss_of = LabelSmoothingCrossEntropy(0.1)  # type: ignore[no-untyped-call]
    images = torch.randn(batch, 3, side, side, device=device).contiguous(memory_format=layout)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    scaler = torch.amp.GradScaler(device, enabled=amp)

    def step() -> float:
        with torch.autocast(device, dtype=torch.float16, enabled=amp):
            loss = loss_of(model(images), labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return float(loss.detach())

    return Job(step, {})


def our_job(side: int, batch: int, device: str) -> Job:
    rng, n, canvas = np.random.default_rng(0), 4 * batch, round(1.25 * side)  # the canvas of a run
    pictures = Pictures(rng.integers(0, 256, (n, canvas, canvas, 3), np.uint8), rng.integers(0, CLASSES, n))
    recipe = replace(get_recipe("photos"), batch=batch)
    model = create_model("mobilenet_v2", num_classes=CLASSES)
    engine = fastest(model, recipe, side, device=device)
    contract = InputContract(side=side)
    training = Training(model.train(), pictures, contract, recipe, steps=10**6, seed=0, engine=engine)
    return Job(training.advance, {"engine": str(engine)}, engine.running(), training.next_batch)


def contestant(pipe: Connection, name: str, side: int, batch: int, threads: int, device: str) -> None:
    """The process of one: says its facts, then the seconds of a step (and of the loader's part) whenever asked."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    job = our_job(side, batch, device) if name == "swiftlet" else their_job(side, batch, device, **TIMM[device][name])
    with job.around:
        job.step()
        pipe.send(job.facts)
        while pipe.recv():
            job.step()
            seconds = _seconds(job.step, STEPS[device], device)
            pipe.send((seconds, _seconds(job.loader, STEPS[device], device) if job.loader else 0.0))


def _seconds(work: Callable[[], object], times: int, device: str) -> float:
    wait: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait()
    return (time.perf_counter() - began) / times


def measure(
    side: int, device: str, *, batch: int | None = None, threads: int = THREADS, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Pictures per second of each, how many times as fast as each timm ours is, and the loader's share of our step."""
    batch = batch or BATCH[device]
    context = multiprocessing.get_context("spawn")
    names = ("swiftlet", *TIMM[device])
    ends = {name: context.Pipe() for name in names}
    for name, (_, theirs) in ends.items():
        context.Process(target=contestant, args=(theirs, name, side, batch, threads, device), daemon=True).start()
        theirs.close()  # so that the end of the process ends our waiting
    pipes = {name: ours for name, (ours, _) in ends.items()}
    facts = {name: pipe.recv() for name, pipe in pipes.items()}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, pipe in pipes.items():
            pipe.send(True)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    steps = {name: [step for step, _ in of] for name, of in times.items()}
    shares = [loader / step for step, loader in times["swiftlet"]]
    return {
        "side": side,
        "batch": batch,
        "device": device,
        "threads": threads,
        **facts["swiftlet"],
        "pictures_per_second": {name: round(batch / float(np.median(of)), 1) for name, of in steps.items()},
        "times_as_fast_as": {
            name: [round(x, 3) for x in compare(steps["swiftlet"], steps[name])] for name in TIMM[device]
        },
        "loader_share": round(float(np.median(shares)), 4),
    }


def run() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = "train_throughput" if device == "cpu" else "train_throughput_gpu"
    record(name, "python -m benchmarks train_throughput", {"rows": [measure(side, device) for side in SIDES]})
