"""A float network and its int8 copy side by side, layer by layer, on calibration images.

What is changed in a layer before its turn is over is what the layers behind it see.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.grid_points import Node, is_layer
from swiftlet.errors import BadInput


class Step(NamedTuple):
    """An int8 layer at its turn: `inputs` are those of the int8 network, one tensor a batch, and `wanted` is what the
    float network has behind the same layer, before any activation."""

    node: Node
    layer: Any  # Conv2d or Linear, in the int8 network
    original: Any  # the same in the float network
    inputs: list[Tensor]
    wanted: list[Tensor]


def side_by_side(
    model: fx.GraphModule, integer: fx.GraphModule, batches: Iterable[Tensor], name: str
) -> Iterator[Step]:
    """One Step for each int8 layer, in the order in which they run. All batches are in memory, and so is what the next
    layers need of them. Raises BadInput, beginning with `name`, if there are no batches or `integer` is not of `model`.
    """
    images = list(batches)
    if not images:
        raise BadInput(f"{name}: no calibration images were given")
    modules = dict(integer.named_modules())
    theirs, ours = _Walk(model, images), _Walk(integer, images)
    coming = iter(model.graph.nodes)
    for node in integer.graph.nodes:
        if is_integer_layer(node, modules):
            twin = theirs.run_until(coming, node.target)
            original: Any = None if twin is None else model.get_submodule(node.target)
            if original is None or original.weight.shape != modules[node.target].weight.shape:
                raise BadInput(f"{name}: {node.target!r} is no layer of both networks; give the one it was made of")
            yield Step(node, modules[node.target], original, ours.values(node.args[0]), theirs.values(twin))
        ours.run(node)


def is_integer_layer(node: Node, modules: dict[str, Any]) -> bool:
    """Whether it calls a Conv2d or Linear that quantize() has changed."""
    return is_layer(node, modules) and "weight_scale" in dict(modules[node.target].named_buffers(recurse=False))


def rounded_bias(layer: nn.Module, bias: Tensor) -> Tensor:
    """On the grid of the layer's sums, within what 32 bits hold."""
    scale = layer.get_buffer("bias_scale")
    limit = 2.0**30  # as in quantize_weights: room for the sum that is added
    return (bias / scale).round().clamp(-limit, limit) * scale


class _Walk:
    """A network that is run node by node over all batches; a value is dropped when nobody needs it any more."""

    def __init__(self, model: fx.GraphModule, batches: Sequence[Tensor]) -> None:
        self._runs = [fx.Interpreter(model) for _ in batches]
        for run, batch in zip(self._runs, batches, strict=True):
            run.args_iter = iter((batch,))

    def run(self, node: Node) -> None:
        for run in self._runs:
            with torch.no_grad():
                run.env[node] = run.run_node(node)
            for dead in run.user_to_last_uses.get(node, ()):
                del run.env[dead]

    def run_until(self, coming: Iterator[Node], target: str) -> Node | None:
        """Run what is coming, up to the call of `target`: that node, or None if it does not come."""
        for node in coming:
            self.run(node)
            if node.op == "call_module" and node.target == target:
                return node
        return None

    def values(self, node: Node) -> list[Tensor]:
        return [run.env[node] for run in self._runs]
