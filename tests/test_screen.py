"""The ONNX door: ordinary files pass, and what asks for too much is refused before anything is allocated."""

import hashlib
import random
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import float_net, quantized_net, serialize, tensor

from swiftlet.cost.screen import read_onnx, screen_onnx
from swiftlet.errors import BadFile
from swiftlet.pack.error import ContainerError
from swiftlet.pack.onnx import pack_onnx
from swiftlet.pack.writer import pack_tensors, write_items

node = helper.make_node
FLOAT = TensorProto.FLOAT


def bomb(op: str, inputs: list[str], *constants: TensorProto, shape: list[int], **attributes: object) -> bytes:
    return serialize([node(op, inputs, ["scores"], **attributes)], list(constants), shape=shape, dtype=FLOAT)


def sizes(name: str, value: list[int] | int) -> TensorProto:
    return tensor(name, value, np.int64)


doubling = [node("Concat", ["image" if i == 0 else f"t{i}"] * 2, [f"t{i + 1}"], axis=0) for i in range(40)]
BOMBS = {
    "ConstantOfShape": bomb("ConstantOfShape", ["s"], sizes("s", [512 * 1024 * 1024]), shape=[1]),
    "Expand": bomb("Expand", ["image", "s"], sizes("s", [1 << 30]), shape=[1]),
    "Expand overflow": bomb("Expand", ["image", "s"], sizes("s", [1 << 62, 1 << 62, 4]), shape=[1]),
    "Tile": bomb("Tile", ["image", "s"], sizes("s", [1 << 20, 1 << 20]), shape=[1, 3]),
    "Pad": bomb("Pad", ["image", "s"], sizes("s", [0, 1 << 30, 0, 1 << 30]), shape=[1, 3]),
    "Range": bomb("Range", ["a", "b", "c"], sizes("a", 0), sizes("b", 1 << 30), sizes("c", 1), shape=[1]),
    "Resize": bomb("Resize", ["image", "", "s"], tensor("s", [1, 1e5, 1e5]), shape=[1, 8, 8]),
    "Conv pads": bomb("Conv", ["image", "w"], tensor("w", [[[[1]]]]), shape=[1, 1, 4, 4], pads=[1 << 20] * 4),
    "Conv overflow": bomb("Conv", ["image", "w"], tensor("w", [[[[1]]]]), shape=[1, 1, 4, 4], pads=[1 << 62] * 4),
    "outer product": bomb("MatMul", ["image", "w"], tensor("w", [[0] * 20000]), shape=[20000, 1]),
    "unknown shape": bomb("Expand", ["image", "image"], shape=[100_000_000]),
    "doubling": serialize([*doubling, node("Identity", ["t40"], ["scores"])], [], shape=[1], dtype=FLOAT),
    "sum of live": serialize(
        [node("Relu", ["image"], [f"t{i}"]) for i in range(30)]
        + [node("Sum", [f"t{i}" for i in range(30)], ["scores"])],
        [], shape=[1, 10_000_000], dtype=FLOAT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused(name):
    with pytest.raises(BadFile, match=r"limit is|too large|not known|out of range"):
        read_onnx(BOMBS[name])


MEASURE = """
import resource, sys, time
from pathlib import Path
from swiftlet.cost.screen import read_onnx
from swiftlet.errors import BadFile

warm, *bombs = map(Path, sys.argv[1:])
read_onnx(warm)  # onnx registers its operators on first use
for bomb in bombs:
    data, times = bomb.read_bytes(), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        start = time.perf_counter()
        try:
            read_onnx(data)
        except BadFile:
            times.append(time.perf_counter() - start)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(len(data), min(times), grown)
"""


def test_refusing_a_bomb_takes_milliseconds_and_no_memory(tmp_path):
    """In a fresh process, because a peak that earlier tests have set would hide any growth."""
    paths = []
    for i, data in enumerate([float_net(), *BOMBS.values()]):
        paths.append(tmp_path / f"{i}.onnx")
        paths[-1].write_bytes(data)
    run = subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, text=True, check=True)
    measured = [tuple(map(float, line.split())) for line in run.stdout.splitlines()]
    assert len(measured) == len(BOMBS)
    mib = 1024 * 1024 if sys.platform == "darwin" else 1024  # the units of ru_maxrss
    for name, (size, seconds, grown) in zip(BOMBS, measured, strict=True):
        assert seconds <= (0.010 if size < 200 else 0.050), name
        assert grown <= mib, name


def test_delivered_files_pass():
    assert len(read_onnx(float_net()).graph.node) == 7
    assert len(read_onnx(quantized_net()).graph.node) == 17


def change(edit) -> bytes:
    model = onnx.ModelProto.FromString(float_net())
    edit(model)
    return model.SerializeToString()


def external(model):
    model.graph.initializer[4].data_location = TensorProto.EXTERNAL


def subgraph(model):
    model.graph.node[3].attribute.add(name="body", type=5).g.name = "inner"


REFUSED = {
    "in another file": external,
    "holds a subgraph": subgraph,
    "operator ai.onnx.Loop": lambda m: setattr(m.graph.node[3], "op_type", "Loop"),
    "operator evil.Conv": lambda m: setattr(m.graph.node[2], "domain", "evil"),
    "functions": lambda m: m.functions.add(),
    "opset 5": lambda m: setattr(m.opset_import[0], "version", 5),
    "needs 864 stored values, found 860": lambda m: setattr(
        m.graph.initializer[4], "raw_data", m.graph.initializer[4].raw_data[4:]
    ),
    "before anything writes it": lambda m: m.graph.node[3].input.__setitem__(0, "f"),
    "more than once": lambda m: m.graph.node.append(node("Relu", ["c"], ["r"])),
    "or has no name": lambda m: m.graph.initializer.add(data_type=1, dims=[0]),
    "no input or no output": lambda m: m.graph.ClearField("output"),
    "no graph": lambda m: m.graph.ClearField("node"),
    "nodes; the limit": lambda m: m.graph.node.extend(node("Relu", ["c"], [f"n{i}"]) for i in range(20_000)),
    "besides weights": lambda m: setattr(m, "doc_string", "x" * 17_000_000),
    "Unrecognized attribute": lambda m: m.graph.node[2].attribute.add(name="bogus", type=2, i=1),
}  # fmt: skip


@pytest.mark.parametrize("reason", REFUSED)
def test_refusals_name_the_reason(reason, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(change(REFUSED[reason]))
    with pytest.raises(BadFile, match=reason) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(str(path))


def test_files_that_are_none(tmp_path):
    with pytest.raises(BadFile, match="cannot be read"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(BadFile, match="empty"):
        read_onnx(b"")
    with pytest.raises(BadFile, match="max_file_bytes"):
        read_onnx(float_net(), max_file_bytes=100)
    with pytest.raises(BadFile, match="limit is 1,000"):
        read_onnx(float_net(), max_tensor_bytes=1000)


def test_truncated_and_mutated_files_are_refused_or_read_but_never_crash():
    data = float_net()
    chance = random.Random(0)
    refused = 0
    cases = [data[:cut] for cut in range(0, len(data) - 1, 7)]
    for _ in range(1500):
        mutant = bytearray(data)
        for _ in range(chance.choice((1, 2, 4))):
            mutant[chance.randrange(len(mutant))] = chance.randrange(256)
        cases.append(bytes(mutant))
    for case in cases:
        try:
            read_onnx(case)
        except BadFile:
            refused += 1
    assert refused > len(cases) // 3


# --- containers -----------------------------------------------------------------------------------------------------


def test_a_container_comes_in_as_the_file_that_it_holds(tmp_path):
    for data in (float_net(), quantized_net()):
        packed = pack_onnx(data)
        screened = screen_onnx(packed)
        assert screened.data == data and screened.model == read_onnx(data)
        (tmp_path / "named.onnx").write_bytes(packed)  # it is the content that tells
        assert screen_onnx(tmp_path / "named.onnx").data == data


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_container_holds_is_screened_like_any_file(name):
    with pytest.raises(BadFile) as plain:
        read_onnx(BOMBS[name])
    with pytest.raises(BadFile) as packed:
        read_onnx(pack_onnx(BOMBS[name]))
    assert str(packed.value) == str(plain.value) and type(packed.value) is BadFile


def test_containers_that_are_refused_are_named(tmp_path):
    packed = pack_onnx(float_net())
    for content, code in (
        (packed[:-1], "short"),
        (packed + b"\0", "trailing"),
        (packed[:-1] + bytes([packed[-1] ^ 1]), "chunk-digest"),
        (packed[:7] + b"\3" + packed[8:], "magic"),
    ):
        (tmp_path / "model.swl").write_bytes(content)
        with pytest.raises(ContainerError, match=r"model\.swl .*\(" + code) as refused:
            read_onnx(tmp_path / "model.swl")
        assert refused.value.code == code
    with pytest.raises(BadFile, match=r"^ONNX bytes: a container of tensors by name"):
        read_onnx(pack_tensors({"w": np.zeros(3)}))
    with pytest.raises(BadFile, match="not an ONNX file"):  # nothing is unpacked twice
        read_onnx(_container_in(packed))


def test_a_container_unpacks_to_no_more_than_a_file_may_have():
    packed, limit = pack_onnx(quantized_net()), len(quantized_net()) - 1
    assert len(packed) < limit
    with pytest.raises(ContainerError, match="limit"):
        read_onnx(packed, max_file_bytes=limit)
    assert read_onnx(packed, max_file_bytes=limit + 1)


def _container_in(packed: bytes) -> bytes:
    """A container whose ONNX file is a container."""
    return write_items("onnx", {}, hashlib.sha256(packed).hexdigest(), [], packed)
