"""A weight as the product of smaller ones: SVD, spatial, CP and Tucker-2. Tensors in, tensors out.

Weights are (N, C, kh, kw), or (N, C) of nn.Linear; everything is computed in float64. A loss is the share of the sum of
squared weights that is lost, 0 to 1; its root is the relative error in the Frobenius norm.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from swiftlet.compress.factors import Rank

ROUNDING = 1e-13  # smaller shares of the squared weights are float32's rounding, not part of the weight
SWEEPS = 50  # of alternating least squares, at most
CP_STEPS = 8  # CP has no spectrum: its ranks are tried in so many steps up to where nothing is saved any more


class Decomposition(Protocol):
    """What is known of a weight under one method."""

    def losses(self) -> Sequence[tuple[Rank, float]]:
        """Ranks from low to high, and what each loses at most."""
        ...

    def weights(self, rank: Rank) -> list[Tensor]:
        """Those of the chain in factors.py, in its order, up to reshaping."""
        ...


def decompose(weight: Tensor, method: str, gram: Tensor | None = None) -> Decomposition:
    """`gram`, for svd: the covariance (N, N) of the layer's outputs; without it that for white inputs."""
    weight = weight.detach().double()
    if method == "svd":
        return Svd(weight, gram)
    others: dict[str, Callable[[Tensor], Decomposition]] = {"spatial": Spatial, "cp": Cp, "tucker": Tucker}
    return others[method](weight)


class Svd:
    """y = W x as P (Q x): P the leading eigenvectors of the covariance of y, Q = P^T W.

    No other matrix of that rank loses less of y (principal components; Zhang et al. 2015, arXiv:1505.06798, section
    3.1). With white inputs the covariance is W W^T, P holds the left singular vectors of W, and P Q is the truncated
    SVD: the best there is for W itself (Eckart and Young).
    """

    def __init__(self, weight: Tensor, gram: Tensor | None = None) -> None:
        self._flat = weight.flatten(1)
        self._values, self._basis = _spectrum(self._flat @ self._flat.T if gram is None else gram)

    def losses(self) -> Sequence[tuple[Rank, float]]:
        return list(enumerate(_tails(self._values)[: min(self._flat.shape)], start=1))

    def weights(self, rank: Rank) -> list[Tensor]:
        assert isinstance(rank, int)
        last = self._basis[:, :rank]
        first = last.T @ self._flat
        scale = first.norm(dim=1).clamp(min=1e-30).sqrt()  # both factors equally large: kinder to int8 and to training
        return [first / scale[:, None], last * scale]


class Spatial:
    """W[n, c, i, j] as the sum over r of H[n, r, j] V[r, c, i] (Jaderberg et al. 2014, arXiv:1405.3866, scheme 2).

    In their paper by alternating optimisation; it is an SVD of W as a matrix (c, i) x (n, j), hence the best there is
    (Tai et al. 2015, arXiv:1511.06067, theorem 1).
    """

    def __init__(self, weight: Tensor) -> None:
        n, c, height, width = weight.shape
        self._n, self._width = n, width
        matrix = weight.permute(1, 2, 0, 3).reshape(c * height, n * width)
        self._left, self._values, self._right = torch.linalg.svd(matrix, full_matrices=False)

    def losses(self) -> Sequence[tuple[Rank, float]]:
        return list(enumerate(_tails(self._values.square()), start=1))

    def weights(self, rank: Rank) -> list[Tensor]:
        assert isinstance(rank, int)
        root = self._values[:rank].sqrt()
        tall = (self._left[:, :rank] * root).T  # (r, C kh)
        wide = root[:, None] * self._right[:rank]  # (r, N kw)
        return [tall, wide.reshape(rank, self._n, self._width).transpose(0, 1)]


class Tucker:
    """W[n, c, s] as the sum over p and q of B[n, q] G[q, p, s] A[p, c]; s counts the taps of the kernel.

    Tucker-2 (Kim et al. 2016, arXiv:1511.06530), by higher-order orthogonal iteration from the truncated
    higher-order SVD. What that start loses is at most the sum of what the two modes lose by themselves (De Lathauwer
    et al. 2000), and iterating only improves it, so that the losses here are upper bounds.
    """

    def __init__(self, weight: Tensor) -> None:
        self._tensor = weight.flatten(2)  # (N, C, S)
        self._out, self._out_basis = _spectrum(_gram(self._tensor, 0))
        self._in, _ = _spectrum(_gram(self._tensor, 1))

    def losses(self) -> Sequence[tuple[Rank, float]]:
        into, out = (torch.tensor(_tails(values)) for values in (self._in, self._out))
        allowed = sorted({*into.tolist(), *out.tolist()}, reverse=True)  # one bound for both modes, from loose to tight
        found: dict[tuple[int, int], float] = {}
        for most in allowed:
            r_in, r_out = (int((tails > most).sum()) + 1 for tails in (into, out))
            found[r_in, r_out] = min(1.0, float(into[r_in - 1] + out[r_out - 1]))
        return list(found.items())

    def weights(self, rank: Rank) -> list[Tensor]:
        assert isinstance(rank, tuple)
        r_in, r_out = rank
        out = self._out_basis[:, :r_out]
        for _ in range(5):  # more changes the third digit of the loss at most
            into = _spectrum(_gram(torch.einsum("ncs,nq->qcs", self._tensor, out), 1))[1][:, :r_in]
            out = _spectrum(_gram(torch.einsum("ncs,cp->nps", self._tensor, into), 0))[1][:, :r_out]
        core = torch.einsum("ncs,nq,cp->qps", self._tensor, out, into)
        return [into.T, core, out]


