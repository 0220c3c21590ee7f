"""What the race concludes, on synthetic clocks where the truth is known."""

from itertools import product

import numpy as np
import pytest
from clocks import Clock, Synthetic, racer, rough

from swiftlet.runtime.machine import machine
from swiftlet.runtime.measurement import ERROR, Measurement, chance, compare, rounds_to_tell
from swiftlet.runtime.race import race, survivors, verdict

SEEDS = 100
SECONDS = 0.6  # of the synthetic clock: blocks of 8 runs, where a race of 5 s has 60


def races(*ms: float, seeds: int = SEEDS) -> list[tuple[Measurement, ...]]:
    """One race for each seed; the disturbances of the contestants are drawn apart from each other."""
    found = []
    for seed in range(seeds):
        clock = Clock()
        programs = [Synthetic(clock, each, rough(100 * seed + i, seconds=SECONDS)) for i, each in enumerate(ms)]
        found.append(race([racer(program) for program in programs], seconds=SECONDS, seed=seed, clock=clock))
    return found


def verdicts(found: list[tuple[Measurement, ...]]) -> list[str]:
    return [verdict([str(i) for i in range(len(each))], each) for each in found]


def test_equal_programs_are_not_told_apart() -> None:
    """At most 5 % by construction, whatever the noise; the margin of 2 % makes it far less."""
    found = races(1.0, 1.0)
    assert sum("faster" in said for said in verdicts(found)) <= ERROR * SEEDS
    without_margin = sum(chance(a.rounds_ms, b.rounds_ms) <= ERROR for a, b in found)
    assert without_margin <= SEEDS * ERROR + 2 * (SEEDS * ERROR * (1 - ERROR)) ** 0.5


def test_eight_equal_programs_are_not_told_apart() -> None:
    """Of 28 pairs some look different by chance: the error is shared out over them."""
    seeds = 20
    assert sum("faster" in said for said in verdicts(races(*[0.25] * 8, seeds=seeds))) <= ERROR * seeds


def test_five_percent_are_found_under_drift_and_spikes() -> None:
    found = races(1.0, 1.05)
    said = verdicts(found)
    assert sum(each.startswith("0 is 1.0") for each in said) >= 0.95 * SEEDS
    assert not any(each.startswith("1 is") for each in said)
    intervals = [compare(a.rounds_ms, b.rounds_ms)[1:] for a, b in found]
    assert sum(low <= 1.05 <= high for low, high in intervals) >= 0.9 * SEEDS


def test_the_sign_test_keeps_its_level() -> None:
    """Over all 2^n ways in which n rounds of equal programs can come out."""
    for n in (5, 6, 9):
        small = [chance([1.0] * n, [2.0 if won else 0.5 for won in wins]) for wins in product((0, 1), repeat=n)]
        for level in (0.05, 0.01):
            assert np.mean([p <= level for p in small]) <= level
    assert chance([1, 1, 1], [1, 1, 1]) == 1  # ties are nobody's


@pytest.mark.parametrize("contestants", [2, 3, 10])
def test_the_fewest_rounds_are_enough_to_tell(contestants: int) -> None:
    clock = Clock()
    slow = [racer(Synthetic(clock, 1000.0 * (1 + i)), str(i)) for i in range(contestants)]
    found = race(slow, seconds=1, clock=clock)
    assert {len(each.rounds_ms) for each in found} == {max(5, rounds_to_tell(contestants))}
    assert verdict([str(i) for i in range(contestants)], found).count("faster") == contestants - 1


def test_warm_up_goes_on_until_the_program_is_stable() -> None:
    clock = Clock()
    program = Synthetic(clock, 1.0, lambda now, run: 1 + 10 * 0.8**run)  # a compiler at work
    (found,) = race([racer(program)], seconds=1, clock=clock)
    assert found.rounds_ms[0] < 1.1


def test_what_dies_in_the_race_is_out_and_the_others_go_on() -> None:
    clock = Clock()
    steady, dying = Synthetic(clock, 1.0), Synthetic(clock, 1.0)

    def die(now: float, run: int) -> float:
        if run > 50:
            raise RuntimeError("out of tea")
        return 1.0

    dying.disturbance = die
    found = survivors([racer(dying), racer(steady)], seconds=1, clock=clock)
    assert isinstance(found[0], RuntimeError) and isinstance(found[1], Measurement)
    assert len(found[1].rounds_ms) == 30 and found[1].machine == str(machine())
    with pytest.raises(RuntimeError, match="out of tea"):
        race([racer(dying), racer(steady)], seconds=1, clock=clock)


def test_a_clock_that_hardly_ticks_is_no_error() -> None:
    clock = Clock()
    (found,) = race([racer(Synthetic(clock, 0.0))], seconds=0.01, clock=clock)
    assert found.p50_ms > 0
