"""What a study returns: tables, one sentence, and what was published, all plain values that JSON can hold."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy import stats

Cell = str | int | float | None
Verdict = Literal["holds", "fails", "cannot tell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under columns; units stand in the columns' names. source: where it was published, or how it was measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    source: str

    def column(self, name: str) -> list[Any]:
        """One column, top to bottom."""
        place = self.columns.index(name)
        return [row[place] for row in self.rows]

    def where(self, **equal: Cell) -> "Table":
        """The rows in which these columns have these values; underscores in a name stand for spaces."""
        keys = {self.columns.index(name.replace("_", " ")): value for name, value in equal.items()}
        rows = tuple(row for row in self.rows if all(row[place] == value for place, value in keys.items()))
        return Table(title=self.title, columns=self.columns, rows=rows, source=self.source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one study on one machine.

    claim: what the literature says, in one sentence; verdict: whether it holds here; sentence: how much, with its
    interval; measured: our tables; published: theirs; notes: what a reader must know before believing it.
    """

    study: str
    title: str
    claim: str
    verdict: Verdict
    sentence: str
    measured: tuple[Table, ...]
    published: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    machine: str = ""
    command: str = ""
    date: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        return asdict(self)


def judge(low: float, high: float, *, at_least: float) -> Verdict:
    """Whether a ratio with this interval is above `at_least`: "cannot tell" while the interval contains it."""
    return "holds" if low > at_least else "fails" if high < at_least else "cannot tell"


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of two or more values, by Student's t."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)


def ratio_text(ratio: tuple[float, float, float]) -> str:
    """A ratio and its 95 % interval, as race.compare gives them."""
    return "{:.2f}x (95 % {:.2f} to {:.2f})".format(*ratio)
