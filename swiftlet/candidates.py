"""What `plan` and `fit` choose from: networks at some widths and sides, from random weights or from trained ones."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.zoo import create_model, parameters_of
from swiftlet.zoo.weights.facts import Weights
from swiftlet.zoo.weights.pretrained import describe, is_cached

# What is trained from random weights. Depthwise networks are lighter, but plain ones learn more in the same minutes of
# a CPU: docs/log.md has the race that chose these.
WIDTHS = {
    "mobilenet_v1": (0.0625, 0.125, 0.25, 0.5),
    "mobilenet_v2": (0.35,),
    "resnet18": (0.0625, 0.125, 0.25, 0.5),
    "shufflenet_v2": (0.5,),
}
# Trained weights to start from, smallest network first: those of a kind that costs int8 little, or that few beat.
RECOMMENDED = (
    "timm/mobilenetv3_small_075.lamb_in1k",
    "timm/mobilenetv2_050.lamb_in1k",
    "timm/mobilenetv4_conv_small.e2400_r224_in1k",
    "timm/mobilenetv3_large_100.ra_in1k",
    "timm/mobilenetv2_100.ra_in1k",
)
SIDES = (16, 24, 32, 48, 64, 96, 128, 160, 192, 224)
SMALL = 32  # up to this side the stem keeps the resolution: the paper's stride of 32 would leave one pixel
LEAST_PRETRAINED = 64  # below this side features that were trained at 224 see too little of what they look for


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One network at one width and one input side, to be trained from random weights or from `pretrained` ones."""

    network: str
    width: float
    side: int
    pretrained: Weights | None = None

    @property
    def name(self) -> str:
        return f"{self.network}-{self.width:g}-{self.side}px{'-pretrained' if self.pretrained else ''}"

    @property
    def arguments(self) -> dict[str, Any]:
        if self.pretrained is not None:
            return self.pretrained.arguments  # the stem too stays as it was trained
        small = {"small_input": True} if "small_input" in parameters_of(self.network) else {"stem_stride": 1}
        return {"width": self.width} | (small if self.side <= SMALL else {})

    @property
    def contract(self) -> InputContract:
        """What it sees: whole photos, coloured and resized as its weights are used to."""
        if self.pretrained is None:
            return InputContract(side=self.side)
        return replace(self.pretrained.contract, side=self.side, crop_pct=1.0)

    def build(self, num_classes: int, seed: int) -> nn.Module:
        """The network with random weights that depend on the seed alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return create_model(self.network, num_classes=num_classes, **self.arguments)

    def start(self, num_classes: int, seed: int) -> nn.Module:
        """The network that training starts from: `build` with the trained weights in it, all but the classifier's."""
        if self.pretrained is None:
            return self.build(num_classes, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return create_model(self.network, pretrained=self.pretrained.source, num_classes=num_classes)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Candidate":
        """Raises BadFile, TypeError or KeyError if this is no candidate."""
        weights = data.get("pretrained")
        return cls(**data | {"pretrained": None if weights is None else Weights.from_json(weights)})


def sides_for(median_short_side: int) -> tuple[int, ...]:
    """Up to four input sides that suit the photos: up to their own size, tiny ones up to double, never above 224."""
    top = min(224, max(24, 2 * median_short_side if median_short_side <= 48 else median_short_side))
    able = [side for side in SIDES if side <= top]
    near = {min(able, key=lambda side: abs(side - share * top)) for share in (0.4, 0.6, 0.8, 1.0)}
    return tuple(sorted(near))


def candidates_for(median_short_side: int, pretrained: str | None = None) -> tuple[Candidate, ...]:
    """Network x width x side, from random weights and from trained ones.

    `pretrained` names the weights to start from (create_model says how); their network is then the only one. "auto"
    is all recommended ones, of which the hub is asked what they are; None is those that its cache has already, and
    nobody is asked.
    """
    sides = sides_for(median_short_side)
    random = tuple(
        Candidate(network=network, width=width, side=side)
        for network, widths in WIDTHS.items()
        for width in widths
        for side in sides
    )
    if pretrained is None:
        sources = tuple(source for source in RECOMMENDED if is_cached(source))
    elif pretrained == "auto":
        sources = RECOMMENDED
    else:
        random, sources = (), (pretrained,)
    known = [describe(source) for source in sources]
    return random + tuple(
        Candidate(network=w.network, width=w.arguments.get("width", 1.0), side=side, pretrained=w)
        for w in known
        for side in [side for side in sides if side >= LEAST_PRETRAINED] or [LEAST_PRETRAINED]
    )
