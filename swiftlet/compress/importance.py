"""How much each channel matters: one number for all that goes with it."""

from collections import defaultdict
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from swiftlet.compress.channels import Channels
from swiftlet.errors import BadInput

Importance = Literal["l1", "l2", "batchnorm", "taylor", "random"]


def importances(channels: Channels, kind: Importance, seed: int = 0) -> dict[int, float]:
    """The importance of each channel number of `channels`; none for those that no layer speaks for.

    A channel goes with one row of the weights of every layer that makes it or hands it on, so each row has a score.

    - "l1", "l2": the norm of the row, in convolutions and Linear (Li et al. 2017, arXiv:1608.08710).
    - "batchnorm": the scale |gamma| of each BatchNorm (network slimming, Liu et al. 2017, arXiv:1708.06519).
    - "taylor": the square of the sum of weight times gradient over the row, biases and BatchNorm too: what the loss
      changes, to first order, without it (Molchanov et al. 2019, arXiv:1906.10771, section 3). The gradients are those
      that the caller has accumulated in the network by loss.backward() over some batches.
    - "random": a draw per channel from `seed`, the control that every other must beat.

    Norms and scales are divided by their layer's mean, so that layers can be compared, and the rows of one channel
    count by their mean. Taylor's scores are in units of the loss as they are, and are summed.

    Raises BadInput for "taylor" where a gradient is missing.
    """
    if kind == "random":
        generator = torch.Generator().manual_seed(seed)
        numbers = sorted(channels.signatures)
        return dict(zip(numbers, torch.rand(len(numbers), generator=generator).tolist(), strict=True))
    found = defaultdict[int, list[float]](list)
    for path, numbers in channels.rows().items():
        score = _score(path, channels.traced.get_submodule(path), kind)
        if score is not None:
            for number, value in zip(numbers, score.tolist(), strict=True):
                found[number].append(value)
    if kind == "taylor":
        return {number: sum(values) for number, values in found.items()}
    return {number: sum(values) / len(values) for number, values in found.items()}


def _score(path: str, layer: nn.Module, kind: Importance) -> Tensor | None:
    """(rows,), or None if layers of this type do not count."""
    if kind == "taylor":
        return _contribution(path, layer)
    if isinstance(layer, nn.Conv2d | nn.Linear) and kind != "batchnorm":
        score: Tensor = layer.weight.detach().flatten(1).norm(p=1 if kind == "l1" else 2, dim=1)
    elif isinstance(layer, _NormBase) and layer.affine and kind == "batchnorm":
        score = layer.weight.detach().abs()
    else:
        return None
    mean: Tensor = score.mean().clamp(min=torch.finfo(score.dtype).tiny)
    return score / mean


def _contribution(path: str, layer: nn.Module) -> Tensor | None:
    terms = []
    for name, parameter in layer.named_parameters(recurse=False):
        if parameter.requires_grad:
            if parameter.grad is None:
                raise BadInput(f"{path}.{name} has no gradient; importance='taylor' needs loss.backward() to be called")
            terms.append((parameter.detach() * parameter.grad).flatten(1 if parameter.ndim > 1 else 0))
    sums = [term.sum(1) if term.ndim > 1 else term for term in terms]
    return torch.stack(sums).sum(0).square() if sums else None
