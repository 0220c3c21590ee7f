"""Networks of equal cost, ghosts and redundant maps: the arms differ in what is said, and planted answers are found."""

import io
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from test_studies import macs
from test_studies import plant as plant_times
from test_trials import plant as plant_accuracies
from torch import nn
from torch.nn import functional as F

from swiftlet.cost.count import count
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.study.bench import Bench, Case, Timing
from swiftlet.study.finding import Finding
from swiftlet.study.trained import equal, families, ghost, map_pairs, maps, redundancy, thin_or_shallow
from swiftlet.study.trial import Arm, Figures, Lesson
from swiftlet.study.trials import Lab, Trials

BENCH = Bench(runtimes=("onnxruntime",), quick=True)


def drawn(study: ModuleType, finding: Finding) -> bytes:
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    study.draw(finding, figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=40)
    return buffer.getvalue()


# --- networks of equal cost -------------------------------------------------------------------------------------------


def plain(width: int, *, num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))


def networks(kind: str, widths: range) -> list[equal.Network]:
    return [
        equal.Network(f"{kind} {width}", lambda *, num_classes, width=width: plain(width, num_classes=num_classes), 8)
        for width in widths
    ]


def test_the_nearest_are_chosen_kept_and_not_mixed_with_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(timing: Timing, case: Case | None) -> float:
        return macs(timing, case) * (4 if timing.label.startswith("slow") else 1)

    (reference,) = networks("reference", range(32, 33))
    kinds = {"slow": networks("slow", range(4, 40, 2)), "same": networks("same", range(29, 40, 2))}
    lab = Lab(data=tmp_path, folder=tmp_path / "x.trials")
    plant_times(monkeypatch, slow)
    matched = equal.match(BENCH, lab, reference, kinds)
    assert matched.labels["slow"] == {"MACs": "slow 32", "ms": "slow 8"}
    assert matched.labels["same"] == {"MACs": "same 33", "ms": "same 33"}
    assert [matched.equal(label) for label in matched.prices] == ["", "ms", "MACs", "MACs and ms"]
    assert matched.prices["slow 8"].x_time == pytest.approx(1, rel=0.01)
    assert matched.prices["slow 32"].x_time == pytest.approx(4, rel=0.01)
    assert matched.prices["slow 8"].x_macs == pytest.approx(0.25, rel=0.01)
    assert matched.notes == ()
    far = equal.match(BENCH, Lab(data=tmp_path, folder=tmp_path / "y.trials"), reference, {"slow": kinds["slow"][:2]})
    assert "slow 6 has 0.19x the MACs, slow 6 has 0.75x the ms" in far.notes[0]

    monkeypatch.setattr(Bench, "times", None)
    assert equal.match(BENCH, lab, reference, kinds) == matched, "what is kept is not timed again"
    with pytest.raises(BadInput, match="runtime"):
        equal.match(Bench(runtimes=("torch",)), lab, reference, kinds)


def nearest(widths: Sequence[float], times: Callable[[float], float]) -> float:
    """Of a cost that grows with the width, as times what is wanted."""
    at = bisect_left(widths, 1.0, key=times)
    assert 0 < at < len(widths), "the widths lie on either side"
    return min((times(width) for width in widths[at - 1 : at + 1]), key=lambda ratio: abs(ratio - 1))


# --- thin or shallow --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", thin_or_shallow.WIDTHS)
def test_thin_and_shallow_cost_what_few_pixels_cost(shape: str) -> None:
    few = count(thin_or_shallow.network(thin_or_shallow.WIDTH, num_classes=10), (3, 24, 24)).macs
    inside = thin_or_shallow.with_fewer_pixels(thin_or_shallow.WIDTH, 24, num_classes=10)
    assert count(inside, (3, 32, 32)).macs == few, "making pictures smaller is not counted"

    def times(width: float) -> float:
        model = thin_or_shallow.network(width, num_classes=10, shallow=shape == "shallow")
        return count(model, (3, 32, 32)).macs / few

    assert abs(nearest(thin_or_shallow.widths(shape), times) - 1) < 0.015


