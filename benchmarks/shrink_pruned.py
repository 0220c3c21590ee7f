"""Torch-Pruning and fine-tuning, float32 and then quantized by ONNX Runtime: the strongest thing to stitch together.

As its README has it: one pruner that takes channels in several steps, global and isomorphic, fine-tuned after each; to
multiples of 8 channels. The steps share the minutes, and the narrowest network that holds its accuracy on the
validation photos is taken, of the float32 files and of the int8 files each for itself. Fine-tuning is by the loop and
the recipe of swiftlet.shrink, always at the rate of fine-tuning; they differ in what is cut, that rate, what teaches
and how it is quantized.
"""

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.shrink_rivals import Given, export, required, statically_quantized
from swiftlet.check import load_classifier
from swiftlet.recipes.choose import choose, looks_grey
from swiftlet.train.augment import canvas
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe

STEPS, PRUNED = 4, 0.6  # of the channels, after all steps
ROUND_TO = 8
SPENT = 0.9  # share of the minutes that goes to training steps
PROBE = 6  # steps that are timed to see how many the minutes hold
BATCH, BATCHES = 64, 8  # of the training pictures whose gradients tell channels apart


def candidates(given: Given) -> Iterator[tuple[int, nn.Module]]:
    """(step, network in eval mode), each narrower than the one before, after its part of the minutes."""
    tp = required("torch_pruning")
    model = copy.deepcopy(given.model)
    pictures, recipe = _pictures(given), _recipe(given)
    classifier = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    kept = [layer for name, layer in model.named_modules() if name.endswith(given.kept)] if given.kept else []
    pruner = tp.pruner.BasePruner(
        model,
        given.example,
        importance=tp.importance.GroupTaylorImportance(),
        global_pruning=True,
        isomorphic=True,
        pruning_ratio=PRUNED,
        iterative_steps=STEPS,
        ignored_layers=[classifier, *kept],
        round_to=ROUND_TO,
    )
    for step in range(1, STEPS + 1):
        _leave_gradients(model, given)
        pruner.step()
        model.zero_grad()
        seconds = SPENT * given.minutes * 60 / STEPS
        marks: list[float] = []
        probe = Training(copy.deepcopy(model), pictures, given.contract, recipe, steps=PROBE, seed=0)
        probe.run(progress=lambda *_: marks.append(time.perf_counter()))  # noqa: B023  (it is over before the next)
        steps = max(1, int(seconds / float(np.median(np.diff(marks)))))
        training = Training(model, pictures, given.contract, recipe, steps=steps, seed=given.seed + step)
        training.run()
        model.load_state_dict(training.delivered())
        model.eval()
        yield step, model


def torch_pruning(given: Given) -> dict[str, dict[str, Any]]:
    """Of float32 and int8: the file, the seconds it took, and validation accuracy in percent after each step."""
    least = _right(given.model, given) - given.max_drop / 100
    found: dict[str, list[tuple[float, str]]] = {"float32": [], "int8": []}
    seconds = dict.fromkeys(found, 0.0)
    before = time.perf_counter()
    for step, model in candidates(given):
        plain, integer = (given.folder / f"pruned-{step}-{kind}.onnx" for kind in found)
        export(model, given.example, plain)
        found["float32"].append((_right(model, given), plain.name))
        trained = time.perf_counter()
        statically_quantized(plain, integer, given)
        found["int8"].append((_right_of_file(integer, given), integer.name))
        done = time.perf_counter()
        seconds["float32"] += trained - before
        seconds["int8"] += done - before
        before = done
    return {
        kind: {
            "file": str(given.folder / chosen(steps, least)),
            "seconds": seconds[kind],
            "validation_percent": [round(100 * right, 2) for right, _ in steps],
        }
        for kind, steps in found.items()
    }


def chosen(steps: list[tuple[float, str]], least: float) -> str:
    """The file of the last step that is right at least so often; if none is, of that which is right most often."""
    holding = [file for right, file in steps if right >= least]
    return holding[-1] if holding else max(steps)[1]


def _leave_gradients(model: nn.Module, given: Given) -> None:
    """Of the loss over some training pictures, in p.grad."""
    some = np.random.default_rng(given.seed).permutation(len(given.photos.train))[: BATCH * BATCHES]
    split = given.photos.train.subset(some)
    images, labels = torch.from_numpy(given.images(split.pixels(given.contract))), torch.tensor(split.labels)
    model.eval().requires_grad_(True)
    for batch, right in zip(images.split(BATCH), labels.split(BATCH), strict=True):  # type: ignore[no-untyped-call]
        F.cross_entropy(model(batch), right).backward()  # type: ignore[no-untyped-call]


def _pictures(given: Given) -> Pictures:
    train, short_side = given.photos.train, given.photos.audit.median_short_side
    return Pictures(train.pixels(canvas(given.contract, short_side), quick=True), train.labels)


def _recipe(given: Given) -> Recipe:
    photos = given.photos
    grey, side = looks_grey(photos), photos.audit.median_short_side
    return choose(grey=grey, pictures=len(photos.train), side=side, minutes=given.minutes, pretrained=True)[0]


def _right(model: nn.Module, given: Given) -> float:
    val = given.photos.val
    return accuracy(model, val.pixels(given.contract), val.labels, given.contract)


def _right_of_file(file: Path, given: Given) -> float:
    val = given.photos.val
    scores = load_classifier(file, contract=given.contract).scores(val.pixels(given.contract))
    return float((scores.argmax(1) == val.labels).mean())
