"""Xception (Chollet 2017, arXiv:1610.02357, figure 5). Input (B, 3, H, W), total stride 32.

What the figure leaves open is as in the author's Keras code: the two convolutions of the stem are not padded
(299 -> 149 -> 147), all other layers are; no convolution has a bias.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.padding import tensorflow_padding
from swiftlet.zoo.card import Card, Variant, register

STEM = (32, 64)  # channels of its two convolutions
# channels of the separable convolutions, stride: one row per block of figure 5
ENTRY = (((128, 128), 2), ((256, 256), 2), ((728, 728), 2))
MIDDLE = (((728, 728, 728), 1),) * 8
EXIT = (((728, 1024), 2),)
HEAD = (1536, 2048)  # channels of the separable convolutions after the last block


def separable(c_in: int, c_out: int) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H, W): depthwise, pointwise, BatchNorm, with nothing in between (section 4.7)."""
    parts = {
        "depthwise": nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False),
        "pointwise": nn.Conv2d(c_in, c_out, 1, bias=False),
        "bn": nn.BatchNorm2d(c_out),
    }
    return nn.Sequential(OrderedDict(parts))


class Block(nn.Module):
    """ReLU and separable convolution for each of `channels`, a max-pooling if strided; + the shortcut.

    (B, c_in, H, W) -> (B, channels[-1], ceil(H / stride), ceil(W / stride)). The shortcut is a 1x1 convolution where
    the shape changes. The first block of the network has no leading ReLU: the stem ends in one.
    """

    def __init__(self, c_in: int, channels: list[int], stride: int, leading_relu: bool) -> None:
        super().__init__()
        changes = stride > 1 or c_in != channels[-1]
        self.shortcut = conv_bn(c_in, channels[-1], 1, stride=stride, act=None) if changes else nn.Identity()
        layers: list[nn.Module] = []
        for c_out in channels:
            layers += [nn.ReLU(), separable(c_in, c_out)]
            c_in = c_out
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.body = nn.Sequential(*layers[0 if leading_relu else 1 :])

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.shortcut(x) + self.body(x)
        return y


@register(
    Card(
        title="Xception",
        family="xception",
        paper="arXiv:1610.02357",
        input=(3, 299, 299),
        params=22_855_952,
        macs=8_357_403_496,
        variants=(Variant(top1=79.0, source="table 1"),),
    )
)
def xception(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    small_input: bool = False,
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales all layers; channels are rounded down, to at least 1.
    `small_input=True`, for 32 pixels and less: the stem keeps the size, the first block too, so the total stride is 8.
    `padding="tensorflow"` is SAME in the poolings and BatchNorm's eps 1e-3, for weights of the author's Keras code.
    """

    def scale(channels: tuple[int, ...]) -> list[int]:
        return [max(1, int(c * width)) for c in channels]

    first, c = scale(STEM)
    around = 1 if small_input else 0
    stem = [
        conv_bn(in_channels, first, 3, stride=1 if small_input else 2, padding=around),
        conv_bn(first, c, 3, padding=around),
    ]
    blocks: list[nn.Module] = []
    for channels, stride in ENTRY + MIDDLE + EXIT:
        leads = len(blocks) == 0
        blocks.append(Block(c, scale(channels), 1 if leads and small_input else stride, leading_relu=not leads))
        c = scale(channels)[-1]
    head: list[nn.Module] = []
    for c_out in scale(HEAD):
        head += [separable(c, c_out), nn.ReLU()]
        c = c_out
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*stem),
            blocks=nn.Sequential(*blocks),
            head=nn.Sequential(*head),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    if padding == "tensorflow":
        tensorflow_padding(model)
    return model
