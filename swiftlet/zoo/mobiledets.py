"""MobileDets (Xiong et al. 2021, arXiv:2004.14525): four backbones for detection, each searched for one kind of chip.

Input (B, 3, 320, 320), total stride 32. The rows are those of the authors' code in TensorFlow's Object Detection API.
Departures: there a detector follows, which reads the fifth and the seventh stage, here pooling and a classifier with
MobileNet V2's dropout; there TensorFlow's SAME pads strided convolutions, here the padding is symmetric.
"""

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.conv_bn import conv_bn, set_batchnorm_eps
from swiftlet.layers.init import init_weights
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

PAPER, INPUT = "arXiv:2004.14525", (3, 320, 320)
Stride = Literal[1, 2]
Block = tuple[str, float, float]
Row = tuple[int, int, tuple[Block, ...]]

# The blocks that were searched over (section 3). Inverted bottleneck and fused convolution: expansion, kernel.
I1, I4, I8 = ("inverted", 1, 3), ("inverted", 4, 3), ("inverted", 8, 3)
I4K5, I8K5 = ("inverted", 4, 5), ("inverted", 8, 5)
F4, F8, F8K5 = ("fused", 4, 3), ("fused", 8, 3), ("fused", 8, 5)
# Tucker convolution: its ranks, as shares of the channels that come in and of those that go out.
T25_25, T25_75, T75_75 = ("tucker", 0.25, 0.25), ("tucker", 0.25, 0.75), ("tucker", 0.75, 0.75)

# channels, stride of the first block, blocks
CPU: tuple[Row, ...] = (
    (8, 1, (I1,)),
    (16, 2, (I4,)),
    (32, 2, (I8, I4, I4, I4)),
    (72, 2, (I8K5, I8, I4K5, I4)),
    (72, 1, (I8, I8, I8, I8)),
    (104, 2, (I8K5, I4K5, I4K5, I4)),
    (144, 1, (I8,)),
)
EDGETPU: tuple[Row, ...] = (
    (16, 1, (T25_75,)),
    (16, 2, (F8, F4, F8, F4)),
    (40, 2, (F8K5, F4, F4, F4)),
    (72, 2, (I8, I8, F4, F4)),
    (96, 1, (I8K5, I8K5, I8, I8)),
    (120, 2, (I8K5, I8, I4K5, I8)),
    (384, 1, (I8K5,)),
)
DSP: tuple[Row, ...] = (
    (24, 1, (I1,)),
    (32, 2, (F4, F4, I4, T25_75)),
    (64, 2, (F8, I4, F4, F4)),
    (120, 2, (F8, I4, I8, I8)),
    (144, 1, (F8, I8, I8, I8)),
    (160, 2, (I4, I4, F4, T75_75)),
    (240, 1, (I8,)),
)
GPU: tuple[Row, ...] = (
    (16, 1, (T25_25,)),
    (32, 2, (F8, T25_25, T25_25, T25_25)),
    (64, 2, (F8, F8, F8, F4)),
    (128, 2, (F8, F4, F4, F4)),
    (128, 1, (F8, F8, F8, F8)),
    (128, 2, (F4, F4, F4, F4)),
    (384, 1, (I8,)),
)


def scale(channels: float) -> int:
    """The nearest multiple of 8, at least 8; ties go up. Unlike make_divisible it may lose more than 10 %."""
    return max(8, int(channels / 8 + 0.5) * 8)


class FullConvolution(nn.Module):
    """1x1 convolution to c_first channels, k x k to c_mid, 1x1 linear projection; + the input if `residual`.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)). Tucker's convolution; without c_first, the fused
    one, which is an inverted bottleneck with its first two convolutions made one.
    """

    def __init__(
        self, c_in: int, c_first: int | None, c_mid: int, c_out: int, kernel: int, stride: int, residual: bool
    ) -> None:
        super().__init__()
        self.reduce = conv_bn(c_in, c_first, 1, act=nn.ReLU6) if c_first else nn.Identity()
        self.conv = conv_bn(c_first or c_in, c_mid, kernel, stride=stride, act=nn.ReLU6)
        self.project = conv_bn(c_mid, c_out, 1, act=None)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.project(self.conv(self.reduce(x)))
        return x + y if self.residual else y


def _build(block: Block, c: int, c_out: int, stride: int, residual: bool, swish: bool) -> nn.Module:
    kind, first, second = block
    if kind == "tucker":
        return FullConvolution(c, scale(c * first), scale(c_out * second), c_out, 3, stride, residual)
    c_mid, kernel = int(c * first), int(second)
    if kind == "fused":
        return FullConvolution(c, None, c_mid, c_out, kernel, stride, residual)
    se = SqueezeExcite(c_mid, scale(c_mid / 4), act=nn.Hardswish, gate=nn.Sigmoid) if swish else None
    act = nn.Hardswish if swish else nn.ReLU6
    return InvertedResidual(c, c_mid, c_out, kernel, stride=stride, act=act, se=se, residual=residual)


def _mobiledet(
    stem: int,
    rows: tuple[Row, ...],
    width: float,
    num_classes: int,
    in_channels: int,
    dropout: float,
    stem_stride: int,
    swish: bool = False,
) -> nn.Sequential:
    """`swish` puts h-swish in place of ReLU6 and SE into every inverted bottleneck."""
    c, stages = scale(stem * width), []
    first = conv_bn(in_channels, c, 3, stride=stem_stride, act=nn.Hardswish if swish else nn.ReLU6)
    for channels, stride, row in rows:
        c_out = scale(channels * width)
        blocks = []
        for i, block in enumerate(row):  # the first one never adds its input, even where the shapes agree
            blocks.append(_build(block, c, c_out, stride if i == 0 else 1, i > 0, swish))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=first,
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    set_batchnorm_eps(model, 1e-2)  # the authors' code
    return model


@register(
    Card(
        title="MobileDet-CPU",
        family="mobiledets",
        paper=PAPER,
        input=INPUT,
        params=3_151_440,
        macs=408_150_272,
        variants=(Variant(), Variant(arguments={"int8_safe": True})),
    )
)
def mobiledet_cpu(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    stem_stride: Stride = 2,
    int8_safe: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales all layers, to multiples of 8. `stem_stride=1` halves the total stride to 16, for inputs of 32
    pixels and less. `int8_safe=True` puts ReLU6 in place of h-swish and leaves out SE.
    """
    return _mobiledet(16, CPU, width, num_classes, in_channels, dropout, stem_stride, swish=not int8_safe)


@register(
    Card(title="MobileDet-EdgeTPU", family="mobiledets", paper=PAPER, input=INPUT, params=3_162_040, macs=1_474_179_200)
)
def mobiledet_edgetpu(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stem_stride: Stride = 2
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of mobiledet_cpu."""
    return _mobiledet(32, EDGETPU, width, num_classes, in_channels, dropout, stem_stride)


@register(
    Card(title="MobileDet-DSP", family="mobiledets", paper=PAPER, input=INPUT, params=6_080_952, macs=2_763_593_600)
)
def mobiledet_dsp(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stem_stride: Stride = 2
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of mobiledet_cpu."""
    return _mobiledet(32, DSP, width, num_classes, in_channels, dropout, stem_stride)


@register(
    Card(title="MobileDet-GPU", family="mobiledets", paper=PAPER, input=INPUT, params=12_074_920, macs=5_010_304_000)
)
def mobiledet_gpu(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3, dropout: float = 0.2, stem_stride: Stride = 2
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of mobiledet_cpu."""
    return _mobiledet(32, GPU, width, num_classes, in_channels, dropout, stem_stride)
