"""MobileOne-S0 (Vasu et al. 2022, arXiv:2206.04040, table 2) as it is trained. Input (B, 3, H, W), total stride 32.

`swiftlet.compress.reparameterize` sums the branches of each block into one convolution, which leaves the 2.1 M
parameters and 275 M multiply-adds that the paper prints. Departure from the text: the first layer has one branch beside
its 1x1 convolution, not k, as in the authors' code.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register

STEM = 48
# channels, blocks: the rows of table 2 times S0's alpha, its two of 256 channels as one; each halves the sides first
ROWS = ((48, 2), (128, 8), (256, 10), (1024, 1))


class MobileOneBlock(nn.Module):
    """ReLU of the sum of parallel branches (figure 3): (B, c_in, H, W) -> (B, c_out, ceil(H / s), ceil(W / s)).

    The branches, each with a BatchNorm of its own and nothing after it: `branches` convolutions, a 1x1 one if those are
    larger, and, where the shapes agree, the input itself.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1, branches: int) -> None:
        super().__init__()
        parts: dict[str, nn.Module] = {}
        for i in range(branches):
            parts[f"conv{i}"] = conv_bn(c_in, c_out, kernel, stride=stride, groups=groups, act=None)
        if kernel > 1:
            parts["scale"] = conv_bn(c_in, c_out, 1, stride=stride, groups=groups, act=None)
        if stride == 1 and c_in == c_out:
            parts["skip"] = nn.BatchNorm2d(c_in)
        self.branches = nn.ModuleDict(parts)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        first, *others = self.branches.values()
        y: Tensor = first(x)
        for branch in others:
            y = y + branch(x)
        out: Tensor = self.act(y)
        return out


def separable(c_in: int, c_out: int, stride: int, branches: int) -> nn.Sequential:
    """A depthwise and a pointwise block, as in MobileNet V1."""
    depthwise = MobileOneBlock(c_in, c_in, 3, stride=stride, groups=c_in, branches=branches)
    pointwise = MobileOneBlock(c_in, c_out, 1, branches=branches)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))


@register(
    Card(
        title="MobileOne-S0",
        family="mobileone",
        paper="arXiv:2206.04040",
        input=(3, 224, 224),
        params=5_293_272,
        macs=1_051_935_232,
        variants=(Variant(top1=71.4, source="authors' README"),),
    )
)
def mobileone_s0(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    branches: int = 4,
    stem_stride: Literal[1, 2] = 2,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `branches` is the paper's k: how many convolutions lie side by side in each block while it is trained. `width`
    scales every stage, rounded down to at least 1 channel (the larger MobileOnes scale each stage by another factor).
    `stem_stride=1` halves the total stride to 16, for inputs of 32 pixels and less.
    """
    c = max(1, int(STEM * width))
    stem = MobileOneBlock(in_channels, c, 3, stride=stem_stride, branches=1)
    stages = []
    for channels, n in ROWS:
        blocks, c_out = [], max(1, int(channels * width))
        for i in range(n):
            blocks.append(separable(c, c_out, 2 if i == 0 else 1, branches))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model