def test_fewer_pixels_are_the_network_on_smaller_pictures() -> None:
    torch.manual_seed(0)
    model = thin_or_shallow.with_fewer_pixels(0.1, 24, num_classes=3).eval()
    flat = torch.randn(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(model(flat), model.network(flat[..., :24, :24]))


# --- families ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.FAMILIES)
def test_every_family_halves_four_times_and_can_meet_the_reference(family: str) -> None:
    facts = families.FAMILIES[family]
    wanted = count(families.build("mobilenet_v2", families.REFERENCE_WIDTH, num_classes=10), (3, 32, 32)).macs

    def times(width: float) -> float:
        return count(families.build(facts.network, width, num_classes=10), (3, 32, 32)).macs / wanted

    if family != families.REFERENCE:
        assert abs(nearest(facts.widths, times) - 1) < 0.05
    model = families.build(facts.network, facts.widths[0], num_classes=10).eval()
    sides: list[int] = []
    model.get_submodule("pool").register_forward_pre_hook(lambda _module, inputs: sides.append(inputs[0].shape[-1]))
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert sides == [2]


# --- verdicts on planted accuracies -----------------------------------------------------------------------------------


def best_arms(study: ModuleType, lab: Lab) -> str:
    """The arm that the claim says is better, of a study that has a bench: its first one at equal MACs."""
    accuracies = study.run(BENCH, lab).measured
    return next(str(arm) for arm in accuracies[0].column("arm") if str(arm).startswith("thin"))


def test_verdicts_of_thin_or_shallow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_times(monkeypatch, macs)
    lab = Lab(data=tmp_path, folder=tmp_path / "x.trials", quick=True)
    plant_accuracies(monkeypatch, "", 0, 0.1)
    thin = best_arms(thin_or_shallow, lab)
    for points, noise, verdict in ((2.0, 0.1, "holds"), (-2.0, 0.1, "fails"), (0.1, 1.0, "cannot tell")):
        plant_accuracies(monkeypatch, thin, points, noise)
        found = thin_or_shallow.run(BENCH, lab)
        assert found.verdict == verdict and "95 %" in found.sentence
    assert drawn(thin_or_shallow, found).startswith(b"\x89PNG")


def test_verdicts_of_families(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_times(monkeypatch, macs)
    lab = Lab(data=tmp_path, folder=tmp_path / "x.trials", quick=True)
    newer = [family for family, facts in families.FAMILIES.items() if facts.newer]

    def planted(points: float, noise: float) -> Finding:
        rng = np.random.default_rng(1)

        def trials(self: Lab, arms: list[Arm], *, side: int) -> Trials:
            results = {
                (arm.label, seed): {"accuracy": 70 + points * arm.label.startswith(tuple(newer)) + rng.normal(0, noise)}
                for arm in arms
                for seed in range(3)
            }
            return Trials(results, {arm.label: 10**6 for arm in arms}, 100, "planted", (1000, 200))

        monkeypatch.setattr(Lab, "trials", trials)
        return families.run(BENCH, lab)

    assert len(newer) == 3
    assert planted(2.0, 0.1).verdict == "holds" and planted(-2.0, 0.1).verdict == "fails"
    found = planted(0.1, 2.0)
    assert found.verdict == "cannot tell"
    assert sorted(found.measured[0].column("place, equal MACs")) == [1, 2, 3, 4, 5, 6]
    assert drawn(families, found).startswith(b"\x89PNG")


# --- ghosts -----------------------------------------------------------------------------------------------------------


def test_ghosts_have_half_of_the_macs_and_the_thinner_network_as_many() -> None:
    cost = {label: count(ghost.network(label, num_classes=10), (3, 32, 32)).macs for label in ghost.ARMS}
    assert cost[ghost.GHOST] / cost[ghost.PLAIN] == pytest.approx(0.53, abs=0.03)
    assert cost[ghost.THINNER] / cost[ghost.GHOST] == pytest.approx(1, abs=0.01)
    assert cost["copies"] < cost["s=2, d=1"] < cost["1x1 in groups"] < cost[ghost.GHOST] < cost["s=2, d=5"]
    assert cost["cosines"] == cost["shifts"] == cost[ghost.GHOST]
    assert cost[ghost.GHOST] > cost["s=3, d=3"] > cost["s=4, d=3"] > cost["s=5, d=3"]


def test_kinds_of_ghosts_differ_in_the_cheap_part_alone() -> None:
    def rest(label: str) -> dict[str, torch.Size]:
        state = ghost.network(label, num_classes=10).state_dict()
        return {name: tensor.shape for name, tensor in state.items() if ".cheap." not in name}

    for label in ("s=2, d=1", "s=2, d=7", "copies", "shifts", "cosines", "1x1 in groups"):
        assert rest(label) == rest(ghost.GHOST), label
    copies = ghost.network("copies", num_classes=10).eval()
    first = copies.get_submodule("stem")(torch.randn(1, 3, 8, 8))
    torch.testing.assert_close(first[:, :8], first[:, 8:])
    grouped = ghost.network("1x1 in groups", num_classes=10)
    linear, active = (grouped.get_submodule(f"blocks.0.ghost{i}.cheap") for i in (2, 1))
    assert len(linear) == 2 and isinstance(active[-1], nn.ReLU)  # type: ignore[arg-type, index]


# --- redundant maps ---------------------------------------------------------------------------------------------------


def planted_maps(seed: int) -> torch.Tensor:
    """Noise; noise; a filter of map 0 behind a little noise; nothing; map 1 times -2 plus 5."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(24, 2, 16, 16, generator=rng)
    kernel = torch.tensor([[0.0, 1, 0], [-2, 0.5, 0], [0, 0, 3]]).view(1, 1, 3, 3)
    made = F.conv2d(x[:, :1], kernel, padding=1) + 0.05 * torch.randn(24, 1, 16, 16, generator=rng)
    return torch.cat([x, made + 7, torch.zeros_like(made), 5 - 2 * x[:, 1:]], 1)


def test_what_is_a_filter_of_what() -> None:
    found = maps.relations(planted_maps(0), planted_maps(1), (1, 3, 5))
    assert found[3].alive.tolist() == [True, True, True, False, True]
    sources = maps.best_sources(found[3])
    assert (sources[2], sources[1], sources[4]) == (0, 4, 1)
    assert found[3].held_out[0, 2] > 0.99 and found[5].held_out[0, 2] > 0.99
    assert found[1].held_out[0, 2] < 0.1, "one weight cannot say what nine do"
    assert found[1].held_out[1, 4] > 0.99, "affine maps are filters of 1x1"
    assert found[3].held_out[1, 2].abs() < 0.1 and found[3].held_out[0, 1].abs() < 0.1
    assert (found[3].fitted <= found[5].fitted + 1e-9)[:, [0, 1, 2, 4]].all(), "more weights fit no worse"
    assert len(maps.best_r2(found[3])) == 4
    half = maps.half_from_half(found[3])
    assert len(half) == 2 and (half > 0.99).all(), "2 of 0, and 1 of 4 or 4 of 1"
    together = maps.from_all(planted_maps(0), planted_maps(1))
    assert together.tolist()[1::2] == pytest.approx([1, 1]) and together[0] < 0.5, "1 and 4 by one another"
    astray = maps.relations(planted_maps(0), planted_maps(1), (3,), astray=True)[3]
    assert maps.best_r2(astray).max() < 0.1


def test_the_filter_makes_the_map() -> None:
    (fit, others), _ = maps.standardised(planted_maps(0), planted_maps(1))
    relation = maps.relations(planted_maps(0), planted_maps(1), (3,))[3]
    made = maps.made_from(others[:, 0], relation.filters[0, :, 2])
    assert float((made - others[:, 2]).square().mean()) < 0.01
    assert fit.std((0, 2, 3))[[0, 1, 2, 4]].tolist() == pytest.approx([1] * 4)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Figures:
    """Of a network that knows nothing."""
    folder = tmp_path_factory.mktemp("lesson")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (24, 4, 4, 3), np.uint8)
    np.save(folder / "val-pixels.npy", coarse.repeat(8, 1).repeat(8, 2))
    np.save(folder / "val-labels.npy", np.arange(24) % 2)
    torch.manual_seed(0)
    model = redundancy.create_model("resnet20", width=0.25, num_classes=2).eval()
    return redundancy.measure(model, Lesson(folder, InputContract(side=32), 2))


def test_controls_are_another_network_and_other_pictures(measured: Figures) -> None:
    assert measured["astray"] == 0, "pictures of noise have nothing in common"
    layers = [name for name in measured if name.startswith("trained layer")]
    assert len(layers) == 19 * 4 and all(measured[name] != measured[f"{redundancy.DEALT}{name[7:]}"] for name in layers)
    assert 0 <= measured["trained 1"] <= measured["trained 3"] <= 100
    model = redundancy.create_model("resnet20", width=0.25, num_classes=2).eval()
    images = torch.randn(4, 3, 32, 32)
    dealt = redundancy.dealt_anew(model, images)
    for old, new in zip(model.parameters(), dealt.parameters(), strict=True):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
    assert not torch.equal(model(images), dealt(images))


def test_verdicts_on_planted_shares(measured: Figures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def planted(share: float, noise: float) -> Finding:
        def trials(self: Lab, arms: list[Arm], *, side: int) -> Trials:
            results = {
                (arms[0].label, seed): measured | {"accuracy": 80.0, "trained 3": share + noise * (seed - 1)}
                for seed in range(3)
            }
            return Trials(results, {arms[0].label: 10**6}, 100, "planted", (1000, 200))

        monkeypatch.setattr(Lab, "trials", trials)
        return redundancy.run(Lab(data=tmp_path, folder=tmp_path))

    assert planted(60, 0.5).verdict == "holds" and planted(40, 0.5).verdict == "fails"
    found = planted(52, 3)
    assert found.verdict == "cannot tell" and "52.0 % (95 %" in found.sentence
    layers, pairs, greys = found.measured[1:]
    assert len(layers.rows) == 19 and len(greys.rows) == 16 and len(greys.columns) == 9
    assert {len(str(line)) for row in greys.rows for line in row} == {16}
    assert pairs.column("R2") == sorted(pairs.column("R2"), reverse=True)
    assert pairs.column("pair") == list(map_pairs.PAIRS)
    assert drawn(redundancy, found).startswith(b"\x89PNG")
