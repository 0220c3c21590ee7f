"""How well a feature map is a filter of another one of its layer: least squares over pictures and pixels.

A filter has d x d weights and a constant, as a depthwise convolution before its BatchNorm. It is fitted, and the best
source is chosen, on some pictures; R2 is that on others, so that it is no higher for having been chosen.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-9  # of the mean square of a source: against singular equations, far below what matters
DEAD = 1e-6  # a standard deviation, against the layer's mean one: such a map is the same everywhere
GRID = 8  # positions per side that are looked at, of maps that have more


class Relations(NamedTuple):
    """Of one layer at one d. fitted, held_out: R2 of (source, target), (C, C), on the pictures of the fit and others;
    filters: (source, d * d + 1, target); alive: (C,), the maps that vary on both."""

    fitted: Tensor
    held_out: Tensor
    filters: Tensor
    alive: Tensor


def relations(fit: Tensor, others: Tensor, kernels: Sequence[int], *, astray: bool = False) -> dict[int, Relations]:
    """Every map from every other one by a filter of each d of `kernels`, odd. fit, others: maps (B, C, H, W).

    `astray` takes the sources from the next picture, as a control: what is explained then is not due to the picture.
    """
    (fit, others), alive = standardised(fit, others)
    c, widest = fit.shape[1], max(kernels)
    taps = {d: _taps(d, widest) for d in kernels}
    found: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {d: [] for d in kernels}
    targets = [_positions(maps) for maps in (fit, others)]  # (N, C)
    sums = [target.square().sum(0) for target in targets]
    spreads = [(target - target.mean(0)).square().sum(0).clamp_min(1e-12) for target in targets]
    for source in range(c):
        products = []
        for maps, target in zip((fit, others), targets, strict=True):
            x = _patches(maps[:, source].roll(1, 0) if astray else maps[:, source], widest)  # (N, d * d + 1)
            products.append((x.T @ x, x.T @ target))
        for d in kernels:
            (gram, cross), (gram_of_others, cross_of_others) = [
                (g[taps[d]][:, taps[d]], b[taps[d]]) for g, b in products
            ]
            ridge = RIDGE * len(targets[0]) * torch.eye(len(gram), dtype=gram.dtype)
            filters = torch.linalg.solve(gram + ridge, cross)  # (d * d + 1, C)
            errors = [
                total - 2 * (filters * b).sum(0) + (filters * (g @ filters)).sum(0)
                for total, g, b in zip(sums, (gram, gram_of_others), (cross, cross_of_others), strict=True)
            ]
            r2 = [1 - error / spread for error, spread in zip(errors, spreads, strict=True)]
            found[d].append((r2[0], r2[1], filters))
    stacked = {d: [torch.stack(parts) for parts in zip(*each, strict=True)] for d, each in found.items()}
    return {d: Relations(fitted, held_out, filters, alive) for d, (fitted, held_out, filters) in stacked.items()}


def best_sources(relation: Relations) -> Tensor:
    """For each map, (C,), the other one that explains it best on the pictures of the fit."""
    fitted = relation.fitted.clone()
    fitted.fill_diagonal_(-torch.inf)
    return fitted.argmax(0)


def best_r2(relation: Relations) -> Tensor:
    """R2 of each map that is alive from its best source, on the other pictures."""
    sources = best_sources(relation)
    return relation.held_out[sources, torch.arange(len(sources))][relation.alive]


def half_from_half(relation: Relations) -> Tensor:
    """R2, on the other pictures, of half of the living maps, each from its best source among the other half.

    Which half explains the rest best is chosen on the pictures of the fit, one map after the other.
    """
    alive = relation.alive.nonzero().flatten()
    fitted = relation.fitted[alive][:, alive].clamp_min(0)
    fitted.fill_diagonal_(1)
    kept: list[int] = []
    explained = torch.zeros(len(alive), dtype=fitted.dtype)
    for _ in range((len(alive) + 1) // 2):
        gains = torch.maximum(fitted, explained).sum(1)
        gains[kept] = -1
        kept.append(int(gains.argmax()))
        explained = torch.maximum(explained, fitted[kept[-1]])
    made = torch.tensor([i for i in range(len(alive)) if i not in kept], dtype=torch.long)
    sources = torch.tensor(kept)[fitted[kept][:, made].argmax(0)]
    return relation.held_out[alive[sources], alive[made]]


def made_from(source: Tensor, filter: Tensor) -> Tensor:
    """(B, H, W) maps by a filter of d * d weights and a constant, as `relations` gives it for standardised maps."""
    d = round((len(filter) - 1) ** 0.5)
    made = F.conv2d(source[:, None], filter[:-1].reshape(1, 1, d, d), padding=d // 2)
    return made[:, 0] + filter[-1]


def standardised(fit: Tensor, others: Tensor) -> tuple[list[Tensor], Tensor]:
    """Both (B, C, H, W) in float64, each map with mean 0 and deviation 1 in `fit`; (C,): whether it varies."""
    both = [maps.double() for maps in (fit, others)]
    deviations = [maps.std((0, 2, 3)) for maps in both]
    alive = torch.stack([deviation > DEAD * deviation.mean() for deviation in deviations]).all(0)
    mean, deviation = both[0].mean((0, 2, 3)), torch.where(alive, deviations[0], torch.ones_like(deviations[0]))
    return [(maps - mean[:, None, None]) / deviation[:, None, None] for maps in both], alive


def _taps(d: int, widest: int) -> Tensor:
    """Where the weights of a d x d filter are among those of the widest, and the constant at the end."""
    start = (widest - d) // 2
    rows = torch.arange(start, start + d)
    return torch.cat([(widest * rows[:, None] + rows).flatten(), torch.tensor([widest * widest])])


def _stride(maps: Tensor) -> int:
    return max(1, maps.shape[-1] // GRID)


def _positions(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (N, C)."""
    step = _stride(maps)
    return maps[:, :, ::step, ::step].permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _patches(source: Tensor, d: int) -> Tensor:
    """(B, H, W) -> (N, d * d + 1): what a filter sees at each position, 0 outside the map, and a 1."""
    patches = F.unfold(source[:, None], d, padding=d // 2, stride=_stride(source))  # (B, d * d, positions)
    seen = patches.transpose(1, 2).reshape(-1, d * d)
    return torch.cat([seen, torch.ones(len(seen), 1, dtype=seen.dtype)], 1)


def from_all(fit: Tensor, others: Tensor) -> Tensor:
    """R2, on the other pictures, of each map that is alive from all other maps of its layer, pixel by pixel."""
    (fit, others), alive = standardised(fit, others)
    seen, unseen = (torch.cat([y, torch.ones(len(y), 1, dtype=y.dtype)], 1) for y in map(_positions, (fit, others)))
    gram = seen.T @ seen + RIDGE * len(seen) * torch.eye(seen.shape[1], dtype=seen.dtype)
    found = []
    for target in alive.nonzero().flatten().tolist():
        rest = [i for i in range(len(gram)) if i != target]
        weights = torch.linalg.solve(gram[rest][:, rest], gram[rest, target])
        y = unseen[:, target]
        found.append(1 - (y - unseen[:, rest] @ weights).square().sum() / (y - y.mean()).square().sum())
    return torch.stack(found) if found else torch.zeros(0, dtype=gram.dtype)