class Cp:
    """W[n, c, s] as the sum over r of B[n, r] D[r, s] A[r, c]: canonical polyadic decomposition (Denton et al. 2014,
    arXiv:1404.0736), by alternating least squares.

    Lebedev et al. (arXiv:1412.6553) also split the taps, s, into rows and columns. For 3 x 3 that would save a third
    of the smallest layer of the three and cost a fourth one.
    """

    def __init__(self, weight: Tensor) -> None:
        self._tensor = weight.flatten(2)
        self._found: dict[int, tuple[list[Tensor], float]] = {}

    def losses(self) -> Sequence[tuple[Rank, float]]:
        n, c, taps = self._tensor.shape
        most = n * c * taps // (n + c + taps)
        ranks = sorted({max(1, most * step // CP_STEPS) for step in range(1, CP_STEPS)})
        return [(rank, self._fit(rank)[1]) for rank in ranks]

    def weights(self, rank: Rank) -> list[Tensor]:
        assert isinstance(rank, int)
        (out, into, taps), _ = self._fit(rank)
        return [into.T, taps.T, out]

    def _fit(self, rank: int) -> tuple[list[Tensor], float]:
        if rank not in self._found:
            self._found[rank] = _alternate(self._tensor, rank)
        return self._found[rank]


def _alternate(tensor: Tensor, rank: int) -> tuple[list[Tensor], float]:
    """The three factors (size, rank) of a CP decomposition, and what they lose.

    They start from the leading eigenvectors of each mode, filled up with fixed random columns: from random columns
    alone, even planted factors are often missed. Each step is damped towards where it was: plain alternating least
    squares can run off with columns that cancel each other (Phan et al. 2020, arXiv:2008.05441), and this one has the
    same fixed points.
    """
    generator = torch.Generator().manual_seed(0)
    factors = []
    for mode, size in enumerate(tensor.shape):
        _, basis = _spectrum(_gram(tensor, mode))
        filling = torch.randn(size, max(0, rank - size), generator=generator, dtype=tensor.dtype).to(tensor.device)
        factors.append(torch.cat((basis[:, :rank], filling), dim=1))
    total = tensor.square().sum()
    products = ("ncs,cr,sr->nr", "ncs,nr,sr->cr", "ncs,nr,cr->sr")
    loss = 1.0
    for _ in range(SWEEPS):
        before = loss
        for mode, product in enumerate(products):
            a, b = (factors[other] for other in range(3) if other != mode)
            gram = (a.T @ a) * (b.T @ b)
            right = torch.einsum(product, tensor, a, b)
            damping = 1e-6 * gram.trace() / rank + 1e-30
            damped = gram + damping * torch.eye(rank, dtype=gram.dtype, device=gram.device)
            factors[mode] = torch.linalg.solve(damped, (right + damping * factors[mode]).T).T
        kept = 2 * (right * factors[2]).sum() - (gram * (factors[2].T @ factors[2])).sum()
        loss = float((1 - kept / total).clamp(0, 1)) if total > 0 else 0.0
        factors = _balanced(factors)
        if loss < ROUNDING or before - loss < 1e-3 * loss:
            break
    return factors, loss


def _balanced(factors: list[Tensor]) -> list[Tensor]:
    """The same products, with columns that are equally long in all three."""
    lengths = [factor.norm(dim=0).clamp(min=1e-30) for factor in factors]
    mean = (lengths[0] * lengths[1] * lengths[2]) ** (1 / 3)
    return [factor * (mean / length) for factor, length in zip(factors, lengths, strict=True)]


def _gram(tensor: Tensor, mode: int) -> Tensor:
    """Inner products of the slices along one axis."""
    rows = tensor.movedim(mode, 0).flatten(1)
    return rows @ rows.T


def _spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a symmetric matrix from large to small, none below 0, and the eigenvectors as columns."""
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def _tails(values: Tensor) -> list[float]:
    """For each rank from 1: the share of the sum that lies beyond it."""
    beyond = values.flip(0).cumsum(0).flip(0)
    shares = beyond[1:] / beyond[0].clamp(min=1e-300)
    return [*shares.where(shares > ROUNDING, 0).tolist(), 0.0]
