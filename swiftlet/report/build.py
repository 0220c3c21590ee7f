"""Evidence -> one self-contained HTML file. Nothing on it loads anything, and its CSP forbids to.

The words stand in page.html, the looks in page.css, what moves in page.js. Labels, file names and notes come from the
user's disk: the template escapes them all, and the policy runs only the two scripts whose hashes it names.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from swiftlet.errors import BadInput
from swiftlet.report.evidence import Evidence, Picture, Step, Tried

SHOWN = 24  # pictures of a kind
SPACE = "\u00a0"  # between a number and its unit, so that no line ends there
ALIKE = 1.02  # times as much, of time or bytes, that count as equal
THUMB = 96  # px; larger pictures are shrunk to it, smaller ones stay as the network saw them
HERE = Path(__file__).parent


def build_report(evidence: Evidence) -> str:
    """The page. Write it as UTF-8. Raises BadInput if the evidence contradicts itself or holds unusable pixels."""
    _refuse_nonsense(evidence)
    # A source map is fetched when someone opens the developer tools; this page fetches nothing.
    chart_library = (HERE / "chart.umd.min.js").read_text("utf-8").partition("//# sourceMappingURL=")[0]
    script, style = (HERE / "page.js").read_text("utf-8"), (HERE / "page.css").read_text("utf-8")
    csp = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(chart_library)} {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    environment.filters |= {
        "percent": percent,
        "points": points,
        "size": size,
        "count": count,
        "milliseconds": milliseconds,
        "png": png,
    }
    html = environment.get_template("page.html").render(
        e=evidence,
        csp=Markup(csp),
        style=Markup(style),
        script=Markup(script),
        chart_library=Markup(chart_library),
        charts=ladder_charts(evidence) if evidence.ladder else [chart(evidence)],
        bought=bought(evidence.ladder),
        tried=sorted(evidence.tried, key=lambda t: (t.accuracy is None, -(t.accuracy or 0))),
        delivered=next((file for file in _files(evidence) if file.delivered), None),
        drop=100 * (evidence.accuracy_float - evidence.accuracy),
        wrong=round(evidence.n * (1 - evidence.accuracy)),
        mistakes=_most_confident(evidence.mistakes),
        lost=_most_confident(evidence.lost_to_int8),
        shown=SHOWN,
        reasons=Counter(reason for _, reason in evidence.set_aside).most_common(),
    )
    # File names that are not text reach us as lone surrogates, which no encoding of a page can hold.
    return html.encode("utf-8", "backslashreplace").decode("utf-8")


def chart(evidence: Evidence) -> dict[str, Any]:
    """What page.js draws: every candidate that was both trained and timed. A planned one has no accuracy to show."""
    measured = [t for t in evidence.tried if t.accuracy is not None and t.latency_ms is not None]
    marks = [_mark(t, t.name.partition("-")[0], t.latency_ms or 0.0, t.status) for t in measured]
    return _chart("chart", "milliseconds per photo", marks, evidence.latency_limit_ms, "ms")


def ladder_charts(evidence: Evidence) -> list[dict[str, Any]]:
    """The steps of the ladder, by time and by bytes; a line joins those that stand."""

    def marks(x: Callable[[Step], float]) -> list[dict[str, Any]]:
        return [_mark(s, "undone" if s.undone else "", x(s), s.undone or "stands") for s in evidence.ladder]

    limit = None if evidence.size_limit_bytes is None else evidence.size_limit_bytes / 1000
    charts = [
        _chart("chart", "milliseconds per photo", marks(lambda s: s.latency_ms), evidence.latency_limit_ms, "ms"),
        _chart("chart-bytes", "kilobytes of the file", marks(lambda s: s.size_bytes / 1000), limit, "KB"),
    ]
    return [each | {"path": [i for i, s in enumerate(evidence.ladder) if not s.undone]} for each in charts]


def bought(ladder: tuple[Step, ...]) -> list[str]:
    """What each step changed against the one that stood before it: accuracy, time, file and download."""
    told, before = [], None
    for step in ladder:
        told.append("" if before is None else _difference(before, step))
        before = before if step.undone else step
    return told


def percent(share: float | None) -> str:
    """0.9 -> "90.0 %", with a space that does not break. What is not all does not round to all."""
    if share is None:
        return "–"
    text = f"{100 * share:.1f}"
    return f"{'>' + SPACE + '99.9' if text == '100.0' and share < 1 else text}{SPACE}%"


def points(difference: float) -> str:
    """Accuracy points: "0.5 points"; a gain is negative, and what rounds to none has no sign."""
    text = f"{difference:.1f}".replace("-", "−")
    return f"{text.removeprefix('−') if text == '−0.0' else text}{SPACE}points"


def milliseconds(ms: float | None) -> str:
    """Three digits: "0.412 ms", "12.3 ms"."""
    if ms is None:
        return "–"
    return f"{ms:.{3 if ms < 1 else 2 if ms < 10 else 1 if ms < 100 else 0}f}{SPACE}ms"


def size(n: int | None) -> str:
    """Bytes in units of 1000."""
    if n is None:
        return "–"
    return f"{n / 1e6:.2f}{SPACE}MB" if n >= 1e6 else f"{n / 1e3:.1f}{SPACE}KB" if n >= 1e3 else f"{n}{SPACE}bytes"


def count(n: int | None) -> str:
    """Three digits and a letter: "5.61 M"."""
    if n is None:
        return "–"
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            value = n / unit
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{SPACE}{letter}"
    return str(n)


def png(picture: Picture) -> str:
    """A data URI."""
    image = Image.fromarray(picture.pixels)
    if max(image.size) > THUMB:
        image.thumbnail((THUMB, THUMB), Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _files(evidence: Evidence) -> list[Tried | Step]:
    return [*evidence.tried, *evidence.ladder]


def _chart(name: str, axis: str, marks: list[dict[str, Any]], limit: float | None, unit: str) -> dict[str, Any]:
    """name: of its canvas; path: the marks that a line joins."""
    spread = [mark["x"] for mark in marks] + ([] if limit is None else [limit])
    return {
        "id": name,
        "axis": axis,
        "points": marks,
        "path": [],
        "limit": limit,
        "limit_text": None if limit is None else f"limit {limit:g} {unit}",
        "log": bool(spread) and max(spread) > 20 * min(spread),
    }


def _mark(file: Tried | Step, family: str, x: float, status: str) -> dict[str, Any]:
    assert file.accuracy is not None
    return {
        "name": file.name,
        "family": family,
        "precision": file.precision,
        "x": x,
        "accuracy": 100 * file.accuracy,
        "bytes": file.size_bytes,
        "lines": [
            f"{percent(file.accuracy)} on validation photos",
            milliseconds(file.latency_ms),
            size(file.size_bytes),
            f"{count(file.macs)} MACs",
            status,
        ],
        "delivered": file.delivered,
    }


def _difference(before: Step, step: Step) -> str:
    lost = 100 * (before.accuracy - step.accuracy)
    parts = ["the same accuracy" if abs(lost) < 0.05 else f"{points(abs(lost))} {'lost' if lost > 0 else 'won'}"]
    for was, now, better, worse in (
        (before.latency_ms, step.latency_ms, "faster", "slower"),
        (before.size_bytes, step.size_bytes, "smaller", "larger"),
        (before.packed_bytes, step.packed_bytes, "less to download", "more to download"),
    ):
        times = max(was, now) / min(was, now)
        if times >= ALIKE:
            parts.append(f"{times:.2f}{SPACE}x {better if now < was else worse}")
    return ", ".join(parts)


def _most_confident(pictures: tuple[Picture, ...]) -> list[Picture]:
    return sorted(pictures, key=lambda picture: -picture.confidence)[:SHOWN]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _refuse_nonsense(evidence: Evidence) -> None:
    delivered = [file.name for file in _files(evidence) if file.delivered]
    if len(delivered) > 1:
        raise BadInput(f"Evidence: {' and '.join(delivered)} are both marked as delivered; one file is")
    for file in _files(evidence):
        _refuse_unmeasured(file)
    for picture in evidence.mistakes + evidence.lost_to_int8:
        pixels = picture.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise BadInput(
                f"Evidence: {picture.key}: pixels must be uint8 (side, side, 3), not {pixels.dtype} {pixels.shape}"
            )


def _refuse_unmeasured(file: Tried | Step) -> None:
    """NaN and zero milliseconds are no measurements; None says so. Written so that NaN fails each comparison."""
    if file.accuracy is not None and not 0 <= file.accuracy <= 1:
        raise BadInput(f"Evidence: {file.name}: accuracy={file.accuracy!r} must be a share of 1, or None")
    if file.latency_ms is not None and not 0 < file.latency_ms < float("inf"):
        raise BadInput(f"Evidence: {file.name}: latency_ms={file.latency_ms!r} must be above 0, or None")
