"""Count what a network costs without running it: parameters, multiply-adds, memory traffic, peak activation memory.

A module is executed on meta tensors (shapes without numbers), so that functional calls count like layers do, no weight
is read and nothing is left behind in the model. An ONNX file is counted from its graph, in swiftlet/cost/graph.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from swiftlet.budget import Cost
from swiftlet.cost import operations as rules
from swiftlet.cost.flow import SAME, WHOLE, Flow
from swiftlet.cost.formulas import int8_bytes
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
    recorder = _Recorder(image)
    modules = list(model.named_modules())
    try:
        params = dict(model.named_parameters(remove_duplicate=False))
        buffers = dict(model.named_buffers(remove_duplicate=False))
        learned = list({id(tensor): tensor for tensor in params.values()}.values())
        on_meta = _on_meta([*learned, *buffers.values()])
        recorder.unseen_params = {buffer_id(on_meta[id(tensor)]) for tensor in learned}
        weights = {name: on_meta[id(tensor)] for name, tensor in (*params.items(), *buffers.items())}
        with _evaluating(modules), _module_paths(modules, recorder), torch.no_grad(), recorder:
            output = functional_call(model, weights, (image,), tie_weights=False)  # shared ones are the same tensor
    except Exception as error:
        raise _refusal(model, image, recorder.path[-1], error) from error
    ends = [key for key in map(buffer_id, _tensors(output)) if key in recorder.sizes]
    stored = sum(tensor.numel() for tensor in learned)
    return summary(
        recorder.layers,
        recorder.uncovered,
        recorder.flow,
        params=stored,
        learning=sum(tensor.numel() for tensor in learned if tensor.requires_grad),
        peak=peak_bytes(recorder.steps, recorder.sizes, [buffer_id(image)], ends),
        size=4 * stored,
    )


def _refusal(model: nn.Module, image: Tensor, path: str, error: Exception) -> BadInput:
    reason = f"{type(error).__name__}: {str(error).strip()}".split("\n")[0]
    if "meta" in reason.lower():
        reason = (
            "its forward needs the values of a tensor, and counting has shapes alone; export it and count the file "
            f"({reason.split('. ')[0]})"
        )
    where = f"{type(model).__name__} cannot be counted{f' ({path})' if path else ''}"
    return BadInput(f"{where} for an input of shape {tuple(image.shape)}: {reason}")


def count_onnx(file: Path | bytes | onnx.ModelProto, side: int = 224) -> Count:
    """Count an ONNX file or an already screened model from its graph, in the types that the file stores.

    A free batch dimension counts as 1, other free dimensions of the input as `side`. size_bytes is the file's length.
    Quantized activations count with their stored width: a QuantizeLinear or DequantizeLinear that a runtime fuses into
    its neighbour is free. Raises BadFile for whatever read_onnx refuses.
    """
    from swiftlet.cost.graph import count_graph  # onnx is imported only by those who count files

    return count_graph(file, side=side)


# --- recording ------------------------------------------------------------------------------------------------------


class _Facts(NamedTuple):
    name: str
    free: bool  # a view, or of no cost at all
    pointwise: bool


@cache
def _facts(func: Any) -> _Facts:
    name = func.overloadpacket.__name__
    return _Facts(name, func.is_view or name in rules.FREE, torch.Tag.pointwise in func.tags or name in rules.POINTWISE)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down every operation that PyTorch dispatches while it is active."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = [""]  # the modules being executed, innermost last
        self.unseen_params: set[int] = set()
        self.layers: list[LayerCost] = []
        self.steps: list[Step] = []
        self.sizes = {buffer_id(image): 4 * image.numel()}  # bytes of every activation buffer
        self.uncovered: Counter[str] = Counter()
        self.flow = Flow({buffer_id(image): image.shape})
        self._products: set[int] = set()  # buffers that a multiplying operation has written
        self._alive: list[Tensor] = []  # a buffer's id is unique only while the buffer exists

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """PyTorch would import its compiler, 2.5 s, only to keep it away from a mode that it never meets."""
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        facts = _facts(func)
        output = None if kwargs else _quickly(facts.name, args)
        if output is None:
            output = _call(func, args, kwargs or {})
        if not facts.free:
            writes = _tensors(output)[: 1 if facts.name in rules.FIRST_OUTPUT else None]
            if writes:
                self._record(facts, args, _tensors((args, kwargs) if kwargs else args), writes)
        return output

    def _record(self, facts: _Facts, args: tuple[Any, ...], reads: list[Tensor], writes: list[Tensor]) -> None:
        name = facts.name
        self._alive += writes
        read_ids, read_sizes = _buffers(reads)
        write_ids, write_sizes = _buffers(writes)
        for key, size in zip(write_ids, write_sizes, strict=True):
            if key not in read_ids:
                self.sizes[key] = size
        in_place = name not in rules.MOVES and (facts.pointwise or name in rules.BATCH_NORMS)
        self.steps.append(Step(read_ids, write_ids, in_place))
        if name in rules.CREATE:
            return

        fresh = {key: tensor for key, tensor in zip(read_ids, reads, strict=True) if key in self.unseen_params}
        self.unseen_params -= fresh.keys()
        shape = tuple(writes[0].shape)
        elements, macs, look = writes[0].numel(), 0, SAME
        if name in rules.LOOKS:
            look = rules.LOOKS[name](args, writes[0])
        if name in rules.MACS:
            macs, elements = rules.MACS[name](args, writes[0]), 0
            look = look if name in rules.LOOKS else self.flow.product(read_ids, shape)
        elif name in rules.NORMS:
            elements *= 2
        elif name in rules.MOVES:
            elements = 0
        elif not (facts.pointwise or name in rules.ONE_PER_OUTPUT):
            self.uncovered[f"aten.{name}"] += 1
            elements, look = 0, WHOLE
        layer = LayerCost(
            name=self.path[-1],
            op=name,
            params=sum(tensor.numel() for tensor in fresh.values()),
            macs=macs,
            elementwise=elements,
            memory_access_bytes=sum(read_sizes) + sum(write_sizes),
            output=shape,
            written_bytes=sum(write_sizes),
            field=self.flow.step(read_ids, write_ids, look, shape, deep=macs > 0),
            int8_bytes=self._int8_bytes(name, read_ids, list(fresh.values()), shape) if fresh else 0,
        )
        self.layers.append(layer)
        if macs:
            self._products.update(write_ids)

    def _int8_bytes(self, name: str, reads: tuple[int, ...], fresh: list[Tensor], output: tuple[int, ...]) -> int:
        """See Count."""
        if name in rules.MACS:
            channels = output[1] if name == "convolution" else output[-1]
            return int8_bytes(((tensor.numel(), tensor.ndim) for tensor in fresh), channels)
        if name in rules.BATCH_NORMS and reads[0] in self._products:
            return 0
        return 4 * sum(tensor.numel() for tensor in fresh)


def _quickly(name: str, args: tuple[Any, ...]) -> Any:
    """The output of an operation whose shape is known here; PyTorch would take up to a millisecond in Python."""
    if name in rules.IN_PLACE:
        return args[0] if rules.SHAPES[name[:-1]](args) == args[0].shape else None
    shape = rules.SHAPES[name](args) if name in rules.SHAPES else None
    if shape is None:
        return None
    output = torch.empty(shape, dtype=args[0].dtype, device=_META)
    return (output, _NOTHING, _NOTHING) if name in rules.BATCH_NORMS else output


def _call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """PyTorch's own way. A constant that the forward pass made on the CPU meets shapes here, so it becomes one."""
    places = {tensor.is_meta for tensor in _tensors((args, kwargs))}
    if len(places) == 2 and "index" not in func.overloadpacket.__name__:  # a mask's values may decide a shape
        args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
    return func(*args, **kwargs)


