"""scale_width against the networks' own multipliers, on public implementations, and where it must give up."""

from collections.abc import Callable

import pytest
import torch
import torchvision_ops  # noqa: F401  (lets torchvision and timm import)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from twins import quietly

import swiftlet
from swiftlet.errors import BadInput
from swiftlet.layers.channels import make_divisible
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.padding import SameConv2d, tensorflow_padding
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo import create_model
from swiftlet.zoo.scale import scale_width


def whole(channels: float) -> int:
    return max(1, int(channels))


def v1(channels: float) -> int:
    return max(8, int(channels))


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


OWN = [
    *(("mobilenet_v1", width, v1, ()) for width in (0.25, 0.5, 0.75)),
    *(("mobilenet_v2", width, make_divisible, ("head.0",)) for width in (0.35, 0.5, 0.75)),
    ("mobilenet_v2", 1.4, make_divisible, ()),
    *((name, width, whole, ()) for name in ("resnet18", "resnet50", "mobileone_s0") for width in (0.37, 0.5, 1.25)),
    *(("squeezenet1_1", width, whole, ()) for width in (0.5, 1.25)),
    ("resnext50_32x4d", 0.5, whole, ()),
    ("resnet20", 0.5, whole, ()),
]


@pytest.mark.parametrize(("name", "width", "rounding", "keep"), OWN, ids=lambda value: getattr(value, "__name__", None))
def test_same_as_the_networks_own_width(name, width, rounding, keep):
    with torch.device("meta"):
        model, own = create_model(name), create_model(name, width=width)
    before = shapes(model)
    new = scale_width(model, width, rounding=rounding, keep=keep)
    assert shapes(new) == shapes(own) and shapes(model) == before


def test_the_same_function_with_the_same_weights():
    own = create_model("resnet20", width=0.5).eval()  # its forward slices channels
    new = swiftlet.scale_width(create_model("resnet20").eval(), 0.5)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert not torch.allclose(new(x), own(x))
        new.load_state_dict(own.state_dict())
        assert torch.equal(new(x), own(x))


def torchvision_model(name: str, **arguments: object) -> nn.Module:
    import torchvision

    return quietly(lambda: getattr(torchvision.models, name)(weights=None, **arguments))


def timm_model(name: str) -> nn.Module:
    import timm

    return quietly(lambda: timm.create_model(name))


def test_same_as_public_multipliers():
    with torch.device("meta"):
        theirs = torchvision_model("mobilenet_v2", width_mult=0.5)
        new = scale_width(torchvision_model("mobilenet_v2"), 0.5, keep=("features.18.0",))
        assert shapes(new) == shapes(theirs)
        assert shapes(scale_width(timm_model("mobilenetv2_100"), 1.4)) == shapes(timm_model("mobilenetv2_140"))
        new = scale_width(torchvision_model("mnasnet1_0"), 0.5, keep=("layers.14",))
        assert shapes(new) == shapes(torchvision_model("mnasnet0_5"))


