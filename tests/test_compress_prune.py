"""Whole channels go, and what is left computes what the network computes without them."""

import copy
import json
import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from twins import randomise

from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.importance import taylor_scores
from swiftlet.compress.prune import prune_channels, prune_to
from swiftlet.compress.record import Record
from swiftlet.compress.replay import replay
from swiftlet.cost.count import count
from swiftlet.errors import BadInput, Infeasible, NothingToDo
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo import card, create_model, list_models

KEEPS = (0.9, 0.7, 0.5)


def tag(layer: nn.Module) -> Tensor | None:
    """One number per channel of what a layer makes, by which the channels of a pruned one are known again."""
    mean = getattr(layer, "running_mean", None)
    return mean if mean is not None else getattr(layer, "bias", None)


@torch.no_grad()
def masked(model: nn.Module, pruned: nn.Module) -> nn.Module:
    """The network with every channel that `pruned` lacks held at zero: scale and shift of its BatchNorm, or its row of
    weights and its bias, are zero, and so is what activations and gates of the zoo make of it."""
    model = copy.deepcopy(model)
    for path, layer in pruned.named_modules():
        if not isinstance(left := tag(layer), Tensor):
            continue
        whole = model.get_submodule(path)
        stays = torch.isin(tag(whole), left)
        assert stays.sum() == len(left), path
        whole.weight[~stays] = 0
        whole.bias[~stays] = 0
    return model


@torch.no_grad()
def unread(model: nn.Module, pruned: nn.Module) -> nn.Module:
    """The network in which no layer reads a channel that `pruned` lacks: those columns of its weights are zero."""
    model = copy.deepcopy(model)
    for path, layer in pruned.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            whole = model.get_submodule(path)
            if (
                not whole.weight.shape[1] == 1 < getattr(whole, "groups", 1)
            ):  # depthwise ones read nothing but their own
                whole.weight[~torch.isin(whole.weight, layer.weight)] = 0
    return model


