"""The training loop: the same bits however often it was stopped, every picture once an epoch, and that it learns."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.recipes import get_recipe, list_recipes
from swiftlet.train import loop
from swiftlet.train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from swiftlet.train.draws import keys, shuffled, uniforms
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.optimizers import parameter_groups, state_tensors
from swiftlet.train.recipe import Recipe
from swiftlet.train.schedules import rate
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=16)
RECIPE = Recipe(name="test", batch=4, rotation=10.0)
STILL = Recipe(name="still", min_area=1.0, aspect=1.0, rotation=0.0, jitter=0.0, flip=False)
STEPS = 5


def pictures(n: int = 14, side: int = 20) -> Pictures:
    rng = np.random.default_rng(1)
    return Pictures(rng.integers(0, 256, (n, side, side, 3), np.uint8), rng.integers(0, 3, n))


def training(*, width: float = 0.1, recipe: Recipe = RECIPE, steps: int = STEPS, seed: int = 0) -> Training:
    """A network with depthwise layers, BatchNorm and dropout, on random pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create_model("mobilenet_v1", width=width, num_classes=3, stem_stride=1, dropout=0.3)
    return Training(model, pictures(), CONTRACT, recipe, steps=steps, seed=seed)


def bits(t: Training) -> dict[str, Tensor]:
    """Everything that a later step depends on."""
    parts = {
        "model": t.model.state_dict(),
        "average": t.average.state,
        "optimizer": state_tensors(t.optimizer, t.model),
    }
    return {f"{part}.{name}": v.clone() for part, state in parts.items() for name, v in state.items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    straight = training()
    assert straight.run()
    return bits(straight)


@pytest.mark.parametrize("stops", [(0, STEPS), (1, 2, 4), (STEPS,), (3, 3)], ids=str)
def test_a_run_that_was_stopped_ends_in_the_same_bits(stops, whole, tmp_path):
    for stop in stops:
        part = training()
        torch.manual_seed(stop)  # the ambient generator must not matter
        checkpoints = Checkpoints(tmp_path / "run")
        assert part.run(checkpoints=checkpoints, should_stop=lambda: part.step >= stop) == (part.step == STEPS)  # noqa: B023
        assert part.step == stop
    last = training()
    seen = []
    checkpoints = Checkpoints(tmp_path / "run")
    assert last.run(checkpoints=checkpoints, progress=lambda step, steps, loss: seen.append((step, steps)))
    assert seen == [(step, STEPS) for step in range(stops[-1] + 1, STEPS + 1)]
    assert same(bits(last), whole)
    assert same(last.averaged(), {k.removeprefix("average."): v for k, v in whole.items() if k.startswith("average.")})


def test_the_guard_above_can_fail(whole, monkeypatch):
    other = training(seed=1)
    assert other.run() and not same(bits(other), whole)
    forgetful = training()
    forgetful.run(should_stop=lambda: forgetful.step == 2)
    forgetful.optimizer.state.clear()
    assert forgetful.run() and not same(bits(forgetful), whole)
    assert any(name.startswith("optimizer.") for name in whole)


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw"])
def test_every_optimizer_goes_on_to_the_same_bits(optimizer, tmp_path):
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, lr=0.01, clip=1.0)
    straight, part, last = (training(recipe=recipe) for _ in range(3))
    assert straight.run()
    part.run(checkpoints=Checkpoints(tmp_path / "run"), should_stop=lambda: part.step == 2)
    assert last.run(checkpoints=Checkpoints(tmp_path / "run")) and same(bits(last), bits(straight))


def test_the_ambient_generator_is_left_as_it_was():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    training().run()
    assert torch.equal(torch.get_rng_state(), before)


def test_it_saves_now_and_then_and_a_kill_costs_at_most_that(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)
    steps_on_disk = []

    def killed(step: int, steps: int, loss: float) -> None:
        found = Checkpoints(tmp_path / "run").latest()
        steps_on_disk.append(found and found[1]["step"])
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training().run(checkpoints=Checkpoints(tmp_path / "run"), progress=killed)
    assert steps_on_disk == [None, 1, 2]


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_shows_every_picture_once_but_for_the_remainder(n, batch, seed):
    labels = np.arange(n)
    t = Training(
        nn.Linear(1, 1), Pictures(np.zeros((n, 8, 8, 3), np.uint8), labels), InputContract(side=8),
        dataclasses.replace(STILL, batch=batch), steps=1, seed=seed,
    )  # fmt: skip
    size = min(batch, n)
    per_epoch = n // size
    epochs = []
    for epoch in range(2):
        shown = []
        for t.step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
            batch = t._batch(*t._order())
            assert batch.images.shape == (size, 3, 8, 8) and len(batch.labels) == size
            shown += batch.labels.tolist()
        assert len(set(shown)) == len(shown) == n - n % size
        epochs.append(shown)
    assert n < 6 or epochs[0] != epochs[1]


