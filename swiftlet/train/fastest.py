"""The engine that trains a network fastest on this machine, found by timing it: it depends on both, and on the side.

Float32 in channels-last is what the others have to beat, surely and by a margin.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.runtime.cpu import no_bfloat16
from swiftlet.runtime.measurement import compare
from swiftlet.runtime.torch_compiled import TorchCompiled
from swiftlet.train.engine import Engine, kept_memory
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe

MARGIN = 1.05  # times as fast, and that at the sure end of the interval
WARM_UP = 2  # steps: the first lays out memory and optimizer
LEAST_ROUNDS, MOST_ROUNDS = 6, 30
COMPILING = 60.0  # seconds that compiling forward and backward of a mobile network takes
TRIAL = 0.05  # the largest share of a run's time that compiling may take


def fastest(
    model: nn.Module,
    recipe: Recipe,
    side: int,
    *,
    device: str = "cpu",
    seconds: float = 10.0,
    steps: int = 0,
    accumulate: int = 1,
) -> Engine:
    """By interleaved steps on copies of the model, with random pictures; takes about `seconds`, more for slow networks.

    Tried are layouts and, where the hardware has it, bfloat16; of the best, half of the threads; and compiling, if
    `steps` are so many that it would take at most TRIAL of their time. Same arguments, same engine, unless two are so
    close that noise decides. Raises BadInput for a device that is not there.
    """
    race = _Race(model, recipe, side, accumulate)
    default = Engine(device=device, bfloat16=device == "cuda")
    others = [replace(default, channels_last=False)]
    if device == "cuda" or no_bfloat16() is None:
        others.append(replace(default, bfloat16=not default.bfloat16))
    best = race.winner([default, *others], seconds * 0.6)
    threads = torch.get_num_threads()
    if device == "cpu" and threads > 1:
        best = race.winner([best, replace(best, threads=threads // 2)], seconds * 0.4)
    if (
        TorchCompiled().missing() is None
        and recipe.side_from == 1  # another side would be compiled anew
        and steps * race.step_seconds * TRIAL > COMPILING
    ):
        best = race.winner([best, replace(best, compiled=True)], seconds * 0.4)
    return best


class _Race:
    """step_seconds: of the winner so far."""

    def __init__(self, model: nn.Module, recipe: Recipe, side: int, accumulate: int) -> None:
        rng = np.random.default_rng(0)
        device = next(model.parameters()).device
        with torch.inference_mode():
            classes = copy.deepcopy(model).eval()(torch.zeros(1, 3, side, side, device=device)).shape[1]
        pixels = rng.integers(0, 256, (recipe.batch, side, side, 3), np.uint8)
        self._model, self._recipe, self._accumulate = model, replace(recipe, side_from=1.0), accumulate
        self._pictures = Pictures(pixels, rng.integers(0, classes, recipe.batch))
        self._contract = InputContract(side=side)
        self.step_seconds = 0.0

    def winner(self, engines: Sequence[Engine], seconds: float) -> Engine:
        """The first, unless another is surely faster by MARGIN; then the fastest of those."""
        first, *others = times = self._times(engines, seconds)
        sure = [compare(other, first)[1] >= MARGIN for other in others]
        medians = [float(np.median(of)) for of in times]
        able = [0, *(i for i, faster in enumerate(sure, start=1) if faster)]
        best = min(able, key=lambda i: medians[i])
        self.step_seconds = medians[best]
        return engines[best]

    def _times(self, engines: Sequence[Engine], seconds: float) -> list[list[float]]:
        """Seconds of each engine's steps, round by round."""
        with kept_memory():
            trainings = [self._training(engine) for engine in engines]
            for _ in range(WARM_UP):
                for training in trainings:
                    _step_seconds(training)
            times: list[list[float]] = [[] for _ in engines]
            began = time.perf_counter()
            for done in range(MOST_ROUNDS):
                if done >= LEAST_ROUNDS and time.perf_counter() - began > seconds:
                    break
                for training, of in zip(trainings, times, strict=True):
                    of.append(_step_seconds(training))
        return times

    def _training(self, engine: Engine) -> Training:
        model = copy.deepcopy(self._model).train()
        pictures, steps = self._pictures, WARM_UP + MOST_ROUNDS
        return Training(
            model,
            pictures,
            self._contract,
            self._recipe,
            steps=steps,
            seed=0,
            accumulate=self._accumulate,
            engine=engine,
        )


def _step_seconds(training: Training) -> float:
    with training.engine.threaded():
        began = time.perf_counter()
        training.advance().item()  # waits for the device
        return time.perf_counter() - began
