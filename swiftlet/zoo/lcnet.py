"""PP-LCNet (Cui et al. 2021, arXiv:2109.15099, table 1). Input (B, 3, H, W), total stride 32.

Departure from the authors' code: the hidden layer after the pooling has a bias, as a fully connected layer has, and as
in timm. The printed 161 M operations are 156 M multiply-adds when counted.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

# kernel, channels, stride, SE: one depthwise separable convolution per row
ROWS = (
    (3, 32, 1, False),
    (3, 64, 2, False),
    (3, 64, 1, False),
    (3, 128, 2, False),
    (3, 128, 1, False),
    (3, 256, 2, False),
    *((5, 256, 1, False),) * 5,
    (5, 512, 2, True),
    (5, 512, 1, True),
)


@register(
    Card(
        title="PP-LCNet",
        family="lcnet",
        paper="arXiv:2109.15099",
        input=(3, 224, 224),
        params=2_953_800,
        macs=155_700_480,
        variants=(
            Variant(top1=71.32, source="authors' README"),
            Variant(arguments={"width": 2.5}, top1=76.6, source="authors' README"),
            Variant(arguments={"width": 2.0}, top1=75.18, source="authors' README"),
            Variant(arguments={"width": 1.5}, top1=73.71, source="authors' README"),
            Variant(arguments={"width": 0.75}, top1=68.18, source="authors' README"),
            Variant(arguments={"width": 0.5}, top1=63.14, source="authors' README"),
            Variant(arguments={"width": 0.35}, top1=58.09, source="authors' README"),
            Variant(arguments={"width": 0.25}, top1=51.86, source="authors' README"),
            Variant(arguments={"int8_safe": True}),
        ),
    )
)
def lcnet(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    int8_safe: bool = False,
    stem_stride: Literal[1, 2] = 2,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales every layer but the hidden one after the pooling, which always has 1280 channels. `int8_safe` has
    ReLU6 in place of h-swish and no SE, as MobileNet-EdgeTPU and EfficientNet-Lite do. `stem_stride=1` halves the total
    stride to 16, for inputs of 32 pixels and less.
    """
    act = nn.ReLU6 if int8_safe else nn.Hardswish
    c, c_last = make_divisible(16 * width), 1280
    stem = conv_bn(in_channels, c, 3, stride=stem_stride, act=act)
    blocks = []
    for kernel, channels, stride, excites in ROWS:
        c_out = make_divisible(channels * width)
        parts = OrderedDict[str, nn.Module](depthwise=conv_bn(c, c, kernel, stride=stride, groups=c, act=act))
        if excites and not int8_safe:
            parts["se"] = SqueezeExcite(c, c // 4)
        parts["pointwise"] = conv_bn(c, c_out, 1, act=act)
        blocks.append(nn.Sequential(parts))
        c = c_out
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            pool=nn.AdaptiveAvgPool2d(1),
            hidden=nn.Sequential(nn.Conv2d(c, c_last, 1), act()),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c_last, num_classes),
        )
    )
    init_weights(model)
    return model