def check_trains(model: nn.Module, side: int = 64, channels: int = 3) -> None:
    x = torch.randn(2, channels, side, side)
    model.train()(x).square().mean().backward()
    assert not [path for path, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert model.eval()(x).isfinite().all()


PUBLIC: dict[str, Callable[[], nn.Module]] = {
    "torchvision resnet50": lambda: torchvision_model("resnet50"),
    "torchvision mobilenet_v2": lambda: torchvision_model("mobilenet_v2"),
    "torchvision shufflenet_v2": lambda: torchvision_model("shufflenet_v2_x1_0"),  # shuffles with view
    "torchvision densenet121": lambda: torchvision_model("densenet121"),
    "timm resnet50": lambda: timm_model("resnet50"),
    "timm mobilenetv2_100": lambda: timm_model("mobilenetv2_100"),
    "timm mobilenetv3_large_100": lambda: timm_model("mobilenetv3_large_100"),
    "timm regnetx_002": lambda: timm_model("regnetx_002"),
    "squeezenet1_0": lambda: create_model("squeezenet1_0"),
    "shufflenet_v1": lambda: create_model("shufflenet_v1"),
    "shufflenet_v2": lambda: create_model("shufflenet_v2"),
}


@pytest.mark.parametrize(("name", "alpha"), list(zip(PUBLIC, [0.25, 0.37, 0.6] * 4, strict=False)))
def test_scaled_networks_train(name, alpha):
    torch.manual_seed(0)
    model = PUBLIC[name]()
    new = scale_width(model, alpha)
    assert new.training and sum(p.numel() for p in new.parameters()) < sum(p.numel() for p in model.parameters())
    check_trains(new)


class Toy(nn.Module):
    """Everything that has to follow: chunk, shuffle, a bottleneck with a gate, groups, concatenation, slices, a shared
    layer, pixels flattened into features, hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 24, 3, stride=2)
        self.branch = nn.Sequential(conv_bn(12, 12, 1), conv_bn(12, 12, 3, groups=12, act=None), conv_bn(12, 12, 1))
        self.shuffle = nn.ChannelShuffle(2)
        self.expand, self.depthwise = conv_bn(24, 96, 1), conv_bn(96, 96, 3, groups=96)
        self.gate, self.project = SqueezeExcite(96, 10), conv_bn(96, 24, 1, act=None)
        self.mix, self.grouped = nn.Conv2d(24, 24, 1), nn.Conv2d(24, 42, 3, padding=1, groups=3)
        self.twice = nn.Conv2d(42, 84, 3, padding=1, groups=42)  # depthwise, two kernels for each channel
        self.norm, self.shared = nn.GroupNorm(4, 84), nn.Conv2d(84, 84, 1)
        self.attention = nn.Conv2d(84, 1, 1)
        self.pool, self.drop = nn.AvgPool2d(4), nn.Dropout2d(0.1)
        self.hidden, self.bn, self.last = nn.Linear(16 * 168, 50), nn.BatchNorm1d(50), nn.Linear(50, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        left, right = torch.chunk(x, 2, 1)
        x = self.shuffle(torch.cat([left, self.branch(right)], dim=1))
        x = x + self.project(self.gate(self.depthwise(self.expand(x))))
        x = self.norm(self.twice(self.grouped(self.mix(x))))
        x = self.shared(torch.relu(self.shared(x)))
        x = x * torch.sigmoid(self.attention(x))
        x = torch.cat([x[:, 42:], x, x[:, :42]], 1)
        x = torch.flatten(self.pool(self.drop(x)), 1)
        return self.last(self.bn(torch.relu(self.hidden(x))))


def test_everything_follows_what_arrives():
    new = scale_width(Toy(), 0.5)
    convs = {path: m for path, m in new.named_modules() if isinstance(m, nn.Conv2d)}
    assert {path: (m.in_channels, m.out_channels, m.groups) for path, m in convs.items()} == {
        "stem.0": (3, 16, 1),
        "branch.0.0": (8, 8, 1),  # half of the chunk
        "branch.1.0": (8, 8, 8),
        "branch.2.0": (8, 8, 1),
        "expand.0": (16, 64, 1),  # keeps its ratio of 4 to its own input; 96 / 2 would be 48
        "depthwise.0": (64, 64, 64),
        "gate.reduce": (64, 8, 1),
        "gate.expand": (8, 64, 1),  # as wide as what it gates
        "project.0": (64, 16, 1),
        "mix": (16, 18, 1),  # 16, and a multiple of the 3 groups that read it
        "grouped": (18, 24, 3),
        "twice": (24, 48, 24),
        "shared": (48, 48, 1),
        "attention": (48, 1, 1),
    }
    assert (new.norm.num_channels, new.bn.num_features) == (48, 24)
    assert (new.hidden.in_features, new.hidden.out_features) == (16 * 96, 24)  # 168 channels are now 24 + 48 + 24
    assert (new.last.in_features, new.last.out_features) == (24, 5)
    check_trains(new, side=32)


@settings(deadline=None, max_examples=30)
@given(alpha=st.floats(0.05, 2.5), rounding=st.sampled_from([make_divisible, lambda c: make_divisible(c, 4)]))
def test_any_alpha_gives_a_network_that_trains(alpha, rounding):
    torch.manual_seed(0)
    check_trains(scale_width(Toy(), alpha, rounding=rounding), side=32)


def test_keep_and_inputs_and_outputs_stay():
    model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 24, 1), nn.Conv2d(24, 40, 3), nn.Conv2d(40, 7, 1))
    new = scale_width(model, 2.0, keep=("1",))
    assert [m.out_channels for m in new.children()] == [32, 24, 80, 7]
    assert new(torch.zeros(1, 3, 5, 5)).shape == (1, 7, 3, 3)


def test_layers_keep_what_they_are():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 1))
    tensorflow_padding(model)
    model.double().eval()
    model[0].weight.requires_grad_(False)
    model[1].running_mean.fill_(3)
    new = scale_width(model, 0.5)
    first, norm = list(new.children())[:2]
    assert type(first) is SameConv2d and first.weight.dtype == torch.float64 and not first.weight.requires_grad
    assert norm.eps == 1e-3 and not norm.running_mean.any() and norm.weight.eq(1).all() and not new.training
    assert not model[0].weight.eq(0).all() and model[1].running_mean.eq(3).all()  # the model that came in


class Sum(nn.Module):
    """One convolution of 24 channels, and the sum of it and two of 12 beside each other."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 12, 1), nn.Conv2d(3, 12, 1), nn.Conv2d(3, 24, 1)
        self.head = nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.c(x) + torch.cat([self.a(x), self.b(x)], 1))


