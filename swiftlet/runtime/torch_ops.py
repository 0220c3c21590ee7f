"""ONNX operators written with PyTorch: each takes the attributes (plus `opset`, `outputs`) and its inputs.

The set is what swiftlet writes and what common classifiers need; a file with another operator is refused by name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Attributes = dict[str, Any]


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
    x = x.T if a.get("transA") else x
    product = torch.mul(x @ (weight.T if a.get("transB") else weight), a.get("alpha", 1.0))
    return product if bias is None else torch.add(product, bias, alpha=a.get("beta", 1.0))


def batch_norm(a: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, False, 0.0, a.get("epsilon", 1e-5))


def clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """Bounds are attributes before opset 11, inputs since."""
    bounds = [bound.item() if bound is not None else None for bound in (low, high)]
    return _clamp(x, a.get("min", bounds[0]), a.get("max", bounds[1]))


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


def reduce_mean(a: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Axes are an attribute before opset 18, an input since; none means all of them."""
    chosen = a.get("axes") if axes is None else axes.tolist()
    if not chosen:
        if a.get("noop_with_empty_axes"):
            return x
        chosen = list(range(x.ndim))
    return x.mean(chosen, keepdim=bool(a.get("keepdims", 1)))


def flatten(a: Attributes, x: Tensor) -> Tensor:
    axis = a.get("axis", 1) % (x.ndim + 1) if a.get("axis", 1) < 0 else a.get("axis", 1)
    rows = 1
    for size in x.shape[:axis]:
        rows *= size
    return x.reshape(rows, -1)


def reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    keep = not a.get("allowzero")
    return x.reshape([x.shape[i] if size == 0 and keep else size for i, size in enumerate(shape.tolist())])


def transpose(a: Attributes, x: Tensor) -> Tensor:
    return x.permute(a.get("perm", list(range(x.ndim))[::-1]))


def cast(a: Attributes, x: Tensor) -> Tensor:
    from onnx.helper import tensor_dtype_to_np_dtype

    return x.to(getattr(torch, tensor_dtype_to_np_dtype(a["to"]).name))


def _per_axis(a: Attributes, x: Tensor, parameter: Tensor) -> Tensor:
    """A scale or zero point: one number, or one per index of `axis`."""
    if parameter.ndim == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    shape = [1] * x.ndim
    shape[a.get("axis", 1)] = -1
    return parameter.reshape(shape)


def quantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    zero = torch.zeros((), dtype=torch.uint8) if zero is None else zero
    limits = torch.iinfo(zero.dtype)
    steps = torch.round(x / _per_axis(a, x, scale)) + _per_axis(a, x, zero)  # to nearest even, as ONNX says
    return steps.clamp_(limits.min, limits.max).to(zero.dtype)


def dequantize(a: Attributes, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    steps = x.to(scale.dtype) if zero is None else x.to(scale.dtype) - _per_axis(a, x, zero)
    return steps * _per_axis(a, x, scale)


def softmax(a: Attributes, x: Tensor) -> Tensor:
    """Before opset 13, over all dimensions from `axis` on."""
    if a["opset"] >= 13:
        return torch.softmax(x, a.get("axis", -1))
    return torch.softmax(flatten({"axis": a.get("axis", 1)}, x), 1).reshape(x.shape)


def split(a: Attributes, x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = a.get("axis", 0)
    lengths = a.get("split") if sizes is None else sizes.tolist()
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


def slice_(
    a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    """Since opset 10; before it the ends were attributes."""
    chosen = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), chosen, strides, strict=True):
        if step < 1:
            raise NotImplementedError("a slice that runs backwards")
        index[axis] = slice(start, end, step)
    return x[tuple(index)]


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
    "Flatten": flatten,
    "Gemm": gemm,
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.ndim)), keepdim=True),
    "HardSigmoid": lambda a, x: (x * a.get("alpha", 0.2) + a.get("beta", 0.5)).clamp_(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "LRN": lambda a, x: F.local_response_norm(
        x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1)
    ),
    "MatMul": lambda a, x, y: x @ y,
    "MaxPool": max_pool,
    "Mul": lambda a, x, y: x * y,
    "QuantizeLinear": quantize,
    "ReduceMean": reduce_mean,
    "Relu": lambda a, x: torch.relu(x),
    "Reshape": reshape,
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Slice": slice_,
    "Softmax": softmax,
    "Split": split,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
    "Transpose": transpose,
}
