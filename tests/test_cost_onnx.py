"""Counting ONNX graphs: small ones by hand, quantized like float."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import float_net, quantized_net, serialize, tensor
from scipy.stats import entropy as scipy_entropy

from swiftlet.cost.count import count_onnx
from swiftlet.cost.flow import Field
from swiftlet.cost.packed import entropy_bits, packed_bytes
from swiftlet.cost.screen import read_onnx
from swiftlet.errors import BadFile


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
    assert count_onnx(float_net()).int8_bytes == count_onnx(quantized_net()).int8_bytes == 216 + 40 + 8 * (8 + 5)
    # photo and transposed photo; the convolution's 512 result bytes beside 768 are less
    assert quantized.peak_activation_bytes == 2 * 768
    assert quantized.memory_access_bytes < 0.4 * whole.memory_access_bytes


def test_a_screened_model_and_unknown_operators():
    model = read_onnx(float_net())
    assert count_onnx(model).cost.macs == count_onnx(float_net()).cost.macs
    model.graph.node[3].op_type = "Hardmax"
    del model.graph.node[3].input[1:]
    found = count_onnx(model)
    assert found.uncovered == ("Hardmax x1",) and found.coverage == 5 / 6


@pytest.mark.parametrize("side", [32, 48])
def test_free_side_of_the_photo_is_a_parameter(side):
    found = count_onnx(float_net(side=None), side=side)
    assert found.layers[2].output == (1, 8, side // 2, side // 2)
    assert np.prod(found.layers[2].output) * 27 == found.layers[2].macs


def test_receptive_fields_of_a_graph():
    """The photo is (N, H, W, 3) here; a convolution, pooling, resizing, and what sees everything."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["x"], perm=[0, 3, 1, 2]),
        node("Conv", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("AveragePool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["p", "", "scales"], ["r"], mode="nearest"),
        node("Add", ["r", "c"], ["a"]),
        node("SpaceToDepth", ["a"], ["s"], blocksize=2),
        node("ConvTranspose", ["s", "v"], ["t"], strides=[2, 2]),
        node("ReduceMean", ["t"], ["m"], axes=[2, 3]),
        node("Mul", ["t", "gate"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("MatMul", ["f", "h"], ["scores"]),
    ]
    constants = [tensor("w", np.zeros((4, 3, 3, 3))), tensor("scales", [1, 1, 2, 2]), tensor("gate", 1)]
    constants += [tensor("v", np.zeros((16, 2, 2, 2))), tensor("h", np.zeros((2 * 64, 5)))]
    layers = count_onnx(serialize(nodes, constants, shape=["N", 16, 16, 3], dtype=TensorProto.FLOAT)).layers
    fields = [(layer.op, layer.field.size, layer.field.stride) for layer in layers[1:7]]
    assert fields == [
        ("Conv", (3, 3), (2, 2)), ("AveragePool", (5, 5), (4, 4)), ("Resize", (5, 5), (2, 2)),
        ("Add", (5, 5), (2, 2)), ("SpaceToDepth", (7, 7), (4, 4)), ("ConvTranspose", (7, 7), (2, 2)),
    ]  # fmt: skip
    assert [str(layer.field) for layer in layers[7:]] == ["all", "7x7", "all"]
    assert layers[-1].field == Field((16, 16), (2, 2), whole=True)


def test_a_file_of_another_exporter():
    """PyTorch's newer exporter: opset 20, a free batch, HardSwish, reductions with their axes as constants."""
    found = count_onnx(Path(__file__).parent / "dynamo_export.onnx")
    convs, gate, head = 216 + (72 + 8), (32 + 4) + (32 + 8), 40 + 5  # BatchNorm of shift 0 left no bias in the first
    assert found.cost.params == convs + gate + head
    assert found.cost.macs == 16 * 16 * (216 + 72) + 2 * 32 + 40
    assert found.coverage == 1 and found.depth == 5 and found.field == Field((7, 7), (2, 2))
    assert found.layers[0].output == (1, 8, 16, 16)


def changed(change) -> bytes:
    model = onnx.ModelProto.FromString(float_net())
    change(model.graph)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda graph: setattr(graph.node[3], "op_type", "MyOwn"), "operator ai.onnx.MyOwn is not one"),
        (lambda graph: setattr(graph.node[3], "domain", "acme"), "operator acme.Clip is not one"),
        (lambda graph: graph.input[0].type.tensor_type.ClearField("shape"), "'image' has no element type or shape"),
        (lambda graph: graph.node[2].ClearField("input"), "Conv"),
    ],
    ids=["unknown operator", "unknown domain", "no shape", "no inputs"],
)
def test_files_that_cannot_be_counted(change, message):
    with pytest.raises(BadFile, match=message):
        count_onnx(changed(change))


