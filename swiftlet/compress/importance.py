"""How much each channel matters: one number for all that goes with it."""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase

from swiftlet.compress.channels import Channels
from swiftlet.errors import BadInput

Importance = Literal["l1", "l2", "batchnorm", "taylor", "random"]


def taylor_scores(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """For importance="taylor": what the loss changes, to first order, without each output channel of a layer.

    batches: normalised images (B, C, H, W) and labels (B,); the loss is cross-entropy. By the path of each convolution,
    Linear and BatchNorm: (rows,), the square of the gradient by a gate of 1 behind the channel, averaged over pictures
    (Molchanov et al. 2019, arXiv:1906.10771, section 3.3). Squares are taken of every picture by itself: summed over
    pictures, the gradients of a trained network cancel. The model is not changed.
    """
    watched = copy.deepcopy(model).eval().requires_grad_(False)
    gates: list[tuple[str, Tensor]] = []

    def gated(path: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def multiply(layer: nn.Module, inputs: object, output: Tensor) -> Tensor:
            shape = [len(output), *[1] * (output.ndim - 1)]
            channels = -1 if isinstance(layer, nn.Linear) else 1
            shape[channels] = output.shape[channels]
            gates.append((path, output.new_ones(shape).requires_grad_()))
            return output * gates[-1][1]

        return multiply

    for path, layer in watched.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | _NormBase):
            layer.register_forward_hook(gated(path))
    totals: dict[str, Tensor] = {}
    count = 0
    for images, labels in batches:
        gates.clear()
        with torch.enable_grad():
            F.cross_entropy(watched(images), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]
        gradients: dict[str, Tensor] = {}  # a layer may be called more than once
        for path, gate in gates:
            grad = torch.zeros_like(gate) if gate.grad is None else gate.grad  # None: the loss does not depend on it
            gradients[path] = gradients.get(path, 0) + grad.flatten(1)
        for path, of_each in gradients.items():
            totals[path] = totals.get(path, 0) + of_each.square().sum(0)
        count += len(labels)
    return {path: total / count for path, total in totals.items()}


def importances(
    channels: Channels, kind: Importance, seed: int = 0, scores: Mapping[str, Tensor] | None = None
) -> dict[int, float]:
    """The importance of each channel number of `channels`; none for those that no layer speaks for.

    A channel goes with one row of the weights of every layer that makes it or hands it on, so each row has a score.

    - "l1", "l2": the norm of the row, in convolutions and Linear (Li et al. 2017, arXiv:1608.08710).
    - "batchnorm": the scale |gamma| of each BatchNorm (network slimming, Liu et al. 2017, arXiv:1708.06519).
    - "taylor": `scores`, which taylor_scores gives; of a channel that passes BatchNorm those behind it alone.
    - "random": a draw per channel from `seed`, the control that every other must beat.

    All but the last are divided by their layer's mean, so that layers can be compared. The rows of one channel count by
    their mean; those of "taylor" are summed, since each adds to what the loss would change.

    Raises BadInput unless scores come with "taylor" and only with it, and fit the network.
    """
    if (scores is not None) != (kind == "taylor"):
        raise BadInput(f"importance={kind!r}: scores=taylor_scores(model, batches) go with 'taylor', and only with it")
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        numbers = sorted(channels.signatures)
        return dict(zip(numbers, torch.rand(len(numbers), generator=generator).tolist(), strict=True))
    if scores is not None:
        return {**_taylor(channels, scores, nn.Conv2d | nn.Linear), **_taylor(channels, scores, _NormBase)}
    found = defaultdict[int, list[float]](list)
    for path, numbers in channels.rows().items():
        score = _score(channels.traced.get_submodule(path), kind)
        if score is not None:
            for number, value in zip(numbers, score.tolist(), strict=True):
                found[number].append(value)
    return {number: sum(values) / len(values) for number, values in found.items()}


def _score(layer: nn.Module, kind: Importance) -> Tensor | None:
    """(rows,), or None if layers of this type do not count."""
    if isinstance(layer, nn.Conv2d | nn.Linear) and kind != "batchnorm":
        score: Tensor = layer.weight.detach().flatten(1).norm(p=1 if kind == "l1" else 2, dim=1)
    elif isinstance(layer, _NormBase) and layer.affine and kind == "batchnorm":
        score = layer.weight.detach().abs()
    else:
        return None
    return _against_mean(score)


def _taylor(channels: Channels, scores: Mapping[str, Tensor], kinds: UnionType | type) -> dict[int, float]:
    """What the rows of layers of these kinds say of each channel."""
    found = defaultdict[int, float](float)
    for path, numbers in channels.rows().items():
        if not isinstance(channels.traced.get_submodule(path), kinds):
            continue
        if path not in scores or len(scores[path]) != len(numbers):
            raise BadInput(f"importance='taylor': the scores of {path!r} do not fit it; make them with taylor_scores")
        for number, value in zip(numbers, _against_mean(scores[path]).tolist(), strict=True):
            found[number] += value
    return dict(found)


def _against_mean(score: Tensor) -> Tensor:
    return score / score.mean().clamp(min=torch.finfo(score.dtype).tiny)
