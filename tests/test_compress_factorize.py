"""Low-rank factorization: exact where nothing is cut, optimal where theory says so, counted as the papers count."""

import copy
import doctest
import json
from itertools import pairwise, product
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from settle import settled
from torch import Tensor, fx, nn

from swiftlet.compress.decompose import decompose
from swiftlet.compress.factorize import factorize, rebuild
from swiftlet.compress.fold import fold_batchnorm, folded, is_training
from swiftlet.compress.ranks import Option, at_price, by_budget, curve, saving
from swiftlet.compress.record import Record
from swiftlet.cost import papers
from swiftlet.cost.count import count_model
from swiftlet.cost.papers import Work
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, Infeasible, NothingToDo
from swiftlet.export.onnx import export_onnx
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.padding import SameConv2d
from swiftlet.runtime import get_runtime
from swiftlet.zoo import create_model, list_models

METHODS = ("svd", "spatial", "cp", "tucker")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scores(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x.clone())


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def randomised(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with normal weights of its own seed, in eval mode."""
    with torch.no_grad():
        for i, parameter in enumerate(layer.parameters()):
            parameter.copy_(noise(*parameter.shape, seed=seed + i))
    return layer.eval()


def alone(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer).eval()


def effective(chain: nn.Sequential, method: str) -> Tensor:
    """The weight that a chain stands for, put together by the definition of its method."""
    weights = [layer.weight.detach().double() for layer in chain]
    flat = [
        weight.flatten(2).squeeze(2) if weight.ndim == 4 and weight[0, 0].numel() == 1 else weight for weight in weights
    ]
    if method == "svd":
        return torch.einsum("nr,r...->n...", flat[1], weights[0])
    if method == "spatial":
        return torch.einsum("nrj,rci->ncij", weights[1][:, :, 0], weights[0][..., 0])
    if method == "cp":
        return torch.einsum("nr,rij,rc->ncij", flat[2], weights[1][:, 0], flat[0])
    return torch.einsum("nq,qpij,pc->ncij", flat[2], weights[1], flat[0])


# --- exact, optimal, found --------------------------------------------------------------------------------------------

LAYERS = {
    "padded": lambda: nn.Conv2d(5, 6, 3, padding=1),
    "strided": lambda: nn.Conv2d(5, 6, 3, stride=(1, 2), padding=(0, 1), bias=False),
    "uneven": lambda: nn.Conv2d(4, 7, (5, 3), stride=2, padding=(2, 1), dilation=(1, 2)),
    "same": lambda: nn.Conv2d(5, 6, (4, 3), padding="same"),
    "reflecting": lambda: nn.Conv2d(5, 6, 3, padding=1, padding_mode="reflect"),
    "pointwise": lambda: nn.Conv2d(5, 6, 1, stride=2, padding=1),
    "linear": lambda: nn.Linear(9, 6),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize(
    ("kind", "method"),
    [case for case in product(LAYERS, METHODS) if case[0] not in ("pointwise", "linear") or case[1] == "svd"],
)
def test_at_full_rank_a_chain_gives_what_its_layer_gave(kind, method):
    model = alone(randomised(LAYERS[kind]()))
    n, c, *kernel = model[0].weight.shape
    kh, kw = kernel or (1, 1)
    full = {
        "svd": min(n, c * kh * kw),
        "spatial": min(c * kh, n * kw),
        "cp": min(n * c, c * kh * kw),
        "tucker": (c, n),
    }[method]
    shape = (5, 9) if kind == "linear" else (c, 9, 11)
    new, record = factorize(model, shape, method=method, ranks={"0": full})
    x = noise(2, *shape, seed=5)
    wanted = scores(model, x)
    torch.testing.assert_close(scores(new, x), wanted, atol=1e-5 * wanted.abs().max().item(), rtol=0)
    assert record.changed == ("0",) and (model[0].bias is None) == (new.get_submodule("0")[-1].bias is None)
    assert all(layer.bias is None for layer in new.get_submodule("0")[:-1])


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_svd_and_spatial_are_the_optimum_of_eckart_and_young(rank):
    linear, conv = randomised(nn.Linear(20, 12)), randomised(nn.Conv2d(6, 8, (3, 5)))
    unfolded = conv.weight.detach().permute(1, 2, 0, 3).reshape(18, 40)
    for layer, matrix, method, shape in (
        (linear, linear.weight, "svd", (20,)),
        (conv, conv.weight.flatten(1), "svd", (6, 9, 9)),
        (conv, unfolded, "spatial", (6, 9, 9)),
    ):
        values = torch.linalg.svdvals(matrix.detach().double())
        best = float(values[rank:].norm() / values.norm()) if rank < len(values) else 0.0
        if rank > min(matrix.shape):
            continue
        new, _ = factorize(alone(layer), shape, method=method, ranks={"0": rank})
        got = relative(effective(new.get_submodule("0"), method), layer.weight.detach().double())
        assert got == pytest.approx(best, abs=1e-6)
        assert curve(layer, shape, method)[rank - 1].error == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("rank", [(2, 3), (5, 2), (4, 6)])
def test_tucker_lies_between_its_bounds_and_is_not_beaten_by_the_truncated_hosvd(rank):
    layer = randomised(nn.Conv2d(7, 8, 3))
    weight = layer.weight.detach().double().flatten(2)
    bases, tails = [], []
    for mode, r in zip((1, 0), rank, strict=True):
        left, values, _ = torch.linalg.svd(weight.movedim(mode, 0).flatten(1))
        bases.append(left[:, :r])
        tails.append(float(values[r:].square().sum()))
    into, out = (basis @ basis.T for basis in bases)
    plain = float((torch.einsum("ncs,nm,cd->mds", weight, out, into) - weight).square().sum())
    new, _ = factorize(alone(layer), (7, 6, 6), method="tucker", ranks={"0": rank})
    lost = float((effective(new.get_submodule("0"), "tucker").flatten(2) - weight).square().sum())
    assert max(tails) <= lost * (1 + 1e-6) and lost <= plain * (1 + 1e-6) and plain <= sum(tails) * (1 + 1e-6)


def planted(method: str, seed: int = 0) -> nn.Module:
    """A 3 x 3 layer, or a linear one, that is a chain of known ranks."""
    weight = {
        "svd": lambda: noise(24, 5, seed=seed) @ noise(5, 30, seed=seed + 1),
        "spatial": lambda: torch.einsum("nrj,rci->ncij", noise(16, 4, 3, seed=seed), noise(4, 12, 3, seed=seed + 1)),
        "tucker": lambda: torch.einsum(
            "nq,qpij,pc->ncij", noise(16, 4, seed=seed), noise(4, 3, 3, 3, seed=seed + 1), noise(3, 12, seed=seed + 2)
        ),
        "cp": lambda: torch.einsum(
            "nr,rij,rc->ncij", noise(16, 5, seed=seed), noise(5, 3, 3, seed=seed + 1), noise(5, 12, seed=seed + 2)
        ),
    }[method]()
    layer = nn.Linear(30, 24) if method == "svd" else nn.Conv2d(12, 16, 3)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return alone(layer)


@pytest.mark.parametrize(("method", "rank"), [("svd", 5), ("spatial", 4), ("tucker", [3, 4])])
def test_a_planted_rank_is_found(method, rank):
    model = planted(method)
    shape = (30,) if method == "svd" else (12, 8, 8)
    new, record = factorize(model, shape, method=method, energy=1.0)
    assert record.arguments == {"method": method, "ranks": {"0": rank}, "bias": False}
    assert relative(scores(new, noise(2, *shape)), scores(model, noise(2, *shape))) < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_cp_finds_planted_factors_and_a_higher_rank_never_hurts_much(seed):
    model = planted("cp", seed)
    new, _ = factorize(model, (12, 8, 8), method="cp", ranks={"0": 5})
    assert relative(scores(new, noise(2, 12, 8, 8)), scores(model, noise(2, 12, 8, 8))) < 1e-3
    errors = [option.error for option in curve(randomised(nn.Conv2d(12, 16, 3)), (12, 8, 8), "cp")]
    assert errors[-1] == 0 and all(b < a for a, b in pairwise(errors))


# --- outputs instead of weights ---------------------------------------------------------------------------------------


def correlated(images: int, seed: int) -> Tensor:
    """(images, 12, 8, 8) whose channels are mixtures of three, plus a little of everything and a mean."""
    mixing = noise(12, 3, seed=99)
    mixed = torch.einsum("cr,brhw->bchw", mixing, noise(images, 3, 8, 8, seed=seed))
    return mixed + 0.05 * noise(images, 12, 8, 8, seed=seed + 1) + 1


@pytest.mark.parametrize(("method", "rank"), [("svd", 6), ("spatial", 6), ("cp", 10), ("tucker", (6, 6))])
def test_fitting_the_outputs_beats_fitting_the_weights_on_images_not_seen(method, rank):
    model = nn.Sequential(nn.ReLU(), randomised(nn.Conv2d(12, 16, 3, padding=1, bias=False)), nn.ReLU()).eval()
    errors = []
    for batches in (None, [correlated(16, seed=7), correlated(8, seed=9)]):
        new, _ = factorize(model, (12, 8, 8), method=method, ranks={"1": rank}, batches=batches)
        errors.append(relative(scores(new, correlated(8, seed=11)), scores(model, correlated(8, seed=11))))
    plain, fitted = errors
    assert fitted < 0.75 * plain


def test_with_one_input_direction_rank_one_is_all_it_takes():
    """Zhang's closed form: outputs on a line, with a mean, are reproduced by one direction and a bias."""
    model = alone(randomised(nn.Linear(20, 12)))
    x = noise(3000, 1, seed=1) * noise(1, 20, seed=2) + noise(1, 20, seed=3)
    new, record = factorize(model, (20,), ranks={"0": 1}, batches=x.split(500))
    assert relative(scores(new, x), scores(model, x)) < 0.02
    assert relative(scores(factorize(model, (20,), ranks={"0": 1})[0], x), scores(model, x)) > 0.5
    found = factorize(model, (20,), energy=0.9, batches=[x])[1]
    assert found.arguments["ranks"] == {"0": 1} and record.arguments["bias"] is True


@pytest.mark.parametrize(("method", "rank"), [("svd", 6), ("spatial", 6), ("tucker", (6, 6))])
def test_two_images_do_no_harm(method, rank):
    model = alone(randomised(nn.Conv2d(12, 16, 3)))
    test = noise(8, 12, 8, 8, seed=3)
    plain, fitted = (
        relative(
            scores(factorize(model, (12, 3, 3), method=method, ranks={"0": rank}, batches=b)[0], test),
            scores(model, test),
        )
        for b in (None, [noise(2, 12, 3, 3, seed=4)])
    )
    assert fitted < 1.15 * plain


# --- counted as the papers count --------------------------------------------------------------------------------------

CHANNELS = st.integers(2, 12)


def work(model: nn.Module, shape: tuple[int, ...]) -> Work:
    return Work(sum(p.numel() for p in model.parameters() if p.ndim > 1), count_model(model, shape).cost.macs)


@settings(deadline=None, max_examples=15)
@given(
    CHANNELS,
    CHANNELS,
    st.sampled_from((3, 5)),
    st.sampled_from((1, 2)),
    st.integers(5, 9),
    st.integers(5, 9),
    st.data(),
)
def test_cost_is_that_of_the_papers(c_in, c_out, kernel, stride, height, width, data):
    layer = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False).eval()
    into, out = (height, width), (-(-height // stride), -(-width // stride))
    between = (out[0], width)
    rank, r_in, r_out = data.draw(
        st.tuples(st.integers(1, min(c_in, c_out)), st.integers(1, c_in), st.integers(1, c_out))
    )
    wanted = {
        "svd": papers.convolution(c_in, rank, kernel, out) + papers.pointwise(rank, c_out, out),
        "spatial": papers.strips(c_in, rank, c_out, kernel, out, into=between),
        "cp": papers.pointwise(c_in, rank, into)
        + papers.depthwise(rank, kernel, out)
        + papers.pointwise(rank, c_out, out),
        "tucker": papers.tucker(c_in, r_in, r_out, c_out, kernel, into, out),
    }
    for method, expected in wanted.items():
        given = (r_in, r_out) if method == "tucker" else rank
        new, _ = factorize(alone(layer), (c_in, *into), method=method, ranks={"0": given})
        assert work(new, (c_in, *into)) == expected
        for option in curve(layer, (c_in, *into), method) if method != "cp" else ():
            if option.rank == given:
                assert Work(option.params, option.macs) == expected
    linear, rank = nn.Linear(c_in, c_out).eval(), min(c_in, c_out)
    options = curve(linear, (c_in,))
    assert [Work(o.params, o.macs) for o in options[:-1]] == [
        papers.low_rank(c_in, c_out, r) for r in range(1, rank + 1)
    ]
    assert len(saving(options)) == min(rank, papers.break_even_rank(c_in, c_out))


# --- how far to go ----------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """BatchNorm, a residual sum, a layer called twice, linear layers of unequal use."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3)
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.down = conv_bn(8, 16, 3, stride=2)
        self.depthwise = conv_bn(16, 16, 3, groups=16)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.twice(torch.relu(self.twice(x)))) + x
        return self.head(self.depthwise(self.down(x)))


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    model(noise(8, 3, 12, 12))
    return model.eval()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("energy", [0.5, 0.8])
def test_every_layer_keeps_the_energy_asked_for_at_less_cost(method, energy):
    model = net()
    new, record = factorize(model, (3, 12, 12), method=method, energy=energy)
    assert record.changed
    for path in record.changed:
        weight = model.get_submodule(path).weight.detach().double()
        chain = new.get_submodule(path)
        assert relative(effective(chain, method), weight) ** 2 <= 1 - energy + 1e-6
        assert sum(p.numel() for p in chain.parameters() if p.ndim > 1) < weight.numel()
    assert count_model(new, (3, 12, 12)).cost.macs < count_model(model, (3, 12, 12)).cost.macs


@pytest.mark.parametrize("limited", ["macs", "params"])
@pytest.mark.parametrize("method", METHODS)
def test_a_budget_is_kept_and_used(method, limited):
    model = net()
    before = getattr(count_model(model, (3, 12, 12)).cost, limited)
    limit = int(0.75 * before)
    for batches in (None, [noise(4, 3, 12, 12)]):
        new, _ = factorize(model, (3, 12, 12), method=method, batches=batches, **{limited: limit})
        assert limit * 0.9 <= getattr(count_model(new, (3, 12, 12)).cost, limited) <= limit


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.2, 0.95), st.floats(0, 0.1))
def test_a_budget_is_spent_and_at_one_price_no_choice_keeps_more(seed, share, price):
    generator = np.random.default_rng(seed)
    curves = {}
    for path in "abc":
        costs = sorted(generator.choice(np.arange(1, 100), 5, replace=False).tolist())
        losses = sorted(generator.uniform(0.01, 0.95, 5).tolist(), reverse=True)
        offers = [Option(i + 1, loss, cost, cost) for i, (loss, cost) in enumerate(zip(losses, costs, strict=True))]
        curves[path] = (*offers, Option(None, 0.0, 100, 100))
    limit = int(share * 300) + 7
    least = 7 + sum(each[0].macs for each in curves.values())
    if least > limit:
        with pytest.raises(Infeasible, match=f"has {least} macs, over {limit}"):
            by_budget(curves, limit, "macs", 7)
        return
    chosen = by_budget(curves, limit, "macs", 7)

    def cost(options: tuple[Option, ...]) -> int:
        return sum(o.macs for o in options)

    def kept(options: tuple[Option, ...]) -> float:
        return sum(log(1 - o.loss) for o in options)

    picked = tuple(chosen.values())
    assert 7 + cost(picked) <= limit
    for i, (now, each) in enumerate(zip(picked, curves.values(), strict=True)):  # nothing better fits
        raised = [(*picked[:i], o, *picked[i + 1 :]) for o in each if o.loss < now.loss]
        assert all(7 + cost(other) > limit for other in raised)
    priced = tuple(at_price(curves, price, "macs").values())
    others = [each for each in product(*curves.values()) if cost(each) <= cost(priced)]
    assert kept(priced) >= max(map(kept, others)) - 1e-9


