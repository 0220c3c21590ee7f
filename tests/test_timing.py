"""`swiftlet time` as a library: who is let in, who is dropped and why, what a time is held against."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from crashing import Crashing
from onnx_graphs import float_net, quantized_net, serialize, tensor
from toy import write_photos

from swiftlet.cli.timings import show
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput, BadPhotos, MissingExtra
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import RUNTIMES, get_runtime
from swiftlet.runtime.base import Program
from swiftlet.runtime.ceilings import Ceilings
from swiftlet.runtime.gate import agreement
from swiftlet.runtime.roofline import bound, impossible, layer_bound, work_of
from swiftlet.runtime.trial import Job, trial
from swiftlet.timing import files as timing_files
from swiftlet.timing import layers as timing_layers
from swiftlet.timing import time_files, time_layers, time_photos
from swiftlet.zoo import create_model

KNOWN = Ceilings(
    threads=1,
    float32=100.0,
    bfloat16=200.0,
    int8=400.0,
    memory_gbs=20.0,
    cache_gbs=100.0,
    cache_bytes=2**24,
    far_bytes=2**28,
    others=0.0,
)


@pytest.fixture(autouse=True)
def known_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """So fast that nothing is impossible, and not measured anew for each test."""
    fast = replace(KNOWN, float32=1e6, bfloat16=1e6, int8=1e6)
    for module in (timing_files, timing_layers):
        monkeypatch.setattr(module, "ceilings", lambda threads, **_: replace(fast, threads=threads))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(float_net())
    return path


class Fake:
    """ONNX Runtime with something wrong; `run` stands in the place of Program.execute."""

    name = "fake"

    def __init__(self, run=None, missing=None):
        self.run, self.message = run, missing

    def missing(self):
        return self.message

    def load(self, path: Path, threads: int) -> Program:
        program = get_runtime("onnxruntime").load(path, threads)
        if self.run is not None:
            honest = program.execute
            program.execute = lambda batch: self.run(honest(batch))  # type: ignore[method-assign]
        return program


def fake(monkeypatch: pytest.MonkeyPatch, **arguments: object) -> str:
    """Its name under which it is known; "torch-" because nobody tries those in another process first."""
    monkeypatch.setitem(RUNTIMES, "torch-fake", Fake(**arguments))
    return "torch-fake"


def test_a_race_has_everything_in_its_json(net: Path, tmp_path: Path) -> None:
    quantized = tmp_path / "int8.onnx"
    quantized.write_bytes(quantized_net())
    steps: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        steps.append(what)

    found = time_files([net, quantized], ["onnxruntime", "torch"], [1], seconds=0.3, progress=progress)
    assert [row.entry.precision for row in found.rows] == ["float32", "float32", "int8", "int8 emulated in float32"]
    assert found.dropped == () and {"comparing outputs", "racing"} <= set(steps)
    data = found.to_json()
    assert len(data["results"]) == 4 and data["verdict"].count("\n") == 2 and data["machine"]
    first = data["results"][0]
    assert first["macs"] == work_of(net).macs and 0 < first["roofline"] < 1 and first["binds"] == "compute"
    assert data["ceilings"]["1"]["float32"] == 1e6 and data["load"]["before"]["at"] < data["load"]["after"]["at"]


def wrong(outputs: list[np.ndarray]) -> list[np.ndarray]:
    return [outputs[0] + 0.01 * np.ptp(outputs[0])]


def dying(outputs: list[np.ndarray]) -> list[np.ndarray]:
    raise RuntimeError("lost the device\nand a page of trace")


@pytest.mark.parametrize(
    ("arguments", "error", "reason"),
    [
        ({"run": wrong}, BadInput, "not timed, because it differs from onnxruntime by 0.01 of the output's range"),
        ({"run": lambda outputs: [outputs[0] * np.nan]}, BadInput, "no finite numbers"),
        ({"run": lambda outputs: [outputs[0][:, :2]]}, BadInput, "other shapes"),
        ({"run": dying}, RuntimeError, "lost the device"),
        ({"missing": "pip install fake"}, MissingExtra, "pip install fake"),
    ],
)
def test_who_cannot_race_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, net: Path, arguments: dict[str, object], error: type[Exception], reason: str
) -> None:
    name = fake(monkeypatch, **arguments)
    found = time_files([net], ["onnxruntime", name], [1], seconds=0.05)
    assert [row.entry.runtime for row in found.rows] == ["onnxruntime"]
    ((entry, why),) = [(d.entry.runtime, d.reason) for d in found.dropped]
    assert entry == name and reason in why and "\n" not in why
    with pytest.raises(error, match=reason):  # the only one: what befell it is the error
        time_files([net], [name], [1])


def test_what_dies_in_the_race_is_dropped(monkeypatch: pytest.MonkeyPatch, net: Path) -> None:
    left = iter(range(40))

    def short_lived(outputs: list[np.ndarray]) -> list[np.ndarray]:
        if next(left, None) is None:
            raise RuntimeError("out of memory")
        return outputs

    found = time_files([net], ["onnxruntime", fake(monkeypatch, run=short_lived)], [1], seconds=0.2)
    assert len(found.rows) == 1 and [d.reason for d in found.dropped] == ["out of memory"]
    assert found.to_json()["dropped"][0]["runtime"] == "torch-fake"


def test_bad_files_are_dropped_until_none_is_left(net: Path, tmp_path: Path) -> None:
    absent, text = tmp_path / "absent.onnx", tmp_path / "text.onnx"
    text.write_text("not a network")
    found = time_files([absent, net, text], ["onnxruntime"], [1], seconds=0.05)
    assert [d.entry.file for d in found.dropped] == [absent, text]
    with pytest.raises(BadFile, match=r"nothing is left to time: .*absent\.onnx.*text\.onnx"):
        time_files([absent, text], ["onnxruntime"], [1])
    with pytest.raises(BadInput, match="unknown runtime 'abacus'"):
        time_files([text], ["onnxruntime", "abacus"], [1])


def test_native_code_that_crashes_does_so_in_a_process_of_its_own(net: Path, tmp_path: Path) -> None:
    """The parent learns who died and of what; the job after it gets a process of its own."""
    jobs = [Job(str(path), 1, 1) for path in (tmp_path / "dead.onnx", net)]
    assert trial(Crashing(), jobs) == ["its process died of SIGSEGV in a first run", ""]


def test_a_time_above_the_ceiling_is_refused(monkeypatch: pytest.MonkeyPatch, net: Path) -> None:
    asked: list[bool] = []

    def slow(threads: int, *, again: bool = False, **_: object) -> Ceilings:
        asked.append(again)
        return replace(KNOWN, float32=1e-6, bfloat16=1e-6, int8=1e-6)

    monkeypatch.setattr(timing_files, "ceilings", slow)
    with pytest.raises(BadFile, match=r"impossible: .* the engine has left out work"):
        time_files([net], ["onnxruntime"], [1], seconds=0.05)
    assert asked == [False, True]  # the ceiling was measured again before anybody was accused


def test_bounds_and_the_allowance_for_winograd() -> None:
    node = onnx.helper.make_node
    kernel = np.ones((64, 64, 3, 3), np.float32)

    def conv(stride: int) -> bytes:
        nodes = [node("Conv", ["image", "w"], ["scores"], name="c", pads=[1] * 4, strides=[stride] * 2)]
        shape: list[object] = ["N", 64, 32, 32]
        return serialize(nodes, [tensor("w", kernel)], shape=shape, dtype=onnx.TensorProto.FLOAT)

    work = work_of(conv(1))
    assert work.macs == work.winograd_macs == 64 * 64 * 9 * 32 * 32 and work.weight_bytes == kernel.nbytes
    least = bound(work, KNOWN, "float32")
    assert least is not None and least.binds == "compute" and least.ms == pytest.approx(2e-6 * work.macs / 100)
    assert bound(work, KNOWN, "float64") is None and impossible(work, KNOWN, "float64", 1e-9) is None
    # 324 / 64 fewer multiplications, and a tenth for the measurement of the ceiling
    assert impossible(work, KNOWN, "float32", least.ms * 64 / 324 / 1.05) is None
    assert "617 GFLOP/s" in str(impossible(work, KNOWN, "float32", 2e-6 * work.macs / 617))
    strided = work_of(conv(2))
    assert strided.winograd_macs == 0
    assert impossible(strided, KNOWN, "float32", 2e-6 * strided.macs / 105) is None
    assert impossible(strided, KNOWN, "float32", 2e-6 * strided.macs / 115)
    (layer,) = work.count.layers
    assert layer_bound(layer, KNOWN, "float32") == (pytest.approx(least.ms), "compute")
    starved = layer_bound(layer, replace(KNOWN, cache_gbs=0.1), "float32")
    assert starved == (pytest.approx(1e-6 * layer.memory_access_bytes / 0.1), "cache")


def test_weights_larger_than_the_cache_come_from_memory(net: Path) -> None:
    work = work_of(net)
    moved = {}
    for cache in (None, 0, 100, 2**30):
        found = bound(work, replace(KNOWN, cache_bytes=cache), "float32", batch=2)
        assert found is not None
        moved[cache] = found.memory_bytes
    assert moved[None] == work.weight_bytes and moved[2**30] == 0
    assert moved[0] == work.weight_bytes + 2 * sum(work.activations)
    assert 0 < moved[100] < moved[0]


def test_a_gpu_is_not_held_against_the_ceilings_of_the_cpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], net: Path
) -> None:
    monkeypatch.setitem(RUNTIMES, "torch-fake-cuda", Fake())
    both = {False: replace(KNOWN, float32=1e-6), True: replace(KNOWN, threads=0, float32=1e6)}
    monkeypatch.setattr(timing_files, "ceilings", lambda threads, gpu, **_: both[gpu])
    found = time_files([net], ["torch-fake-cuda", "onnxruntime"], [1], seconds=0.05)
    assert [row.entry.runtime for row in found.rows] == ["torch-fake-cuda"]  # the other one beats the CPU's ceiling
    assert "impossible" in found.dropped[0].reason and found.ceilings == {0: both[True], 1: both[False]}
    assert found.rows[0].bound == bound(work_of(net), both[True], "float32")
    show(found)
    assert "the GPU" in capsys.readouterr().out


def test_a_precision_without_a_ceiling_is_not_held_against_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], net: Path
) -> None:
    load = Fake.load

    def half(self: Fake, path: Path, threads: int) -> Program:
        program = load(self, path, threads)
        program.precision = "float16"
        return program

    monkeypatch.setattr(Fake, "load", half)
    found = time_files([net], [fake(monkeypatch)], [1], seconds=0.05)
    assert found.rows[0].bound is None and found.rows[0].roofline is None
    assert found.to_json()["results"][0]["bound_ms"] is None
    show(found)
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("precision", "noise", "passes"),
    [
        ("float32", 1e-4, True), ("float32", 3e-3, False),
        ("bfloat16", 3e-2, True), ("bfloat16", 0.3, False),
        ("int8", 3e-2, True), ("int8", 0.3, False),
    ],
)  # fmt: skip
def test_the_gate(precision: str, noise: float, passes: bool) -> None:
    random = np.random.default_rng(0)
    right = random.standard_normal((4, 100)).astype(np.float32)
    off = right + noise * np.ptp(right) * random.uniform(-1, 1, right.shape).astype(np.float32)
    assert (agreement([off], [right], precision).refused == "") == passes
    assert agreement([right], [right], precision).refused == ""
    assert agreement([np.zeros((1, 3))], [np.zeros((1, 3))], precision).refused == ""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("layers") / "mobilenet.onnx"
    model = create_model("mobilenet_v2", width=0.35, num_classes=4).eval()
    path.write_bytes(export_onnx(fold_batchnorm(model)[0], InputContract(side=64)))
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch", "openvino"])
def test_times_per_layer_are_joined_with_all_macs(monkeypatch: pytest.MonkeyPatch, network: Path, runtime: str) -> None:
    monkeypatch.setattr("swiftlet.timing.entrants.CORE", (runtime,))  # no process to try it first
    if (missing := get_runtime(runtime).missing()) is not None:
        pytest.skip(missing)
    found = time_layers(network, runtime)
    assert found.unjoined == () and found.joined_macs == found.macs == work_of(network).macs
    assert [row.waste_ms for row in found.rows] == sorted((row.waste_ms for row in found.rows), reverse=True)
    joined = sum(row.ms for row in found.rows) + sum(operation.ms for operation in found.own)
    assert joined == pytest.approx(found.total_ms) and all(row.ms >= 0 for row in found.rows)
    assert found.to_json()["layers"][0]["name"] == found.rows[0].name


def test_what_the_runtime_does_not_name_is_not_joined(network: Path) -> None:
    from swiftlet.cost.count import count_onnx
    from swiftlet.cost.screen import read_onnx
    from swiftlet.runtime.operations import Operation

    model = read_onnx(network)
    counted = count_onnx(model)
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    clip = next(node for node in model.graph.node if node.op_type == "Clip")
    found = (
        Operation(name=f"{clip.output[0]}_nchwc", op="Conv", ms=3.0),  # fused: named after what ends it
        Operation(name="ReorderOutput_token_3", op="ReorderOutput", ms=2.0),
        Operation(name="mystery", op="Conv", ms=1.0),
    )
    times, own = timing_layers.join(found, model.graph, counted)
    assert times == {conv.name: 3.0} and [operation.name for operation in own] == ["ReorderOutput_token_3", "mystery"]


def test_runtimes_that_tell_nothing_per_layer_are_refused(network: Path) -> None:
    with pytest.raises(BadInput, match="null gives no times per layer; those that do: onnxruntime"):
        time_layers(network, "null")


def test_zero_weights_are_warned_of(tmp_path: Path) -> None:
    model = onnx.load_from_string(float_net())
    for weight in model.graph.initializer:
        if weight.name == "w":
            weight.CopyFrom(tensor("w", np.zeros((8, 3, 3, 3))))
    path = tmp_path / "dead.onnx"
    path.write_bytes(model.SerializeToString())
    found = time_files([path], ["onnxruntime"], [1], seconds=0.05)
    assert any("1 weights are zero throughout (w)" in note for note in found.notes)


def test_from_photo_to_scores(network: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=2)
    (photos / "broken.png").write_bytes(b"no picture")
    found = time_photos(network, photos, seconds=20)
    assert (found.photos, found.set_aside, found.pixels) == (8, 1, 24 * 20)
    assert list(found.stages) == ["decode", "resize", "network"]
    assert sum(stage.share for stage in found.stages.values()) == pytest.approx(1)
    assert found.total.p50_ms > found.stages["network"].p50_ms > 0
    assert found.to_json()["stages"]["decode"]["p50_ms"] > 0
    with pytest.raises(BadPhotos, match="no such folder"):
        time_photos(network, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadPhotos, match="no photo in it can be used; 0 files end in"):
        time_photos(network, tmp_path / "empty")
