"""Train the arms of a study, every arm with every seed, for equally many steps, and tell by how much they differ.

An arm is a network with a recipe. Trials of one seed start from the same seed and see the same views of the same
pictures in the same order, so differences are taken seed by seed. Accuracies are of the validation photos, since
nothing is chosen by them; the test photos stay sealed.
"""

import multiprocessing
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from heapq import heapreplace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch

from swiftlet._version import __version__
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos, load_photos
from swiftlet.errors import BadInput
from swiftlet.progress import Progress
from swiftlet.run import Run
from swiftlet.study.finding import Cell, Table, Verdict, half_interval, judge
from swiftlet.study.trial import Arm, Figures, Lesson, moment, network, seconds_per_step, train, train_teacher

QUICK_STEPS, QUICK_PICTURES = 4, 256


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
        teachers = list(dict.fromkeys(arm.teacher for arm in arms if arm.teacher is not None))
        labels = [arm.label for arm in (*arms, *teachers)]
        if len(set(labels)) != len(labels):
            raise BadInput(f"two arms have one label: {sorted(labels)}")
        photos, contract = load_photos(self.data, progress=self.progress), InputContract(side=side)
        facts = {"photos": photos.audit.digest, "minutes": self.minutes, "side": side, "steps": steps}
        context = multiprocessing.get_context("spawn")
        with Run(self.folder) as run, TemporaryDirectory() as shared:
            lesson = Lesson(Path(shared), contract, len(photos.classes))
            macs = {arm.label: _macs(arm, lesson) for arm in arms}
            claimed = {arm.label: arm.facts() | {"macs": macs[arm.label]} for arm in arms}
            run.claim(facts | {"arms": claimed, "quick": self.quick, "swiftlet": __version__})
            pictures = self._share(photos, lesson)
            pool = ProcessPoolExecutor(self.workers, context, torch.set_num_threads, (1,))
            try:
                timed = run.once("steps", lambda: self._timed(pool, lesson, arms, teachers, steps))
                made = int(timed["steps"])
                results = self._trained(
                    {
                        (arm.label, 0): partial(pool.submit, train_teacher, arm, lesson, made, self.folder)
                        for arm in teachers
                    },
                    run,
                )
                slow_first = sorted(arms, key=lambda arm: -timed[arm.label])  # so that none is left alone at the end
                results |= self._trained(
                    {
                        (arm.label, seed): partial(pool.submit, train, arm, lesson, seed, made, self.folder)
                        for arm in slow_first
                        for seed in range(self.seeds)
                    },
                    run,
                )
            finally:
                pool.shutdown(cancel_futures=True)
        return Trials(results, macs, made, photos.name, pictures)

    def _share(self, photos: Photos, lesson: Lesson) -> tuple[int, int]:
        """Write the pictures; how many there are of either split."""
        for name, split in (("train", photos.train), ("val", photos.val)):
            few = np.linspace(0, len(split) - 1, min(len(split), QUICK_PICTURES)).astype(int)  # of all classes
            some = split.subset(few) if self.quick else split
            np.save(lesson.folder / f"{name}-pixels.npy", some.pixels(lesson.contract, quick=name == "train"))
            np.save(lesson.folder / f"{name}-labels.npy", some.labels)
        return len(lesson.pictures("train").labels), len(lesson.pictures("val").labels)

    def _timed(
        self, pool: Executor, lesson: Lesson, arms: Sequence[Arm], teachers: Sequence[Arm], steps: int | None
    ) -> Figures:
        """Steps of every trial, and the seconds that one takes of each arm."""
        self._show("timing the arms", 0, 0)
        futures = {arm.label: pool.submit(seconds_per_step, arm, lesson) for arm in (*arms, *teachers)}
        seconds = {label: future.result() for label, future in futures.items()}
        taught = _together([seconds[arm.label] for arm in teachers], self.workers)  # before all others
        of_a_step = taught + _together([seconds[arm.label] for arm in arms] * self.seeds, self.workers)
        fitting = int(self.minutes * 60 / of_a_step)
        return {"steps": QUICK_STEPS if self.quick else steps or max(1, fitting)} | seconds

    def _trained(
        self, trials: Mapping[tuple[str, int], Callable[[], "Future[Figures]"]], run: Run
    ) -> dict[tuple[str, int], Figures]:
        """The figures of every trial, by label and seed; those that are not stored are started in their order."""
        found: dict[tuple[str, int], Figures] = {}
        waiting = {}
        for (label, seed), start in trials.items():
            stored = run.stored(f"{label} {seed}")
            if stored is None:
                waiting[start()] = label, seed
            else:
                found[label, seed] = stored
        for future in as_completed(waiting):
            label, seed = waiting[future]
            found[label, seed] = run.once(f"{label} {seed}", future.result)
            self._show(f"training, {label}", len(found), len(trials))
        return found

    def _show(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _together(seconds: Sequence[float], workers: int) -> float:
    """When the last of the workers is done, if each takes the longest of what waits."""
    busy = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        heapreplace(busy, busy[0] + each)
    return max(busy)


def _macs(arm: Arm, lesson: Lesson) -> int:
    side = lesson.contract.side
    counted = count_model(network(arm, lesson, 0), (3, side, side)).cost.macs
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

    def course(self, label: str, figure: str, looks: int) -> list[list[float]]:
        """A figure over the training, at each of its looks, seed by seed."""
        seen = [self.of(label, moment(figure, k, looks)) for k in range(1, looks + 1)]
        return [list(row) for row in zip(*seen, strict=True)]

    @property
    def small(self) -> str:
        """What a reader must know of every such study."""
        return f"Small networks, {self.steps:,} steps: what is true here need not be of larger ones or longer training."

    @property
    def note(self) -> str:
        """The same for a verdict about 0."""
        return f'{self.small} "Holds" and "fails" mean that the whole interval lies on one side of 0.'

    def table(self, title: str, *, over: str, figure: str = "accuracy") -> Table:
        """Arms in the order of the study, a figure in % of each seed, and what each gains over the arm `over`."""
        rows: list[tuple[Cell, ...]] = []
        for label, macs in self.macs.items():
            seeds = self.of(label, figure)
            gained = (None, None, None) if label == over else tuple(round(x, 2) for x in self.gain(label, over, figure))
            shown = ", ".join(f"{seed:.2f}" for seed in seeds)
            rows.append((label, round(macs / 1e6, 3), round(statistics.mean(seeds), 2), *gained, shown))
        return Table(
            title=title,
            columns=("arm", "M MACs", f"{figure} %", f"points over {over}", "low", "high", "each seed %"),
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


def average(*figures: Sequence[float]) -> list[float]:
    """Several arms averaged seed by seed, so that seeds stay what is independent."""
    return [statistics.mean(seed) for seed in zip(*figures, strict=True)]


def gained(trials: Trials, label: str, over: str) -> list[float]:
    """By how much an arm is above another, seed by seed."""
    return [a - b for a, b in zip(trials.of(label), trials.of(over), strict=True)]


def judge_gain(gained: Gain, *, at_least: float = 0.0) -> Verdict:
    """Whether a gain is above `at_least`: "cannot tell" while its interval contains it."""
    return judge(gained.low, gained.high, at_least=at_least)