# --- the laws of a transform ------------------------------------------------------------------------------------------


def structure(model: fx.GraphModule) -> tuple[str, list[tuple[str, torch.Size]]]:
    return model.code, [(name, tensor.shape) for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize("batches", [None, [noise(4, 3, 12, 12)]], ids=["weights", "images"])
@pytest.mark.parametrize("method", METHODS)
def test_the_input_is_untouched_and_the_record_rebuilds_the_structure(method, batches):
    model, x = net(), noise(2, 3, 12, 12, seed=8)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    new, record = factorize(model, (3, 12, 12), method=method, energy=0.6, batches=batches)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert {t.data_ptr() for t in new.state_dict().values()}.isdisjoint(t.data_ptr() for t in before.values())
    assert not is_training(new) and not any(m._forward_hooks for m in new.modules())
    paths = {path for path, _ in model.named_modules()}
    assert {*record.changed, *dict(record.skipped)} <= paths
    assert dict(record.skipped)["depthwise.0"] == "it has 16 groups; only dense layers are taken apart"

    arguments = json.loads(json.dumps(record.arguments))
    fresh = net(seed=1)
    state = torch.get_rng_state()
    again = rebuild(fresh, Record(name=record.name, arguments=arguments))
    assert structure(again) == structure(new)
    assert torch.equal(torch.get_rng_state(), state)  # no random number was drawn
    again.load_state_dict(new.state_dict())
    assert torch.equal(scores(again, x), scores(new, x))
    same, also = factorize(model, (3, 12, 12), method=method, energy=0.6, batches=batches)
    assert also == record and torch.equal(scores(same, x), scores(new, x))

    with pytest.raises(NothingToDo, match="factorize: no layer"):
        factorize(nn.Sequential(nn.ReLU()).eval(), (3, 4, 4), method=method, energy=0.9)


@pytest.mark.parametrize("method", METHODS)
def test_before_or_after_folding_is_the_same(method):
    model, x = net(), noise(2, 3, 12, 12, seed=8)
    rank = {"svd": 16, "spatial": 24, "cp": 72, "tucker": (8, 16)}[method]
    first = fold_batchnorm(factorize(model, (3, 12, 12), method=method, ranks={"down.0": rank})[0])[0]
    then = factorize(fold_batchnorm(model)[0], (3, 12, 12), method=method, ranks={"down.0": rank})[0]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in first.modules())
    torch.testing.assert_close(scores(first, x), scores(model, x), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(scores(then, x), scores(model, x), atol=1e-5, rtol=1e-4)


class Awkward(nn.Module):
    """Layers that must stay, each for another reason, and one that can go."""

    def __init__(self) -> None:
        super().__init__()
        self.good = nn.Conv2d(8, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.special = SameConv2d(8, 8, 3)
        self.line = nn.Conv2d(8, 8, (1, 3), padding=(0, 1))
        self.point = nn.Conv2d(8, 8, 1)
        self.tied, self.tied_too = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.tied_too.weight = self.tied.weight
        self.read = nn.Conv2d(8, 8, 3, padding=1)
        self.hooked = nn.Conv2d(8, 8, 3, padding=1)
        self.hooked.register_forward_pre_hook(lambda module, inputs: None)
        self.small = nn.Conv2d(1, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied_too(self.tied(self.point(self.line(self.special(self.grouped(self.good(x)))))))
        return self.small(self.hooked(self.read(x) * self.read.weight.mean()).mean(1, keepdim=True))


def test_what_stays_says_why():
    new, record = factorize(Awkward().eval(), (8, 9, 9), method="spatial", energy=0.3)
    assert record.changed == ("good",) and isinstance(new.get_submodule("special"), SameConv2d)
    why = dict(record.skipped)
    assert why["grouped"] == "it has 2 groups; only dense layers are taken apart"
    assert why["special"] == "it is a SameConv2d; only nn.Conv2d and nn.Linear are taken apart"
    assert "1x3" in why["line"] and "1x1" in why["point"]
    assert why["tied"] == why["tied_too"] == "it shares its weight with another layer"
    assert why["read"] == "something other than a plain call of the layer uses it"
    assert why["hooked"] == "it holds more than a weight and a bias"
    assert why["small"] == "no rank of it saves multiply-adds and parameters"
    with pytest.raises(NothingToDo, match=r"the best rank that still saves, 13, keeps [6-9]\d\.\d\d% of its energy"):
        factorize(alone(randomised(nn.Linear(30, 24))), (30,), energy=0.999)


# --- real networks ----------------------------------------------------------------------------------------------------


def check_network(name: str, method: str, side: int, **arguments: object) -> None:
    """Through the transform, into a file, and the file gives the scores of the network that it was made from."""
    contract = InputContract(side=side)
    pixels = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
    torch.manual_seed(0)
    model = create_model(name, **{"width": 0.25, "num_classes": 6, "in_channels": 3} | arguments)
    plain, _ = folded(settled(model, pixels, contract))
    images = torch.from_numpy(contract.normalise(pixels))
    new, record = factorize(plain, (3, side, side), method=method, energy=0.7, batches=[images])
    before, after = (count_model(m, (3, side, side)).cost for m in (plain, new))
    assert after.macs < before.macs and after.params < before.params and record.changed
    got = get_runtime("onnxruntime").load(export_onnx(new, contract), 1).run(pixels)[0]
    wanted = torch.softmax(scores(new, images), 1).numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert wanted.std(0).max() > 1e-4


@pytest.mark.parametrize(
    ("name", "method", "side", "arguments"),
    [
        ("vgg16", "tucker", 32, {"small_input": True}),
        ("vgg16", "svd", 64, {"width": 0.1}),
        ("resnet18", "spatial", 64, {}),
        ("inception_v3", "spatial", 80, {}),
        ("lenet5", "cp", 28, {}),
        ("mobilenet_v2", "svd", 64, {}),
    ],
)
def test_networks_become_files(name, method, side, arguments):
    check_network(name, method, side, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", list_models())
def test_every_network_becomes_a_file(name):
    check_network(name, "svd", {"lenet5": 28, "lenet_300_100": 28, "alexnet": 227, "vgg16": 224}.get(name, 80))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy": 0.9, "method": "SVD"}, "method='SVD': give one of svd, spatial, cp, tucker"),
        ({}, "exactly one of energy, ranks, macs, params; got none"),
        ({"energy": 0.9, "macs": 10}, "got energy, macs"),
        ({"energy": 1.1}, "energy=1.1; give a share"),
        ({"energy": float("nan")}, "energy=nan; give a share"),
        ({"macs": 1e6}, "macs=1000000.0; give a whole number"),
        ({"params": 0}, "params=0; give a whole number"),
        ({"ranks": {}}, r"ranks=\{\}; give"),
        ({"ranks": {"body": 3}}, "'body' cannot be taken apart by 'svd': there is no such layer; there are stem.0"),
        ({"ranks": {"depthwise.0": 3}}, "'depthwise.0' cannot be taken apart by 'svd': it has 16 groups"),
        ({"ranks": {"head.4": 6}}, "'head.4': rank 6; method 'svd' takes from 1 to 5 there"),
        ({"ranks": {"head.4": 0}}, "rank 0"),
        ({"ranks": {"head.4": 2.0}}, "rank 2.0"),
        ({"ranks": {"down.0": 4}, "method": "tucker"}, r"rank 4; method 'tucker' takes two ranks, from 1 to \(8, 16\)"),
        ({"energy": 0.9, "batches": []}, "batches held no image"),
        ({"energy": 0.9, "batches": [torch.zeros(2, 3, 8, 8)]}, r"\(B, 3, 12, 12\), got \(2, 3, 8, 8\)"),
        ({"energy": 0.9, "batches": [np.zeros((2, 3, 12, 12))]}, "got ndarray"),
        ({"energy": 0.9, "batches": [torch.full((2, 3, 12, 12), torch.nan)]}, "not finite"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, message):
    with pytest.raises(BadInput, match=message):
        factorize(net(), (3, 12, 12), **arguments)


def test_bad_networks_budgets_and_records():
    model = net()
    with pytest.raises(BadInput, match=r"factorize: call model\.eval"):
        factorize(copy.deepcopy(model).train(), (3, 12, 12), energy=0.9)
    with pytest.raises(BadInput, match="cannot be counted"):
        factorize(model, (1, 12, 12), energy=0.9)
    with pytest.raises(Infeasible, match="even at its lowest ranks the network has"):
        factorize(model, (3, 12, 12), macs=1000)
    with pytest.raises(NothingToDo, match="within the budget"):
        factorize(model, (3, 12, 12), macs=10**9)
    with pytest.raises(BadInput, match="curve: the layer cannot be taken apart: it is a ReLU"):
        curve(nn.ReLU(), (3, 12, 12))
    with pytest.raises(BadInput, match="does not take an input"):
        curve(nn.Conv2d(3, 4, 3), (4, 12, 12))
    for bad in (
        Record(name="prune", arguments={"method": "svd", "ranks": {"head.2": 3}}),
        Record(name="factorize", arguments={"method": "svd"}),
        Record(name="factorize", arguments={"method": "svd", "ranks": {"gone": 3}}),
        Record(name="factorize", arguments={"method": "svd", "ranks": {"head.2": 10**9}}),
    ):
        with pytest.raises(BadInput):
            rebuild(model, bad)
    with torch.no_grad():
        model.head[2].weight[0, 0] = torch.inf
    with pytest.raises(BadInput, match=r"'head\.2' is not made of finite numbers"):
        factorize(model, (3, 12, 12), energy=0.9)


def test_a_weight_of_zeros_has_rank_one():
    assert decompose(torch.zeros(4, 6), "svd").losses()[0] == (1, 0.0)


def test_the_examples_of_the_page_say_what_happens():
    page = Path(__file__).parent.parent / "docs" / "factorize.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert failed == 0 and attempted > 10
