"""From trees to one figure: a feature map is a bar as wide as it has channels, an operation the shape between two bars.

A chain runs down an axis, its labels right of it. What is summed stands left of the axis, gates right of it, branches
that are concatenated side by side.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from itertools import zip_longest

from docs.generate.blocks import Branch, Fork, Kind, Op, Shape, shapes
from docs.generate.svg import COLOURS, INK, Piece, curve, page, text_width

TALL, LOW = 54, 34  # height of a convolution or a shuffle; of an activation or a pooling
CURVE = 52  # height in which a feature map splits, copies, or meets another
GAP = 22  # between neighbouring branches
MARGIN = 20
HEAD = 74  # height of a panel's title and note


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One block of a figure."""

    title: str
    note: tuple[str, ...]
    tree: Branch


def figure(title: str, caption: str, panels: list[Panel], widest: int) -> str:
    """The SVG of panels side by side, drawn to one scale: the bar with the most channels is `widest` long."""
    draw = _Draw(widest / max(shape[0] for panel in panels for shape in shapes(panel.tree)))
    pieces = [draw.panel(panel) for panel in panels]
    whole, x = Piece(height=MARGIN + max(piece.height for piece in pieces) + 8), 0.0
    for piece in pieces:
        if x:
            whole.rule(x, MARGIN, f"V{whole.height:g}")
        whole.put(piece, x + MARGIN + piece.left, MARGIN)
        x += piece.left + piece.right + 2 * MARGIN
    _foot(whole, caption, draw, x)
    return page(title, x, whole.height, whole.svg)


