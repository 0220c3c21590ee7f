"""What a race has found, and what may be concluded from it.

Two contestants are compared by the ratios of their medians within each round, so that drift cancels. The bootstrap
over rounds gives the ratio's interval, and a sign test, which assumes nothing of the noise, must agree before one is
called faster. "Cannot tell" is an answer.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, comb, log2
from typing import Any

import numpy as np

from swiftlet.errors import BadInput
from swiftlet.runtime.base import Array

RESAMPLES = 4000
ERROR = 0.05  # of a race between equal programs, the largest share in which one is called faster
NOISY = 0.10  # interval wider than this on either side of p50: not stable
SAME = 0.02  # what differs less than this is not called different: memory placement alone does as much


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Milliseconds per run of a batch.

    p50_ms: median over rounds of a round's median; interval_ms: its 95 % interval; p90_ms and n: of all single runs;
    stable: False if the interval is wider than 10 % on either side; rounds_ms: what a verdict compares.
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
        note = "" if self.stable else ", a wide interval"
        return f"{self.p50_ms:.3g} ms (95 % {low:.3g} to {high:.3g}, p90 {self.p90_ms:.3g}{note})"


def verdict(labels: Sequence[str], measurements: Sequence[Measurement]) -> str:
    """One sentence per loser against the fastest: how much slower, or that it cannot be told.

    Of races between equal programs at most 5 % name a faster one, however many contestants there are: the error is
    shared out over all pairs. The measurements must come from one race; BadInput otherwise.
    """
    if len(labels) != len(measurements) or len(labels) < 2:
        raise BadInput(f"verdict: {len(labels)} labels for {len(measurements)} measurements; give two or more of each")
    if len({len(measurement.rounds_ms) for measurement in measurements}) != 1:
        raise BadInput("verdict: the measurements differ in rounds, so they are not from one race; race them together")
    best, *others = sorted(range(len(labels)), key=lambda i: measurements[i].p50_ms)
    return "\n".join(_sentence(labels, measurements, best, other) for other in others)


def _sentence(labels: Sequence[str], measurements: Sequence[Measurement], fast: int, slow: int) -> str:
    a, b = measurements[fast].rounds_ms, measurements[slow].rounds_ms
    pairs = comb(len(labels), 2)
    ratio, low, high = compare(a, b, error=ERROR / pairs)
    interval = f"95 % {low:.2f} to {high:.2f}"
    if low <= 1 + SAME:
        return f"cannot tell {labels[fast]} from {labels[slow]} ({interval})"
    if chance(a, b) > ERROR / pairs:
        ahead = f"ahead in {sum(x < y for x, y in zip(a, b, strict=True))} of {len(a)} rounds, which may be luck"
        return f"cannot tell {labels[fast]} from {labels[slow]} ({interval}, but {ahead})"
    return f"{labels[fast]} is {ratio:.2f}x faster than {labels[slow]} ({interval})"


def compare(
    a_ms: Sequence[float], b_ms: Sequence[float], seed: int = 0, *, error: float = ERROR
) -> tuple[float, float, float]:
    """How many times as long b takes: the median over rounds of b / a, and its interval at 1 - error.

    Bootstrap over rounds of the paired log ratios: what is shared within a round, as drift is, cancels.
    """
    logs = np.log(np.array(b_ms)) - np.log(np.array(a_ms))
    medians = np.median(logs[resample(len(logs), seed)], axis=1)
    low, high = np.exp(np.quantile(medians, (error / 2, 1 - error / 2)))
    return float(np.exp(np.median(logs))), float(low), float(high)


def chance(a_ms: Sequence[float], b_ms: Sequence[float]) -> float:
    """How likely equal programs are to win this unevenly, either way (two-sided sign test).

    In each round the order is drawn by lot, so of two equal programs either is the faster one with probability 1/2,
    whatever the noise is like. Of equal times neither has won.
    """
    faster = sum(a < b for a, b in zip(a_ms, b_ms, strict=True))
    slower = sum(a > b for a, b in zip(a_ms, b_ms, strict=True))
    n = len(a_ms)
    tail = sum(comb(n, wins) for wins in range(max(faster, slower), n + 1))
    return min(1.0, 2 * tail * 0.5**n)


def rounds_to_tell(contestants: int) -> int:
    """The fewest rounds in which winning all of them is too unlikely for a tie, over all pairs of contestants."""
    return ceil(log2(2 * comb(contestants, 2) / ERROR)) if contestants > 1 else 1


def resample(rounds: int, seed: int) -> Array:
    """Row numbers of RESAMPLES bootstrap samples."""
    return np.random.default_rng(seed).integers(0, rounds, (RESAMPLES, rounds))
