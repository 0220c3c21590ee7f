"""Optimizers step by step beside timm's and torch's, schedules beside torch's, and their state in a checkpoint."""

import copy
import dataclasses
import itertools

import pytest
import torch
import torchvision_ops  # noqa: F401  (lets timm import)
from timm.optim import RMSpropTF as TimmRMSprop
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, PolynomialLR, StepLR

from swiftlet.train.optimizers import load_state_tensors, make_optimizer, parameter_groups, state_tensors
from swiftlet.train.recipe import Recipe
from swiftlet.train.schedules import rate

RECIPE = Recipe(name="test", lr=0.05, weight_decay=0.01, epsilon=1e-3, square_decay=0.95, warmup=0.0)
SGD = dataclasses.replace(RECIPE, optimizer="sgd")
RMSPROP = dataclasses.replace(RECIPE, optimizer="rmsprop")
ADAMW = dataclasses.replace(RECIPE, optimizer="adamw")


def network() -> nn.Module:
    """Dense, depthwise, BatchNorm and bias parameters, channels-last."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 5))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.05 / (1 + step)  # what the momentum buffer holds of it matters
        optimizer.zero_grad()
        images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        model(images.contiguous(memory_format=torch.channels_last)).square().sum().backward()
        optimizer.step()


def assert_close(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_rmsprop_takes_the_steps_of_tensorflows(momentum, weight_decay):
    recipe = dataclasses.replace(RMSPROP, momentum=momentum, weight_decay=weight_decay, decayed="all")
    ours, theirs = network(), network()
    optimizer = make_optimizer(ours, recipe)
    reference = TimmRMSprop(
        theirs.parameters(), lr=0.05, alpha=0.95, eps=1e-3, momentum=momentum, weight_decay=weight_decay
    )
    for step in range(5):
        train(ours, optimizer, range(step, step + 1))
        train(theirs, reference, range(step, step + 1))
        assert_close(ours, theirs)
    torchs = network()
    train(torchs, torch.optim.RMSprop(torchs.parameters(), lr=0.05, alpha=0.95, eps=1e-3, momentum=momentum), range(5))
    with pytest.raises(AssertionError):  # torch's own is another optimizer
        assert_close(ours, torchs)


def test_rmsprop_returns_the_closures_loss_and_skips_what_has_no_gradient():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, RMSPROP)

    def closure() -> float:
        loss = model(torch.ones(1, 2)).square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == pytest.approx(model[1](nn.functional.linear(torch.ones(1, 2), *[
        before[f"0.{name}"] for name in ("weight", "bias")
    ])).square().sum().item())  # fmt: skip
    assert not torch.equal(model[0].weight, before["0.weight"]) and torch.equal(model[1].weight, before["1.weight"])


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_sgd_is_torchs(momentum, nesterov):
    ours, theirs = network(), network()
    recipe = dataclasses.replace(SGD, momentum=momentum, nesterov=nesterov)
    train(ours, make_optimizer(ours, recipe), range(4))
    reference = torch.optim.SGD(
        parameter_groups(theirs, recipe), lr=0.05, momentum=momentum, nesterov=nesterov and momentum > 0
    )
    train(theirs, reference, range(4))
    assert_close(ours, theirs)


def test_adamw_decays_apart_from_the_gradient_and_what_the_recipe_says():
    model = network()
    recipe = dataclasses.replace(ADAMW, weight_decay=0.5, decayed="weights")
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(model, recipe)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        decayed = name in ("0.weight", "2.weight", "4.weight")
        torch.testing.assert_close(p, before[name] * (1 - 0.05 * 0.5 * decayed))
    assert (optimizer.param_groups[0]["betas"], optimizer.param_groups[0]["eps"]) == ((0.9, 0.95), 1e-3)


@pytest.mark.parametrize(("decayed", "spared"), [("all", 0), ("weights", 5), ("dense", 6)])
def test_what_is_decayed(decayed, spared):
    groups = parameter_groups(network(), dataclasses.replace(RECIPE, decayed=decayed))
    assert [len(group["params"]) for group in groups] == [8 - spared, spared]


@pytest.mark.parametrize("recipe", [SGD, RMSPROP, ADAMW], ids=lambda r: r.optimizer)
def test_the_state_makes_the_round_trip_to_the_bit(recipe):
    straight, stopped = network(), network()
    train(straight, make_optimizer(straight, recipe), range(5))
    first = make_optimizer(stopped, recipe)
    train(stopped, first, range(3))
    stored = {name: value.clone().contiguous() for name, value in state_tensors(first, stopped).items()}
    assert stored and ("0.weight/step" in stored) == (recipe.optimizer == "adamw")
    second = make_optimizer(stopped, recipe)
    load_state_tensors(second, stopped, stored)
    for p in stopped.parameters():
        assert all(v.stride() == p.stride() for v in second.state[p].values() if v.shape == p.shape)
    train(stopped, second, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True))


def test_loading_the_state_of_one_network_leaves_anothers():
    ours, others = nn.Linear(2, 2), nn.Linear(2, 2)
    optimizer = make_optimizer(nn.Sequential(ours, others), SGD)
    for p in itertools.chain(ours.parameters(), others.parameters()):
        p.grad = torch.ones_like(p)
    optimizer.step()
    kept = state_tensors(optimizer, others)
    load_state_tensors(optimizer, ours, {"weight/momentum_buffer": torch.full((2, 2), 7.0)})
    assert state_tensors(optimizer, others) == kept and len(kept) == 2
    assert list(state_tensors(optimizer, ours)) == ["weight/momentum_buffer"]


STEPS, PER_EPOCH = 60, 10


def torchs(scheduler: str) -> list[float]:
    """Shares of the peak, by torch's schedulers; warm-up for one-cycle only."""
    optimizer = torch.optim.SGD([Tensor([0.0])], lr=1.0)
    schedule = {
        "cosine": lambda: CosineAnnealingLR(optimizer, STEPS),
        "linear": lambda: PolynomialLR(optimizer, STEPS),
        "exponential": lambda: StepLR(optimizer, 24, gamma=0.97),
        "one-cycle": lambda: OneCycleLR(optimizer, 1.0, total_steps=STEPS, pct_start=0.3, cycle_momentum=False),
    }[scheduler]()
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < STEPS:
            schedule.step()
    return rates


@pytest.mark.parametrize("schedule", ["cosine", "linear", "exponential", "one-cycle"])
def test_schedules_are_torchs(schedule):
    warmup = 0.3 if schedule == "one-cycle" else 0.0
    recipe = dataclasses.replace(RECIPE, schedule=schedule, warmup=warmup, gamma=0.97, gamma_epochs=2.4)
    rates = [rate(recipe, step, STEPS, PER_EPOCH) for step in range(STEPS)]
    assert rates == pytest.approx(torchs(schedule), abs=1e-9)
    assert max(rates) == 1 and len(set(rates)) == (3 if schedule == "exponential" else STEPS)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.5, 0.99])
def test_one_cycle_reaches_its_peak_however_short_it_is(steps, warmup):
    recipe = dataclasses.replace(RECIPE, schedule="one-cycle", warmup=warmup)
    rates = [rate(recipe, step, steps, 1) for step in range(steps)]
    assert max(rates) == 1 and min(rates) > 0


def test_a_staircase_of_fractions_of_an_epoch_does_not_drift():
    recipe = dataclasses.replace(RECIPE, schedule="exponential", gamma=0.5, gamma_epochs=2.4)
    rates = [rate(recipe, epoch, 13, 1) for epoch in range(13)]
    assert rates == [0.5 ** int(epoch / 2.4 + 1e-9) for epoch in range(13)]
