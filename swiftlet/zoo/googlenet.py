"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, table 1). Input (B, 3, H, W), total stride 32.

What the table leaves open is as in Caffe's bvlc_googlenet: response normalisation after the first pooling and before
the second, poolings that round sizes up. The two auxiliary classifiers, which help in training only, are left out.
torchvision's network, with BatchNorm and 3x3 convolutions in place of the 5x5, is `variant="torchvision"`.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn, set_batchnorm_eps
from swiftlet.layers.init import init_plain, init_weights
from swiftlet.zoo.card import Card, Variant, register

STEM = (64, 64, 192)  # channels: 7x7 of stride 2, 1x1, 3x3
# columns of table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool proj; None where a max-pooling stands
ROWS: dict[str, tuple[int, ...] | None] = {
    "inception_3a": (64, 96, 128, 16, 32, 32),
    "inception_3b": (128, 128, 192, 32, 96, 64),
    "pool3": None,
    "inception_4a": (192, 96, 208, 16, 48, 64),
    "inception_4b": (160, 112, 224, 24, 64, 64),
    "inception_4c": (128, 128, 256, 24, 64, 64),
    "inception_4d": (112, 144, 288, 32, 64, 64),
    "inception_4e": (256, 160, 320, 32, 128, 128),
    "pool4": None,
    "inception_5a": (256, 160, 320, 32, 128, 128),
    "inception_5b": (384, 192, 384, 48, 128, 128),
}


def conv(c_in: int, c_out: int, kernel: int, *, stride: int = 1, norm: bool) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)): convolution, [BatchNorm], ReLU."""
    if norm:
        return conv_bn(c_in, c_out, kernel, stride=stride)
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2), nn.ReLU())


class Inception(nn.Module):
    """Three sizes of convolution and a max-pooling side by side, concatenated (figure 2b).

    (B, c_in, H, W) -> (B, c1 + c3 + c5 + c_pool, H, W); `channels` is a row of table 1, `large` the kernel that it
    calls 5x5.
    """

    def __init__(self, c_in: int, channels: list[int], large: int, norm: bool) -> None:
        super().__init__()
        c1, c3_reduce, c3, c5_reduce, c5, c_pool = channels
        self.conv1x1 = conv(c_in, c1, 1, norm=norm)
        self.conv3x3 = nn.Sequential(conv(c_in, c3_reduce, 1, norm=norm), conv(c3_reduce, c3, 3, norm=norm))
        self.conv5x5 = nn.Sequential(conv(c_in, c5_reduce, 1, norm=norm), conv(c5_reduce, c5, large, norm=norm))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv(c_in, c_pool, 1, norm=norm))

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        return torch.cat([self.conv1x1(x), self.conv3x3(x), self.conv5x5(x), self.pool(x)], 1)


@register(
    Card(
        title="GoogLeNet",
        family="googlenet",
        paper="arXiv:1409.4842",
        input=(3, 224, 224),
        params=6_998_552,
        macs=1_582_671_872,
        variants=(
            Variant(top1=68.7, source="Caffe's bvlc_googlenet readme"),
            Variant(arguments={"variant": "torchvision"}, top1=69.778, source="torchvision"),
        ),
    )
)
def googlenet(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.4,
    variant: Literal["paper", "torchvision"] = "paper",
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales all layers; the result is rounded down, to at least 1.
    `variant="torchvision"` also has BatchNorm's eps 1e-3, a 2x2 pooling before stage 5, and there dropout is 0.2.
    `small_input=True`, for 32 pixels and less: the first convolution is 3x3 with stride 1, without pooling, so the
    total stride is 8.
    """
    norm = variant == "torchvision"

    def scale(row: tuple[int, ...]) -> list[int]:
        return [max(1, int(c * width)) for c in row]

    first, second, c = scale(STEM)
    stem: dict[str, nn.Module] = {
        "conv1": conv(in_channels, first, 3 if small_input else 7, stride=1 if small_input else 2, norm=norm),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "norm1": nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
        "conv2_reduce": conv(first, second, 1, norm=norm),
        "conv2": conv(second, c, 3, norm=norm),
        "norm2": nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
    }
    if small_input:
        del stem["pool1"]
    if norm:
        del stem["norm1"], stem["norm2"]
    blocks: dict[str, nn.Module] = {}
    for name, row in ROWS.items():
        if row is None:
            blocks[name] = nn.MaxPool2d(2 if norm and name == "pool4" else 3, 2, ceil_mode=True)
        else:
            channels = scale(row)
            blocks[name] = Inception(c, channels, large=3 if norm else 5, norm=norm)
            c = sum(channels[i] for i in (0, 2, 4, 5))  # without the two that reduce
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(OrderedDict(stem)),
            blocks=nn.Sequential(OrderedDict(blocks)),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    (init_weights if norm else init_plain)(model)
    set_batchnorm_eps(model, 1e-3)
    return model