class Calls(nn.Module):
    """A convolution, then one call."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.call, self.weight = nn.Conv2d(3, 12, 1), call, nn.Parameter(torch.ones(1, 12, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.weight if self.call is None else self.call(x)


LOST = [
    (Calls(None), "'weight': a tensor that belongs to no layer"),
    (Calls(lambda x: torch.fft.fft(x)), "'fft_fft': a call of fft_fft"),
    (Calls(lambda x: x.mean(1)), "'mean': a call of mean"),
    (Calls(lambda x: x.mean()), "'mean': a call of mean"),
    (Calls(lambda x: torch.cat([x, x], 2)), "'cat': a call of cat"),
    (Calls(lambda x: torch.chunk(x, 2, 2)[0]), "'chunk': a call of chunk"),
    (Calls(lambda x: x[0]), "'getitem': the index 0"),
    (Calls(lambda x: x.view(-1, 4, 3)), "'view': a call of view"),
    (nn.Sequential(nn.Conv2d(3, 12, 1), nn.PReLU(12)), "'_1': a PReLU"),
    (nn.Sequential(nn.Conv2d(3, 12, 1), nn.GLU(1)), "'_1': a GLU"),
    (nn.Sequential(nn.Conv2d(3, 12, 1), nn.Flatten(), nn.Linear(100, 5)), "100 features are not equally many"),
]


@pytest.mark.parametrize(("model", "message"), LOST, ids=lambda value: str(value)[-30:])
def test_channels_that_cannot_be_followed(model, message):
    with pytest.raises(BadInput, match="scale_width: cannot follow the channels through ") as raised:
        scale_width(model, 0.5)
    assert message in str(raised.value)


def test_wrong_calls():
    assert scale_width(Sum(), 0.5, rounding=whole)(torch.zeros(1, 3, 2, 2)).shape == (1, 5, 2, 2)
    with pytest.raises(BadInput, match="'cat' comes to 32 channels where 24 are needed"):
        scale_width(Sum(), 1.0)
    for alpha in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(BadInput, match=f"alpha={alpha}"):
            scale_width(Sum(), alpha)
    with pytest.raises(BadInput, match="keep='d' is not the path of a Conv2d"):
        scale_width(Sum(), 0.5, keep=("d",))
    for rounding in (lambda c: c / 2, lambda c: 0):
        with pytest.raises(BadInput, match=r"rounding\(12.0\) gave"):
            scale_width(Sum(), 0.5, rounding=rounding)
