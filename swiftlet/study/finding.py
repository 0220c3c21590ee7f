"""What a study returns: tables, one sentence, and what was published, all plain values that JSON can hold."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from scipy import stats

from swiftlet.errors import BadFile

Cell = str | int | float | None
Verdict = Literal["holds", "fails", "cannot tell"]
Kind = Literal["time", "size", "accuracy"]
KINDS: tuple[Kind, ...] = get_args(Kind)


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


@dataclass(frozen=True, slots=True)
class Effect:
    """How much a design rule matters here, with its 95 % interval.

    rule: what the claim tells a designer to do, one sentence in the imperative. kind, and what value, low and high are:
    "time" and "size", how many times the milliseconds or bytes it takes to go against the rule instead of by it (1: no
    difference; below 1: the rule itself costs); "accuracy", the points that going by it gains (0: no difference).
    """

    kind: Kind
    rule: str
    value: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """How far the value is from no difference, in either direction: points, or doublings of time or bytes."""
        return self._far(self.value)

    @property
    def least(self) -> float:
        """The same of the end of the interval that is nearer to no difference; 0 if the interval contains that."""
        low, high = self.low - self._none, self.high - self._none
        return 0.0 if low <= 0 <= high else min(self._far(self.low), self._far(self.high))

    def __str__(self) -> str:
        if self.kind == "accuracy":
            return f"going by it: {self.value:+.2f} points (95 % {self.low:+.2f} to {self.high:+.2f})"
        unit = "time" if self.kind == "time" else "bytes"
        value, low, high, way = self.value, self.low, self.high, "against"
        if value < 1:
            value, low, high, way = 1 / value, 1 / high, 1 / low, "by"
        return f"going {way} it takes {value:.2f}x the {unit} (95 % {low:.2f} to {high:.2f})"

    @property
    def _none(self) -> float:
        return 0.0 if self.kind == "accuracy" else 1.0

    def _far(self, value: float) -> float:
        return abs(value if self.kind == "accuracy" else math.log2(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one study on one machine.

    claim: what the literature says, in one sentence; verdict: whether it holds here; sentence: how much, with its
    interval; measured: our tables; published: theirs; notes: what a reader must know before believing it; effect: what
    its rule is worth, or None if no one figure of time, bytes or accuracy sums it up. setting: what it was
    measured with (run.setting).
    """

    study: str
    title: str
    claim: str
    verdict: Verdict
    sentence: str
    measured: tuple[Table, ...]
    published: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()
    effect: Effect | None = None
    machine: str = ""
    command: str = ""
    date: str = ""
    setting: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Any) -> "Finding":
        """What to_json gave, after JSON has made lists of its tuples. Raises BadFile for anything else."""
        try:
            tables = {
                place: tuple(
                    Table(
                        title=table["title"],
                        columns=tuple(table["columns"]),
                        rows=tuple(map(tuple, table["rows"])),
                        source=table["source"],
                    )
                    for table in stored[place]
                )
                for place in ("measured", "published")
            }
            effect = None if stored["effect"] is None else Effect(**stored["effect"])
            return cls(**stored | tables | {"notes": tuple(stored["notes"]), "effect": effect})
        except (KeyError, TypeError) as error:
            raise BadFile(f"not the finding of a study: {error!r}") from error


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
