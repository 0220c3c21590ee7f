"""The importer against ONNX Runtime: our files, PyTorch's, every pattern by hand, and what is refused."""

import contextlib
import io
import warnings
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_graphs import float_net, quantized_net, serialize, tensor
from settle import settled
from test_export import artifact
from torch import nn
from torch.nn import functional as F
from twins import quietly, randomise

from swiftlet.check import PARITY, typical
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile
from swiftlet.export.import_onnx import Imported, import_onnx
from swiftlet.export.onnx import export_layers, export_onnx, with_metadata
from swiftlet.layers.padding import SameConv2d, SameMaxPool2d
from swiftlet.runtime import get_runtime
from swiftlet.zoo import card, create_model, list_models

node = helper.make_node
UNEVEN = InputContract(side=16, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def run(file: bytes, batch: np.ndarray) -> np.ndarray:
    return get_runtime("onnxruntime").load(file, 1).run(batch)[0]


def scores(imported: Imported, batch: np.ndarray) -> np.ndarray:
    """What the file that was imported should give for a batch of its own kind."""
    if imported.contract is not None:
        batch = imported.contract.normalise(batch)
    with torch.inference_mode():
        logits = imported.model(torch.from_numpy(batch))
    end = {"logits": lambda x: x, "softmax": lambda x: F.softmax(x, 1), "log_softmax": lambda x: F.log_softmax(x, 1)}
    return end[imported.scores](logits).numpy()


def layers(imported: Imported) -> list[type]:
    modules = dict(imported.model.named_modules())
    return [type(modules[n.target]) for n in imported.model.graph.nodes if n.op == "call_module"]


# --- the zoo --------------------------------------------------------------------------------------------------------

SIDES = {"lenet5": 28, "lenet_300_100": 28, "alexnet": 227, "vgg16": 224, "inception_v3": 80}


def operators(file: bytes) -> Counter:
    return Counter(n.op_type for n in onnx.load_from_string(file).graph.node)


LARGE = ("alexnet", "vgg16", "inception_v3", "mobileone_s0", "ghost_resnet56")
FAMILIES = ("ghostnet", "lcnet", "mobilenet_v3_small", "shufflenet_v2", "squeezenet1_1")


def slow(names: tuple[str, ...]) -> list:
    """Every network, with these marked."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in names else name for name in list_models()]


@cache
def of_the_zoo(name: str) -> tuple[nn.Module, InputContract, np.ndarray]:
    """The smallest variant as it is deployed, the pixels it sees, and four pictures."""
    contract = InputContract(side=SIDES.get(name, 32))
    noise = np.random.default_rng(0).integers(0, 256, (4, contract.side, contract.side, 3), np.uint8)
    smallest = min((variant.arguments for variant in card(name).variants), key=lambda a: a.get("width", 1))
    torch.manual_seed(0)
    model = create_model(name, **smallest | {"width": 0.25, "num_classes": 6, "in_channels": 3})
    return deployed(settled(model, noise, contract))[0], contract, noise


@pytest.mark.parametrize("name", slow(LARGE))
def test_files_of_the_zoo_become_networks_again(name):
    plain, contract, noise = of_the_zoo(name)
    file = export_onnx(plain, contract)
    imported = import_onnx(file)
    assert imported.contract == contract and imported.input == (3, contract.side, contract.side)
    expected = run(file, noise)
    assert expected.std(0).max() > 1e-3  # pictures differ
    np.testing.assert_allclose(scores(imported, noise), expected, atol=1e-5)
    again = export_onnx(imported.model, contract)
    assert operators(again) == operators(file)
    np.testing.assert_allclose(run(again, noise), expected, atol=1e-5)


@pytest.mark.parametrize("name", slow(tuple(set(list_models()) - set(FAMILIES))))
def test_they_quantize_as_the_originals_do(name):
    plain, contract, noise = of_the_zoo(name)
    imported = import_onnx(export_onnx(plain, contract)).model
    images = torch.from_numpy(contract.normalise(noise))
    scale, zero = contract.grid
    (mine, record), (theirs, original) = (
        quantize(network, [images], input_scale=scale, input_zero_point=zero) for network in (imported, plain)
    )
    assert not record.skipped and len(record.changed) == len(original.changed)
    with torch.inference_mode():
        differences = (F.softmax(mine(images), 1) - F.softmax(theirs(images), 1)).abs().amax(1).numpy()
    assert typical(differences, "int8") < PARITY["int8"]  # an nn.Identity hides neighbours: then grids differ


def small(contract: InputContract, noise: np.ndarray) -> nn.Module:
    return settled(create_model("mobilenet_v2", width=0.1, num_classes=5), noise, contract)


@pytest.mark.parametrize("contract", [UNEVEN, InputContract(side=16, mean=(0, 0, 0), std=(255, 255, 255))], ids=str)
def test_batch_norms_come_back_and_fold(contract):
    noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    file = export_onnx(small(contract, noise), contract)
    imported = import_onnx(file)
    assert imported.contract == contract and imported.scores == "softmax"
    # 50 layers, and AVX2 adds in another order than AVX-512
    np.testing.assert_allclose(scores(imported, noise), run(file, noise), atol=3e-5)
    folded, record = fold_batchnorm(imported.model)
    assert layers(imported).count(nn.BatchNorm2d) == len(record.changed) > 50 and not record.skipped
    assert record.changed[0] == "batchnormalization_stem_1"  # as the file calls it
    np.testing.assert_allclose(run(export_onnx(folded, contract), noise), run(file, noise), atol=PARITY["float32"])


def test_the_whole_contract_is_in_the_metadata_and_must_agree_with_the_graph():
    noise = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)
    file = export_onnx(small(UNEVEN, noise), UNEVEN)
    whole = InputContract(side=16, mean=UNEVEN.mean, std=UNEVEN.std, resize="bicubic", crop_pct=0.875)
    assert import_onnx(with_metadata(file, artifact(contract=whole).metadata())).contract == whole
    with pytest.raises(BadFile, match=r"its metadata say InputContract.*mean=.128.*export it again"):
        import_onnx(with_metadata(file, artifact(contract=InputContract(side=16)).metadata()))


# --- files from elsewhere -------------------------------------------------------------------------------------------


def test_a_file_of_pytorchs_exporter():
    file = (Path(__file__).parent / "dynamo_export.onnx").read_bytes()
    batch = np.random.default_rng(0).standard_normal((3, 3, 32, 32), np.float32)
    imported = import_onnx(file)
    assert imported.contract is None and imported.input == (3, 32, 32) and imported.scores == "logits"
    np.testing.assert_allclose(scores(imported, batch), run(file, batch), atol=1e-5)


def exported(model: nn.Module, side: int, **options: object) -> bytes:
    blob, picture = io.BytesIO(), torch.zeros(1, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), (picture,), blob, input_names=["x"], verbose=False, **options)
    return blob.getvalue()


def theirs(name: str) -> nn.Module:
    source, _, model = name.partition(".")
    import torchvision_ops  # noqa: F401

    if source == "timm":
        import timm

        return randomise(quietly(lambda: timm.create_model(model, num_classes=7)))
    import torchvision

    return randomise(quietly(lambda: torchvision.models.get_model(model, num_classes=7)))


def check_foreign(file: bytes, side: int) -> Imported:
    """The same scores; what is exported again gives their softmax; int8 is the same network."""
    imported = import_onnx(file)
    contract = InputContract(side=side)
    noise = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
    images = np.ascontiguousarray(contract.normalise(noise))
    expected = run(file, images)
    size = np.abs(expected).max()
    np.testing.assert_allclose(scores(imported, images), expected, atol=1e-5 * size)
    folded, _ = deployed(imported.model)
    softmax = torch.softmax(torch.from_numpy(expected), 1).numpy()
    np.testing.assert_allclose(run(export_onnx(folded, contract), noise), softmax, atol=1e-4)
    integer, record = quantize(folded, [torch.from_numpy(images)])
    assert not record.skipped
    with torch.inference_mode():
        assert np.abs(integer(torch.from_numpy(images)).numpy() - expected).max() < 0.5 * size
    return imported


@pytest.mark.parametrize(
    "name", ["timm.semnasnet_050", "timm.tf_mobilenetv3_small_minimal_100", "torchvision.shufflenet_v2_x0_5"]
)
def test_networks_of_other_libraries(name):
    file = exported(theirs(name), 64, dynamic_axes={"x": {0: "batch"}}, dynamo=False)
    assert (nn.ChannelShuffle in layers(check_foreign(file, 64))) == ("shuffle" in name)


@pytest.mark.slow
def test_networks_of_other_libraries_by_the_newer_exporter():
    pytest.importorskip("onnxscript", reason="in the extra bench")
    batch = {"x": {0: torch.export.Dim("batch")}}
    found = check_foreign(exported(theirs("timm.mobilenetv3_small_050"), 64, dynamic_shapes=batch, dynamo=True), 64)
    assert layers(found).count(nn.Hardswish) > 10


# --- patterns -------------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(0)
KERNEL, MATRIX, CHANNELS = (RANDOM.normal(size=s).astype(np.float32) for s in ((6, 2, 3, 3), (4, 5), (1, 4, 1, 1)))
FLOATS = {
    "zero": 0.0, "one": 1.0, "three": 3.0, "six": 6.0, "sixth": 1 / 6, "half": 0.5, "kernel": KERNEL,
    "depthwise": KERNEL[:4, :1], "matrix": MATRIX, "bias": MATRIX[0], "square": RANDOM.normal(size=(4, 4)),
    "channels": CHANNELS, "vector": CHANNELS.ravel(), "var": np.abs(CHANNELS.ravel()) + 0.5,
    "picture": [[np.ones(7)] * 7], "means": np.full((7, 7), 1 / 7),
}  # fmt: skip
INTEGERS = {
    "flat": [0, -1], "map": [-1, 4, 1, 1], "grouped": [0, 2, 2, 7, 7], "joined": [0, 4, 7, 7], "uneven": [1, 3],
    "pads": [0, 0, 1, 0, 0, 0, 2, 3], "1": [1], "2": [2], "3": [3], "-1": [-1], "big": [2**63 - 1], "space": [2, 3],
    "channel pads": [0, 1, 0, 0, 0, 0, 0, 0], "rows": [0, 28, 7],
}  # fmt: skip


def op(call: str, **attributes: object) -> onnx.NodeProto:
    """`Operator inputs -> outputs`."""
    given, made = call.split(" -> ")
    operator, *inputs = given.split()
    return node(operator, inputs, made.split(), **attributes)


def file_of(nodes: list[onnx.NodeProto], opset: int = 13, shape: tuple[object, ...] = ("N", 4, 7, 7)) -> bytes:
    """A float file with the input x and the output y; constants go by their names above."""
    used = {name for n in nodes for name in n.input}
    constants = [tensor(name, value) for name, value in FLOATS.items() if name in used]
    constants += [tensor(name, value, np.int64) for name, value in INTEGERS.items() if name in used]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None)))
    graph = helper.make_graph(nodes, "net", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


conv, average, flat, linear, sigmoid = nn.Conv2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear, nn.Sigmoid
POOL = [op("GlobalAveragePool t -> p"), op("Flatten p -> y")]
PATTERNS = {  # from x to t, then POOL
    "grouped convolution": (
        [op("Conv x kernel -> t", group=2, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2])], [conv]),
    "same": ([op("Conv x kernel -> t", group=2, strides=[1, 2], auto_pad="SAME_UPPER", dilations=[1, 1])], [conv]),
    "same in numbers": ([op("Conv x kernel -> t", group=2, strides=[3, 3], pads=[1, 1, 1, 1])], [conv]),
    "uneven padding": (
        [op("Conv x depthwise -> t", group=4, strides=[2, 2], pads=[2, 2, 1, 1])], [nn.ZeroPad2d, conv]),
    "pad and convolution": (
        [op("Pad x pads -> a"), op("Conv a depthwise -> t", group=4, strides=[2, 2], pads=[2, 3, 1, 0])], [conv]),
    "pad": ([op("Pad x pads -> a"), op("Relu a -> t")], [nn.ZeroPad2d, nn.ReLU]),
    "batch norm and scale": (
        [op("BatchNormalization x vector vector vector var -> a", epsilon=0.1), op("Mul channels a -> b"),
         op("Add b channels -> t")], [nn.BatchNorm2d]),
    "convolution and scale": (
        [op("Conv x depthwise vector -> a", group=4), op("Div a channels -> b"), op("Sub channels b -> t")], [conv]),
    "scale with nothing before": ([op("Mul x channels -> a"), op("Add a half -> t")], [conv]),
    "convolution read twice": (
        [op("Conv x depthwise -> a", group=4), op("Mul a channels -> b"), op("Add a b -> t")], [conv, conv]),
    "relu6": ([op("Clip x zero six -> t")], [nn.ReLU6]),
    "relu": ([op("Clip x zero -> t")], [nn.ReLU]),
    "clip": ([op("Clip x half one -> t")], [nn.Hardtanh]),
    "hardswish": ([op("HardSwish x -> t")], [nn.Hardswish]),
    "hardswish of hardsigmoid": ([op("HardSigmoid x -> s", alpha=1 / 6), op("Mul s x -> t")], [nn.Hardswish]),
    "hardswish of clip": (
        [op("Add x three -> a"), op("Clip a zero six -> b"), op("Mul x b -> c"), op("Div c six -> t")], [nn.Hardswish]),
    "hardswish of keras": (
        [op("Add three x -> a"), op("Clip a zero six -> b"), op("Mul b sixth -> c"), op("Mul c x -> t")],
        [nn.Hardswish]),
    "hardsigmoid": ([op("Add x three -> a"), op("Clip a zero six -> b"), op("Div b six -> t")], [nn.Hardsigmoid]),
    "hardsigmoid in one": ([op("HardSigmoid x -> t", alpha=1 / 6)], [nn.Hardsigmoid]),
    "silu": ([op("Sigmoid x -> s"), op("Mul x s -> t")], [nn.SiLU]),
    "gate read twice": ([op("Sigmoid x -> s"), op("Mul x s -> a"), op("Add a s -> t")], [sigmoid, nn.SiLU]),
    "tanh": ([op("Tanh x -> a"), op("Sigmoid x -> b"), op("Sum a b x -> t")], [nn.Tanh, sigmoid]),
    "max pool": (
        [op("MaxPool x -> t", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 0], ceil_mode=1)], [nn.MaxPool2d]),
    "max pool, same": ([op("MaxPool x -> t", kernel_shape=[2, 2], auto_pad="SAME_UPPER")], [SameMaxPool2d]),
    "average pool": ([op("AveragePool x -> t", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], [nn.AvgPool2d]),
    "average pool, uneven": (
        [op("AveragePool x -> t", kernel_shape=[3, 3], pads=[1, 0, 0, 2], count_include_pad=1)],
        [nn.ZeroPad2d, nn.AvgPool2d]),
    "lrn": ([op("LRN x -> t", size=3, alpha=0.5, bias=2.0)], [nn.LocalResponseNorm]),
    "split": ([op("Split x -> a b", axis=1), op("Concat b a x -> t", axis=-3)], []),
    "uneven split": ([op("Split x uneven -> a b", axis=1), op("Concat b a -> t", axis=1)], []),
    "slices": ([op("Slice x -1 big 1 -> a"), op("Slice x 1 3 1 -> b"), op("Concat a b -> t", axis=1)], []),
    "shuffle": (
        [op("Reshape x grouped -> a"), op("Transpose a -> b", perm=[0, 2, 1, 3, 4]), op("Reshape b joined -> t")],
        [nn.ChannelShuffle]),
    "nothing": ([op("Dropout x -> a"), op("Identity a -> b"), op("Cast b -> c", to=1), op("Relu c -> t")], [nn.ReLU]),
}  # fmt: skip


def gate(back: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Squeeze and excitation with linear layers; `back` makes a map `v` of the flat `s`."""
    return [
        op("ReduceMean x -> q", axes=[2, 3], keepdims=0), op("MatMul q square -> m"), op("Add m vector -> n"),
        op("Relu n -> r"), op("Gemm r square vector -> g", alpha=0.5, beta=2.0), op("Sigmoid g -> s"), back,
        op("Mul x v -> t"), *POOL,
    ]  # fmt: skip


PATTERNS |= {name: (nodes + POOL, [*found, average, flat]) for name, (nodes, found) in PATTERNS.items()} | {
    "gemm": (
        [op("ReduceMean x -> p", axes=[-1, -2], keepdims=0), op("Gemm p matrix bias -> y")], [average, flat, linear]),
    "matmul and bias": (
        [op("GlobalAveragePool x -> p"), op("Reshape p flat -> f"), op("MatMul f matrix -> m"), op("Add m bias -> y")],
        [average, flat, linear]),
    "squeeze": (
        [op("GlobalAveragePool x -> p"), op("Squeeze p space -> f"), op("MatMul f matrix -> y")],
        [average, flat, linear]),
    "flat in another order": (
        [op("GlobalAveragePool x -> p"), op("Transpose p -> q", perm=[0, 2, 3, 1]), op("Reshape q flat -> y")],
        [average, flat]),
    "scores as a map": ([op("GlobalAveragePool x -> y")], [average, flat]),
    "softmax of a map": (
        [op("GlobalAveragePool x -> p"), op("Softmax p -> s", axis=1), op("Flatten s -> y")], [average, flat]),
    "log softmax": ([op("GlobalAveragePool x -> p"), op("Flatten p -> f"), op("LogSoftmax f -> y")], [average, flat]),
    "linear gate": (gate(op("Reshape s map -> v")), [average, conv, nn.ReLU, conv, sigmoid, average, flat]),
    "linear gate, unsqueezed": (
        gate(op("Unsqueeze s space -> v")), [average, conv, nn.ReLU, conv, sigmoid, average, flat]),
}  # fmt: skip


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_become_layers_and_give_the_same_scores(name):
    nodes, expected = PATTERNS[name]
    file = file_of(nodes, opset=14 if name == "hardswish" else 13)
    imported = import_onnx(file)
    assert [nn.Conv2d if kind is SameConv2d else kind for kind in layers(imported)] == expected
    batch = 3 * np.random.default_rng(1).standard_normal((3, 4, 7, 7), np.float32)
    theirs = run(file, batch)
    np.testing.assert_allclose(scores(imported, batch), theirs.reshape(3, -1), rtol=1e-5, atol=1e-5)


# --- input forms ----------------------------------------------------------------------------------------------------


def test_inputs_of_other_kinds():
    """Pictures as floats in NHWC; bytes in NCHW that are scaled step by step; a part of a network without contract."""
    tail = [op("Relu t -> r"), op("GlobalAveragePool r -> p"), op("Flatten p -> scores")]
    batch = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    nhwc = serialize(
        [op("Transpose image -> t", perm=[0, 3, 1, 2]), *tail], [], shape=["N", 16, 16, 3], dtype=TensorProto.FLOAT
    )
    imported = import_onnx(nhwc)
    floats = batch.astype(np.float32) - 100
    assert imported.contract is None and imported.input == (3, 16, 16)
    moved = np.ascontiguousarray(floats.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(scores(imported, moved), run(nhwc, floats), rtol=1e-6)

    head = [op("Cast image -> c", to=1), op("Div c top -> d"), op("Sub d mean -> e"), op("Div e std -> t")]
    constants = [
        tensor(n, np.reshape(v, (-1, 1, 1))) for n, v in (("mean", [0.4, 0.5, 0.6]), ("std", [0.2, 0.25, 0.3]))
    ]
    nchw = serialize(head + tail, [*constants, tensor("top", 255)], shape=["N", 3, 16, 16])
    imported = import_onnx(nchw)
    assert imported.contract == InputContract(side=16, mean=(102, 127.5, 153), std=(51, 63.75, 76.5))
    theirs = run(nchw, np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(scores(imported, batch), theirs, rtol=1e-5)

    pools = nn.AdaptiveAvgPool2d((5, 3)), nn.AdaptiveAvgPool2d((2, 2))  # of which the file has products with matrices
    part = export_layers(nn.Sequential(nn.Conv2d(5, 4, 1), *pools, nn.Flatten()).eval(), (5, 8, 7))
    assert layers(import_onnx(part)) == [conv, average, average, flat]
    five = np.random.default_rng(1).standard_normal((2, 5, 8, 7), np.float32)
    np.testing.assert_allclose(scores(import_onnx(part), five), run(part, five), atol=1e-6)
    part = export_layers(nn.Sequential(nn.Conv2d(5, 4, 1), nn.AdaptiveAvgPool2d(1)).eval(), (5, 8, 4))
    assert import_onnx(part).input == (5, 8, 4) and layers(import_onnx(part)) == [conv, average, flat]
    assert import_onnx(float_net(None), side=40).input == (3, 40, 40)


# --- refusals -------------------------------------------------------------------------------------------------------

MIXED = [op("GlobalAveragePool x -> e"), op("Flatten e -> f"), op("Add f f -> g"), op("Reshape g map -> v"),
         op("Mul x v -> t"), *POOL]  # fmt: skip
REFUSED = {
    "int8": (quantized_net(), r"ONNX bytes: it is already int8 \(DequantizeLinear 'w'\); give the float file"),
    "operator": (file_of([op("Erf x -> t"), *POOL]), r"Erf 't' is not among the operators .*Add, Av.* without it"),
    "microsoft": (
        file_of([node("QuickGelu", ["x"], ["t"], domain="com.microsoft"), *POOL]), r"QuickGelu 't' is not among"),
    "weights": (
        file_of([op("ReduceMean x -> q", axes=[0, 2, 3], keepdims=0), op("Reshape q map -> m"), op("Conv x m -> t"),
                 *POOL]), r"Conv 't' takes its weights from 'm', which is computed while the network runs"),
    "constant picture": (file_of([op("Add x picture -> t"), *POOL]), r"Add 't' reads the constant 'picture' where"),
    "difference": (file_of([op("Relu x -> r"), op("Sub x r -> t"), *POOL]), r"Sub 't' of .* is no sum and no product"),
    "hard sigmoid": (file_of([op("HardSigmoid x -> t"), *POOL]), r"HardSigmoid 't' is not clip\(x / 6 \+ 1/2"),
    "softmax inside": (file_of([op("Softmax x -> t"), *POOL]), r"Softmax 't' is not among"),
    "softmax of rows": (
        file_of([op("GlobalAveragePool x -> p"), op("Softmax p -> y", axis=3)]), r"Softmax 'y' runs along dimension 3"),
    "transpose": (file_of([op("Transpose x -> t", perm=[0, 1, 3, 2]), *POOL]), r"Transpose 't' makes \(1, 4, 7, 7\)"),
    "reshape": (file_of([op("Reshape x rows -> r"), op("ReduceMean r -> y", axes=[2], keepdims=0)]), r"ReduceMean 'y'"),
    "rows": (file_of([op("Slice x 1 3 2 -> t"), *POOL]), r"Slice 't' takes .*only neighbouring channels"),
    "backwards": (file_of([op("Slice x -1 big 1 -1 -> t"), *POOL]), r"Slice 't'"),
    "concat": (file_of([op("Concat x x -> t", axis=2), *POOL]), r"Concat 't' works along dimension 2"),
    "pad channels": (file_of([node("Pad", ["x", "channel pads"], ["t"]), *POOL]), r"Pad 't' pads with something else"),
    "pool": (
        file_of([op("MaxPool x -> t", kernel_shape=[2, 2], pads=[1, 0, 0, 0]), *POOL]), r"MaxPool 't' pads \[1, 0"),
    "average": (
        file_of([op("AveragePool x -> t", kernel_shape=[2, 2], pads=[1, 0, 0, 0]), *POOL]), r"AveragePool 't' pads"),
    "matrix": (file_of([op("MatMul x means -> t"), *POOL]), r"MatMul 't' multiplies \(1, 4, 7, 7\) by a matrix"),
    "not means": (
        file_of([op("MatMul means x -> a"), op("MatMul a means -> t"), *POOL]), r"MatMul 't' multiplies"),
    "map": (file_of(MIXED), r"Add 'g' is used as a 1 x 1 map, which only linear layers and activations can be"),
    "map scores": (file_of([op("Relu x -> y")]), r"it gives \(1, 4, 7, 7\); a classifier gives \(N, classes\)"),
    "batch": (file_of([op("Relu x -> t"), *POOL], shape=(8, 4, 7, 7)), r"input 'x' is not a batch .*\(8, 4, 7, 7\)"),
    "outputs": (
        serialize([op("Relu image -> a"), op("Tanh image -> b")], [], shape=[1, 3, 8, 8], dtype=1, outputs=("a", "b")),
        r"2 outputs \(a, b\)"),
    "bytes": (
        serialize([op("Cast image -> t", to=1), op("GlobalAveragePool t -> scores")], [], shape=[1, 3, 8, 6]),
        r"input 'image': cannot tell how its bytes become a square float picture in RGB"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_layer_is_refused_by_name(what):
    file, message = REFUSED[what]
    with pytest.raises(BadFile, match=message):
        import_onnx(file)


FILES = [
    float_net(),
    *(file_of(*PATTERNS[name][:1]) for name in ("linear gate", "shuffle", "slices", "pad and convolution")),
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 10**4), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_files_are_imported_or_refused(file, changes):
    damaged = bytearray(file)
    for position, value in changes:
        damaged[position % len(file)] = value
    with contextlib.suppress(BadFile):
        assert import_onnx(bytes(damaged)).input
