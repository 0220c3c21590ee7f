"""Static int8 after training: where the scales come from, and a network that computes with them.

The result is a network of the same structure whose weights lie on an int8 grid per output channel and whose
activations pass through `FakeQuantize`, so PyTorch shows what integer arithmetic will give; the exporter writes
the same grids as QuantizeLinear / DequantizeLinear pairs. Jacob et al. 2018, arXiv:1712.05877, section 2 and 3.
"""

import copy
import operator
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from swiftlet.compress.fold import is_training
from swiftlet.compress.record import Record
from swiftlet.errors import BadInput, NothingToDo

SAMPLES = 4_000  # values kept per activation and batch: enough for a range
Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast
COMPUTE = (
    nn.Conv2d, nn.Linear, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.BatchNorm2d, nn.LocalResponseNorm,
    nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.SiLU, nn.Tanh,
)  # fmt: skip
CLIPS = torch.linspace(1.0, 0.3, 36)  # shares of the full range that are tried


class FakeQuantize(nn.Module):
    """Round to uint8 and back: the shape stays. scale > 0, zero_point in 0..255."""

    scale: Tensor
    zero_point: Tensor

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        return _round_to(x, self.scale, self.zero_point)


def quantize(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
) -> tuple[fx.GraphModule, Record]:
    """Return an int8 copy of a folded network, calibrated on `batches` of (B, C, H, W) float images.

    Weights: symmetric, -127..127, one scale per output channel. Biases: int32 at the scale of the products.
    Activations: uint8, one scale per tensor, the range that loses least in the mean square over the calibration
    images. ReLU and ReLU6 that the uint8 range already performs are removed. `input_scale` and `input_zero_point`
    say on which grid the images lie, so that they need no rounding; without them the images get a grid of their own,
    from the calibration images. The scores of the last layer stay float.
    Convolutions and linear layers whose input has no grid are skipped, with the reason.
    Raises BadInput in training mode or without a batch, NothingToDo without a Conv2d or Linear.
    """
    if is_training(model):
        raise BadInput("quantize: call model.eval() first, batch statistics are still moving")
    new = copy.deepcopy(model)
    new.graph.eliminate_dead_code()
    modules: dict[str, Any] = dict(new.named_modules())
    image: Node = next(n for n in new.graph.nodes if n.op == "placeholder")
    points: dict[Node, Node] = {
        node: _activation_after(node, modules) for node in new.graph.nodes if _computes(node, modules)
    }
    points = {node: end for node, end in points.items() if not _only_feeds_output(end, modules)}
    if input_scale is None or input_zero_point is None:
        points[image] = image
    samples = _observe(new, set(points.values()), batches)

    grids: dict[Node, FakeQuantize] = {}
    if input_scale is not None and input_zero_point is not None:
        grids[image] = FakeQuantize(input_scale, input_zero_point)
    for i, (node, end) in enumerate(points.items()):
        grid = FakeQuantize(*_best_grid(samples[end]))
        new.add_submodule(f"quantize_{i}", grid)
        grids[_round_after(end, f"quantize_{i}")] = grid
        if end is not node and _implied(modules[end.target], grid):
            end.replace_all_uses_with(node)
            new.graph.erase_node(end)
    _round_again_where_values_move(new, grids, modules)

    changed: list[str] = []
    skipped: dict[str, str] = {}
    calls = Counter(node.target for node in new.graph.nodes if node.op == "call_module")
    for node in new.graph.nodes:
        if node.op != "call_module" or not isinstance(modules.get(node.target), nn.Conv2d | nn.Linear):
            continue
        if calls[node.target] > 1:
            skipped[node.target] = "it is called more than once, and a bias has one scale"
            continue
        source = _grid_source(node.args[0], grids, modules)
        if source not in grids:
            skipped[node.target] = f"its input, {source.name}, has no int8 grid"
            continue
        _quantize_weights(modules[node.target], grids[source].scale)
        changed.append(node.target)
    if not changed:
        raise NothingToDo(f"quantize: found no Conv2d or Linear to quantize; skipped {skipped}")
    new.delete_all_unused_submodules()
    new.recompile()
    arguments: dict[str, object] = {"input_scale": input_scale, "input_zero_point": input_zero_point}
    return new, Record(name="quantize", arguments=arguments, changed=tuple(changed), skipped=tuple(skipped.items()))


