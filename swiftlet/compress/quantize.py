"""Static int8 after training: where the scales come from, and a network that computes with them.

The result is a network of the same structure whose weights lie on an int8 grid per output channel and whose
activations pass through `FakeQuantize`, so PyTorch shows what integer arithmetic will give; the exporter writes
the same grids as QuantizeLinear / DequantizeLinear pairs. Jacob et al. 2018, arXiv:1712.05877, section 2 and 3.
"""

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.calibrate import find_grid, observe, round_to
from swiftlet.compress.fold import is_training
from swiftlet.compress.grid_points import (
    Node,
    grid_source,
    image_of,
    is_layer,
    moves,
    only_feeds_output,
    points,
    rounded_points,
)
from swiftlet.compress.record import Record
from swiftlet.compress.scales import is_depthwise, short_scale, weight_ranges
from swiftlet.errors import BadInput, NothingToDo

SPREAD = 16.0  # between the channels of a depthwise layer: with one scale, the narrowest would keep 4 of its 8 bits


class FakeQuantize(nn.Module):
    """Round to uint8 and back: the shape stays. scale > 0, zero_point in 0..255."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return round_to(x, self.scale, self.zero_point)


@dataclass(frozen=True)
class Calibrated:
    """A float network and, by the name of the node, the grid (scale, zero point) of each activation that may get one.

    `arguments`: of calibrate(), for the Record of what is made of it.
    """

    model: fx.GraphModule
    grids: dict[str, tuple[float, int]]
    arguments: dict[str, object]


def quantize(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    calibration: str = "mse",
    per_channel: bool = True,
    weight_bits: int = 8,
    safe_pairs: bool = True,
    skip: Sequence[str] = (),
) -> tuple[fx.GraphModule, Record]:
    """Return an int8 copy of a folded network, calibrated on `batches` of (B, C, H, W) float images.

    Weights: symmetric, -127..127, one scale per output channel, or one per layer if not `per_channel`. `safe_pairs`:
    channels with large neighbours get longer steps, so that all x86 CPUs give the same scores, also those which add
    products in 16 bits (scales.py, overflow.py). Biases: int32 at the scale of the products. Activations: uint8, one
    scale per tensor, whose range `calibration` chooses: "mse", the one that loses least in the mean square over the
    calibration images, or another of calibrate.py. ReLU and ReLU6 that the uint8 range already performs are removed.
    `input_scale` and `input_zero_point` say on which grid the images lie, so that they need no rounding; without them
    the images get a grid of their own, from the calibration images. The scores of the last layer stay float.

    The layers named in `skip` are left in float, and so is what lies between them. Convolutions and linear layers whose
    input has no grid are skipped, with the reason. Depthwise layers whose channels' weights differ in range by more
    than SPREAD times are named in the Record under "range_spread": with one scale per layer they lose most.
    Raises BadInput in training mode, without a batch, or for an argument that cannot be; NothingToDo without a Conv2d
    or Linear to quantize.
    """
    calibrated = calibrate(
        model, batches, input_scale=input_scale, input_zero_point=input_zero_point, calibration=calibration
    )
    return quantize_calibrated(
        calibrated, per_channel=per_channel, weight_bits=weight_bits, safe_pairs=safe_pairs, skip=skip
    )


def calibrate(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    calibration: str = "mse",
) -> Calibrated:
    """The first half of quantize(): watch the images pass, and choose the grids. Raises BadInput as that does."""
    if is_training(model):
        raise BadInput("quantize: call model.eval() first, batch statistics are still moving")
    new = copy.deepcopy(model)
    new.graph.eliminate_dead_code()
    ends = dict.fromkeys(points(new, dict(new.named_modules())).values())
    if input_scale is None or input_zero_point is None:
        ends[image_of(new)] = None
    samples = observe(new, set(ends), batches)
    grids = {end.name: find_grid(samples[end], calibration) for end in ends}
    arguments: dict[str, object] = {
        "input_scale": input_scale,
        "input_zero_point": input_zero_point,
        "calibration": calibration,
    }
    return Calibrated(new, grids, arguments)


def quantize_calibrated(
    calibrated: Calibrated,
    *,
    per_channel: bool = True,
    weight_bits: int = 8,
    safe_pairs: bool = True,
    skip: Sequence[str] = (),
) -> tuple[fx.GraphModule, Record]:
    """The second half of quantize(), which can be had many times for one calibration."""
    if not 2 <= weight_bits <= 8:
        raise BadInput(f"quantize: weight_bits={weight_bits} must lie in 2..8; 7 and 8 are what integer kernels take")
    new = copy.deepcopy(calibrated.model)
    modules: dict[str, Any] = dict(new.named_modules())
    if wrong := [path for path in skip if not isinstance(modules.get(path), nn.Conv2d | nn.Linear)]:
        raise BadInput(f"quantize: skip names {', '.join(map(repr, wrong))}, which is no Conv2d or Linear here")
    image, ends = image_of(new), points(new, modules)
    if image.name in calibrated.grids:
        ends[image] = image
    grids: dict[Node, FakeQuantize] = {}
    if image not in ends:
        grids[image] = FakeQuantize(calibrated.arguments["input_scale"], calibrated.arguments["input_zero_point"])  # type: ignore[arg-type]
    chosen = rounded_points(ends, modules, set(skip), image)
    for i, (node, end) in enumerate(ends.items()):
        if node not in chosen:
            continue
        grid = FakeQuantize(*calibrated.grids[end.name])
        new.add_submodule(f"quantize_{i}", grid)
        grids[_round_after(end, f"quantize_{i}")] = grid
        if end is not node and _implied(modules[end.target], grid):
            end.replace_all_uses_with(node)
            new.graph.erase_node(end)
    _round_again_where_values_move(new, grids, modules)

    changed: list[str] = []
    skipped: dict[str, str] = {}
    spread: dict[str, float] = {}
    calls = Counter(node.target for node in new.graph.nodes if node.op == "call_module")
    for node in new.graph.nodes:
        if not is_layer(node, modules):
            continue
        if node.target in skip:
            skipped[node.target] = "it is left in float, as asked for"
            continue
        if calls[node.target] > 1:
            skipped[node.target] = "it is called more than once, and a bias has one scale"
            continue
        source = grid_source(node.args[0], grids, modules)
        if source not in grids:
            skipped[node.target] = f"its input, {source.name}, has no int8 grid"
            continue
        layer = modules[node.target]
        if is_depthwise(layer) and (found := range_spread(layer.weight)) > SPREAD:
            spread[node.target] = round(found, 1)
        quantize_weights(layer, grids[source].scale, per_channel=per_channel, bits=weight_bits, safe_pairs=safe_pairs)
        changed.append(node.target)
    if not changed:
        raise NothingToDo(f"quantize: found no Conv2d or Linear to quantize; skipped {skipped}")
    new.delete_all_unused_submodules()
    new.recompile()
    how = {"per_channel": per_channel, "weight_bits": weight_bits, "safe_pairs": safe_pairs, "skip": list(skip)}
    arguments = calibrated.arguments | how
    if spread:
        arguments["range_spread"] = spread
    return new, Record(name="quantize", arguments=arguments, changed=tuple(changed), skipped=tuple(skipped.items()))


def quantize_weights(
    layer: nn.Conv2d | nn.Linear,
    input_scale: Tensor,
    *,
    per_channel: bool = True,
    bits: int = 8,
    safe_pairs: bool = True,
) -> None:
    """Move weights and bias onto their grids, in place; the scales stay on the layer for the exporter."""
    top = 2 ** (bits - 1) - 1  # with less than 8 bits all pairs are safe
    with torch.no_grad():
        scale = weight_ranges(layer, safe_pairs=safe_pairs and bits == 8).clamp(min=1e-8) / top  # (c_out,)
        if layer.bias is not None:  # a filter that died has a bias all the same, which must fit into int32
            scale = scale.maximum(layer.bias.abs() / (input_scale * 2**30))
        if not per_channel:
            scale = scale.max().expand_as(scale).clone()
        scale = short_scale(scale)
        shape = (-1, *[1] * (layer.weight.ndim - 1))
        layer.weight.copy_((layer.weight / scale.view(shape)).round().clamp(-top, top) * scale.view(shape))
        layer.register_buffer("weight_scale", scale)
        layer.register_buffer("bias_scale", scale * input_scale)
        if layer.bias is not None:
            layer.bias.copy_((layer.bias / (scale * input_scale)).round() * (scale * input_scale))


def range_spread(weight: Tensor) -> float:
    """The widest range of an output channel's weights as a multiple of the narrowest; dead channels do not count."""
    ranges = weight.detach().abs().flatten(1).amax(1)
    ranges = ranges[ranges > 0]
    return (ranges.max() / ranges.min()).item() if len(ranges) else 1.0


