"""torchvision's published weights. They are pickles, which swiftlet never opens: it takes the safetensors file that a
user made of one, from where torchvision keeps its downloads or from anywhere else."""

import difflib
from pathlib import Path
from typing import Any

import torch

from swiftlet.data.contract import InputContract, Triple
from swiftlet.errors import BadInput
from swiftlet.zoo.weights.facts import Weights

PREFIX = "torchvision/"
LICENCE = "BSD-3-Clause"
IMAGENET: tuple[Triple, Triple] = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
# What torchvision's Inception networks make of those inside, which ours leave to the contract: pixels from -1 to 1.
INCEPTION: tuple[Triple, Triple] = ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))
THEIRS, X1_0 = {"variant": "torchvision"}, {"split": "torchvision"}
X0_5, X1_5, X2_0 = ({"width": width} | X1_0 for width in (0.5, 1.5, 2.0))
# torchvision's name: its file, our network and arguments, the side of the crop, the short side that it is cut from
PUBLISHED: dict[str, tuple[str, str, dict[str, Any], int, int]] = {
    "alexnet.IMAGENET1K_V1": ("alexnet-owt-7be5be79", "alexnet", THEIRS, 224, 256),
    "googlenet.IMAGENET1K_V1": ("googlenet-1378be20", "googlenet", THEIRS, 224, 256),
    "inception_v3.IMAGENET1K_V1": ("inception_v3_google-0cc3c7bd", "inception_v3", {}, 299, 342),
    "mnasnet0_5.IMAGENET1K_V1": ("mnasnet0.5_top1_67.823-3ffadce67e", "mnasnet_b1", {"width": 0.5}, 224, 256),
    "mnasnet0_75.IMAGENET1K_V1": ("mnasnet0_75-7090bc5f", "mnasnet_b1", {"width": 0.75}, 224, 232),
    "mnasnet1_0.IMAGENET1K_V1": ("mnasnet1.0_top1_73.512-f206786ef8", "mnasnet_b1", {}, 224, 256),
    "mnasnet1_3.IMAGENET1K_V1": ("mnasnet1_3-a4c69d6f", "mnasnet_b1", {"width": 1.3}, 224, 232),
    "mobilenet_v2.IMAGENET1K_V1": ("mobilenet_v2-b0353104", "mobilenet_v2", {}, 224, 256),
    "mobilenet_v2.IMAGENET1K_V2": ("mobilenet_v2-7ebf99e0", "mobilenet_v2", {}, 224, 232),
    "mobilenet_v3_large.IMAGENET1K_V1": ("mobilenet_v3_large-8738ca79", "mobilenet_v3_large", THEIRS, 224, 256),
    "mobilenet_v3_large.IMAGENET1K_V2": ("mobilenet_v3_large-5c1a4163", "mobilenet_v3_large", THEIRS, 224, 232),
    "mobilenet_v3_small.IMAGENET1K_V1": ("mobilenet_v3_small-047dcff4", "mobilenet_v3_small", THEIRS, 224, 256),
    "resnet18.IMAGENET1K_V1": ("resnet18-f37072fd", "resnet18", {}, 224, 256),
    "resnet50.IMAGENET1K_V1": ("resnet50-0676ba61", "resnet50", {}, 224, 256),
    "resnet50.IMAGENET1K_V2": ("resnet50-11ad3fa6", "resnet50", {}, 224, 232),
    "resnext50_32x4d.IMAGENET1K_V1": ("resnext50_32x4d-7cdf4587", "resnext50_32x4d", {}, 224, 256),
    "resnext50_32x4d.IMAGENET1K_V2": ("resnext50_32x4d-1a0047aa", "resnext50_32x4d", {}, 224, 232),
    "shufflenet_v2_x0_5.IMAGENET1K_V1": ("shufflenetv2_x0.5-f707e7126e", "shufflenet_v2", X0_5, 224, 256),
    "shufflenet_v2_x1_0.IMAGENET1K_V1": ("shufflenetv2_x1-5666bf0f80", "shufflenet_v2", X1_0, 224, 256),
    "shufflenet_v2_x1_5.IMAGENET1K_V1": ("shufflenetv2_x1_5-3c479a10", "shufflenet_v2", X1_5, 224, 232),
    "shufflenet_v2_x2_0.IMAGENET1K_V1": ("shufflenetv2_x2_0-8be3c8ee", "shufflenet_v2", X2_0, 224, 232),
    "squeezenet1_0.IMAGENET1K_V1": ("squeezenet1_0-b66bff10", "squeezenet1_0", {"conv10_padding": 0}, 224, 256),
    "squeezenet1_1.IMAGENET1K_V1": ("squeezenet1_1-b8a52dc0", "squeezenet1_1", {}, 224, 256),
    "vgg16.IMAGENET1K_V1": ("vgg16-397923af", "vgg16", {}, 224, 256),
}


def published(source: str) -> tuple[Path, Weights]:
    """Where the file of "torchvision/mobilenet_v2.IMAGENET1K_V1" should lie, and what is known of it.

    Raises BadInput for a name that torchvision does not have, or whose network the zoo does not have.
    """
    name = source.removeprefix(PREFIX)
    if name not in PUBLISHED:
        close = difflib.get_close_matches(name, PUBLISHED, n=1)
        hint = f"did you mean '{PREFIX}{close[0]}'?" if close else f"there are {', '.join(sorted(PUBLISHED))}"
        raise BadInput(f"{source}: the zoo has no network for these weights of torchvision's; {hint}")
    stem = PUBLISHED[name][0]
    return Path(torch.hub.get_dir()) / "checkpoints" / f"{stem}.safetensors", _weights(name, source)


def of_file(path: Path, source: str) -> Weights | None:
    """What is known of a file that has the name of one of torchvision's; None if it has another."""
    name = next((name for name, row in PUBLISHED.items() if row[0] == path.stem), None)
    return None if name is None else _weights(name, source)


def _weights(name: str, source: str) -> Weights:
    _, network, arguments, side, short = PUBLISHED[name]
    mean, std = INCEPTION if network in ("googlenet", "inception_v3") else IMAGENET
    return Weights(
        source=source,
        network=network,
        arguments=arguments,
        num_classes=1000,
        layout="torchvision",
        contract=InputContract(side=side, mean=mean, std=std, crop_pct=side / short),
        licence=LICENCE,
    )
