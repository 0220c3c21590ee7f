"""Latency predicted from tables: the kernels found, what is interpolated, what is promised, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from swiftlet.cli.measure import count
from swiftlet.cli.study import study
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import quantize
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.onnx import export_layers
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.runtime.interpolate import fit, numbers
from swiftlet.runtime.kernel_times import Profile
from swiftlet.runtime.kernels import Kernel, kernels, optimised
from swiftlet.runtime.machine import machine
from swiftlet.runtime.predict import predict, predict_kernels
from swiftlet.runtime.tables import Timed, fitted, load_tables, tables_path
from swiftlet.study.networks import BLOCKS, families, random_network
from swiftlet.study.tables import HELD_OUT, make_tables
from swiftlet.study.visits import Reference, Visit, Visited, visit_all

X86 = any(flag.startswith("avx") for flag in machine().flags)
blocked = pytest.mark.skipif(not X86, reason="ONNX Runtime lays channels out in blocks on x86 only")


# --- kernels ------------------------------------------------------------------------------------------------------


def block(c: int = 32, precision: str = "float32") -> onnx.ModelProto:
    torch.manual_seed(0)
    plain, _ = fold_batchnorm(nn.Sequential(conv_bn(c, c, 3), InvertedResidual(c, 2 * c, c), nn.MaxPool2d(2)).eval())
    if precision == "int8":
        plain, _ = quantize(plain, [torch.randn(2, c, 14, 14)])
    return optimised(export_layers(plain, (c, 14, 14)))


@blocked
def test_what_the_optimiser_fuses_is_one_kernel():
    found = kernels(block())
    kinds = [kernel.kind for kernel in found if "Reorder" not in kernel.kind]
    forms = ["Conv dense", "Conv pointwise", "Conv depthwise", "Conv pointwise", "MaxPool"]
    assert kinds == [f"{form} blocked float" for form in forms]
    _, expand, depthwise, project = (kernel for kernel in found if kernel.macs)
    assert (expand.macs, depthwise.macs, project.macs) == (14**2 * 32 * 64, 14**2 * 64 * 9, 14**2 * 64 * 32)
    assert [kernel.sizes[-2:] for kernel in (expand, project)] == [(1, 2), (2, 0)]  # (tensors read, a Clip or nothing)
    assert project.reads == 4 * 14**2 * (64 + 32) and project.writes == 4 * 14**2 * 32
    assert found[-1].writes == 4 * 7**2 * 32 or found[-2].writes == 4 * 7**2 * 32  # after the pool


@blocked
def test_channels_climb_a_staircase():
    def macs(c: int) -> int:
        layers = nn.Sequential(nn.Conv2d(16, c, 3), nn.ReLU(), nn.Conv2d(c, 16, 3)).eval()
        return sum(kernel.macs for kernel in kernels(optimised(export_layers(layers, (16, 12, 12)))))

    step = 16 if "avx512f" in machine().flags else 8
    work = [macs(c) for c in (step + 4, 2 * step, 2 * step + 4)]
    assert work[0] == work[1] < work[2]
    assert work == [c * 16 * 9 * (10**2 + 8**2) for c in (2 * step, 2 * step, 3 * step)]


def test_integer_kernels_are_told_from_float_ones():
    kinds = {kernel.kind for kernel in kernels(block(precision="int8"))}
    assert "Conv depthwise channels-last uint8" in kinds or "Conv depthwise uint8" in kinds
    assert kinds.isdisjoint(kernel.kind for kernel in kernels(block()) if kernel.macs)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_runtime_runs_these_kernels_and_no_others(precision: str):
    graph = block(precision=precision)
    picture = np.random.default_rng(0).standard_normal((1, 32, 14, 14), np.float32)
    profile = Profile(graph.SerializeToString(), threads=1)
    profile.run(picture, 3)
    profile.run(picture, 2)
    times = profile.close()
    assert times.keys() == {kernel.name for kernel in kernels(graph)} and all(us >= 0 for us in times.values())


# --- curves and tables from planted times -------------------------------------------------------------------------

PROFILER_US, NOISE = 2.5, 0.03


def planted(kind: str, channels: int, pixels: int) -> tuple[Kernel, float]:
    """A kernel that works on whole blocks of 16 channels, and its true microseconds."""
    whole = -(-channels // 16) * 16
    macs = whole * whole * pixels if kind == "dense" else 9 * whole * pixels
    weights = 4 * whole * (whole if kind == "dense" else 9)
    kernel = Kernel("", kind, macs, 4 * whole * pixels, weights, 4 * whole * pixels, (0, 0), (whole, pixels))
    rate = 30e3 if kind == "dense" else 6e3 * (1 - math.exp(-whole / 40))  # MACs per microsecond
    return kernel, 0.5 + macs / rate + 8 * whole * pixels / 2e4


def network(seed: int, extra: str | None = None) -> Timed:
    rng = np.random.default_rng(seed)
    made = [
        planted(str(rng.choice(["dense", "depthwise"])), int(rng.integers(8, 300)), int(rng.choice([49, 196, 784])))
        for _ in range(int(rng.integers(5, 40)))
    ]
    if extra:
        kernel, us = planted("dense", 64, 196)
        made.append((kernel._replace(kind=extra), us))
    profiled = [(us + PROFILER_US) * math.exp(0.02 * rng.standard_normal()) for _, us in made]
    ms = (8 + sum(us for _, us in made)) / 1000 * math.exp(NOISE * rng.standard_normal())
    return Timed("float32", tuple(kernel for kernel, _ in made), tuple(profiled), ms)


@pytest.fixture(scope="module")
def tables():
    return fitted("planted", [network(i) for i in range(150)], 0.07)


def test_curves_go_through_what_was_measured_and_climb_the_stairs():
    made = [planted("depthwise", 16 * i, pixels) for i in range(1, 20, 2) for pixels in (49, 196, 784)]
    points, us = np.array([numbers(kernel) for kernel, _ in made]), np.array([us for _, us in made])
    curve = fit(points, us)
    at, variance = curve.predict([kernel for kernel, _ in made])
    np.testing.assert_allclose(at, us, rtol=0.02)
    between = [planted("depthwise", c, 400) for c in range(17, 289)]
    guessed, _ = curve.predict([kernel for kernel, _ in between])
    np.testing.assert_allclose(guessed, [us for _, us in between], rtol=0.05)
    assert (np.diff(guessed) >= 0).all() and len(np.unique(guessed.round(9))) == 17  # a stair for each block
    _, far = curve.predict([planted("depthwise", 3000, 40000)[0]])
    assert far[0] > 4 * variance.max()


def test_the_interval_holds_what_it_promises(tables):
    new = [network(seed) for seed in range(HELD_OUT, HELD_OUT + 400)]
    found = [predict_kernels(n.kernels, "float32", tables=tables) for n in new]
    errors = np.array([p.ms / n.ms - 1 for p, n in zip(found, new, strict=True)])
    inside = np.mean([p.low <= n.ms <= p.high for p, n in zip(found, new, strict=True)])
    assert np.median(np.abs(errors)) < 0.03 and np.mean(np.abs(errors) < 0.1) > 0.98
    assert 0.85 <= inside <= 0.97
    assert all(p.covered == 1 and p.unknown == {} and p.low < p.ms < p.high for p in found)
    assert np.median([p.high / p.low for p in found]) < 1.15  # and it is no wider than the noise makes it


def test_kinds_without_times_are_named_and_leave_a_lower_bound(tables):
    known = network(7)
    whole = predict_kernels(known.kernels, "float32", tables=tables)
    odd = network(7, extra="Swirl float")
    found = predict_kernels(odd.kernels, "float32", tables=tables)
    assert found.unknown == {"Swirl float": 1} and found.covered == pytest.approx(1 - 1 / len(odd.kernels))
    assert found.ms == pytest.approx(whole.ms) and math.isinf(found.high) and found.to_json()["high"] is None
    assert str(found).startswith("more than") and "1 x Swirl float" in str(found)
    longer = known.kernels[0]._replace(sizes=(1, 2, 3))  # of a known kind, but not what its curve is made of
    assert predict_kernels([longer], "float32", tables=tables).covered == 0


def test_tables_survive_the_disk(tables, tmp_path: Path):
    path = tmp_path / "deep" / "tables.json"
    tables.save(path)
    again = load_tables(path)
    assert again.to_json() == tables.to_json()
    for seed in range(5):
        kernels_ = network(seed).kernels
        before, after = (predict_kernels(kernels_, "float32", tables=t) for t in (tables, again))
        assert after.ms == pytest.approx(before.ms, rel=1e-3) and after.high == pytest.approx(before.high, rel=1e-3)


def test_damaged_tables_are_refused(tables, tmp_path: Path):
    path = tmp_path / "tables.json"
    tables.save(path)
    good = json.loads(path.read_text())
    curve = good["curves"]["dense"]
    nothing = {"dense": curve | {"us": curve["us"][1:]}}
    negative = {"dense": curve | {"us": [-1.0] * len(curve["us"])}}
    short = {"dense": curve | {"shape": curve["shape"][1:]}}
    broken = [
        "", "[]", "{", path.read_text()[:-200], *(json.dumps(good | {"curves": c}) for c in (nothing, negative, short)),
        json.dumps(good | {"format": 99}), json.dumps(good | {"corrections": {}}), json.dumps({"format": 1}),
    ]  # fmt: skip
    for i, text in enumerate(broken):
        bad = tmp_path / f"{i}.json"
        bad.write_text(text)
        with pytest.raises(BadFile, match="measure again with: swiftlet study tables"):
            load_tables(bad)
    with pytest.raises(BadInput, match="measure them, in some minutes, with: swiftlet study tables"):
        load_tables(tmp_path / "none.json")


def test_what_cannot_be_predicted_is_refused(tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert tables_path().parent == tmp_path / "swiftlet" and tables_path(threads=2) != tables_path()
    file = export_layers(nn.Sequential(nn.Conv2d(16, 16, 3)).eval(), (16, 8, 8))
    with pytest.raises(BadInput, match="no kernel times are known"):
        predict(file)
    with pytest.raises(BadInput, match="'null': it does not tell which kernels"):
        predict(file, runtime="null")
    with pytest.raises(BadInput, match="threads=0"):
        predict(file, threads=0)
    with pytest.raises(BadInput, match="the file is float16, and the tables know float32"):
        predict_kernels(network(0).kernels, "float16", tables=tables)
    with pytest.raises(BadInput, match="no kernels"):
        predict_kernels([], "float32", tables=tables)
    with pytest.raises(BadFile, match="empty"):
        predict(b"", tables=tables)
    twice = onnx.load_from_string(file)
    twice.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    with pytest.raises(BadFile, match="a prediction is given networks of one picture"):
        predict(twice.SerializeToString(), tables=tables)
    with pytest.raises(BadInput, match="too few for tables"):
        fitted("here", [network(i) for i in range(10)], 0.07)
    with pytest.raises(BadInput, match="1 times for"):
        fitted("here", [network(0)._replace(us=(1.0,))], 0.07)
    with pytest.raises(BadInput, match="minutes=0"):
        make_tables(minutes=0)


# --- visits -------------------------------------------------------------------------------------------------------


def test_only_visits_at_rest_count(tmp_path: Path):
    here = Visited(random_network(families().index("lenet5")), "float32", "onnxruntime", 1, tmp_path / "net")
    n = len(here.kernels)
    here.visits = [
        Visit(1.0, [1.0] * n, 0.071), Visit(1.6, [9.0] * n, 0.095), Visit(1.2, [3.0] * n, 0.070),
    ]  # fmt: skip
    assert here.timed(0.07) == Timed("float32", here.kernels, (2.0,) * n, 1.1, disturbed=False)
    assert here.timed(0.06) == Timed("float32", here.kernels, (3.0,) * n, 1.2, disturbed=True)  # the calmest
    reference = Reference("onnxruntime", 1)
    here.visits.clear()
    rest = visit_all([here], reference, until=0.0)
    assert len(here.visits) == 3 and 0 < rest <= max(visit.reference_ms for visit in here.visits)
    assert all(visit.ms > 0 and len(visit.us) == n and min(visit.us) >= 0 for visit in here.visits)


# --- random networks ----------------------------------------------------------------------------------------------


def test_random_networks_are_random_and_always_the_same():
    turn = families().index(BLOCKS)
    first, again, held_out = (random_network(i) for i in (turn, turn, HELD_OUT + turn))
    assert first.family == BLOCKS and first.side == again.side
    for a, b in zip(first.module.state_dict().values(), again.module.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert len(families()) > 40
    shapes = [tuple(p.shape) for p in first.module.parameters()]
    assert shapes != [tuple(p.shape) for p in held_out.module.parameters()]
    small = random_network(families().index("lcnet"))
    assert small.module(torch.zeros(1, 3, small.side, small.side)).ndim == 2 and not small.module.training


@pytest.mark.slow
def test_from_measuring_to_a_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made, path = make_tables(minutes=1.0)
    assert path == tables_path() and path.is_file() and sum(made.networks.values()) >= 15
    found = predict(export_layers(nn.Sequential(nn.Conv2d(16, 32, 3), nn.ReLU()).eval(), (16, 20, 20)))
    assert 0 < found.low < found.ms < found.high and found.precision == "float32"


def test_the_command_says_what_was_measured(tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    asked = []
    monkeypatch.setattr("swiftlet.study.tables.make_tables", lambda **how: (asked.append(how), (tables, tmp_path))[1])
    assert study("tables", threads=2, quick=True) == 0
    out = capsys.readouterr().out
    assert "float32   150 networks" in out and f"file      {tmp_path}" in out
    assert (asked[0]["threads"], asked[0]["runtime"], asked[0]["minutes"]) == (2, "onnxruntime", 1.0)
    assert study("tables", json_=True) == 0
    assert json.loads(capsys.readouterr().out)["tables"][0]["networks"] == {"float32": 150}


def test_count_predicts_when_asked(tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "net.onnx"
    path.write_bytes(export_layers(nn.Sequential(nn.Conv2d(16, 16, 3)).eval(), (16, 8, 8)))
    for model in (str(path), "lenet5"):
        with pytest.raises(BadInput, match="swiftlet study tables"):
            count(model, predict=True)
    tables.save(tables_path())
    expected = predict(path)
    for model in (str(path), "lenet5"):
        assert count(model, predict=True) == 0
        assert " ms predicted" in capsys.readouterr().out.splitlines()[-1]
    assert count(str(path), predict=True, json_=True) == 0
    assert json.loads(capsys.readouterr().out)["predicted"] == json.loads(json.dumps(expected.to_json()))
