"""Studies of MobileNet V2 and V3 that train: variants differ in what is said alone; measures and verdicts are right."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_studies import macs as time_of_macs
from test_studies import plant as plant_times
from torch import Tensor, nn

from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.study import STUDIES, get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import png
from swiftlet.study.trained import activations_trained, dead_features, expansion, shortcut, v3_ends
from swiftlet.study.trained.claims import together
from swiftlet.study.trained.int8_accuracy import in_int8
from swiftlet.study.trial import Arm, Figures, Lesson, moment
from swiftlet.study.trials import Gain, Lab, Trials

OURS = ("shortcut", "expansion", "v3-ends", "activations-trained", "dead-features")
SMALL = (3, 32, 32)


def seeded(build: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> Any:
    torch.manual_seed(0)
    return build(*args, num_classes=10, **kwargs)


def weights(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.dim() > 1]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


# --- variants ---------------------------------------------------------------------------------------------------------


def test_thin_and_wide_shortcuts_are_as_many_and_cost_as_much() -> None:
    thin, none = (seeded(shortcut.network, kind) for kind in ("identity", "none"))
    for before in (True, False):
        wide = seeded(shortcut.wide, before)
        joined = [i for i, block in enumerate(wide.stages.blocks) if block.shortcut is not None]
        assert wide.stages.joins.count(True) == len(joined) == 10
        assert len(wide.stages.blocks) - 1 not in joined, "its shortcut would lead nowhere"
        assert same(wide, thin) and same(wide, none)
        costs = [count_model(model, SMALL).cost for model in (thin, wide, none)]
        assert len({(cost.macs, cost.params) for cost in costs}) == 1


@pytest.mark.parametrize("before", [True, False])
def test_a_wide_shortcut_joins_what_two_neighbours_expand(before: bool) -> None:
    torch.manual_seed(0)
    first, second = (shortcut.InvertedResidual(8, 8, 6, 1, "identity").eval() for _ in range(2))
    x = torch.randn(2, 8, 5, 5)
    with torch.no_grad():
        given = shortcut.WideShortcuts([first, second], before).eval()(x)
        expanded = first.expand(x)
        convolution, norm, relu6 = second.expand
        new = norm(convolution(first.project(first.depthwise(expanded))))
        joined = relu6(expanded + new) if before else expanded + relu6(new)
        torch.testing.assert_close(given, second.project(second.depthwise(joined)))
        for block in (first, second):
            block.shortcut = None
        plain = shortcut.WideShortcuts([first, second], before).eval()(x)
        torch.testing.assert_close(plain, second(first(x)))
    assert not torch.allclose(given, plain)


def test_expansion_factors_have_equal_macs() -> None:
    macs = {t: count_model(expansion.network(t, num_classes=10), SMALL).cost.macs or 0 for t in expansion.WIDTHS}
    assert max(macs.values()) < 1.02 * min(macs.values()), macs
    for t in expansion.WIDTHS:
        model = expansion.network(t, num_classes=10)
        blocks: list[Any] = [m for m in model.modules() if isinstance(m, InvertedResidual)]
        assert isinstance(blocks[0].expand, nn.Identity) and len(blocks) == 17
        assert sum(block.residual for block in blocks) == 10
        assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == (36 if t == 1 else 52)  # as its note says
        for before, block in pairwise(blocks):
            assert block.depthwise[0].in_channels == t * before.project[0].out_channels


def test_the_ends_of_v3_cost_what_the_paper_says() -> None:
    def macs(name: str) -> float:
        return (count_model(v3_ends.network(name, width=1.0, stem_stride=2, num_classes=1000)).cost.macs or 0) / 1e6

    assert macs(v3_ends.TAIL) - macs(v3_ends.V3) == pytest.approx(30, rel=0.2)
    for name, act in v3_ends.STEMS.items():
        assert macs(name) - macs(v3_ends.V3) == pytest.approx(10, rel=0.2)
        stem: Any = v3_ends.network(name, width=0.35, stem_stride=1, num_classes=10)
        assert type(stem.stem[2]) is act and stem.stem[0].out_channels == 16


@pytest.mark.parametrize("name", activations_trained.ACTIVATIONS)
def test_one_activation_takes_all_places_outside_se(name: str) -> None:
    model, plain = (seeded(activations_trained.network, name, excited) for excited in (True, False))
    gates = [m for m in model.modules() if isinstance(m, SqueezeExcite)]
    assert len(gates) == 9 and all(type(m.act) is nn.ReLU and type(m.gate) is nn.Hardsigmoid for m in gates)
    assert not any(isinstance(m, SqueezeExcite) for m in plain.modules())
    kinds = [type(m) for m in plain.modules() if isinstance(m, (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish))]
    assert set(kinds) == {activations_trained.ACTIVATIONS[name]} and len(kinds) == 24
    assert same(model, seeded(activations_trained.network, "ReLU", True)), "the start is the same"


def test_sums_change_nothing_but_sums() -> None:
    for net, count in (("V1", 8), ("V2", 10)):
        plain, summed = (seeded(dead_features.network, net, sums) for sums in (False, True))
        assert same(plain, summed)
        costs = {(c.macs, c.params) for c in (count_model(model, SMALL).cost for model in (plain, summed))}
        assert len(costs) == 1
        added = [m for m in summed.modules() if isinstance(m, dead_features.Summed)]
        added += [m for m in summed.modules() if getattr(m, "shortcut", None) is not None]
        assert len(added) == count


# --- measures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def lesson(tmp_path: Path) -> Lesson:
    """Pictures of one colour, red or blue; the label says which."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    pixels = np.full((400, 8, 8, 3), 128, np.uint8)
    pixels[..., 0] = (128 + 100 * labels + rng.integers(-9, 9, 400))[:, None, None]
    for split in ("train", "val"):
        np.save(tmp_path / f"{split}-pixels.npy", pixels)
        np.save(tmp_path / f"{split}-labels.npy", labels)
    return Lesson(tmp_path, InputContract(side=8), 2)


