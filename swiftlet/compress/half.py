"""Weights in half precision: float16 (1 + 5 + 10 bits) or bfloat16 (1 + 8 + 7 bits). export/half.py stores them so."""

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.fold import is_training
from swiftlet.compress.record import Record
from swiftlet.compress.trace import trace
from swiftlet.errors import BadInput, NothingToDo

Half = Literal["float16", "bfloat16"]
LARGEST = 65504.0  # of float16; bfloat16 reaches as far as float32
LEAST = 64  # values of a tensor from which two bytes less for each pay for what a file says about it


def to_half(model: nn.Module, kind: Half = "float16") -> tuple[nn.Module, Record]:
    """Return a copy, still float32, whose parameters and statistics are rounded to the nearest value of `kind`.

    The relative error of a value is at most 2**-11 in float16, where it is above 6.1e-5, and 2**-9 in bfloat16. Tensors
    of fewer than 64 values stay as they are, as in the file; layers with integer weights are skipped.
    Raises BadInput in training mode, for another kind, and for values that float16 cannot hold, by name; NothingToDo if
    there is nothing to round.
    """
    dtype = half_type("to_half", kind)
    if is_training(model):
        raise BadInput("to_half: call model.eval() first, the weights are still moving")
    new = copy.deepcopy(model)
    changed: list[str] = []
    skipped: dict[str, str] = {}
    too_large: dict[str, float] = {}
    for path, module in new.named_modules():
        buffers = dict(module.named_buffers(recurse=False))
        tensors = dict(module.named_parameters(recurse=False)) | buffers
        floats = {n: t for n, t in tensors.items() if t.is_floating_point() and t.numel() >= LEAST}
        if not floats:
            continue
        if {"weight_scale", "code_scale", "zero_point"} & buffers.keys():
            skipped[path] = "it lies on an integer grid"
            continue
        changed.append(path)
        for name, value in floats.items():
            with torch.no_grad():
                rounded = value.to(dtype)
                if (rounded.isinf() & value.isfinite()).any():
                    too_large[f"{path}.{name}"] = value.abs().max().item()
                value.copy_(rounded)
    if too_large:
        name, value = max(too_large.items(), key=lambda item: item[1])
        raise BadInput(f"to_half: {len(too_large)} tensors exceed {kind}'s largest value, {LARGEST:g}; the largest, "
                       f"{name!r}, reaches {value:.6g}; use bfloat16")  # fmt: skip
    if not changed:
        raise NothingToDo(f"to_half: found no float weights to round; skipped {skipped}")
    return new, Record(name="to_half", arguments={"kind": kind}, changed=tuple(changed), skipped=tuple(skipped.items()))


def half_type(who: str, kind: str) -> torch.dtype:
    """Raises BadInput if there is no such kind."""
    if kind not in ("float16", "bfloat16"):
        raise BadInput(f"{who}: kind={kind!r}, needs 'float16' or 'bfloat16'")
    return torch.float16 if kind == "float16" else torch.bfloat16


def overflows(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """Where a network that computes in float16 would overflow on images (B, C, H, W): the largest magnitude of each
    result above 65504, by the name of its layer or operation. Empty if there is none; other images may have some.
    Raises BadInput without images.
    """
    traced = model if isinstance(model, fx.GraphModule) else trace(model)
    found: dict[str, float] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor) and (largest := result.abs().max().item()) > LARGEST:
                name = str(n.target) if n.op == "call_module" else n.name
                found[name] = max(largest, found.get(name, 0.0))
            return result

    watch, seen = Watch(traced), False
    with torch.inference_mode():
        for batch in batches:
            watch.run(batch)
            seen = True
    if not seen:
        raise BadInput("overflows: no images were given")
    return found
