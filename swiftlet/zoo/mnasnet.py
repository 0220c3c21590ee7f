"""MnasNet A1 and B1 (Tan et al. 2019, arXiv:1807.11626, figure 7a for A1). Input (B, 3, H, W), total stride 32.

B1, the network of a search space without squeeze-and-excitation, is taken from the authors' code. A1 counts 311.6 M
multiply-adds as in the paper's text (312 M); the authors' README says 315.2 M.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

Row = tuple[int, int, int, int, int, bool]

# expansion, channels, blocks, stride of the first block, kernel, SE: one stage per row
A1: tuple[Row, ...] = (
    (1, 16, 1, 1, 3, False),
    (6, 24, 2, 2, 3, False),
    (3, 40, 3, 2, 5, True),
    (6, 80, 4, 2, 3, False),
    (6, 112, 2, 1, 3, True),
    (6, 160, 3, 2, 5, True),
    (6, 320, 1, 1, 3, False),
)
B1: tuple[Row, ...] = (
    (1, 16, 1, 1, 3, False),
    (3, 24, 3, 2, 3, False),
    (3, 40, 3, 2, 5, False),
    (6, 80, 3, 2, 5, False),
    (6, 96, 2, 1, 3, False),
    (6, 192, 4, 2, 5, False),
    (6, 320, 1, 1, 3, False),
)


@register(
    Card(
        title="MnasNet-A1",
        family="mnasnet",
        paper="arXiv:1807.11626",
        input=(3, 224, 224),
        params=3_887_038,
        macs=311_579_072,
        variants=(
            Variant(top1=75.2, source="table 1"),
            Variant(arguments={"width": 1.4}, top1=77.2, source="authors' README"),
            Variant(arguments={"width": 0.75}, top1=73.3, source="authors' README"),
            Variant(arguments={"width": 0.5}, top1=68.9, source="authors' README"),
            Variant(arguments={"width": 0.35}, top1=64.1, source="table 4"),
            Variant(arguments={"int8_safe": True}),
        ),
    )
)
def mnasnet_a1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    int8_safe: bool = False,
    stem_stride: Literal[1, 2] = 2,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales every layer but the last convolution, which always has 1280 channels. `int8_safe` has no SE, as
    MobileNet-EdgeTPU and EfficientNet-Lite; there is only ReLU anyway. `stem_stride=1` halves the total stride to 16,
    for inputs of 32 pixels and less.
    """
    rows = tuple((*row[:-1], False) for row in A1) if int8_safe else A1
    return _mnasnet(rows, width, num_classes, in_channels, dropout, stem_stride)


@register(
    Card(
        title="MnasNet-B1",
        family="mnasnet",
        paper="arXiv:1807.11626",
        input=(3, 224, 224),
        params=4_383_312,
        macs=314_415_872,
        variants=(
            Variant(top1=73.5, source="torchvision's weights"),
            Variant(arguments={"width": 1.3}, top1=76.5, source="torchvision's weights"),
            Variant(arguments={"width": 0.75}, top1=71.2, source="torchvision's weights"),
            Variant(arguments={"width": 0.5}, top1=67.7, source="torchvision's weights"),
        ),
    )
)
def mnasnet_b1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    stem_stride: Literal[1, 2] = 2,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of mnasnet_a1."""
    return _mnasnet(B1, width, num_classes, in_channels, dropout, stem_stride)


def _mnasnet(
    rows: tuple[Row, ...], width: float, num_classes: int, in_channels: int, dropout: float, stem_stride: int
) -> nn.Sequential:
    c, c_last = make_divisible(32 * width), 1280
    stem = conv_bn(in_channels, c, 3, stride=stem_stride)
    stages = []
    for expansion, channels, n, stride, kernel, excites in rows:
        c_out = make_divisible(channels * width)
        blocks = []
        residual = expansion > 1  # the first, a separable convolution, never sums
        for i in range(n):
            c_mid, s = c * expansion, stride if i == 0 else 1
            se = SqueezeExcite(c_mid, c // 4, gate=nn.Sigmoid) if excites else None  # a quarter of the block's input
            block = InvertedResidual(c, c_mid, c_out, kernel, stride=s, act=nn.ReLU, se=se, residual=residual)
            blocks.append(block)
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            stages=nn.Sequential(*stages),
            head=conv_bn(c, c_last, 1),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c_last, num_classes),
        )
    )
    init_weights(model)
    return model
