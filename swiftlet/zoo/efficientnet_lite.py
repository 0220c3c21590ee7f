"""EfficientNet-Lite0: the authors' EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946, table 1) for integer kernels.
Input (B, 3, H, W), total stride 32.

There is no paper on it. By the authors' README it differs from B0 in having no squeeze-and-excitation, ReLU6 in place
of swish, and a stem and a head that do not scale. The README's 407 M multiply-adds are 385 M when counted.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.padding import tensorflow_padding
from swiftlet.zoo.card import Card, Variant, register

# expansion, channels, blocks, stride of the first block, kernel: one stage per row of table 1
ROWS = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)


@register(
    Card(
        title="EfficientNet-Lite0",
        family="efficientnet_lite",
        paper="arXiv:1905.11946",
        input=(3, 224, 224),
        params=4_652_008,
        macs=385_187_552,
        variants=(Variant(top1=75.1, source="authors' README"),),
    )
)
def efficientnet_lite0(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    stem_stride: Literal[1, 2] = 2,
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales the stages, as in EfficientNet; the stem keeps 32 channels and the head 1280, as in the whole Lite
    family. `stem_stride=1` halves the total stride to 16, for inputs of 32 pixels and less. `padding="tensorflow"` is
    SAME and BatchNorm's eps 1e-3, for weights of the authors' code.
    """
    c, c_last = 32, 1280
    stem = conv_bn(in_channels, c, 3, stride=stem_stride, act=nn.ReLU6)
    stages = []
    for expansion, channels, n, stride, kernel in ROWS:
        c_out = make_divisible(channels * width)
        blocks = []
        for i in range(n):
            blocks.append(InvertedResidual(c, c * expansion, c_out, kernel, stride=stride if i == 0 else 1))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            stages=nn.Sequential(*stages),
            head=conv_bn(c, c_last, 1, act=nn.ReLU6),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c_last, num_classes),
        )
    )
    init_weights(model)
    if padding == "tensorflow":
        tensorflow_padding(model)
    return model
