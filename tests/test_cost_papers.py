"""The papers' formulas against the blocks themselves, counted."""

from fractions import Fraction
from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swiftlet.cost import papers
from swiftlet.cost.count import count_model
from swiftlet.cost.papers import Work
from swiftlet.errors import BadInput
from swiftlet.layers.ghost import GhostModule
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.zoo import mobilenet_v1
from swiftlet.zoo.mobiledets import FullConvolution
from swiftlet.zoo.mobilenet_v1 import separable
from swiftlet.zoo.squeezenet import Fire

SIDE = st.tuples(st.integers(3, 12), st.integers(3, 12))
CHANNELS, KERNEL = st.integers(1, 24), st.sampled_from((1, 3, 5))


def law(*values: st.SearchStrategy[object]) -> object:
    """Holds for any values; without a deadline, because PyTorch loads parts of itself at the first call."""
    return lambda test: settings(deadline=None, max_examples=50)(given(*values)(test))


def work(block: nn.Module, channels: int, into: tuple[int, int]) -> Work:
    """Weights of the layers that multiply, and their multiply-adds, of the block as it is."""
    weights = sum(p.numel() for p in block.parameters() if p.ndim > 1)
    return Work(weights, count_model(block, (channels, *into)).cost.macs)


def halved(into: tuple[int, int], stride: int) -> tuple[int, int]:
    return ceil(into[0] / stride), ceil(into[1] / stride)


