"""GhostNet (Han et al. 2020, arXiv:1911.11907, table 1). Input (B, 3, H, W), total stride 32.

Where the paper is silent this is the authors' PyTorch code: a shortcut that changes the shape is a depthwise and a 1x1
convolution, both linear, as is the strided depthwise convolution of the main path; the layer of 1280 channels has a
bias and no BatchNorm. (Their TensorFlow code has it the other way round, and another gate in SE.)
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor, nn

from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.init import init_weights
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo.card import Card, Variant, register

# kernel of the depthwise convolution, expanded channels, output channels, SE, stride: one row per bottleneck of table 1
ROWS = (
    (3, 16, 16, False, 1),
    (3, 48, 24, False, 2),
    (3, 72, 24, False, 1),
    (5, 72, 40, True, 2),
    (5, 120, 40, True, 1),
    (3, 240, 80, False, 2),
    (3, 200, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 184, 80, False, 1),
    (3, 480, 112, True, 1),
    (3, 672, 112, True, 1),
    (5, 672, 160, True, 2),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
    (5, 960, 160, False, 1),
    (5, 960, 160, True, 1),
)


class GhostBottleneck(nn.Module):
    """Ghost module to c_mid channels, [depthwise convolution if strided], [SE], linear Ghost module; + the shortcut.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)), figure 3. `ghost` makes the Ghost modules.
    """

    def __init__(
        self, ghost: Callable[..., nn.Module], c_in: int, c_mid: int, c_out: int, kernel: int, se: bool, stride: int
    ) -> None:
        super().__init__()
        self.ghost1 = ghost(c_in, c_mid)
        self.depthwise: nn.Module = nn.Identity()
        if stride > 1:
            self.depthwise = conv_bn(c_mid, c_mid, kernel, stride=stride, groups=c_mid, act=None)
        self.se = SqueezeExcite(c_mid, make_divisible(c_mid / 4, 4)) if se else nn.Identity()
        self.ghost2 = ghost(c_mid, c_out, act=None)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or c_in != c_out:
            depthwise = conv_bn(c_in, c_in, kernel, stride=stride, groups=c_in, act=None)
            self.shortcut = nn.Sequential(depthwise, conv_bn(c_in, c_out, 1, act=None))

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.shortcut(x) + self.ghost2(self.se(self.depthwise(self.ghost1(x))))
        return y


@register(
    Card(
        title="GhostNet",
        family="ghostnet",
        paper="arXiv:1911.11907",
        input=(3, 224, 224),
        params=5_182_508,
        macs=141_150_512,
        variants=(
            Variant(top1=73.9, source="table 7"),
            Variant(arguments={"width": 1.3}, top1=75.7, source="table 7"),
            Variant(arguments={"width": 0.5}, top1=66.2, source="table 7"),
            Variant(arguments={"int8_safe": True}),
        ),
    )
)
def ghostnet(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.2,
    primary_kernel: Literal[1, 3, 5, 7] = 1,
    ratio: int = 2,
    kernel: Literal[1, 3, 5, 7] = 3,
    cheap: Literal["depthwise", "shift", "linear"] = "depthwise",
    stem_stride: Literal[1, 2] = 2,
    int8_safe: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width` scales all channels but the 1280 before the classifier, to multiples of 4. `primary_kernel`, `ratio` and
    `kernel` are the paper's k, s and d in all Ghost modules. `cheap` says which filters make the ghosts: learned
    ones, or fixed ones ("shift", "linear": layers/ghost.py), which count and run like learned ones. `stem_stride=1`
    halves the total stride to 16, for inputs of 32 pixels and less. `int8_safe=True` leaves out SE.
    """

    def scale(channels: int) -> int:
        return make_divisible(channels * width, 4)

    ghost = partial(GhostModule, primary_kernel=primary_kernel, ratio=ratio, kernel=kernel, cheap=cheap)
    c = scale(16)
    stem = conv_bn(in_channels, c, 3, stride=stem_stride)
    blocks = []
    for k, c_mid, c_out, se, stride in ROWS:
        blocks.append(GhostBottleneck(ghost, c, scale(c_mid), scale(c_out), k, se and not int8_safe, stride))
        c = scale(c_out)
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=nn.Sequential(*blocks),
            head=conv_bn(c, scale(960), 1),
            pool=nn.AdaptiveAvgPool2d(1),
            hidden=nn.Conv2d(scale(960), 1280, 1),
            act=nn.ReLU(),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(1280, num_classes),
        )
    )
    init_weights(model)
    return model
