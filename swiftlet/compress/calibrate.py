"""Which range of an activation 256 steps should cover, from the values that it takes on calibration images.

A wide range clips nothing and has coarse steps, a narrow one the opposite. Four ways to choose are known:
- `minmax`: clip nothing (Jacob et al. 2018, arXiv:1712.05877, section 3.1);
- `percentile`: clip the outermost values, a fixed share of them;
- `mse`: the least mean square error of rounding and clipping together;
- `entropy`: the rounded histogram tells most about the true one, by the Kullback-Leibler divergence (Migacz, "8-bit
  inference with TensorRT", GTC 2017).
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx

from swiftlet.compress.grid_points import Node
from swiftlet.errors import BadInput

SAMPLES = 4_000  # values kept per activation and batch: enough for a range
CLIPS = torch.linspace(1.0, 0.3, 36)  # shares of the full range that mse and entropy try
PERCENTILE = 0.999  # of the values lie inside
BINS = 2048  # of the histogram that entropy looks at


def observe(model: fx.GraphModule, nodes: set[Node], batches: Iterable[Tensor]) -> dict[Node, Tensor]:
    """The values that `nodes` take on the calibration images: at most SAMPLES a batch, always with the extremes.

    Raises BadInput if there are no images.
    """
    seen: dict[Node, list[Tensor]] = {node: [] for node in nodes}

    class Watch(fx.Interpreter):
        def run_node(self, n: Node) -> Any:
            result = super().run_node(n)
            if n in seen:
                flat = result.flatten()
                step = max(1, flat.numel() // SAMPLES)
                seen[n].append(torch.cat((flat[::step], flat.aminmax().min[None], flat.aminmax().max[None])))
            return result

    watch = Watch(model)
    with torch.inference_mode():
        for batch in batches:
            watch.run(batch)
    if any(not values for values in seen.values()):
        raise BadInput("quantize: no calibration images were given")
    return {node: torch.cat(values) for node, values in seen.items()}


def find_grid(values: Tensor, method: str = "mse") -> tuple[float, int]:
    """(scale, zero_point) of the uint8 grid for `values`, any number of them; 0 lies on it exactly.

    Raises BadInput for a method that is not in METHODS.
    """
    if method not in METHODS:
        raise BadInput(f"quantize: calibration={method!r} is unknown; there are {', '.join(METHODS)}")
    scales, zero_points = METHODS[method](values)
    return scales.item(), int(zero_points.item())


def round_to(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """ONNX's QuantizeLinear then DequantizeLinear, uint8: divide, round half to even, shift, saturate, and back."""
    return (x / scale).round_().add_(zero_point).clamp_(0, 255).sub_(zero_point).mul_(scale)


def _grids(low: Tensor, high: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Scales and zero points, (n, 1), that cover these shares of low to high and 0."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scales = ((high - low) * shares / 255).clamp(min=1e-8).unsqueeze(1)
    return scales, (-low * shares.unsqueeze(1) / scales).round()


def _minmax(values: Tensor) -> tuple[Tensor, Tensor]:
    return _grids(values.min(), values.max(), CLIPS[:1])


def _percentile(values: Tensor) -> tuple[Tensor, Tensor]:
    outside = (1 - PERCENTILE) / 2
    low, high = values.quantile(outside), values.quantile(1 - outside)
    if low >= 0 or high <= 0:  # one tail only, so all of the share is its
        low, high = values.quantile(1 - PERCENTILE), values.quantile(PERCENTILE)
    return _grids(low, high, CLIPS[:1])


def _mse(values: Tensor) -> tuple[Tensor, Tensor]:
    scales, zero_points = _grids(values.min(), values.max(), CLIPS)
    best = (round_to(values, scales, zero_points) - values).square().mean(1).argmin()
    return scales[best], zero_points[best]


def _entropy(values: Tensor) -> tuple[Tensor, Tensor]:
    """As in TensorRT, but for both ends at once, and over many widths of the steps instead of many numbers of bins."""
    low, high = values.min().clamp(max=0.0), values.max().clamp(min=0.0)
    scales, zero_points = _grids(low, high, CLIPS)
    nonzero = values[values != 0].double()  # 0 lies on every grid, and behind a ReLU would outweigh all else
    counts, edges = torch.histogram(nonzero, BINS, range=(low.item(), max(high, low + 1e-8).item()))
    centres = (edges[:-1] + edges[1:]) / 2
    divergences = [_divergence(counts, centres, *grid) for grid in zip(scales, zero_points, strict=True)]
    best = torch.stack(divergences).argmin()
    return scales[best], zero_points[best]


def _divergence(counts: Tensor, centres: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Of the histogram as the grid leaves it from the histogram with its tails moved to the ends of the grid.

    Neither is scaled to sum to 1, as TensorRT's are: what is clipped is missing, and must count where it is nearly all.
    """
    levels = ((centres / scale).round() + zero_point).long()
    below, above = levels < 0, levels > 255
    inside = ~(below | above)
    inner, levels = counts[inside], levels[inside]
    true = inner.clone()
    true[0] += counts[below].sum()
    true[-1] += counts[above].sum()
    filled = true > 0
    totals = torch.zeros(256, dtype=inner.dtype).index_add_(0, levels, inner)
    bins = torch.zeros_like(totals).index_add_(0, levels, filled.to(inner.dtype))
    rounded = (totals / bins)[levels][filled] + 1e-4  # a count that keeps an end with nothing but its tail finite
    true = true[filled]
    return (true * (true / rounded).log() - true + rounded).sum()


METHODS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "minmax": _minmax, "percentile": _percentile, "mse": _mse, "entropy": _entropy,
}  # fmt: skip
