"""Programs that take synthetic time: a clock that nobody waits for, with drift, spikes and jitter as they come."""

from collections.abc import Callable

import numpy as np

from swiftlet.runtime.base import Array, Program
from swiftlet.runtime.race import Contestant


class Clock:
    """Nanoseconds that pass only when a program says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> int:
        return int(self.now)


class Synthetic(Program):
    """Takes `ms` on the clock, times a disturbance that may depend on the time in seconds and on the run's number."""

    name, input_shape, input_dtype, output_names = "synthetic", (None, 2), np.dtype(np.float32), ("scores",)
    precision = "float32"

    def __init__(self, clock: Clock, ms: float, disturbance: Callable[[float, int], float] = lambda s, run: 1) -> None:
        self.clock, self.ms, self.disturbance, self.runs = clock, ms, disturbance, 0

    def execute(self, batch: Array) -> list[Array]:
        self.clock.now += self.ms * 1e6 * self.disturbance(self.clock.now / 1e9, self.runs)
        self.runs += 1
        return [batch]


def racer(program: Program, label: str = "x") -> Contestant:
    return Contestant(label, program, "null", 1)


def rough(seed: int, *, seconds: float) -> Callable[[float, int], float]:
    """A bad machine: the clock rate falls by 30 % over the race, one run in twenty takes 2 to 6 times as long, some
    stretches of a hundredth of the race are half as slow again (for whoever runs then), and each run jitters by 3 %."""
    random = np.random.default_rng(seed)
    slow = random.random(200) < 0.1
    jitter = random.normal(1, 0.03, 4096)
    spikes = np.where(random.random(4096) < 0.05, random.uniform(2, 6, 4096), 1.0)

    def factor(now: float, run: int) -> float:
        part = now / seconds
        stretch = 1.5 if slow[int(100 * part) % 200] else 1.0
        return float((1 + 0.3 * part) * stretch * jitter[run % 4096] * spikes[run % 4096])

    return factor
