"""BatchNorm statistics estimated again, the network that training delivers, and a recipe's dropout and clipping."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swiftlet.compress.batchnorm import recalibrate
from swiftlet.compress.sparsify import Gradual, masked
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.recipes import get_recipe
from swiftlet.train import loop
from swiftlet.train.loop import Pictures, Training, accuracy
from swiftlet.train.recipe import Recipe

CONTRACT = InputContract(side=16)


def network(dropout: float = 0.5) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(dropout), nn.Conv2d(4, 2, 3),
            nn.BatchNorm2d(2, momentum=0.3), nn.BatchNorm2d(2, track_running_stats=False),
        )  # fmt: skip


def classifier() -> nn.Sequential:
    return nn.Sequential(*network(0.0)[:4], nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_statistics_are_the_mean_over_the_batches_and_all_else_stays():
    model, batches = network().train(), list(torch.randn(3, 8, 3, 10, 10))
    model[4].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if "running" not in name}
    recalibrate(model, batches)
    maps = [model[0](images) for images in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([m.mean((0, 2, 3)) for m in maps]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([m.var((0, 2, 3)) for m in maps]).mean(0))
    deeper = [model[3](nn.functional.batch_norm(m, None, None, model[1].weight, model[1].bias, True)) for m in maps]
    torch.testing.assert_close(model[4].running_mean, torch.stack([m.mean((0, 2, 3)) for m in deeper]).mean(0))
    assert [module.training for module in model] == [True, True, True, True, False, True] and model.training
    assert (model[1].momentum, model[4].momentum) == (0.1, 0.3)
    counters = {"1.num_batches_tracked", "4.num_batches_tracked"}
    after = {name: tensor for name, tensor in model.state_dict().items() if name in before.keys() - counters}
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items()) and len(after) == 10


def test_without_a_batch_nothing_changes():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(BadInput, match="no batch"):
        recalibrate(model, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training and model[1].momentum == 0.1


@pytest.fixture(scope="module")
def trained() -> Training:
    """On red and blue noise, to the end."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 64)
    pixels = rng.integers(0, 120, (64, 20, 20, 3), np.uint8)
    pixels[np.arange(64), :, :, 2 * labels] += 100
    recipe = dataclasses.replace(get_recipe("photos"), batch=16, lr=0.1, label_smoothing=0.0)
    t = Training(classifier(), Pictures(pixels, labels), CONTRACT, recipe, steps=40, seed=0)
    t.run()
    return t


def score(t: Training, state: dict[str, Tensor]) -> float:
    model = classifier()
    model.load_state_dict(state)
    return accuracy(model, t.pictures.pixels[:, 2:18, 2:18].copy(), t.pictures.labels, CONTRACT)


def destroy(state: dict[str, Tensor], by: float) -> None:
    for name, tensor in state.items():
        if "running_mean" in name:
            tensor.add_(by)


@pytest.mark.parametrize("by", [50.0, float("nan")])
def test_destroyed_statistics_are_repaired(by, trained):
    kept, model = trained.averaged(), {name: tensor.clone() for name, tensor in trained.model.state_dict().items()}
    assert score(trained, kept) == 1.0
    destroy(trained.average.state, by)
    assert score(trained, trained.averaged()) < 0.8
    repaired = trained.delivered()
    trained.average.state = kept
    assert score(trained, repaired) == 1.0
    learned = [name for name in kept if "running" not in name and "num_" not in name]
    assert len(learned) == 6 and all(torch.equal(repaired[name], kept[name]) for name in learned)
    assert trained.model.training  # and nothing was done to the network that is trained
    assert all(torch.equal(tensor, model[name]) for name, tensor in trained.model.state_dict().items())


def test_the_better_statistics_are_delivered(trained, monkeypatch):
    delivered = trained.delivered()
    assert score(trained, delivered) == 1.0
    assert all(torch.equal(delivered[name], tensor) for name, tensor in trained.delivered().items())
    monkeypatch.setattr(loop, "recalibrate", lambda model, batches: destroy(model.state_dict(), 50.0))
    assert all(torch.equal(tensor, trained.averaged()[name]) for name, tensor in trained.delivered().items())


def test_a_network_without_batchnorm_stays_as_it_is():
    model = nn.Linear(2, 2)
    recalibrate(model, [torch.zeros(1, 3, 4, 4)])  # which it could not take
    assert model.training


def test_dropout_is_the_recipes():
    pictures = Pictures(np.zeros((4, 16, 16, 3), np.uint8), np.zeros(4, np.int64))
    for asked, expected in ((None, 0.5), (0.2, 0.2), (0.0, 0.0)):
        t = Training(network(), pictures, CONTRACT, Recipe(name="x", dropout=asked), steps=1, seed=0)
        assert t.model[2].p == expected
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 2))
    Training(plain, pictures, CONTRACT, Recipe(name="x", dropout=0.0), steps=1, seed=0)
    with pytest.raises(BadInput, match=r"Recipe 'x': dropout=0\.2, but Sequential has no nn\.Dropout"):
        Training(plain, pictures, CONTRACT, Recipe(name="x", dropout=0.2), steps=1, seed=0)


@pytest.mark.parametrize("clip", [0.0, 0.01, 1e6])
def test_gradients_are_clipped_to_their_common_norm(clip):
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (4, 16, 16, 3), np.uint8), np.arange(4))
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    recipe = Recipe(name="x", batch=4, lr=0.1, momentum=0.0, weight_decay=0.0, warmup=0.0, clip=clip)
    t = Training(model, pictures, CONTRACT, recipe, steps=1, seed=0)
    t.run()
    moved = (torch.cat([p.detach().flatten() for p in model.parameters()]) - before).norm().item()
    if clip == 0.01:
        assert moved == pytest.approx(0.1 * 0.01, rel=1e-2)
    else:
        assert moved > 0.1


def test_the_delivered_network_has_the_masks_of_the_last_step():
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (32, 16, 16, 3), np.uint8), rng.integers(0, 2, 32))
    model = masked(classifier())
    recipe = Recipe(name="test", batch=8, lr=0.01, ema=0.5)
    training = Training(model, pictures, CONTRACT, recipe, steps=12, seed=0)
    training.run(progress=Gradual(model, 0.75, every=2))
    delivered = training.delivered()
    masks = [name for name in delivered if name.endswith("pruned")]
    assert masks and all(torch.equal(delivered[name], model.state_dict()[name]) for name in masks)
    assert sum(int(delivered[name].sum()) for name in masks) == round(0.75 * 180)
