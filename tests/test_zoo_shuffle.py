"""ShuffleNet V1, which has no public twin here, against units written out by hand; V2 against torchvision."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from twins import check_twin, randomise

from swiftlet import create_model
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput
from swiftlet.zoo.shufflenet_v1 import Unit as UnitV1
from swiftlet.zoo.shufflenet_v2 import Unit as UnitV2
from swiftlet.zoo.shufflenet_v2 import at_width


def counted(name: str, **arguments: object) -> tuple[int, int]:
    with torch.device("meta"):
        cost = count_model(create_model(name, **arguments), (3, 224, 224)).cost
    return cost.params, cost.macs


def bn(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)


def grouped(x: Tensor, weight: Tensor, groups: int) -> Tensor:
    """A 1x1 convolution, one group of channels after the other."""
    parts = zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True)
    return torch.cat([torch.einsum("bchw,oc->bohw", part, w[:, :, 0, 0]) for part, w in parts], 1)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel j of group i becomes channel i of group j."""
    size = x.shape[1] // groups
    return x[:, [i * size + j for j in range(size) for i in range(groups)]]


def gated(x: Tensor, se: nn.Module) -> Tensor:
    hidden = F.relu(F.conv2d(x.mean((2, 3), keepdim=True), se.reduce.weight, se.reduce.bias))
    return x * torch.sigmoid(F.conv2d(hidden, se.expand.weight, se.expand.bias))


# --- V1 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "millions"),
    [  # table 1, table 5, and the README of megvii's release
        ({"groups": 1}, (1.532, 143.1)),
        ({"groups": 2}, (1.734, 140.8)),
        ({"groups": 3}, (1.866, 137.5)),
        ({"groups": 4}, (1.968, 134.3)),
        ({"groups": 8}, (2.435, 138.4)),
        ({"scale": 0.5}, (0.718, 37.6)),
        ({"scale": 0.5, "groups": 1}, (0.534, 38.5)),
        ({"scale": 0.5, "groups": 8}, (1.011, 40.5)),
        ({"scale": 0.25}, (0.306, 13.3)),
        ({"scale": 0.25, "groups": 1}, (0.210, 13.2)),
        ({"scale": 1.5}, (3.442, 292.4)),
        ({"scale": 1.5, "groups": 8}, (4.270, 290.2)),
        ({"scale": 2.0}, (5.451, 524.0)),
        ({"scale": 2.0, "groups": 8}, (6.522, 521.9)),
        ({"scale": 2.0, "se": True}, (8.349, 526.9)),
    ],
    ids=str,
)
def test_v1_costs_what_is_published(arguments, millions):
    params, macs = counted("shufflenet_v1", **arguments)
    assert (round(params / 1e6, 3), round(macs / 1e6, 1)) == millions


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("width", [0.05, 0.25, 0.37, 0.5, 0.75, 1.0, 1.5, 2.0])
def test_v1_groups_divide_at_every_scale(groups, width):
    with torch.device("meta"):
        model = create_model("shufflenet_v1", width=width, groups=groups)
        assert model(torch.empty(1, 3, 64, 96)).shape == (1, 1000)
    assert model.stages[0][0].squeeze[0].groups == 1  # the first pointwise convolution is not grouped
    units = [unit for stage in model.stages for unit in stage]
    assert {unit.squeeze[0].groups for unit in units[1:]} == {unit.expand[0].groups for unit in units} == {groups}
    widths = [stage[-1].expand[0].out_channels for stage in model.stages]
    assert widths == [widths[0], 2 * widths[0], 4 * widths[0]]


