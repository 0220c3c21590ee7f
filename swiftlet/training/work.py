"""The training of one network: how it is computed is found out once, and it goes on where it was stopped."""

import copy
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, Split
from swiftlet.data.read_ahead import Pixels, ReadAhead, in_batches, pixels_of
from swiftlet.progress import Progress
from swiftlet.run import Run
from swiftlet.signals import Terminated, interruptible, stoppable
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distributed import Ranks
from swiftlet.train.draws import shuffled
from swiftlet.train.engine import Engine
from swiftlet.train.fastest import fastest
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.memory import pieces
from swiftlet.train.metrics import Metrics
from swiftlet.training.delivery import deliver
from swiftlet.training.job import Job
from swiftlet.training.result import Trained
from swiftlet.zoo.weights.facts import facts_of

EVALUATIONS = 50  # of a run, at most; otherwise one an epoch
LONG, LONG_MINUTES = 2000, 5.0  # steps or minutes from which it pays to find out how a step is computed fastest
PROBE = 6  # steps that are timed to see how many a number of minutes holds
AHEAD = 2  # batches that are read before they are needed, where memory does not hold the pictures
SPENT = 0.9  # share of these minutes that goes to steps; the rest to photos, evaluations and the file


@dataclass(frozen=True, kw_only=True)
class Way:
    """How it is computed: found out once, kept in the run."""

    steps: int
    engine: Engine
    accumulate: int

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Way":
        return cls(**data | {"engine": Engine(**data["engine"])})


