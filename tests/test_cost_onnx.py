"""Counting ONNX graphs: small ones by hand, quantized like float."""

import numpy as np
import pytest
from onnx_graphs import float_net, quantized_net

from swiftlet.cost.count import count_onnx
from swiftlet.cost.screen import read_onnx


def test_float_graph_by_hand():
    found = count_onnx(float_net())
    assert found.cost.params == 8 * 3 * 9 + 8 + 5 * 8 + 5
    assert found.cost.macs == 8 * 8 * 8 * 27 + 5 * 8
    assert found.cost.size_bytes == len(float_net())
    # dequantize 3 x 16 x 16, clip 8 x 8 x 8, global pooling 8
    assert found.elementwise == 768 + 512 + 8
    # the bytes of the photo, the same transposed; then the transposed ones and 768 floats
    assert found.cost.peak_activation_bytes == 768 * 4 + 512 * 4
    assert found.uncovered == ()
    assert [layer.op for layer in found.layers] == [
        "Transpose", "DequantizeLinear", "Conv", "Clip", "GlobalAveragePool", "Gemm",
    ]  # fmt: skip


def test_quantized_graph_counts_integers_and_nothing_for_its_quantizers():
    whole, quantized = count_onnx(float_net()).cost, count_onnx(quantized_net()).cost
    assert (quantized.params, quantized.macs) == (whole.params, whole.macs)
    # photo and transposed photo; the convolution's 512 result bytes beside 768 are less
    assert quantized.peak_activation_bytes == 2 * 768
    assert quantized.memory_access_bytes < 0.4 * whole.memory_access_bytes


def test_a_screened_model_and_unknown_operators():
    model = read_onnx(float_net())
    assert count_onnx(model).cost.macs == count_onnx(float_net()).cost.macs
    model.graph.node[3].op_type = "Hardmax"
    del model.graph.node[3].input[1:]
    assert count_onnx(model).uncovered == ("Hardmax x1",)


@pytest.mark.parametrize("side", [32, 48])
def test_free_side_of_the_photo_is_a_parameter(side):
    found = count_onnx(float_net(side=None), side=side)
    assert found.layers[2].output == (1, 8, side // 2, side // 2)
    assert np.prod(found.layers[2].output) * 27 == found.layers[2].macs
