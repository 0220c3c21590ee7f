"""ONNX operators written with PyTorch: each takes the attributes (plus `opset`, `outputs`) and its inputs.

Inputs are tensors, but those that VALUES names (sizes, axes, bounds) arrive as Python numbers or lists of them. The set
is what swiftlet writes and what common image networks need; a file with another operator is refused by name.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = dict[str, Any]
Number = float | list[float] | None


def _pads(a: Attributes, x: Tensor, kernel: Sequence[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The symmetric padding that PyTorch's layers take, after the rest has been padded explicitly."""
    rank = len(kernel)
    auto = a.get("auto_pad", b"NOTSET").decode()
    pads = list(a.get("pads", [0] * 2 * rank))
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
        for i, size in enumerate(x.shape[2:]):
            total = max(0, (-(-size // strides[i]) - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - size)
            small = total // 2
            pads[i], pads[i + rank] = (small, total - small) if auto == "SAME_UPPER" else (total - small, small)
    begin, end = pads[:rank], pads[rank:]
    if begin == end:
        return x, begin
    return F.pad(x, [p for pair in zip(begin[::-1], end[::-1], strict=True) for p in pair], value=value), [0] * rank


def conv(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    kernel = weight.shape[2:]
    x, padding = _pads(a, x, kernel)
    ones = [1] * len(kernel)
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(kernel)]
    return function(x, weight, bias, a.get("strides", ones), padding, a.get("dilations", ones), a.get("group", 1))


def gemm(a: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As a linear layer where it is one, which is what compilers and converters look for."""
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    x, weight = x.T if a.get("transA") else x, weight if a.get("transB") else weight.T
    if alpha == beta == 1 and (bias is None or bias.ndim == 1):
        return F.linear(x, weight, bias)
    product = torch.mul(F.linear(x, weight), alpha)
    return product if bias is None else torch.add(product, bias, alpha=beta)


def batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def clip(a: Attributes, x: Tensor, low: Number = None, high: Number = None) -> Tensor:
    """Bounds are attributes before opset 11, inputs since."""
    return _clamp(x, a.get("min", _one(low)), a.get("max", _one(high)))


def _one(value: Number) -> float | None:
    """Some exporters write one number as a list of one."""
    return value[0] if isinstance(value, list) else value


def _clamp(x: Tensor, low: float | None, high: float | None) -> Tensor:
    return x if low is None and high is None else torch.clamp(x, low, high)


def divide(a: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def max_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    x, padding = _pads(a, x, kernel, value=float("-inf"))
    ones = [1] * len(kernel)
    function = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(kernel)]
    return function(x, kernel, a.get("strides", ones), padding, a.get("dilations", ones), bool(a.get("ceil_mode")))


def average_pool(a: Attributes, x: Tensor) -> Tensor:
    kernel, padded = a["kernel_shape"], bool(a.get("count_include_pad"))
    before = x.shape
    x, padding = _pads(a, x, kernel)
    if x.shape != before and not padded:
        raise NotImplementedError("asymmetric padding that the average leaves out")
    if any(size != 1 for size in a.get("dilations", [])):
        raise NotImplementedError("dilated average pooling")
    function = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[len(kernel)]
    return function(x, kernel, a.get("strides", [1] * len(kernel)), padding, bool(a.get("ceil_mode")), padded)


def _reduce(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Axes are an attribute in older operator sets, an input since; none means all of them."""

    def reduced(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
        chosen = a.get("axes") if axes is None else axes
        if not chosen:
            if a.get("noop_with_empty_axes"):
                return x
            chosen = list(range(x.ndim))
        return function(x, chosen, keepdim=bool(a.get("keepdims", 1)))

    return reduced


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1) % (x.ndim + 1) if a.get("axis", 1) < 0 else a.get("axis", 1)
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def reshape(a: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    keep = not a.get("allowzero")
    return x.reshape([x.shape[i] if size == 0 and keep else size for i, size in enumerate(shape)])


def squeeze(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    chosen = a.get("axes", axes)
    return x.squeeze() if chosen is None else x.squeeze(tuple(chosen))


def unsqueeze(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    chosen = a["axes"] if axes is None else axes
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


def gather(a: Attributes, x: Tensor, index: Any) -> Tensor:
    """index: a number, or numbers in lists of any depth."""
    axis = a.get("axis", 0) % x.ndim
    if isinstance(index, int):
        return x.select(axis, index)
    picks = torch.tensor(index, device=x.device)
    flat = torch.index_select(x, axis, picks.reshape(-1) % x.shape[axis])
    return flat.reshape(*x.shape[:axis], *picks.shape, *x.shape[axis + 1 :])


def pad(a: Attributes, x: Tensor, pads: list[int] | None = None, value: Number = None, axes: Any = None) -> Tensor:
    """Pads are attributes before opset 11, inputs since."""
    mode = a.get("mode", b"constant").decode()
    amounts = a["pads"] if pads is None else pads
    if mode != "constant" or axes is not None:
        raise NotImplementedError(f"padding of mode {mode!r}, or of some axes only")
    begin, end = amounts[: x.ndim], amounts[x.ndim :]
    fill = a.get("value", _one(value)) or 0
    return F.pad(x, [p for pair in zip(begin[::-1], end[::-1], strict=True) for p in pair], value=fill)


def layer_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1) % x.ndim
    return F.layer_norm(x, x.shape[axis:], scale, bias, a.get("epsilon", 1e-5))


def resize(a: Attributes, x: Tensor, roi: Any = None, scales: Any = None, sizes: list[int] | None = None) -> Tensor:
    """Whole maps by nearest or bilinear interpolation, on the grids that PyTorch has too."""
    mode, grid = a.get("mode", b"nearest").decode(), a.get("coordinate_transformation_mode", b"half_pixel").decode()
    size = sizes[2:] if sizes else [int(n * s) for n, s in zip(x.shape[2:], scales[2:], strict=True)]
    kept = sizes[:2] == list(x.shape[:2]) if sizes else scales[:2] == [1, 1]
    rounding = a.get("nearest_mode", b"round_prefer_floor").decode()
    if kept and mode == "linear" and grid in ("half_pixel", "pytorch_half_pixel", "align_corners") and x.ndim == 4:
        return F.interpolate(x, size, mode="bilinear", align_corners=grid == "align_corners")
    if kept and mode == "nearest" and grid == "asymmetric" and rounding == "floor":
        return F.interpolate(x, size, mode="nearest")
    raise NotImplementedError(f"resizing of mode {mode} on the grid {grid}")


def transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.get("perm", list(range(x.ndim))[::-1]))


def cast(a: Attributes, x: Tensor) -> Tensor:
    from onnx.helper import tensor_dtype_to_np_dtype

    return x.to(getattr(torch, tensor_dtype_to_np_dtype(a["to"]).name))


def _per_axis(a: Attributes, x: Tensor, parameter: Any) -> Any:
    """A scale or zero point: one number, or one per index of `axis`."""
    if not isinstance(parameter, Tensor):
        return parameter
    if parameter.ndim == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.ndim
    shape[a.get("axis", 1)] = -1
    return parameter.reshape(shape)


def quantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    zero = torch.zeros((), dtype=torch.uint8) if zero is None else zero
    limits = torch.iinfo(zero.dtype)
    steps: Tensor = torch.round(x / _per_axis(a, x, scale)) + _per_axis(a, x, zero)  # to nearest even, as ONNX says
    return steps.clamp_(limits.min, limits.max).to(zero.dtype)


def dequantize(a: Attributes, x: Tensor, scale: Tensor | float, zero: Tensor | float | None = None) -> Tensor:
    """The grid as tensors, or as numbers where it is one for all and in float32."""
    steps: Tensor = x.to(torch.float32 if isinstance(scale, float) else scale.dtype)
    if zero is not None:
        steps = steps - _per_axis(a, x, zero)
    return steps.mul(_per_axis(a, x, scale))


def softmax(a: Attributes, x: Tensor) -> Tensor:
    """Before opset 13, over all dimensions from `axis` on."""
    if a["opset"] >= 13:
        return torch.softmax(x, a.get("axis", -1))
    return torch.softmax(flatten({"axis": a.get("axis", 1)}, x), 1).reshape(x.shape)


def split(a: Attributes, x: Tensor, sizes: list[int] | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    lengths = a.get("split", sizes)
    return torch.split(x, lengths or -(-x.shape[axis] // a["outputs"]), axis)


def constant(a: Attributes) -> Tensor:
    from onnx import numpy_helper

    if "value" in a:
        return torch.from_numpy(numpy_helper.to_array(a["value"]).copy())
    for name, dtype in (("value_int", torch.int64), ("value_ints", torch.int64), ("value_float", torch.float32),
                        ("value_floats", torch.float32)):  # fmt: skip
        if name in a:
            return torch.tensor(a[name], dtype=dtype)
    raise NotImplementedError("a constant that is no number")


def slice_(a: Attributes, x: Tensor, starts: list[int], ends: list[int], axes: Any = None, steps: Any = None) -> Tensor:
    """Since opset 10; before it the ends were attributes."""
    chosen = range(len(starts)) if axes is None else axes
    strides = [1] * len(starts) if steps is None else steps
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, chosen, strides, strict=True):
        if step < 1:
            raise NotImplementedError("a slice that runs backwards")
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


# operator -> inputs that are sizes, axes or bounds
VALUES = {
    "Clip": (1, 2), "Expand": (1,), "Gather": (1,), "Pad": (1, 2, 3), "Range": (0, 1, 2), "ReduceMax": (1,),
    "ReduceMean": (1,), "ReduceSum": (1,), "Reshape": (1,), "Resize": (1, 2, 3), "Slice": (1, 2, 3, 4), "Split": (1,),
    "Squeeze": (1,), "Unsqueeze": (1,),
}  # fmt: skip

OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, x, y: x + y,
    "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Constant": constant,
    "Conv": conv,
    "DequantizeLinear": dequantize,
    "Div": divide,
    "Dropout": lambda a, x, *rest: x,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Erf": lambda a, x: torch.erf(x),
    "Exp": lambda a, x: torch.exp(x),
    "Expand": lambda a, x, shape: x.expand(np.broadcast_shapes(tuple(x.shape), tuple(shape))),
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "Gemm": gemm,
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.ndim)), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.amax(list(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda a, x: (x * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp_(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "LRN": lambda a, x: F.local_response_norm(
        x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1)
    ),
    "LayerNormalization": layer_norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "MatMul": lambda a, x, y: x @ y,
    "Max": lambda a, x, *rest: reduce(torch.maximum, rest, x),
    "MaxPool": max_pool,
    "Min": lambda a, x, *rest: reduce(torch.minimum, rest, x),
    "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x,
    "PRelu": lambda a, x, slope: torch.where(x < 0, x * slope, x),
    "Pad": pad,
    "Pow": lambda a, x, y: x**y,
    "QuantizeLinear": quantize,
    "Range": lambda a, start, limit, delta: torch.arange(start, limit, delta),
    "Reciprocal": lambda a, x: 1 / x,
    "ReduceMax": _reduce(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "Relu": lambda a, x: torch.relu(x),
    "Reshape": reshape,
    "Resize": resize,
    "Shape": lambda a, x: torch.tensor(x.shape, device=x.device)[a.get("start", 0) : a.get("end")],
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Slice": slice_,
    "Softmax": softmax,
    "Split": split,
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Squeeze": squeeze,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
