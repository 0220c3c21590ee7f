"""MobileNet V3 (Howard et al. 2019, arXiv:1905.02244, tables 1 and 2). Input (B, 3, H, W), total stride 32.

Departures from the print: table 2 ticks SE at Small's last convolution, which neither the authors' code nor the
printed 2.5 M parameters have. The paper has no rule for other widths. The authors' code multiplies the block's input,
already rounded, by the row's expansion, and keeps 1280 or 1024 channels in the last hidden layer below width 1. Above,
the printed sizes (7.5 M and 3.6 M at 1.25) fit only if Large keeps them too and Small scales them.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn, set_batchnorm_eps
from swiftlet.layers.init import init_weights
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.padding import tensorflow_padding
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

Row = tuple[int, int, int, bool, str, int]

# kernel, expanded, channels, SE, activation (ReLU or h-swish), stride: one block per row of table 1
LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)
# the same of table 2
SMALL: tuple[Row, ...] = (
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
)


@register(
    Card(
        title="MobileNet V3-Large",
        family="mobilenet_v3",
        paper="arXiv:1905.02244",
        input=(3, 224, 224),
        params=5_483_032,
        macs=216_589_760,
        variants=(
            Variant(top1=75.2, source="table 9"),
            *(
                Variant(arguments={"width": width}, top1=top1, source="table 9")
                for width, top1 in ((1.25, 76.6), (0.75, 73.3), (0.5, 68.8), (0.35, 64.2))
            ),
            *(
                Variant(side=side, top1=top1, source="table 9")
                for side, top1 in ((256, 76.0), (192, 73.7), (160, 71.7), (128, 68.4), (96, 63.3))
            ),
            Variant(arguments={"minimalistic": True}, top1=72.3, source="authors' README"),
            Variant(arguments={"int8_safe": True}),
        ),
    )
)
def mobilenet_v3_large(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    variant: Literal["paper", "torchvision"] = "paper",
    minimalistic: bool = False,
    stem: Literal[16, 32] = 16,
    tail: Literal["efficient", "original"] = "efficient",
    int8_safe: bool = False,
    stem_stride: Literal[1, 2] = 2,
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `variant="torchvision"` rounds each printed expansion times `width`, scales the last hidden layer with it, and has
    BatchNorm's eps 1e-3, as torchvision's weights need. `minimalistic` is the authors' network without SE, h-swish and
    5x5 kernels. `stem=32` and `tail="original"` undo section 5.1: more filters in the first layers, and MobileNet V2's
    last stage, which pools after its last convolution (figure 5). `int8_safe` has ReLU6 in place of h-swish and no SE,
    as MobileNet-EdgeTPU and EfficientNet-Lite do. `stem_stride=1` halves the total stride to 16, for inputs of 32
    pixels and less. `padding="tensorflow"` is SAME and BatchNorm's eps 1e-3, for weights of the authors' code.
    """
    c_last = make_divisible(1280 * width) if variant == "torchvision" else 1280
    options = (variant, minimalistic, stem, tail, int8_safe, stem_stride, padding)
    return _mobilenet_v3(LARGE, c_last, width, num_classes, in_channels, dropout, *options)


@register(
    Card(
        title="MobileNet V3-Small",
        family="mobilenet_v3",
        paper="arXiv:1905.02244",
        input=(3, 224, 224),
        params=2_542_856,
        macs=56_510_400,
        variants=(
            Variant(top1=67.5, source="table 9"),
            *(
                Variant(arguments={"width": width}, top1=top1, source="table 9")
                for width, top1 in ((1.25, 70.4), (0.75, 65.4), (0.5, 58.0), (0.35, 49.8))
            ),
            *(
                Variant(side=side, top1=top1, source="table 9")
                for side, top1 in ((256, 68.5), (160, 62.8), (128, 57.3), (96, 51.7))
            ),
            Variant(arguments={"minimalistic": True}, top1=61.9, source="authors' README"),
            Variant(arguments={"int8_safe": True}),
        ),
    )
)
def mobilenet_v3_small(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    variant: Literal["paper", "torchvision"] = "paper",
    minimalistic: bool = False,
    stem: Literal[16, 32] = 16,
    tail: Literal["efficient", "original"] = "efficient",
    int8_safe: bool = False,
    stem_stride: Literal[1, 2] = 2,
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of mobilenet_v3_large."""
    c_last = make_divisible(1024 * (width if variant == "torchvision" else max(1.0, width)))
    options = (variant, minimalistic, stem, tail, int8_safe, stem_stride, padding)
    return _mobilenet_v3(SMALL, c_last, width, num_classes, in_channels, dropout, *options)


def _mobilenet_v3(
    rows: tuple[Row, ...],
    c_last: int,
    width: float,
    num_classes: int,
    in_channels: int,
    dropout: float,
    variant: str,
    minimalistic: bool,
    stem: int,
    tail: str,
    int8_safe: bool,
    stem_stride: int,
    padding: str,
) -> nn.Sequential:
    swish = nn.ReLU if minimalistic else nn.ReLU6 if int8_safe else nn.Hardswish
    acts: dict[str, type[nn.Module]] = {"RE": nn.ReLU, "HS": swish}
    c, printed = make_divisible(stem * width), 16  # channels of the block's input: ours, and those of the table
    parts = OrderedDict[str, nn.Module](stem=conv_bn(in_channels, c, 3, stride=stem_stride, act=swish))
    blocks = []
    for kernel, expanded, channels, excites, act, stride in rows:
        c_mid, c_out = make_divisible(c * expanded / printed), make_divisible(channels * width)
        if variant == "torchvision" and expanded != printed:
            c_mid = make_divisible(expanded * width)
        se = SqueezeExcite(c_mid, make_divisible(c_mid / 4)) if excites and not (minimalistic or int8_safe) else None
        kernel = 3 if minimalistic else kernel
        blocks.append(InvertedResidual(c, c_mid, c_out, kernel, stride=stride, act=acts[act], se=se))
        c, printed = c_out, channels
    parts["blocks"] = nn.Sequential(*blocks)
    c_mid = 6 * c if variant == "torchvision" else make_divisible(6 * printed * width)
    if tail == "original":
        last_block = InvertedResidual(c, c_mid, 2 * c, act=swish)  # 160, 960, 320 in figure 5, which is of Large
        parts["head"] = nn.Sequential(last_block, conv_bn(2 * c, c_last, 1, act=swish))
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
    else:
        parts["head"] = conv_bn(c, c_mid, 1, act=swish)
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["hidden"] = nn.Sequential(nn.Conv2d(c_mid, c_last, 1), swish())  # no BatchNorm: "NBN" in the tables
    parts |= {"flatten": nn.Flatten(), "dropout": nn.Dropout(dropout), "classifier": nn.Linear(c_last, num_classes)}
    model = nn.Sequential(parts)
    init_weights(model)
    if padding == "tensorflow":
        tensorflow_padding(model)
    if variant == "torchvision":
        set_batchnorm_eps(model, 1e-3)
    return model
