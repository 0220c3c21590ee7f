"""ShuffleNet V1 (Zhang et al. 2017, arXiv:1707.01083, table 1). Input (B, 3, H, W), total stride 32.

What the paper leaves open: the stem's width beside scale 1, and what happens where a number of channels is no multiple
of the groups; see `STEMS` and `shufflenet_v1`. Departures from the authors' release (megvii ShuffleNet-Series): the
shuffle stands before the depthwise convolution, as in figure 2, and the classifier has a bias.
"""

import math
from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

STAGE2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # groups: channels of stage 2 (table 1); later stages double them
UNITS = (4, 8, 4)  # per stage, the first of each with stride 2
# width from which it holds, channels of the stem, the same for 8 groups. From 0.5 on they are the release's; below,
# they are what comes nearest to the printed 13 MFLOPs.
STEMS = ((2, 48, 48), (1, 24, 24), (0.5, 12, 16), (0, 12, 8))

# top-1 error in percent with 1, 2, 3, 4 and 8 groups (table 2)
ERRORS = {
    1.0: (33.6, 32.7, 32.6, 32.8, 32.4),
    0.5: (45.1, 44.4, 43.2, 41.6, 42.3),
    0.25: (57.1, 56.8, 55.0, 54.2, 52.7),
}


class Unit(nn.Module):
    """1x1 grouped convolution, shuffle, 3x3 depthwise, 1x1 grouped convolution, beside a shortcut (figure 2b, c).

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). With stride 1 the shortcut is added; with stride
    2 it is an average pooling that is concatenated, so the convolutions make the c_out - c_in other channels. `se`
    gates the convolutions' result before the sum, or the concatenated channels.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, groups: int, first: bool, shuffle: bool, se: bool) -> None:
        super().__init__()
        c_mid = math.ceil(c_out / 4 / groups) * groups
        self.squeeze = conv_bn(c_in, c_mid, 1, groups=1 if first else groups)
        self.shuffle = nn.ChannelShuffle(groups) if shuffle and groups > 1 else nn.Identity()
        self.depthwise = conv_bn(c_mid, c_mid, 3, stride=stride, groups=c_mid, act=None)
        self.expand = conv_bn(c_mid, c_out - c_in if stride > 1 else c_out, 1, groups=groups, act=None)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if stride > 1 else None
        self.se = SqueezeExcite(c_out, max(1, c_out // 16), gate=nn.Sigmoid) if se else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y = self.expand(self.depthwise(self.shuffle(self.squeeze(x))))
        y = x + self.se(y) if self.pool is None else self.se(torch.cat([self.pool(x), y], 1))
        return self.act(y)  # type: ignore[no-any-return]


def one_width(network: str, width: float, scale: float | None) -> float:
    """The width, whichever of its two names it was given by."""
    if scale is not None and width not in (1.0, scale):
        raise BadInput(f"{network}: width={width} and scale={scale} are two names for one number; give one of them")
    return width if scale is None else scale


@register(
    Card(
        title="ShuffleNet V1",
        family="shufflenet_v1",
        paper="arXiv:1707.01083",
        input=(3, 224, 224),
        params=1_865_728,
        macs=137_460_672,
        variants=(
            Variant(top1=67.4, source="table 2"),
            *(
                Variant(arguments={"width": width, "groups": groups}, top1=round(100 - error, 1), source="table 2")
                for width, errors in ERRORS.items()
                for groups, error in zip(STAGE2, errors, strict=True)
                if (width, groups) != (1, 3)
            ),
            Variant(arguments={"width": 1.5}, top1=71.5, source="table 5"),
            Variant(arguments={"width": 2.0}, top1=73.7, source="table 5"),
            Variant(arguments={"width": 2.0, "se": True}, top1=75.3, source="table 5"),
            Variant(arguments={"shuffle": False}, top1=65.5, source="table 3"),
            Variant(arguments={"shuffle": False, "groups": 8}, top1=62.4, source="table 3"),
        ),
    )
)
def shufflenet_v1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    groups: Literal[1, 2, 3, 4, 8] = 3,
    scale: float | None = None,
    shuffle: bool = True,
    se: bool = False,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `scale` is the paper's name for `width`: stage 2 has width times the channels of table 1, to the nearest multiple
    of `groups`; the narrow middle of a unit has a quarter of its channels, rounded up to a multiple of `groups`. The
    stem has 24 channels, 12 below width 1 and 48 from width 2 on; with 8 groups 16 below width 1 and 8 below 0.5.
    The first pointwise convolution is not grouped. Without `shuffle`, or with one group, nothing is shuffled (table 3).
    `se` is squeeze-and-excitation with ratio 16 (table 5). `small_input=True`, for 32 pixels and less: the stem has
    stride 1 and no pooling, so the total stride is 8.
    """
    width = one_width("shufflenet_v1", width, scale)
    c = next(wide if groups == 8 else usual for least, usual, wide in STEMS if width >= least)
    stem: list[nn.Module] = [conv_bn(in_channels, c, 3, stride=1 if small_input else 2)]
    if not small_input:
        stem.append(nn.MaxPool2d(3, 2, padding=1))
    c_stage2 = max(round(STAGE2[groups] * width / groups) * groups, c + groups)
    stages: list[nn.Module] = []
    for i, n in enumerate(UNITS):
        c_out = c_stage2 * 2**i
        units = [Unit(c, c_out, 2, groups, first=i == 0, shuffle=shuffle, se=se)]
        units += [Unit(c_out, c_out, 1, groups, first=False, shuffle=shuffle, se=se) for _ in range(n - 1)]
        stages.append(nn.Sequential(*units))
        c = c_out
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*stem),
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model
