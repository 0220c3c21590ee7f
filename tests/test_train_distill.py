"""Distillation: the gradient by hand, what the teacher sees, hints, and a run that goes on to the same bits."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.data.contract import InputContract, golden_pictures
from swiftlet.errors import BadFile, BadInput
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distill import Distillation, Teacher, hint_loss
from swiftlet.train.distributed import Ranks
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe

CONTRACT = InputContract(side=8)
OTHER = InputContract(side=16, mean=(120.0, 110.0, 100.0), std=(50.0, 60.0, 70.0))
RECIPE = Recipe(name="test", batch=8, lr=0.05, label_smoothing=0.0, teacher_weight=0.7, temperature=3.0)


def network(channels: int, classes: int = 3, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, channels, 3, 2, 1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes),
        )  # fmt: skip


def colours(n: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Noise that is red, green or blue, and which of them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    pixels = rng.integers(0, 200, (n, 10, 10, 3), np.uint8)
    pixels[np.arange(n), :, :, labels] += 40
    return pixels, labels


class Reddest(nn.Module):
    """A perfect teacher of colours(): the brightest channel."""

    def forward(self, images: Tensor) -> Tensor:
        return 8 * images.mean((2, 3))


def test_the_gradient_is_hintons():
    logits = torch.randn(4, 3, requires_grad=True)
    images, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 2, 1, 1])
    distillation = Distillation(network(4), CONTRACT, Teacher(Reddest(), CONTRACT), RECIPE, seed=0)
    distillation.loss(images, logits, F.cross_entropy(logits, labels)).backward()
    w, t, z, v = 0.7, 3.0, logits.detach(), 8 * images.mean((2, 3))
    hard = (z.softmax(1) - F.one_hot(labels, 3)) / 4
    soft = t * ((z / t).softmax(1) - (v / t).softmax(1)) / 4  # T^2 times 1/T
    torch.testing.assert_close(logits.grad, (1 - w) * hard + w * soft)


@pytest.mark.parametrize("side", [8, 16, 24])
def test_the_teacher_sees_the_same_pictures_by_its_own_contract(side):
    student = InputContract(side=side)
    pixels = np.stack([student.pixels(picture) for _, picture in golden_pictures()])
    distillation = Distillation(network(4), student, Teacher(Reddest(), OTHER), RECIPE, seed=0)
    seen = distillation.view(torch.from_numpy(student.normalise(pixels)))
    same_side = dataclasses.replace(OTHER, side=side)
    expected = torch.from_numpy(same_side.normalise(pixels))
    if side != OTHER.side:
        expected = F.interpolate(expected, size=(16, 16), mode="bilinear", antialias=side > 16)
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_hints_compare_what_the_maps_show_and_not_their_scale():
    maps = torch.randn(2, 4, 6, 6)
    assert hint_loss(5 * maps + 3, maps).item() == pytest.approx(0, abs=1e-4)
    assert hint_loss(-maps, maps).item() == pytest.approx(4, abs=1e-3)
    ours, theirs = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 6, 6)
    correlations = [np.corrcoef(a.flatten(), b.flatten())[0, 1] for a, b in zip(ours, theirs, strict=True)]
    assert hint_loss(ours, theirs).item() == pytest.approx(np.mean(2 - 2 * np.array(correlations)), abs=1e-3)
    assert hint_loss(F.avg_pool2d(maps, 2), maps).item() < 0.5


def training(teacher: Teacher | None, *, recipe: Recipe = RECIPE, steps: int = 6, labels: object = None) -> Training:
    pixels, true = colours()
    pictures = Pictures(pixels, true if labels is None else labels)
    return Training(network(4), pictures, CONTRACT, recipe, steps=steps, seed=0, teacher=teacher)


def hinting(seed: int = 1) -> Teacher:
    return Teacher(network(6, seed=seed), OTHER, hints=(("3", "3"), ("1", "2")))


def test_from_random_labels_a_perfect_teacher_teaches_the_truth():
    pixels, true = colours()
    wrong = np.random.default_rng(1).integers(0, 3, len(true))
    found = {}
    for name, teacher in {"taught": Teacher(Reddest(), CONTRACT), "alone": None}.items():
        t = training(teacher, recipe=dataclasses.replace(RECIPE, lr=0.2), steps=60, labels=wrong)
        t.run()
        t.model.load_state_dict(t.delivered())
        found[name] = accuracy(t.model, pixels[:, 1:9, 1:9], true, CONTRACT)
    assert found["taught"] > 0.9 and found["alone"] < 0.6, found


@pytest.mark.parametrize("stop", [1, 4])
def test_a_taught_run_that_was_stopped_ends_in_the_same_bits(stop, tmp_path):
    straight, part, last = (training(hinting()) for _ in range(3))
    assert straight.run()
    part.run(checkpoints=Checkpoints(tmp_path / "run"), should_stop=lambda: part.step == stop)
    torch.manual_seed(stop)
    assert last.run(checkpoints=Checkpoints(tmp_path / "run"))
    assert straight.state()[0].keys() == last.state()[0].keys()
    assert {"hints.regressors.1.weight", "hints_optimizer.regressors.1.weight/momentum_buffer"} <= last.state()[
        0
    ].keys()
    for name, tensor in straight.state()[0].items():
        assert torch.equal(tensor, last.state()[0][name]), name
    assert straight.delivered().keys() == network(4).state_dict().keys()  # the regressors stay behind
    assert not any(module._forward_hooks for module in straight.model.modules())


def test_regressors_learn_and_the_teacher_stays_as_it_is():
    teacher = hinting()
    before = {name: tensor.clone() for name, tensor in teacher.network.state_dict().items()}
    t = training(teacher)
    weights = [regressor.weight.detach().clone() for regressor in t.distillation.regressors]
    assert [tuple(w.shape) for w in weights] == [(6, 4, 1, 1), (6, 4, 1, 1)]
    t.run()
    assert not any(torch.equal(w, r.weight) for w, r in zip(weights, t.distillation.regressors, strict=True))
    assert not teacher.network.training and all(p.grad is None for p in teacher.network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.network.state_dict().items())


def test_hints_bring_the_maps_together():
    teacher = Teacher(network(6, seed=1), OTHER, (("3", "3"),))
    t = training(teacher, recipe=dataclasses.replace(RECIPE, teacher_weight=0.0), steps=40)
    images = torch.from_numpy(CONTRACT.normalise(colours()[0][:, 1:9, 1:9]))

    def distance() -> float:
        with torch.no_grad(), t.distillation.watching(t.model):
            return t.distillation.loss(images, t.model(images), torch.zeros(())).item()

    before = distance()
    t.run()
    assert before == pytest.approx(2, abs=0.5) and distance() < 0.7 * before  # 2 is no correlation


def test_another_teacher_is_another_run(tmp_path):
    first = training(hinting())
    first.run(checkpoints=Checkpoints(tmp_path / "run"), should_stop=lambda: first.step == 2)
    for other in (hinting(seed=2), None, Teacher(network(6, seed=1), OTHER)):
        with pytest.raises(BadFile, match="teacher="):
            training(other).run(checkpoints=Checkpoints(tmp_path / "run"))


@pytest.mark.parametrize(
    ("teacher", "recipe", "message"),
    [
        (Teacher(Reddest(), CONTRACT), {"teacher_weight": 0.0}, "teacher_weight is 0, and the teacher gives no hints"),
        (Teacher(network(6), CONTRACT, (("7", "3"),)), {}, "the student has no module '7'"),
        (Teacher(network(6), CONTRACT, (("3", "x.y"),)), {}, "the teacher has no module 'x.y'"),
        (Teacher(network(6), CONTRACT, (("5", "3"),)), {}, "'5' of the student gives no maps"),
        (Teacher(network(6, classes=4), CONTRACT), {}, r"the teacher gives \[8, 4\] scores, the student \[8, 3\]"),
    ],
    ids=["no say", "student path", "teacher path", "no maps", "classes"],
)
def test_a_teacher_that_cannot_teach_is_refused(teacher, recipe, message):
    with pytest.raises(BadInput, match=message):
        training(teacher, recipe=dataclasses.replace(RECIPE, **recipe)).run()


def test_hints_are_refused_where_several_processes_train():
    with pytest.raises(BadInput, match="teach by answers alone"):
        Distillation(network(4), CONTRACT, hinting(), RECIPE, seed=0, ranks=Ranks(rank=0, world=2))