@dataclass
class Work:
    """A run that is not finished."""

    job: Job
    data: Photos
    ranks: Ranks
    folder: Path
    run: Run | None  # rank 0 has it
    progress: Progress
    readers: ExitStack  # closes what reads pictures

    def do(self) -> Trained:
        job, data = self.job, self.data
        classes = len(data.classes)
        model = job.build(classes, trained=True)
        started_from = facts_of(model)
        pixels = self._pixels(data.train, canvas(job.contract, data.audit.median_short_side), quick=True)
        validation = self._pixels(data.val, job.contract)
        pictures = Pictures(cast(Pixels, pixels), data.train.labels)  # the loop asks for its shape and for rows
        self.ranks.check_same({"weights": started_from})
        way = Way.from_json(self._stage("way", lambda: asdict(self._way(model, pictures))))
        training = self._training(model, pictures, way)
        self._train(training, way.engine.place(job.build(classes, trained=False)), validation)
        state = training.delivered()  # by all ranks, for sync-BN
        plain = job.build(classes, trained=False)
        plain.load_state_dict(state)
        result = self._deliver(plain, training, validation, started_from) if self.run else None
        self.ranks.wait()
        return Trained.from_json(self.ranks.told(result))

    def _deliver(
        self, model: nn.Module, training: Training, validation: Pixels | ReadAhead, started_from: dict[str, str]
    ) -> dict[str, Any]:
        run = self.run
        assert run is not None
        self.progress("writing and checking the files", 0, 0)
        pixels = cast(Pixels, validation)  # a file asks for slices
        return run.once(
            "result", lambda: asdict(deliver(model, self.job, self.data, training, pixels, run, started_from))
        )

    def _stage(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A stage that takes all ranks to compute, and that rank 0 keeps."""
        stored: dict[str, Any] | None = self.ranks.told(self.run and self.run.stored(name))
        if stored is None:
            computed = compute()
            stored = self.ranks.told(self.run and self.run.once(name, lambda: computed))
        return stored

    def _training(self, model: nn.Module, pictures: Pictures, way: Way) -> Training:
        job = self.job
        return Training(
            model,
            pictures,
            job.contract,
            job.recipe,
            steps=way.steps,
            seed=job.seed,
            ranks=self.ranks,
            accumulate=way.accumulate,
            engine=way.engine,
        )

    def _way(self, model: nn.Module, pictures: Pictures) -> Way:
        """The steps that there are in the recipe's epochs, or in the minutes by the time that one takes here."""
        job, n = self.job, len(pictures.labels)
        batch = min(job.recipe.batch, n)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        way = Way(steps=PROBE, engine=Engine(device=device, bfloat16=device == "cuda"), accumulate=job.accumulate or 1)
        if job.minutes is None:
            way = replace(way, steps=max(1, round((job.recipe.epochs or 0) * (n // batch))))
        part = replace(job.recipe, batch=max(2, batch // self.ranks.world))
        if way.steps >= LONG or (job.minutes or 0.0) >= LONG_MINUTES:
            self.progress("timing ways to compute a step", 0, 0)
            found = self.run and fastest(model, part, job.contract.side, device=device, steps=way.steps)
            self.ranks.wait()
            way = replace(way, engine=self.ranks.told(found))
        if job.accumulate is None:
            needed = pieces(model, part, job.contract.side, way.engine)
            way = replace(way, accumulate=self.ranks.largest(needed))
        if job.minutes is None:
            return way
        self.progress("timing training steps", 0, 0)
        marks: list[float] = []
        probe = self._training(copy.deepcopy(model), pictures, way)
        probe.run(progress=lambda *_: marks.append(time.perf_counter()))
        return replace(way, steps=max(1, int(SPENT * job.minutes * 60 / float(np.median(np.diff(marks))))))

    def _train(self, training: Training, evaluated: nn.Module, validation: Pixels | ReadAhead) -> None:
        """To the end, or to a signal: then all is saved, and every rank raises what the one that heard it does."""
        labels, recipe = self.data.val.labels, training.recipe
        part = self.ranks.part(len(labels))
        every = training.per_epoch * max(1, round(training.steps / training.per_epoch / EVALUATIONS))
        size = min(recipe.batch, len(self.data.train))
        metrics = Metrics(self.folder / "metrics.jsonl") if self.run else None
        checkpoints = Checkpoints(self.folder / "checkpoints") if self.run else None
        right, began, first = None, time.monotonic(), None

        def show(step: int, steps: int, loss: float) -> None:
            nonlocal right, first
            self._expect(training)
            if step % every == 0 or step == steps:
                found = self.ranks.share((training.averaged(), {}))  # BatchNorm's statistics are rank 0's
                assert found is not None
                evaluated.load_state_dict(found[0])
                ours = 0
                for piece, images in in_batches(validation, part):
                    share = accuracy(evaluated, images, labels[piece], training.contract)
                    ours += round(share * len(images))
                right = self.ranks.mean(ours) * self.ranks.world / len(labels)
                if metrics is not None:
                    metrics.write({"step": step, "validation_accuracy": right})
            if first is None:
                first = step - 1
            speed = (step - first) * size / (time.monotonic() - began)
            so_far = "" if right is None else f", {100 * right:.1f} % right"
            epoch = f"epoch {step / training.per_epoch:.1f} of {steps / training.per_epoch:.1f}"
            self.progress(
                f"training {self.job.network}, {epoch}, loss {loss:.2f}{so_far}, {speed:,.0f} pictures/s", step, steps
            )
            if self.run is not None:
                self.run.tick()

        with stoppable() as terminated, interruptible() as interrupted:
            stop = lambda: terminated() or interrupted()  # noqa: E731
            if not training.run(checkpoints=checkpoints, metrics=metrics, should_stop=stop, progress=show):
                raise Terminated if self.ranks.mean(terminated()) > 0 else KeyboardInterrupt

    def _pixels(self, split: Split, contract: InputContract, *, quick: bool = False) -> Pixels | ReadAhead:
        pixels = pixels_of(split, contract, quick=quick, progress=self.progress)
        if isinstance(pixels, ReadAhead):
            self.readers.callback(pixels.close)
        return pixels

    def _expect(self, training: Training) -> None:
        """Have the pictures of the next steps read while this one is computed, where memory does not hold them."""
        pixels = cast(Pixels | ReadAhead, training.pictures.pixels)
        if isinstance(pixels, ReadAhead):
            size = min(training.recipe.batch, len(pixels))
            rows = []
            for step in range(training.step, min(training.step + AHEAD, training.steps)):
                epoch, place = divmod(step, training.per_epoch)  # as Training orders them
                order = shuffled(np.arange(place * size, (place + 1) * size), len(pixels), training.seed, epoch)
                rows.append(order[self.ranks.part(size)])
            pixels.expect(np.concatenate([np.empty(0, np.int64), *rows]))
