"""Which blocks stand side by side. All come from the networks of the zoo, at the size that they have in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from docs.generate.blocks import Shape, block, input_of
from docs.generate.draw import Panel, figure
from swiftlet.compress.reparameterize import reparameterize
from swiftlet.cost.count import count_model
from swiftlet.zoo import card, create_model
from swiftlet.zoo.resnet import Residual, bottleneck

FIGURES = Path(__file__).parent.parent / "figures"

Make = Callable[[], tuple[nn.Module, Shape]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Blocks with their titles, and how to make each and the shape of its input; the caption stands below them.

    `title` is what screen readers say. The feature map with the most channels is drawn `widest` pixels wide.
    """

    title: str
    caption: str
    blocks: tuple[tuple[str, Make], ...]
    widest: int = 150


def at(network: str, path: str, **arguments: Any) -> Make:
    """The module at `path` of a network."""

    def make() -> tuple[nn.Module, Shape]:
        with torch.device("meta"):
            model = create_model(network, **arguments)
        return model.get_submodule(path), input_of(model, path, card(network).input)

    return make


def resnet_depthwise() -> tuple[nn.Module, Shape]:
    """Figure 2a of ShuffleNet V1's paper: ResNet's bottleneck with a depthwise 3x3, as wide as the units beside it."""
    return Residual(bottleneck(240, 60, 240, 1, groups=60), 240, 240, 1), (240, 28, 28)


def delivered(make: Make) -> Make:
    """A block of branches after they were merged."""

    def merged() -> tuple[nn.Module, Shape]:
        module, shape = make()
        return reparameterize(module.eval())[0], shape

    return merged


