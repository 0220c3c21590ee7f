"""Runtimes: the same answers from different kernels, and errors that say what to do."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from onnx_graphs import float_net, quantized_net, serialize, tensor

from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime import RUNTIMES, get_runtime

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def answers(name: str, file: bytes, threads: int = 1) -> np.ndarray:
    program = get_runtime(name).load(file, threads)
    assert program.output_names == ("scores",)
    scores = program.run(PHOTOS)[0]
    program.close()
    return scores


def test_runtimes_agree_on_a_float_network():
    assert np.abs(answers("torch", float_net()) - answers("onnxruntime", float_net())).max() < 1e-5


def test_runtimes_agree_on_a_quantized_network_within_a_step():
    ours, theirs = answers("torch", quantized_net()), answers("onnxruntime", quantized_net())
    assert np.abs(ours - theirs).max() < 0.0201
    assert np.abs(ours - answers("torch", float_net())).max() < 0.05  # and it is the same network
    assert np.ptp(ours) > 0.1


def test_null_gives_zeros_of_the_right_shape(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(float_net())
    program = get_runtime("null").load(path, 1)
    scores = program.run(PHOTOS)[0]
    assert scores.shape == (3, 5) and scores.dtype == np.float32 and not scores.any()
    assert program.input_shape == (None, 16, 16, 3) and program.input_dtype == np.uint8


@pytest.mark.parametrize("name", RUNTIMES)
def test_wrong_batches_and_files_are_refused(name, tmp_path):
    if (absent := get_runtime(name).missing()) is not None:
        pytest.skip(f"{name} needs: {absent}")
    program = get_runtime(name).load(float_net(), 1)
    with pytest.raises(BadInput, match=r"expects uint8 \(any, 16, 16, 3\), got float32 \(1, 16, 16, 3\)"):
        program.run(PHOTOS[:1].astype(np.float32))
    with pytest.raises(BadInput, match=r"got uint8 \(3, 16, 8, 3\)"):
        program.run(np.ascontiguousarray(PHOTOS[:, :, :8]))
    with pytest.raises(BadInput, match="threads=0"):
        get_runtime(name).load(float_net(), 0)
    path = tmp_path / "broken.onnx"
    path.write_bytes(float_net()[:500])
    with pytest.raises(BadFile, match=r"broken\.onnx"):
        get_runtime(name).load(path, 1)


def test_unknown_runtime_and_untranslated_operator():
    with pytest.raises(BadInput, match=r"known: onnxruntime, .*torch, .*openvino, .*null"):
        get_runtime("tflite")
    file = serialize([helper.make_node("Tan", ["image"], ["scores"])], [], shape=["N", 4], dtype=TensorProto.FLOAT)
    with pytest.raises(BadFile, match="has no Tan; use onnxruntime"):
        get_runtime("torch").load(file, 1)


def test_threads_hold_during_the_run_only(monkeypatch):
    before = torch.get_num_threads()
    program = get_runtime("torch").load(float_net(), before + 1)
    seen = []
    relu = torch.clamp
    monkeypatch.setattr(torch, "clamp", lambda *args: seen.append(torch.get_num_threads()) or relu(*args))
    program.run(PHOTOS)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


SMALL = [
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
    ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}),
    ("Softmax", {"axis": 1}),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    ("Flatten", {"axis": 2}),
    ("Transpose", {}),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("Elu", {"alpha": 0.5}),
    ("Erf", {}),
    ("Exp", {}),
    ("GlobalMaxPool", {}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("ReduceMax", {"axes": [1], "keepdims": 0}),
]


@pytest.mark.parametrize(("op", "attributes"), SMALL, ids=lambda value: value if isinstance(value, str) else "")
def test_operators_agree_with_onnxruntime(op, attributes):
    node = helper.make_node(op, ["image"], ["scores"], **attributes)
    file = serialize([node], [], shape=["N", 2, 7, 7], dtype=TensorProto.FLOAT)
    batch = np.random.default_rng(1).standard_normal((2, 2, 7, 7), np.float32)
    ours, theirs = (get_runtime(name).load(file, 1).run(batch)[0] for name in ("torch", "onnxruntime"))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


HALVES = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
WITH_CONSTANTS = [  # operator, attributes, values of the inputs after the first; an integer makes sizes and axes
    ("Expand", {}, [[1, 2, 7, 7]]),
    ("Gather", {"axis": 1}, [0]),
    ("Gather", {"axis": 3}, [[[0, -1], [2, 3]]]),
    ("Gemm", {"alpha": 0.5, "beta": 2.0}, [np.eye(7) + 0.5, np.arange(7.0)]),
    ("Max", {}, [np.full((2, 1, 1), 0.3)]),
    ("PRelu", {}, [np.array([[[0.1]], [[0.4]]])]),
    ("Pad", {}, [[0, 0, 1, 0, 0, 0, 2, 3], 0.5]),
    ("Pow", {}, [2.0]),
    ("ReduceSum", {"keepdims": 0}, [[2, 3]]),
    ("Resize", {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}, [None, None, [2, 2, 10, 5]]),
    ("Resize", HALVES, [None, [1.0, 1.0, 2.0, 2.0]]),
    ("Unsqueeze", {}, [[1, -1]]),
]


@pytest.mark.parametrize(
    ("op", "attributes", "values"), WITH_CONSTANTS, ids=lambda value: value if isinstance(value, str) else ""
)
def test_operators_with_constants_agree_with_onnxruntime(op, attributes, values):
    arrays = [None if value is None else np.array(value) for value in values]
    types = [None if a is None else np.int64 if a.dtype.kind == "i" else np.float32 for a in arrays]
    constants = [tensor(f"c{i}", a, types[i]) for i, a in enumerate(arrays) if a is not None]
    names = [f"c{i}" if a is not None else "" for i, a in enumerate(arrays)]
    flat = [helper.make_node("Flatten", ["image"], ["x"], axis=3)] if op == "Gemm" else []
    node = helper.make_node(op, ["x" if flat else "image", *names], ["scores"], **attributes)
    file = serialize([*flat, node], constants, shape=["N", 2, 7, 7], dtype=TensorProto.FLOAT)
    batch = np.random.default_rng(1).standard_normal((2, 2, 7, 7), np.float32)
    ours, theirs = (get_runtime(name).load(file, 1).run(batch)[0] for name in ("torch", "onnxruntime"))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_importing_the_package_imports_no_runtime():
    code = "import swiftlet.runtime, swiftlet.runtime.race, swiftlet.cost.count, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    engines = {"onnxruntime", "openvino", "ncnn", "pnnx", "ai_edge_litert", "litert_torch", "executorch"}
    assert not (engines | {"onnx", "scipy"}) & set(loaded)
