"""timm's repositories on the hub: which of our networks an architecture is, and what its config.json says."""

import re
from pathlib import Path
from typing import Any

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.zoo.weights.bounded import read_json
from swiftlet.zoo.weights.facts import Weights

TENSORFLOW = {"padding": "tensorflow"}
# timm's architecture: our network and its arguments. Any tag (".ra_in1k") is other weights of the same architecture.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientnet_lite0": ("efficientnet_lite0", {}),
    "ghostnet_050": ("ghostnet", {"width": 0.5}),
    "ghostnet_100": ("ghostnet", {}),
    "ghostnet_130": ("ghostnet", {"width": 1.3}),
    "inception_v3": ("inception_v3", {}),
    "lcnet_035": ("lcnet", {"width": 0.35}),
    "lcnet_050": ("lcnet", {"width": 0.5}),
    "lcnet_075": ("lcnet", {"width": 0.75}),
    "lcnet_100": ("lcnet", {}),
    "lcnet_150": ("lcnet", {"width": 1.5}),
    "legacy_xception": ("xception", {}),
    "mnasnet_050": ("mnasnet_b1", {"width": 0.5}),
    "mnasnet_075": ("mnasnet_b1", {"width": 0.75}),
    "mnasnet_100": ("mnasnet_b1", {}),
    "mnasnet_140": ("mnasnet_b1", {"width": 1.4}),
    "mobilenetv1_100": ("mobilenet_v1", {"act": "relu6"}),
    "mobilenetv1_125": ("mobilenet_v1", {"act": "relu6", "width": 1.25}),
    "mobilenetv2_035": ("mobilenet_v2", {"width": 0.35}),
    "mobilenetv2_050": ("mobilenet_v2", {"width": 0.5}),
    "mobilenetv2_075": ("mobilenet_v2", {"width": 0.75}),
    "mobilenetv2_100": ("mobilenet_v2", {}),
    "mobilenetv2_140": ("mobilenet_v2", {"width": 1.4}),
    "mobilenetv3_large_075": ("mobilenet_v3_large", {"width": 0.75}),
    "mobilenetv3_large_100": ("mobilenet_v3_large", {}),
    "mobilenetv3_small_075": ("mobilenet_v3_small", {"width": 0.75}),
    "mobilenetv3_small_100": ("mobilenet_v3_small", {}),
    "mobilenetv4_conv_small": ("mobilenet_v4_conv_small", {}),
    "mobilenetv4_conv_small_035": ("mobilenet_v4_conv_small", {"width": 0.35}),
    "mobilenetv4_conv_small_050": ("mobilenet_v4_conv_small", {"width": 0.5}),
    "mobileone_s0": ("mobileone_s0", {}),
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
    "resnext50_32x4d": ("resnext50_32x4d", {}),
    "semnasnet_050": ("mnasnet_a1", {"width": 0.5}),
    "semnasnet_075": ("mnasnet_a1", {"width": 0.75}),
    "semnasnet_100": ("mnasnet_a1", {}),
    "semnasnet_140": ("mnasnet_a1", {"width": 1.4}),
    "tf_efficientnet_lite0": ("efficientnet_lite0", TENSORFLOW),
    "tf_mobilenetv3_large_075": ("mobilenet_v3_large", {"width": 0.75, **TENSORFLOW}),
    "tf_mobilenetv3_large_100": ("mobilenet_v3_large", TENSORFLOW),
    "tf_mobilenetv3_large_minimal_100": ("mobilenet_v3_large", {"minimalistic": True, **TENSORFLOW}),
    "tf_mobilenetv3_small_075": ("mobilenet_v3_small", {"width": 0.75, **TENSORFLOW}),
    "tf_mobilenetv3_small_100": ("mobilenet_v3_small", TENSORFLOW),
    "tf_mobilenetv3_small_minimal_100": ("mobilenet_v3_small", {"minimalistic": True, **TENSORFLOW}),
    "vgg16": ("vgg16", {}),
}


def read_config(path: Path, source: str, licence: str | None) -> Weights:
    """What the config.json of a repository, or of a local folder made like one, says of the weights beside it.

    `licence` is used if the file names none. Raises BadFile for a malformed file, BadInput for an architecture that
    the zoo does not have.
    """
    config = read_json(path)
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise BadFile(f"{path}: does not name its 'architecture'; timm writes it")
    if architecture not in ARCHITECTURES:
        raise BadInput(f"{source}: the zoo has no network for timm's {architecture!r}; it has {_list()}")
    network, arguments = ARCHITECTURES[architecture]
    try:
        given = config["pretrained_cfg"]
        classes = config.get("num_classes", given["num_classes"])
        if type(classes) is not int or classes < 1:
            raise ValueError(f"num_classes is {classes!r}")
        contract, own = _contract(given), given.get("license")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(f"{path}: 'pretrained_cfg' is not what timm writes ({error!r})") from error
    return Weights(
        source=source,
        network=network,
        arguments=arguments,
        num_classes=classes,
        layout="timm",
        contract=contract,
        licence=own if isinstance(own, str) else licence or f"unknown: see where {source} is from",
    )


def _contract(given: dict[str, Any]) -> InputContract:
    """timm's evaluation transform; its mean and std are in units of 0..1."""
    channels, height, width = given["input_size"]
    if channels != 3 or height != width or given.get("crop_mode", "center") != "center":
        raise ValueError(f"input_size {given['input_size']}, crop_mode {given.get('crop_mode')}: not a square RGB crop")
    mean, std = ([round(255 * share, 6) for share in given[name]] for name in ("mean", "std"))
    return InputContract(
        side=height, mean=tuple(mean), std=tuple(std), resize=given["interpolation"], crop_pct=given["crop_pct"]
    )


def card_licence(card: Path) -> str | None:
    """The licence in the head of a model card, the README.md of a repository."""
    with card.open("rb") as file:
        head = file.read(10_000).decode("utf-8", "replace").removeprefix("---").partition("\n---")[0]
    found = re.search(r"^license:\s*(?:-\s*)?[\"']?([\w.+-]+)", head, re.MULTILINE)
    return found and found[1]


def _list() -> str:
    return ", ".join(sorted(ARCHITECTURES))
