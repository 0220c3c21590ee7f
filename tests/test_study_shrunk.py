"""The studies of what shrinks a network: sparse products, low rank, teachers, precision, bytes of pruned weights."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from swiftlet.compress.factorize import factorize
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.gate import ParityError
from swiftlet.runtime.measurement import Measurement
from swiftlet.study.bench import Bench, Timing
from swiftlet.study.timed import sparse, sparse_products
from swiftlet.study.timed.gemm import Products
from swiftlet.study.trained import compression_curve, distill, low_rank, precision
from swiftlet.study.trial import Arm, Figures, Lesson
from swiftlet.study.trials import Gain, Lab, Trials
from swiftlet.zoo import create_model

QUICK = Bench(runtimes=("onnxruntime", "torch"), quick=True)
ROUNDS = 9


def measured(ms: float, random: np.random.Generator, noise: float = 0.0) -> Measurement:
    rounds = ms * random.lognormal(0, noise, ROUNDS)
    p50 = float(np.median(rounds))
    return Measurement(
        p50_ms=p50, p90_ms=p50, interval_ms=(p50, p50), n=ROUNDS, runtime="", threads=1, batch=1, machine="",
        stable=True, rounds_ms=tuple(rounds.tolist()),
    )  # fmt: skip


# --- sparse -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", sparse_products.PATTERNS)
def test_patterns_have_their_density_and_their_shape(pattern: str) -> None:
    asked = 0.5 if pattern == "2:4" else 0.25
    (weight,) = sparse_products.layers(pattern, 64, asked, 1, seed=0)
    kept = weight != 0
    assert kept.mean() == asked and weight.dtype == np.float32
    assert np.array_equal(weight, sparse_products.layers(pattern, 64, asked, 1, seed=0)[0])
    if pattern == "2:4":
        assert (kept.reshape(64, 16, 4).sum(2) == 2).all()
    for size in (4, 16):
        if pattern == f"{size}x{size} blocks":
            tiles = kept.reshape(64 // size, size, 64 // size, size).mean((1, 3))
            assert set(tiles.ravel().tolist()) == {0.0, 1.0}
    if pattern == "16x1 blocks":
        groups = kept.reshape(4, 16, 64)
        assert (groups == groups[:, :1]).all() and (groups[:, 0].sum(1) == 16).all()


@pytest.mark.parametrize("pattern", sparse_products.PATTERNS)
def test_every_product_gives_what_the_dense_one_gives(pattern: str) -> None:
    weights = sparse_products.layers(pattern, 64, 0.5 if pattern == "2:4" else 0.3, 3, seed=1)
    for product in sparse_products.PRODUCTS[pattern].values():
        of_pictures = sparse_products.chain([product(weight) for weight in weights])
        images = torch.randn(2, 64, 6, 5)
        wanted = images.flatten(2)
        for weight in weights:
            wanted = torch.from_numpy(weight) @ wanted
        torch.testing.assert_close(of_pictures(images), wanted.view_as(images), rtol=1e-4, atol=1e-5)
        sparse.check(Products("it", of_pictures, (64, 6, 6), 1), weights, 64, 6)
        with pytest.raises(ParityError, match="it is off"):
            sparse.check(Products("it", of_pictures, (64, 6, 6), 1), weights[:2], 64, 6)


def test_without_mkl_what_needs_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    left = sparse_products.usable()
    assert list(left) == ["anywhere", "4x4 blocks", "16x16 blocks", "16x1 blocks"]
    assert not [name for products in left.values() for name in products if name in ("torch CSR", "torch BSR")]


def test_equal_times_lie_where_they_were_planted() -> None:
    random = np.random.default_rng(0)
    whole = measured(1.0, random)
    # two products, of which one is the faster in the thin and the other in the dense half
    planted = {d: [measured(12 * d**2, random), measured(4 * d, random)] for d in sparse.DENSITIES}
    found = sparse.crossing(planted, whole)
    assert found.middle == pytest.approx(12**-0.5, rel=0.02) and found.low == found.high == found.middle
    always = sparse.crossing({d: [measured(d, random)] for d in sparse.DENSITIES}, whole)
    never = sparse.crossing({d: [measured(60 * d, random)] for d in sparse.DENSITIES}, whole)
    assert always == (1, 1, 1) and never == (0, 0, 0)
    assert "over 50 %" in str(always) and "under 2 %" in str(never)
    noisy = sparse.crossing({d: [measured(4 * d, random, 0.2)] for d in sparse.DENSITIES}, measured(1.0, random, 0.2))
    assert noisy.low < 0.25 < noisy.high


@pytest.mark.parametrize(("slope", "noise", "verdict"), [(4, 0, "holds"), (20, 0, "fails"), (10, 0.5, "cannot tell")])
def test_sparse_on_planted_times(monkeypatch: pytest.MonkeyPatch, slope: float, noise: float, verdict: str) -> None:
    random = np.random.default_rng(0)

    def times(self: Bench, cases, *, programs, what):  # type: ignore[no-untyped-def]
        timings = [*programs, *(Timing(case.label, runtime) for case in cases for runtime in self.runtimes)]
        ms = {t: 1.0 if t.label == sparse.DENSE else slope * float(t.label.rpartition(" ")[2]) for t in timings}
        return {timing: measured(each, random, noise) for timing, each in ms.items()}

    monkeypatch.setattr(Bench, "times", times)
    found = sparse.run(QUICK)
    assert found.verdict == verdict and "95 %" in found.sentence and found.effect is not None
    if verdict == "holds":
        drawn(sparse, found)


def test_sparse_stays_on_the_cpu() -> None:
    bench = Bench(runtimes=("torch",), quick=True)
    object.__setattr__(bench, "runtimes", ("torch-cuda",))  # which a machine without a GPU refuses
    with pytest.raises(BadInput, match="torch-cuda runs elsewhere"):
        sparse.run(bench)


def test_sparse_runs() -> None:
    found = sparse.run(Bench(runtimes=("onnxruntime",), quick=True, seconds=0.002))
    table = found.measured[0]
    assert set(table.column("weights")) == {*sparse_products.usable(), sparse.DENSE}
    assert min(table.column("x time")) > 0


# --- the studies that train -------------------------------------------------------------------------------------------


def drawn(study: ModuleType, found: object) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    study.draw(found, figure)
    figure.canvas.draw()


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """Pictures of two classes, which no one has to learn."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 64), ("val", 40)):
        np.save(tmp_path / f"{split}-pixels.npy", rng.integers(0, 256, (count, 32, 32, 3), np.uint8))
        np.save(tmp_path / f"{split}-labels.npy", np.arange(count) % 2)
    return Lesson(tmp_path, InputContract(side=32), 2)


