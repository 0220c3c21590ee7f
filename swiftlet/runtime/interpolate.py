"""From measured kernels to those in between: physics first, then a smooth correction through what was measured.

The physics is a time per call, per multiply-add and per byte, all at least zero, fitted to relative error. What is left
is smooth in the logarithms of the sizes, and a Gaussian process interpolates it; far from any measurement it returns to
the physics, and says how unsure it is. The steps of a staircase are in the sizes: kernels.py counts padded channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize, nnls

from swiftlet.runtime.base import Array
from swiftlet.runtime.kernels import Kernel

LEAST_US = 0.3  # the profiler's clock ticks in microseconds; below this it says nothing
POINTS = 1500  # measured kernels of one kind that are kept: their number cubed is the price of reading the table
TUNED_ON = 250  # of them
FEW = 8  # with fewer, physics alone
ALONE_SPREAD = 0.3  # of the logarithm: what a kind with so few points is taken to be unsure by, at least
SMOOTH = np.log(4.0**2)  # where the search for length scales starts: a factor of 16 in one size
NOISE = (0.03**2, 1.0)  # bounds of the variance of the logarithm that is no function of the sizes
SHORTEST = 0.25  # length scale, in logarithms
# The bytes around a kernel are the same for all of one network: were they to count for much, they would be its name,
# and what disturbed that network would be learned with it.
SHORTEST_AROUND = 4.0
WORK = 5  # of a row's numbers, from the first on, have a price
FIXED = WORK + 2  # numbers in each row, before the sizes
BELIEVED = 2.0  # standard deviations from what all other points say, beyond which a point counts less


@dataclass(frozen=True, eq=False)
class Curve:
    """Times of one kind of kernel.

    points: (n, 7 + sizes), rows of `numbers`; us: (n,); price: microseconds per call, multiply-add, byte read, of
    weights, and written, and element of patches; shape: logarithms of the variance, of the noise, and of the squared
    length of each number, or empty.
    """

    points: Array
    us: Array
    price: Array
    shape: Array

    def predict(self, kernels: Sequence[Kernel]) -> tuple[Array, Array]:
        """Microseconds of each kernel, and the variance of their logarithm, noise included."""
        rows = np.array([numbers(kernel) for kernel in kernels])
        base = self._physics(rows)
        if not len(self.shape):
            return np.exp(base + self._offset), np.full(len(rows), max(float(np.var(self._rest)), ALONE_SPREAD**2))
        near = self._alike(_logs(rows), self._at)
        factor, weights = self._solved
        log = base + self._offset + near @ weights
        variance = np.exp(self.shape[0]) - np.einsum("ij,ji->i", near, cho_solve(factor, near.T))
        return np.exp(log), np.maximum(variance, 0.0) + np.exp(self.shape[1])

    def through(self, points: Array, us: Array) -> "Curve":
        """The same physics and smoothness, through other measurements."""
        return Curve(*_averaged(points, us), self.price, self.shape)

    def _physics(self, rows: Array) -> Array:
        base: Array = np.log(np.maximum(_work(rows) @ self.price, LEAST_US / 2))
        return base

    def _alike(self, a: Array, b: Array) -> Array:
        scale = np.exp(-self.shape[2:])
        apart = ((a**2) @ scale)[:, None] + ((b**2) @ scale)[None] - 2 * (a * scale) @ b.T
        alike: Array = np.exp(self.shape[0] - 0.5 * np.maximum(apart, 0.0))
        return alike

    @cached_property
    def _at(self) -> Array:
        return _logs(self.points)

    @cached_property
    def _rest(self) -> Array:
        return np.log(self.us) - self._physics(self.points)

    @cached_property
    def _offset(self) -> float:
        return float(np.median(self._rest))

    @cached_property
    def _solved(self) -> tuple[Any, Array]:
        """The points are solved for three times: one that was disturbed while it was timed counts less each time."""
        alike, left = self._alike(self._at, self._at), self._rest - self._offset
        noise = np.full(len(left), np.exp(self.shape[1]))
        for _ in range(2):
            inverse = cho_solve(cho_factor(alike + np.diag(noise + 1e-8), lower=True), np.eye(len(left)))
            certainty = np.diag(inverse)  # leave-one-out: the error of point i is (inverse @ left)[i] / certainty[i]
            spread = np.sqrt(np.maximum(1 / certainty - noise, 0.0) + np.exp(self.shape[1]))
            off = np.abs(inverse @ left) / certainty / spread
            noise = np.exp(self.shape[1]) * np.maximum(1.0, off / BELIEVED) ** 2
        factor = cho_factor(alike + np.diag(noise + 1e-8), lower=True)
        return factor, cho_solve(factor, left)


def numbers(kernel: Kernel) -> list[float]:
    """A kernel as a row: MACs, bytes read, of weights and written, patches, the bytes around it, then its sizes."""
    return [kernel.macs, kernel.reads, kernel.weights, kernel.writes, kernel.patches, *kernel.around, *kernel.sizes]


def fit(points: Array, us: Array) -> Curve:
    """The curve through measured kernels of one kind. Equal ones are averaged, at most POINTS kept, drawn by lot."""
    rows, times = _averaged(points, us)
    work = _work(rows)
    unit = np.maximum(work.max(axis=0), 1.0)  # so that all prices are of one size for the solver
    price = nnls(work / unit / times[:, None], np.ones(len(times)))[0] / unit
    curve = Curve(rows, times, price, np.empty(0))
    return curve if len(rows) < FEW else Curve(rows, times, price, _tuned(curve))


def _averaged(points: Array, us: Array) -> tuple[Array, Array]:
    rows, place = np.unique(points, axis=0, return_inverse=True)
    logs = np.log(np.maximum(us, LEAST_US))
    means = np.bincount(place.ravel(), logs) / np.bincount(place.ravel())
    lot = np.random.default_rng(0).permutation(len(rows))[:POINTS]
    return rows[lot], np.exp(means[lot])


def _logs(rows: Array) -> Array:
    return np.log(1.0 + rows)


def _work(rows: Array) -> Array:
    return np.column_stack([np.ones(len(rows)), rows[:, :WORK]])


def _tuned(curve: Curve) -> Array:
    """The shape with the largest posterior probability; the prior is wide and stands around one length for all."""
    x, y = curve._at[:TUNED_ON], (curve._rest - curve._offset)[:TUNED_ON]
    apart = (x[:, None] - x[None]) ** 2
    spread = max(float(y.var()), 1e-4)
    start = np.array([np.log(spread), np.log(0.05 * spread + 2e-5), *[SMOOTH] * x.shape[1]])
    eye = np.eye(len(y))

    def cost(shape: Array) -> tuple[float, Array]:
        alike = np.exp(shape[0] - 0.5 * (apart @ np.exp(-shape[2:])))
        noise = np.exp(shape[1])
        factor = cho_factor(alike + (noise + 1e-8) * eye, lower=True)
        inverse = cho_solve(factor, eye)
        solved = inverse @ y
        pull = np.outer(solved, solved) - inverse
        slope = np.empty_like(shape)
        slope[0] = -0.5 * (pull * alike).sum()
        slope[1] = -0.5 * np.trace(pull) * noise
        slope[2:] = -0.25 * np.einsum("ij,ijk->k", pull * alike, apart) * np.exp(-shape[2:])
        off = (shape - start) / 3
        value = 0.5 * y @ solved + np.log(np.diag(factor[0])).sum() + 0.5 * off @ off
        return float(value), slope + off / 3

    shortest = np.full(x.shape[1], SHORTEST)
    shortest[WORK:FIXED] = SHORTEST_AROUND
    lengths = [(2 * np.log(length), 12.0) for length in shortest]
    bounds = [(np.log(1e-4), np.log(25.0)), tuple(np.log(NOISE)), *lengths]
    found: Array = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}).x
    return found
