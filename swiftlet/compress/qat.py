"""Quantization-aware training: a network that computes with its grids while its float weights are trained.

Jacob et al. 2018, arXiv:1712.05877, section 3; Krishnamoorthi 2018, arXiv:1806.08342, section 3. They fold BatchNorm in
each step anew; here it is folded once, before, with the statistics of the trained network, so training and evaluation
see one function, which is the file's. Rounding has no slope: gradients pass as if it were not there. Without BatchNorm
a network bears smaller steps only: about a twentieth of the learning rate from scratch.

    network, record = prepare_qat(model, images)    # train it: any loop, swiftlet.train.loop.Training for one
    integer, record = finished(network)             # as quantize() gives it; export_onnx writes it
"""

import copy
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from swiftlet.compress.calibrate import round_to
from swiftlet.compress.fold import folded, is_training
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.record import Record
from swiftlet.compress.scales import BITS, FEW, short_scale, weight_ranges
from swiftlet.compress.weight_only import best_scales, check_bits
from swiftlet.errors import BadInput, NothingToDo

Node = Any  # an fx.Node: torch types its args so broadly that every use would need a cast


class LearnedQuantize(nn.Module):
    """FakeQuantize with a step size that is learned (LSQ, Esser et al. 2020, arXiv:1902.08153): the shape stays.

    Learned, where Jacob et al. follow the extremes with a moving average: ranges begin where calibration put them and
    move only if that lowers the loss; and forward leaves no trace, so a step size is averaged, saved and shared between
    processes as any other parameter. What is learned is log(scale / calibrated), (1,), which keeps the scale positive.
    The zero point stays. A ReLU6 that the calibrated range performs becomes a bound that is learned, too.
    """

    calibrated: Tensor
    zero_point: Tensor

    def __init__(self, grid: FakeQuantize) -> None:
        super().__init__()
        self.register_buffer("calibrated", grid.scale.clone())
        self.register_buffer("zero_point", grid.zero_point.clone())
        self.growth = nn.Parameter(torch.zeros(1))

    @property
    def scale(self) -> Tensor:
        """(1,)"""
        return self.calibrated * self.growth.exp()

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = _Round.apply(x, self.scale, self.zero_point)  # type: ignore[no-untyped-call]
        return rounded


