"""Train the arms of a study, every arm with every seed, for equally many steps, and tell by how much they differ.

An arm is a network with a recipe. Trials of one seed start from the same seed and see the same views of the same
pictures in the same order, so differences are taken seed by seed. Accuracies are of the validation photos, since
nothing is chosen by them; the test photos stay sealed.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from swiftlet._version import __version__
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, load_photos
from swiftlet.errors import BadInput
from swiftlet.run import Run
from swiftlet.study.finding import Cell, Table, Verdict, half_interval, judge
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe

RECIPE = Recipe(
    name="study", batch=64, lr=0.1, clip=1.0, label_smoothing=0.0, dropout=0.0, min_area=0.6, jitter=0.1, ema=0.02
)  # fmt: skip
PROBE = 6  # steps that are timed, the first of which says nothing
QUICK_STEPS, QUICK_PICTURES = 4, 256
Progress = Callable[[str, int, int], None]
Figures = dict[str, float]


class Lesson(NamedTuple):
    """The pictures of all trials, as files that every process maps."""

    folder: Path
    contract: InputContract
    classes: int

    def pictures(self, split: str) -> Pictures:
        """Of "train" or "val"."""
        pixels, labels = (np.load(self.folder / f"{split}-{what}.npy", mmap_mode="r") for what in ("pixels", "labels"))
        return Pictures(pixels, labels)


class Arm(NamedTuple):
    """What is compared. build(num_classes=N) gives a network with fresh weights; measure looks at the trained one for
    more figures. Both must be functions of a module, or partials of such, because other processes call them."""

    label: str  # also of the file that keeps its figures
    build: Callable[..., nn.Module]
    recipe: Recipe = RECIPE
    measure: Callable[[nn.Module, Lesson], Figures] | None = None


class Gain(NamedTuple):
    """A mean over the seeds with its 95 % interval by Student's t, in the unit of what was compared."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f} (95 % {self.low:+.2f} to {self.high:+.2f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """How a study trains. data: what `fit` takes; minutes: for all trials together; workers: processes of one thread
    each; folder: where trials are kept, so that a killed study goes on; quick: a few steps, to see that all works."""

    data: Path
    folder: Path
    minutes: float = 20.0
    seeds: int = 3
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    quick: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if not self.minutes > 0 or self.seeds < 2 or self.workers < 1:
            raise BadInput(
                f"study: minutes={self.minutes:g} must be above 0, seeds={self.seeds} 2 or more (one seed has no "
                f"interval), workers={self.workers} 1 or more"
            )

    def trials(self, arms: Sequence[Arm], *, side: int, steps: int | None = None) -> "Trials":
        """All arms with all seeds on pictures of `side`, for as many steps as fill the minutes, or for `steps`.

        Raises BadInput if two arms have one label, or if the folder holds trials of something else.
        """
        labels = [arm.label for arm in arms]
        if len(set(labels)) != len(labels):
            raise BadInput(f"two arms have one label: {sorted(labels)}")
        photos, contract = load_photos(self.data, progress=self.progress), InputContract(side=side)
        recipes = {arm.label: arm.recipe.to_json() for arm in arms}
        facts = {"photos": photos.audit.digest, "minutes": self.minutes, "side": side, "steps": steps}
        context = multiprocessing.get_context("spawn")
        with Run(self.folder) as run, TemporaryDirectory() as shared:
            run.claim(facts | {"recipes": recipes, "quick": self.quick, "swiftlet": __version__})
            lesson = Lesson(Path(shared), contract, len(photos.classes))
            pictures = self._share(photos, lesson)
            pool = ProcessPoolExecutor(self.workers, context, torch.set_num_threads, (1,))
            try:
                timed = run.once("steps", lambda: self._timed(pool, lesson, arms, steps))
                results = self._trained(pool, lesson, arms, timed, run)
            finally:
                pool.shutdown(cancel_futures=True)
        macs = {arm.label: _macs(arm, lesson) for arm in arms}
        return Trials(results, macs, timed["steps"], photos.name, pictures)

    def _share(self, photos: Photos, lesson: Lesson) -> tuple[int, int]:
        """Write the pictures; how many there are of either split."""
        for name, split in (("train", photos.train), ("val", photos.val)):
            some = split.subset(np.arange(min(len(split), QUICK_PICTURES))) if self.quick else split
            np.save(lesson.folder / f"{name}-pixels.npy", some.pixels(lesson.contract, quick=name == "train"))
            np.save(lesson.folder / f"{name}-labels.npy", some.labels)
        return len(lesson.pictures("train").labels), len(lesson.pictures("val").labels)

    def _timed(self, pool: ProcessPoolExecutor, lesson: Lesson, arms: Sequence[Arm], steps: int | None) -> Figures:
        """Steps of every trial, and the seconds that one takes of each arm."""
        self._show("timing the arms", 0, 0)
        futures = {arm.label: pool.submit(seconds_per_step, arm, lesson) for arm in arms}
        seconds = {label: future.result() for label, future in futures.items()}
        fitting = int(self.minutes * 60 * self.workers / (self.seeds * sum(seconds.values())))
        return {"steps": QUICK_STEPS if self.quick else steps or max(1, fitting)} | seconds

    def _trained(
        self, pool: ProcessPoolExecutor, lesson: Lesson, arms: Sequence[Arm], timed: Figures, run: Run
    ) -> dict[tuple[str, int], Figures]:
        """The figures of every trial; the slow ones come first, so that none is left alone at the end."""
        found: dict[tuple[str, int], Figures] = {}
        waiting = {}
        for arm in sorted(arms, key=lambda arm: -timed[arm.label]):
            for seed in range(self.seeds):
                stored = run.stored(f"{arm.label} {seed}")
                if stored is None:
                    waiting[pool.submit(train, arm, lesson, seed, int(timed["steps"]))] = arm.label, seed
                else:
                    found[arm.label, seed] = stored
        total = len(found) + len(waiting)
        for future in as_completed(waiting):
            label, seed = waiting[future]
            found[label, seed] = run.once(f"{label} {seed}", future.result)
            self._show(f"training, {label}", len(found), total)
        return found

    def _show(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def seconds_per_step(arm: Arm, lesson: Lesson) -> float:
    marks: list[float] = []
    _training(arm, lesson, 0, PROBE).run(progress=lambda *_: marks.append(time.perf_counter()))
    return float(np.median(np.diff(marks)))


def train(arm: Arm, lesson: Lesson, seed: int, steps: int) -> Figures:
    """One trial: its accuracy on the validation photos in per cent, and what the arm measures."""
    training = _training(arm, lesson, seed, steps)
    training.run()
    model, held_out = training.model, lesson.pictures("val")
    model.load_state_dict(training.delivered())
    found = {"accuracy": 100 * accuracy(model, held_out.pixels, held_out.labels, lesson.contract)}
    return found | (arm.measure(model, lesson) if arm.measure else {})


def _training(arm: Arm, lesson: Lesson, seed: int, steps: int) -> Training:
    return Training(
        _network(arm, lesson, seed), lesson.pictures("train"), lesson.contract, arm.recipe, steps=steps, seed=seed
    )


def _network(arm: Arm, lesson: Lesson, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return arm.build(num_classes=lesson.classes)


def _macs(arm: Arm, lesson: Lesson) -> int:
    counted = count_model(_network(arm, lesson, 0), (3, lesson.contract.side, lesson.contract.side)).cost.macs
    assert counted is not None
    return counted


@dataclass(frozen=True)
class Trials:
    """What came out: results[label, seed] are figures by name, "accuracy" in per cent among them."""

    results: Mapping[tuple[str, int], Figures]
    macs: Mapping[str, int]
    steps: int
    data: str
    pictures: tuple[int, int]  # trained on, validated on

    def of(self, label: str, figure: str = "accuracy") -> list[float]:
        """One figure of an arm, seed by seed."""
        return [found[figure] for (name, _), found in sorted(self.results.items()) if name == label]

    def gain(self, label: str, over: str, figure: str = "accuracy") -> Gain:
        """By how much an arm is above another, over the seeds."""
        return gain(self.of(over, figure), self.of(label, figure))

    @property
    def note(self) -> str:
        """What a reader must know of every such study."""
        return (
            f"Small networks, {self.steps:,} steps: what is true here need not be of larger ones, or of longer "
            f'training. "Holds" and "fails" mean that the whole interval lies on one side of 0.'
        )

    def table(self, title: str, *, over: str) -> Table:
        """Arms in the order of the study, their seeds, and what each gains over the arm `over`."""
        rows: list[tuple[Cell, ...]] = []
        for label, macs in self.macs.items():
            seeds = self.of(label)
            gained = (None, None, None) if label == over else tuple(round(x, 2) for x in self.gain(label, over))
            shown = ", ".join(f"{accuracy:.2f}" for accuracy in seeds)
            rows.append((label, round(macs / 1e6, 3), round(statistics.mean(seeds), 2), *gained, shown))
        return Table(
            title=title,
            columns=("arm", "M MACs", "accuracy %", f"points over {over}", "low", "high", "each seed %"),
            rows=tuple(rows),
            source=f"{self.data}: {self.pictures[1]:,} validation photos, {self.steps:,} steps on {self.pictures[0]:,} "
            f"others; differences seed by seed with 95 % intervals by Student's t",
        )


def gain(before: Sequence[float], after: Sequence[float]) -> Gain:
    """The mean of paired differences and its 95 % interval by Student's t. Raises BadInput for fewer than two."""
    if len(before) != len(after) or len(before) < 2:
        raise BadInput(f"gain: {len(before)} and {len(after)} figures; needs as many of either, and two or more")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    mean, half = statistics.mean(differences), half_interval(differences)
    return Gain(mean, mean - half, mean + half)


def judge_gain(gained: Gain, *, at_least: float = 0.0) -> Verdict:
    """Whether a gain is above `at_least`: "cannot tell" while its interval contains it."""
    return judge(gained.low, gained.high, at_least=at_least)