def images(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def alike(one: nn.Module, other: nn.Module, shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        got, wanted = one(images(shape)), other(images(shape))
    assert wanted.isfinite().all() and (wanted[0] - wanted[1]).abs().max() > 1e-6 * wanted.abs().max()
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8 * wanted.abs().max().item())


def widths(model: nn.Module) -> dict[str, int]:
    """Of what makes channels: a depthwise convolution hands them on."""
    layers = {path: m for path, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    return {path: len(m.weight) for path, m in layers.items() if not 1 < getattr(m, "groups", 1) == m.in_channels}


# --- the zoo --------------------------------------------------------------------------------------------------------


def shape_of(name: str) -> tuple[int, int, int]:
    channels, side, _ = card(name).input
    if side <= 32:
        return channels, side, side
    return {"alexnet": (3, 67, 71), "inception_v3": (3, 75, 80)}.get(name, (3, 48, 40))


def check(name: str, keep: float, **arguments: object) -> Record:
    model = create_model(name, num_classes=7, dropout=0.0, **arguments).double().eval()
    model, shape = randomise(model), shape_of(name)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            module.bias.data.abs_()  # so that no layer is dead
    new, record = prune_channels(model, shape, keep=keep)
    alike(new, masked(model, new), shape)
    before = widths(model)
    after = {path: len(new.get_submodule(path).weight) for path in before}
    whole = {path for path, _ in record.skipped}
    for path in before.keys() - whole:
        assert after[path] < before[path] or keep * before[path] > before[path] - 1, path
    assert whole <= {path for path in before if after[path] == before[path]}
    assert record.changed and len(json.dumps(record.arguments)) < 20_000
    return record


QUICK = [(name, KEEPS[i % 3]) for i, name in enumerate(list_models())]


@pytest.mark.parametrize(("name", "keep"), QUICK)
def test_the_zoo_prunes(name, keep):
    check(name, keep, width=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keep"), [(name, keep) for name in list_models() for keep in KEEPS if (name, keep) not in QUICK]
)
def test_the_zoo_prunes_at_the_other_ratios(name, keep):
    check(name, keep, width=0.35)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("shufflenet_v1", {"groups": 4, "se": True, "width": 0.25}),
        ("shufflenet_v1", {"groups": 2, "width": 0.5, "shuffle": False}),
        ("shufflenet_v2", {"se": True, "width": 0.5}),
        ("ghostnet", {"ratio": 3, "width": 0.3}),
        ("ghost_vgg16", {"cheap": "shift", "ratio": 4, "width": 0.3}),
        ("squeezenet1_1", {"bypass": "complex"}),
        ("mobilenet_v3_small", {"padding": "tensorflow", "tail": "original"}),
        ("mobilenet_v2", {"width": 0.35}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_variants_prune(name, arguments):
    check(name, 0.7, **arguments)


# --- any network ----------------------------------------------------------------------------------------------------


class Awkward(nn.Module):
    """What the zoo lacks: activations that are not zero at zero, a split into unequal parts, a shuffle by hand, a layer
    that is called twice, PReLU, attention over pixels and over channels, pixels that become channels, and more."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(16), nn.Sigmoid())
        self.left, self.right = nn.Conv2d(10, 9, 3, padding=1), nn.ConvTranspose2d(6, 8, 1)
        self.twice = nn.Conv2d(9, 9, 1)
        self.spatial, self.se = nn.Conv2d(9, 1, 1), SqueezeExcite(9, 5, act=nn.Softplus, gate=nn.Sigmoid)
        self.grow, self.unshuffle = nn.Conv2d(17, 12, 3, stride=2), nn.PixelUnshuffle(2)
        self.mixed, self.norm = nn.Conv2d(48, 14, 1), nn.GroupNorm(7, 14)
        self.dealt, self.last = nn.Conv2d(14, 18, 1), nn.Conv2d(18, 12, 3, padding=1, groups=3)
        self.head = nn.Linear(12 * 2 * 2, 5)
        self.temperature = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(self.stem(x), [10, 6], dim=1)
        left = self.left(left)
        left = self.twice(F.softplus(self.twice(left))) + left
        left = self.se(left) * torch.sigmoid(self.spatial(left))
        y = self.unshuffle(self.grow(torch.cat([left, self.right(right)], 1)))
        y = self.dealt(self.norm(self.mixed(y)))
        b, c, h, w = y.size()
        y = y.view(b, 3, c // 3, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
        y = self.last(y / self.temperature)
        return self.head(F.adaptive_avg_pool2d(y, 2).flatten(1))


SHAPE = (3, 14, 18)


def test_any_network_prunes_where_its_channels_can_be_followed():
    torch.manual_seed(0)
    model = randomise(Awkward().double().eval())
    new, record = prune_channels(model, SHAPE, keep=0.6)
    alike(new, unread(model, new), SHAPE)
    after = widths(new)
    assert after == {
        "stem.0": 12, "left": 5, "twice": 5, "spatial": 1, "se.reduce": 3, "se.expand": 5, "grow": 7, "mixed": 14,
        "dealt": 12, "last": 6, "head": 5,
    }  # fmt: skip
    why = dict(record.skipped)
    assert why["head"] == "it makes what the network returns"
    assert "broadcast" in why["spatial"] and "norm (GroupNorm)" in why["mixed"]
    assert set(why) == {"head", "spatial", "mixed"}


class Drawn(nn.Module):
    """A network of drawn steps; each reads values that are there already and adds its own."""

    def __init__(self, draw) -> None:
        super().__init__()
        self.layers, self.steps, channels = nn.ModuleList(), [], [3]

        def learned(*sizes: int, **more: int) -> int:
            self.layers.append(nn.Conv2d(*sizes, 1, **more))
            return len(self.layers) - 1

        self.steps.append(("layer", 0, learned(3, 12)))
        channels.append(12)
        for _ in range(draw(st.integers(2, 9))):
            i = draw(st.integers(1, len(channels) - 1))
            c = channels[i]
            j = draw(st.sampled_from([k for k, other in enumerate(channels) if other == c]))
            g = draw(st.sampled_from([g for g in (1, 2, 3, 4) if c % g == 0]))
            kind = draw(st.sampled_from(("conv", "conv", "depthwise", "add", "mul", "cat", "chunk", "cut", "shuffle")))
            if kind == "conv":
                c_out = g * draw(st.integers(1, 6))
                self.steps.append(("layer", i, learned(c, c_out, groups=g)))
                channels.append(c_out)
            elif kind == "depthwise":
                times = draw(st.integers(1, 2))
                self.steps.append(("layer", i, learned(c, times * c, groups=c)))
                channels.append(times * c)
            elif kind == "chunk" and g > 1:
                self.steps.append((kind, i, g))
                channels += [c // g] * g
            elif kind == "cut":
                start = draw(st.integers(0, c - 1))
                self.steps.append((kind, i, (start, draw(st.integers(start + 1, c)))))
                channels.append(self.steps[-1][2][1] - start)
            elif kind == "shuffle":
                self.steps.append((kind, i, g))
                channels.append(c)
            elif kind in ("add", "mul", "cat"):
                self.steps.append((kind, i, j))
                channels.append(2 * c if kind == "cat" else c)
        self.classifier = nn.Linear(channels[-1] + channels[-2], 4)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for kind, i, other in self.steps:
            if kind == "layer":
                values.append(self.layers[other](values[i]))
            elif kind == "chunk":
                pieces = torch.chunk(values[i], other, 1)
                values += [pieces[k] for k in range(other)]
            elif kind == "cut":
                values.append(values[i][:, other[0] : other[1]])
            elif kind == "shuffle":
                values.append(F.channel_shuffle(values[i], other))
            elif kind == "add":
                values.append(torch.sigmoid(values[i]) + values[other])
            elif kind == "mul":
                values.append(torch.tanh(values[i]) * values[other])
            else:
                values.append(torch.cat([F.relu(values[i]), values[other]], 1))
        return self.classifier(torch.cat(values[-2:], 1).mean((2, 3)))


@settings(deadline=None, max_examples=40)
@given(st.data(), st.floats(0.05, 0.95), st.sampled_from((1, 2)), st.sampled_from(("uniform", "global")))
def test_drawn_networks_prune(data, keep, round_to, scope):
    model = randomise(Drawn(data.draw).double().eval())
    shape = (3, 2, 3)
    try:
        new, record = prune_channels(
            model, shape, keep=keep, round_to=round_to, scope=scope, importance="random", seed=3
        )
    except NothingToDo:
        return
    with torch.inference_mode():
        wanted = unread(model, new)(images(shape))
        torch.testing.assert_close(new(images(shape)), wanted, rtol=1e-9, atol=1e-9)
        again = replay(model, [Record(**json.loads(json.dumps(asdict(record))))])
        assert torch.equal(again(images(shape)), new(images(shape)))


def test_a_layer_whose_weight_is_computed_keeps_its_channels():
    model = two_layers()
    nn.utils.parametrizations.weight_norm(model[0][0])
    new, record = prune_channels(model, (3, 9, 9), keep=0.5)
    assert widths(new) == {"1.0": 3, "4": 4} | {"0.0": 8}
    assert record.changed == ("1.0", "1.1", "4")


@pytest.mark.parametrize(
    ("name", "narrow"),
    [
        ("mobilenet_v1", {"width": 0.5}),  # Howard et al., table 6: 149 M multiply-adds, 1.3 M parameters
        ("vgg16", {"width": 0.5}),
        ("resnet50", {"width": 0.5}),
        ("shufflenet_v1", {"width": 0.5}),  # 38 M of 137 M (table 2), but for its stem
    ],
)
def test_half_of_every_layer_is_the_network_of_half_the_width(name, narrow):
    with torch.device("meta"):  # shapes alone: a random choice needs no weights
        model, half = create_model(name), create_model(name, **narrow)
    new, record = prune_channels(model, card(name).input, keep=0.5, importance="random")
    assert count(new, card(name).input) == count(half, card(name).input)
    assert [path for path, _ in record.skipped] == ["classifier"]


# --- what goes ------------------------------------------------------------------------------------------------------


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [conv_bn(3, 8, 3), conv_bn(8, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)]
    return randomise(nn.Sequential(*layers)).eval()


def gone(model: nn.Module, path: str, **choice: object) -> set[int]:
    """The rows of layer `path` that pruning takes."""
    new, _ = prune_channels(model, (3, 9, 9), **choice)
    left = tag(new.get_submodule(path))
    return set((~torch.isin(tag(model.get_submodule(path)), left)).nonzero().flatten().tolist())


@torch.no_grad()
def test_each_importance_finds_the_channels_that_it_should():
    model = two_layers()
    model[0][0].weight[[1, 4]] *= 0.2
    model[0][0].weight[3] = 0
    model[0][0].weight[3, 0, 0, 0] = 3.0  # less than others by L1, more by L2
    model[0][1].weight[[2, 6, 7]] *= -0.01
    assert gone(model, "0.1", keep=0.625, importance="l1") == {1, 3, 4}
    assert 3 not in gone(model, "0.1", keep=0.625, importance="l2")
    assert gone(model, "0.1", keep=0.625, importance="batchnorm") == {2, 6, 7}
    drawn = {seed: gone(model, "0.1", keep=0.5, importance="random", seed=seed) for seed in range(4)}
    assert (
        drawn[0] == gone(model, "0.1", keep=0.5, importance="random", seed=0)
        and len(set(map(frozenset, drawn.values()))) > 1
    )


def test_taylor_is_the_change_of_the_loss_to_first_order():
    """Scale what BatchNorm makes of a channel by 1 - h: a picture's loss moves by -h times what is squared."""
    model = two_layers().double()
    x, labels = images((3, 9, 9)), torch.tensor([0, 3])
    scores = taylor_scores(model, [(x, labels)])
    norm = model[0][1]
    with torch.no_grad():
        for i in range(8):
            loss = F.cross_entropy(model(x), labels, reduction="none")
            for tensor in (norm.weight, norm.bias):
                tensor[i] *= 1 - 1e-6
            moved = (F.cross_entropy(model(x), labels, reduction="none") - loss) / 1e-6
            for tensor in (norm.weight, norm.bias):
                tensor[i] /= 1 - 1e-6
            assert scores["0.1"][i].item() == pytest.approx(moved.square().mean().item(), rel=1e-3)
    worst = set(scores["0.1"].argsort()[:4].tolist())
    assert gone(model, "0.1", keep=0.5, importance="taylor", scores=scores) == worst
    one_by_one = taylor_scores(model, [(x[:1], labels[:1]), (x[1:], labels[1:])])
    torch.testing.assert_close(one_by_one, scores)  # nothing cancels in a batch
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_taylor_takes_its_own_scores_and_nothing_else_does():
    model = two_layers()
    scores = taylor_scores(model, [(images((3, 9, 9)).float(), torch.tensor([0, 3]))])
    for kind, offered in (("taylor", None), ("l2", scores)):
        with pytest.raises(BadInput, match="go with 'taylor'"):
            prune_channels(model, (3, 9, 9), keep=0.5, importance=kind, scores=offered)
    with pytest.raises(BadInput, match=r"scores of '0\.1' do not fit"):
        wrong = scores | {"0.1": torch.ones(3)}
        prune_channels(model, (3, 9, 9), keep=0.5, importance="taylor", scores=wrong)


@torch.no_grad()
def test_global_takes_from_the_layers_that_have_too_much():
    model = two_layers()
    model[0][0].weight[:6] *= 0.001
    model[1][0].weight[0] *= 0.001
    assert len(gone(model, "0.1", keep=0.5)) == 4 and len(gone(model, "1.1", keep=0.5)) == 3
    assert gone(model, "0.1", keep=0.5, scope="global") == set(range(6))
    assert gone(model, "1.1", keep=0.5, scope="global") == {0}
    assert len(gone(model, "0.1", keep=1e-6, scope="global")) == 7  # one survives everywhere


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("keep", [0.01, 0.4, 0.8])
def test_widths_are_multiples(keep, scope):
    model = create_model("mobilenet_v2", width=0.5, num_classes=7)
    new, _ = prune_channels(model, (3, 32, 32), keep=keep, round_to=8, scope=scope)
    before, after = widths(model), widths(new)
    assert any(after[path] < before[path] for path in before)
    for path in before.keys() - {"classifier"}:
        assert after[path] % 8 == 0 or after[path] == before[path], path
        assert after[path] >= 8
    if scope == "uniform":
        assert all(abs(after[p] - keep * before[p]) <= 8 for p in before.keys() - {"classifier"})


def test_coupled_channels_have_one_importance():
    """In a residual sum the mean over all layers counts, each in terms of its own mean."""
    first, second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.head = first, second, nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return self.head(x + self.second(x))

    with torch.no_grad():
        first.weight.copy_(torch.tensor([1.0, 2, 3, 2])[:, None, None, None].expand(-1, 3, 1, 1))
        second.weight.copy_(100 * torch.tensor([5.0, 1, 1, 1])[:, None, None, None].expand(-1, 4, 1, 1))
    _, record = prune_channels(Sum(), (3, 2, 2), keep=0.5)
    assert record.arguments["kept"] == {"first": "0,2"}  # 0.5 + 2.5, 1 + 0.5, 1.5 + 0.5, 1 + 0.5
    assert record.changed == ("first", "second", "head") and record.skipped == (
        ("head", "it makes what the network returns"),
    )


# --- laws -----------------------------------------------------------------------------------------------------------


def test_the_input_stays_as_it_is_and_modes_too():
    model = two_layers().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model[0][0].weight.requires_grad_(False)
    new, record = prune_channels(model, (3, 9, 9), keep=0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert new.training and new.get_submodule("0.1").training
    assert not new.get_parameter("0.0.weight").requires_grad and new.get_parameter("1.0.weight").requires_grad
    new(torch.randn(2, 3, 9, 9)).sum().backward()  # one leaf each, no view of what was
    paths = {path for path, _ in model.named_modules()}
    assert {*record.changed, *(path for path, _ in record.skipped)} <= paths


def test_a_folded_and_a_pruned_network_prune_further():
    model = two_layers().double()
    folded, _ = fold_batchnorm(model)
    once, _ = prune_channels(folded, (3, 9, 9), keep=0.75)
    twice, _ = prune_channels(once, (3, 9, 9), keep=0.5)
    assert list(widths(twice).values()) == [3, 2, 4]
    alike(twice, masked(folded, twice), (3, 9, 9))
    with pytest.raises(NothingToDo, match="no layer says how important"):
        prune_channels(folded, (3, 9, 9), keep=0.5, importance="batchnorm")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"keep": 0}, "keep=0 must be"),
        ({"keep": 1.5}, "keep=1.5 must be"),
        ({"keep": math.nan}, "keep=nan must be"),
        ({"keep": 0.5, "round_to": 0}, "round_to=0 must be"),
        ({"keep": 0.5, "importance": "l3"}, "importance='l3' must be 'l1' or"),
        ({"keep": 0.5, "scope": "layer"}, "scope='layer' must be 'uniform' or 'global'"),
    ],
)
def test_bad_arguments_are_refused(choice, message):
    with pytest.raises(BadInput, match=message):
        prune_channels(two_layers(), (3, 9, 9), **choice)


