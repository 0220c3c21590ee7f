"""VGG-16 (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, column D). Input (B, 3, H, W), total stride 32.

Departure from the print: average pooling to 7 x 7 in front of the fully connected layers lets sizes other than 224 in;
at 224 it changes nothing. The usual network for CIFAR-10 is `small_input=True`.
"""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_plain, init_weights
from swiftlet.zoo.card import Card, Variant, register

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, 3x3 convolutions before each max-pooling


def fc_relu(c_in: int, c_out: int, dropout: float) -> nn.Sequential:
    """(B, c_in) -> (B, c_out)."""
    return nn.Sequential(nn.Linear(c_in, c_out), nn.ReLU(), nn.Dropout(dropout))


@register(
    Card(
        title="VGG-16",
        family="vgg",
        paper="arXiv:1409.1556",
        input=(3, 224, 224),
        params=138_357_544,
        macs=15_470_264_320,
        variants=(
            Variant(top1=71.5, source="authors' release, one crop, as cited in arXiv:1707.01083, table 6"),
            Variant(arguments={"small_input": True}, side=32),
        ),
    )
)
def vgg16(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits; H and W are 32 or more.

    `width`, which the paper does not have, scales all layers; the result is rounded down, to at least 1.
    `small_input=True`, for 32 pixels: BatchNorm after each convolution, global pooling, and one hidden layer of 512
    units in place of two of 4096; with 10 classes it has the 15.0 M parameters of GhostNet's table on CIFAR-10.
    """

    def scale(channels: int) -> int:
        return max(1, int(channels * width))

    c = in_channels
    stages = []
    for channels, n in STAGES:
        layers: list[nn.Module] = []
        for _ in range(n):
            c_out = scale(channels)
            plain = nn.Sequential(nn.Conv2d(c, c_out, 3, padding=1), nn.ReLU())
            layers.append(conv_bn(c, c_out, 3) if small_input else plain)
            c = c_out
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    side, hidden = (1, (scale(512),)) if small_input else (7, (scale(4096), scale(4096)))
    units = (c * side**2, *hidden)
    model = nn.Sequential(
        OrderedDict(
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(side),
            flatten=nn.Flatten(),
            head=nn.Sequential(*(fc_relu(a, b, dropout) for a, b in pairwise(units))),
            classifier=nn.Linear(units[-1], num_classes),
        )
    )
    (init_weights if small_input else init_plain)(model)
    return model
