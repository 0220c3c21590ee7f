"""The importer: an ONNX file in, a network of PyTorch layers out, on which every transform and the exporter work.

It undoes what exporters do. Where runtime/torch_graph.py executes a file operator by operator, this finds the layers
again: a convolution is an nn.Conv2d, an activation that was written out in five operators is one module.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, fx, nn

from swiftlet.compress.trace import trace
from swiftlet.cost.screen import screen_onnx
from swiftlet.cost.shapes import MALFORMED
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.artifact import read_artifact
from swiftlet.export.import_graph import FileGraph, Node, Step
from swiftlet.export.import_layers import translate

POINTWISE = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Sigmoid, nn.SiLU, nn.Tanh)
Scores = Literal["logits", "softmax", "log_softmax"]


@dataclass(frozen=True)
class Imported:
    """A file as a network. `model` maps float (B, *input) with input = (C, H, W) to (B, classes) logits, in eval mode.

    contract: how the file makes that input of uint8 pictures; None for a file that takes floats and does not say.
    scores: what the file makes of the logits.
    """

    model: fx.GraphModule
    input: tuple[int, int, int]
    contract: InputContract | None
    scores: Scores


def import_onnx(file: Path | bytes, *, side: int = 224) -> Imported:
    """Read a float32 classifier, swiftlet's own or not, that takes one picture, NCHW or NHWC, and gives its scores.

    Layers are named after the file's nodes. A height or width that the file leaves free counts as `side`. Raises
    BadFile for a file that screen_onnx refuses, that is quantized, or that has an operator which is none of the layers
    that swiftlet transforms and writes; the message names the node.
    """
    screened = screen_onnx(file, side=side)
    try:
        imported = _import(FileGraph(screened))
        artifact = read_artifact(screened.model)
        if artifact is None:
            return imported
        if not _agree(imported.contract, artifact.contract):
            raise BadFile(f"its metadata say {artifact.contract}, its graph {imported.contract}; export it again")
        return Imported(imported.model, imported.input, artifact.contract, imported.scores)
    except BadFile as error:
        raise BadFile(f"{screened.name}: {error}") from error


def _import(g: FileGraph) -> Imported:
    for node in g.nodes:
        integer = node.op in ("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
        weights = node.op == "DequantizeLinear" and g.constant(node.inputs[0]) is not None
        if integer or weights or "QLinear" in node.op:
            raise BadFile(f"it is already int8 ({node.label}); give the float file that it came from")
    image, input, contract = _input(g)
    logits, scores = _logits(g)
    network = Network(image, logits, _steps(g, image, logits), flat=len(g.shape(logits)) == 2)
    model = trace(network.eval())
    model.graph.eliminate_dead_code()
    model.recompile()
    _check(model, input, np.prod(g.shape(logits)))
    return Imported(model, input, contract, scores)


# --- where the network begins and ends ----------------------------------------------------------------------------


def _input(g: FileGraph) -> tuple[str, tuple[int, int, int], InputContract | None]:
    """The tensor that holds the normalised NCHW picture, its shape, and how the file makes it of bytes."""
    if len(g.inputs) != 1:
        raise BadFile(f"{len(g.inputs)} inputs ({', '.join(g.inputs)}); swiftlet runs networks with one, the photo")
    tensor = g.inputs[0]
    pixels, shape = g.dtype(tensor) == TensorProto.UINT8, g.shape(tensor)
    if len(shape) != 4 or shape[0] != 1 or not (pixels or g.dtype(tensor) == TensorProto.FLOAT):
        raise BadFile(
            f"input {tensor!r} is not a batch of pictures, float32 or uint8, with a free batch; it is {shape}"
        )
    scale, shift = np.ones(1), np.zeros(1)
    while (node := g.only_reader(tensor)) is not None:
        if node.op == "Transpose" and node.attributes.get("perm") == [0, 3, 1, 2] and tensor == g.inputs[0]:
            a, b = np.ones(1), np.zeros(1)
        elif pixels and (found := _rescaled(g, node)) is not None:
            a, b = found
        else:
            break
        tensor, scale, shift = node.outputs[0], a * scale, a * shift + b
    channels, height, width = g.shape(tensor)[1:]
    if not pixels:
        return tensor, (channels, height, width), None
    if g.dtype(tensor) != TensorProto.FLOAT or channels != 3 or height != width or not (scale > 0).all():
        raise BadFile(f"input {g.inputs[0]!r}: cannot tell how its bytes become a square float picture in RGB")
    mean, std = (tuple(_decimal(v) for v in np.broadcast_to(values, 3)) for values in (-shift / scale, 1 / scale))
    try:
        return tensor, (3, height, width), InputContract(side=height, mean=mean, std=std)  # type: ignore[arg-type]
    except BadInput as error:
        raise BadFile(f"input {g.inputs[0]!r}: {error}") from error


def _rescaled(g: FileGraph, node: Node) -> tuple[Any, Any] | None:
    """(a, b) if the node makes a * x + b of bytes x."""
    if node.op == "Cast" and node.attributes["to"] == TensorProto.FLOAT:
        return np.ones(1), np.zeros(1)
    if node.op == "DequantizeLinear":
        scale, zero = g.number(node.inputs[1]), g.number(node.inputs[2]) if len(node.inputs) > 2 else 0.0
        return None if scale is None or zero is None else (np.array([scale]), np.array([-zero * scale]))
    if node.op == "BatchNormalization" and g.source(node.inputs[0], "Cast") is not None:  # as export_onnx writes it
        gamma, shift, mean, var = (g.vector(node, i, 3).astype(np.float64) for i in range(1, 5))
        factor = gamma / np.sqrt(var + node.attributes.get("epsilon", 1e-5))
        return (factor, shift - mean * factor) if (factor > 0).all() else None  # else it is the network's own
    found = g.affine(node)
    return None if found is None else found[1:]


def _decimal(value: float) -> float:
    """The shortest decimal that float32 hardly tells from it: 1 / 255 is stored inexactly, and 255 was meant."""
    decimals = (float(f"{value:.{digits}g}") for digits in range(1, 18))
    return next((d for d in decimals if abs(d - value) <= 2**-23 * abs(value)), value) + 0.0  # no -0.0


def _agree(found: InputContract | None, said: InputContract) -> bool:
    return (
        found is not None and found.side == said.side
        and np.allclose(found.mean, said.mean, rtol=1e-5, atol=1e-5) and np.allclose(found.std, said.std, rtol=1e-5)
    )  # fmt: skip


def _logits(g: FileGraph) -> tuple[str, Scores]:
    """The tensor of logits, (1, classes) up to dimensions of 1, and what the file makes of them."""
    if len(g.outputs) != 1:
        raise BadFile(f"{len(g.outputs)} outputs ({', '.join(g.outputs)}); save it with only the scores")
    if sum(size > 1 for size in g.shape(g.outputs[0])) > 1:
        raise BadFile(f"it gives {g.shape(g.outputs[0])}; a classifier gives (N, classes)")
    tensor = g.unviewed(g.outputs[0])
    node = g.source(tensor, "Softmax") or g.source(tensor, "LogSoftmax")
    if node is None:
        return tensor, "logits"
    shape = g.shape(tensor)
    axis = node.attributes.get("axis", -1 if g.opset >= 13 else 1) % len(shape)
    if axis != 1 or max(shape[2:], default=1) > 1:
        raise BadFile(f"{node.label} runs along dimension {axis} of {shape}, not over the classes")
    return g.unviewed(node.inputs[0]), "softmax" if node.op == "Softmax" else "log_softmax"


# --- what is between ----------------------------------------------------------------------------------------------


def _steps(g: FileGraph, image: str, logits: str) -> list[tuple[Node, Step]]:
    """Backwards from the logits, so that what lies inside a pattern, or leads nowhere, is not looked at."""
    needed, maps, steps = {logits}, set[str](), []
    for node in reversed(g.nodes):
        if image in node.outputs or not needed.intersection(node.outputs):
            continue
        try:
            step = translate(g, node)
        except MALFORMED as error:
            raise BadFile(f"{node.label} is malformed: {str(error) or type(error).__name__}") from error
        if not step.layers and len(g.shape(node.outputs[0])) > len(g.shape(step.inputs[0])):
            maps.add(step.inputs[0])
        if maps.intersection(node.outputs):
            step = _on_maps(g, node, step, maps)
        needed.update(step.inputs)
        steps.append((node, step))
    return steps[::-1]


def _on_maps(g: FileGraph, node: Node, step: Step, maps: set[str]) -> Step:
    """The step on (B, C, 1, 1) where the file has (B, C): squeeze and excitation is often written with Linear."""
    if not g.read_once(node.outputs[0]):
        raise BadFile(f"{node.label} is used flat and as a map; only one of both can be taken over")
    layers = [_as_convolution(layer) if isinstance(layer, nn.Linear) else layer for layer in step.layers]
    pooled = isinstance(layers[0], nn.AdaptiveAvgPool2d) or max(g.shape(step.inputs[0])[2:], default=1) == 1
    if pooled and isinstance(layers[-1], nn.Flatten):
        return step._replace(layers=tuple(layers[:-1]))
    if not all(isinstance(layer, (nn.Conv2d, *POINTWISE)) for layer in layers):
        raise BadFile(f"{node.label} is used as a 1 x 1 map, which only linear layers and activations can be")
    maps.update(step.inputs)
    return step._replace(layers=tuple(layers))


def _as_convolution(linear: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
    conv.weight = nn.Parameter(linear.weight.detach()[:, :, None, None])
    conv.bias = linear.bias
    return conv


class Network(nn.Module):
    """The steps in a form that can be traced."""

    def __init__(self, image: str, logits: str, steps: list[tuple[Node, Step]], *, flat: bool) -> None:
        super().__init__()
        self.image, self.logits, self.steps = image, logits, steps
        for i, (node, step) in enumerate(steps):
            name = re.sub(r"\W+", "_", node.name, flags=re.ASCII).strip("_")[-60:] or str(i)
            modules = [layer for layer in step.layers if isinstance(layer, nn.Module)]
            for module in modules:
                kind = node.op if len(modules) == 1 else type(module).__name__
                path = f"{kind.lower()}_{name}"
                self.add_module(f"{path}_{i}" if path in self._modules else path, module)
        self.flatten = None if flat else nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {self.image: x}
        for node, step in self.steps:
            given = tuple(values[tensor] for tensor in step.inputs)
            for layer in step.layers:
                made = layer(*given)
                given = made if isinstance(made, tuple) else (made,)
            values.update(zip(node.outputs, given, strict=False))
        logits: Tensor = values[self.logits]
        return logits if self.flatten is None else self.flatten(logits)


def _check(model: fx.GraphModule, input: tuple[int, int, int], classes: Any) -> None:
    """That shapes fit at a batch of two, without computing anything."""
    tensors = {name: tensor.to("meta") for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    try:
        with torch.no_grad():
            scores = torch.func.functional_call(model, tensors, torch.zeros(2, *input, device="meta"))
    except (RuntimeError, ValueError, IndexError) as error:
        raise BadFile(f"its layers do not fit together at a batch of 2: {str(error).splitlines()[0]}") from error
    if scores.shape != (2, classes):
        raise BadFile(f"it gives {tuple(scores.shape)} for two pictures where {classes} scores each were expected")
