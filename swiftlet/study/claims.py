"""Claims of one study that are judged apart, in points of accuracy or in times, each with its interval."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from swiftlet.study.finding import Table, Verdict, judge


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


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a claim that has several parts: it fails with the first that fails, and holds if all hold."""
    return "fails" if "fails" in verdicts else "cannot tell" if "cannot tell" in verdicts else "holds"
