"""Short scales: how far they are from those that were asked for, and that files hold nothing longer."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.qat import finished, prepare_qat
from swiftlet.compress.quantize import quantize
from swiftlet.compress.scales import short_scale
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=16)


def significant_bits(values: np.ndarray) -> int:
    """The most that one of these float32 numbers has."""
    words = values.astype(np.float32).ravel().view(np.uint32) & 0x7FFFFF
    return max(24 - next((i for i in range(23) if word >> i & 1), 23) for word in words.tolist())


@pytest.mark.parametrize("bits", [4, 8])
def test_scales_are_the_nearest_short_ones(bits):
    scale = torch.exp(torch.empty(2000).uniform_(-18, 5, generator=torch.Generator().manual_seed(0)))
    near = short_scale(scale, bits=bits)
    assert significant_bits(near.numpy()) == bits and torch.equal(short_scale(near, bits=bits), near)
    assert ((near / scale - 1).abs() <= 2.0**-bits).all() and (near > scale).any() and (near < scale).any()


def test_the_largest_weight_keeps_the_last_step():
    largest = torch.linspace(1, 2, 999)
    steps = largest / short_scale(largest / 127)
    assert steps.max() < 127.5 and steps.min() >= 126.5


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    folded, _ = fold_batchnorm(create_model("mobilenet_v2", width=0.35, num_classes=6, stem_stride=1).eval())
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    return folded, torch.from_numpy(CONTRACT.normalise(pixels))


@pytest.mark.parametrize("bits", [8, 4])
def test_files_hold_short_scales_of_weights_alone(bits):
    folded, images = network()
    scale, zero_point = CONTRACT.grid
    grid = {"input_scale": scale, "input_zero_point": zero_point}
    if bits == 8:
        integer, _ = quantize(folded, [images], **grid)
    else:
        integer, _ = finished(prepare_qat(folded, [images], bits=bits, **grid)[0])
    graph = onnx.load_from_string(export_onnx(integer, CONTRACT)).graph
    held = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    bits_of: dict[str, set[int]] = {"activations": set(), "weights": set(), "biases": set()}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            scales, integers = held[node.input[1]], held.get(node.input[0])
            biases = integers is not None and integers.dtype == np.int32
            bits_of["biases" if biases else "weights" if scales.ndim else "activations"].add(significant_bits(scales))
    assert max(bits_of["weights"]) <= bits
    assert max(bits_of["activations"]) == max(bits_of["biases"]) == 24
