"""MobileNet V2 (Sandler et al. 2018, arXiv:1801.04381, table 2). Input (B, 3, H, W), total stride 32.

Departure from the text: it says 19 residual bottlenecks, the table holds 17.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.padding import tensorflow_padding
from swiftlet.zoo.card import Card, Variant, register

# expansion, channels, blocks, stride of the first block: one row per row of table 2
ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """(B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)), figure 3b.

    shortcut="identity" sums only where both shapes agree, "projection" puts a 1x1 convolution where only the channels
    differ (the variant of many ports), "none" sums nowhere.
    """

    def __init__(self, c_in: int, c_out: int, expansion: float, stride: int, shortcut: str) -> None:
        super().__init__()
        c_mid = make_divisible(c_in * expansion) if expansion != 1 else c_in
        self.expand = conv_bn(c_in, c_mid, 1, act=nn.ReLU6) if expansion != 1 else nn.Identity()
        self.depthwise = conv_bn(c_mid, c_mid, 3, stride=stride, groups=c_mid, act=nn.ReLU6)
        self.project = conv_bn(c_mid, c_out, 1, act=None)  # linear bottleneck, section 3.2
        self.shortcut: nn.Module | None = None
        if shortcut != "none" and stride == 1:
            if c_in == c_out:
                self.shortcut = nn.Identity()
            elif shortcut == "projection":
                self.shortcut = conv_bn(c_in, c_out, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return y if self.shortcut is None else self.shortcut(x) + y


@register(
    Card(
        title="MobileNet V2",
        family="mobilenet_v2",
        paper="arXiv:1801.04381",
        input=(3, 224, 224),
        params=3_504_872,
        macs=300_774_272,
        variants=(
            Variant(top1=72.0, source="table 4"),
            Variant(arguments={"width": 1.4}, top1=74.7, source="table 4"),
            Variant(arguments={"width": 0.75}, top1=69.8, source="authors' README"),
            Variant(arguments={"width": 0.5}, top1=65.4, source="authors' README"),
            Variant(arguments={"width": 0.35}, top1=60.3, source="authors' README"),
        ),
    )
)
def mobilenet_v2(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    expansion: float = 6,
    shortcut: Literal["identity", "projection", "none"] = "identity",
    stem_stride: Literal[1, 2] = 2,
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales every layer but the last convolution, which stays at 1280 below width 1. `expansion` is the paper's
    t in all blocks but the first. `stem_stride=1` halves the total stride to 16, for inputs of 32 pixels and less.
    `padding="tensorflow"` is SAME and BatchNorm's eps 1e-3, for weights of the authors' code.
    """
    c, c_last = make_divisible(32 * width), make_divisible(1280 * max(1.0, width))
    stem = conv_bn(in_channels, c, 3, stride=stem_stride, act=nn.ReLU6)
    stages = []
    for t, channels, n, stride in ROWS:
        c_out = make_divisible(channels * width)
        blocks = []
        for i in range(n):
            blocks.append(InvertedResidual(c, c_out, expansion if t > 1 else 1, stride if i == 0 else 1, shortcut))
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
