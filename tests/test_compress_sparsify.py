"""Unstructured pruning: which weights go, that they stay away, the published schedule, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.compress.sparsify import Gradual, finished, masked, sparsify, sparsify_n_m
from swiftlet.compress.trace import trace
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe

CONTRACT = InputContract(side=8)
RECIPE = Recipe(name="test", batch=8, lr=0.05, weight_decay=1e-2, decayed="all")


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(), nn.Linear(128, 3),
        ).eval()  # fmt: skip


def noise(n: int = 48) -> Pictures:
    rng = np.random.default_rng(0)
    return Pictures(rng.integers(0, 256, (n, 8, 8, 3), np.uint8), rng.integers(0, 3, n))


def zeros(model: nn.Module) -> dict[str, int]:
    layers = {path: module for path, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)}
    return {path: int((layer.weight == 0).sum()) for path, layer in layers.items()}


def weights(model: nn.Module) -> Tensor:
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return torch.cat([layer.weight.detach().flatten() for layer in layers])


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 0.99), st.sampled_from(["global", "layer", "lamp"]), st.integers(0, 5))
def test_exactly_the_smallest_weights_go(sparsity, scope, seed):
    model = network(seed)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pruned, record = sparsify(model, sparsity, scope=scope)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    counts = {path: model.get_submodule(path).weight.numel() for path in zeros(model)}
    if scope == "layer":
        assert zeros(pruned) == {path: round(sparsity * count) for path, count in counts.items()}
    else:
        assert sum(zeros(pruned).values()) == round(sparsity * sum(counts.values()))
    if scope == "global":
        old, new = weights(model), weights(pruned)
        assert old[new == 0].abs().max() <= old[new != 0].abs().min() and torch.equal(old[new != 0], new[new != 0])
    for path in counts:  # in each layer it is the smallest ones, whatever the scope
        old, new = model.get_submodule(path).weight.abs(), pruned.get_submodule(path).weight
        assert (new != 0).all() or (new == 0).all() or old[new == 0].max() <= old[new != 0].min()

    plain, again = finished(pruned)
    assert plain.state_dict().keys() == model.state_dict().keys()
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain(x), pruned(x)) and torch.equal(trace(plain)(x), plain(x))
    assert not any(torch.signbit(w[w == 0]).any() for w in plain.parameters())  # -0 would be one more value to code
    replayed, same = sparsify(network(seed + 1), **again.arguments)
    assert zeros(replayed) == zeros(plain) and same.changed == again.changed and again.name == record.name


def test_lamp_scores_are_the_papers():
    """Lee et al. 2021, equation 1, by hand: squares 1, 4, 9 give 1/14, 4/13, 1; and 25, 36 give 25/61, 1."""
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[3.0, -1.0, 2.0]]))
        model[1].weight.copy_(torch.tensor([[-6.0, 5.0]]))
    one, two, three = (sparsify(model, count / 5, scope="lamp")[0] for count in (1, 2, 3))
    assert zeros(one) == {"0": 1, "1": 0} and one[0].weight[0, 1] == 0
    assert zeros(two) == {"0": 2, "1": 0}
    assert zeros(three) == {"0": 2, "1": 1}


def test_two_of_four_inputs_are_left():
    model = network()
    pruned, record = sparsify_n_m(model, 2, 4)
    assert record.changed == ("5",)
    assert {path for path, _ in record.skipped} == {"0", "3"} and "3 input channels" in record.skipped[0][1]
    old, new = model[5].weight.abs().view(-1, 4), pruned[5].weight.view(-1, 4)
    assert ((new != 0).sum(1) == 2).all()
    assert (old.masked_fill(new == 0, torch.inf).amin(1) >= old.masked_fill(new != 0, 0).amax(1)).all()
    deep = nn.Conv2d(8, 2, 3)
    columns = sparsify_n_m(deep, 1, 8)[0].weight
    assert ((columns != 0).sum(1) == 1).all()  # at each place of the kernel


def test_the_schedule_is_zhu_and_guptas():
    """Equation 1 with s_i = 0, s_f = 0.875: half of the way leaves 1/8 of the distance to go."""
    gradual = Gradual(masked(network()), 0.875, begin=0.2, end=0.6, every=10)
    assert [gradual.target(step, 100) for step in (10, 20, 40, 60, 100)] == pytest.approx(
        [0, 0, 0.875 * 7 / 8, 0.875, 0.875]
    )
    assert Gradual(masked(network()), 0.8, initial=0.5).target(0, 10) == 0.5


def test_a_gradual_training_prunes_on_schedule_and_keeps_zeros():
    model = masked(network())
    gradual = Gradual(model, 0.9, end=0.5, every=4, scope="layer")
    seen: list[Tensor] = []

    def hook(step: int, steps: int, loss: float) -> None:
        gradual(step, steps, loss)
        seen.append(weights(model) == 0)

    training = Training(model, noise(), CONTRACT, RECIPE, steps=40, seed=0)
    assert training.run(progress=hook)
    for before, after in pairwise(seen):
        assert (after | ~before).all()  # what is pruned stays pruned
    assert seen[2].sum() == 0 and torch.equal(seen[19], seen[39]) and seen[18].sum() < seen[19].sum()
    assert zeros(finished(model)[0]) == {path: round(0.9 * n) for path, n in (("0", 216), ("3", 72), ("5", 384))}


def test_a_gradual_training_that_was_stopped_ends_in_the_same_bits(tmp_path):
    def trained(stop: int | None, folder) -> dict[str, Tensor]:
        model = masked(network())
        gradual = Gradual(model, 0.9, every=3)
        training = Training(model, noise(), CONTRACT, RECIPE, steps=20, seed=0)
        done = training.run(
            checkpoints=Checkpoints(folder), progress=gradual, should_stop=lambda: training.step == stop
        )
        assert done == (stop is None)
        return finished(model)[0].state_dict()

    whole = trained(None, tmp_path / "whole")
    trained(8, tmp_path / "cut")
    resumed = trained(None, tmp_path / "cut")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


def test_no_gradient_reaches_a_pruned_weight():
    model, _ = sparsify(network(), 0.7)
    F.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.tensor([0, 1, 2, 0])).backward()
    for layer in (model[0], model[3], model[5]):
        grad, pruned = layer.parametrizations.weight.original.grad, layer.parametrizations.weight[0].pruned
        assert pruned.any() and not grad[pruned].any() and grad[~pruned].any()


def test_going_on_from_a_pruned_network_and_layers_of_ones_own():
    first, _ = sparsify(network(), 0.5)
    second, record = sparsify(first, {"0": 0.9}, scope="layer", keep=["3"])
    assert record.changed == ("0",) and dict(record.skipped).keys() == {"3", "5"}
    assert ((weights(first) != 0) | (weights(second) == 0)).all()
    with pytest.raises(NothingToDo, match="no weight more to prune"):
        sparsify(first, 0.5)


def test_tied_weights_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    pruned, record = sparsify(model, 0.5)
    assert record.changed == ("2",) and dict(record.skipped)["0"] == "its weight is also that of 1"
    assert pruned[1].weight is pruned[0].weight


def test_weights_by_another_name_are_named():
    model = nn.ModuleList([nn.LSTM(3, 2), nn.Linear(3, 2)])
    model[1].extra = nn.Parameter(torch.randn(2, 2))
    _, record = sparsify(model, 0.5)
    assert record.changed == ("1",)
    assert [path for path, _ in record.skipped] == ["0", "0", "1"] and "weight_ih_l0" in record.skipped[0][1]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: sparsify(m, 1.5), BadInput, "needs 0 to 1"),
        (lambda m: sparsify(m, float("nan")), BadInput, "needs 0 to 1"),
        (lambda m: sparsify(m, 0.5, scope="row"), BadInput, "scope='row'"),
        (lambda m: sparsify(m, {"0": 0.5}), BadInput, "scope='layer'"),
        (lambda m: sparsify(m, {"1": 0.5}, scope="layer"), BadInput, "no layer '1'.*0, 3, 5"),
        (lambda m: sparsify(m, 0.5, keep=["6"]), BadInput, "no layer '6'"),
        (lambda m: sparsify(m, 0.0), NothingToDo, "no weight more"),
        (lambda m: sparsify(nn.ReLU(), 0.5), NothingToDo, "no weight of two"),
        (lambda m: sparsify_n_m(m, 4, 4), BadInput, "0 < n < m"),
        (lambda m: sparsify_n_m(m, 2, 4, keep=["5"]), NothingToDo, "kept as it is"),
        (lambda m: finished(m), NothingToDo, "no pruned weight"),
        (lambda m: Gradual(m, 0.5), NothingToDo, "no masks"),
        (lambda m: Gradual(masked(m), 0.5, initial=0.6), BadInput, "initial <= sparsity"),
        (lambda m: masked(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), BadInput, "parametrization already"),
    ],
)  # fmt: skip
def test_bad_calls(call, error, text):
    with pytest.raises(error, match=text):
        call(network())
