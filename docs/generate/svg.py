"""The pen: pieces of SVG around a vertical axis, and the colours and shapes that all figures share.

Lengths are pixels. Text is taken to be as wide as in Arial; gaps leave room for wider fonts. No font is looked up, so
that a figure depends on the code alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from docs.generate.blocks import Kind

INK, PALE_INK, LINE, RIBBON, RULE = "#1f2328", "#57606a", "#6e7781", "#e4e8ec", "#d0d7de"
COLOURS: dict[Kind, tuple[str, str, str]] = {  # fill, edge, name in the legend
    "regular": ("#fbd5b5", "#bc5215", "k×k convolution: looks around and mixes"),
    "pointwise": ("#cfe2fa", "#2566b0", "1×1 convolution: mixes channels"),
    "depthwise": ("#cfeed6", "#237a3f", "depthwise: looks around, each channel alone"),
    "elementwise": ("#fdf0b3", "#947600", "element-wise"),
    "pool": ("#e7dcf8", "#7347b8", "pooling"),
    "move": ("#e4e8ec", "#57606a", "moves data"),
}
STRANDS = ("#2566b0", "#d0680f", "#237a3f", "#7347b8", "#b3261e", "#0f7c8a", "#947600", "#57606a")
WIDTHS = {"": 5.9, "b": 7.4, "t": 9.2}  # of a letter, in each style
FONT = "-apple-system, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"
PAGE = f"""<svg xmlns="http://www.w3.org/2000/svg" width="{{w}}" height="{{h}}" viewBox="0 0 {{w}} {{h}}" role="img">
<title>{{title}}</title>
<style>
text {{{{ font: 11.5px {FONT}; fill: {PALE_INK} }}}}
.b {{{{ font-weight: 600; font-size: 13px; fill: {INK} }}}}
.t {{{{ font-weight: 600; font-size: 16px; fill: {INK} }}}}
.l {{{{ fill: none; stroke: {LINE}; stroke-width: 1.5 }}}}
</style>
<defs>
<marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker>
<pattern id="s" width="5" height="5" patternUnits="userSpaceOnUse">
<path d="M0 0V5" stroke="{COLOURS["depthwise"][1]}" opacity=".5"/></pattern>
</defs>
<rect width="{{w}}" height="{{h}}" rx="8" fill="{RULE}"/>
<rect x="1" y="1" width="{{inner_w}}" height="{{inner_h}}" rx="7" fill="#fff"/>
{{body}}
</svg>
"""


@dataclass(slots=True)
class Piece:
    """SVG around a vertical axis at x = 0, from y = 0 to `height`; `left` and `right` are its extents."""

    svg: list[str] = field(default_factory=list)
    left: float = 0
    right: float = 0
    height: float = 0

    def put(self, other: Piece, x: float, y: float) -> None:
        """The other piece with its axis at x, its top at y."""
        if other.svg:
            self.svg += [f'<g transform="translate({x:g} {y:g})">', *other.svg, "</g>"]
        self.reach(other.left - x, other.right + x)

    def reach(self, left: float, right: float) -> None:
        self.left, self.right = max(self.left, left), max(self.right, right)

    def text(self, x: float, y: float, text: str, style: str = "") -> None:
        kind = f' class="{style}"' if style else ""
        self.svg.append(f'<text x="{x:g}" y="{y:g}"{kind}>{escape(text)}</text>')
        self.reach(0, x + text_width(text, style))

    def box(self, x: float, y: float, width: float, height: float, fill: str, edge: str = "none") -> None:
        place = f'x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.svg.append(f'<rect {place} fill="{fill}" stroke="{edge}"/>')
        self.reach(-x, x + width)

    def rule(self, x: float, y: float, end: str) -> None:
        self.svg.append(f'<path d="M{x:g} {y:g}{end}" stroke="{RULE}"/>')

    def line(self, path: str) -> None:
        self.svg.append(f'<path class="l" d="{path}"/>')

    def arrow(self, path: str) -> None:
        self.svg.append(f'<path class="l" d="{path}" marker-end="url(#a)"/>')

    def trapezoid(self, kind: Kind, y: float, height: float, top: float, bottom: float, groups: int) -> None:
        """An operation from a bar `top` wide to one `bottom` wide; gaps part its groups."""
        fill, edge, _ = COLOURS[kind]
        strip = max(top, bottom) / groups
        gap = min(1.5, strip / 8) if groups > 1 else 0
        for i in range(groups):
            left, right = i / groups - 0.5, (i + 1) / groups - 0.5
            upper = f"{top * left + gap:.4g},{y:g} {top * right - gap:.4g},{y:g}"
            lower = f"{bottom * right - gap:.4g},{y + height:g} {bottom * left + gap:.4g},{y + height:g}"
            border = edge if strip > 6 else "none"
            self.svg.append(f'<polygon points="{upper} {lower}" fill="{fill}" stroke="{border}"/>')
            if kind == "depthwise":
                self.svg.append(f'<polygon points="{upper} {lower}" fill="url(#s)"/>')
        self.reach(max(top, bottom) / 2, max(top, bottom) / 2)

    def circle(self, y: float, symbol: str) -> None:
        fill, edge, _ = COLOURS["elementwise"]
        self.svg.append(f'<circle cx="0" cy="{y:g}" r="10" fill="{fill}" stroke="{edge}"/>')
        self.svg.append(f'<text x="0" y="{y + 5:g}" class="b" text-anchor="middle">{symbol}</text>')

    def ribbon(self, x: float, y: float, to_x: float, to_y: float, width: float) -> None:
        """Data that goes from one place to another; `width` is that of a bar with as many channels."""
        w, middle = width / 2 - 0.75, (y + to_y) / 2
        left = curve(x - w, y, to_x - w, to_y)
        right = f"H{to_x + w:g}C{to_x + w:g} {middle:g} {x + w:g} {middle:g} {x + w:g} {y:g}z"
        self.svg.append(f'<path d="{left}{right}" fill="{RIBBON}"/>')

    def strands(self, groups: int, y: float, height: float, width: float) -> None:
        """Where a shuffle takes its channels: each group, of one colour, hands some to every group."""
        each = max(groups, 12 // groups)
        step = width / (groups * each)
        for i in range(groups):
            for j in range(each):
                x, to_x = (i * each + j + 0.5) * step - width / 2, (j * groups + i + 0.5) * step - width / 2
                path = curve(round(x, 2), y, round(to_x, 2), y + height)
                colour = STRANDS[i % len(STRANDS)]
                self.svg.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')


def text_width(text: str, style: str = "") -> float:
    return len(text) * WIDTHS[style]


def curve(x: float, y: float, to_x: float, to_y: float) -> str:
    """A path that starts and ends vertically."""
    middle = (y + to_y) / 2
    return f"M{x:g} {y:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"


def page(title: str, width: float, height: float, body: list[str]) -> str:
    """A whole SVG file: a white card, legible on dark pages too."""
    w, h = round(width), round(height)
    return PAGE.format(w=w, h=h, inner_w=w - 2, inner_h=h - 2, title=escape(title), body="\n".join(body))
