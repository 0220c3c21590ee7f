"""Scales of weights with few significant bits, which a container holds in half the bytes.

Nothing is lost but the choice of the step: weights are rounded with the scale as it is stored. Scales of activations
stay long: sums of short ones lie half-way between two steps again and again, where runtimes round apart.
"""

import torch
from torch import Tensor

BITS = 8  # those of bfloat16: of 127 steps, the last ends within half a step of the largest weight
FEW = 4  # where weights have less than 8 bits


def short_scale(scale: Tensor, *, bits: int = BITS) -> Tensor:
    """The nearest number of so many significant bits, at most 2**-bits off: the shape stays. scale > 0, float32."""
    dropped = 24 - bits
    words = scale.detach().contiguous().view(torch.int32) + (1 << (dropped - 1))
    return (words >> dropped << dropped).view(torch.float32)
