"""Count what a network costs without running it: parameters, multiply-adds, memory traffic, peak activation memory.

A module is executed on meta tensors (shapes without numbers), so that functional calls count like layers do, no weight
is read and nothing is left behind in the model. An ONNX file is counted from its graph, in swiftlet/cost/graph.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from swiftlet.budget import Cost
from swiftlet.cost.formulas import attention_macs, conv_macs, conv_transpose_macs, matmul_macs
from swiftlet.cost.memory import Step, peak_bytes
from swiftlet.cost.tally import Count, LayerCost, summary
from swiftlet.errors import BadInput

if TYPE_CHECKING:
    import onnx


def count(model: nn.Module, input: tuple[int, ...] = (3, 224, 224)) -> Cost:
    """The Cost of a module for one image of shape `input` (C, H, W). See count_model."""
    return count_model(model, input).cost


def count_model(model: nn.Module, input: tuple[int, ...] = (3, 224, 224)) -> Count:
    """Count a module in evaluation mode for one image of shape `input`: (C, H, W), or (C, L), (C, D, H, W).

    The model is unchanged afterwards; its weights are neither read nor copied. size_bytes is 4 bytes per parameter.
    Raises BadInput if the module cannot be executed on tensors that have a shape and no values.
    """
    if not isinstance(model, nn.Module):
        raise BadInput(f"count_model needs an nn.Module, got {type(model).__name__}; for a file use count_onnx")
    if not input or not all(isinstance(size, int) and size > 0 for size in input):
        raise BadInput(f"input={input!r}: give one image's shape without the batch, as in (3, 224, 224)")

    image = torch.empty((1, *input), device="meta")
    try:
        params = _on_meta(model.named_parameters())
        weights = {**params, **_on_meta(model.named_buffers())}
        recorder = _Recorder({buffer_id(tensor) for tensor in params.values()})
        with _evaluating(model), _module_paths(model, recorder), torch.no_grad(), recorder:
            output = torch.func.functional_call(model, weights, (image,))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise BadInput(
            f"{type(model).__name__} cannot be counted for an input of shape {tuple(image.shape)}: "
            f"{type(error).__name__}: {reason}"
        ) from error

    sizes = recorder.sizes | {buffer_id(image): _nbytes(image)}
    ends = [key for key in map(buffer_id, _tensors(output)) if key in sizes]
    learned = sum(tensor.numel() for tensor in params.values())
    return summary(
        recorder.layers,
        recorder.uncovered,
        params=learned,
        peak=peak_bytes(recorder.steps, sizes, [buffer_id(image)], ends),
        size=4 * learned,
    )


def count_onnx(file: Path | bytes | onnx.ModelProto, side: int = 224) -> Count:
    """Count an ONNX file or an already screened model from its graph, in the types that the file stores.

    A free batch dimension counts as 1, other free dimensions of the input as `side`. size_bytes is the file's length.
    Quantized activations count with their stored width: a QuantizeLinear or DequantizeLinear that a runtime fuses into
    its neighbour is free. Raises BadFile for whatever read_onnx refuses.
    """
    from swiftlet.cost.graph import count_graph  # onnx is imported only by those who count files

    return count_graph(file, side=side)


# --- operations -----------------------------------------------------------------------------------------------------

# name -> MACs from (arguments, output); arguments as PyTorch's dispatcher passes them
MACS = {
    "convolution": lambda args, out: (conv_transpose_macs if args[6] else conv_macs)(
        args[0].shape if args[6] else out.shape, args[1].shape
    ),
    "mm": lambda args, out: matmul_macs(args[0].shape, out.shape),
    "bmm": lambda args, out: matmul_macs(args[0].shape, out.shape),
    "mv": lambda args, out: matmul_macs(args[0].shape, out.shape),
    "dot": lambda args, out: matmul_macs(args[0].shape, out.shape),
    "addmm": lambda args, out: matmul_macs(args[1].shape, out.shape),
    "addbmm": lambda args, out: matmul_macs(args[1].shape, (len(args[1]), *out.shape)),
    "baddbmm": lambda args, out: matmul_macs(args[1].shape, out.shape),
    "addmv": lambda args, out: matmul_macs(args[1].shape, out.shape),
    "linear": lambda args, out: matmul_macs(args[0].shape, out.shape),
} | dict.fromkeys(
    (
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_fused_attention_overrideable",
    ),
    lambda args, out: attention_macs(args[0].shape, args[1].shape, args[2].shape),
)

BATCH_NORMS = {"native_batch_norm", "_native_batch_norm_legit_no_training"}
NORMS = BATCH_NORMS | {"native_layer_norm", "native_group_norm", "_fused_rms_norm"}

POINTWISE = {"prelu", "_prelu_kernel", "rsub", "hardswish", "hardswish_"}  # PyTorch's tag misses these

# PyTorch works out the shape of some of these in Python, a millisecond each; it is the first argument's.
ACTIVATIONS = {"relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu", "leaky_relu", "elu"}
ACTIVATIONS |= {name + "_" for name in ACTIVATIONS}

ONE_PER_OUTPUT = {
    "mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "var", "var_mean", "std", "norm",
    "linalg_vector_norm", "cumsum", "topk", "any", "all",
    "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax",
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "avg_pool3d", "avg_pool1d",
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact2d", "upsample_linear1d",
    "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d", "_upsample_bicubic2d_aa",
    "upsample_trilinear3d",
}  # fmt: skip

MOVES = {
    "cat", "stack", "clone", "copy_", "_to_copy", "constant_pad_nd", "reflection_pad1d",
    "reflection_pad2d", "replication_pad2d", "index", "index_select", "gather", "embedding", "roll", "flip", "repeat",
    "im2col", "col2im", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle",
    "scatter", "index_put", "index_put_", "masked_fill", "masked_fill_", "tril", "triu",
    "split_with_sizes_copy", "_reshape_copy",
}  # fmt: skip

CREATE = {
    "empty", "zeros", "ones", "full", "arange", "eye", "linspace", "scalar_tensor", "empty_like", "zeros_like",
    "ones_like", "full_like", "new_empty", "new_zeros", "new_ones", "new_full", "lift_fresh", "empty_strided",
    "new_empty_strided", "fill_", "fill", "zero_",
}  # fmt: skip

FREE = {"_unsafe_view", "as_strided_", "detach_", "unsqueeze_", "squeeze_", "t_", "transpose_", "_assert_async"}

# Beside their result these return statistics or indices that inference does not keep.
FIRST_OUTPUT = NORMS | {"max_pool2d_with_indices", "max_pool3d_with_indices"}


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation that PyTorch dispatches while it is active."""

    def __init__(self, params: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = [""]  # the modules being executed, innermost last
        self.layers: list[LayerCost] = []
        self.steps: list[Step] = []
        self.sizes: dict[int, int] = {}  # bytes of every activation buffer
        self.uncovered: Counter[str] = Counter()
        self._unseen_params = set(params)
        self._alive: list[Tensor] = []  # a buffer's id is unique only while the buffer exists

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in ACTIVATIONS:
            output = args[0] if name.endswith("_") else torch.empty_like(args[0])
        elif name in BATCH_NORMS:
            output = (torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0))
        else:
            output = func(*args, **(kwargs or {}))
        writes = list(_tensors(output))[: 1 if name in FIRST_OUTPUT else None]
        if writes and not func.is_view and name not in FREE:
            self._record(name, torch.Tag.pointwise in func.tags, args, list(_tensors((args, kwargs))), writes)
        return output

    def _record(
        self, name: str, pointwise: bool, args: tuple[Any, ...], reads: list[Tensor], writes: list[Tensor]
    ) -> None:
        self._alive += writes
        read_ids, write_ids = tuple(map(buffer_id, reads)), tuple(map(buffer_id, writes))
        self.sizes |= {
            key: _nbytes(tensor) for key, tensor in zip(write_ids, writes, strict=True) if key not in read_ids
        }
        in_place = name not in MOVES and (pointwise or name in POINTWISE or name in BATCH_NORMS)
        self.steps.append(Step(read_ids, write_ids, in_place))
        if name in CREATE:
            return

        fresh = {key: tensor.numel() for key, tensor in zip(read_ids, reads, strict=True) if key in self._unseen_params}
        self._unseen_params -= fresh.keys()
        elements, macs = writes[0].numel(), 0
        if name in MACS:
            macs, elements = MACS[name](args, writes[0]), 0
        elif name in NORMS:
            elements *= 2
        elif name in MOVES:
            elements = 0
        elif not (pointwise or name in POINTWISE or name in ONE_PER_OUTPUT):
            self.uncovered[f"aten.{name}"] += 1
            elements = 0
        traffic = sum(map(_nbytes, reads)) + sum(map(_nbytes, writes))
        shape = tuple(writes[0].shape)
        self.layers.append(LayerCost(self.path[-1], name, sum(fresh.values()), macs, elements, traffic, shape))


def buffer_id(tensor: Tensor) -> int:
    """The same number for a tensor and its views."""
    key: int = tensor.untyped_storage()._cdata
    return key


def _nbytes(tensor: Tensor) -> int:
    """Bytes as float32; a broadcast view is as large as what it repeats."""
    numel = min(tensor.numel(), tensor.untyped_storage().nbytes() // tensor.element_size())
    return numel * (4 if tensor.is_floating_point() else tensor.element_size())


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for leaf in tree:
            yield from _tensors(leaf)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))


def _on_meta(named: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Shapes alone; every floating type as float32, so that a half-precision model meets a float32 image."""
    return {
        name: torch.empty(
            tensor.shape, dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype, device="meta"
        )
        for name, tensor in named
    }


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, then each module's own mode again."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _module_paths(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep recorder.path: global hooks, because hooks on the modules would change the model."""
    names = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        if id(module) in names:
            recorder.path.append(names[id(module)])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in names:
            recorder.path.pop()

    hooks = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
