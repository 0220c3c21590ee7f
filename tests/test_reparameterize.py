"""Branches become one convolution: the same outputs, plain chains, and everything that must stay."""

import copy
import operator
from functools import partial

import pytest
import torch
import torchvision_ops  # noqa: F401  (lets timm import)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from twins import quietly, randomise

from swiftlet.compress.reparameterize import deployed, reparameterize
from swiftlet.cost.count import count_model
from swiftlet.errors import BadInput, NothingToDo
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.padding import SameConv2d
from swiftlet.zoo import create_model


def settled(model: nn.Module, images: Tensor) -> nn.Module:
    """In eval mode, with random scales and shifts and the statistics of `images`, so that signals live to the end."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.5, generator=generator)
                module.momentum = None
        model.train()(images)
    return model.eval()


def images(channels: int = 3, side: int = 32) -> Tensor:
    return torch.randn(8, channels, side, side, generator=torch.Generator().manual_seed(1))


def scores(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return model(x.clone())


def check_same(new: nn.Module, model: nn.Module, x: Tensor) -> None:
    """Within 1e-5 of the largest output, which depends on the picture."""
    expected = scores(model, x)
    largest = expected.abs().max()
    assert expected.std(0).max() > 0.01 * largest
    assert (scores(new, x) - expected).abs().max() <= 1e-5 * largest


def timm_model(name: str) -> nn.Module:
    import timm

    return quietly(lambda: timm.create_model(name))


# --- real networks --------------------------------------------------------------------------------------------------

NETWORKS = [
    (partial(create_model, "mobileone_s0"), 2_078_504, 275_110_400),  # the paper prints 2.1 M and 275 M
    (partial(timm_model, "mobileone_s0"), 2_078_504, 275_110_400),
    (partial(timm_model, "repvgg_a0"), 8_309_384, 1_361_451_008),  # arXiv:2101.03697, table 4: 8.30 M and 1.4 B
]


@pytest.mark.parametrize(
    ("build", "params", "macs"), NETWORKS, ids=["mobileone_s0", "timm mobileone_s0", "timm repvgg_a0"]
)
def test_networks_become_plain_chains(build, params, macs):
    model = randomise(build()).eval()
    new, record = reparameterize(model)
    check_same(new, model, images())
    cost = count_model(new, (3, 224, 224)).cost
    assert (cost.params, cost.macs) == (params, macs)
    assert record.skipped == () and len(record.changed) > 100
    assert not any(isinstance(module, nn.BatchNorm2d) for module in new.modules())
    assert {node.op for node in new.graph.nodes} == {"placeholder", "call_module", "output"}  # nothing is summed
    assert all(len(node.users) == 1 for node in new.graph.nodes if node.op != "output")


class Blocks(nn.Module):
    """RepVGG's block, the same depthwise, and a residual sum that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 8, 3, stride=2)
        self.wide, self.point, self.skip = conv_bn(8, 8, 3, act=None), conv_bn(8, 8, 1, act=None), nn.BatchNorm2d(8)
        self.deep = nn.ModuleList([conv_bn(8, 8, k, groups=8, act=None) for k in (5, 3, 1)] + [nn.BatchNorm2d(8)])
        self.residual = nn.Sequential(conv_bn(8, 8, 1), conv_bn(8, 8, 3, act=None))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.skip(x) + self.point(x) + self.wide(x))
        x = torch.relu(sum(branch(x) for branch in self.deep))
        return self.head(x + self.residual(x))


def test_it_keeps_the_laws_of_a_transform():
    torch.manual_seed(0)
    model = settled(Blocks(), images())
    before = copy.deepcopy(model.state_dict())
    generator = torch.get_rng_state()
    new, record = reparameterize(model)
    assert torch.equal(torch.get_rng_state(), generator)
    check_same(new, model, images())

    after = model.state_dict()
    assert not model.training and after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert {t.data_ptr() for t in new.state_dict().values()}.isdisjoint(t.data_ptr() for t in after.values())
    assert record.name == "reparameterize" and record.skipped == ()
    assert set(record.changed) <= {path for path, _ in model.named_modules()}
    assert {path for path, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)} <= set(record.changed)
    again, same = reparameterize(model)
    assert (again.code, same) == (new.code, record)

    convs = [m for m in new.modules() if isinstance(m, nn.Conv2d)]
    assert [(conv.kernel_size, conv.groups) for conv in convs] == [
        ((3, 3), 1), ((3, 3), 1), ((5, 5), 8), ((1, 1), 1), ((3, 3), 1)
    ]  # fmt: skip
    assert sum(node.target is operator.add for node in new.graph.nodes) == 1

    with pytest.raises(BadInput, match=r"reparameterize: call model.eval\(\) first"):
        reparameterize(copy.deepcopy(model).train())
    with pytest.raises(NothingToDo, match="reparameterize: no BatchNorm2d to fold and no convolutions to sum"):
        reparameterize(new)


