"""Small ONNX files in the form that swiftlet delivers: uint8 photo in, normalisation inside, scores out."""

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SCALE, ZERO = np.float32(0.02), np.uint8(128)


def tensor(name: str, value: object, dtype: type = np.float32) -> TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def serialize(
    nodes: list[NodeProto],
    constants: list[TensorProto],
    *,
    shape: list[object],
    dtype: int = TensorProto.UINT8,
    outputs: tuple[str, ...] = ("scores",),
) -> bytes:
    """A model with the input `image` and one or more float outputs."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def _weights() -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(0)
    return (
        random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        random.normal(0, 0.1, 8).astype(np.float32),
        random.normal(0, 0.3, (5, 8)).astype(np.float32),
        random.normal(0, 0.1, 5).astype(np.float32),
    )


def float_net(side: int | None = 16) -> bytes:
    """3 x 3 convolution of stride 2 to 8 channels, ReLU6, mean, 5 classes."""
    conv, conv_bias, head, head_bias = _weights()
    node = helper.make_node
    nodes = [
        node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        node("DequantizeLinear", ["planes", "scale", "zero"], ["x"]),
        node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Clip", ["c", "low", "high"], ["r"]),
        node("GlobalAveragePool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "g", "h"], ["scores"], transB=1),
    ]
    constants = [tensor("scale", SCALE), tensor("zero", ZERO, np.uint8), tensor("low", 0), tensor("high", 6)]
    constants += [tensor("w", conv), tensor("b", conv_bias), tensor("g", head), tensor("h", head_bias)]
    return serialize(nodes, constants, shape=["N", side or "H", side or "W", 3])


def quantized_net() -> bytes:
    """float_net in QDQ form: int8 weights per channel, int32 biases, uint8 activations; scores have a step of 0.02."""
    conv, conv_bias, head, head_bias = _weights()
    most = 63  # of 127: on CPUs that add products in 16 bits, more would be cut off
    conv_scale, head_scale = np.abs(conv).max((1, 2, 3)) / most, np.abs(head).max(1) / most
    step = np.float32(6 / 255)
    node = helper.make_node
    constants = [
        tensor("scale", SCALE), tensor("zero", ZERO, np.uint8), tensor("low", 0), tensor("high", 6),
        tensor("step", step), tensor("none", 0, np.uint8), tensor("out", 0.02), tensor("mid", 128, np.uint8),
        tensor("ws", conv_scale), tensor("wq", np.round(conv / conv_scale[:, None, None, None]), np.int8),
        tensor("wz", np.zeros(8), np.int8), tensor("bs", conv_scale * SCALE), tensor("bz", np.zeros(8), np.int32),
        tensor("bq", np.round(conv_bias / (conv_scale * SCALE)), np.int32),
        tensor("gs", head_scale), tensor("gq", np.round(head / head_scale[:, None]), np.int8),
        tensor("gz", np.zeros(5), np.int8), tensor("hs", head_scale * step), tensor("hz", np.zeros(5), np.int32),
        tensor("hq", np.round(head_bias / (head_scale * step)), np.int32),
    ]  # fmt: skip
    nodes = [
        node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
        node("DequantizeLinear", ["planes", "scale", "zero"], ["x"]),
        node("DequantizeLinear", ["wq", "ws", "wz"], ["w"], axis=0),
        node("DequantizeLinear", ["bq", "bs", "bz"], ["b"], axis=0),
        node("Conv", ["x", "w", "b"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Clip", ["c", "low", "high"], ["r"]),
        node("QuantizeLinear", ["r", "step", "none"], ["rq"]),
        node("DequantizeLinear", ["rq", "step", "none"], ["rd"]),
        node("GlobalAveragePool", ["rd"], ["p"]),
        node("QuantizeLinear", ["p", "step", "none"], ["pq"]),
        node("DequantizeLinear", ["pq", "step", "none"], ["pd"]),
        node("Flatten", ["pd"], ["f"]),
        node("DequantizeLinear", ["gq", "gs", "gz"], ["g"], axis=0),
        node("DequantizeLinear", ["hq", "hs", "hz"], ["h"], axis=0),
        node("Gemm", ["f", "g", "h"], ["s"], transB=1),
        node("QuantizeLinear", ["s", "out", "mid"], ["sq"]),
        node("DequantizeLinear", ["sq", "out", "mid"], ["scores"]),
    ]
    return serialize(nodes, constants, shape=["N", 16, 16, 3])
