"""Names beside the points of a scatter, none over another or over a point."""

from collections.abc import Sequence
from math import cos, pi, sin
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RADII = (9, 16, 26, 38, 52, 68)  # points of the page (1/72 inch) between a point and its name
TURNS = (0, 1, -1, 2, -2, 3, -3, 4)  # eighths of a circle, from the right


def label_points(
    figure: "Figure",
    axes: "Axes",
    names: Sequence[tuple[float, float, str]],
    points: Sequence[tuple[float, float]],
) -> None:
    """Write each (x, y, name) at the nearest free place, with a thin line to its point; `points` are to be kept clear.

    Call it last: it measures in the axes as they stand. A name for which no place is free is left out.
    """
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # the layout is made now
    to_pixels = axes.transData.transform
    dot = 3 * figure.dpi / 72
    taken = [Bbox.from_bounds(x - dot, y - dot, 2 * dot, 2 * dot) for x, y in map(to_pixels, points)]
    for x, y, name in names:
        text = axes.annotate(
            name, (x, y), (0, 0), textcoords="offset points", fontsize=8, va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": "#888888", "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip
        text.set_in_layout(False)
        for radius, turn in ((radius, turn) for radius in RADII for turn in TURNS):
            across = radius * cos(turn * pi / 4)
            text.set_horizontalalignment("center" if abs(across) < 1 else "left" if across > 0 else "right")
            text.set_position((across, radius * sin(turn * pi / 4)))
            text.get_window_extent()  # finds its place; with line and point, so that the name's own box is taken next
            box = Text.get_window_extent(text).padded(1)
            inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
        else:
            text.remove()