def test_labels_stay_with_their_pictures():
    n = 10
    pixels = np.arange(n, dtype=np.uint8).reshape(n, 1, 1, 1) * np.ones((1, 8, 8, 3), np.uint8)
    t = Training(
        nn.Linear(1, 1), Pictures(pixels, np.arange(n)), InputContract(side=8, mean=(0.0,) * 3, std=(1.0,) * 3),
        dataclasses.replace(STILL, batch=4), steps=1, seed=0,
    )  # fmt: skip
    batch = t._batch(*t._order())
    torch.testing.assert_close(batch.images.amax((1, 2, 3)), batch.labels.float())
    torch.testing.assert_close(batch.images.amin((1, 2, 3)), batch.labels.float())


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 0.99))
def test_schedule(steps, warmup):
    recipe = dataclasses.replace(STILL, warmup=warmup)
    rates = [rate(recipe, step, steps, 10) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates) and max(rates) == 1
    up = round(warmup * steps)
    assert rates[:up] == pytest.approx([(step + 1) / up for step in range(up)])
    assert rates[up:] == sorted(rates[up:], reverse=True)
    if steps - up >= 20:
        assert rates[-1] < 0.01
        assert rates[up + (steps - up) // 2] == pytest.approx(0.5, abs=0.05)


def test_biases_batchnorm_and_depthwise_weights_are_not_decayed():
    model = create_model("mobilenet_v2", width=0.1, num_classes=3)
    decayed, spared = parameter_groups(model, dataclasses.replace(STILL, weight_decay=0.01))
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    ids = [id(p) for group in (decayed, spared) for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters()) and len(set(ids)) == len(ids)
    expected = {
        id(p)
        for module in model.modules()
        for name, p in module.named_parameters(recurse=False)
        if name == "weight" and (isinstance(module, nn.Linear) or getattr(module, "groups", 0) == 1)
    }
    assert {id(p) for p in decayed["params"]} == expected
    assert len(spared["params"]) == 17 + 2 * 52 + 1  # depthwise, BatchNorm scale and shift, the classifier's bias


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "run"
    t = training()
    t.run(checkpoints=Checkpoints(path), should_stop=lambda: t.step == 1)
    return path


def foreign(kind: str, good: bytes) -> bytes:
    weights = {"w": np.zeros(3, np.float32)}
    return {
        "empty": b"",
        "truncated": good[: len(good) // 2],
        "header cut": good[:20],
        "damaged header": good[:8] + b"x" + good[9:],
        "pickle": b"\x80\x04N.",
        "other safetensors": save_safetensors(weights),
        "no JSON": save_safetensors(weights, {"facts": "{"}),
        "no object": save_safetensors(weights, {"facts": "[1]"}),
    }[kind]


KINDS = [
    "empty", "truncated", "header cut", "damaged header", "pickle", "other safetensors", "no JSON", "no object",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_checkpoint_is_refused(kind, tmp_path):
    path = tmp_path / "run.safetensors"
    save_checkpoint(path, {"w": torch.zeros(100)}, {"step": 1})
    path.write_bytes(foreign(kind, path.read_bytes()))
    with pytest.raises(BadFile, match=r"run\.safetensors.*delete it"):
        load_checkpoint(path)


def test_a_checkpoint_without_its_step_is_refused(saved, tmp_path):
    tensors, facts = Checkpoints(saved).latest()
    Checkpoints(tmp_path / "run").save(1, tensors, {key: value for key, value in facts.items() if key != "step"})
    with pytest.raises(BadFile, match="does not say at which step it was saved; delete it"):
        training().run(checkpoints=Checkpoints(tmp_path / "run"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"recipe": dataclasses.replace(RECIPE, lr=0.1)}, "recipe="),
        ({"steps": STEPS + 1}, "steps=5, this run has 6"),
        ({"seed": 1}, "seed=0, this run has 1"),
        ({"width": 0.5}, "another network"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_the_checkpoint_of_another_run_is_refused(other, message, saved, tmp_path):
    path = shutil.copytree(saved, tmp_path / "run")
    t = training(**other)
    before = bits(t)
    with pytest.raises(BadFile, match=message):
        t.run(checkpoints=Checkpoints(path))
    assert same(bits(t), before)


def test_a_checkpoint_makes_the_round_trip(tmp_path):
    path = tmp_path / "c.safetensors"
    tensors = {"a": torch.arange(6).view(2, 3).t(), "b": torch.tensor(1.5), "c": torch.zeros(0, 2, dtype=torch.int64)}
    save_checkpoint(path, tensors, {"step": 3, "name": "ä"})
    back, facts = load_checkpoint(path)
    assert same(back, tensors) and facts == {"step": 3, "name": "ä"}
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_it_learns_two_colours():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    pixels = rng.integers(0, 120, (64, 20, 20, 3), np.uint8)
    pixels[np.arange(64), :, :, 2 * labels] += 100  # red or blue
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model("mobilenet_v1", width=0.1, num_classes=2, stem_stride=1)
    recipe = dataclasses.replace(get_recipe("photos"), batch=16, lr=0.05, label_smoothing=0.0)
    t = Training(model, Pictures(pixels, labels), CONTRACT, recipe, steps=80, seed=0)
    small = pixels[:, 2:18, 2:18]
    assert accuracy(model, small, labels, CONTRACT) < 0.9
    losses: list[float] = []
    t.run(progress=lambda step, steps, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert accuracy(model, small, labels, CONTRACT) == 1.0
    model.load_state_dict(t.averaged())
    assert accuracy(model, small, labels, CONTRACT) == 1.0
    assert accuracy(model, small, 1 - labels, CONTRACT) == 0.0 and not model.training


def test_accuracy_counts_over_several_batches():
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack((-x.mean((1, 2, 3)), x.mean((1, 2, 3))), 1)  # dark, bright

    pixels = np.zeros((300, 16, 16, 3), np.uint8)
    pixels[200:] = 255
    labels = np.zeros(300, np.int64)
    assert accuracy(Mean(), pixels, labels, CONTRACT) == pytest.approx(200 / 300)


def test_recipes_refuse_what_cannot_work_and_suit_their_pictures():
    for wrong in ({"lr": 0.0}, {"momentum": 1.0}, {"batch": 0}, {"min_area": 0.0}, {"min_area": 1.1}):
        with pytest.raises(BadInput, match="Recipe 'x'"):
            Recipe(name="x", **wrong)


def test_recipes_go_by_their_file():
    assert {"photos", "glyphs", "photos_finetuning"} <= set(list_recipes())
    for name in list_recipes():
        recipe = get_recipe(name)
        assert recipe.name == name and Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert not get_recipe("glyphs").flip and get_recipe("photos_finetuning").lr < get_recipe("photos").lr / 10
    with pytest.raises(BadInput, match=r"unknown recipe 'soup'; known: .*photos"):
        get_recipe("soup")
    with pytest.raises(BadFile, match="'lr' is missing"):
        Recipe.from_json({key: value for key, value in get_recipe("photos").to_json().items() if key != "lr"})


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**70), st.integers(0, 1000))
def test_the_order_of_an_epoch_is_a_permutation_whatever_part_is_asked_for(n, seed, epoch):
    order = shuffled(np.arange(n), n, seed, epoch)
    assert sorted(order) == list(range(n))
    part = np.arange(n)[::-3]
    assert (shuffled(part, n, seed, epoch) == order[part]).all()


def test_orders_are_as_good_as_drawn_by_lot():
    counts = np.zeros((5, 5))
    for seed in range(5000):
        counts[np.arange(5), shuffled(np.arange(5), 5, seed, 0)] += 1
    assert ((counts - 1000) ** 2 / 1000).sum() < 38  # chi square, 16 degrees of freedom, 1 in 700
    order = shuffled(np.arange(100_000), 100_000, 0, 0)
    assert (
        abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.015
        and abs(np.corrcoef(order, np.arange(100_000))[0, 1]) < 0.015
    )
    far = shuffled(np.arange(10**11, 10**11 + 64), 10**12, 0, 1)  # no memory, whatever the size
    assert len(set(far.tolist())) == 64 and far.min() >= 0 and far.max() < 10**12


def test_draws_are_uniform_and_independent():
    u = uniforms(keys(3, 1, np.arange(50_000)), 3)
    more = np.hstack(
        [u, uniforms(keys(3, 2, np.arange(50_000)), 1), uniforms(keys(3, 1, np.arange(50_000)), 1, stream=1)]
    )
    assert u.dtype == np.float32 and u.min() >= 0 and u.max() < 1
    assert np.abs(more.mean(0) - 0.5).max() < 0.006 and np.abs(more.var(0) - 1 / 12).max() < 0.002
    assert np.abs(np.corrcoef(more.T) - np.eye(5)).max() < 0.02
    assert (uniforms(keys(3, 1, np.array([7])), 3) == u[7]).all()  # whoever else is in the batch