def test_what_a_batchnorm_carries_is_kept():
    torch.manual_seed(0)
    model = settled(timm_model("mobilenetv2_035"), images()).double()  # its BatchNormAct2d ends in ReLU6
    new, record = reparameterize(model)
    check_same(new, model, images().double())
    assert sum(type(m) is nn.ReLU6 for m in new.modules()) == 35 and len(record.changed) == 52

    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(BadInput, match="'1' is a Doubled, which is not a BatchNorm2d and its children in turn"):
        reparameterize(nn.Sequential(nn.Conv2d(3, 3, 1), Doubled(3)).eval())


# --- sums -----------------------------------------------------------------------------------------------------------


class Parallel(nn.Module):
    """Layers a, b, ... that read the same tensor; `how` writes their sum. Then ReLU."""

    def __init__(self, *layers: nn.Module, how: str = "plain") -> None:
        super().__init__()
        for name, layer in zip("abcd", layers, strict=False):
            self.add_module(name, layer)
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        results = [layer(x) for layer in self.children()]
        if self.how == "in place":
            total = results[0]
            for result in results[1:]:
                total += result
        elif self.how == "from zero":
            total = sum(results) + 0
        elif self.how == "as a tree":
            half = len(results) // 2
            total = torch.add(sum(results[:half]), sum(results[half:]))
        else:
            total = sum(results[1:], results[0])
        return torch.relu(total)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_kernels_with_one_centre_become_one(data):
    draw = data.draw
    stride, dilation = draw(st.sampled_from([1, 2, (1, 2)])), draw(st.sampled_from([1, 2]))
    groups, growth = draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from([-2, 0, 2]))
    layers = []
    for _ in range(draw(st.integers(2, 4))):
        kernel = draw(st.tuples(st.sampled_from([3, 5]), st.sampled_from([3, 7])))
        padding = tuple((dilation * (k - 1) + growth) // 2 for k in kernel)
        bias = draw(st.booleans())
        layers.append(nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups=groups, bias=bias))
    model = Parallel(*layers, how=draw(st.sampled_from(["plain", "in place", "from zero", "as a tree"]))).eval()
    new, record = reparameterize(model)
    assert record.skipped == () and sorted(record.changed) == list("abcd"[: len(layers)])
    assert [type(m) for m in new.children()] == [nn.Conv2d] and len(new.graph.nodes) == 4
    for height, width in ((20, 15), (17, 16)):
        x = torch.randn(2, 4, height, width)
        torch.testing.assert_close(scores(new, x), scores(model, x), rtol=1e-5, atol=1e-5)


def test_even_kernels_and_double_precision_too():
    model = Parallel(nn.Conv2d(2, 2, 2), nn.Conv2d(2, 2, 4, padding=1)).eval().double()
    new, _ = reparameterize(model)
    x = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    torch.testing.assert_close(scores(new, x), scores(model, x), rtol=1e-12, atol=1e-12)


