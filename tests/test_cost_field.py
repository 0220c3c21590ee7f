"""Receptive fields, depth and branches: published figures, gradients, and files that say the same."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from swiftlet.cost.count import Count, count_model
from swiftlet.cost.flow import Field
from swiftlet.zoo import card, create_model


def on_meta(name: str, **arguments: object) -> Count:
    with torch.device("meta"):
        return count_model(create_model(name, **arguments), card(name).input)


# Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", Distill: the table of models,
# size and effective stride. Its ResNets put their strides elsewhere.
@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [("alexnet", 195, 32), ("vgg16", 212, 32), ("mobilenet_v1", 315, 32), ("inception_v3", 1311, 32)],
)
def test_published_receptive_fields(name, size, stride):
    assert on_meta(name).field == Field((size, size), (stride, stride))


LAYER = st.tuples(
    st.sampled_from(("conv", "avg", "up", "bilinear", "transposed", "add", "cat")),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
)


class Stack(nn.Module):
    """Layers drawn at random, all weights 1, so that nothing cancels."""

    def __init__(self, layers: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for kind, kernel, stride, dilation in self.layers:
            one, wide = x.new_ones(1, 1, kernel), x.new_ones(1, 1, 2 * kernel + 1)
            if kind == "conv":
                x = F.conv1d(x, one, stride=stride, dilation=dilation)
            elif kind == "avg":
                x = F.avg_pool1d(x, kernel, stride)
            elif kind == "up":
                x = F.interpolate(x, scale_factor=2)
            elif kind == "bilinear":
                x = F.interpolate(x, scale_factor=2, mode="linear")
            elif kind == "transposed":
                x = F.conv_transpose1d(x, wide, stride=stride)  # no gaps
            elif kind == "add":
                x = F.relu(x) + F.conv1d(x, wide, padding=kernel)
            else:
                x = torch.cat([x, F.conv1d(x, wide, padding=kernel)], 1).sum(1, keepdim=True)
        return x


@settings(deadline=None, max_examples=30)
@given(st.lists(LAYER, min_size=1, max_size=5))
def test_receptive_field_is_what_gradients_reach(layers):
    """Exactly as far; behind upsampling, where elements see now more and now less, the mean is no more than is said."""
    model, side = Stack(layers), 400
    image = torch.ones(1, 1, side, requires_grad=True)
    output = model(image)
    middle = output.shape[2] // 2
    grads = [torch.autograd.grad(output[0, 0, middle + i], image, retain_graph=True)[0] for i in range(4)]
    firsts, lasts = zip(*((int(g.nonzero()[0, 2]), int(g.nonzero()[-1, 2])) for g in grads), strict=True)
    field = count_model(model, (1, side)).layers[-1].field
    assert not field.whole
    if {"up", "bilinear", "transposed"}.isdisjoint(kind for kind, *_ in layers):
        assert {last - first + 1 for first, last in zip(firsts, lasts, strict=True)} == {field.size[0]}
        assert {after - before for before, after in pairwise(firsts)} == {field.stride[0]}
    else:
        assert sum(lasts) / 4 - sum(firsts) / 4 + 1 <= field.size[0] + abs(field.stride[0])


class Mixed(nn.Module):
    """A gate that sees everything, a product along the channels of each place, and one across the places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.LayerNorm(4)
        self.mix = nn.Linear(4, 4)
        self.gate = nn.Linear(4, 4)
        self.head = nn.Linear(4 * 36, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x).permute(0, 2, 3, 1))
        x = self.mix(x).permute(0, 3, 1, 2)
        gate = self.gate(x.mean((2, 3)))
        y = F.conv2d(x, self.conv.weight[:, :1], padding=1, groups=4)
        return self.head((y * gate[:, :, None, None]).flatten(1))


def test_what_sees_everything():
    layers = count_model(Mixed(), (3, 6, 6)).layers
    seen = [(layer.op, str(layer.field)) for layer in layers if layer.op != "clone"]
    assert seen == [
        ("convolution", "3x3"), ("native_layer_norm", "3x3"), ("addmm", "3x3"), ("mean", "all"), ("addmm", "all"),
        ("convolution", "5x5"), ("mul", "all"), ("addmm", "all"),
    ]  # fmt: skip
    assert layers[-1].field == Field((6, 6), (1, 1), whole=True)
    assert count_model(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3)), (3, 4, 4)).layers[-1].field.whole


@pytest.mark.parametrize(
    ("name", "depth", "branches"),
    [
        ("vgg16", 16, 1),
        ("resnet18", 18, 2),  # a projection beside the block's first convolution
        ("resnet50", 50, 2),
        ("googlenet", 22, 4),
        ("mobilenet_v2", 53, 1),
        ("squeezenet1_0", 18, 2),
        ("mobileone_s0", 44, 5),  # 3x3 four times and a 1x1 side by side, as it is trained
    ],
)
def test_depth_is_the_number_in_the_name_and_branches_are_counted(name, depth, branches):
    found = on_meta(name)
    assert (found.depth, found.branches) == (depth, branches)
