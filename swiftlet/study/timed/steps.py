"""Find the step of a staircase in times that are noisy: least squares on the logarithm of time.

The null model is a smooth trend: within each run of consecutive counts an intercept and a slope in log(count), and one
curvature for all. Each candidate adds one column: stairs rise by log of what rounding up to a multiple wastes, a comb
is 1 off the multiples. The best candidate stands if an F-test, Bonferroni-corrected over candidates, rejects the null
at 1 % and if its interval says that counts off the multiples cost more than the noise between equal programs. A time
weighs less the wider its own interval is: a race that was disturbed should not decide.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SIZES = (4, 8, 16, 32, 64)
SHAPES = ("stairs", "comb")
SIGNIFICANT = 0.01
FLOOR = 0.01  # of an error: below, others weigh more
WORTH = 0.02  # of time; a smaller difference is none, see runtime/measurement.py

Array = np.ndarray[Any, np.dtype[np.float64]]


class Steps(NamedTuple):
    """size: None if no staircase was found. penalty: the mean share of time that a count off the multiples costs, and
    its 95 % interval. trend: the time of each count if it were a multiple. p: corrected, at most 1.
    """

    size: int | None
    shape: str
    penalty: tuple[float, float, float]
    p: float
    trend: tuple[float, ...]


def find_steps(counts: Sequence[int], times: Sequence[float], errors: Sequence[float] = ()) -> Steps:
    """The step in times of consecutive counts of channels; several runs of them may follow each other.

    errors: the standard error of each time's logarithm, where they differ.
    """
    from scipy import stats

    y, channels = np.log(np.array(times, np.float64)), np.array(counts)
    smooth = trend_columns(channels)
    weights = _weights(errors, len(y))
    null = _Fit(smooth, y, weights)
    tried = []
    for size in SIZES:
        for shape in SHAPES:
            column = step_column(channels, size, shape)
            seen = int((channels % size == 0).sum())  # of one multiple alone a comb would be any outlier
            if seen >= (2 if shape == "comb" else 1) and np.ptp(column) > 0:
                tried.append((size, shape, column, _Fit(np.hstack([smooth, column[:, None]]), y, weights)))
    size, shape, column, best = min(tried, key=lambda each: each[3].rss)
    gained = (null.rss - best.rss) / max(best.rss / best.free, 1e-30)
    p = min(1.0, len(tried) * float(stats.f.sf(gained, 1, best.free)))
    slope, half = float(best.weights[-1]), float(stats.t.ppf(0.975, best.free)) * best.error(-1)
    off = column[channels % size != 0]
    middle, low, high = (float(np.expm1(value * off).mean()) for value in (slope, slope - half, slope + half))
    if p >= SIGNIFICANT or low <= WORTH:
        return Steps(None, "smooth", (0.0, 0.0, 0.0), p, tuple(np.exp(null.fitted).tolist()))
    trend = np.exp(best.fitted - slope * column)
    return Steps(size, shape, (middle, low, high), p, tuple(trend.tolist()))


def multiples(
    counts: Sequence[int], times: Sequence[float], errors: Sequence[float] = ()
) -> dict[int, tuple[float, float, float]]:
    """How much of the time of counts that no 4 divides the multiples of 4, 8 and 16 take, with 95 % intervals.

    Each count belongs to its largest: 24 to 8, 32 to 16.
    """
    from scipy import stats

    y, channels = np.log(np.array(times, np.float64)), np.array(counts)
    marks = np.stack([channels % 8 == 4, channels % 16 == 8, channels % 16 == 0], axis=1).astype(np.float64)
    fit = _Fit(np.hstack([trend_columns(channels), marks]), y, _weights(errors, len(y)))
    quantile = float(stats.t.ppf(0.975, fit.free))
    found = {}
    for size, place in ((4, -3), (8, -2), (16, -1)):
        middle, half = float(fit.weights[place]), quantile * fit.error(place)
        found[size] = (float(np.exp(middle)), float(np.exp(middle - half)), float(np.exp(middle + half)))
    return found


def step_column(channels: Array, size: int, shape: str) -> Array:
    """0 at the multiples of `size`, more elsewhere."""
    if shape == "comb":
        return np.asarray(channels % size != 0, np.float64)
    return np.asarray(np.log(np.ceil(channels / size) * size / channels), np.float64)


def trend_columns(channels: Array) -> Array:
    """An intercept and a slope for each run of consecutive counts, and one curvature."""
    logs = np.log(channels)
    run = np.concatenate([[0], np.cumsum(np.diff(channels) != 1)])
    columns = [np.where(run == i, base, 0.0) for i in range(run.max() + 1) for base in (np.ones_like(logs), logs)]
    return np.stack([*columns, (logs - logs.mean()) ** 2], axis=1)


def _weights(errors: Sequence[float], n: int) -> Array:
    """Square roots of the weights of least squares."""
    return 1 / np.hypot(np.array(errors or [0.0] * n, np.float64), FLOOR)


class _Fit:
    """Weighted least squares; only the weights' proportions matter."""

    def __init__(self, columns: Array, y: Array, weights: Array) -> None:
        scale = weights / weights.mean()
        scaled = columns * scale[:, None]
        self.weights = np.linalg.lstsq(scaled, y * scale)[0]
        self.fitted = columns @ self.weights
        self.rss = float((((y - self.fitted) * scale) ** 2).sum())
        self.free = len(y) - columns.shape[1]
        self._inverse = np.linalg.pinv(scaled.T @ scaled)

    def error(self, place: int) -> float:
        """The standard error of a weight."""
        return float(np.sqrt(max(self.rss, 0) / self.free * max(self._inverse[place, place], 0)))