class _Draw:
    """Lays out trees at one scale, and remembers what the legend has to explain."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.kinds: set[Kind] = set()
        self.notes = {"M": "million multiply-adds"}

    def panel(self, panel: Panel) -> Piece:
        piece, block = Piece(), self.chain(panel.tree, start=True, named=True)
        piece.text(-block.left, 14, panel.title, "t")
        for i, line in enumerate(panel.note):
            piece.text(-block.left, 32 + 15 * i, line)
        piece.put(block, 0, HEAD)
        piece.height = HEAD + block.height
        return piece

    def wide(self, shape: Shape) -> float:
        return max(3.0, round(shape[0] * self.scale, 1))

    def reach(self, branch: Branch) -> float:
        """Half the widest shape that stands on the axis of a branch."""
        reach = self.wide(branch.shape) / 2
        for item in branch.items:
            reach = max(reach, self.wide(item.shape) / 2)
            if isinstance(item, Fork) and item.join.title == "+":
                reach = max(reach, self.reach(item.branches[-1]))
        return reach

    def chain(self, branch: Branch, *, start: bool = False, named: bool = False, reach: float = 0) -> Piece:
        """A branch from its own bar (drawn if `start`, with its shape if `named`) to its last.

        Labels stand right of everything that reaches less than `reach` from the axis.
        """
        reach = max(reach, self.reach(branch))
        piece, shape = Piece(), branch.shape
        if start:
            first = branch.items[0] if branch.items else None
            self.bar(piece, shape, reach, _label(None, shape, first) if named else "")
        for item, after in zip_longest(branch.items, branch.items[1:]):
            if isinstance(item, Fork):
                inner = self.fork(item, shape, reach)
                piece.put(inner, 0, piece.height)
                piece.height += inner.height
            else:
                self.operation(piece, item, shape, reach)
            shape = item.shape
            self.bar(piece, shape, reach, _label(item, shape, after))
        return piece

    def bar(self, piece: Piece, shape: Shape, reach: float, label: str) -> None:
        piece.box(-self.wide(shape) / 2, piece.height - 2, self.wide(shape), 4, INK)
        if label:
            piece.text(reach + 10, piece.height + 4, label)

    def operation(self, piece: Piece, op: Op, source: Shape, reach: float) -> None:
        self.kinds.add(op.kind)
        if op.title.endswith("/2"):
            self.notes["/2"] = "stride 2"
        shuffle = op.title == "channel shuffle"
        height = TALL if shuffle or op.kind in ("pointwise", "depthwise", "regular") else LOW
        if shuffle:
            piece.strands(op.groups, piece.height + 2, height - 4, self.wide(source))
        else:
            if op.groups > 1:
                self.notes["gaps"] = "between groups"
            piece.trapezoid(op.kind, piece.height + 2, height - 4, self.wide(source), self.wide(op.shape), op.groups)
        middle = piece.height + height / 2
        piece.text(reach + 10, middle + (-2 if op.detail else 4.5), op.title, "b")
        if op.detail:
            piece.text(reach + 10, middle + 13, op.detail)
        piece.height += height

    def fork(self, fork: Fork, source: Shape, reach: float) -> Piece:
        """From the bar of the feature map that forks to the bar of the result, both drawn by the caller."""
        self.kinds.add(fork.join.kind)
        if fork.join.title == "+":
            return self.sum(fork, source, reach)
        return self.gate(fork, source, reach) if fork.join.title == "×" else self.concat(fork)

    def sum(self, fork: Fork, source: Shape, reach: float) -> Piece:
        """The longest branch on the axis, the others left of it, between the left end of the bar and the sum."""
        *others, main = fork.branches
        piece = self.chain(main, reach=reach)
        sides = [self.chain(branch, start=True) if branch.items else Piece() for branch in reversed(others)]
        y = max(piece.height, *(side.height + LOW for side in sides)) + CURVE / 2
        piece.arrow(f"M0 {piece.height + 2:g}V{y - 11:g}")
        for side in sides:
            x = -piece.left - (GAP if side.svg else 16) - side.right
            down = f"M{-self.wide(source) / 2:g} 0H{x + 8:g}Q{x:g} 0 {x:g} 8"
            to_sum = f"V{y - 8:g}Q{x:g} {y:g} {x + 8:g} {y:g}H-12"
            if side.svg:
                piece.arrow(f"{down}V{LOW - 3}")
                piece.arrow(f"M{x:g} {LOW + side.height + 2:g}{to_sum}")
            else:
                piece.arrow(down + to_sum)
            piece.put(side, x, LOW)
            piece.reach(-x, 0)
        return _joined(piece, fork.join, y)

    def gate(self, fork: Fork, source: Shape, reach: float) -> Piece:
        """The feature map goes straight to the product; right of it its factors are computed."""
        _, branch = fork.branches
        piece, factors = Piece(left=self.wide(source) / 2), self.chain(branch, start=True)
        x, y = reach + GAP + factors.left, CURVE + factors.height + CURVE / 2
        piece.arrow(f"M0 2V{y - 11:g}")
        piece.arrow(curve(0, 2, x, CURVE - 3))
        piece.arrow(f"M{x:g} {CURVE + factors.height + 2:g}V{y - 8:g}Q{x:g} {y:g} {x - 8:g} {y:g}H12")
        piece.put(factors, x, CURVE)
        return _joined(piece, fork.join, y)

    def concat(self, fork: Fork) -> Piece:
        """Branches side by side; where data is split or concatenated, ribbons as wide as it has channels."""
        piece = Piece()
        chains = [self.chain(branch, start=True, named=fork.split) for branch in fork.branches]
        axes = _side_by_side([(chain.left, chain.right + GAP) for chain in chains])
        middle = (axes[0] + axes[-1]) / 2
        width_in = [self.wide(branch.shape) for branch in fork.branches]
        width_out = [self.wide(branch.end) for branch in fork.branches]
        part_in = _side_by_side([(w / 2, w / 2) for w in width_in])
        part_out = _side_by_side([(w / 2, w / 2) for w in width_out])
        bottom = CURVE + max(chain.height for chain in chains)
        for i, chain in enumerate(chains):
            x, y = axes[i] - middle, CURVE + chain.height
            if fork.split:
                piece.ribbon(part_in[i] - sum(width_in) / 2, 2, x, CURVE - 2, width_in[i])
            else:
                piece.arrow(curve(0, 2, x, CURVE - 3))
            if y < bottom:
                piece.ribbon(x, y + 2, x, bottom + 2, width_out[i])
            piece.ribbon(x, bottom + 2, part_out[i] - sum(width_out) / 2, bottom + CURVE - 2, width_out[i])
            piece.put(chain, x, CURVE)
        piece.height = bottom + CURVE
        return piece


def _joined(piece: Piece, join: Op, y: float) -> Piece:
    """With the sum or product at y, and the line to the bar that the caller draws."""
    piece.height = y + CURVE / 2
    piece.line(f"M0 {y + 10:g}V{piece.height - 2:g}")
    piece.circle(y, join.title)
    if join.detail:
        piece.text(16, y + 4, join.detail)
    return piece


def _label(before: Op | Fork | None, shape: Shape, after: Op | Fork | None) -> str:
    """What stands beside a bar: its shape, and the names of what has no place of its own in the picture."""
    label = " × ".join(map(str, shape))
    if isinstance(before, Fork) and before.join.title == "concat":
        label = f"{', '.join(('concat', *before.join.details))}: {label}"
    return f"{label}, split" if isinstance(after, Fork) and after.split else label


def _side_by_side(extents: list[tuple[float, float]]) -> list[float]:
    """Where the axes lie of things that reach so far left and right, if the first starts at 0 and all touch."""
    axes, x = [], 0.0
    for left, right in extents:
        axes.append(x + left)
        x += left + right
    return axes


def _foot(whole: Piece, caption: str, draw: _Draw, width: float) -> None:
    """The caption and the legend under the panels."""
    y = whole.height + MARGIN / 2
    whole.rule(MARGIN, y, f"H{width - MARGIN:g}")
    for line in textwrap.wrap(caption, int((width - 2 * MARGIN) / text_width("x"))):
        y += 18
        whole.text(MARGIN, y, line)
    x, y = float(MARGIN), y + 24
    for kind, (fill, edge, name) in COLOURS.items():
        if kind not in draw.kinds:
            continue
        if x + 20 + text_width(name) > width - MARGIN:
            x, y = MARGIN, y + 20
        for paint in (fill, "url(#s)") if kind == "depthwise" else (fill,):
            whole.box(x, y - 10, 14, 12, paint, edge)
        whole.text(x + 20, y, name)
        x += 20 + text_width(name) + 18
    note = "; ".join(f"{sign}: {meaning}" for sign, meaning in draw.notes.items())
    if x + text_width(note) > width - MARGIN:
        x, y = MARGIN, y + 20
    whole.text(x, y, note)
    whole.height = y + MARGIN - 4
