"""Every engine that is installed gives PyTorch's answers, in the precision that it says it computes in."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import missing
from onnx import TensorProto, helper
from onnx_graphs import float_net, quantized_net, serialize, tensor
from test_layering import watched
from torch import nn
from torch._inductor.cpu_vec_isa import pick_vec_isa

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput, MissingExtra
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime import RUNTIMES, get_runtime
from swiftlet.runtime import cpu as cpu_module
from swiftlet.runtime.base import Program
from swiftlet.runtime.liven import livened
from swiftlet.zoo import create_model

SLOW = {"torch-compiled", "litert", "executorch"}  # many seconds per file
OPTIONAL = {
    "onnxruntime-cuda",
    "torch-cuda",
    "torch-cuda-graph",
    "torch-bf16",
    "openvino-bf16",
    "ncnn-bf16",
    "litert",
    "executorch",
}
FLOAT = [name for name in RUNTIMES if name not in {"null"} and not name.endswith("bf16")]
HALF = [name for name in RUNTIMES if name.endswith("bf16")]
NETWORKS = {"mobilenet_v2": {"width": 0.35}, "mobilenet_v3_small": {}, "shufflenet_v2": {"width": 0.5}}
CONTRACT = InputContract(side=32, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)


def slow(names: list[str]) -> list[object]:
    """The names, those that convert for many seconds marked as slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


def load(name: str, file: bytes | Path, threads: int = 1) -> Program:
    """Skips where the runtime cannot be used; in CI only what its machines may lack."""
    if (absent := get_runtime(name).missing()) is not None:
        reason = f"{name} needs: {absent}"
        pytest.skip(reason) if name in OPTIONAL else missing(reason)
    return get_runtime(name).load(file, threads)


def logits(scores: np.ndarray) -> np.ndarray:
    """Up to a constant; a softmax hides what differs far from the best class."""
    logs = np.log(scores)
    return logs - logs.mean(1, keepdims=True)


def cosine(scores: np.ndarray, expected: np.ndarray) -> float:
    a, b = logits(scores).ravel(), logits(expected).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def networks() -> dict[str, tuple[dict[str, bytes], np.ndarray]]:
    """Name -> files by precision, and PyTorch's scores; logits have a standard deviation of 1, so errors show."""
    made = {}
    images = torch.from_numpy(CONTRACT.normalise(PHOTOS))
    for name, arguments in NETWORKS.items():
        torch.manual_seed(0)
        model = livened(create_model(name, num_classes=10, **arguments), (3, 32, 32))
        head = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        with torch.no_grad():
            head.weight.normal_()
            head.weight /= model(images).std()
            scores = torch.softmax(model(images), 1).numpy()
        made[name] = untrained_files(model, CONTRACT), scores
    return made


@pytest.mark.parametrize("name", slow(FLOAT))
@pytest.mark.parametrize("network", NETWORKS)
def test_float_files_give_pytorchs_scores(name, network, networks):
    if name == "torch-compiled" and network != "shufflenet_v2":
        pytest.skip("a minute per network, and this one has all that is special")
    files, expected = networks[network]
    program = load(name, files["float32"])
    assert program.precision == "float32"
    np.testing.assert_allclose(program.run(PHOTOS)[0], expected, rtol=1e-4, atol=1e-4 * expected.max())
    np.testing.assert_allclose(program.run(PHOTOS[1:2])[0], expected[1:2], rtol=1e-4, atol=1e-4 * expected.max())


@pytest.mark.parametrize("name", HALF)
def test_bfloat16_is_close_and_is_not_float32(name, networks):
    files, expected = networks["shufflenet_v2"]
    program = load(name, files["float32"])
    assert program.precision == "bfloat16"
    scores = program.run(PHOTOS)[0]
    assert cosine(scores, expected) > 0.98
    assert np.abs(logits(scores) - logits(expected)).max() > 1e-3


@pytest.mark.parametrize("network", NETWORKS)
def test_one_int8_file_serves_onnxruntime_and_openvino(network, networks):
    files, _ = networks[network]
    emulated = load("torch", files["int8"])
    assert emulated.precision == "int8 emulated in float32"
    expected = emulated.run(PHOTOS)[0]
    for name in ("onnxruntime", "openvino"):
        program = load(name, files["int8"])
        assert program.precision == "int8"
        # sums of a residual are rounded at other places, which untrained layers amplify. How far
        # OpenVINO is off depends on the CPU: one file gave 0.8985 on an AMD EPYC, above 0.9 on an Intel Xeon
        scores = program.run(PHOTOS)[0]
        assert cosine(scores, expected) > (0.9 if name == "onnxruntime" else 0.85)


def test_int8_without_sums_is_computed_to_the_bit(networks):
    """But for a number that lies half-way between two steps, which float32 rounds either way: 1 to 3 pictures of 63."""
    file = networks["shufflenet_v2"][0]["int8"]
    photos = np.random.default_rng(5).integers(0, 256, (60, *PHOTOS.shape[1:]), np.uint8)
    expected = load("torch", file).run(photos)[0]
    for name in ("onnxruntime", "openvino"):
        off = np.abs(load(name, file).run(photos)[0] - expected).max(1)
        assert (off < 1e-6).mean() > 0.9 and off.max() < 0.05, (name, off)


def test_openvino_executes_every_convolution_and_says_in_which_type(networks):
    files, _ = networks["mobilenet_v3_small"]
    model = create_model("mobilenet_v3_small")
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in model.modules())
    assert load("openvino", files["float32"]).multiplied_in == ("f32",) * layers
    integer = load("openvino", files["int8"]).multiplied_in
    assert len(integer) == layers
    assert integer.count("u8") + integer.count("i8") >= layers - 1  # the first may stay float, its input being a photo