def _round_to(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """ONNX's QuantizeLinear then DequantizeLinear, uint8: divide, round half to even, shift, saturate, and back."""
    return ((x / scale).round().add(zero_point).clamp(0, 255) - zero_point) * scale


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
        if not _moves(node, modules):
            continue
        grid = grids.get(_grid_source(node.args[0], grids, modules))
        if grid in names and not _only_feeds_output(node, modules):
            grids[_round_after(node, names[grid])] = grid


def _grid_source(node: Node, grids: dict[Node, FakeQuantize], modules: dict[str, Any]) -> Node:
    """Back through whatever leaves values on their grid: a node that has one, or where the search ended."""
    while node not in grids and (_keeps_grid(node, modules) or _moves(node, modules)):
        node = node.args[0]
    return node


def _is_call(node: Node, modules: dict[str, Any], kinds: tuple[type, ...], functions: tuple[object, ...]) -> bool:
    if node.op == "call_module":
        return isinstance(modules.get(node.target), kinds)
    return node.op == "call_function" and node.target in functions


def _computes(node: Node, modules: dict[str, Any]) -> bool:
    """True for the operations whose result lies on no grid until it is rounded to its own.

    A ReLU is none: it moves values to zero, which every grid holds. ReLU6 is, where nothing before it absorbs it.
    """
    functions = (operator.add, torch.add, operator.mul, torch.mul, torch.cat)
    if not _is_call(node, modules, COMPUTE, functions):
        return False
    absorbed = node.op == "call_module" and isinstance(modules[node.target], nn.ReLU6)
    return not (absorbed and _computes(node.args[0], modules) and len(node.args[0].users) == 1)


def _moves(node: Node, modules: dict[str, Any]) -> bool:
    """True for operations that pick, move or zero values, so that the grid of their input is theirs."""
    return _is_call(node, modules, (nn.MaxPool2d, nn.ChannelShuffle, nn.ReLU), (operator.getitem, torch.relu, F.relu))


def _keeps_grid(node: Node, modules: dict[str, Any]) -> bool:
    """True for operations that runtimes do not execute, or that have no single result to round."""
    return _is_call(node, modules, (nn.Identity, nn.Dropout, nn.Flatten), (torch.flatten, torch.chunk))


def _activation_after(node: Node, modules: dict[str, Any]) -> Node:
    """The ReLU that alone reads `node`, if there is one: integer kernels round after it. Otherwise `node`."""
    user = next(iter(node.users), None)
    fused = user is not None and user.op == "call_module" and isinstance(modules[user.target], nn.ReLU | nn.ReLU6)
    return user if fused and len(node.users) == 1 else node


def _only_feeds_output(node: Node, modules: dict[str, Any]) -> bool:
    """True if what it gives are the scores, flattened at most: they stay float."""
    return all(
        user.op == "output" or (_keeps_grid(user, modules) and _only_feeds_output(user, modules)) for user in node.users
    )


def _observe(model: fx.GraphModule, nodes: set[Node], batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """The values that `nodes` take on the calibration images: at most SAMPLES a batch, always with the extremes."""
    seen: dict[Node, list[Tensor]] = {node: [] for node in nodes}

    class Watch(fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if n in seen:
                flat = result.flatten()
                step = max(1, flat.numel() // SAMPLES)
                seen[n].append(torch.cat((flat[::step], flat.aminmax().min[None], flat.aminmax().max[None])))
            return result

    watch = Watch(model)
    with torch.inference_mode():
        for batch in batches:
            watch.run(batch)
    if any(not values for values in seen.values()):
        raise BadInput("quantize: no calibration images were given")
    return {node: torch.cat(values) for node, values in seen.items()}


def _best_grid(values: Tensor) -> tuple[float, int]:
    """(scale, zero_point) of the uint8 grid with the least mean square error over `values`."""
    low, high = values.min().clamp(max=0.0), values.max().clamp(min=0.0)
    scales = ((high - low) * CLIPS / 255).clamp(min=1e-8).unsqueeze(1)  # (clips, 1)
    zero_points = (-low * CLIPS.unsqueeze(1) / scales).round()
    errors = (_round_to(values, scales, zero_points) - values).square().mean(1)
    best = int(errors.argmin())
    return scales[best].item(), int(zero_points[best].item())


def _implied(activation: nn.Module, grid: FakeQuantize) -> bool:
    """True if rounding to the grid already clips as the activation does."""
    top = (255 - grid.zero_point.item()) * grid.scale.item()
    return grid.zero_point.item() == 0 and (type(activation) is nn.ReLU or top <= 6.0 * (1 + 1e-6))


def _quantize_weights(layer: nn.Conv2d | nn.Linear, input_scale: Tensor) -> None:
    """Move weights and bias onto their grids, in place; the scales stay on the layer for the exporter."""
    with torch.no_grad():
        scale = layer.weight.abs().flatten(1).amax(1).clamp(min=1e-8) / 127  # (c_out,)
        if layer.bias is not None:  # a filter that died has a bias all the same, which must fit into int32
            scale = scale.maximum(layer.bias.abs() / (input_scale * 2**30))
        shape = (-1, *[1] * (layer.weight.ndim - 1))
        layer.weight.copy_((layer.weight / scale.view(shape)).round().clamp(-127, 127) * scale.view(shape))
        layer.register_buffer("weight_scale", scale)
        layer.register_buffer("bias_scale", scale * input_scale)
        if layer.bias is not None:
            layer.bias.copy_((layer.bias / (scale * input_scale)).round() * (scale * input_scale))
