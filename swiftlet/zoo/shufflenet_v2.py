"""ShuffleNet V2 (Ma et al. 2018, arXiv:1807.11164, table 5; the deep networks: appendix). Input (B, 3, H, W), total
stride 32.

What the paper leaves open is as in the authors' release (megvii ShuffleNet-Series), or inferred from the printed costs:
how a strided unit divides its channels, and how far squeeze-and-excitation narrows them. Departures from the release:
each unit ends in the shuffle, as in figure 3, and the classifier has a bias.
"""

from collections import OrderedDict
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register
from swiftlet.zoo.shufflenet_v1 import one_width

Points = tuple[tuple[float, int], ...]

# depth: channels of the stem's convolutions, units per stage, stride of the first stage
DEPTHS = {"base": ((24,), (4, 8, 4), 2), "50": ((64,), (3, 4, 6, 3), 1), "164": ((64, 64, 128), (10, 10, 23, 10), 1)}
# depth: (width, channels of the first stage), ...; later stages double them
STAGE2: dict[str, Points] = {
    "base": ((0, 0), (0.5, 48), (1, 116), (1.5, 176), (2, 244)),
    "50": ((0, 0), (1, 244)),
    "164": ((0, 0), (1, 340)),
}


class Unit(nn.Module):
    """1x1, 3x3 depthwise, 1x1 convolution on one half of the channels, beside the other half; concatenated, shuffled.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). The first unit of a stage convolves all channels
    on both sides (figure 3d). Its left side makes c_in channels, the right one the rest ("official"), or each makes
    half of c_out ("torchvision"). In the others the left half passes as it is (figure 3c). With `residual`, those add
    what they convolve to the result; SE then gates the right side alone, otherwise the whole unit.
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int, *, first: bool, split: str, se: bool, residual: bool
    ) -> None:
        super().__init__()
        half = c_out // 2
        c_left = c_in if first and split == "official" else half
        c_right = c_out - c_left
        self.left = nn.Sequential()
        if first:
            self.left.append(conv_bn(c_in, c_in, 3, stride=stride, groups=c_in, act=None))
            self.left.append(conv_bn(c_in, c_left, 1))
        self.right = nn.Sequential(
            conv_bn(c_in if first else half, half, 1),
            conv_bn(half, half, 3, stride=stride, groups=half, act=None),
            conv_bn(half, c_right, 1),
        )
        if se and residual:
            self.right.append(gate(c_right))
        self.se = gate(c_out) if se and not residual else nn.Identity()
        self.shuffle = nn.ChannelShuffle(2)
        self.splits = not first
        self.residual = residual and not first

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        left, right = torch.chunk(x, 2, 1) if self.splits else (x, x)
        y = self.right(right)
        if self.residual:
            y = right + y
        return self.shuffle(self.se(torch.cat([self.left(left), y], 1)))  # type: ignore[no-any-return]


def gate(channels: int) -> SqueezeExcite:
    """SE with ratio 2: the one that gives the printed 597 MFLOPs at width 2."""
    return SqueezeExcite(channels, channels // 2, gate=nn.Sigmoid)


def at_width(width: float, points: Points) -> int:
    """Channels on the straight line between two of `points`, the last one prolonged; to the nearest even number."""
    lines = list(pairwise(points))
    (w0, c0), (w1, c1) = next((line for line in lines if width <= line[1][0]), lines[-1])
    return 2 * round((c0 + (c1 - c0) * (width - w0) / (w1 - w0)) / 2)


@register(
    Card(
        title="ShuffleNet V2",
        family="shufflenet_v2",
        paper="arXiv:1807.11164",
        input=(3, 224, 224),
        params=2_279_760,
        macs=145_814_296,
        variants=(
            Variant(top1=69.4, source="table 8"),
            Variant(arguments={"width": 0.5}, top1=60.3, source="table 8"),
            Variant(arguments={"width": 1.5}, top1=72.6, source="table 8"),
            Variant(arguments={"width": 2.0}, top1=74.9, source="table 8"),
            Variant(arguments={"width": 2.0, "se": True}, top1=75.4, source="table 8"),
            Variant(arguments={"split": "torchvision"}, top1=69.362, source="torchvision"),
            Variant(arguments={"depth": "50", "split": "torchvision"}, top1=77.2, source="table 6"),
            Variant(
                arguments={"depth": "164", "split": "torchvision", "se": True, "residual": True},
                top1=81.44,
                source="table 6",
            ),
        ),
    )
)
def shufflenet_v2(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.0,
    depth: Literal["base", "50", "164"] = "base",
    split: Literal["official", "torchvision"] = "official",
    scale: float | None = None,
    se: bool = False,
    residual: bool = False,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `scale` is another name for `width`. Between the published widths 0.5, 1, 1.5 and 2 the channels of stage 2 lie on
    straight lines, rounded to even numbers, at least two more than the stem's; the stem keeps its width, the last
    convolution has 1024 channels, and 2048 from width 2 on. The release's dropout is 0.2 at width 2, otherwise none.

    `split="official"` costs what table 5 prints, "torchvision" about 1 % less. `depth`, `se` and `residual` are the
    appendix: ShuffleNet V2-50 is depth="50" (2.30 G multiply-adds with split="torchvision", printed 2.3), its
    SE-ShuffleNet V2-164 is depth="164" with `se` and `residual` (12.57 G, printed 12.7). `small_input=True`, for 32
    pixels and less: the stem has stride 1 and no pooling, so the total stride is 8.
    """
    width = one_width("shufflenet_v2", width, scale)
    stem_channels, units, stride = DEPTHS[depth]
    stem: list[nn.Module] = []
    c = in_channels
    for i, c_out in enumerate(stem_channels):
        stem.append(conv_bn(c, c_out, 3, stride=1 if i > 0 or small_input else 2))
        c = c_out
    if not small_input:
        stem.append(nn.MaxPool2d(3, 2, padding=1))
    c_stage2 = max(at_width(width, STAGE2[depth]), c + 2)
    stages: list[nn.Module] = []
    for i, n in enumerate(units):
        c_out = c_stage2 * 2**i
        first = Unit(c, c_out, stride if i == 0 else 2, first=True, split=split, se=se, residual=residual)
        others = [Unit(c_out, c_out, 1, first=False, split=split, se=se, residual=residual) for _ in range(n - 1)]
        stages.append(nn.Sequential(first, *others))
        c = c_out
    c_last = 1024 if depth == "base" and width < 2 else 2048
    model = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(*stem),
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
