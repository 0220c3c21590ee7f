"""Evidence -> one self-contained HTML file. Nothing on it loads anything, and its CSP forbids to.

The words stand in page.html, the looks in page.css, what moves in page.js. Labels, file names and notes come from the
user's disk: the template escapes them all, and the policy runs only the two scripts whose hashes it names.
"""

import base64
import hashlib
import io
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image

from swiftlet.errors import BadInput
from swiftlet.report.evidence import Evidence, Picture, Tried

SHOWN = 24  # pictures of a kind
SPACE = "\u00a0"  # between a number and its unit, so that no line ends there
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
        chart=chart(evidence),
        tried=sorted(evidence.tried, key=lambda t: (t.accuracy is None, -(t.accuracy or 0))),
        delivered=next((t for t in evidence.tried if t.delivered), None),
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
    limit = evidence.latency_limit_ms
    spread = [t.latency_ms for t in measured if t.latency_ms is not None] + ([] if limit is None else [limit])
    return {
        "points": [_point(t) for t in measured],
        "limit_ms": limit,
        "limit_text": None if limit is None else f"limit {limit:g} ms",
        "log": bool(spread) and max(spread) > 20 * min(spread),
    }


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


def _point(tried: Tried) -> dict[str, Any]:
    assert tried.accuracy is not None
    return {
        "name": tried.name,
        "family": tried.name.partition("-")[0],
        "precision": tried.precision,
        "ms": tried.latency_ms,
        "accuracy": 100 * tried.accuracy,
        "bytes": tried.size_bytes,
        "lines": [
            f"{percent(tried.accuracy)} on validation photos",
            milliseconds(tried.latency_ms),
            size(tried.size_bytes),
            f"{count(tried.macs)} MACs",
            tried.status,
        ],
        "delivered": tried.delivered,
    }


def _most_confident(pictures: tuple[Picture, ...]) -> list[Picture]:
    return sorted(pictures, key=lambda picture: -picture.confidence)[:SHOWN]


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _refuse_nonsense(evidence: Evidence) -> None:
    delivered = [t.name for t in evidence.tried if t.delivered]
    if len(delivered) > 1:
        raise BadInput(f"Evidence: {' and '.join(delivered)} are both marked as delivered; one file is")
    for t in evidence.tried:
        _refuse_unmeasured(t)
    for picture in evidence.mistakes + evidence.lost_to_int8:
        pixels = picture.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise BadInput(
                f"Evidence: {picture.key}: pixels must be uint8 (side, side, 3), not {pixels.dtype} {pixels.shape}"
            )


def _refuse_unmeasured(tried: Tried) -> None:
    """NaN and zero milliseconds are no measurements; None says so. Written so that NaN fails each comparison."""
    if tried.accuracy is not None and not 0 <= tried.accuracy <= 1:
        raise BadInput(f"Evidence: {tried.name}: accuracy={tried.accuracy!r} must be a share of 1, or None")
    if tried.latency_ms is not None and not 0 < tried.latency_ms < float("inf"):
        raise BadInput(f"Evidence: {tried.name}: latency_ms={tried.latency_ms!r} must be above 0, or None")