def test_int8_loses_what_one_scale_per_tensor_cannot_hold(lesson: Lesson) -> None:
    """The first channel says which class it is, the second says nothing, a thousand times louder."""
    mix, depthwise, classify = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1, groups=2), nn.Linear(2, 2)
    model = nn.Sequential(mix, depthwise, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classify).eval()
    with torch.no_grad():
        for layer in (mix, depthwise, classify):
            layer.weight.zero_()
            layer.bias.zero_()
        mix.weight[0, 0] = 1.0
        depthwise.weight[:, 0, 0, 0] = torch.tensor([1.0, 1000.0])
        classify.weight[:, 0] = torch.tensor([-1.0, 1.0])
        classify.bias[:] = torch.tensor([0.5, -0.5])
    found = in_int8(model, lesson)
    assert found == {"int8": 100.0, "int8 per tensor": 50.0}
    assert depthwise.weight[1].item() == 1000.0, "the model is not changed"


class Two(nn.Module):
    """A stem, and blocks whose first of two channels or more are dead."""

    def __init__(self, dead: int) -> None:
        super().__init__()
        self.stem = conv_bn(3, 4, 1, act=nn.ReLU6)
        self.blocks = nn.Sequential(conv_bn(4, 4, 1, act=nn.ReLU6), conv_bn(4, 6, 1, act=nn.ReLU6))
        for layer, n in ((self.stem, 4), (self.blocks[0], 0), (self.blocks[1], dead)):
            with torch.no_grad():
                layer[0].weight.fill_(1.0)
                layer[1].bias.fill_(1.0)
                layer[1].bias[:n] = -1e6
        self.blocks[0][1].bias.data[0] = -3.0  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.stem(x) + x.mean((1, 2, 3), keepdim=True).relu() * 4)  # type: ignore[no-any-return]


@pytest.mark.parametrize("dead", [0, 3, 6])
def test_dead_channels_are_counted_and_those_of_few_pictures_are_not(lesson: Lesson, dead: int) -> None:
    model = Two(dead).eval()
    few = torch.from_numpy(lesson.contract.normalise(lesson.pictures("val").pixels))
    with torch.no_grad():
        alive = model.blocks[0](model.stem(few) + few.mean((1, 2, 3), keepdim=True).relu() * 4)[:, 0].amax((1, 2))
    assert 0 < (alive > 0).sum() < len(alive), "the planted channel sleeps on some pictures"
    assert dead_features.dead(model, lesson) == {"dead": pytest.approx(100 * dead / 10, abs=1e-4)}
    assert not any(m._forward_hooks for m in model.modules())


# --- verdicts on planted figures --------------------------------------------------------------------------------------

Planted = Callable[[Arm], Figures]


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Finding]]:
    """The finding of a study whose arms have these figures, plus noise, and whose networks take time by their MACs."""
    for name in OURS:
        monkeypatch.setitem(STUDIES, name, "?")

    def study(name: str, figures: Planted, noise: float = 0.03) -> Finding:
        rng = np.random.default_rng(2)

        def trials(self: Lab, arms: list[Arm], *, side: int, steps: int | None = None) -> Trials:
            results = {
                (arm.label, seed): {what: value + rng.normal(0, noise) for what, value in figures(arm).items()}
                for arm in arms
                for seed in range(self.seeds)
            }
            return Trials(results, {arm.label: 10**6 for arm in arms}, 100, "planted", (1000, 200))

        monkeypatch.setattr(Lab, "trials", trials)
        plant_times(monkeypatch, time_of_macs, noise=0.01)
        module, lab = get_study(name), Lab(data=tmp_path, folder=tmp_path)
        timed = () if name in ("shortcut", "expansion", "dead-features") else (Bench(runtimes=("null",), quick=True),)
        finding: Finding = module.run(*timed, lab)
        assert png(finding).startswith(b"\x89PNG") and "95 %" in finding.sentence and finding.published
        for table in finding.measured:
            assert table.rows and {len(row) for row in table.rows} == {len(table.columns)}
        return finding

    yield study


