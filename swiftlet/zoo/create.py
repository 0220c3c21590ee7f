"""Networks by name: the one way in for everything above the zoo."""

from pathlib import Path

from torch import nn

from swiftlet.zoo.card import build_model


def create_model(name: str, *, pretrained: Path | str | None = None, **arguments: object) -> nn.Module:
    """Build a network by name, in training mode, with random weights or with those of `pretrained`.

    create_model("mobilenet_v2", width=0.35, num_classes=10). `pretrained` is a repository of timm's on the hub
    ("timm/mobilenetv2_100.ra_in1k"), a name of torchvision's ("torchvision/mobilenet_v2.IMAGENET1K_V2"), or a local
    file or folder; the weights then decide all arguments but num_classes and dropout, and if only the classes differ,
    all but the classifier is loaded. The model's `pretrained` says what was read, its licence and input contract.
    Raises BadInput for an unknown name or argument, and names the ones that exist; for weights see load_pretrained.
    """
    if pretrained is None:
        return build_model(name, arguments)
    from swiftlet.zoo.weights.pretrained import load_pretrained  # needs more than torch, and most calls do not

    return load_pretrained(name, pretrained, arguments)
