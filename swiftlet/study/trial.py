"""One trial of a study: an arm, trained with one seed on the pictures that all arms share.

Everything here is a function of a module, because other processes call it.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.files import write_atomically
from swiftlet.train.distill import Teacher
from swiftlet.train.engine import DEFAULT, Engine
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe

RECIPE = Recipe(
    name="study", batch=64, lr=0.1, clip=1.0, label_smoothing=0.0, dropout=0.0, min_area=0.6, jitter=0.1, ema=0.02
)  # fmt: skip
PROBE = 6  # steps that are timed, the first of which says nothing
Figures = dict[str, float]


class Lesson(NamedTuple):
    """The pictures of all trials, as files that every process maps."""

    folder: Path
    contract: InputContract
    classes: int

    def pictures(self, split: str, share: float = 1.0) -> Pictures:
        """Of "train" or "val"; a share of them is the same one each time it is asked for."""
        pixels, labels = (np.load(self.folder / f"{split}-{what}.npy", mmap_mode="r") for what in ("pixels", "labels"))
        if share == 1.0:
            return Pictures(pixels, labels)
        kept = _drawn(len(labels), max(2, round(share * len(labels))))
        return Pictures(pixels[kept], labels[kept])

    def sample(self, count: int) -> npt.NDArray[np.uint8]:
        """Pixels of so many training pictures by lot, always the same: the first of a folder are all of one class."""
        pixels = self.pictures("train").pixels
        return np.asarray(pixels[_drawn(len(pixels), count)])

    def percent(self, model: nn.Module) -> float:
        """Accuracy of a model on the validation pictures; leaves it in evaluation mode."""
        held_out = self.pictures("val")
        return 100 * accuracy(model, held_out.pixels, held_out.labels, self.contract)


class Arm(NamedTuple):
    """What is compared: a network and how it is trained.

    build(num_classes=N) gives a network with fresh weights. measure(model, lesson) gives more figures of it in
    evaluation, of the trained one, and at each of `looks` moments of the training, the last of which is its end. share:
    of the training pictures. teacher: is trained first, once, on its own share; its answers weigh as the recipe says.
    """

    label: str  # also of the file that keeps its figures
    build: Callable[..., nn.Module]
    recipe: Recipe = RECIPE
    measure: Callable[[nn.Module, Lesson], Figures] | None = None
    looks: int = 0
    share: float = 1.0
    teacher: "Arm | None" = None
    engine: Engine = DEFAULT

    def facts(self) -> dict[str, Any]:
        """What decides its figures, apart from the code of the study."""
        taught = {"teacher": {"label": self.teacher.label} | self.teacher.facts()} if self.teacher else {}
        facts = {"recipe": self.recipe.to_json(), "looks": self.looks, "share": self.share}
        return facts | taught | {"engine": asdict(self.engine)}


def _drawn(n: int, count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(n)[:count])


def seconds_per_step(arm: Arm, lesson: Lesson) -> float:
    """Median of a few steps; a teacher needs no training to take its time."""
    marks: list[float] = []
    teacher = None if arm.teacher is None else Teacher(network(arm.teacher, lesson, 0), lesson.contract)
    _training(arm, lesson, 0, PROBE, teacher).run(progress=lambda *_: marks.append(time.perf_counter()))
    return float(np.median(np.diff(marks)))


def train(arm: Arm, lesson: Lesson, seed: int, steps: int, kept: Path) -> Figures:
    """Its accuracy on the validation photos in per cent, and what the arm measures.

    kept: the folder with the weights of teachers.
    """
    training = _training(arm, lesson, seed, steps, _teacher(arm, lesson, kept))
    found: Figures = {}
    due = [math.ceil(k * steps / arm.looks) for k in range(1, arm.looks + 1)]

    def look(step: int, _steps: int, _loss: float) -> None:
        if step in due and arm.measure:
            seen = arm.measure(deepcopy(training.model).eval(), lesson)
            for k in (k for k, at in enumerate(due, 1) if at == step):
                found.update({moment(name, k, arm.looks): value for name, value in seen.items()})

    training.run(progress=look)
    model = training.model
    model.load_state_dict(training.delivered())
    found["accuracy"] = lesson.percent(model)
    return found | (arm.measure(model.eval(), lesson) if arm.measure else {})


def train_teacher(arm: Arm, lesson: Lesson, steps: int, kept: Path) -> Figures:
    """With seed 0; its weights go into `kept`."""
    training = _training(arm, lesson, 0, steps, None)
    training.run()
    delivered = training.delivered()
    training.model.load_state_dict(delivered)
    write_atomically(_weights(arm, kept), save({name: tensor.contiguous() for name, tensor in delivered.items()}))
    return {"accuracy": lesson.percent(training.model)}


def network(arm: Arm, lesson: Lesson, seed: int) -> nn.Module:
    """With fresh weights, the same for a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return arm.build(num_classes=lesson.classes)


def moment(figure: str, k: int, looks: int) -> str:
    """The name of a figure at the k-th of so many looks."""
    return f"{figure} at {k}/{looks}"


def _teacher(arm: Arm, lesson: Lesson, kept: Path) -> Teacher | None:
    if arm.teacher is None:
        return None
    taught = network(arm.teacher, lesson, 0)
    taught.load_state_dict(load_file(_weights(arm.teacher, kept)))
    return Teacher(taught, lesson.contract)


def _weights(arm: Arm, kept: Path) -> Path:
    return kept / f"{arm.label}.safetensors"


def _training(arm: Arm, lesson: Lesson, seed: int, steps: int, teacher: Teacher | None) -> Training:
    return Training(
        network(arm, lesson, seed),
        lesson.pictures("train", arm.share),
        lesson.contract,
        arm.recipe,
        steps=steps,
        seed=seed,
        engine=arm.engine,
        teacher=teacher,
    )
