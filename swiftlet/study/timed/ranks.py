"""How well one column orders another, over a sample of networks: Spearman's correlation with a bootstrap interval."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from swiftlet.runtime.measurement import resample

Array = np.ndarray[Any, np.dtype[np.float64]]
Interval = tuple[float, float, float]


class Predictors(NamedTuple):
    """Of two columns against a third: each one's rank correlation, what the first adds when the second is known and
    the other way round (partial correlations), and the difference of the two correlations."""

    first: Interval
    second: Interval
    first_given_second: Interval
    second_given_first: Interval
    difference: Interval


def spearman(a: Sequence[float], b: Sequence[float], seed: int = 0) -> Interval:
    """Rank correlation and its 95 % bootstrap interval over the pairs. 5 pairs or more make sense."""
    (value,) = _correlations(np.array([range(len(a))]), a, b)
    low, high = np.quantile(_correlations(resample(len(a), seed), a, b), (0.025, 0.975))
    return float(value), float(low), float(high)


def predictors(first: Sequence[float], second: Sequence[float], target: Sequence[float], seed: int = 0) -> Predictors:
    """Which of two columns orders the target better."""
    whole, drawn = np.array([range(len(target))]), resample(len(target), seed)
    results = []
    for rows in (whole, drawn):
        a, b = _correlations(rows, first, target), _correlations(rows, second, target)
        between = _correlations(rows, first, second)
        results.append((a, b, _partial(a, b, between), _partial(b, a, between), a - b))
    intervals = []
    for value, sample in zip(*results, strict=True):
        low, high = np.quantile(sample, (0.025, 0.975))
        intervals.append((float(value[0]), float(low), float(high)))
    return Predictors(*intervals)


def spread(x: Sequence[float], y: Sequence[float], seed: int = 0) -> Interval:
    """How far y varies at equal x: of the residuals from a power law, the 90th percentile over the 10th."""
    a, b = np.log(np.array(x, np.float64)), np.log(np.array(y, np.float64))

    def of(rows: Array) -> Array:
        u, v = a[rows], b[rows]
        u = u - u.mean(axis=1, keepdims=True)
        v = v - v.mean(axis=1, keepdims=True)
        slope = (u * v).sum(axis=1, keepdims=True) / np.maximum((u * u).sum(axis=1, keepdims=True), 1e-12)
        low, high = np.quantile(v - slope * u, (0.1, 0.9), axis=1)
        return np.asarray(np.exp(high - low), np.float64)

    low, high = np.quantile(of(resample(len(a), seed)), (0.025, 0.975))
    return float(of(np.array([range(len(a))]))[0]), float(low), float(high)


def _correlations(rows: Array, a: Sequence[float], b: Sequence[float]) -> Array:
    """One rank correlation per row of sample numbers; ties get their mean rank, a constant sample counts as 0."""
    from scipy.stats import rankdata

    u, v = (rankdata(np.array(column, np.float64)[rows], axis=1) for column in (a, b))
    u = u - u.mean(axis=1, keepdims=True)
    v = v - v.mean(axis=1, keepdims=True)
    scale = np.sqrt((u * u).sum(axis=1) * (v * v).sum(axis=1))
    return np.asarray((u * v).sum(axis=1) / np.maximum(scale, 1e-12), np.float64)


def _partial(a: Array, b: Array, between: Array) -> Array:
    return np.asarray((a - b * between) / np.sqrt(np.maximum((1 - b**2) * (1 - between**2), 1e-12)), np.float64)
