"""Laws that every transform keeps, and the arithmetic of folding and of int8."""

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from swiftlet.compress import quantize as quantize_module
from swiftlet.compress.calibrate import find_grid
from swiftlet.compress.equalize import equalize
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import FakeQuantize, quantize
from swiftlet.compress.record import Record
from swiftlet.compress.scales import weight_ranges
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.layers.conv_bn import conv_bn

SCALE, ZERO = 1 / 64, 128
IMAGES = (torch.randint(0, 256, (16, 3, 20, 20), generator=torch.Generator().manual_seed(0)) - ZERO) * SCALE


class Small(nn.Module):
    """A stem, a residual sum of two, a strided grouped convolution, a classifier: what the networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, stride=2)
        self.block = nn.Sequential(conv_bn(8, 8, 3, groups=8, act=nn.ReLU6), conv_bn(8, 8, 1, act=None))
        self.down = conv_bn(8, 16, 3, stride=2, groups=4, act=nn.ReLU6)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.down(x + self.block(x)))


def settled(model: nn.Module) -> nn.Module:
    """In eval mode, with random scales and shifts and the statistics of IMAGES, so that signals live to the end."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)
                module.momentum = None
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, 1, generator=generator)
        model.train()(IMAGES)
    return model.eval()


@pytest.fixture
def small() -> nn.Module:
    return settled(Small())


def eight_bits(model: nn.Module, images: Tensor = IMAGES) -> tuple[fx.GraphModule, Record]:
    traced = model if isinstance(model, fx.GraphModule) else fx.symbolic_trace(model)
    return quantize(traced, images.split(8), input_scale=SCALE, input_zero_point=ZERO)


def fold_then_quantize(model: nn.Module) -> tuple[fx.GraphModule, Record]:
    return eight_bits(fold_batchnorm(model)[0])


def without_relu6(model: nn.Module) -> nn.Module:
    """In place: ReLU6 is not homogeneous."""
    for path in [path for path, module in model.named_modules() if isinstance(module, nn.ReLU6)]:
        model.set_submodule(path, nn.ReLU())
    return model


def scores(model: nn.Module, images: Tensor = IMAGES) -> Tensor:
    with torch.inference_mode():
        return model(images)


def structure(model: fx.GraphModule) -> tuple[str, list[tuple[str, torch.Size]]]:
    return model.code, [(name, tensor.shape) for name, tensor in model.state_dict().items()]


# name, transform, what it is given, largest error of a logit as a share of the logits' range
TRANSFORMS: list[tuple[str, Callable, Callable[[nn.Module], nn.Module], float]] = [
    ("fold_batchnorm", fold_batchnorm, lambda model: model, 1e-5),
    ("quantize", eight_bits, lambda model: fold_batchnorm(model)[0], 0.03),
    ("equalize", equalize, lambda model: fold_batchnorm(without_relu6(model))[0], 1e-5),
]


@pytest.mark.parametrize(("name", "transform", "prepare", "bound"), TRANSFORMS, ids=lambda value: str(value)[:14])
def test_laws_of_a_transform(name, transform, prepare, bound, small):
    model = prepare(small)
    before = {key: tensor.clone() for key, tensor in model.state_dict(keep_vars=True).items()}
    code = getattr(model, "code", None)
    new, record = transform(model)

    after = model.state_dict(keep_vars=True)
    assert after.keys() == before.keys() and all(torch.equal(after[key], before[key]) for key in before)
    assert getattr(model, "code", None) == code and not model.training
    assert {t.data_ptr() for t in new.state_dict().values()}.isdisjoint(t.data_ptr() for t in after.values())

    assert record.name == name and record.changed
    paths = {path for path, _ in model.named_modules()}
    assert {*record.changed, *(path for path, _ in record.skipped)} <= paths
    again, same = transform(prepare(settled(Small())))
    assert structure(again) == structure(new) and same == record

    wanted, got = scores(model), scores(new)
    assert (got - wanted).abs().max() <= bound * (wanted.max() - wanted.min())
    assert wanted.std(0).min() > 0.01  # pictures differ, so the bound means something

    with pytest.raises(BadInput, match=f"{name}: call model.eval"):
        transform(copy.deepcopy(model).train())
    with pytest.raises(NothingToDo, match=name):
        transform(fx.symbolic_trace(nn.Sequential().eval()))


# --- folding --------------------------------------------------------------------------------------------------------

CONVS = [
    {"kernel_size": 3, "groups": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 1), "dilation": 2, "bias": False},
    {"kernel_size": 3, "groups": 4, "stride": (1, 2), "padding": "valid", "padding_mode": "zeros"},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
]


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("conv", CONVS, ids=str)
def test_every_kind_of_convolution_folds_exactly(conv, affine):
    torch.manual_seed(0)
    bn = nn.BatchNorm2d(8, eps=0.1, affine=affine)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, **conv), bn, nn.ReLU())
    bn.running_mean.normal_(), bn.running_var.uniform_(0.1, 3)
    new, record = fold_batchnorm(model.eval())
    assert record.changed == ("2",) and record.skipped == ()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in new.modules())
    torch.testing.assert_close(scores(new), scores(model), atol=2e-6, rtol=1e-5)


