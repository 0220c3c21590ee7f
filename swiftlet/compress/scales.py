"""Scales of weights: short ones, which a container holds in half the bytes, and wide enough for any processor.

Short, of few significant bits: nothing is lost but the choice of the step, for weights are rounded with the scale as it
is stored. Scales of activations stay long: sums of short ones lie half-way between two steps again and again, where
runtimes round apart.

Wide: where products are added in pairs of 16 bits (overflow.py), 255 times two neighbouring weights must stay below
2**15. That is 128 steps for both, and only those of one sign add up; so the step of the few channels that have such
neighbours is a little longer than the largest weight alone would need.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TOP = 127  # steps of the largest weight of 8 bits
PAIR_TOP = 126  # of two neighbours of one sign: rounding up adds two at most, and they stay within 128

BITS = 8  # those of bfloat16: of 127 steps, the last ends within half a step of the largest weight
FEW = 4  # where weights have less than 8 bits


def short_scale(scale: Tensor, *, bits: int = BITS) -> Tensor:
    """The nearest number of so many significant bits, at most 2**-bits off: the shape stays. scale > 0, float32."""
    dropped = 24 - bits
    words = scale.detach().contiguous().view(torch.int32) + (1 << (dropped - 1))
    return (words >> dropped << dropped).view(torch.float32)


def weight_ranges(layer: nn.Conv2d | nn.Linear, *, safe_pairs: bool = True) -> Tensor:
    """What TOP steps of each output channel must reach, (C_out,): its largest weight; if `safe_pairs`, more where two
    neighbours could leave 16 bits otherwise. Not in depthwise layers, whose products are added in 32 bits."""
    largest = layer.weight.detach().abs().flatten(1).amax(1)
    if not safe_pairs or is_depthwise(layer):
        return largest
    rows = F.pad(in_order_of_sums(layer.weight.detach()), (0, 1))  # behind the last one lies nothing
    pairs = [part[:, 1:] + part[:, :-1] for part in (rows.clamp(min=0), (-rows).clamp(min=0))]
    return largest.maximum(torch.stack(pairs).amax((0, 2)) * (TOP / PAIR_TOP))


def in_order_of_sums(weight: Tensor) -> Tensor:
    """(C_out, taps), as kernels add them: the kernel's pixels one after the other, the channels of each."""
    return weight.flatten(2).transpose(1, 2).flatten(1) if weight.ndim == 4 else weight


def is_depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
