"""More cases than one race can hold: chunks of them, each raced together with the same reference.

What is compared within a chunk is paired round by round, as in every race. Between chunks the reference is the link: a
case's time is its ratio to the reference of its own race, times the reference's median over all races, so that a
machine that slows down between two races moves nothing.
"""

import random
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

from swiftlet.study.bench import Bench, Case, Timing, ratio

Make = Callable[[], Case]


class Linked(NamedTuple):
    """ms: milliseconds at the reference's typical pace; against, low, high: times the reference, 95 % interval."""

    ms: float
    against: float
    low: float
    high: float


def race_in_chunks(
    bench: Bench, cases: Sequence[Make], reference: Case, *, size: int = 12, what: str = "racing"
) -> dict[Timing, Linked]:
    """Every case on every runtime, `size` cases at a time, in an order drawn by lot; a case is made for its own race.

    The order matters: neighbours in a sweep would share a race, and the links' errors would look like steps.
    """
    order = random.Random(bench.seed).sample(range(len(cases)), len(cases))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    found: dict[Timing, tuple[float, float, float]] = {}
    paces: dict[str, list[float]] = {name: [] for name in bench.runtimes}
    for done, chunk in enumerate(chunks):
        made = [cases[i]() for i in chunk]
        raced = [reference, *(case for case in made if case.label != reference.label)]
        times = bench.times(raced, what=f"{what}, race {done + 1} of {len(chunks)}")
        for name in bench.runtimes:
            link = Timing(reference.label, name)
            paces[name].append(times[link].p50_ms)
            for case in made:
                found[Timing(case.label, name)] = ratio(times, Timing(case.label, name), link)
    pace = {name: median(values) for name, values in paces.items()}
    return {timing: Linked(pace[timing.runtime] * value[0], *value) for timing, value in found.items()}