def test_an_image_that_the_network_cannot_take_is_refused():
    with pytest.raises(BadInput, match="give one image's shape without the batch"):
        prune_channels(two_layers(), (1, 3, 9, 9), keep=0.5)
    with pytest.raises(BadInput, match="has more than 16,777,216 values"):
        prune_channels(two_layers(), (3, 90_000, 90_000), keep=0.5)
    with pytest.raises(BadInput, match=r"cannot take an image of shape \(1, 20, 20\)"):
        prune_channels(create_model("lenet5"), (1, 20, 20), keep=0.5)
    with pytest.raises(NothingToDo, match="keep=1;"):
        prune_channels(two_layers(), (3, 9, 9), keep=1)
    with pytest.raises(NothingToDo, match="what the network returns"):
        prune_channels(nn.Sequential(nn.Conv2d(3, 4, 1)), (3, 9, 9), keep=0.5)


# --- to a limit -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [{"macs": 1_000_000}, {"params": 60_000}], ids=str)
def test_pruning_stops_where_the_limit_is(limit):
    model, shape = create_model("mobilenet_v1", width=0.25, num_classes=7), (3, 48, 48)
    new, record = prune_to(model, shape, **limit)
    ((field, most),) = limit.items()
    more, _ = prune_channels(model, shape, keep=record.arguments["keep"] + 0.02)
    assert 0.9 * most < getattr(count(new, shape), field) <= most < getattr(count(more, shape), field)


def test_any_measure_can_be_the_limit():
    model = two_layers()
    new, _ = prune_to(model, (3, 9, 9), limit=5, measure=lambda network: max(widths(network).values()))
    assert list(widths(new).values()) == [5, 4, 4]
    with pytest.raises(NothingToDo, match="has 8, which is within the limit of 9"):
        prune_to(model, (3, 9, 9), limit=9, measure=lambda network: max(widths(network).values()))
    with pytest.raises(Infeasible, match="within 3; the smallest has 4"):
        prune_to(model, (3, 9, 9), limit=3, measure=lambda network: max(widths(network).values()))
    with pytest.raises(BadInput, match="give one of macs, params, and limit with measure"):
        prune_to(model, (3, 9, 9), macs=5, params=5)
