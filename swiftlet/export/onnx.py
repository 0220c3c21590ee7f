"""The one exporter: a traced network in, the bytes of a small ONNX file out.

torch.fx gives the order of calls in milliseconds where PyTorch's own exporter takes seconds, so the files that are
timed before training and the file that is delivered come from the same code. The price is the table of operations
in operations.py: what is not in it is refused by name.

The file takes `image`, uint8 (N, side, side, 3) RGB with N free, and gives `scores`, float32 (N, classes), which sum
to 1. Normalisation is inside. Weights are in the file.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, fx, nn

from swiftlet.compress.fold import is_training
from swiftlet.compress.trace import trace
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.export.graph import Graph, Node
from swiftlet.export.operations import FUNCTIONS, MODULES, Writer

OPSET, IR_VERSION = 13, 7  # the floor: per-channel QuantizeLinear needs 13; ONNX Runtime reads these since 1.7 (2021)
MAX_METADATA = 1_000_000


def export_onnx(model: nn.Module, contract: InputContract, metadata: dict[str, str] | None = None) -> bytes:
    """Write a classifier, in eval mode, that maps normalised (B, 3, side, side) to (B, classes) logits.

    Same network, same bytes. Raises BadInput in training mode or for an operation that is not in the table.
    """
    if is_training(model):
        raise BadInput("export_onnx: call model.eval() first")
    side = contract.side
    graph, result, shape = _translate(model, (3, side, side), lambda graph: graph.normalised_image(contract))
    if len(shape) != 2:
        raise BadInput("export_onnx: the network must return logits of shape (B, classes)")
    graph.op("Softmax", result, output="scores", axis=1)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", shape[1]])
    return with_metadata(_file(graph, image, scores), metadata or {})


def export_layers(model: nn.Module, input: tuple[int, int, int]) -> bytes:
    """Write any part of a network, in eval mode: `x`, float32 (N, C, H, W) with `input` = (C, H, W), to one tensor `y`.

    For timing layers; what is delivered comes from export_onnx. Raises BadInput as that does.
    """
    if is_training(model):
        raise BadInput("export_layers: call model.eval() first")
    graph, result, shape = _translate(model, input, lambda graph: "x")
    graph.op("Identity", result, output="y")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *input])
    return _file(graph, x, helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shape[1:]]))


def _translate(
    model: nn.Module, input: tuple[int, int, int], first: Callable[[Graph], str]
) -> tuple[Graph, str, tuple[int, ...]]:
    """The graph of the network, the name of its result and that one's shape; `first` writes what stands before it."""
    traced = model if isinstance(model, fx.GraphModule) else trace(model)
    shapes = _shapes(traced, input)
    graph = Graph(dict(traced.named_modules()), shapes)
    for node in traced.graph.nodes:
        if node.op == "placeholder":
            graph.names[node] = first(graph)
        elif node.op != "output":
            graph.names[node] = _writer(graph, node)(graph, node)
    end: Node = next(node for node in traced.graph.nodes if node.op == "output")
    if end not in shapes:
        raise BadInput("the exporter writes networks that return one tensor; this one returns something else")
    return graph, graph.names[end.args[0]], shapes[end]


def _writer(graph: Graph, node: Node) -> Writer:
    called = type(graph.modules[node.target]) if node.op == "call_module" else node.target
    write = MODULES.get(called) if node.op == "call_module" else FUNCTIONS.get(called)
    name = getattr(called, "__name__", called)
    if write is None:
        where = f"module {node.target!r}" if node.op == "call_module" else f"node {node.name!r}"
        raise BadInput(f"export_onnx: {where} is a {name}, which the exporter cannot write; use one that it can")
    named = sorted(set(node.kwargs) - {"inplace", "dim", "start_dim", "end_dim"})
    if named:
        raise BadInput(f"export_onnx: {node.name!r} gives {name} {', '.join(named)} by name; give it by position")
    return write


def _file(graph: Graph, input: onnx.ValueInfoProto, output: onnx.ValueInfoProto) -> bytes:
    proto = helper.make_graph(graph.nodes, "swiftlet", [input], [output], graph.initializers)
    file = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="swiftlet")
    file.ir_version = IR_VERSION
    return bytes(file.SerializeToString(deterministic=True))


def with_metadata(file: bytes, metadata: dict[str, str]) -> bytes:
    """The same ONNX file with exactly these metadata_props, in the order of their keys."""
    if sum(len(k) + len(v) for k, v in metadata.items()) > MAX_METADATA:
        raise BadInput(f"export_onnx: the metadata exceeds {MAX_METADATA:,} characters")
    model = onnx.load_from_string(file)
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted(metadata.items())))
    return bytes(model.SerializeToString(deterministic=True))


def graph_digest(file: bytes) -> str:
    """SHA-256 of what the file computes: everything but its metadata, so that figures can be written into it."""
    return hashlib.sha256(with_metadata(file, {})).hexdigest()


def _shapes(model: fx.GraphModule, input: tuple[int, int, int]) -> dict[Node, tuple[int, ...]]:
    """The shape of every tensor, from one picture: that the network runs at this side is worth knowing too."""
    found: dict[Node, tuple[int, ...]] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                found[n] = tuple(result.shape)
            return result

    with torch.inference_mode():
        Watch(model).run(torch.zeros(1, *input))
    return found
