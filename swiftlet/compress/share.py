"""Weight sharing: the weights of a tensor take few values, found by k-means, and are trained on as these values.

Han, Mao, Dally 2016, "Deep Compression", arXiv:1510.00149, section 3. A weight then costs log2(k) bits instead of 32,
plus k floats for each tensor.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization, remove_parametrizations

from swiftlet.compress.record import Record
from swiftlet.compress.sparsify import Skipped, copied, weighted
from swiftlet.errors import BadInput, NothingToDo

Init = Literal["linear", "density", "random"]
Values = npt.NDArray[np.float64]
MOST_BITS = 16
ITERATIONS = 1000  # of k-means; it stops by itself long before


class Shared(nn.Module):
    """A parametrization: a tensor that is looked up in its k centroids. Their gradients are sums over their weights.

    codes: int32, in the shape of the tensor; 1 to k, and 0 for a weight that is zero and stays zero.
    """

    codes: Tensor

    def __init__(self, codes: Tensor) -> None:
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, centroids: Tensor) -> Tensor:
        """(k,) -> the tensor."""
        table = torch.cat([centroids.new_zeros(1), centroids])
        return table.index_select(0, self.codes.flatten()).view(self.codes.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """The tensor -> (k,) means of the weights that share a code."""
        codes = self.codes.flatten().long()
        sums = torch.bincount(codes, weight.flatten().double())[1:]
        return (sums / torch.bincount(codes)[1:]).to(weight.dtype)


def share(
    model: nn.Module, bits: int | Mapping[str, int], *, init: Init = "linear", seed: int | None = None
) -> tuple[nn.Module, Record]:
    """Return a copy whose weights take at most 2^bits values in each tensor, and zero besides where they are zero.

    bits: 1 to 16, for every weight of two or more dimensions, or for each parameter by its name, biases too. Training
    moves the values and keeps which weight has which; `finished` makes it a plain network. init: where k-means starts:
    evenly between the smallest and the largest weight ("linear", best in the paper: the few large weights matter most),
    evenly among the sorted weights ("density"), or at weights drawn by `seed` ("random").

    The error of a weight is at most half the distance to the next centroid; a tensor that has no more values than asked
    for keeps them. Zeros stay zero in training only in tensors that are shared. Tied weights, and tensors that are zero
    everywhere, are skipped. Raises BadInput; NothingToDo if no tensor is left.
    """
    if init not in get_args(Init):
        raise BadInput(f"share: init={init!r}, needs one of {', '.join(get_args(Init))}")
    if (seed is not None) != (init == "random"):
        raise BadInput(f"share: init={init!r} and seed={seed}; a seed goes with init='random', and that needs one")
    new = copied(model)
    parameters = dict(new.named_parameters())
    owners = Counter(id(p) for module in new.modules() for p in module.parameters(recurse=False))
    skipped: Skipped = ()
    if isinstance(bits, Mapping):
        given = dict(bits)
    else:
        layers, skipped = weighted(new)
        given = {_join(path, "weight"): bits for path in layers}
    changed = []
    for name, count in given.items():
        path, _, own = name.rpartition(".")
        if ".parametrizations." in f".{name}" or _join(path, "parametrizations", own, "original") in parameters:
            raise BadInput(f"share: {name!r} has a parametrization already; call finished() on that first")
        if name not in parameters:
            raise BadInput(f"share: no parameter {name!r}; there are {', '.join(parameters)}")
        if type(count) is not int or not 1 <= count <= MOST_BITS:
            raise BadInput(f"share: {count!r} bits for {name!r}, needs 1 to {MOST_BITS}")
        if owners[id(parameters[name])] > 1:
            skipped += ((path, f"its {own} is also that of another layer"),)
            continue
        weight = parameters[name].detach()
        values = weight.double().cpu().numpy()
        there = np.unique(values[values != 0])
        if not np.isfinite(there).all():
            raise BadInput(f"share: {name!r} holds values that are no numbers")
        if len(there) == 0:
            skipped += ((path, f"its {own} is zero everywhere"),)
            continue
        few = len(there) <= 2**count
        centroids = there if few else kmeans(values[values != 0], _start(values[values != 0], 2**count, init, seed))
        codes = _codes(values, centroids)
        register_parametrization(new.get_submodule(path), own, Shared(torch.from_numpy(codes).to(weight.device)))
        changed.append(name)
    if not changed:
        raise NothingToDo(f"share: no tensor to share; skipped {skipped}")
    paths = tuple(dict.fromkeys(name.rpartition(".")[0] for name in changed))
    arguments: dict[str, object] = {"bits": {name: given[name] for name in changed}, "init": init, "seed": seed}
    return new, Record(name="share", arguments=arguments, changed=paths, skipped=skipped)


def finished(model: nn.Module) -> tuple[nn.Module, Record]:
    """Return a plain copy of a network with shared weights: the same layers, in which few different values stand.

    The same outputs to the bit. Raises NothingToDo if no weight is shared.
    """
    new = copied(model)
    found: dict[str, int] = {}
    for path, module in list(new.named_modules()):
        if not is_parametrized(module):
            continue
        parametrizations: Any = module.parametrizations
        for own in [own for own, chain in parametrizations.items() if isinstance(chain[0], Shared)]:
            found[_join(path, own)] = max(1, (len(parametrizations[own].original) - 1).bit_length())
            remove_parametrizations(module, own, leave_parametrized=True)
    if not found:
        raise NothingToDo("finished: no weight of the network is shared")
    paths = tuple(dict.fromkeys(name.rpartition(".")[0] for name in found))
    return new, Record(name="share", arguments={"bits": found, "init": "linear", "seed": None}, changed=paths)


def kmeans(values: Values, start: Values) -> Values:
    """Lloyd's algorithm on numbers, from sorted `start` until nothing moves: as many centroids, sorted, or as many as
    there are different values.

    Where a cluster has run empty, the one with the largest sum of squares is cut in two at its mean. From evenly spaced
    centroids a third of them runs empty on weights whose channels differ in scale, as folded depthwise ones do.

    Clusters of sorted numbers are stretches of them, so a step costs k searches and k differences of running sums.
    """
    values, centroids = np.sort(values.ravel()), start
    sums, squares = (np.concatenate([[0.0], np.cumsum(v)]) for v in (values, values**2))
    for _ in range(ITERATIONS):
        edges = np.unique(np.concatenate([[0], np.searchsorted(values, _middles(centroids)), [len(values)]]))
        moved = np.diff(sums[edges]) / np.diff(edges)
        if len(moved) < len(start):
            spread = np.diff(squares[edges]) - np.diff(edges) * moved**2
            worst = np.argsort(spread)[len(moved) - len(start) :]
            cuts = np.searchsorted(values, moved[worst])
            edges = np.unique(np.concatenate([edges, cuts]))
            moved = np.diff(sums[edges]) / np.diff(edges)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def _middles(centroids: Values) -> Values:
    return (centroids[1:] + centroids[:-1]) / 2


def _codes(values: Values, centroids: Values) -> npt.NDArray[np.int32]:
    """The nearest centroid of each value, from 1, without those that no value is nearest to; 0 for a value of 0."""
    nearest = np.searchsorted(_middles(centroids), values, side="right")
    _, dense = np.unique(nearest[values != 0], return_inverse=True)
    codes = np.zeros(values.shape, np.int32)
    codes[values != 0] = dense + 1
    return codes


def _start(values: Values, k: int, init: Init, seed: int | None) -> Values:
    if init == "linear":
        return np.linspace(values.min(), values.max(), k)
    if init == "density":
        return np.unique(np.quantile(values, (np.arange(k) + 0.5) / k))
    return np.sort(np.random.default_rng(seed).choice(np.unique(values), k, replace=False))


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)