_META = torch.device("meta")
_NOTHING = torch.empty(0, device=_META)


def buffer_id(tensor: Tensor) -> int:
    """The same number for a tensor and its views."""
    key: int = tensor.untyped_storage()._cdata
    return key


def _buffers(tensors: list[Tensor]) -> tuple[tuple[int, ...], list[int]]:
    """buffer_id of each, and its bytes as float32; a broadcast view is as large as what it repeats."""
    ids, sizes = [], []
    for tensor in tensors:
        storage, width = tensor.untyped_storage(), tensor.element_size()
        size = min(tensor.numel() * width, storage.nbytes())
        ids.append(storage._cdata)
        sizes.append(4 * size // width if width != 4 and tensor.is_floating_point() else size)
    return tuple(ids), sizes


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    found: list[Tensor] = []
    for leaf in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ():
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, (tuple, list, dict)):
            found += _tensors(leaf)
    return found


def _on_meta(tensors: list[Tensor]) -> dict[int, Tensor]:
    """Of each id the shape alone; every floating type as float32, so that a half-precision model meets its image."""
    return {
        id(tensor): torch.empty(
            tensor.shape, dtype=torch.float32 if tensor.is_floating_point() else tensor.dtype, device=_META
        )
        for tensor in tensors
    }


@contextmanager
def _evaluating(modules: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """Evaluation mode, then each module's own mode again."""
    training = [module for _, module in modules if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _module_paths(modules: list[tuple[str, nn.Module]], recorder: _Recorder) -> Iterator[None]:
    """Keep recorder.path: global hooks, because hooks on the modules would change the model."""
    names = {id(module): name for name, module in modules}

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
