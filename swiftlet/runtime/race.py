"""Time programs against each other on a machine that is never quite still.

Contestants run in short blocks, shuffled anew each round, so that what disturbs the machine disturbs all of them
alike. A round gives each one median; measurement.py says what follows from them.
"""

import gc
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np

from swiftlet.errors import BadInput
from swiftlet.runtime.base import Array, Clock, Program
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.machine import machine
from swiftlet.runtime.measurement import NOISY, SAME, Measurement, compare, resample, rounds_to_tell, verdict

__all__ = ["SAME", "Contestant", "Measurement", "compare", "quick", "race", "random_batch", "survivors", "verdict"]

ROUNDS = 30  # aimed at: fewer make a wide interval, more make blocks so short that each one is cold
MIN_ROUNDS = 5  # however slow a contestant is
MAX_RUNS = 300  # in one block, however fast it is
WARM_SHARE = 0.2  # of the time, at most


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
    clock: Clock = perf_counter_ns,
) -> tuple[Measurement, ...]:
    """Measure all contestants within about `seconds` together; in the order given.

    Programs so slow that the rounds that a verdict needs (5 of one, 6 of two, 11 of ten) take longer get them.
    progress(done, total) is called after each round. Raises BadInput on an empty race or a program whose free
    dimensions are more than the batch, and whatever a program raises.
    """
    found = survivors(contestants, seconds=seconds, batch=batch, seed=seed, progress=progress, clock=clock)
    for outcome in found:
        if isinstance(outcome, Exception):
            raise outcome
    return tuple(outcome for outcome in found if isinstance(outcome, Measurement))


def survivors(
    contestants: Sequence[Contestant],
    *,
    seconds: float = 3.0,
    batch: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    clock: Clock = perf_counter_ns,
) -> tuple[Measurement | Exception, ...]:
    """The same race, but a contestant that fails is out and the others go on: its place holds what it raised."""
    if not contestants or not seconds > 0 or batch < 1:
        raise BadInput(
            f"race: {len(contestants)} contestants, seconds={seconds}, batch={batch}: give 1 or more of each"
        )
    shuffle = random.Random(seed)
    inputs = [random_batch(contestant.program, batch, seed) for contestant in contestants]
    budget = seconds / len(contestants)
    failed: dict[int, Exception] = {}
    single: dict[int, float] = {}
    blocks: list[list[Array]] = [[] for _ in contestants]
    with flushed_denormals():
        for i, contestant in enumerate(contestants):
            try:
                single[i] = _warm_up(contestant.program, inputs[i], budget * WARM_SHARE, clock)
            except Exception as error:  # whatever it is, it is the end of this contestant and of no other
                failed[i] = error
        block = budget * (1 - WARM_SHARE) / ROUNDS
        runs = {i: min(MAX_RUNS, max(1, int(block / time))) for i, time in single.items()}
        expected = sum(runs[i] * time for i, time in single.items())
        fewest = max(MIN_ROUNDS, rounds_to_tell(len(single)))
        rounds = min(ROUNDS, max(fewest, int(seconds * (1 - WARM_SHARE) / expected))) if single else 0
        for done in range(rounds):
            for i in shuffle.sample(range(len(contestants)), len(contestants)):
                if i in failed:
                    continue
                try:
                    blocks[i].append(_block(contestants[i].program, inputs[i], runs[i], clock))
                except Exception as error:
                    failed[i] = error
            if progress is not None:
                progress(done + 1, rounds)
    return tuple(failed[i] if i in failed else _measurement(c, batch, blocks[i]) for i, c in enumerate(contestants))


def quick(program: Program, runtime: str, threads: int, *, seconds: float = 0.1) -> Measurement:
    """The same measuring with few samples, for planning."""
    return race([Contestant(runtime, program, runtime, threads)], seconds=seconds)[0]


def random_batch(program: Program, batch: int, seed: int = 0) -> Array:
    """Noise in the program's input type; zeros would let some kernels take short cuts."""
    first, *rest = program.input_shape
    if None in rest or first not in (None, batch):
        sizes = ", ".join("any" if size is None else str(size) for size in program.input_shape)
        raise BadInput(
            f"the input is ({sizes}), which a batch of {batch} does not fill: only its first size may be free; export "
            "the file with the others fixed, and the batch free or as asked for"
        )
    shape = (batch, *(size for size in rest if size is not None))
    generator = np.random.default_rng(seed)
    if program.input_dtype.kind == "f":
        return generator.standard_normal(shape, np.float32).astype(program.input_dtype)
    return generator.integers(0, 128 if program.input_dtype == np.int8 else 256, shape).astype(program.input_dtype)


def _warm_up(program: Program, batch: Array, seconds: float, clock: Clock) -> float:
    """Run until three runs in a row are as fast as the three before, within bounds; returns seconds per run."""
    times: list[int] = []
    start = clock()
    while len(times) < 1000:
        times.append(program.nanoseconds(batch, clock))
        settled = len(times) >= 6 and min(times[-3:]) >= 0.95 * min(times[-6:-3])
        if settled or (clock() - start) / 1e9 > seconds:
            break
    return max(float(np.median(times[-6:])), 100) / 1e9


def _block(program: Program, batch: Array, runs: int, clock: Clock) -> Array:
    """Nanoseconds of each run. The first of several is not kept: the caches still hold the other contestants' data."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        if runs > 2:
            program.run(batch)
        return np.array([program.nanoseconds(batch, clock) for _ in range(runs)], np.float64)
    finally:
        if collecting:
            gc.enable()


def _measurement(contestant: Contestant, batch: int, blocks: list[Array]) -> Measurement:
    rounds = np.array([np.median(block) for block in blocks]) / 1e6
    runs = np.concatenate(blocks) / 1e6
    p50 = float(np.median(rounds))
    low, high = np.quantile(np.median(rounds[resample(len(rounds), 0)], axis=1), (0.025, 0.975))
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
