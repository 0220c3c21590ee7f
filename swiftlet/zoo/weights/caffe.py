"""Names in Caffe models, as `layer.weight` and `layer.bias`, and their channels: the first convolution reads BGR."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from swiftlet.zoo.weights.layout import Layout, Pairs


def to_pytorch(source: Mapping[str, Tensor], classes: int) -> dict[str, Tensor]:
    """The same tensors, the first convolution turned round so that it reads RGB."""
    first = next((name for name, tensor in source.items() if tensor.ndim == 4 and tensor.shape[1] == 3), None)
    return {name: tensor.flip(1) if name == first else tensor for name, tensor in source.items()}


def squeezenet(model: Any) -> Pairs:
    yield "stem.0", "conv1"
    for name, _ in model.blocks.named_children():
        for ours, theirs in (("squeeze", "squeeze1x1"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")):
            yield f"blocks.{name}.{ours}.0", f"{name}/{theirs}"
    yield "classifier", "conv10"


def alexnet(model: Any) -> Pairs:
    for i in range(1, 6):
        yield f"blocks.conv{i}.0", f"conv{i}"
    yield "head.fc6.0", "fc6"
    yield "head.fc7.0", "fc7"
    yield "classifier", "fc8"


def googlenet(model: Any) -> Pairs:
    for ours, theirs in (("conv1", "7x7_s2"), ("conv2_reduce", "3x3_reduce"), ("conv2", "3x3")):
        yield f"stem.{ours}.0", f"{ours[:5]}/{theirs}"
    for name, block in model.blocks.named_children():
        if list(block.children()):
            yield f"blocks.{name}.conv1x1.0", f"{name}/1x1"
            for kernel in ("3x3", "5x5"):
                yield f"blocks.{name}.conv{kernel}.0.0", f"{name}/{kernel}_reduce"
                yield f"blocks.{name}.conv{kernel}.1.0", f"{name}/{kernel}"
            yield f"blocks.{name}.pool.1.0", f"{name}/pool_proj"
    yield "classifier", "loss3/classifier"


LAYOUTS: dict[str, Layout] = {
    "alexnet": alexnet,
    "googlenet": googlenet,
    "squeezenet1_0": squeezenet,
    "squeezenet1_1": squeezenet,
}
