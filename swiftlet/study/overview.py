"""What several studies found, as one page: the design rules in order of how much they matter on this machine."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from swiftlet.files import write_atomically
from swiftlet.study import STUDIES
from swiftlet.study.finding import KINDS, Effect, Finding, Kind
from swiftlet.study.page import inline, render

NAME = "all"  # of the page
WIDTH, SHADES = 640, 64  # of the small pictures
EDGE = 3.0  # per cent of a strip that stay free at either end


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """findings, those taken from before this survey by name in `earlier`; left_out: why others are absent.

    place: runtime, threads and batch; data: the pictures, if any; minutes: given, spent: so far.
    """

    findings: tuple[Finding, ...]
    earlier: frozenset[str]
    left_out: Mapping[str, str]
    minutes: float
    spent: float
    quick: bool
    place: str
    data: str | None
    machine: str
    command: str
    date: str

    def rules(self, kind: Kind) -> list[tuple[Finding, Effect]]:
        """What was measured in this unit, what matters most first.

        A rule matters as much as the end of its interval that is nearer to no difference says, so that what cannot be
        told from none stands last, whatever its middle is.
        """
        found = [(each, each.effect) for each in self.findings if each.effect is not None and each.effect.kind == kind]
        return sorted(found, key=lambda pair: (-pair[1].least, -pair[1].size))

    def others(self) -> list[Finding]:
        """What no one figure of time, bytes or accuracy sums up."""
        return [finding for finding in self.findings if finding.effect is None]

    def to_json(self) -> dict[str, Any]:
        """Plain values; whole findings are in the studies' own files."""
        return {
            "rules": {
                kind: [
                    _in_short(self, finding)
                    | {"rule": effect.rule, "value": effect.value, "low": effect.low, "high": effect.high}
                    for finding, effect in self.rules(kind)
                ]
                for kind in KINDS
            },
            "others": [_in_short(self, finding) for finding in self.others()],
            "left_out": dict(self.left_out),
            "minutes": self.minutes,
            "spent_minutes": round(self.spent, 2),
            "quick": self.quick,
            "place": self.place,
            "data": self.data,
            "machine": self.machine,
            "command": self.command,
            "date": self.date,
        }


class Strip(NamedTuple):
    """An interval on the scale of its section, in per cent of the width: no difference, low, value, high."""

    none: float
    low: float
    value: float
    high: float


def write_overview(survey: Survey, folder: Path) -> dict[str, Path]:
    """all.json and all.html, beside the files of its studies."""
    contents = {
        "json": json.dumps(survey.to_json(), indent=1, allow_nan=False).encode(),
        "html": overview(survey, folder).encode(),
    }
    paths = {kind: folder / f"{NAME}.{kind}" for kind in contents}
    for kind, path in paths.items():
        write_atomically(path, contents[kind])
    return paths


def overview(survey: Survey, folder: Path) -> str:
    """The page. folder: has the picture of every finding."""
    rules = {kind: survey.rules(kind) for kind in KINDS}
    return render(
        "overview.html",
        survey=survey,
        rules=rules,
        strips={kind: strips([effect for _, effect in found]) for kind, found in rules.items()},
        pictures={
            finding.study: inline(thumbnail((folder / f"{finding.study}.png").read_bytes()))
            for finding in survey.findings
        },
        questions=STUDIES,
    )


def strips(effects: Sequence[Effect]) -> list[Strip]:
    """All on one scale, logarithmic for ratios, which also holds no difference."""
    ends = [
        tuple(value if effect.kind == "accuracy" else log2(value) for value in (effect.low, effect.value, effect.high))
        for effect in effects
    ]
    low, high = min((0.0, *(end for each in ends for end in each))), max((0.0, *(end for each in ends for end in each)))

    def place(value: float) -> float:
        return round(EDGE + (100 - 2 * EDGE) * (value - low) / ((high - low) or 1.0), 2)

    return [Strip(place(0.0), *map(place, each)) for each in ends]


@cache
def thumbnail(png: bytes) -> bytes:
    """A smaller PNG of few colours."""
    with Image.open(io.BytesIO(png)) as picture:
        height = max(1, round(picture.height * WIDTH / picture.width))
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS).quantize(SHADES)
    buffer = io.BytesIO()
    small.save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _in_short(survey: Survey, finding: Finding) -> dict[str, Any]:
    return {
        "study": finding.study,
        "verdict": finding.verdict,
        "sentence": finding.sentence,
        "date": finding.date,
        "earlier": finding.study in survey.earlier,
    }