def accuracies(**points: float) -> Planted:
    """80 %, and so many points more for the arms whose label has this in it; underscores stand for spaces."""
    return lambda arm: {
        "accuracy": 80 + sum(more for what, more in points.items() if what.replace("_", " ") in arm.label)
    }


def test_shortcut_verdicts(judged: Callable[..., Finding]) -> None:
    assert judged("shortcut", accuracies(thin=2.0)).verdict == "holds"
    assert judged("shortcut", accuracies(thin=2.0, behind=3.0)).verdict == "fails"
    assert judged("shortcut", accuracies(thin=2.0, behind=2.0)).verdict == "cannot tell"


def test_expansion_verdicts(judged: Callable[..., Finding]) -> None:
    def by_t(**points: float) -> Planted:
        return lambda arm: {"accuracy": 80 + points.get(arm.label.replace("t = ", "t"), 0.0)}

    assert judged("expansion", by_t(t1=-9.0, t4=5.0)).verdict == "holds"
    assert judged("expansion", by_t(t8=3.0)).verdict == judged("expansion", by_t(t10=-3.0)).verdict == "fails"
    assert judged("expansion", by_t(t10=1.0)).verdict == "cannot tell"
    margin = expansion.MARGIN
    assert expansion.nearly_identical(Gain(0.0, -0.9 * margin, 0.9 * margin)) == "holds"
    assert expansion.nearly_identical(Gain(0.0, -0.9 * margin, 1.1 * margin)) == "cannot tell"


def test_v3_ends_verdicts(judged: Callable[..., Finding]) -> None:
    assert judged("v3-ends", accuracies(stem=5.0)).verdict == "holds"
    assert judged("v3-ends", accuracies(original=2.0)).verdict == "fails"
    found = judged("v3-ends", accuracies(original=0.5))
    assert found.verdict == "cannot tell"
    assert found.measured[2].column("verdict")[1] == "holds", "the original tail has more MACs"


def test_activation_verdicts(judged: Callable[..., Finding]) -> None:
    def figures(swish: float, lost: float) -> Planted:
        def of(arm: Arm) -> Figures:
            top = 80 + swish * arm.label.startswith("swish")
            left = top - lost * (arm.label.startswith(("swish", "ReLU,")))
            return {"accuracy": top, "int8": left, "int8 per tensor": left - 1}

        return of

    found = judged("activations-trained", figures(swish=0.0, lost=2.0))
    assert found.verdict == "holds"
    verdicts = dict(zip(found.measured[3].column("claim"), found.measured[3].column("verdict"), strict=True))
    assert verdicts["ReLU6 loses less in int8 than ReLU"] == "holds"
    assert verdicts["h-swish loses less in int8 per tensor than swish"] == "holds"
    assert verdicts["SE gains accuracy"] == "cannot tell"
    assert judged("activations-trained", figures(swish=2.0, lost=0.0)).verdict == "fails"


def test_dead_feature_verdicts(judged: Callable[..., Finding]) -> None:
    def figures(without: float, more_in_bfloat16: float = 0.0) -> Planted:
        def of(arm: Arm) -> Figures:
            plain = "no sums" in arm.label
            died = 5 + plain * (without + more_in_bfloat16 * ("bfloat16" in arm.label))
            course = {moment("dead", k, arm.looks): died * k / arm.looks for k in range(1, arm.looks + 1)}
            return {"accuracy": 60.0, "dead": died, **course}

        return of

    found = judged("dead-features", figures(4.0, 3.0))
    assert found.verdict == "holds"
    verdicts = dict(zip(found.measured[3].column("claim"), found.measured[3].column("verdict"), strict=True))
    assert verdicts["sums keep more alive in bfloat16 than in float32"] == "holds"
    only_v2 = judged("dead-features", lambda arm: figures(4.0 if arm.label.startswith("V2") else -4.0)(arm))
    assert only_v2.verdict == "fails"
    none_dies = judged("dead-features", lambda arm: dict.fromkeys(figures(0.0)(arm), 0.0), noise=0.0)
    assert none_dies.verdict == "cannot tell"


def test_claims_together() -> None:
    assert together(["holds", "holds"]) == "holds"
    assert together(["holds", "cannot tell"]) == "cannot tell"
    assert together(["cannot tell", "fails"]) == "fails"
