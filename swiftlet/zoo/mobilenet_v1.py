"""MobileNet V1 (Howard et al. 2017, arXiv:1704.04861, table 1). Input (B, 3, H, W), total stride 32.

Departures from the printed table: its last depthwise row says stride 2 at 7x7 -> 7x7, which is stride 1; pooling is
global, so that any side works. ReLU as in the paper; the authors' code, and with it all public weights, have ReLU6,
which is `act="relu6"`.
"""

from collections import OrderedDict
from typing import Literal

from torch import nn

from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.init import init_weights
from swiftlet.layers.padding import tensorflow_padding
from swiftlet.zoo.card import Card, Variant, register

# channels, stride: one depthwise separable convolution per row of table 1
ROWS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
SHALLOW = ROWS[:6] + ROWS[-2:]  # table 5: without the five layers of 14 x 14 x 512


def separable(c_in: int, c_out: int, stride: int, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Depthwise, then pointwise convolution, each with BatchNorm and ReLU (figure 3)."""
    depthwise = conv_bn(c_in, c_in, 3, stride=stride, groups=c_in, act=act)
    return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=conv_bn(c_in, c_out, 1, act=act)))


@register(
    Card(
        title="MobileNet V1",
        family="mobilenet_v1",
        paper="arXiv:1704.04861",
        input=(3, 224, 224),
        params=4_231_976,
        macs=568_740_352,
        variants=(
            Variant(top1=70.6, source="table 6"),
            Variant(arguments={"width": 0.75}, top1=68.4, source="table 6"),
            Variant(arguments={"width": 0.5}, top1=63.7, source="table 6"),
            Variant(arguments={"width": 0.25}, top1=50.6, source="table 6"),
            Variant(arguments={"width": 0.5}, side=160, top1=60.2, source="table 9"),
            Variant(arguments={"shallow": True}, top1=65.3, source="table 5"),
            Variant(arguments={"full_convolution": True}, top1=71.7, source="table 4"),
        ),
    )
)
def mobilenet_v1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.001,
    stem_stride: Literal[1, 2] = 2,
    shallow: bool = False,
    full_convolution: bool = False,
    act: Literal["relu", "relu6"] = "relu",
    padding: Literal["symmetric", "tensorflow"] = "symmetric",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` is the paper's alpha: channels are int(alpha * c), at least 8 (section 3.3). `stem_stride=1` halves the
    total stride to 16, for inputs of 32 pixels and less. `shallow` and `full_convolution` (a 3x3 convolution in place
    of each separable one) are the baselines of tables 5 and 4. `padding="tensorflow"` is SAME and BatchNorm's eps
    1e-3, for weights of the authors' code.
    """
    c = max(8, int(32 * width))
    relu = {"relu": nn.ReLU, "relu6": nn.ReLU6}[act]
    stem = conv_bn(in_channels, c, 3, stride=stem_stride, act=relu)
    blocks: list[nn.Module] = []
    for channels, stride in SHALLOW if shallow else ROWS:
        c_out = max(8, int(channels * width))
        if full_convolution:
            blocks.append(conv_bn(c, c_out, 3, stride=stride, act=relu))
        else:
            blocks.append(separable(c, c_out, stride, relu))
        c = c_out
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
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
