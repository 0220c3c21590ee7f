"""A network as the accelerator model sees it: its counted operations, BatchNorm folded away."""

from math import prod

from torch import nn

from swiftlet.cost.count import count_model
from swiftlet.cost.systolic import Conv, Elementwise, Layer
from swiftlet.cost.tally import LayerCost
from swiftlet.errors import BadInput

OPS = {
    "relu": "relu", "hardtanh": "relu6", "hardswish": "hardswish", "hardsigmoid": "hardsigmoid", "sigmoid": "sigmoid",
    "silu": "silu", "add": "add", "mul": "mul", "cat": "move", "channel_shuffle": "move", "clone": "move",
    "constant_pad_nd": "move",
}  # fmt: skip
FOLDED = {"native_batch_norm"}
GLOBAL_POOLS = {"mean", "_adaptive_avg_pool2d"}
POOLS = {"max_pool2d_with_indices", "avg_pool2d"}


def chip_layers(model: nn.Module, input: tuple[int, int, int]) -> list[Layer]:
    """In order of execution, for one image (C, H, W). Raises BadInput naming an operation that the model lacks."""
    found = [_layer(layer, model.get_submodule(layer.name)) for layer in count_model(model, input).layers]
    return [layer for layer in found if layer is not None]


def _layer(layer: LayerCost, module: nn.Module) -> Layer | None:
    name, op = layer.name, layer.op
    if op in FOLDED:
        return None
    if layer.macs and isinstance(module, nn.Conv2d):
        height, width = module.kernel_size
        return Conv(
            name=name, c_in=module.in_channels, c_out=module.out_channels, kernel=(height, width),
            stride=module.stride[0], groups=module.groups, output=(layer.output[2], layer.output[3]),
        )  # fmt: skip
    if layer.macs and isinstance(module, nn.Linear):
        return Conv(name=name, c_in=module.in_features, c_out=module.out_features, output=(1, 1))
    if op in GLOBAL_POOLS:
        inputs = layer.memory_access_bytes // 4 - prod(layer.output)
        return Elementwise(name=name, op="global pool" if layer.output[-1] == 1 else "pool", elements=inputs)
    if op in POOLS and isinstance(module, (nn.MaxPool2d, nn.AvgPool2d)):
        size = module.kernel_size
        window = size * size if isinstance(size, int) else prod(size)
        return Elementwise(name=name, op="pool", elements=prod(layer.output) * window)
    if op not in OPS:
        raise BadInput(f"the accelerator model has no rule for {op} in {name!r}")
    return Elementwise(name=name, op=OPS[op], elements=prod(layer.output))