COMPARISONS = {
    "mobilenet_v1_v2": Comparison(
        title="MobileNet V1 and V2",
        caption=(
            "V1 makes a convolution of two cheap ones: the depthwise looks around, the 1×1 mixes. V2 looks around in "
            "many channels but passes on few: the shortcut joins the narrow ends, and no ReLU follows the last layer."
        ),
        blocks=(
            ("MobileNet V1", at("mobilenet_v1", "blocks.2")),
            ("MobileNet V2, stride 1", at("mobilenet_v2", "stages.1.1")),
            ("MobileNet V2, stride 2", at("mobilenet_v2", "stages.1.0")),
        ),
    ),
    "resnet_mobilenet_v2": Comparison(
        title="Bottleneck and inverted residual",
        caption=(
            "ResNet's bottleneck is narrow in the middle and sums wide feature maps. The inverted residual is wide in "
            "the middle, where the convolution is depthwise and so cheap, and sums narrow ones."
        ),
        blocks=(
            ("ResNet: bottleneck", at("resnet50", "stages.0.1")),
            ("MobileNet V2: inverted residual", at("mobilenet_v2", "stages.1.1")),
        ),
    ),
    "resnet": Comparison(
        title="The blocks of ResNet and ResNeXt",
        caption=(
            "The basic block does all its work in 3×3 convolutions; the bottleneck does them in a quarter of the "
            "channels; ResNeXt has more channels there, in 32 groups that do not see each other."
        ),
        blocks=(
            ("ResNet-18: basic", at("resnet18", "stages.0.1")),
            ("ResNet-50: bottleneck", at("resnet50", "stages.0.1")),
            ("ResNeXt-50: 32 groups", at("resnext50_32x4d", "stages.0.1")),
        ),
    ),
    "mobilenet_v2_v3": Comparison(
        title="MobileNet V2 and V3",
        caption=(
            "V3 keeps the inverted residual and adds squeeze-and-excitation: the mean of each channel decides, through "
            "two small layers, how much of each channel passes. Deep blocks have h-swish in place of ReLU6."
        ),
        blocks=(
            ("MobileNet V2", at("mobilenet_v2", "stages.3.1")),
            ("MobileNet V3-Small", at("mobilenet_v3_small", "blocks.4")),
        ),
    ),
    "mnasnet_efficientnet_lite": Comparison(
        title="Searched blocks: MnasNet and EfficientNet-Lite",
        caption=(
            "A search set kernel, expansion and squeeze-and-excitation of each stage: here 5×5, threefold, with. "
            "EfficientNet-Lite is a searched network made fit for integers: no gates, and ReLU6 in place of swish."
        ),
        blocks=(
            ("MnasNet-A1", at("mnasnet_a1", "stages.2.1")),
            ("EfficientNet-Lite0", at("efficientnet_lite0", "stages.2.1")),
        ),
    ),
    "mobilenet_v4": Comparison(
        title="Universal inverted bottleneck of MobileNet V4",
        caption=(
            "One block with two optional depthwise convolutions, before the expansion and inside it; a search picks. "
            "With the inner one it is MobileNet V2's block, with the first one ConvNeXt's, with both it sees furthest."
        ),
        blocks=(
            ("Inverted bottleneck", at("mobilenet_v4_conv_small", "blocks.3")),
            ("ConvNext", at("mobilenet_v4_conv_small", "blocks.7")),
            ("ExtraDW", at("mobilenet_v4_conv_small", "blocks.9")),
            ("ExtraDW, stride 2", at("mobilenet_v4_conv_small", "blocks.8")),
        ),
    ),
    "lcnet": Comparison(
        title="MobileNet V1 and PP-LCNet",
        caption=(
            "PP-LCNet is MobileNet V1 again, since shortcuts and branches cost time on a CPU: h-swish everywhere, 5×5 "
            "kernels in the deeper half, and squeeze-and-excitation in the last two blocks alone."
        ),
        blocks=(
            ("MobileNet V1", at("mobilenet_v1", "blocks.6")),
            ("PP-LCNet", at("lcnet", "blocks.6")),
            ("PP-LCNet, last block", at("lcnet", "blocks.12")),
        ),
    ),
    "fire": Comparison(
        title="Fire modules of SqueezeNet",
        caption=(
            "Few 1×1 filters squeeze the feature map before anything looks around, and half of the filters that follow "
            "are 1×1. The simple bypass is free but needs equal widths; the complex one pays for a convolution."
        ),
        blocks=(
            ("Fire", at("squeezenet1_0", "blocks.fire3")),
            ("Simple bypass", at("squeezenet1_0", "blocks.fire3", bypass="simple")),
            ("Complex bypass", at("squeezenet1_0", "blocks.fire2", bypass="complex")),
        ),
        widest=100,
    ),
    "shufflenet_v1": Comparison(
        title="From ResNet's bottleneck to ShuffleNet V1",
        caption=(
            "With a depthwise 3×3 nearly all the cost is in the 1×1 convolutions. ShuffleNet V1 does those in groups, "
            "here 3, and the shuffle hands each group of the next layer channels of all groups before."
        ),
        blocks=(
            ("ResNet, depthwise", resnet_depthwise),
            ("ShuffleNet V1, stride 1", at("shufflenet_v1", "stages.0.1")),
            ("ShuffleNet V1, stride 2", at("shufflenet_v1", "stages.1.0")),
        ),
        widest=140,
    ),
    "shufflenet_v2": Comparison(
        title="The units of ShuffleNet V2",
        caption=(
            "Half of the channels pass untouched, the other half go through three layers of equal width; no groups, no "
            "sum. The shuffle mixes the halves, so that in the next unit others pass. With stride 2 all are computed."
        ),
        blocks=(
            ("ShuffleNet V2, stride 1", at("shufflenet_v2", "stages.0.1")),
            ("ShuffleNet V2, stride 2", at("shufflenet_v2", "stages.1.0")),
        ),
    ),
    "inception_xception": Comparison(
        title="Inception and Xception",
        caption=(
            "Inception: a 1×1 mixes, then a few branches look around, each in its own channels. Xception: as many "
            "branches as channels, which is a depthwise convolution; nothing stands between it and its 1×1."
        ),
        blocks=(
            ("Inception V3", at("inception_v3", "blocks.mixed_5b")),
            ("Xception", at("xception", "blocks.5")),
        ),
        widest=130,
    ),
    "mobileone": Comparison(
        title="MobileOne in training and delivered",
        caption=(
            "Each layer is trained as a sum of convolutions (four in S0, one drawn), a 1×1 one where that is smaller, "
            "and a BatchNorm of the input. All are linear up to the ReLU, so they can be merged into one convolution."
        ),
        blocks=(
            ("In training", at("mobileone_s0", "stages.1.1", branches=1)),
            ("Delivered", delivered(at("mobileone_s0", "stages.1.1", branches=1))),
        ),
        widest=120,
    ),
    "ghost": Comparison(
        title="Ghost module and Ghost bottleneck",
        caption=(
            "A Ghost module convolves half of its channels and makes the other half from them, each by one depthwise "
            "filter. Two of them make a bottleneck; the second one is linear."
        ),
        blocks=(
            ("Ghost module", at("ghostnet", "blocks.2.ghost1")),
            ("Bottleneck, stride 1", at("ghostnet", "blocks.2")),
            ("Bottleneck, stride 2", at("ghostnet", "blocks.1")),
        ),
        widest=120,
    ),
    "mobiledets": Comparison(
        title="The three blocks of MobileDets",
        caption=(
            "On accelerators a full convolution can be faster than a depthwise one with fewer multiply-adds. Fused: "
            "expansion and depthwise become one 3×3. Tucker: a 3×3 between two 1×1, as in low-rank compression."
        ),
        blocks=(
            ("Inverted bottleneck", at("mobiledet_dsp", "stages.1.2")),
            ("Fused", at("mobiledet_dsp", "stages.1.1")),
            ("Tucker", at("mobiledet_dsp", "stages.1.3")),
        ),
    ),
}


def draw(name: str) -> str:
    """The SVG of one comparison."""
    comparison = COMPARISONS[name]
    panels = [_panel(title, *make()) for title, make in comparison.blocks]
    return figure(comparison.title, comparison.caption, panels, comparison.widest)


def _panel(title: str, module: nn.Module, shape: Shape) -> Panel:
    cost = count_model(module, shape).cost
    note = (f"{(cost.macs or 0) / 1e6:.1f} M multiply-adds", f"{cost.params:,} parameters")
    return Panel(title=title, note=note, tree=block(module.to("meta"), shape))
