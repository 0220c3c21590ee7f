"""The race, with programs whose speed is known."""

import gc
import json
from itertools import pairwise
from time import perf_counter

import numpy as np
import pytest
import torch
from onnx_graphs import float_net

from swiftlet.errors import BadInput
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Program
from swiftlet.runtime.denormals import flushed
from swiftlet.runtime.machine import machine
from swiftlet.runtime.race import Contestant, Measurement, compare, quick, race, verdict


class Busy(Program):
    """Computes nothing for a given time."""

    name, input_shape, input_dtype, output_names = "busy", (None, 2), np.dtype(np.float32), ("scores",)

    def __init__(self, ms: float) -> None:
        self.seconds, self.runs, self.collecting = ms / 1e3, 0, False

    def execute(self, batch):
        self.runs += 1
        self.collecting = gc.isenabled()
        end = perf_counter() + self.seconds
        while perf_counter() < end:
            pass
        return [batch]


def contestant(ms: float) -> Contestant:
    return Contestant(f"{ms} ms", Busy(ms), "null", 1)


def measured(*rounds_ms: float) -> Measurement:
    p50 = float(np.median(rounds_ms))
    return Measurement(
        p50_ms=p50, p90_ms=p50, interval_ms=(p50, p50), n=len(rounds_ms), runtime="null", threads=1, batch=1,
        machine="", stable=True, rounds_ms=rounds_ms,
    )  # fmt: skip


def test_known_ratio_is_recovered():
    steps = []
    found = race(
        [contestant(0.4), contestant(1.0)], seconds=0.6, progress=lambda done, total: steps.append((done, total))
    )
    assert found[0].p50_ms == pytest.approx(0.4, rel=0.2) and found[1].p50_ms == pytest.approx(1.0, rel=0.2)
    assert found[0].interval_ms[0] <= found[0].p50_ms <= found[0].interval_ms[1] and found[0].p50_ms <= found[0].p90_ms
    assert verdict(["a", "b"], found).startswith(("a is 2.", "a is 3."))
    assert steps[-1] == (len(steps), len(steps)) and len(found[0].rounds_ms) == len(steps)
    assert gc.isenabled()


def test_a_tie_cannot_be_told():
    found = race([contestant(0.5), contestant(0.5)], seconds=0.5)
    assert verdict(["a", "b"], found).startswith("cannot tell ")


def test_shared_noise_cancels_and_own_noise_does_not():
    random = np.random.default_rng(0)
    shared = random.lognormal(0, 0.5, 40)
    _, low, high = compare(shared, 1.3 * shared)
    assert low == pytest.approx(1.3) and high == pytest.approx(1.3)
    _, low, high = compare(shared, 1.02 * random.lognormal(0, 0.5, 40))
    assert low < 1 < high


def test_very_fast_and_slow_programs_stay_in_time():
    slow = contestant(60)
    start = perf_counter()
    found = race([contestant(0.001), slow], seconds=0.2)
    assert perf_counter() - start < 1.2
    assert slow.program.runs <= 9 and len(found[1].rounds_ms) == 6
    assert found[0].n <= 300 * 30
    assert not slow.program.collecting


def test_blocks_are_shuffled_anew_each_round():
    order = []
    racers = [contestant(0.2) for _ in range(3)]
    for i, racer in enumerate(racers):
        racer.program.execute = lambda batch, i=i: order.append(i) or Busy.execute(racers[i].program, batch)
    race(racers, seconds=0.1)
    turns = [i for i, after in pairwise(order) if i != after]
    assert len(set(zip(turns, turns[1:], turns[2:], strict=False))) > 3  # a fixed order has three such windows


def test_verdict_over_three_and_over_different_races():
    fast, same = measured(1, 1.1, 0.9, 1, 1, 1, 1), measured(1, 1.11, 0.9, 1, 1, 1, 1)
    slow = measured(3, 3.3, 2.7, 3, 3, 3, 3)
    assert verdict(["a", "b", "c"], [fast, same, slow]).splitlines() == [
        "cannot tell a from b (95 % 1.00 to 1.01)",
        "a is 3.00x faster than c (95 % 3.00 to 3.00)",
    ]
    few = verdict(["a", "b"], [measured(1, 1, 1, 1, 1), measured(3, 3, 3, 3, 3)])
    assert few == "cannot tell a from b (95 % 3.00 to 3.00, but ahead in 5 of 5 rounds, which may be luck)"
    with pytest.raises(BadInput, match="not from one race"):
        verdict(["a", "b"], [fast, measured(1, 2)])
    with pytest.raises(BadInput, match="0 contestants"):
        race([])


def test_noise_is_reported_as_unstable():
    program = Busy(0.1)
    times = iter(np.random.default_rng(0).lognormal(-8.5, 1.5, 100_000))

    def execute(batch):
        program.seconds = float(next(times))
        return Busy.execute(program, batch)

    program.execute = execute
    assert not quick(program, "null", 1, seconds=0.02).stable


def test_denormals_are_flushed_in_the_race_and_nowhere_else():
    if not torch.set_flush_denormal(False):
        pytest.skip("this CPU cannot flush denormals")
    assert not flushed()
    program = get_runtime("onnxruntime").load(float_net(), 2)  # whose option for it would change this thread too
    assert not flushed()
    racer, seen = contestant(0.1), set()
    racer.program.execute = lambda batch: seen.add(flushed()) or [batch]
    race([racer, Contestant("net", program, "onnxruntime", 2)], seconds=0.05)
    assert seen == {True} and not flushed()


def test_real_program_and_its_record():
    program = get_runtime("onnxruntime").load(float_net(), 1)
    found = quick(program, "onnxruntime", 1)
    assert 0 < found.p50_ms < 50 and found.n >= 5 and found.machine == str(machine())
    assert json.loads(json.dumps(found.to_json()))["runtime"] == "onnxruntime"
    assert machine().cores >= 1 and machine().cpu