def test_a_dynamically_quantized_layer_keeps_its_bias():
    """As onnxruntime.quantization.quantize_dynamic writes it: integers, scaled to floats, then the bias."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["image"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "s"], ["scales"]),
        helper.make_node("Mul", ["floats", "scales"], ["scaled"]),
        helper.make_node("Add", ["scaled", "b"], ["scores"]),
    ]
    weights = helper.make_tensor("w", TensorProto.INT8, (8, 5), np.ones(40, np.int8))
    constants = [weights, tensor("s", np.float32(1)), tensor("b", np.ones(5, np.float32))]
    found = count_onnx(serialize(nodes, constants, shape=["N", 8], dtype=TensorProto.FLOAT))
    assert found.cost.params == 8 * 5 + 5 and found.cost.macs == 8 * 5
    assert found.coverage == 1 and found.elementwise == 8 + 5 + 1 + 5 + 5
    assert found.int8_bytes == 8 * 5 + 8 * 5  # a scale and a bias for each output channel


def test_packed_bytes_are_the_entropy_of_the_integers():
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.float32)
    weights[:, 0, 0, 0] = 127  # so that rounding to 8 bits changes nothing
    bias = np.zeros(8, np.float32)

    def file(w: np.ndarray) -> bytes:
        nodes = [helper.make_node("Conv", ["image", "w", "b"], ["scores"])]
        constants = [tensor("w", w), tensor("b", bias)]
        return serialize(nodes, constants, shape=["N", 3, 8, 8], dtype=TensorProto.FLOAT)

    counts = np.unique(weights, return_counts=True)[1]
    entropy = scipy_entropy(counts, base=2) * weights.size / 8
    assert packed_bytes(file(weights)) == np.ceil(entropy) + 8 * (4 + 4)
    scales = rng.uniform(0.5, 2, (8, 1, 1, 1)).astype(np.float32)
    assert packed_bytes(file(weights * scales)) == packed_bytes(file(weights))  # per channel
    assert packed_bytes(file(np.full_like(weights, 0.3))) == packed_bytes(file(np.zeros_like(weights))) == 8 * (4 + 4)
    assert entropy_bits(np.arange(256) - 128) == 256 * 8
    integers, floats = packed_bytes(quantized_net()), packed_bytes(float_net())
    assert (
        0.5 * count_onnx(float_net()).int8_bytes < floats < integers
    )  # the latter has zero points, and scales of maps


def test_packed_bytes_find_the_channels_of_a_product():
    rng = np.random.default_rng(0)
    rows = rng.integers(-127, 128, (4, 20)).astype(np.float32)  # 4 outputs
    rows[:, 0] = 127
    scaled = rows * np.array([[1], [2], [4], [8]], np.float32)
    found = []
    for operator, w, names, given in (
        ("Gemm", scaled, ["w"], {"transB": 1}), ("Gemm", scaled.T, ["w"], {}), ("MatMul", scaled.T, ["w"], {}),
        ("MatMul", scaled, ["turned"], {}),
    ):  # fmt: skip
        nodes = [helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0])] if names == ["turned"] else []
        nodes.append(helper.make_node(operator, ["image", *names], ["scores"], **given))
        data = serialize(nodes, [tensor("w", np.ascontiguousarray(w))], shape=["N", 20], dtype=TensorProto.FLOAT)
        found.append(packed_bytes(data))
    assert len(set(found)) == 1
