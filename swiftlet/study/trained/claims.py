"""Claims of one study that are judged apart, in points of accuracy or in times, each with its interval."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from swiftlet.study.chart import COLOURS, MARKERS
from swiftlet.study.finding import Table, Verdict, judge
from swiftlet.study.trials import Gain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Claim(NamedTuple):
    """What is said, and what was found: a value with its 95 % interval. It holds if all of that is above `at_least`."""

    said: str
    unit: Literal["points", "x time"]
    found: tuple[float, float, float]
    at_least: float

    @property
    def verdict(self) -> Verdict:
        """Of this claim alone."""
        return judge(self.found[1], self.found[2], at_least=self.at_least)


def claims_table(claims: Sequence[Claim], source: str) -> Table:
    """One row per claim, in their order."""
    return Table(
        title="Claims, one by one",
        columns=("claim", "unit", "here", "low", "high", "holds above", "verdict"),
        rows=tuple(
            (claim.said, claim.unit, *(round(x, 3) for x in claim.found), claim.at_least, claim.verdict)
            for claim in claims
        ),
        source=f"{source}; low and high: 95 % intervals",
    )


def comparisons(gains: Mapping[str, Gain]) -> Table:
    """The table of claims that one thing is more accurate than another; the verdict of the study is the first one's."""
    claims = [Claim(said, "points", gain, 0.0) for said, gain in gains.items()]
    return claims_table(claims, "points of accuracy, seed by seed; the first row is the verdict")


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim that has several parts: it fails with the first that fails, and holds if all hold."""
    return "fails" if "fails" in verdicts else "cannot tell" if "cannot tell" in verdicts else "holds"


def draw_comparisons(table: Table, axes: "Axes") -> None:
    """A table that `comparisons` made: the deciding one in another colour, on top."""
    names = table.column("claim")
    rows = zip(table.column("here"), table.column("low"), table.column("high"), strict=True)
    for place, (gain, low, high) in enumerate(rows):
        kind = 1 if place == 0 else 0
        spread = [[gain - low], [high - gain]]
        axes.errorbar([gain], [place], xerr=spread, fmt=MARKERS[kind], color=COLOURS[kind], capsize=3)
    axes.axvline(0, color="#888888", linewidth=1, zorder=0)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("points of accuracy, 95 % interval")
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