class Awkward(nn.Module):
    """BatchNorms that must stay, and one that can go."""

    def __init__(self) -> None:
        super().__init__()
        self.good, self.good_bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.forked, self.forked_bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.twice, self.twice_bn, self.other_bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.first_bn, self.sum_bn, self.free_bn = nn.BatchNorm2d(3), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.moving, self.moving_bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_bn(x)
        x = self.good_bn(self.good(x))
        y = self.forked(x)
        x = self.sum_bn(y + self.forked_bn(y))
        x = self.other_bn(self.twice(self.twice_bn(self.twice(x))))
        return self.moving_bn(self.moving(self.free_bn(torch.relu(x))))


def test_what_cannot_fold_stays_and_says_why():
    model = settled(Awkward())
    new, record = fold_batchnorm(model)
    assert record.changed == ("good_bn",)
    why = dict(record.skipped)
    assert why.keys() == {n for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)} - {"good_bn"}
    assert why["first_bn"] == "fed by x, not by a Conv2d" and why["sum_bn"] == "fed by add, not by a Conv2d"
    assert why["forked_bn"] == "forked also feeds something else"
    assert why["twice_bn"] == why["other_bn"] == "twice also feeds something else"
    assert "running statistics" in why["moving_bn"]
    torch.testing.assert_close(scores(new), scores(model), atol=1e-5, rtol=1e-5)


def test_a_batchnorm_that_is_still_training_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    model[1].train()
    with pytest.raises(BadInput, match="batch statistics"):
        fold_batchnorm(model)


# --- int8 -----------------------------------------------------------------------------------------------------------


class BatchNormAct(nn.BatchNorm2d):
    """As in timm: a BatchNorm with its activation inside."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(super().forward(x))


def test_an_activation_inside_a_batchnorm_survives_folding():
    torch.manual_seed(0)
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    model = settled(nn.Sequential(nn.Conv2d(3, 8, 3), BatchNormAct(8), *head))
    new, _ = fold_batchnorm(model)
    assert "ReLU6" in {type(m).__name__ for m in new.modules()}
    torch.testing.assert_close(scores(new), scores(model), rtol=1e-5, atol=1e-5)


def activations(model: fx.GraphModule, images: Tensor) -> dict[str, Tensor]:
    """What each module gives, by path."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, path=path: seen.update({path: out}))
        for path, module in model.named_modules()
        if path
    ]
    scores(model, images)
    for hook in hooks:
        hook.remove()
    return seen


def on_grid(values: Tensor, scale: Tensor, zero: int, low: int, high: int) -> bool:
    steps = values.double() / scale.double() + zero
    return bool(
        (steps - steps.round()).abs().max() < 1e-3 and steps.round().min() >= low and steps.round().max() <= high
    )


def test_weights_biases_and_activations_lie_on_their_grids(small):
    folded, _ = fold_batchnorm(small)
    new, record = eight_bits(folded)
    layers = [n for n, m in folded.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert list(record.changed) == layers and record.skipped == ()
    assert {"stem.0", "head.3"} <= set(layers)  # the first and the last layer too
    for name in layers:
        layer = new.get_submodule(name)
        rows, scale = layer.weight.detach().flatten(1), layer.weight_scale
        assert scale.shape == (len(rows),)
        for row, step in zip(rows, scale, strict=True):
            assert len(row.unique()) <= 255 and on_grid(row, step, 0, -127, 127)
        assert (weight_ranges(layer) / scale - 127).abs().max() < 2  # the grid is used as far as pairs are safe
        limit = 2**31 - 1
        assert on_grid(layer.bias.detach(), layer.bias_scale, 0, -limit, limit)

    grids = {n: m for n, m in new.named_modules() if isinstance(m, FakeQuantize)}
    out = activations(new, 3 * IMAGES)  # beyond what it was calibrated on: it must saturate
    for name, grid in grids.items():
        zero = int(grid.zero_point)
        assert 0 <= zero <= 255 and on_grid(out[name], grid.scale, zero, 0, 255) and len(out[name].unique()) <= 256
        assert torch.equal(grid(torch.zeros(3)), torch.zeros(3))
        assert torch.equal(grid(out[name]), out[name])  # rounding twice is rounding once
    # stem, depthwise, projection, their sum, down and the pooled picture are rounded; the scores are not
    assert len(grids) == 6 and len(scores(new).unique()) > 40


def test_the_scores_stay_float_and_every_input_of_a_layer_is_rounded(small):
    new, _ = fold_then_quantize(small)
    modules = dict(new.named_modules())
    output = next(node for node in new.graph.nodes if node.op == "output")
    assert isinstance(modules[output.args[0].target], nn.Linear)
    seen = []
    for node in new.graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.Conv2d):
            source = node.args[0]
            seen.append(source.op == "placeholder" or isinstance(modules[source.target], FakeQuantize))
    assert len(seen) == 4 and all(seen)


