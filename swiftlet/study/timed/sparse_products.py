"""Weights of a 1x1 convolution that are zero for the most part, and the products at hand that leave the zeros out.

Maps lie as (C, P), a row of P pixels for each channel, so that a product adds a multiple of one row to another for
each weight: the layout of Fast Sparse ConvNets (Elsen et al. 2019, section 3).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from swiftlet.runtime.base import Array

Multiply = Callable[[Tensor], Tensor]  # (C, P) -> (N, P)
Pattern = Callable[[int, float, np.random.Generator], Array]  # channels, density -> (C, C), True where a weight stays
Product = Callable[[Array], Multiply]  # of weights (N, C)

SHARED = 16  # output channels with the same inputs, in "16x1 blocks"


def anywhere(channels: int, density: float, draw: np.random.Generator) -> Array:
    """As many as the density says, wherever the lot falls."""
    kept = np.zeros(channels * channels, bool)
    kept[draw.permutation(len(kept))[: round(density * len(kept))]] = True
    return kept.reshape(channels, channels)


def blocks(size: int) -> Pattern:
    """Squares of weights that stay or go together; at least one stays."""

    def pattern(channels: int, density: float, draw: np.random.Generator) -> Array:
        kept = np.zeros((channels // size) ** 2, bool)
        kept[draw.permutation(len(kept))[: max(1, round(density * len(kept)))]] = True
        side = channels // size
        return np.kron(kept.reshape(side, side), np.ones((size, size), bool))

    return pattern


def columns(channels: int, density: float, draw: np.random.Generator) -> Array:
    """SHARED neighbouring output channels take the same inputs, as many as all others do; at least one."""
    groups = channels // SHARED
    kept = np.zeros((groups, channels), bool)
    for row in kept:
        row[draw.permutation(channels)[: max(1, round(density * channels))]] = True
    return np.repeat(kept, SHARED, axis=0)


def two_of_four(channels: int, density: float, draw: np.random.Generator) -> Array:
    """Two of each four neighbouring inputs of an output channel; the density is a half and nothing else."""
    order = draw.random((channels, channels // 4, 4)).argsort(axis=2)
    return (order < 2).reshape(channels, channels)


def scipy_csr(weight: Array) -> Multiply:
    matrix = sparse.csr_array(weight)
    return lambda x: torch.from_numpy(matrix @ x.numpy())


def scipy_bsr(size: int) -> Product:
    def product(weight: Array) -> Multiply:
        matrix = sparse.bsr_array(weight, blocksize=(size, size))
        return lambda x: torch.from_numpy(matrix @ x.numpy())

    return product


def torch_csr(weight: Array) -> Multiply:
    return _of_torch(sparse.csr_array(weight), torch.sparse_csr_tensor)


def torch_bsr(size: int) -> Product:
    return lambda weight: _of_torch(sparse.bsr_array(weight, blocksize=(size, size)), torch.sparse_bsr_tensor)


def gathered(weight: Array) -> Multiply:
    """For weights of `columns`: the inputs that a group shares are copied together, then multiplied densely."""
    n, c = weight.shape
    kept = weight.reshape(-1, SHARED, c) != 0
    places = np.stack([np.flatnonzero(group.any(0)) for group in kept])  # (groups, inputs of a group)
    values = np.take_along_axis(weight.reshape(-1, SHARED, c), places[:, None], axis=2)
    index, dense = torch.from_numpy(places.ravel()), torch.from_numpy(values)

    def multiply(x: Tensor) -> Tensor:
        inputs = x.index_select(0, index).view(*places.shape, x.shape[1])
        return torch.bmm(dense, inputs).view(n, x.shape[1])

    return multiply


def dense(weight: Array) -> Multiply:
    matrix = torch.from_numpy(weight)
    return lambda x: torch.mm(matrix, x)


PATTERNS: Mapping[str, Pattern] = {
    "anywhere": anywhere,
    "2:4": two_of_four,
    "4x4 blocks": blocks(4),
    "16x16 blocks": blocks(16),
    f"{SHARED}x1 blocks": columns,
}
# those in PyTorch's own sparse formats are MKL's
PRODUCTS: Mapping[str, Mapping[str, Product]] = {
    "anywhere": {"scipy CSR": scipy_csr, "torch CSR": torch_csr},
    "2:4": {"torch CSR": torch_csr},
    "4x4 blocks": {"scipy BSR": scipy_bsr(4), "torch BSR": torch_bsr(4)},
    "16x16 blocks": {"scipy BSR": scipy_bsr(16), "torch BSR": torch_bsr(16)},
    f"{SHARED}x1 blocks": {"gather, torch.bmm": gathered},
}


def usable() -> Mapping[str, Mapping[str, Product]]:
    """By pattern, without PyTorch's sparse formats where it comes without MKL, as on ARM."""
    if torch.backends.mkl.is_available():  # type: ignore[no-untyped-call]
        return PRODUCTS
    return {
        pattern: kept
        for pattern, products in PRODUCTS.items()
        if (kept := {name: product for name, product in products.items() if name not in ("torch CSR", "torch BSR")})
    }


def layers(pattern: str, channels: int, density: float, count: int, *, seed: int) -> list[Array]:
    """Weights (C, C), float32, of layers in a row that keep the size of what passes."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        kept = PATTERNS[pattern](channels, density, draw)
        scale = (kept.mean() * channels) ** -0.5
        made.append((kept * scale * draw.standard_normal(kept.shape)).astype(np.float32))
    return made


def chain(multiply: Sequence[Multiply]) -> Callable[[Tensor], Tensor]:
    """One after the other: (B, C, H, W) -> (B, N, H, W), picture by picture."""

    def run(images: Tensor) -> Tensor:
        results = []
        for image in images:
            x = image.flatten(1)
            for each in multiply:
                x = each(x)
            results.append(x.view(-1, *image.shape[1:]))
        return results[0][None] if len(results) == 1 else torch.stack(results)

    return run


def _of_torch(matrix: "sparse.csr_array | sparse.bsr_array", make: Callable[..., Tensor]) -> Multiply:
    """With indices of 32 bits: MKL takes these as they are, others are copied for each product."""
    rows, inputs = (torch.from_numpy(each.astype(np.int32)) for each in (matrix.indptr, matrix.indices))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse", category=UserWarning)  # "is in beta state"
        weight = make(rows, inputs, torch.from_numpy(np.ascontiguousarray(matrix.data)), size=matrix.shape)
    return lambda x: weight @ x
