"""The rules for PyTorch's operations, by the names that its dispatcher has for them.

What each costs, how its output looks at its input, and the output's shape where PyTorch takes long to work it out.
Arguments are as the dispatcher passes them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from swiftlet.cost.flow import SAME, WHOLE, Window, resizing, transposed_window, window
from swiftlet.cost.formulas import attention_macs, conv_macs, conv_transpose_macs, matmul_macs

Arguments = tuple[Any, ...]
Look = Callable[[Arguments, Tensor], Window]
Shape = Sequence[int] | None

# name -> MACs from (arguments, output)
MACS: dict[str, Callable[[Arguments, Tensor], int]] = {
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

REDUCTIONS = {
    "mean", "sum", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "var", "var_mean", "std", "norm",
    "linalg_vector_norm", "cumsum", "topk", "any", "all",
    "_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax",
}  # fmt: skip

ONE_PER_OUTPUT = REDUCTIONS | {
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


# --- how an output looks at its input: name -> Window from (arguments, output); others one element at a time ------


def _look_conv(args: Arguments, out: Tensor) -> Window:
    _, weight, _, stride, _, dilation, transposed, *_ = args
    return (transposed_window if transposed else window)(weight.shape[2:], stride, dilation)


def _look_pool(args: Arguments, out: Tensor) -> Window:
    """Average pooling has no dilation; its fifth argument is a switch."""
    kernel = (*args[1],) * (1 if len(args[1]) > 1 else out.ndim - 2)
    dilation = args[4] if len(args) > 4 and not isinstance(args[4], bool) else ()
    return window(kernel, (args[2] if len(args) > 2 else ()) or kernel, dilation)


def _look_resize(name: str) -> Look:
    kinds = {"_aa": 0, "adaptive": 0, "nearest": 1, "linear": 2, "cubic": 4}
    taps = next(n for kind, n in kinds.items() if kind in name)
    return lambda args, out: resizing(args[0].shape[2:], out.shape[2:], taps)


def _look_reduction(args: Arguments, out: Tensor) -> Window:
    """Over the channels alone, each place stays by itself."""
    rank = args[0].ndim
    return SAME if len(args) > 1 and args[1] in (1, [1], (1,), 1 - rank, [1 - rank], (1 - rank,)) else WHOLE


def _look_norm(args: Arguments, out: Tensor) -> Window:
    return SAME if len(args[1]) == 1 else WHOLE


def _look_shuffle(args: Arguments, out: Tensor) -> Window:
    return Window((0, 0), (1 / args[1], 1 / args[1]))


LOOKS: dict[str, Look] = {
    "convolution": _look_conv,
    "im2col": lambda args, out: window(args[1], args[4], args[2]),
    "pixel_shuffle": _look_shuffle,
    "pixel_unshuffle": lambda args, out: window((args[1], args[1]), (args[1], args[1])),
    "native_layer_norm": _look_norm,
    "_fused_rms_norm": _look_norm,
    "native_group_norm": lambda args, out: WHOLE,
}
LOOKS |= dict.fromkeys(BATCH_NORMS, lambda args, out: WHOLE if args[5] is True else SAME)  # of the picture's own mean
LOOKS |= dict.fromkeys(REDUCTIONS, lambda args, out: WHOLE)
LOOKS |= dict.fromkeys(("mean", "sum", "amax", "amin", "_softmax", "_log_softmax"), _look_reduction)
for _name in ONE_PER_OUTPUT - REDUCTIONS:
    LOOKS[_name] = _look_pool if "pool" in _name and "adaptive" not in _name else _look_resize(_name)


# --- shapes: name -> shape of the output from the arguments, or None to ask PyTorch -----------------------------------


def _shape_first(args: Arguments) -> Shape:
    return args[0].shape if args[0].is_floating_point() else None


def _shape_conv(args: Arguments) -> Shape:
    image, weight, _, strides, pads, dilations, transposed, _, groups = args
    if transposed or image.ndim != weight.ndim or image.shape[1] != weight.shape[1] * groups:
        return None
    if not len(strides) == len(pads) == len(dilations) == image.ndim - 2:
        return None
    sizes = zip(image.shape[2:], weight.shape[2:], strides, pads, dilations, strict=True)
    sides = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes]
    return (image.shape[0], weight.shape[0], *sides) if min(sides) > 0 else None


def _shape_pair(args: Arguments) -> Shape:
    """Of a binary operation on tensors of as many dimensions, or on one tensor and a number."""
    left, right = args[0], args[1]
    if not isinstance(left, Tensor) or not left.is_floating_point():
        return None
    if not isinstance(right, Tensor):
        return left.shape
    if left.shape == right.shape and left.dtype == right.dtype:
        return left.shape
    if left.ndim != right.ndim or left.dtype != right.dtype:
        return None
    pairs = list(zip(left.shape, right.shape, strict=True))
    return tuple(map(max, pairs)) if all(a == b or 1 in (a, b) for a, b in pairs) else None


def _shape_mean(args: Arguments) -> Shape:
    if len(args) < 2 or not args[1] or not args[0].is_floating_point():
        return None
    rank, keep = args[0].ndim, len(args) > 2 and args[2]
    axes = {axis % rank for axis in args[1]}
    return tuple(1 if i in axes else n for i, n in enumerate(args[0].shape) if keep or i not in axes)


def _shape_linear(args: Arguments) -> Shape:
    """Of a linear layer with its bias on rows of features."""
    bias, left, right = args[:3]
    fits = left.ndim == right.ndim == 2 and left.shape[1] == right.shape[0] and bias.shape == right.shape[1:]
    return (left.shape[0], right.shape[1]) if fits and left.is_floating_point() else None


SHAPES: dict[str, Callable[[Arguments], Shape]] = {
    "convolution": _shape_conv,
    "addmm": _shape_linear,
    "mean": _shape_mean,
    **dict.fromkeys(("relu", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "silu", "gelu"), _shape_first),
    **dict.fromkeys(("leaky_relu", "elu", "clone", *BATCH_NORMS), _shape_first),
    **dict.fromkeys(("add", "sub", "mul", "div"), _shape_pair),
}
IN_PLACE = {f"{name}_" for name in SHAPES}  # if the shape stays