def test_rectifiers_go_only_where_the_grid_clips_like_them(small, monkeypatch):
    folded, _ = fold_batchnorm(small)

    def kinds(model: fx.GraphModule) -> list[str]:
        called = [model.get_submodule(n.target) for n in model.graph.nodes if n.op == "call_module"]
        return [type(m).__name__ for m in called if isinstance(m, nn.ReLU | nn.ReLU6)]

    assert kinds(folded) == ["ReLU", "ReLU6", "ReLU6"]
    assert kinds(eight_bits(folded)[0]) == []
    for grid, left in (
        ((6 / 255, 0), []),
        ((7 / 255, 0), ["ReLU6", "ReLU6"]),  # the top of the grid is above 6: only ReLU6 can clip there
        ((5 / 255, 1), ["ReLU", "ReLU6", "ReLU6"]),  # the grid reaches below 0
    ):
        monkeypatch.setattr(quantize_module, "find_grid", lambda values, method, grid=grid: grid)
        new, _ = eight_bits(folded)
        assert kinds(new) == left
        steps, zero = grid
        for name, value in activations(new, 5 * IMAGES).items():
            if name in ("quantize_0", "quantize_1"):  # behind the stem's ReLU and the block's ReLU6
                top = min(6.0 if name == "quantize_1" else 99.0, (255 - zero) * steps)
                assert value.min() == 0 and value.max() <= top + steps / 2


def test_the_bias_of_a_dead_filter_survives():
    torch.manual_seed(0)
    model = settled(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    )
    with torch.no_grad():
        model[0].weight[1] = 0.0
        model[0].bias[1] = 2.28
    new, _ = eight_bits(fx.symbolic_trace(model))
    layer = new.get_submodule("0")
    assert layer.bias[1].item() == pytest.approx(2.28, rel=1e-6)
    assert (layer.bias / layer.bias_scale).abs().max() < 2**31


class Odd(nn.Module):
    """`between` is fed by what leaves the grid; `shared` is called at two scales; nobody reads `unread`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.between, self.shared, self.unread = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.act, self.pool = nn.GELU(), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.pool(x))
        self.unread(x)
        return self.shared(self.shared(self.between(self.act(x))))


def test_what_has_no_single_grid_is_skipped_with_the_reason():
    torch.manual_seed(0)
    model = fx.symbolic_trace(Odd().eval())
    new, record = eight_bits(model)
    assert record.changed == ("first",)  # max pooling keeps the grid; what nobody reads is gone
    assert dict(record.skipped) == {
        "between": "its input, act, has no int8 grid",
        "shared": "it is called more than once, and a bias has one scale",
    }
    for name in dict(record.skipped):
        assert torch.equal(new.get_submodule(name).weight, model.get_submodule(name).weight)
        assert not hasattr(new.get_submodule(name), "weight_scale")


def test_calibration_needs_images_and_nothing_but_ranges_of_them(small):
    folded, _ = fold_batchnorm(small)
    with pytest.raises(BadInput, match="no calibration images"):
        quantize(folded, [], input_scale=SCALE, input_zero_point=ZERO)
    one, _ = quantize(folded, iter([IMAGES]), input_scale=SCALE, input_zero_point=ZERO)
    two, _ = quantize(folded, [IMAGES.flip(0)], input_scale=SCALE, input_zero_point=ZERO)
    grids = [[m.scale for m in model.modules() if isinstance(m, FakeQuantize)] for model in (one, two)]
    assert torch.stack(grids[0]).log().sub(torch.stack(grids[1]).log()).abs().max() < 0.1


@settings(deadline=None)
@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=60),
    st.sampled_from((1e-6, 1.0, 1e3)),
    st.sampled_from((0.0, 1e4)),
)
def test_the_best_grid_is_legal_and_never_worse_than_min_and_max(values, factor, shift):
    x = torch.tensor(values) * factor + shift
    scale, zero = find_grid(x)
    assert scale > 0 and type(zero) is int and 0 <= zero <= 255
    rounded = FakeQuantize(scale, zero)
    assert rounded(torch.zeros(1)) == 0
    low, high = min(0.0, x.min().item()), max(0.0, x.max().item())
    plain_scale = max((high - low) / 255, 1e-8)
    plain = FakeQuantize(plain_scale, round(-low / plain_scale))
    error, plain_error = ((grid(x) - x).double().square().mean() for grid in (rounded, plain))
    assert error <= plain_error * 1.01 + (1e-5 * plain_scale) ** 2 + (1e-6 * (high - low)) ** 2
    if error > 0:  # nothing lies further out than half a step, unless it was clipped on purpose
        inside = (x >= -zero * scale) & (x <= (255 - zero) * scale)
        assert ((rounded(x) - x)[inside].abs() <= scale * 0.501 + 1e-5 * abs(x[inside])).all()
