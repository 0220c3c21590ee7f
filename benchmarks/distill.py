"""What a teacher is worth to a small network: with and without one, same steps, three seeds, much and little data.

CIFAR-10 (JPEG q75: compare with no published CIFAR-10 figure). The teacher is trained on the same pictures as its
students, without label smoothing, which would blur its answers (Mueller et al., 2019). Accuracies are of the last
5,000 pictures of the official training split, on which nothing is trained. Needs SWIFTLET_DATA and about 20 minutes of
one core.
"""

import os
import statistics
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import nn

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.recipes import get_recipe
from swiftlet.train.distill import Teacher
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.zoo import create_model

SOURCE, CLASSES, HELD_OUT = "cifar10/cifar10_jpeg.npz", 10, 5000
CONTRACT = InputContract(side=32)
TEACHER: tuple[str, dict[str, Any]] = ("resnet20", {})
STUDENT: tuple[str, dict[str, Any]] = ("mobilenet_v1", {"width": 0.125, "stem_stride": 1})
HINTS = (("blocks.10", "stages.2"),)  # late maps of either, 4 x 4 and 8 x 8
RECIPE = replace(get_recipe("photos"), name="distill", batch=64, clip=1.0, label_smoothing=0.0)
SHARES = (1.0, 0.03)  # of the training pictures
TEACHER_STEPS, STEPS, SEEDS = 1500, 1000, (0, 1, 2)


def run() -> None:
    everything = cifar10(Path(os.environ["SWIFTLET_DATA"]) / SOURCE)
    train, val = chosen(everything, slice(-HELD_OUT)), chosen(everything, slice(-HELD_OUT, None))
    rows = [measure(train, val, share) for share in SHARES]
    figures = {
        "source": SOURCE,
        "teacher": named(TEACHER),
        "student": named(STUDENT),
        "hints": HINTS,
        "recipe": asdict(RECIPE),
        "steps": {"teacher": TEACHER_STEPS, "student": STEPS},
        "validation_pictures": len(val.labels),
        "rows": rows,
    }
    record("distill", "python -m benchmarks distill", figures)


def cifar10(file: Path) -> Pictures:
    """The official training split, one JPEG after the other in one array."""
    with np.load(file) as packed:
        data, starts, labels = packed["jpeg_train"], packed["off_train"], packed["y_train"].astype(np.int64)
    pixels = [np.asarray(open_photo(data[a:b].tobytes())) for a, b in pairwise(starts)]
    return Pictures(np.stack(pixels), labels)


def chosen(pictures: Pictures, which: slice | np.ndarray) -> Pictures:
    return Pictures(pictures.pixels[which], pictures.labels[which])


def measure(everything: Pictures, val: Pictures, share: float) -> dict[str, Any]:
    """Accuracies in percent of the teacher and of students alone, with its answers, and with hints too."""
    n = round(share * len(everything.labels))
    train = chosen(everything, np.random.default_rng(0).permutation(len(everything.labels))[:n])
    network = built(TEACHER, seed=0)
    found: dict[str, Any] = {
        "pictures": n,
        "teacher": trained(network, train, val, steps=TEACHER_STEPS, seed=0, teacher=None),
    }
    teachers = {
        "alone": None,
        "answers": Teacher(network, CONTRACT),
        "answers_and_hints": Teacher(network, CONTRACT, HINTS),
    }
    runs: dict[str, list[float]] = {name: [] for name in teachers}
    for seed in SEEDS:
        for name, teacher in teachers.items():  # of one seed: the same start, the same views in the same order
            student = built(STUDENT, seed=seed)
            runs[name].append(trained(student, train, val, steps=STEPS, seed=seed, teacher=teacher))
            print(f"{n} pictures, seed {seed}, {name}: {runs[name][-1]} %", flush=True)
    gains = {name: gain(runs["alone"], taught) for name, taught in runs.items() if name != "alone"}
    return found | {"students": runs, "gain_points": gains}


def trained(
    model: nn.Module, train: Pictures, val: Pictures, *, steps: int, seed: int, teacher: Teacher | None
) -> float:
    """In place, to the network that would be delivered; its accuracy in percent."""
    training = Training(model, train, CONTRACT, RECIPE, steps=steps, seed=seed, teacher=teacher)
    training.run()
    model.load_state_dict(training.delivered())
    return round(100 * accuracy(model, val.pixels, val.labels, CONTRACT), 2)


def gain(alone: list[float], taught: list[float]) -> dict[str, float]:
    """Mean difference over the seeds, and its 95 % interval by Student's t."""
    differences = [b - a for a, b in zip(alone, taught, strict=True)]
    mean, n = statistics.mean(differences), len(differences)
    half = stats.t.ppf(0.975, n - 1) * statistics.stdev(differences) / n**0.5
    return {"mean": round(mean, 2), "low": round(mean - half, 2), "high": round(mean + half, 2)}


def built(network: tuple[str, dict[str, Any]], *, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return create_model(network[0], num_classes=CLASSES, **network[1])


def named(network: tuple[str, dict[str, Any]]) -> str:
    return " ".join([network[0], *(f"{name}={value}" for name, value in network[1].items())])