class LayerOnGrid(nn.Module):
    """A Conv2d or Linear that computes with what its weights and bias are now, rounded as the file will have them.

    Weights have `bits`, symmetric, with a step per output channel; biases 32 bits, with the step of weight times input.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, bits: int, source: LearnedQuantize | Tensor) -> None:
        super().__init__()
        self.layer, self.bits = layer, bits
        self._source = (source,)  # in a tuple, because it is a part of the network and not of this layer

    @property
    def input_scale(self) -> Tensor:
        """Of the grid that the input lies on."""
        source = self._source[0]
        return source if isinstance(source, Tensor) else source.scale

    def forward(self, x: Tensor) -> Tensor:
        values = on_grids(self.layer, self.bits, self.input_scale)
        # exactly the rounded values, with the slopes of those that are trained
        passing = {name: values[name] + (p - p.detach()) for name, p in self.layer.named_parameters()}
        result: Tensor = functional_call(self.layer, passing, (x,))
        return result


def prepare_qat(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    bits: int = 8,
    layer_bits: Mapping[str, int] | None = None,
) -> tuple[fx.GraphModule, Record]:
    """Return a trainable copy that computes as the int8 file will, with the ranges that quantize() finds on `batches`.

    `batches`, `input_scale` and `input_zero_point` are those of quantize(). Weights get `bits`, 2 to 8; `layer_bits`
    gives layers, by path, another number. At 8 bits a channel's grid spans its weights, with fewer it is the one with
    the least square error. Kernels compute with 8 bits all the same; in the file weights take 2, 4 or 8.
    Parameters are the float weights, biases and step sizes; there is no BatchNorm left to go out of step.
    Raises BadInput in training mode, without a batch, for other bits or an unknown layer; NothingToDo as quantize().
    """
    other = dict(layer_bits or {})
    for number in (bits, *other.values()):
        check_bits("prepare_qat", number)
    if is_training(model):
        raise BadInput("prepare_qat: call model.eval() first, batch statistics are still moving")
    plain, _ = folded(model)
    try:
        new, record = quantize(plain, batches, input_scale=input_scale, input_zero_point=input_zero_point)
    except NothingToDo as error:
        raise NothingToDo(f"prepare_qat: {error}") from error
    unknown = sorted(other.keys() - set(record.changed))
    if unknown:
        raise BadInput(f"prepare_qat: layer_bits names {unknown[0]!r}, which is not quantized; {record.changed} are")
    for path, module in list(new.named_modules()):
        if isinstance(module, FakeQuantize):
            new.set_submodule(path, LearnedQuantize(module))
    modules: dict[str, Any] = dict(new.named_modules())
    for node in new.graph.nodes:
        if node.op == "call_module" and node.target in record.changed:
            layer: Any = copy.deepcopy(plain.get_submodule(node.target))
            layer.requires_grad_()  # folding makes biases that ask for no gradient
            source = _grid_before(node, modules) or torch.tensor(input_scale)
            new.set_submodule(node.target, LayerOnGrid(layer, other.get(node.target, bits), source))
    arguments: dict[str, object] = {"input_scale": input_scale, "input_zero_point": input_zero_point}
    arguments |= {"bits": bits, "layer_bits": other}
    return new.eval(), Record(name="prepare_qat", arguments=arguments, changed=record.changed, skipped=record.skipped)


def finished(model: fx.GraphModule) -> tuple[fx.GraphModule, Record]:
    """Return what quantize() gives, from a trained prepare_qat() network: weights and biases on their grids, for
    export_onnx, in eval mode. Its scores are to the bit those of `model.eval()`.

    Raises NothingToDo if the network has no layer from prepare_qat, BadInput if its training ended in numbers that are
    not finite.
    """
    new = copy.deepcopy(model).eval()
    layers = {path: module for path, module in new.named_modules() if isinstance(module, LayerOnGrid)}
    if not layers:
        raise NothingToDo("finished: the network has no layer on a grid; give it what prepare_qat returned")
    for path, module in new.named_modules():
        if not all(p.isfinite().all() for p in module.parameters(recurse=False)):
            raise BadInput(f"finished: {path!r} holds numbers that are not finite: the training diverged")
    for path, module in layers.items():
        values = on_grids(module.layer, module.bits, module.input_scale)
        with torch.no_grad():
            for name, parameter in module.layer.named_parameters():
                parameter.copy_(values[name])
        module.layer.register_buffer("weight_scale", values["weight_scale"])
        module.layer.register_buffer("bias_scale", values["bias_scale"])
        new.set_submodule(path, module.layer)
    for path, module in list(new.named_modules()):
        if isinstance(module, LearnedQuantize):
            new.set_submodule(path, FakeQuantize(module.scale.item(), int(module.zero_point.item())))
    return new, Record(name="finished", changed=tuple(layers))


@torch.no_grad()
def on_grids(layer: nn.Conv2d | nn.Linear, bits: int, input_scale: Tensor) -> dict[str, Tensor]:
    """The rounded "weight" and, if there is one, "bias", and their steps, "weight_scale" and "bias_scale", (C_out,).

    At 8 bits, to the last bit what quantize() does to a layer.
    """
    most = 2 ** (bits - 1) - 1
    scale = weight_ranges(layer).clamp(min=1e-8) / most if bits == 8 else best_scales(layer.weight.flatten(1), bits)
    if layer.bias is not None:  # a filter that died has a bias all the same, which must fit into int32
        scale = scale.maximum(layer.bias.abs() / (input_scale * 2**30))
    scale = short_scale(scale, bits=BITS if bits == 8 else FEW)
    step, bias_step = scale.view(-1, *[1] * (layer.weight.ndim - 1)), scale * input_scale
    values = {"weight_scale": scale, "bias_scale": bias_step}
    values["weight"] = (layer.weight / step).round().clamp(-most, most) * step
    if layer.bias is not None:
        values["bias"] = (layer.bias / bias_step).round() * bias_step
    return values


def _grid_before(node: Node, modules: dict[str, Any]) -> LearnedQuantize | None:
    """The grid that the first input of `node` lies on; None for the image's.

    quantize() has put one behind all that changes or moves values, so only what no runtime executes lies between.
    """
    while node.op != "placeholder":
        node = node.args[0]
        if node.op == "call_module" and isinstance(found := modules[node.target], LearnedQuantize):
            return found
    return None


class _Round(torch.autograd.Function):
    """To uint8 and back. Slopes: 1 for x inside the range and 0 outside; LSQ's, equation 3, for the step size."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale, zero_point)
        return round_to(x, scale, zero_point)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, scale, zero_point = ctx.saved_tensors
        steps = x / scale
        clipped = steps.clamp(-zero_point, 255 - zero_point)
        inside = (steps == clipped).to(steps.dtype)
        slope = clipped.round_().sub_(steps.mul_(inside))  # outside, the bound: a whole number
        # LSQ, section 2.2, so that steps and weights change at like rates. They train the step itself, we its logarithm
        # with the same gradient: as much relative change as theirs made networks without BatchNorm diverge.
        size = sqrt(x[0].numel() * 255)
        return inside.mul_(grad), (slope.mul_(grad).sum() / (size * scale)).view(1), None