def _round_after(node: Node, name: str) -> Node:
    """Put the module `name` behind `node`, in front of all that reads it; the new node."""
    with node.graph.inserting_after(node):
        rounded = node.graph.call_module(name, (node,))
    node.replace_all_uses_with(rounded, delete_user_cb=lambda user: user is not rounded)
    return rounded


def _round_again_where_values_move(model: fx.GraphModule, grids: dict[Node, FakeQuantize], modules: Any) -> None:
    """Say the grid again behind whatever moves values: kernels take an operation for an integer one only if its result
    is rounded too, and rounding to the grid that values lie on changes none of them."""
    names = {grid: name for name, grid in model.named_modules() if isinstance(grid, FakeQuantize)}
    for node in list(model.graph.nodes):
        if not moves(node, modules):
            continue
        grid = grids.get(grid_source(node.args[0], grids, modules))
        if grid in names and not only_feeds_output(node, modules):
            grids[_round_after(node, names[grid])] = grid


def _implied(activation: nn.Module, grid: FakeQuantize) -> bool:
    """True if rounding to the grid already clips as the activation does."""
    top = (255 - grid.zero_point.item()) * grid.scale.item()
    return grid.zero_point.item() == 0 and (type(activation) is nn.ReLU or top <= 6.0 * (1 + 1e-6))
