"""How many multiply-adds the layers with weights cost, and how many bytes their weights, in whole numbers.

Both counters (modules and ONNX graphs) call these, so that they cannot disagree. One multiply-add is one MAC; a bias
is not counted; taps that fall on padding are, since every runtime and every paper does.
"""

from collections.abc import Iterable, Sequence
from math import prod


def conv_macs(output: Sequence[int], weight: Sequence[int]) -> int:
    """Convolution of any rank: each output element sums C_in/groups x k x ... products.

    output (N, C_out, *spatial), weight (C_out, C_in/groups, *kernel). Stride, padding and dilation are in `output`.
    """
    return prod(output) * prod(weight[1:])


def conv_transpose_macs(image: Sequence[int], weight: Sequence[int]) -> int:
    """Transposed convolution: each input element is spread over C_out/groups x k x ... outputs.

    image (N, C_in, *spatial), weight (C_in, C_out/groups, *kernel). Spread products that output padding crops count.
    """
    return prod(image) * prod(weight[1:])


def matmul_macs(left: Sequence[int], output: Sequence[int]) -> int:
    """Matrix product with NumPy's broadcasting: each output element sums K products; left (..., K)."""
    return prod(output) * left[-1]


def attention_macs(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """softmax(Q K^T) V: query (..., L, D), key (..., S, D), value (..., S, V): L x S x (D + V) per head.

    Heads are query's; fewer key heads (grouped queries) are reused.
    """
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def int8_bytes(params: Iterable[tuple[int, int]], channels: int) -> int:
    """What the parameters, given as (elements, dimensions), of a layer with so many output channels take in int8.

    A byte for each weight; for each channel 4 bytes for its scale and 4 for its bias, which is there even if only
    BatchNorm brings one. Biases themselves have one dimension and are in the latter. A layer whose weights were
    counted elsewhere takes nothing.
    """
    weights = sum(elements for elements, dimensions in params if dimensions > 1)
    return weights + 8 * channels if weights else 0
