"""From the sum of a network's kernels to its latency, and how far off that is for networks never seen.

The profiler adds about the same to each kernel, and a kernel may be slower or faster among others than the curves say:
latency = start + sum over kinds of (scale x microseconds + offset x count). Scales stay close to 1 and offsets close to
a common one unless many networks say otherwise (a ridge), and single networks that were disturbed count little (Huber).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from swiftlet.runtime.base import Array

COVERAGE = 0.9  # of the interval
NEAR_ONE = 0.1  # standard deviation, before any measurement, of a scale from 1
PROFILER_US = -2.0  # what the profiler adds to a kernel, so that it is taken off; and how unsure that is
PROFILER_SPREAD_US = 3.0
KIND_SPREAD_US = 0.5  # of one kind's offset from the common one
START_US, START_SPREAD_US = 5.0, 10.0  # of a call, whatever is in the network
NOISE = 0.03  # relative, of one network's time; residuals above twice that count less
LEAST_US = 1.0


class Parts(NamedTuple):
    """By kind of kernel: microseconds, their variance, how many there are; and how many there are of unknown kinds."""

    us: dict[str, float]
    variance: dict[str, float]
    counts: dict[str, int]
    unknown: dict[str, int]


@dataclass(frozen=True, slots=True)
class Correction:
    """start: microseconds of a call; common: of every kernel; scale, offset: by kind, where it differs; spread: of the
    logarithm, of any network; low, high: the ends of the interval in multiples of a network's own spread."""

    start: float
    common: float
    scale: dict[str, float]
    offset: dict[str, float]
    spread: float
    low: float
    high: float

    def total_us(self, parts: Parts) -> float:
        """Microseconds of the whole."""
        kernels = sum(
            self.scale.get(kind, 1.0) * us + (self.common + self.offset.get(kind, 0.0)) * parts.counts[kind]
            for kind, us in parts.us.items()
        )
        return max(LEAST_US, self.start + kernels)

    def interval_us(self, parts: Parts) -> tuple[float, float]:
        """Within which nine of ten networks lie."""
        total, own = self.total_us(parts), _own_spread(parts, self.total_us(parts), self.spread)
        return total * float(np.exp(self.low * own)), total * float(np.exp(self.high * own))

    def ends(self) -> tuple[float, float]:
        """The interval of a network whose kernels are all known exactly, as shares of its time: (-0.05, 0.04)."""
        return float(np.expm1(self.low * self.spread)), float(np.expm1(self.high * self.spread))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Correction":
        """Raises ValueError, TypeError or KeyError if this is none."""
        scale, offset = ({str(k): float(v) for k, v in data[name].items()} for name in ("scale", "offset"))
        start, common, spread, low, high = (float(data[k]) for k in ("start", "common", "spread", "low", "high"))
        if not np.isfinite([start, common, spread, low, high, *scale.values(), *offset.values()]).all():
            raise ValueError("a correction is not a finite number")
        return cls(start, common, scale, offset, spread, low, high)


def correct(parts: Sequence[Parts], ms: Array, fold: Array) -> Correction:
    """The correction that fits networks whose `parts` come from curves that have not seen them.

    Its error is judged on each fold by a correction that the others gave.
    """
    us = 1000 * np.asarray(ms, float)
    errors, spreads = np.empty(len(us)), np.empty(len(us))
    for f in np.unique(fold):
        rest = _solve([p for p, g in zip(parts, fold, strict=True) if g != f], us[fold != f])
        for i in np.flatnonzero(fold == f).tolist():
            total = rest.total_us(parts[i])
            errors[i], spreads[i] = np.log(us[i] / total), _own_spread(parts[i], total, 0.0)
    return _with_interval(_solve(parts, us), errors, spreads)


def _solve(parts: Sequence[Parts], us: Array) -> Correction:
    kinds = sorted({kind for p in parts for kind in p.us})
    sums = np.array([[p.us.get(kind, 0.0) for kind in kinds] for p in parts])
    counts = np.array([[p.counts.get(kind, 0) for kind in kinds] for p in parts], float)
    n = len(kinds)
    columns = np.hstack([np.ones((len(us), 1)), counts.sum(1, keepdims=True), sums, counts])
    prior = np.concatenate([[START_US, PROFILER_US], np.ones(n), np.zeros(n)])
    wide = np.concatenate([[START_SPREAD_US, PROFILER_SPREAD_US], np.full(n, NEAR_ONE), np.full(n, KIND_SPREAD_US)])
    matrix, left = columns * wide / us[:, None], (us - columns @ prior) / us
    counted = np.ones(len(us))
    for _ in range(20):
        weighted = matrix * counted[:, None]
        step = np.linalg.solve(weighted.T @ matrix + NOISE**2 * np.eye(len(wide)), weighted.T @ left)
        counted = np.minimum(1.0, 2 * NOISE / np.maximum(np.abs(left - matrix @ step), 1e-12))
    start, common, *rest = (prior + wide * step).tolist()
    scale, offset = dict(zip(kinds, rest[:n], strict=True)), dict(zip(kinds, rest[n:], strict=True))
    return Correction(start, common, scale, offset, spread=NOISE, low=-2.0, high=2.0)


def _own_spread(parts: Parts, total: float, spread: float) -> float:
    """Of the logarithm of one network's time: what all have, and what its own kernels are unsure by."""
    return float(np.sqrt(spread**2 + sum(parts.variance.values()) / total**2))


def _with_interval(found: Correction, errors: Array, own: Array) -> Correction:
    """spread: the likeliest one, single outliers aside; ends: the quantiles of the errors in units of it, so rounded
    that a new network is inside at least that often (split conformal prediction)."""
    candidates = np.geomspace(0.003, 0.3, 60)
    inside = np.abs(errors) <= np.quantile(np.abs(errors), 0.95)

    def unlikely(spread: float) -> float:
        variance = spread**2 + own[inside] ** 2
        return float((np.log(variance) + errors[inside] ** 2 / variance).sum())

    spread = float(min(candidates, key=unlikely))
    units = np.sort(errors / np.sqrt(spread**2 + own**2))
    rank = min(len(units), ceil((len(units) + 1) * (1 + COVERAGE) / 2))
    return Correction(
        found.start, found.common, found.scale, found.offset, spread, float(units[-rank]), float(units[rank - 1])
    )