def foreign(shape: list[object]) -> bytes:
    """As others export: planes in, sizes computed in the graph, two outputs, one of them a map."""
    random, node = np.random.default_rng(0), helper.make_node
    nodes = [
        node("Pad", ["image", "pads"], ["wide"]),
        node("Conv", ["wide", "w"], ["c"], kernel_shape=[3, 3]),
        node("Sigmoid", ["c"], ["s"]),
        node("Mul", ["c", "s"], ["map"]),
        node("ReduceMean", ["map"], ["p"], axes=[2, 3]),
        node("Shape", ["p"], ["size"]),
        node("Gather", ["size", "first"], ["n"]),
        node("Concat", ["n", "rest"], ["flat"], axis=0),
        node("Reshape", ["p", "flat"], ["f"]),
        node("MatMul", ["f", "g"], ["scores"]),
    ]
    constants = [
        tensor("pads", [0, 0, 1, 1, 0, 0, 1, 1], np.int64), tensor("first", [0], np.int64),
        tensor("rest", [-1], np.int64), tensor("w", random.normal(0, 0.3, (4, 3, 3, 3))),
        tensor("g", random.normal(0, 1, (4, 5))),
    ]  # fmt: skip
    return serialize(nodes, constants, shape=shape, dtype=TensorProto.FLOAT, outputs=("map", "scores"))


@pytest.mark.parametrize("name", slow([name for name in RUNTIMES if name != "null"]))
def test_planes_of_floats_and_two_outputs_from_another_exporter(name):
    program = load(name, foreign(["N", 3, 12, 8]))
    assert program.output_names == ("map", "scores") and program.input_dtype == np.float32
    batch = np.random.default_rng(1).standard_normal((2, 3, 12, 8), np.float32)
    found, expected = program.run(batch), get_runtime("onnxruntime").load(foreign(["N", 3, 12, 8]), 1).run(batch)
    tolerance = 0.05 if name.endswith("bf16") else 1e-5
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize(
    "name", [name for name in RUNTIMES if name not in ("null", "onnxruntime", "torch", "openvino")]
)
def test_quantized_files_are_refused_where_they_would_run_as_floats(name):
    with pytest.raises(BadInput, match=rf"a quantized file, and {name} computes in floating point only; run it on onn"):
        load(name, quantized_net())


@pytest.mark.parametrize("name", ["ncnn", "litert", "executorch"])
def test_converters_ask_for_fixed_sizes(name):
    with pytest.raises(
        BadFile, match=r"\(None, None, None, 3\), and .* of fixed size; export the file with a free bat"
    ):
        load(name, float_net(side=None))


@pytest.mark.parametrize("name", ["onnxruntime", "torch", "torch-compiled", "openvino", "ncnn"])
def test_closed_programs_say_so(name):
    program = load(name, float_net())
    program.close()
    with pytest.raises(BadFile, match="the program is closed"):
        program.run(PHOTOS[:, :16, :16])


@pytest.mark.parametrize("extra", ["openvino", "ncnn", "litert", "executorch"])
def test_what_is_not_installed_is_named_with_its_extra(extra, monkeypatch):
    monkeypatch.setattr(f"swiftlet.runtime.{extra}.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"the runtime {extra} cannot be used: pip install 'swiftlet\[{extra}\]'"):
        get_runtime(extra).load(float_net(), 1)


def test_what_the_machine_lacks_is_named(monkeypatch):
    class Plain:
        flags = ("avx2",)

    monkeypatch.setattr(cpu_module, "machine", Plain)
    for name in HALF:
        with pytest.raises(MissingExtra, match=r"a CPU with bfloat16 instructions .*; this one lists avx2"):
            get_runtime(name).load(float_net(), 1)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingExtra, match="there is no no-such-compiler"):
        get_runtime("torch-compiled").load(float_net(), 1)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MissingExtra, match=r"an NVIDIA GPU, and a PyTorch built for it .* this one is 2"):
        get_runtime("torch-cuda").load(float_net(), 1)


def test_compiled_programs_take_batches_and_leave_no_files(tmp_path, monkeypatch):
    program, reference = load("torch-compiled", float_net()), load("onnxruntime", float_net())
    pick_vec_isa()  # what PyTorch finds out about the CPU it may keep
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    batch = np.ascontiguousarray(PHOTOS[:, :16, :16])
    np.testing.assert_allclose(program.run(batch)[0], reference.run(batch)[0], atol=1e-5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_compiled_programs_are_compiled_however_many_there_are():
    """torch.compile stops after eight programs from one piece of code, and runs the rest eagerly without a word."""
    for side in (12, 16):
        with torch._dynamo.config.patch(error_on_recompile=True):
            load("torch-compiled", float_net(side=side)).run(np.zeros((1, side, side, 3), np.uint8))


def test_openvino_comes_without_its_telemetry(tmp_path):
    load("openvino", float_net())
    code = "from swiftlet.runtime.openvino import import_openvino; import_openvino().Core()"
    events, modules = watched(code, tmp_path)
    assert events == [] and "openvino" in modules and "openvino_telemetry.main" not in modules
    assert list(tmp_path.iterdir()) == []
    events, _ = watched("import openvino", tmp_path)  # and the check can fail: it writes who we are
    assert "openvino_ga_cid" in json.dumps(events)


def test_the_page_lists_every_runtime():
    page = (Path(__file__).parents[1] / "docs" / "runtimes.md").read_text()
    assert re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == list(RUNTIMES)
