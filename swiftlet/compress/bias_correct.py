"""Rounded weights shift the mean of what a layer gives; its bias shifts it back (Nagel et al. 2019, arXiv:1906.04721).

Section 4.2 there, with the means taken from calibration images (appendix D) instead of BatchNorm's statistics.
"""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.record import Record
from swiftlet.compress.walk import rounded_bias, side_by_side
from swiftlet.errors import NothingToDo


def correct_biases(
    model: fx.GraphModule, integer: fx.GraphModule, batches: Iterable[Tensor]
) -> tuple[fx.GraphModule, Record]:
    """Return a copy of `integer`, which quantize() made of `model`, with biases that restore each channel's mean.

    Layer by layer, each on what the corrected ones before it give for `batches` of (B, C, H, W) images: the bias
    becomes that with which the mean over pictures and pixels is the float network's, rounded to the grid of the
    layer's sums. A layer without a bias gets one if it needs one. Raises BadInput without images or if `integer` is not
    of `model`, NothingToDo if no bias moves.
    """
    new = copy.deepcopy(integer)
    changed, skipped = [], []
    for step in side_by_side(model, new, batches, "correct_biases"):
        with torch.no_grad():
            given = [step.layer(x) for x in step.inputs]
        bias = torch.zeros_like(step.layer.bias_scale) if step.layer.bias is None else step.layer.bias.detach()
        moved = rounded_bias(step.layer, bias + _channel_means(step.wanted) - _channel_means(given))
        if torch.equal(moved, bias):
            skipped.append((step.node.target, "its mean is right to within half a step"))
        else:
            step.layer.bias = nn.Parameter(moved)
            changed.append(step.node.target)
    if not changed:
        raise NothingToDo(f"correct_biases: no bias to move; skipped {skipped}")
    return new, Record(name="correct_biases", changed=tuple(changed), skipped=tuple(skipped))


def _channel_means(batches: list[Tensor]) -> Tensor:
    """(C,) of tensors (B, C) or (B, C, H, W)."""
    rows = [x.transpose(0, 1).flatten(1) for x in batches]
    return torch.stack([x.double().sum(1) for x in rows]).sum(0).div(sum(x.shape[1] for x in rows)).float()