@law(CHANNELS, CHANNELS, KERNEL, SIDE, st.integers(1, 3), st.integers(1, 4))
def test_convolutions(c_in, c_out, kernel, into, stride, groups):
    out = halved(into, stride)
    layer = nn.Conv2d(c_in * groups, c_out * groups, kernel, stride, kernel // 2, groups=groups, device="meta")
    assert work(layer, c_in * groups, into) == papers.convolution(
        c_in * groups, c_out * groups, kernel, out, groups=groups
    )
    layer = nn.Conv2d(c_in, c_in * groups, kernel, stride, kernel // 2, groups=c_in, device="meta")
    assert work(layer, c_in, into) == papers.depthwise(c_in, kernel, out, multiplier=groups)


@law(CHANNELS, CHANNELS, SIDE, st.sampled_from((1, 2)))
def test_separable(c_in, c_out, into, stride):
    out = halved(into, stride)
    found = work(separable(c_in, c_out, stride), c_in, into)
    assert found == papers.separable(c_in, c_out, 3, out)
    standard = papers.convolution(c_in, c_out, 3, out)
    ratio = papers.separable_ratio(c_out, 3)
    assert Fraction(found.macs, standard.macs) == Fraction(found.params, standard.params) == ratio


@law(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), KERNEL)
def test_width_of_a_separable_convolution(c_in, c_out, alpha_percent, kernel):
    """At channels that the multiplier divides, so that nothing is rounded."""
    width, out = Fraction(alpha_percent, 4), (5, 6)
    full = papers.separable(4 * c_in, 4 * c_out, kernel, out)
    thin = papers.separable(alpha_percent * c_in, alpha_percent * c_out, kernel, out)
    ratio = papers.separable_width_ratio(4 * c_out, kernel, width)
    assert Fraction(thin.macs, full.macs) == ratio
    assert width**2 <= ratio <= width


@law(st.integers(1, 16), st.integers(1, 6), KERNEL, SIDE, st.integers(1, 4), st.sampled_from((3, 5)), st.booleans())
def test_ghost(c_in, primary, kernel, into, ratio, cheap, even):
    c_out = primary * ratio - (0 if even or ratio == 1 else 1)
    block = GhostModule(c_in, c_out, primary_kernel=kernel, ratio=ratio, kernel=cheap)
    found = papers.ghost(c_in, c_out, kernel, into, ratio=ratio, cheap_kernel=cheap)
    if c_out > 1 or ratio == 1:
        assert work(block, c_in, into) == found
    if c_out == primary * ratio:
        standard = papers.convolution(c_in, c_out, kernel, into)
        assert Fraction(standard.macs, found.macs) == papers.ghost_ratio(c_in, kernel, ratio=ratio, cheap_kernel=cheap)


@law(st.integers(2, 300), st.integers(2, 8), KERNEL)
def test_ghost_ratio_is_about_s(channels, s, kernel):
    ratio = papers.ghost_ratio(channels, kernel, ratio=s, cheap_kernel=kernel)
    assert ratio == Fraction(s * channels, channels + s - 1)
    assert ratio <= s and s - ratio <= Fraction(s * s, channels)


@law(CHANNELS, CHANNELS, CHANNELS, CHANNELS, SIDE)
def test_fire(c_in, squeeze, narrow, wide, into):
    assert work(Fire(c_in, squeeze, narrow, wide, "none"), c_in, into) == papers.fire(c_in, squeeze, narrow, wide, into)


@law(st.integers(1, 12), CHANNELS, KERNEL, SIDE, st.sampled_from((1, 2)), st.integers(1, 6), st.integers(0, 5))
def test_inverted_residual(c_in, c_out, kernel, into, stride, expansion, hidden):
    out = halved(into, stride)
    se = SqueezeExcite(c_in * expansion, hidden) if hidden else None
    block = InvertedResidual(c_in, c_in * expansion, c_out, kernel, stride=stride, se=se)
    assert work(block, c_in, into) == papers.inverted_residual(
        c_in, c_out, kernel, into, out, expansion=expansion, se_hidden=hidden
    )


@law(st.integers(1, 12), CHANNELS, CHANNELS, CHANNELS, KERNEL, SIDE, st.sampled_from((1, 2)), st.integers(2, 6))
def test_fused_and_tucker(c_in, c_first, c_mid, c_out, kernel, into, stride, expansion):
    out = halved(into, stride)
    block = FullConvolution(c_in, None, c_in * expansion, c_out, kernel, stride, False)
    assert work(block, c_in, into) == papers.fused(c_in, c_out, kernel, out, expansion=expansion)
    block = FullConvolution(c_in, c_first, c_mid, c_out, kernel, stride, False)
    assert work(block, c_in, into) == papers.tucker(c_in, c_first, c_mid, c_out, kernel, into, out)


@law(st.integers(1, 40), st.integers(1, 40), st.integers(1, 30))
def test_low_rank(n_in, n_out, rank):
    block = nn.Sequential(nn.Linear(n_in, rank, bias=False), nn.Linear(rank, n_out))
    weights = sum(p.numel() for p in block.parameters() if p.ndim > 1)
    found = papers.low_rank(n_in, n_out, rank)
    assert found == Work(weights, count_model(block, (n_in,)).cost.macs)
    assert (found.params < n_in * n_out) == (rank <= papers.break_even_rank(n_in, n_out))


@law(CHANNELS, CHANNELS, CHANNELS, st.sampled_from((3, 5, 7)), st.tuples(st.integers(7, 12), st.integers(7, 12)))
def test_strips(c_in, c_mid, c_out, kernel, into):
    half = kernel // 2
    padded = nn.Sequential(
        nn.Conv2d(c_in, c_mid, (kernel, 1), padding=(half, 0)), nn.Conv2d(c_mid, c_out, (1, kernel), padding=(0, half))
    )
    assert work(padded, c_in, into) == papers.strips(c_in, c_mid, c_out, kernel, into)
    bare = nn.Sequential(nn.Conv2d(c_in, c_mid, (kernel, 1)), nn.Conv2d(c_mid, c_out, (1, kernel)))
    first = (into[0] - kernel + 1, into[1])
    out = (first[0], into[1] - kernel + 1)
    assert work(bare, c_in, into) == papers.strips(c_in, c_mid, c_out, kernel, out, into=first)


@law(st.integers(1, 64), st.integers(1, 64), st.integers(1, 8), SIDE)
def test_memory_access_and_its_bound(c_in, c_out, groups, side):
    layer = nn.Conv2d(c_in * groups, c_out * groups, 1, groups=groups, bias=False)
    found = papers.pointwise_memory_access(c_in * groups, c_out * groups, side, groups=groups)
    counted = count_model(layer, (c_in * groups, *side)).cost
    assert counted.memory_access_bytes == 4 * found
    least = papers.least_memory_access(counted.macs, side, groups=groups)
    assert found >= least * (1 - 1e-12)
    assert (found == pytest.approx(least, rel=1e-12)) == (c_in == c_out)


def test_multipliers_of_a_whole_network():
    """alpha^2 and rho^2 are for one pointwise layer; a network also has a stem, depthwise layers and a classifier."""
    with torch.device("meta"):
        whole, half = mobilenet_v1(), mobilenet_v1(width=0.5)
    full = count_model(whole).cost
    thin = count_model(half).cost
    assert (round(thin.macs / full.macs, 3), round(thin.params / full.params, 3)) == (0.263, 0.315)
    head = 1024 * 1000  # the classifier works on one place at any side
    for side in (128, 160, 192):
        small = count_model(whole, (3, side, side)).cost
        assert Fraction(small.macs - head, full.macs - head) == Fraction(side, 224) ** 2 and small.params == full.params
    small = count_model(whole, (3, 112, 112)).cost
    assert 4 * (small.macs - head) > full.macs - head  # 7 / 2 is rounded up


def test_groups_must_divide():
    with pytest.raises(BadInput, match="groups=3 must divide c_in=4 and c_out=6"):
        papers.convolution(4, 6, 3, (8, 8), groups=3)
