"""Time programs against each other on a machine that is never quite still.

Contestants run in short blocks, shuffled anew each round, so that what disturbs the machine disturbs all of them
alike. A round gives each one median; the bootstrap over rounds says how sure the result is, and compares contestants
round by round. "Cannot tell" and "too noisy to rank" are answers.
"""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np

from swiftlet.errors import BadInput
from swiftlet.runtime.base import Array, Program
from swiftlet.runtime.machine import machine

ROUNDS = 30  # aimed at: fewer make a wide interval, more make blocks so short that each one is cold
MIN_ROUNDS = 5  # however slow a contestant is
MAX_RUNS = 300  # in one block, however fast it is
WARM_SHARE = 0.2  # of the time, at most
RESAMPLES = 2000
NOISY = 0.10  # interval wider than this on either side of p50: not stable
SAME = 0.02  # what differs less than this is not called different: memory placement alone does as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Milliseconds per run of a batch.

    p50_ms: median over rounds of a round's median; interval_ms: its 95 % interval; p90_ms and n: of all single runs;
    stable: False if too noisy to rank; rounds_ms: what a verdict compares.
    """

    p50_ms: float
    p90_ms: float
    interval_ms: tuple[float, float]
    n: int
    runtime: str
    threads: int
    batch: int
    machine: str
    stable: bool
    rounds_ms: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        return asdict(self)

    def __str__(self) -> str:
        low, high = self.interval_ms
        note = "" if self.stable else ", too noisy to rank"
        return f"{self.p50_ms:.3g} ms (95 % {low:.3g} to {high:.3g}, p90 {self.p90_ms:.3g}{note})"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A loaded program, and what it is called in the result."""

    label: str
    program: Program
    runtime: str
    threads: int


def race(
    contestants: Sequence[Contestant],
    *,
    seconds: float = 3.0,
    batch: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Measurement, ...]:
    """Measure all contestants within about `seconds` together; in the order given.

    Programs so slow that five rounds take longer get their five rounds. progress(done, total) is called after each
    round. Raises BadInput on an empty race or a program whose free dimensions are more than the batch.
    """
    if not contestants or not seconds > 0 or batch < 1:
        raise BadInput(
            f"race: {len(contestants)} contestants, seconds={seconds}, batch={batch}: give 1 or more of each"
        )
    shuffle = random.Random(seed)
    inputs = [random_batch(contestant.program, batch, seed) for contestant in contestants]
    budget = seconds / len(contestants)
    single = [_warm_up(c.program, x, budget * WARM_SHARE) for c, x in zip(contestants, inputs, strict=True)]

    block = budget * (1 - WARM_SHARE) / ROUNDS
    runs = [min(MAX_RUNS, max(1, int(block / time))) for time in single]
    expected = sum(times * time for times, time in zip(runs, single, strict=True))
    rounds = min(ROUNDS, max(MIN_ROUNDS, int(seconds * (1 - WARM_SHARE) / expected)))
    samples: list[list[Array]] = [[] for _ in contestants]
    for done in range(rounds):
        for i in shuffle.sample(range(len(contestants)), len(contestants)):
            samples[i].append(_block(contestants[i].program, inputs[i], runs[i]))
        if progress is not None:
            progress(done + 1, rounds)
    return tuple(_measurement(c, batch, blocks) for c, blocks in zip(contestants, samples, strict=True))


def quick(program: Program, runtime: str, threads: int, *, seconds: float = 0.1) -> Measurement:
    """The same measuring with few samples, for planning."""
    return race([Contestant(runtime, program, runtime, threads)], seconds=seconds)[0]