def test_shuffle_is_a_permutation_that_mixes_all_groups():
    x = torch.arange(24.0).reshape(1, 24, 1, 1)
    y = nn.ChannelShuffle(3)(x)
    assert torch.equal(y.flatten().sort().values, x.flatten())
    torch.testing.assert_close(y, shuffled(x, 3))
    assert (y.reshape(3, 8) // 8).int().unique(dim=1).shape[0] == 3  # each new group holds channels of each old one


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("se", [False, True], ids=["plain", "se"])
@pytest.mark.parametrize("shuffle", [False, True], ids=["no shuffle", "shuffle"])
def test_v1_unit_is_figure_2(stride, se, shuffle):
    c_out = 36 if stride == 1 else 72
    unit = randomise(UnitV1(36, c_out, stride, groups=3, first=False, shuffle=shuffle, se=se)).eval()
    x = torch.randn(2, 36, 9, 7, generator=torch.Generator().manual_seed(0))
    y = F.relu(bn(grouped(x, unit.squeeze[0].weight, 3), unit.squeeze[1]))
    y = shuffled(y, 3) if shuffle else y
    c_mid = c_out // 4
    y = bn(F.conv2d(y, unit.depthwise[0].weight, None, stride, 1, 1, c_mid), unit.depthwise[1])
    y = bn(grouped(y, unit.expand[0].weight, 3), unit.expand[1])
    if stride == 2:
        y = torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1)
    y = gated(y, unit.se) if se else y
    expected = F.relu(x + y if stride == 1 else y)
    torch.testing.assert_close(unit(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shuffle", "reached"), [(True, {0, 1, 2}), (False, {0})])
def test_without_shuffle_groups_never_meet(shuffle, reached):
    model = create_model("shufflenet_v1", width=0.25, shuffle=shuffle)
    unit = randomise(model.stages[1][1]).eval()
    x = torch.rand(1, 120, 4, 4)
    changed = x.clone()
    changed[:, :40] += 1  # the first of three groups
    moved = (unit(changed) != unit(x)).any((0, 2, 3)).reshape(3, 40)
    assert set(moved.any(1).nonzero().flatten().tolist()) == reached
    assert any(isinstance(m, nn.ChannelShuffle) for m in model.modules()) == shuffle


def test_one_group_is_an_ungrouped_network():
    model = create_model("shufflenet_v1", width=0.25, groups=1)
    assert not any(isinstance(m, nn.ChannelShuffle) for m in model.modules())
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.groups in (1, m.in_channels) and (m.groups == 1 or m.kernel_size == (3, 3)) for m in convs)


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v2"])
def test_scale_is_another_name_for_width(name):
    assert counted(name, scale=0.5) == counted(name, width=0.5) == counted(name, width=0.5, scale=0.5)
    with pytest.raises(BadInput, match="two names for one number"):
        create_model(name, width=0.5, scale=2.0)


# --- V2 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "name"), [(0.5, "x0_5"), (1.0, "x1_0"), (1.5, "x1_5"), (2.0, "x2_0")])
def test_v2_is_torchvision_s(width, name):
    def reference() -> nn.Module:
        import torchvision

        return getattr(torchvision.models, f"shufflenet_v2_{name}")(weights=None)

    arguments = {"width": width, "split": "torchvision"}
    check_twin("shufflenet_v2", arguments, reference, "torchvision", sides=((64, 64), (97, 75)))


@pytest.mark.parametrize(
    ("arguments", "cost"),
    [
        ({"width": 0.5}, (1_366_792, 40_476_448)),
        ({"width": 1.0}, (2_279_760, 145_814_296)),
        ({"width": 1.5}, (3_507_720, 298_970_656)),
        ({"width": 2.0}, (7_403_600, 590_783_000)),
        ({"width": 1.0, "split": "torchvision"}, (2_278_604, 144_907_992)),
        ({"width": 2.0, "split": "torchvision"}, (7_393_996, 583_253_464)),
        ({"width": 2.0, "se": True}, (13_370_376, 596_736_600)),
        ({"depth": "50", "split": "torchvision"}, (16_573_534, 2_304_152_672)),
        (
            {"depth": "164", "split": "torchvision", "se": True, "residual": True},
            (102_506_606, 12_568_127_992),
        ),
    ],
    ids=str,
)
def test_v2_costs(arguments, cost):
    assert counted("shufflenet_v2", **arguments) == cost


@pytest.mark.parametrize("first", [True, False], ids=["first", "other"])
@pytest.mark.parametrize("residual", [False, True], ids=["plain", "residual"])
@pytest.mark.parametrize("se", [False, True], ids=["no se", "se"])
@pytest.mark.parametrize("split", ["official", "torchvision"])
def test_v2_unit_is_figure_3(first, residual, se, split):
    c_in, stride = (8, 2) if first else (24, 1)
    unit = randomise(UnitV2(c_in, 24, stride, first=first, split=split, se=se, residual=residual)).eval()
    x = torch.randn(2, c_in, 9, 7, generator=torch.Generator().manual_seed(0))
    left, right = (x, x) if first else (x[:, :12], x[:, 12:])

    def conv(x: Tensor, brick: nn.Sequential) -> Tensor:
        layer = brick[0]
        return bn(F.conv2d(x, layer.weight, None, layer.stride, layer.padding, 1, layer.groups), brick[1])

    if first:
        left = F.relu(conv(conv(left, unit.left[0]), unit.left[1]))
        assert left.shape[1] == (c_in if split == "official" else 12)
    y = F.relu(conv(conv(F.relu(conv(right, unit.right[0])), unit.right[1]), unit.right[2]))
    if residual:
        y = gated(y, unit.right[3]) if se else y
        y = y if first else right + y
        y = torch.cat([left, y], 1)
    else:
        y = torch.cat([left, y], 1)
        y = gated(y, unit.se) if se else y
    torch.testing.assert_close(unit(x), shuffled(y, 2), rtol=1e-5, atol=1e-5)


def test_v2_widths_in_between_lie_on_straight_lines():
    points = ((0, 0), (0.5, 48), (1, 116), (1.5, 176), (2, 244))
    assert [at_width(w, points) for w, _ in points] == [c for _, c in points]
    assert [at_width(w, points) for w in (0.25, 0.75, 1.25, 2.5)] == [24, 82, 146, 312]
    # the stem's 24 channels pass on the left, so two is the least that the right can add
    assert create_model("shufflenet_v2", width=0.1).stages[0][0].right[2][0].out_channels == 2


@pytest.mark.parametrize("name", ["shufflenet_v1", "shufflenet_v2"])
def test_small_input_has_total_stride_8(name):
    model = create_model(name, width=0.25, small_input=True)
    assert model.stages(model.stem(torch.zeros(2, 3, 32, 32))).shape[2:] == (4, 4)
