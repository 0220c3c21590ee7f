"""ResNet-18 and ResNet-50 (He et al. 2015, arXiv:1512.03385, table 1), ResNeXt-50 (Xie et al. 2016, arXiv:1611.05431,
table 1). Input (B, 3, H, W), total stride 32.

Departures from the print: shortcuts are projections wherever the shapes differ (the paper's option B) in ResNet-18 too,
as in every public implementation; and ResNet-50 strides in the 3x3 convolution ("v1.5") unless version=1.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register

STEM = 64
# channels inside a block, channels, blocks: one row per stage, conv2_x to conv5_x; all but the first halve the sides
ROWS_18 = ((64, 64, 2), (128, 128, 2), (256, 256, 2), (512, 512, 2))
ROWS_50 = ((64, 256, 3), (128, 512, 4), (256, 1024, 6), (512, 2048, 3))
# channels inside a block per group, channels, blocks
GROUPS, ROWS_X50 = 32, ((4, 256, 3), (8, 512, 4), (16, 1024, 6), (32, 2048, 3))

Body = Callable[[int, int, int, int], nn.Module]  # of (channels in, inside, out, stride)


class Residual(nn.Module):
    """ReLU of the sum of a body and a shortcut: (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)).

    The shortcut is the identity, or a 1x1 convolution where the shapes differ.
    """

    def __init__(self, body: nn.Module, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.body = body
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else conv_bn(c_in, c_out, 1, stride=stride, act=None)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.act(self.shortcut(x) + self.body(x))
        return y


def basic(c_in: int, c_mid: int, c_out: int, stride: int) -> nn.Sequential:
    """Two 3x3 convolutions, nothing after the second (figure 5, left)."""
    return nn.Sequential(conv_bn(c_in, c_mid, 3, stride=stride), conv_bn(c_mid, c_out, 3, act=None))


def bottleneck(
    c_in: int, c_mid: int, c_out: int, stride: int, *, groups: int = 1, version: float = 1.5
) -> nn.Sequential:
    """1x1 narrows, 3x3, 1x1 widens (figure 5, right); with groups ResNeXt's figure 3c."""
    first, second = (stride, 1) if version == 1 else (1, stride)
    return nn.Sequential(
        conv_bn(c_in, c_mid, 1, stride=first),
        conv_bn(c_mid, c_mid, 3, stride=second, groups=groups),
        conv_bn(c_mid, c_out, 1, act=None),
    )


@register(
    Card(
        title="ResNet-18",
        family="resnet",
        paper="arXiv:1512.03385",
        input=(3, 224, 224),
        params=11_689_512,
        macs=1_814_073_344,
        variants=(Variant(top1=69.758, source="torchvision 0.28"),),
    )
)
def resnet18(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales every layer, rounded down to at least 1 channel. `small_input=True`,
    for 32 pixels and less: the stem is 3x3 of stride 1 and no pooling follows it, so that the total stride is 8.
    """
    rows = [(_scaled(m, width), _scaled(c, width), n) for m, c, n in ROWS_18]
    return _network(in_channels, _scaled(STEM, width), rows, basic, num_classes, dropout, small_input)


@register(
    Card(
        title="ResNet-50",
        family="resnet",
        paper="arXiv:1512.03385",
        input=(3, 224, 224),
        params=25_557_032,
        macs=4_089_184_256,
        variants=(
            Variant(top1=76.130, source="torchvision 0.28"),
            Variant(arguments={"version": 1}, top1=75.3, source="authors' README"),
        ),
    )
)
def resnet50(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    version: float = 1.5,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `version=1` is the paper's: a block that halves the sides does so in its first 1x1 convolution (3.86 G
    multiply-adds). 1.5, which torchvision, timm and most later papers mean by ResNet-50, does so in the 3x3 convolution
    (4.09 G). `width` and `small_input` as in resnet18.
    """
    if version not in (1, 1.5):
        raise BadInput(f"resnet50: version={version} must be 1 (the paper's) or 1.5 (stride in the 3x3 convolution)")
    rows = [(_scaled(m, width), _scaled(c, width), n) for m, c, n in ROWS_50]
    body = partial(bottleneck, version=version)
    return _network(in_channels, _scaled(STEM, width), rows, body, num_classes, dropout, small_input)


@register(
    Card(
        title="ResNeXt-50 (32x4d)",
        family="resnet",
        paper="arXiv:1611.05431",
        input=(3, 224, 224),
        params=25_028_904,
        macs=4_230_479_872,
        variants=(Variant(top1=77.8, source="authors' README"),),
    )
)
def resnext50_32x4d(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    The 32 groups stay; `width`, which the paper does not have, scales their 4 channels ("4d", doubled from stage to
    stage) and every other layer, rounded down to at least 1. `small_input` as in resnet18.
    """
    rows = [(GROUPS * _scaled(d, width), _scaled(c, width), n) for d, c, n in ROWS_X50]
    body = partial(bottleneck, groups=GROUPS)
    return _network(in_channels, _scaled(STEM, width), rows, body, num_classes, dropout, small_input)


def _scaled(channels: int, width: float) -> int:
    return max(1, int(channels * width))


def _network(
    in_channels: int,
    c_stem: int,
    rows: list[tuple[int, int, int]],
    body: Body,
    num_classes: int,
    dropout: float,
    small_input: bool,
) -> nn.Sequential:
    c, stages = c_stem, []
    for row, (c_mid, c_out, n) in enumerate(rows):
        blocks = []
        for i in range(n):
            stride = 2 if row > 0 and i == 0 else 1
            blocks.append(Residual(body(c, c_mid, c_out, stride), c, c_out, stride))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=conv_bn(in_channels, c_stem, 3) if small_input else conv_bn(in_channels, c_stem, 7, stride=2),
            stem_pool=nn.Identity() if small_input else nn.MaxPool2d(3, 2, padding=1),
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model
