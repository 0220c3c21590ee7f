"""Studies of blocks: their arms differ in what they say, and figures go to the right verdict."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.study import STUDIES, get_study
from swiftlet.study.finding import Finding
from swiftlet.study.page import png
from swiftlet.study.trained import bypass, fire, shuffle, xception_order
from swiftlet.study.trained.claims import comparisons
from swiftlet.study.trial import Arm, Lesson, moment, network
from swiftlet.study.trials import Gain, Lab, Trials, average

SEEDS = 3


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("shuffle", "bypass", "fire", "xception-order"):
        monkeypatch.setitem(STUDIES, name, "")


def arms_of(study: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Arm]:
    """What the study would train, by label."""
    seen: dict[str, Arm] = {}

    class Enough(Exception):
        pass

    def look(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        seen.update({arm.label: arm for arm in arms})
        raise Enough

    monkeypatch.setattr(Lab, "trials", look)
    with pytest.raises(Enough):
        get_study(study).run(Lab(data=tmp_path, folder=tmp_path))
    return seen


def macs(model: nn.Module) -> int:
    counted = count_model(model, (3, fire.SIDE, fire.SIDE)).cost.macs
    assert counted is not None
    return counted


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def planted(
    name: str, above: Mapping[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, noise: float = 0.1
) -> Finding:
    """The finding of a study whose arms have 60 % and what is planted, at every look too."""
    rng = np.random.default_rng(2)

    def plant(self: Lab, arms: list[Arm], *, side: int) -> Trials:
        assert not above.keys() - {arm.label for arm in arms}
        results = {}
        for arm in arms:
            for seed in range(SEEDS):
                value = 60 + above.get(arm.label, 0.0) + float(rng.normal(0, noise))
                looks = {
                    moment(xception_order.SEEN, k, arm.looks): value - arm.looks + k for k in range(1, arm.looks + 1)
                }
                results[arm.label, seed] = {"accuracy": value} | looks
        return Trials(results, {arm.label: 10**6 for arm in arms}, 100, "planted", (1000, 200))

    monkeypatch.setattr(Lab, "trials", plant)
    finding: Finding = get_study(name).run(Lab(data=tmp_path, folder=tmp_path))
    assert png(finding).startswith(b"\x89PNG")
    return finding


def test_shuffle_is_the_only_difference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arms = arms_of("shuffle", monkeypatch, tmp_path)
    lesson = Lesson(tmp_path, InputContract(side=32), 10)
    for groups in shuffle.ALSO_WITHOUT:
        pair = [network(arms[shuffle._label(groups, mixed)], lesson, seed=1) for mixed in (True, False)]
        kinds = [sum(isinstance(module, nn.ChannelShuffle) for module in model.modules()) for model in pair]
        assert kinds == [16, 0] and macs(pair[0]) == macs(pair[1])
        ours, theirs = (model.state_dict() for model in pair)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_shuffle_is_judged_over_both_pairs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    labels = {groups: shuffle._label(groups, shuffle=False) for groups in shuffle.ALSO_WITHOUT}
    finding = planted("shuffle", {labels[3]: -1.0, labels[8]: -3.0}, monkeypatch, tmp_path)
    gains = dict(zip(*(finding.measured[1].column(name) for name in ("claim", "here")), strict=True))
    assert list(gains.values()) == pytest.approx([2.0, 1.0, 3.0, 2.0, 0.0], abs=0.3) and finding.verdict == "holds"
    assert planted("shuffle", {labels[3]: 2.0, labels[8]: 2.0}, monkeypatch, tmp_path).verdict == "fails"
    assert planted("shuffle", {labels[3]: 1.0, labels[8]: -1.0}, monkeypatch, tmp_path).verdict == "cannot tell"


def test_bypasses_cost_what_they_say() -> None:
    none, simple, complex_ = (bypass.plain(kind, num_classes=10) for kind in bypass.KINDS)
    assert parameters(none) == parameters(simple) < parameters(complex_)
    assert macs(none) == macs(simple) < macs(complex_)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in complex_.modules())


@pytest.mark.parametrize("kind", bypass.KINDS)
def test_batchnorm_stands_before_every_relu(kind: str) -> None:
    model = bypass.normalised(kind, num_classes=10)
    parts = [part for part in model.modules() if isinstance(part, nn.Sequential) and isinstance(part[-1], nn.ReLU)]
    assert len(parts) == 1 + 8 * 3
    for convolution, norm, _ in parts:
        assert convolution.bias is None and norm.num_features == convolution.out_channels
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("points", "noise", "verdict"), [(2.0, 0.1, "holds"), (-2.0, 0.1, "fails"), (0.1, 1.0, "cannot tell")]
)
@pytest.mark.parametrize(("name", "better"), [("bypass", "simple"), ("fire", fire.LATE)])
def test_verdicts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, better: str, points: float, noise: float, verdict: str
) -> None:
    assert planted(name, {better: points}, monkeypatch, tmp_path, noise).verdict == verdict


def test_late_and_early_pooling_are_matched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arms = {label: arm.build(num_classes=10) for label, arm in arms_of("fire", monkeypatch, tmp_path).items()}
    late, early, wider = (arms[label] for label in (fire.LATE, fire.EARLY, fire.EARLY_WIDER))
    assert parameters(late) == parameters(early) and macs(early) < 0.7 * macs(late)
    assert macs(wider) == pytest.approx(macs(late), rel=0.05)


def test_fire_modules_have_their_ratio_and_share() -> None:
    for ratio, share in ((0.125, 0.5), (1.0, 0.5), (0.5, 0.01), (0.5, 0.99)):
        model = fire.network(num_classes=10, squeeze_ratio=ratio, pct_3x3=share)
        for block in (module for name, module in model.named_modules() if name.split(".")[-1].startswith("fire")):
            narrow, ones, threes = (part[0].out_channels for part in (block.squeeze, block.expand1x1, block.expand3x3))
            assert narrow == pytest.approx(ratio * (ones + threes), abs=1)
            assert threes == pytest.approx(share * (ones + threes), abs=1)


def convolutions(model: nn.Module) -> list[nn.Sequential]:
    """What stands in place of the separable convolutions: they alone have two convolutions and one BatchNorm."""
    rows = [
        part for part in model.modules() if isinstance(part, nn.Sequential) and isinstance(part[-1], nn.BatchNorm2d)
    ]
    return [row for row in rows if sum(isinstance(layer, nn.Conv2d) for layer in row) == 2]


@pytest.mark.parametrize("act", xception_order.BETWEEN)
@pytest.mark.parametrize("order", xception_order.ORDERS)
def test_order_and_activation(order: str, act: str) -> None:
    model = xception_order.network(num_classes=10, order=order, act=act)
    found = convolutions(model)
    assert len(found) == 2 + 2 + 3 * xception_order.MIDDLE + 1
    for first, *between, second, _ in found:
        assert isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)
        spatial, pointwise = (first, second) if order == "depthwise first" else (second, first)
        assert spatial.kernel_size == (3, 3) and spatial.groups == spatial.in_channels
        assert pointwise.kernel_size == (1, 1) and pointwise.groups == 1
        kind = xception_order.BETWEEN[act]
        assert [type(layer) for layer in between] == ([] if kind is None else [kind])
    plain = xception_order.network(num_classes=10, order=order)
    assert macs(model) == macs(plain) and parameters(model) == parameters(plain)


def test_segments_cost_as_many_macs() -> None:
    all_ = xception_order.network(num_classes=10, order="pointwise first")
    for count in xception_order.SEGMENTS:
        model = xception_order.network(num_classes=10, order="pointwise first", segments=count)
        assert {second.groups for _, second, _ in convolutions(model)} == {count}  # type: ignore[union-attr]
        assert macs(model) == pytest.approx(macs(all_), rel=0.03)


def test_accuracy_so_far_sees_all_classes(tmp_path: Path) -> None:
    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(x), 1)

    labels = np.repeat(np.arange(4), (800, 1600, 800, 800))  # sorted, as a folder's are
    np.save(tmp_path / "val-pixels.npy", np.zeros((4000, 8, 8, 3), np.uint8))
    np.save(tmp_path / "val-labels.npy", labels)
    assert xception_order.so_far(First(), Lesson(tmp_path, InputContract(side=8), 4)) == {xception_order.SEEN: 20.0}


def test_no_activation_must_beat_both(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    none, relu, elu = (xception_order._label(xception_order.ORDERS[0], act) for act in xception_order.BETWEEN)

    def found(above: Mapping[str, float], noise: float = 0.1) -> Finding:
        return planted("xception-order", above, monkeypatch, tmp_path, noise)

    finding = found({none: 2.0})
    assert finding.verdict == "holds"
    course = finding.measured[2].where(between="none").column("accuracy %")
    assert len(course) == xception_order.LOOKS and course == sorted(course)
    assert found({relu: -2.0, elu: 2.0}).verdict == "fails" and found({none: 2.0, relu: 4.0}).verdict == "fails"
    assert found({none: 0.1}, 1.0).verdict == "cannot tell"


def test_comparisons() -> None:
    table = comparisons({"a": Gain(1.0, 0.5, 1.5), "b": Gain(0.0, -1.0, 1.0)})
    assert table.rows == (
        ("a", "points", 1.0, 0.5, 1.5, 0.0, "holds"),
        ("b", "points", 0.0, -1.0, 1.0, 0.0, "cannot tell"),
    )
    assert average([1.0, 2.0], [3.0, 6.0]) == [2.0, 4.0]
    with pytest.raises(ValueError):
        average([1.0], [1.0, 2.0])
