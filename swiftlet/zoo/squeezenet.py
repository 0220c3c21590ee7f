"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360, table 1) and the 1.1 of its authors' repository.

Input (B, 3, H, W), total stride 16. No BatchNorm: every convolution has a bias and a ReLU, the last one too.
Departures from the printed table: the input is 227 x 227 as in the released Caffe files, the table says 224; conv1 is
not padded and pooling rounds sizes up, as there. SqueezeNet 1.1 is known from its Caffe file only.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.layers.init import init_weights
from swiftlet.zoo.card import Card, Variant, register

POOL_AFTER = {"late": (4, 8), "early": (3, 5)}  # numbers of Fire modules; one more pooling follows conv1


def conv_relu(c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: int = 0) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H', W')."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, stride, padding), nn.ReLU())


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 convolutions side by side (figure 1).

    (B, c_in, H, W) -> (B, expand1x1 + expand3x3, H, W). bypass="simple" adds the input where both have as many
    channels, "complex" also elsewhere, through a 1x1 convolution (figure 2). No ReLU follows the sum.
    """

    def __init__(self, c_in: int, squeeze: int, expand1x1: int, expand3x3: int, bypass: str) -> None:
        super().__init__()
        c_out = expand1x1 + expand3x3
        self.squeeze = conv_relu(c_in, squeeze, 1)
        self.expand1x1 = conv_relu(squeeze, expand1x1, 1)
        self.expand3x3 = conv_relu(squeeze, expand3x3, 3, padding=1)
        self.bypass: nn.Module | None = None
        if bypass != "none" and c_in == c_out:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, c_in, H, W)
        narrow = self.squeeze(x)
        y = torch.cat([self.expand1x1(narrow), self.expand3x3(narrow)], 1)
        return y if self.bypass is None else self.bypass(x) + y


def _stem(in_channels: int, c: int, kernel: int, small_input: bool) -> nn.Sequential:
    """conv1 and the pooling that follows it."""
    if small_input:
        return conv_relu(in_channels, c, 3, padding=1)
    return conv_relu(in_channels, c, kernel, stride=2).append(nn.MaxPool2d(3, 2, ceil_mode=True))


def _fires(
    c: int, expand: Sequence[int], pct_3x3: float, squeeze_ratio: float, bypass: str, pool: str
) -> nn.Sequential:
    """fire2, fire3, ... on c channels, with `expand` filters in their expand layers, and the poolings between them."""
    blocks: dict[str, nn.Module] = {}
    for number, e in enumerate(expand, start=2):
        e_3x3 = min(max(1, int(e * pct_3x3)), e - 1)
        blocks[f"fire{number}"] = Fire(c, max(1, int(e * squeeze_ratio)), e - e_3x3, e_3x3, bypass)
        if number in POOL_AFTER[pool]:
            blocks[f"pool{number}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        c = e
    return nn.Sequential(OrderedDict(blocks))


def _network(stem: nn.Module, fires: nn.Module, dropout: float, conv10: nn.Conv2d) -> nn.Sequential:
    model = nn.Sequential(
        OrderedDict(
            stem=stem,
            blocks=fires,
            dropout=nn.Dropout(dropout),
            classifier=conv10,
            act=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
    )
    init_weights(model)
    nn.init.normal_(conv10.weight, std=0.01)  # the released file's; by fan-out few classes would start too large
    return model


@register(
    Card(
        title="SqueezeNet 1.0",
        family="squeezenet",
        paper="arXiv:1602.07360",
        input=(3, 227, 227),
        params=1_248_424,
        macs=861_339_936,
        variants=(
            Variant(top1=57.5, source="table 3"),
            Variant(arguments={"bypass": "simple"}, top1=60.4, source="table 3"),
            Variant(arguments={"bypass": "complex"}, top1=58.8, source="table 3"),
            Variant(arguments={"squeeze_ratio": 0.5}),  # figure 3: top-5 85.6 and 86.0
            Variant(arguments={"squeeze_ratio": 0.75}),
        ),
    )
)
def squeezenet1_0(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    bypass: Literal["none", "simple", "complex"] = "none",
    base_expand: int = 128,
    increase: int = 128,
    frequency: int = 2,
    pct_3x3: float = 0.5,
    squeeze_ratio: float = 0.125,
    pool: Literal["late", "early"] = "late",
    conv10_padding: Literal[0, 1] = 1,
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits, none below 0.

    The meta-parameters of section 5.1: fire2 has `base_expand` filters in its expand layer, and there are `increase`
    more after every `frequency` modules; a share of `pct_3x3` of them is 3x3; the squeeze layer has `squeeze_ratio`
    times as many. `pool="late"` is table 1, "early" pools after fire3 and fire5 as 1.1 does. `bypass` is section 6.
    `conv10_padding=1` is in the released file and in its 1.72 GFLOP (861 M multiply-adds at 227); with 0, as in table
    1 and torchvision, there are 833 M at 227 and 819 M at 224.

    `width`, which the paper does not have, scales conv1 and the expand layers; what is not whole is rounded down, to
    at least 1. `small_input=True` makes conv1 3x3 of stride 1, without the pooling, for 32 pixels and less.
    """
    if pct_3x3 >= 1:
        raise BadInput(f"squeezenet1_0: pct_3x3={pct_3x3} leaves no 1x1 filters; give a share below 1")
    conv1 = max(1, int(96 * width))
    expand = [max(2, int(width * (base_expand + increase * (i // frequency)))) for i in range(8)]  # fire2 to fire9
    fires = _fires(conv1, expand, pct_3x3, squeeze_ratio, bypass, pool)
    conv10 = nn.Conv2d(expand[-1], num_classes, 1, padding=conv10_padding)
    return _network(_stem(in_channels, conv1, 7, small_input), fires, dropout, conv10)


@register(
    Card(
        title="SqueezeNet 1.1",
        family="squeezenet",
        paper="arXiv:1602.07360",
        input=(3, 227, 227),
        params=1_235_496,
        macs=387_747_520,
        variants=(Variant(top1=58.2, source="torchvision 0.28", side=224),),
    )
)
def squeezenet1_1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    dropout: float = 0.5,
    bypass: Literal["none", "simple", "complex"] = "none",
    small_input: bool = False,
) -> nn.Sequential:
    """(B, in_channels, H, W) -> (B, num_classes) logits, none below 0.

    Against 1.0: conv1 has 64 filters of 3x3, pooling comes early, conv10 is not padded. 388 M multiply-adds at 227,
    where its authors' README says 0.72 GFLOP (360 M). `bypass`, `width` and `small_input` are those of 1.0.
    """
    conv1 = max(1, int(64 * width))
    expand = [max(2, int(width * e)) for e in (128, 128, 256, 256, 384, 384, 512, 512)]
    fires = _fires(conv1, expand, 0.5, 0.125, bypass, "early")
    return _network(_stem(in_channels, conv1, 3, small_input), fires, dropout, nn.Conv2d(expand[-1], num_classes, 1))
