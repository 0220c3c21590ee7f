"""MobileNet V4 Conv-Small (Qin et al. 2024, arXiv:2404.10518, table of MNv4-Conv-S in the appendix). Input
(B, 3, H, W), total stride 32.

Departure from the text: the projections of the two fused blocks have a ReLU, as in the authors' code.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register

# expanded, channels of the fused blocks: a 3x3 convolution of stride 2, and a 1x1
FUSED = ((32, 32), (96, 64))
# kernels of the first and of the middle depthwise convolution (0: none), expanded, channels, stride: one universal
# inverted bottleneck per row; with both kernels the paper calls it ExtraDW, with the first ConvNext, with the middle IB
ROWS = (
    (5, 5, 192, 96, 2),
    (0, 3, 192, 96, 1),
    (0, 3, 192, 96, 1),
    (0, 3, 192, 96, 1),
    (0, 3, 192, 96, 1),
    (3, 0, 384, 96, 1),
    (3, 3, 576, 128, 2),
    (5, 5, 512, 128, 1),
    (0, 5, 512, 128, 1),
    (0, 5, 384, 128, 1),
    (0, 3, 512, 128, 1),
    (0, 3, 512, 128, 1),
)


class UniversalInvertedBottleneck(nn.Module):
    """[depthwise], 1x1 expand, [depthwise], 1x1 linear projection; + the input where both shapes agree.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). A kernel of 0 leaves its depthwise convolution
    out. The first one is linear, and the stride is the middle one's.
    """

    def __init__(self, c_in: int, c_mid: int, c_out: int, first: int, middle: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(c_in, c_in, first, groups=c_in, act=None) if first else nn.Identity()
        self.expand = conv_bn(c_in, c_mid, 1)
        self.middle = conv_bn(c_mid, c_mid, middle, stride=stride, groups=c_mid) if middle else nn.Identity()
        self.project = conv_bn(c_mid, c_out, 1, act=None)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.project(self.middle(self.expand(self.first(x))))
        return x + y if self.residual else y


@register(
    Card(
        title="MobileNet V4 Conv-Small",
        family="mobilenet_v4",
        paper="arXiv:2404.10518",
        input=(3, 224, 224),
        params=3_774_024,
        macs=186_005_568,
        variants=(
            Variant(top1=73.8, source="the ImageNet table"),
            Variant(arguments={"width": 0.5}, top1=64.8, source="timm's weights"),
        ),
    )
)
def mobilenet_v4_conv_small(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.3,
    stem_stride: Literal[1, 2] = 2,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` is timm's: the last hidden layer keeps its 1280 channels, and the stem its 32 below width 1.
    `stem_stride=1` halves the total stride to 16, for inputs of 32 pixels and less.
    """
    c, c_last = make_divisible(32 * max(1.0, width)), 1280
    stem = conv_bn(in_channels, c, 3, stride=stem_stride)
    blocks: list[nn.Module] = []
    for expanded, channels in FUSED:
        c_mid, c_out = make_divisible(expanded * width), make_divisible(channels * width)
        parts = {"expand": conv_bn(c, c_mid, 3, stride=2), "project": conv_bn(c_mid, c_out, 1)}
        blocks.append(nn.Sequential(OrderedDict(parts)))
        c, printed = c_out, channels
    for first, middle, expanded, channels, stride in ROWS:
        c_mid, c_out = make_divisible(c * expanded / printed), make_divisible(channels * width)
        blocks.append(UniversalInvertedBottleneck(c, c_mid, c_out, first, middle, stride))
        c, printed = c_out, channels
    c_head = make_divisible(960 * width)
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            head=conv_bn(c, c_head, 1),
            pool=nn.AdaptiveAvgPool2d(1),
            hidden=conv_bn(c_head, c_last, 1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c_last, num_classes),
        )
    )
    init_weights(model)
    return model
