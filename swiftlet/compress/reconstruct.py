"""Factors that fit a layer's outputs on images, not its weights: inputs are far from white.

Both ways add imagined rows to those seen, as many as there are unknowns, which say what the weights alone say. So a
handful of images does little harm, and with many places the images decide.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.factors import Layer
from swiftlet.errors import BadInput

Hook = Callable[[Any, tuple[Tensor, ...], Tensor], None]


class Moments:
    """Sums over rows of d numbers, as they come."""

    def __init__(self) -> None:
        self.n = 0
        self._sum = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        rows = rows.double()
        self.n += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._squares = self._squares + rows.T @ rows

    def second(self) -> Tensor:
        """Mean of the outer products of the rows, (d, d)."""
        return self._squares / self.n

    def with_prior(self, n: int, second: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance, as if n more rows had been there, with mean 0 and these mean outer products."""
        total = self.n + n
        mean = self._sum / total
        return mean, (self._squares + n * second) / total - torch.outer(mean, mean)


def responses(
    model: fx.GraphModule, layers: Mapping[str, Layer], shape: tuple[int, ...], batches: Iterable[Tensor]
) -> dict[str, Moments]:
    """Moments of the outputs of each layer, without its bias, over all places of all images."""
    found = {path: Moments() for path in layers}

    def watch(path: str) -> Hook:
        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            rows = _rows(layer, output)
            found[path].add(rows if layer.bias is None else rows - layer.bias)

        return hook

    _run(model, {path: watch(path) for path in layers}, shape, batches)
    return found


def shrunk(moments: Moments, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of a layer's outputs, drawn towards those of white inputs, 0 and W W^T of the same size."""
    flat, seen = weight.detach().double().flatten(1), moments.second()
    white = flat @ flat.T
    return moments.with_prior(len(flat), white * (seen.trace() / white.trace().clamp(min=1e-300)))


def projected_bias(mean: Tensor, layer: Layer, last: Tensor) -> Tensor:
    """The bias behind svd's chain, which ends with the weight `last`: what the projection onto its columns takes from
    the mean output is given back."""
    basis = last / last.norm(dim=0)
    lost: Tensor = mean - basis @ (basis.T @ mean)
    return lost if layer.bias is None else layer.bias.detach() + lost


def refit(
    model: fx.GraphModule, chains: Mapping[str, Sequence[nn.Module]], shape: tuple[int, ...], batches: Iterable[Tensor]
) -> None:
    """In place, the last layer of each chain: the weight and bias with which the chain comes closest to the outputs of
    the layer that it stands for, at that layer's own inputs. The imagined rows say that nothing is to be changed, so on
    these images no chain gets worse."""
    found = {path: Moments() for path in chains}

    def watch(path: str) -> Hook:
        *before, last = chains[path]
        unfold = _unfold(last)

        def hook(layer: Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            z = inputs[0]
            for module in before:
                z = module(z)
            found[path].add(torch.cat((_rows(layer, unfold(z)), _rows(layer, output - last(z))), dim=1))

        return hook

    _run(model, {path: watch(path) for path in chains}, shape, batches)
    for path, moments in found.items():
        last: Any = chains[path][-1]
        d = last.weight[0].numel()
        second = moments.second()
        identity = torch.eye(d, dtype=second.dtype, device=second.device)
        prior = torch.zeros_like(second)
        prior[:d, :d] = second[:d, :d].trace() / d * identity
        mean, covariance = moments.with_prior(d, prior)
        features, towards = covariance[:d, :d] + 1e-30 * identity, covariance[:d, d:]
        change = torch.linalg.solve(features, towards)
        with torch.no_grad():
            last.weight += change.T.reshape(last.weight.shape)
            last.bias += mean[d:] - change.T @ mean[:d]


def _unfold(last: Any) -> Any:
    """A layer that returns, as channels, what each output of `last` is computed from."""
    d = last.weight[0].numel()
    unfold = copy.deepcopy(last)
    unfold.weight = nn.Parameter(torch.eye(d).to(last.weight).reshape(d, *last.weight.shape[1:]))
    unfold.bias = None
    return unfold


def _rows(layer: Layer, output: Tensor) -> Tensor:
    """(places, channels)."""
    return (output.movedim(-3, -1) if isinstance(layer, nn.Conv2d) else output).flatten(0, -2)


def _run(model: fx.GraphModule, hooks: Mapping[str, Hook], shape: tuple[int, ...], batches: Iterable[Tensor]) -> None:
    """All images through the network, with a hook on each of these layers."""
    handles = [model.get_submodule(path).register_forward_hook(hook) for path, hook in hooks.items()]
    images = 0
    try:
        with torch.inference_mode():
            for batch in batches:
                if not isinstance(batch, Tensor) or tuple(batch.shape[1:]) != tuple(shape):
                    given = tuple(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
                    raise BadInput(
                        f"factorize: batches must hold tensors of (B, {', '.join(map(str, shape))}), got {given}"
                    )
                if not batch.isfinite().all():
                    raise BadInput("factorize: a batch holds values that are not finite; what do the images divide by?")
                model(batch)
                images += len(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not images:
        raise BadInput("factorize: batches held no image; an iterator that was used before is empty, pass a list")