class TwoSums(nn.Module):
    """BatchNorm behind a sum, beside another convolution: the inner sum, then BatchNorm, then the outer sum can go."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.bn, self.c = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 3, 1),
            nn.BatchNorm2d(3),
            nn.Conv2d(3, 3, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.a(x) + self.b(x)) + self.c(x)


def test_what_becomes_possible_is_done():
    model = settled(TwoSums(), images())
    new, record = reparameterize(model)
    assert len(list(new.children())) == 1 and record.changed == ("a", "b", "bn", "c") and record.skipped == ()
    check_same(new, model, images())


def conv(kernel: int = 3, **others: object) -> nn.Conv2d:
    return nn.Conv2d(4, others.pop("c_out", 4), kernel, **({"padding": kernel // 2} | others))


STAY = [  # layers, and why those that stay do
    ([conv(stride=2), conv(9, padding=0)],
     {"a": "differs from b in stride and centre", "b": "differs from a in stride and centre"}),
    ([conv(), conv(groups=2)], {"a": "differs from b in groups", "b": "differs from a in groups"}),
    ([conv(), conv(dilation=2, padding=2)], {"a": "differs from b in dilation", "b": "differs from a in dilation"}),
    ([conv(), conv(c_out=1)], {"a": "differs from b in channels", "b": "differs from a in channels"}),
    ([conv(), conv(padding_mode="reflect")], {"b": "its padding is (1, 1) of reflect, not a number of zeros"}),
    ([conv(), conv(padding="same")], {"b": "its padding is 'same' of zeros, not a number of zeros"}),
    ([conv(), SameConv2d(4, 4, 3)], {"b": "it is a SameConv2d, which may pad in another way"}),
    ([conv(), nn.BatchNorm2d(4, track_running_stats=False)], {}),
    ([conv(stride=2), conv(1, stride=2), conv(9, padding=0)], {"c": "differs from a in stride and centre"}),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "reasons"), STAY, ids=lambda value: str(value)[:40])
def test_what_cannot_be_summed_stays_and_says_why(layers, reasons):
    model = Parallel(*layers).eval()
    if len(layers) == 2:
        with pytest.raises(NothingToDo, match="no convolutions to sum"):
            reparameterize(model)
    whole = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.Tanh(), model).eval()  # so that there is work
    new, record = reparameterize(whole)
    found = {path: why for path, why in record.skipped if "running statistics" not in why}
    assert found == {f"3.{path}": why.replace(" from ", " from 3.") for path, why in reasons.items()}
    x = torch.randn(2, 4, 16, 16)
    torch.testing.assert_close(scores(new, x), scores(whole, x), rtol=1e-5, atol=1e-5)


class Entangled(nn.Module):
    """Pairs of convolutions that look alike, and what forbids to sum each but the first."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("fine", "forked", "shared", "doubled", "read"):
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
            self.add_module(f"{name}_beside", nn.Conv2d(3, 3, 1))
        self.factor = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.fine(x) + self.fine_beside(x))
        y = self.forked(x)
        x = torch.tanh(y + self.forked_beside(x)) * y
        x = torch.tanh(self.shared(x) + self.shared_beside(x))
        x = torch.tanh(self.shared(x))
        y = self.doubled(x)
        x = torch.tanh(y + y + self.doubled_beside(x))
        x = torch.tanh(self.read(x) + self.read_beside(x)) * self.read.weight.sum()
        return self.read_beside(x) * self.factor(x)


def test_values_that_others_need_are_kept():
    torch.manual_seed(0)
    model = Entangled().eval()
    new, record = reparameterize(model)
    assert record.changed == ("fine", "fine_beside")
    assert dict(record.skipped) == {
        "forked": "it also feeds something else",
        "shared": "it is used more than once",
        "doubled": "it is used more than once",
        "read": "it is used more than once",
        "read_beside": "it is used more than once",
    }
    torch.testing.assert_close(scores(new, images()), scores(model, images()), rtol=1e-5, atol=1e-5)


class Overwritten(nn.Module):
    """self.a reads the tensor before something changes it in place, self.b after."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.a, self.b, self.act, self.how = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True), how

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5
        y = self.a(x)
        if self.how == "layer":
            self.act(x)
        elif self.how == "method":
            x.relu_()
        elif self.how == "function":
            torch.relu_(x)
        else:
            nn.functional.relu(x, inplace=True)
        return y + self.b(x)


@pytest.mark.parametrize("how", ["layer", "method", "function", "argument"])
def test_a_change_in_place_forbids_it(how):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), Overwritten(how)).eval()
    new, record = reparameterize(model)
    assert [path for path, why in record.skipped if "changes its input in place" in why] == ["2.a", "2.b"]
    torch.testing.assert_close(scores(new, images()), scores(model, images()), rtol=1e-5, atol=1e-5)


def test_what_is_shipped_has_no_branches_that_only_training_needs() -> None:
    one, records = deployed(settled(create_model("mobileone_s0", width=0.25, num_classes=5), images()))
    assert [record.name for record in records] == ["fold_batchnorm", "reparameterize"]
    assert sum(isinstance(module, nn.Conv2d) for module in one.modules()) == 1 + 2 * 21
    _, records = deployed(create_model("resnet18", width=0.1).eval())
    assert [record.name for record in records] == ["fold_batchnorm"]
    _, records = deployed(create_model("squeezenet1_1", width=0.1).eval())
    assert records == ()