def verdict(labels: Sequence[str], measurements: Sequence[Measurement]) -> str:
    """One sentence per loser against the fastest: how much slower, or that it cannot be told.

    The measurements must come from one race. Raises BadInput otherwise.
    """
    if len(labels) != len(measurements) or len(labels) < 2:
        raise BadInput(f"verdict: {len(labels)} labels for {len(measurements)} measurements; give two or more of each")
    if len({len(measurement.rounds_ms) for measurement in measurements}) != 1:
        raise BadInput("verdict: the measurements differ in rounds, so they are not from one race; race them together")
    best, *others = sorted(range(len(labels)), key=lambda i: measurements[i].p50_ms)
    return "\n".join(_sentence(labels, measurements, best, other) for other in others)


def _sentence(labels: Sequence[str], measurements: Sequence[Measurement], fast: int, slow: int) -> str:
    a, b = measurements[fast], measurements[slow]
    ratio, low, high = compare(a.rounds_ms, b.rounds_ms)
    interval = f"(95 % {low:.2f} to {high:.2f})"
    if low <= 1 + SAME:
        return f"cannot tell {labels[fast]} from {labels[slow]} {interval}"
    return f"{labels[fast]} is {ratio:.2f}x faster than {labels[slow]} {interval}"


def compare(a_ms: Sequence[float], b_ms: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """median(b) / median(a) and its 95 % interval, resampling rounds in pairs: noise is shared within a round."""
    a, b = np.array(a_ms), np.array(b_ms)
    picks = _resample(len(a), seed)
    ratios = np.median(b[picks], axis=1) / np.median(a[picks], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(b) / np.median(a)), float(low), float(high)


def random_batch(program: Program, batch: int, seed: int = 0) -> Array:
    """Noise in the program's input type; zeros would let some kernels take short cuts."""
    first, *rest = program.input_shape
    if None in rest or first not in (None, batch):
        raise BadInput(f"input shape {program.input_shape}: only the batch may be free, and batch={batch} must fit")
    shape = (batch, *(size for size in rest if size is not None))
    generator = np.random.default_rng(seed)
    if program.input_dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(program.input_dtype)
    return generator.integers(0, 128 if program.input_dtype == np.int8 else 256, shape).astype(program.input_dtype)


def _warm_up(program: Program, batch: Array, seconds: float) -> float:
    """Run until three runs in a row are as fast as the three before, within bounds; returns seconds per run."""
    times: list[int] = []
    start = perf_counter_ns()
    while len(times) < 1000:
        times.append(_timed(program, batch))
        settled = len(times) >= 6 and min(times[-3:]) >= 0.95 * min(times[-6:-3])
        if settled or (perf_counter_ns() - start) / 1e9 > seconds:
            break
    return max(sorted(times)[len(times) // 2], 100) / 1e9


def _block(program: Program, batch: Array, runs: int) -> Array:
    """Nanoseconds of each run. The first of several is not kept: the caches still hold the other contestants' data."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        if runs > 2:
            program.run(batch)
        return np.array([_timed(program, batch) for _ in range(runs)], np.float64)
    finally:
        if collecting:
            gc.enable()


def _timed(program: Program, batch: Array) -> int:
    start = perf_counter_ns()
    program.run(batch)
    return perf_counter_ns() - start


def _measurement(contestant: Contestant, batch: int, blocks: list[Array]) -> Measurement:
    rounds = np.array([np.median(block) for block in blocks]) / 1e6
    runs = np.concatenate(blocks) / 1e6
    p50 = float(np.median(rounds))
    low, high = np.quantile(np.median(rounds[_resample(len(rounds), 0)], axis=1), (0.025, 0.975))
    return Measurement(
        p50_ms=p50,
        p90_ms=float(np.quantile(runs, 0.9)),
        interval_ms=(float(low), float(high)),
        n=len(runs),
        runtime=contestant.runtime,
        threads=contestant.threads,
        batch=batch,
        machine=str(machine()),
        stable=bool(p50 - low <= NOISY * p50 and high - p50 <= NOISY * p50),
        rounds_ms=tuple(rounds.tolist()),
    )


def _resample(rounds: int, seed: int) -> Array:
    """Row numbers of RESAMPLES bootstrap samples."""
    return np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds))
