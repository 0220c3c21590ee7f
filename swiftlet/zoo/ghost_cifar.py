"""VGG-16 and ResNet-56 for CIFAR-10, of Ghost modules (Han et al. 2020, arXiv:1911.11907, tables 3 to 5).

Input (B, 3, 32, 32). A Ghost module stands in place of every 3x3 convolution. The paper does not describe the two base
networks; the sizes that it prints for them do. VGG-16 has BatchNorm and one hidden layer of 512, whose 0.26 M
multiply-adds the paper leaves out; ResNet-56 is He et al.'s (arXiv:1512.03385, section 4.2), its shortcuts without
parameters.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register

# channels of the convolutions, each row ends in a pooling
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# channels, blocks, stride of the first block
RESNET56 = ((16, 9, 1), (32, 9, 2), (64, 9, 2))


class GhostBasicBlock(nn.Module):
    """Two Ghost modules, the second one linear; + the input; ReLU. `ghost` makes the modules.

    (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride)) with c_out >= c_in. Where the shape changes, every
    other pixel of the input is added to the first c_in channels (He et al.'s option A).
    """

    def __init__(self, ghost: Callable[..., nn.Module], c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.ghost1 = ghost(c_in, c_out, stride=stride)
        self.ghost2 = ghost(c_out, c_out, act=None)
        self.subsample = nn.AvgPool2d(1, stride) if stride > 1 else nn.Identity()
        self.act = nn.ReLU()
        self.c_in, self.widens = c_in, c_out > c_in

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        y: Tensor = self.ghost2(self.ghost1(x))  # (B, c_out, H', W')
        x = self.subsample(x)  # (B, c_in, H', W')
        y = torch.cat([x + y[:, : self.c_in], y[:, self.c_in :]], 1) if self.widens else x + y
        y = self.act(y)
        return y


@register(
    Card(
        title="Ghost-VGG-16",
        family="ghostnet",
        paper="arXiv:1911.11907",
        input=(3, 32, 32),
        params=7_650_474,
        macs=158_109_696,
        variants=(
            Variant(top1=93.7, source="table 5, CIFAR-10"),
            Variant(arguments={"ratio": 1}, top1=93.6, source="table 5, CIFAR-10"),
            Variant(arguments={"ratio": 3}, top1=93.4, source="table 4, CIFAR-10"),
            Variant(arguments={"ratio": 4}, top1=93.0, source="table 4, CIFAR-10"),
            Variant(arguments={"ratio": 5}, top1=92.9, source="table 4, CIFAR-10"),
            Variant(arguments={"kernel": 1}, top1=93.5, source="table 3, CIFAR-10"),
            Variant(arguments={"kernel": 5}, top1=93.4, source="table 3, CIFAR-10"),
            Variant(arguments={"kernel": 7}, top1=93.1, source="table 3, CIFAR-10"),
        ),
    )
)
def ghost_vgg16(
    *,
    width: float = 1.0,
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: float = 0.0,
    primary_kernel: Literal[1, 3, 5, 7] = 3,
    ratio: int = 2,
    kernel: Literal[1, 3, 5, 7] = 3,
    cheap: Literal["depthwise", "shift", "linear"] = "depthwise",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits.

    `width`, which the paper does not have, scales all layers; channels are rounded down, to at least 1.
    `primary_kernel`, `ratio` and `kernel` are the paper's k, s and d; with ratio 1 this is plain VGG-16. `cheap` says
    which filters make the ghosts: learned ones, or fixed ones ("shift", "linear": layers/ghost.py).
    """
    ghost = partial(GhostModule, primary_kernel=primary_kernel, ratio=ratio, kernel=kernel, cheap=cheap)
    c, stages = in_channels, []
    for row in VGG16:
        layers: list[nn.Module] = []
        for channels in row:
            c_out = max(1, int(channels * width))
            layers.append(ghost(c, c_out))
            c = c_out
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    model = nn.Sequential(
        OrderedDict(
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            hidden=nn.Linear(c, c),
            act=nn.ReLU(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model


@register(
    Card(
        title="Ghost-ResNet-56",
        family="ghostnet",
        paper="arXiv:1911.11907",
        input=(3, 32, 32),
        params=438_010,
        macs=65_139_328,
        variants=(
            Variant(top1=92.7, source="table 5, CIFAR-10"),
            Variant(arguments={"ratio": 1}, top1=93.0, source="table 5, CIFAR-10"),
        ),
    )
)
def ghost_resnet56(
    *,
    width: float = 1.0,
    num_classes: int = 10,
    in_channels: int = 3,
    dropout: float = 0.0,
    primary_kernel: Literal[1, 3, 5, 7] = 3,
    ratio: int = 2,
    kernel: Literal[1, 3, 5, 7] = 3,
    cheap: Literal["depthwise", "shift", "linear"] = "depthwise",
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits. The arguments are those of ghost_vgg16."""
    ghost = partial(GhostModule, primary_kernel=primary_kernel, ratio=ratio, kernel=kernel, cheap=cheap)
    c = max(1, int(RESNET56[0][0] * width))
    stem = ghost(in_channels, c)
    stages = []
    for channels, n, stride in RESNET56:
        c_out = max(1, int(channels * width))
        blocks = []
        for i in range(n):
            blocks.append(GhostBasicBlock(ghost, c, c_out, stride if i == 0 else 1))
            c = c_out
        stages.append(nn.Sequential(*blocks))
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            stages=nn.Sequential(*stages),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=nn.Dropout(dropout),
            classifier=nn.Linear(c, num_classes),
        )
    )
    init_weights(model)
    return model
