"""Pictures of a few feature maps, of the maps that explain them best, and of what a filter makes of those.

A trial gives nothing but numbers, so the pictures travel as the greys of their pixels, and stand so in a table.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from swiftlet.study.finding import Table
from swiftlet.study.trained.maps import best_sources, made_from, relations, standardised
from swiftlet.study.trial import Figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

PAIRS = {"best": 1.0, "quartile": 0.75, "median": 0.5}  # by the R2 of the map among those of its layer
PARTS = ("source", "made of it", "map")
GREYS = 15


def shown_pairs(fit: Tensor, others: Tensor) -> Figures:
    """R2 and greys, 0 to GREYS, of some of these maps (B, C, H, W) and of their best sources at d=3."""
    relation = relations(fit, others, (3,))[3]
    (_, seen), _ = standardised(fit, others)
    sources = best_sources(relation)
    r2 = relation.held_out[sources, torch.arange(len(sources))].masked_fill(~relation.alive, -torch.inf)
    order = r2.argsort()[len(r2) - int(relation.alive.sum()) :]  # the worst first
    found: Figures = {}
    for pair, rank in PAIRS.items():
        target = int(order[round(rank * (len(order) - 1))])
        source = int(sources[target])
        picture = int(seen[:, target].var((1, 2)).argmax())  # on which there is most to see
        made = made_from(seen[:, source], relation.filters[source, :, target])
        found |= {f"{pair} R2": float(r2[target]), f"{pair} from": source, f"{pair} to": target}
        for part, maps, scale in zip(
            PARTS, (seen[:, source], made, seen[:, target]), (source, target, target), strict=True
        ):
            low, high = seen[picture, scale].min(), seen[picture, scale].max()
            greys = GREYS * ((maps[picture] - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
            found |= {f"{pair} {part} {i}": float(grey) for i, grey in enumerate(greys.round().flatten())}
    return found


def pair_tables(figures: Mapping[str, float], layer: str) -> tuple[Table, Table]:
    """What shown_pairs found: which maps they are, and their pixels."""
    pairs = Table(
        title=f"Three maps of {layer} and their best sources",
        columns=("pair", "R2", "from map", "to map"),
        rows=tuple((p, figures[f"{p} R2"], int(figures[f"{p} from"]), int(figures[f"{p} to"])) for p in PAIRS),
        source="of the network of seed 0, d=3",
    )
    columns = []
    for name in (f"{pair} {part}" for pair in PAIRS for part in PARTS):
        pixels = sum(figure.startswith(f"{name} ") for figure in figures)
        digits = "".join(f"{int(figures[f'{name} {i}']):x}" for i in range(pixels))
        side = round(pixels**0.5)
        columns.append([digits[start : start + side] for start in range(0, pixels, side)])
    greys = Table(
        title="The same as greys, 0 to f, line by line",
        columns=tuple(f"{pair} {part}" for pair in PAIRS for part in PARTS),
        rows=tuple(zip(*columns, strict=True)),
        source="on the photo on which the map varies most; what is made of the source has the greys of the map",
    )
    return pairs, greys


def draw_pairs(pairs: Table, greys: Table, figure: "Figure | SubFigure") -> None:
    """One row per pair, of what pair_tables made."""
    grid = figure.subplots(len(PAIRS), len(PARTS), squeeze=False)
    for row, (pair, r2) in enumerate(zip(pairs.column("pair"), pairs.column("R2"), strict=True)):
        for axes, part in zip(grid[row], PARTS, strict=True):
            picture = [[int(digit, 16) for digit in line] for line in greys.column(f"{pair} {part}")]
            axes.imshow(picture, cmap="gray", vmin=0, vmax=GREYS)
            axes.set(xticks=[], yticks=[], title=part if row == 0 else "")
        grid[row][0].set_ylabel(f"{pair}\nR2 {r2:.2f}")
