"""The formulas of the papers, in whole numbers: what their blocks cost, and the least that a given work can move.

Work is weights and multiply-adds, without biases and BatchNorm. `out` is the height and width of the output, which is
the input's divided by the stride and rounded up wherever padding is half the kernel. docs/counting.md derives each.
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, sqrt

from swiftlet.errors import BadInput

Sides = tuple[int, int]  # height, width


@dataclass(frozen=True, slots=True)
class Work:
    """Weights and multiply-adds for one image; works that follow each other add up."""

    params: int
    macs: int

    def __add__(self, other: "Work") -> "Work":
        return Work(self.params + other.params, self.macs + other.macs)


def convolution(c_in: int, c_out: int, kernel: int | Sides, out: Sides, *, groups: int = 1) -> Work:
    """K x K x M x N / g weights, each used once for each place of the output (MobileNet V1, section 3.1).

    Raises BadInput if groups does not divide both numbers of channels: such a layer cannot be.
    """
    if groups < 1 or c_in % groups or c_out % groups:
        raise BadInput(f"convolution: groups={groups} must divide c_in={c_in} and c_out={c_out}")
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    weights = height * width * (c_in // groups) * c_out
    return Work(weights, weights * out[0] * out[1])


def depthwise(channels: int, kernel: int, out: Sides, *, multiplier: int = 1) -> Work:
    """One K x K filter, or `multiplier` of them, on each channel: as many groups as channels come in."""
    return convolution(channels, channels * multiplier, kernel, out, groups=channels)


def pointwise(c_in: int, c_out: int, out: Sides, *, groups: int = 1) -> Work:
    """1 x 1 convolution."""
    return convolution(c_in, c_out, 1, out, groups=groups)


def separable(c_in: int, c_out: int, kernel: int, out: Sides) -> Work:
    """Depthwise, then pointwise (MobileNet V1, section 3.1)."""
    return depthwise(c_in, kernel, out) + pointwise(c_in, c_out, out)


def separable_ratio(c_out: int, kernel: int) -> Fraction:
    """Separable against standard convolution, weights and multiply-adds alike: 1/N + 1/K^2."""
    return Fraction(1, c_out) + Fraction(1, kernel * kernel)


def separable_width_ratio(c_out: int, kernel: int, width: Fraction) -> Fraction:
    """What is left of a separable convolution at `width` times its channels: a (K^2 + a N) / (K^2 + N).

    Between a^2, which the pointwise part alone would have, and a, which the depthwise part has (MobileNet V1,
    section 3.3).
    """
    taps = kernel * kernel
    return width * (taps + width * c_out) / (taps + c_out)


def ghost(c_in: int, c_out: int, kernel: int, out: Sides, *, ratio: int = 2, cheap_kernel: int = 3) -> Work:
    """m = ceil(n / s) channels by convolution, s - 1 cheap d x d filters on each (GhostNet, section 3.1)."""
    primary = ceil(c_out / ratio)
    work = convolution(c_in, primary, kernel, out)
    return work + depthwise(primary, cheap_kernel, out, multiplier=ratio - 1) if ratio > 1 else work


def ghost_ratio(c_in: int, kernel: int, *, ratio: int = 2, cheap_kernel: int = 3) -> Fraction:
    """A standard convolution against the ghost module, where s divides n: s c k^2 / (c k^2 + (s - 1) d^2).

    About s; for d = k it is s c / (c + s - 1) (GhostNet, equation 4).
    """
    dense = c_in * kernel * kernel
    return Fraction(ratio * dense, dense + (ratio - 1) * cheap_kernel * cheap_kernel)


def fire(c_in: int, squeeze: int, expand1x1: int, expand3x3: int, out: Sides) -> Work:
    """1 x 1 squeeze, then 1 x 1 and 3 x 3 side by side (SqueezeNet, section 3.2)."""
    wide = pointwise(squeeze, expand1x1, out) + convolution(squeeze, expand3x3, 3, out)
    return pointwise(c_in, squeeze, out) + wide


def inverted_residual(
    c_in: int, c_out: int, kernel: int, into: Sides, out: Sides, *, expansion: int, se_hidden: int = 0
) -> Work:
    """Expand, depthwise, project; the expanded width is t times the *input's* (MobileNet V2, table 1).

    At t = 1 there is no expanding convolution. `into` is the input's side, at which the expansion works. With
    se_hidden, squeeze-and-excitation on the expanded width.
    """
    c_mid = c_in * expansion
    expand = pointwise(c_in, c_mid, into) if expansion != 1 else Work(0, 0)
    gate = squeeze_excite(c_mid, se_hidden) if se_hidden else Work(0, 0)
    return expand + depthwise(c_mid, kernel, out) + gate + pointwise(c_mid, c_out, out)


def squeeze_excite(channels: int, hidden: int) -> Work:
    """Two linear layers on the means of the channels; what they gate is element-wise."""
    return pointwise(channels, hidden, (1, 1)) + pointwise(hidden, channels, (1, 1))


def fused(c_in: int, c_out: int, kernel: int, out: Sides, *, expansion: int) -> Work:
    """K x K to the expanded width in one convolution, then project (MobileDets, section 3.2)."""
    c_mid = c_in * expansion
    return convolution(c_in, c_mid, kernel, out) + pointwise(c_mid, c_out, out)


def tucker(c_in: int, c_first: int, c_mid: int, c_out: int, kernel: int, into: Sides, out: Sides) -> Work:
    """1 x 1 to few channels, K x K between few, 1 x 1 to all (MobileDets, section 3.3): a convolution whose kernel
    has ranks c_first and c_mid along its channels."""
    return pointwise(c_in, c_first, into) + convolution(c_first, c_mid, kernel, out) + pointwise(c_mid, c_out, out)


def low_rank(n_in: int, n_out: int, rank: int) -> Work:
    """A linear layer as the product of two, by truncated SVD: rank (n_in + n_out) instead of n_in n_out."""
    weights = rank * (n_in + n_out)
    return Work(weights, weights)


def break_even_rank(n_in: int, n_out: int) -> int:
    """The largest rank at which two factors hold fewer weights than the layer: below n_in n_out / (n_in + n_out)."""
    return ceil(Fraction(n_in * n_out, n_in + n_out)) - 1


def strips(c_in: int, c_mid: int, c_out: int, kernel: int, out: Sides, *, into: Sides | None = None) -> Work:
    """N x 1 to c_mid channels, then 1 x N: a convolution whose filters have rank c_mid (Inception-V3, section 3.2).

    `into` is what the first one gives out, if a stride or missing padding makes it differ from `out`.
    """
    return convolution(c_in, c_mid, (kernel, 1), into or out) + convolution(c_mid, c_out, (1, kernel), out)


def pointwise_memory_access(c_in: int, c_out: int, out: Sides, *, groups: int = 1) -> int:
    """Elements that a 1 x 1 convolution reads and writes: h w (c1 + c2) + c1 c2 / g (ShuffleNet V2, G1 and G2)."""
    return out[0] * out[1] * (c_in + c_out) + pointwise(c_in, c_out, out, groups=groups).params


def least_memory_access(macs: int, out: Sides, *, groups: int = 1) -> float:
    """The least of it at given multiply-adds B: 2 sqrt(h w B g) + B / (h w), where c1 = c2 (ShuffleNet V2, G1)."""
    places = out[0] * out[1]
    return 2 * sqrt(places * macs * groups) + macs / places