def trials(arms: list[str], seeds: list[Figures]) -> Trials:
    results = {(arm, seed): figures for arm in arms for seed, figures in enumerate(seeds)}
    return Trials(results, dict.fromkeys(arms, 10**6), 100, "planted", (1000, 200))


def test_low_rank_measures_networks_within_their_budget(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(low_rank, "SHARES", (0.3,))
    torch.manual_seed(0)
    model = create_model("vgg16", small_input=True, width=0.125, num_classes=2).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = low_rank.measure(2, model, lesson)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    macs = count_model(model, (3, 32, 32)).cost.macs
    assert macs and seen["classes"] == 2
    for method in low_rank.METHODS:
        name = low_rank.name_of(method, 0.3)
        assert 0 <= seen[name] <= 100 and 0 <= seen[f"{name} {low_rank.TUNED}"] <= 100
        again, _ = factorize(model, (3, 32, 32), method=method, ranks=low_rank.ranks_of(seen, name))
        assert count_model(again, (3, 32, 32)).cost.macs == seen[f"{name} MACs"]
        assert 0.25 * macs < seen[f"{name} MACs"] <= 0.3 * macs


def test_low_rank_judges_the_first_budget_that_is_fast_enough() -> None:
    lossless, lossy = Gain(0.1, -0.2, 0.4), Gain(-3.0, -3.5, -2.5)
    fast, slow, doubtful = (2.9, 2.6, 3.1), (1.5, 1.4, 1.6), (2.5, 2.3, 2.7)
    assert low_rank.judged({0.5: slow, 0.3: fast, 0.2: fast}, {0.5: lossy, 0.3: lossless, 0.2: lossy}) == ("holds", 0.3)
    assert low_rank.judged({0.5: slow, 0.3: fast}, {0.5: lossless, 0.3: lossy}) == ("fails", 0.3)
    assert low_rank.judged({0.5: slow, 0.3: slow}, {0.5: lossless, 0.3: lossless})[0] == "fails"
    assert low_rank.judged({0.5: slow, 0.3: doubtful}, {0.5: lossless, 0.3: lossless}) == ("cannot tell", 0.3)


def test_low_rank_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def planted(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        figures = {"classes": 2.0, "accuracy": 80.0, f"whole {low_rank.TUNED}": 81.0}
        for method in low_rank.METHODS:
            for share in low_rank.SHARES:
                name = low_rank.name_of(method, share)
                figures |= {name: 79.0, f"{name} {low_rank.TUNED}": 81.1, f"{name} MACs": 1e6 * share}
                figures |= {f"{name} rank stages.1.0.0 {place}": 2.0 for place in range(1 + (method == "tucker"))}
        accuracies = [key for key, value in figures.items() if 70 < value < 100]
        seeds = [figures | {key: figures[key] + random.normal(0, 0.01) for key in accuracies} for _ in range(3)]
        return trials(["whole"], seeds)

    def times(self: Bench, cases, **_: object):  # type: ignore[no-untyped-def]
        ms = {case.label: 1.0 if case.label == "whole" else float(case.label.split()[1]) for case in cases}
        return {Timing(label, runtime): measured(ms[label], random) for label in ms for runtime in self.runtimes}

    monkeypatch.setattr(Lab, "trials", planted)
    monkeypatch.setattr(Bench, "times", times)
    found = low_rank.run(QUICK, Lab(data=tmp_path, folder=tmp_path))
    assert found.verdict == "holds" and "30 %" in found.sentence and "3.33x" in found.sentence, found.sentence
    drawn(low_rank, found)


@pytest.mark.parametrize(("points", "verdict"), [(2.0, "holds"), (-2.0, "fails"), (0.0, "cannot tell")])
def test_distill_on_planted_accuracies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, points: float, verdict: str
) -> None:
    random = np.random.default_rng(0)

    def planted(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        alone, taught, alone_few, taught_few = arms
        assert taught.teacher == taught_few.teacher and taught.teacher is not None and taught.teacher.share == 1
        assert alone._replace(label="", teacher=taught.teacher) == taught._replace(label="")
        assert alone_few._replace(label="", share=1.0) == alone._replace(label="")
        assert taught_few._replace(label="", share=1.0) == taught._replace(label="")
        results = {
            (arm.label, seed): {"accuracy": 70 + points * (arm == taught) + random.normal(0, 0.1)}
            for arm in arms
            for seed in range(3)
        }
        results["teacher", 0] = {"accuracy": 88.0}
        return Trials(results, {arm.label: 10**6 for arm in arms}, 100, "planted", (1000, 200))

    monkeypatch.setattr(Lab, "trials", planted)
    found = distill.run(Lab(data=tmp_path, folder=tmp_path))
    assert found.verdict == verdict and "88.0 %" in found.sentence
    if verdict == "holds":
        drawn(distill, found)


def test_precision_measures_every_file(lesson: Lesson) -> None:
    torch.manual_seed(0)
    model = create_model("resnet20", width=0.25, num_classes=2).eval()
    seen = precision.measure(2, model, lesson)
    names = precision.precisions()
    assert seen.keys() == {f"{name} {what}" for name in names for what in ("accuracy", "KB", "packed KB")}
    assert list(dict.fromkeys(key.rsplit(" accuracy")[0] for key in seen if key.endswith("accuracy"))) == list(names)
    size = {name: seen[f"{name} KB"] for name in names}
    assert size["float32"] > size["bfloat16"] > size["int8"] and size["bfloat16"] >= size["float16"]
    packed = [seen[f"{precision.weights(bits)} packed KB"] for bits in precision.BITS]
    assert packed == sorted(packed, reverse=True)
    assert seen["shared 2 bits packed KB"] < seen["shared 8 bits packed KB"] < seen["float32 packed KB"]


@pytest.mark.parametrize(("loss", "verdict"), [(0.1, "holds"), (2.0, "fails"), (0.5, "cannot tell")])
def test_precision_on_planted_accuracies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loss: float, verdict: str
) -> None:
    random = np.random.default_rng(0)

    def planted(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        found = []
        for _ in range(3):
            figures: Figures = {}
            for name in precision.precisions():
                lost = loss if name == "int8" else 30.0 if name == "weights 3 bits" else 0.0
                figures[f"{name} accuracy"] = 80 - lost + random.normal(0, 0.03)
                figures[f"{name} KB"] = figures[f"{name} packed KB"] = 25.0 if name == "int8" else 100.0
            found.append(figures)
        return trials([arm.label for arm in arms], found)

    monkeypatch.setattr(Lab, "trials", planted)
    found = precision.run(Lab(data=tmp_path, folder=tmp_path))
    assert found.verdict == verdict and "down to 4 bits" in found.sentence, found.sentence
    assert found.effect is not None and found.effect.value == pytest.approx(4) and found.effect.low == pytest.approx(4)
    if verdict == "holds":
        drawn(precision, found)


def test_compression_curve_measures_every_stage(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression_curve, "DENSITIES", (1.0, 0.2))
    torch.manual_seed(0)
    model = create_model("mobilenet_v1", width=0.25, stem_stride=1, num_classes=2).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = compression_curve.measure(4, model, lesson)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    floats = seen["floats bytes"]
    pruned, shared, coded, container = (seen[f"0.2 {stage} bytes"] for stage in compression_curve.STAGES[1:])
    assert floats > pruned > shared > coded and container < shared
    assert seen["1 container bytes"] < 0.25 * floats and container < 0.5 * seen["1 container bytes"]
    assert all(0 <= value <= 100 for name, value in seen.items() if name.endswith("accuracy"))


@pytest.mark.parametrize(("loss", "verdict"), [(0.1, "holds"), (2.0, "fails"), (0.5, "cannot tell")])
def test_compression_curve_on_planted_accuracies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loss: float, verdict: str
) -> None:
    random = np.random.default_rng(0)

    def planted(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        found = []
        for _ in range(3):
            figures: Figures = {"accuracy": 79.0, "control accuracy": 80 + random.normal(0, 0.03), "floats bytes": 1e5}
            for density in compression_curve.DENSITIES:
                lost = loss if density == 0.33 else 9.0 if density < 0.33 else 0.0
                figures[f"{density:g} pruned accuracy"] = 80.0
                figures[f"{density:g} shared accuracy"] = 80 - lost + random.normal(0, 0.03)
                figures |= {f"{density:g} {stage} bytes": 3e4 * density for stage in compression_curve.STAGES[1:]}
            found.append(figures)
        return trials([arm.label for arm in arms], found)

    monkeypatch.setattr(Lab, "trials", planted)
    found = compression_curve.run(Lab(data=tmp_path, folder=tmp_path))
    assert found.verdict == verdict and "33 % of its weights" in found.sentence, found.sentence
    assert found.effect is not None and found.effect.value == pytest.approx(1e5 / 3e4 / 0.33)
    if verdict == "holds":
        drawn(compression_curve, found)


def test_compression_curve_fails_where_nothing_is_small_enough() -> None:
    none = Gain(0.0, -0.1, 0.1)
    curve = [compression_curve.Point(density, none, 3 / density**0.3) for density in compression_curve.DENSITIES]
    verdict, at = compression_curve.judged(curve)
    assert verdict == "fails" and at.density == 0.1 and compression_curve.lossless(curve) == at
