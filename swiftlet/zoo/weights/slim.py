"""Names in TensorFlow-slim checkpoints (tensorflow/models, research/slim), and their axes.

slim keeps convolutions as (height, width, in, out), depthwise ones as (height, width, channels, multiplier).
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from swiftlet.zoo.weights.layout import Layout, Pairs, children, conv_bn

LEAVES = {
    "weights": "weight",
    "depthwise_weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
UNUSED = ("/ExponentialMovingAverage", "/RMSProp", "/RMSProp_1", "/Momentum")  # slots of the optimizer


def to_pytorch(source: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """Slim's names as dotted paths, axes as PyTorch's, and without the background class if `classes` has none."""
    found = {}
    for name, tensor in source.items():
        if name.endswith(UNUSED) or name == "global_step":
            continue
        path, _, leaf = name.rpartition("/")
        if tensor.ndim == 4:
            tensor = tensor.permute(2, 3, 0, 1) if leaf == "depthwise_weights" else tensor.permute(3, 2, 0, 1)
            if leaf == "depthwise_weights":
                tensor = tensor.reshape(-1, 1, *tensor.shape[2:])
        if "/Logits/" in name and len(tensor) == classes + 1:
            tensor = tensor[1:]
        found[f"{path.replace('/', '.')}.{LEAVES.get(leaf, leaf)}"] = tensor
    return found


def _conv_bn(ours: str, theirs: str) -> Pairs:
    return conv_bn(ours, theirs, f"{theirs}.BatchNorm")


def mobilenet_v1(model: Any) -> Pairs:
    yield from _conv_bn("stem", "MobilenetV1.Conv2d_0")
    for i, (path, _) in enumerate(children("blocks", model.blocks), start=1):
        yield from _conv_bn(f"{path}.depthwise", f"MobilenetV1.Conv2d_{i}_depthwise")
        yield from _conv_bn(f"{path}.pointwise", f"MobilenetV1.Conv2d_{i}_pointwise")
    yield "classifier", "MobilenetV1.Logits.Conv2d_1c_1x1"


def mobilenet_v2(model: Any) -> Pairs:
    yield from _conv_bn("stem", "MobilenetV2.Conv")
    blocks = [pair for path, stage in children("stages", model.stages) for pair in children(path, stage)]
    for i, (ours, block) in enumerate(blocks):
        theirs = f"MobilenetV2.expanded_conv{f'_{i}' if i else ''}"
        if list(block.expand.children()):
            yield from _conv_bn(f"{ours}.expand", f"{theirs}.expand")
        yield from _conv_bn(f"{ours}.depthwise", f"{theirs}.depthwise")
        yield from _conv_bn(f"{ours}.project", f"{theirs}.project")
    yield from _conv_bn("head", "MobilenetV2.Conv_1")
    yield "classifier", "MobilenetV2.Logits.Conv2d_1c_1x1"


def mobilenet_v3(model: Any) -> Pairs:
    yield from _conv_bn("stem", "MobilenetV3.Conv")
    for i, (ours, block) in enumerate(children("blocks", model.blocks)):
        theirs = f"MobilenetV3.expanded_conv{f'_{i}' if i else ''}"
        if list(block.expand.children()):
            yield from _conv_bn(f"{ours}.expand", f"{theirs}.expand")
        yield from _conv_bn(f"{ours}.depthwise", f"{theirs}.depthwise")
        yield f"{ours}.se.reduce", f"{theirs}.squeeze_excite.Conv"
        yield f"{ours}.se.expand", f"{theirs}.squeeze_excite.Conv_1"
        yield from _conv_bn(f"{ours}.project", f"{theirs}.project")
    yield from _conv_bn("head", "MobilenetV3.Conv_1")
    yield "hidden.0", "MobilenetV3.Conv_2"
    yield "classifier", "MobilenetV3.Logits.Conv2d_1c_1x1"


LAYOUTS: dict[str, Layout] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3_large": mobilenet_v3,
    "mobilenet_v3_small": mobilenet_v3,
}
