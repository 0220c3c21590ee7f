"""Studies that train: nothing is found where nothing was planted, and what was planted is found."""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_cli import run as command
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.study import get_study, trial, trials
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import png
from swiftlet.study.run import run_study
from swiftlet.study.trial import RECIPE, Arm, Lesson
from swiftlet.study.trials import Gain, Lab, Trials, gain

SIDE = 12


def tiny(*, num_classes: int) -> nn.Module:
    return nn.Sequential(conv_bn(3, 8, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))


class Blind(nn.Module):
    """Sees nothing of its pictures."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.network = tiny(num_classes=num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(0 * x)  # type: ignore[no-any-return]


def blind(*, num_classes: int) -> nn.Module:
    return Blind(num_classes)


def idle(*, num_classes: int) -> nn.Module:
    """The same function as tiny, in another module."""
    return nn.Sequential(tiny(num_classes=num_classes), nn.Identity())


def weights(model: nn.Module, lesson: Lesson) -> trial.Figures:
    return {"parameters": sum(p.numel() for p in model.parameters()), "classes": lesson.classes}


def first_weight(model: nn.Module, lesson: Lesson) -> trial.Figures:
    assert not model.training
    return {"first": float(next(model.parameters()).flatten()[0])}


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upright and lying bars, as an .npz file."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 90, (240, SIDE, SIDE), np.uint8)
    labels = np.arange(240) % 2
    for picture, label in zip(pictures, labels, strict=True):
        at = int(rng.integers(1, SIDE - 2))
        picture[at : at + 2] += np.uint8(120) * np.uint8(1 - label)
        picture[:, at : at + 2] += np.uint8(120) * np.uint8(label)
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    np.savez(path, x_train=pictures[:200], y_train=labels[:200], x_test=pictures[200:], y_test=labels[200:])
    return path


def test_a_planted_difference_is_found_and_none_where_there_is_none(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab(data=bars, folder=tmp_path / "run")
    arms = [Arm("tiny", tiny, measure=weights), Arm("idle", idle), Arm("blind", blind)]
    found = lab.trials(arms, side=SIDE, steps=60)
    assert found.of("tiny") == found.of("idle") and found.gain("idle", over="tiny") == (0, 0, 0)
    assert trials.judge_gain(found.gain("idle", over="tiny")) == "cannot tell"
    assert trials.judge_gain(found.gain("tiny", over="blind")) == "holds", found.results
    assert trials.judge_gain(found.gain("blind", over="tiny")) == "fails"
    assert statistics.mean(found.of("tiny")) > 90 and max(found.of("blind")) < 70
    assert found.of("tiny", "classes") == [2, 2, 2] and found.steps == 60

    monkeypatch.setattr(trials, "train", None)  # a pool would refuse it
    assert lab.trials(arms, side=SIDE, steps=60).results == found.results, "what is stored is not trained again"
    with pytest.raises(BadInput, match="arms"):
        lab.trials(arms[:2], side=SIDE, steps=60)


def test_a_trial_is_looked_at_while_it_trains_and_learns_from_a_teacher(bars: Path, tmp_path: Path) -> None:
    lab = Lab(data=bars, folder=tmp_path / "run", seeds=2)
    blind_teacher = Arm("blind teacher", blind, share=0.5)
    sure = replace(RECIPE, teacher_weight=1.0)
    arms = [Arm("alone", tiny, measure=first_weight, looks=3), Arm("misled", tiny, sure, teacher=blind_teacher)]
    found = lab.trials(arms, side=SIDE, steps=60)
    course = found.course("alone", "first", 3)
    assert len(course) == 2 and all(len(set(seed)) == 3 for seed in course), "it moves from look to look"
    assert statistics.mean(found.of("alone")) > 90 and max(found.of("misled")) < 70, "a teacher that sees nothing"
    assert len(found.of("blind teacher")) == 1 and list(found.macs) == ["alone", "misled"]
    table = found.table("t", over="misled")
    assert table.column("arm") == ["alone", "misled"]


def test_a_share_of_the_pictures_is_always_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "train-pixels.npy", np.arange(1000))
    np.save(tmp_path / "train-labels.npy", np.arange(1000))
    lesson = Lesson(tmp_path, InputContract(side=SIDE), 2)
    some = lesson.pictures("train", 0.03).labels
    assert len(some) == 30 and list(some) == list(lesson.pictures("train", 0.03).labels)
    assert len(lesson.pictures("train").labels) == 1000


def test_steps_fill_the_minutes(bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(data=bars, folder=tmp_path / "run", minutes=2, seeds=4, workers=3)
    submitted = []

    class Pool:
        def submit(self, function: Callable[..., object], arm: Arm, lesson: Lesson) -> "Pool":
            submitted.append(arm.label)
            return self

        def result(self) -> float:
            return 0.0625

    arms = [Arm("a", tiny), Arm("b", tiny, teacher=Arm("teacher", tiny))]
    timed = lab._timed(Pool(), None, arms, [Arm("teacher", tiny)], None)  # type: ignore[arg-type]
    assert submitted == ["a", "b", "teacher"]
    assert timed["steps"] == 480  # 2 x 60 s; one teacher of 0.0625, then 8 trials on 3 processes: 3 x 0.0625


def test_gain_is_students_interval_of_paired_differences() -> None:
    mean, low, high = gain([90.0, 91.0, 92.0], [91.0, 93.0, 95.0])
    assert (mean, high - mean) == pytest.approx((2.0, 4.302653 / 3**0.5), rel=1e-6)
    assert mean - low == pytest.approx(high - mean)
    assert str(Gain(1.0, -0.25, 2.25)) == "+1.00 (95 % -0.25 to +2.25)"
    with pytest.raises(BadInput, match="two or more"):
        gain([90.0], [91.0])


@pytest.mark.parametrize("wrong", [{"minutes": 0.0}, {"seeds": 1}, {"workers": 0}])
def test_a_lab_that_cannot_be(bars: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        Lab(data=bars, folder=tmp_path, **wrong)  # type: ignore[arg-type]


# --- every study that trains, on planted accuracies -------------------------------------------------------------------

# the arm that the claim says is better
TRAINED = {"linear-bottleneck": "linear", "shortcut": "thin", "ghost": "s=2, d=3", "distill": "taught"}


def plant(monkeypatch: pytest.MonkeyPatch, best: str, points: float, noise: float) -> None:
    """Lab.trials gives 80 % to every arm and `points` more to one, with noise."""
    rng = np.random.default_rng(1)

    def planted(self: Lab, arms: list[Arm], *, side: int, steps: int | None = None) -> Trials:
        results = {
            (arm.label, seed): {"accuracy": 80 + points * (arm.label == best) + rng.normal(0, noise)}
            for arm in arms
            for seed in range(self.seeds)
        }
        results |= {(arm.teacher.label, 0): {"accuracy": 90.0} for arm in arms if arm.teacher}
        return Trials(results, {arm.label: 10**6 for arm in arms}, 100, "planted", (1000, 200))

    monkeypatch.setattr(Lab, "trials", planted)


@pytest.mark.parametrize("name", TRAINED)
def test_verdicts_on_planted_accuracies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    def verdict(points: float, noise: float) -> Finding:
        plant(monkeypatch, TRAINED[name], points, noise)
        return get_study(name).run(Lab(data=tmp_path, folder=tmp_path))  # type: ignore[no-any-return]

    assert verdict(2.0, 0.1).verdict == "holds"
    assert verdict(-2.0, 0.1).verdict == "fails"
    found = verdict(0.1, 1.0)
    assert found.verdict == "cannot tell" and "95 %" in found.sentence and found.published
    assert png(found).startswith(b"\x89PNG")


def test_the_command_trains_writes_and_names_what_is_missing(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ("study", "linear-bottleneck", "--quick", "--out", str(tmp_path))
    code, out, _ = command(capsys, *quick, "--data", str(bars), "--minutes", "1")
    assert code == 0 and "verdict" in out and (tmp_path / "linear-bottleneck.html").exists()
    code, _, err = command(capsys, *quick)
    assert code == 2 and "--data" in err
    code, _, err = command(capsys, "study", "g1", "--minutes", "1")
    assert code == 2 and "takes no --minutes" in err
    with pytest.raises(BadInput, match="takes no --seeds"):
        run_study("relu-collapse", Bench(quick=True), tmp_path, "", seeds=2)
