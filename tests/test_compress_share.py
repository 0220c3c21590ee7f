"""Weight sharing: the clusters, summed gradients, zeros apart, training, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.compress.share import finished, kmeans, share
from swiftlet.compress.sparsify import finished as finished_pruning
from swiftlet.compress.sparsify import sparsify
from swiftlet.compress.trace import trace
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe

CONTRACT = InputContract(side=8)
RECIPE = Recipe(name="test", batch=8, lr=0.01, weight_decay=1e-2, decayed="all")


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5)).eval()


def values(tensor: Tensor) -> Tensor:
    """The different values that are not zero."""
    return tensor.detach()[tensor.detach() != 0].unique()


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 32), st.integers(0, 1000))
def test_kmeans_is_scipys(k, seed):
    numbers = np.random.default_rng(seed).normal(size=500)
    start = np.quantile(numbers, (np.arange(k) + 0.5) / k)
    found = kmeans(numbers, start)
    theirs, _ = kmeans2(numbers[:, None], start[:, None], iter=500, minit="matrix")
    np.testing.assert_allclose(found, np.sort(theirs.ravel()), atol=1e-9)


def test_there_are_no_more_clusters_than_values():
    found = kmeans(np.array([0.0, 0.1, 9.9, 10.0, 10.0]), np.linspace(0, 10, 16))
    np.testing.assert_allclose(found, [0.0, 0.1, 9.9, 10.0])


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 64), st.integers(0, 1000))
def test_no_cluster_stays_empty(k, seed):
    """Folded depthwise weights: one scale for each channel, and most of the even starts far from any weight."""
    draw = np.random.default_rng(seed)
    numbers = np.exp(2 * draw.normal(size=(64, 1))) * draw.normal(size=(64, 9))
    start = np.linspace(numbers.min(), numbers.max(), k)
    found = kmeans(numbers, start)
    error = np.abs(numbers.ravel()[:, None] - found).min(1)
    even = np.abs(numbers.ravel()[:, None] - start).min(1)
    assert len(found) == k and (np.diff(found) > 0).all()
    assert np.bincount(np.abs(numbers.ravel()[:, None] - found).argmin(1), minlength=k).all()
    assert (error**2).sum() <= (even**2).sum()


@pytest.mark.parametrize("init", ["linear", "density", "random"])
@settings(max_examples=15, deadline=None)
@given(bits=st.integers(1, 6), pruned=st.booleans(), seed=st.integers(0, 5))
def test_every_weight_gets_the_nearest_of_few_values(init, bits, pruned, seed):
    model = network(seed)
    if pruned:
        model, _ = finished_pruning(sparsify(model, 0.6)[0])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    shared, record = share(model, bits, init=init, seed=seed if init == "random" else None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert record.changed == ("0", "3") and record.arguments["bits"] == {"0.weight": bits, "3.weight": bits}
    for path in ("0", "3"):
        old, new = model.get_submodule(path).weight, shared.get_submodule(path).weight
        few = values(new)
        assert len(few) <= 2**bits and torch.equal(old == 0, new == 0)
        distance = (old[old != 0][:, None] - few).abs()
        torch.testing.assert_close((old - new)[old != 0].abs(), distance.amin(1))
        for value in few:  # where it came to rest: each is the mean of its weights
            torch.testing.assert_close(old[new == value].mean(), value)

    plain, again = finished(shared)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain(x), shared(x)) and torch.equal(trace(plain)(x), plain(x))
    assert plain.state_dict().keys() == model.state_dict().keys() and again.changed == record.changed
    replayed, _ = share(network(seed + 1), **again.arguments)
    assert replayed.state_dict().keys() == shared.state_dict().keys()


def test_a_centroids_gradient_is_the_sum_over_its_weights():
    """Han et al., equation 3."""
    shared, _ = share(finished_pruning(sparsify(network(), 0.5)[0])[0], 3)
    plain, _ = finished(shared)
    x, labels = torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    for model in (shared, plain):
        F.cross_entropy(model(x), labels).backward()
    for i in (0, 3):
        chain = shared[i].parametrizations.weight
        sums = torch.stack(
            [plain[i].weight.grad[chain[0].codes == code + 1].sum() for code in range(len(chain.original))]
        )
        torch.testing.assert_close(chain.original.grad, sums)


def test_training_moves_the_values_and_not_who_has_them():
    pruned, _ = finished_pruning(sparsify(network(), 0.5)[0])
    shared, _ = share(pruned, {"0.weight": 2, "3.weight": 3, "0.bias": 1})
    start, _ = finished(shared)
    rng = np.random.default_rng(0)
    pictures = Pictures(rng.integers(0, 256, (48, 8, 8, 3), np.uint8), rng.integers(0, 5, 48))
    training = Training(shared, pictures, CONTRACT, RECIPE, steps=30, seed=0)
    training.run()
    shared.load_state_dict(training.delivered())  # what a run hands on can be finished too
    end, record = finished(shared)
    assert record.arguments["bits"] == {"0.weight": 2, "0.bias": 1, "3.weight": 3}
    for name in ("0.weight", "3.weight", "0.bias"):
        old, new = start.get_parameter(name), end.get_parameter(name)
        assert torch.equal(old == 0, new == 0) and not torch.equal(old, new)
        for value in values(old):
            assert len(new[old == value].unique()) == 1
    assert not torch.equal(start[3].bias, end[3].bias) and len(values(end[3].bias)) == 5


def test_few_values_stay_what_they_are():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    nn.init.zeros_(model[1].weight)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.1, 0.0, 0.2], [0.1, 0.3, 0.0]]))
    shared, record = share(model, 4)
    assert torch.equal(shared[0].weight, model[0].weight) and shared[0].parametrizations.weight.original.shape == (3,)
    assert record.skipped == (("1", "its weight is zero everywhere"),)
    nn.init.zeros_(model[0].bias)
    shared, record = share(model, {"0.bias": 2, "0.weight": 2})
    assert record.skipped == (("0", "its bias is zero everywhere"),) and record.arguments["bits"] == {"0.weight": 2}


def test_tied_weights_are_left_alone():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight, model[2].bias = model[0].weight, model[0].bias
    for bits in (2, {"0.weight": 2, "0.bias": 2, "2.weight": 2}):
        shared, record = share(model, bits)
        assert record.arguments["bits"] == {"2.weight": 2} and {path for path, _ in record.skipped} >= {"0"}
        assert shared[1].weight is shared[0].weight and shared[2].bias is shared[0].bias


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: share(m, 0), BadInput, "0 bits for '0.weight'"),
        (lambda m: share(m, 17), BadInput, "1 to 16"),
        (lambda m: share(m, True), BadInput, "True bits"),
        (lambda m: share(m, {"2.weight": 4}), BadInput, "no parameter '2.weight'; there are 0.weight"),
        (lambda m: share(m, 4, init="kmeans++"), BadInput, "linear, density, random"),
        (lambda m: share(m, 4, init="random"), BadInput, "that needs one"),
        (lambda m: share(m, 4, seed=1), BadInput, "a seed goes with"),
        (lambda m: share(share(m, 4)[0], 4), BadInput, "call finished"),
        (lambda m: share(share(m, 4)[0], {"0.weight": 4}), BadInput, "call finished"),
        (lambda m: share(sparsify(m, 0.5)[0], 4), BadInput, "call finished"),
        (lambda m: share(nn.ReLU(), 4), NothingToDo, "no tensor"),
        (lambda m: finished(m), NothingToDo, "no weight of the network is shared"),
    ],
)  # fmt: skip
def test_bad_calls(call, error, text):
    with pytest.raises(error, match=text):
        call(network())


def test_weights_that_are_no_numbers_are_refused():
    model = network()
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    with pytest.raises(BadInput, match=r"'3.weight' holds values that are no numbers"):
        share(model, 4)
