"""Cases in series: each is compared with the first of its series, which ran in the same race."""

from collections.abc import Mapping, Sequence

from swiftlet.study.bench import Bench, Case, Timing, counted, ratio
from swiftlet.study.finding import Cell, Table

SOURCE = (
    "x MACs and x time: against the first of its series, the latter with its 95 % interval. MB moved: read and written "
    "by convolutions."
)


def measure(bench: Bench, series: Mapping[str, Sequence[Case]], *, title: str, case: str, source: str = "") -> Table:
    """One race per series, one row per series, case and runtime that ran it.

    `case` names the column of the cases' labels, `source` says what the cases are.
    """
    rows: list[tuple[Cell, ...]] = []
    for done, (name, cases) in enumerate(series.items()):
        times = bench.times(cases, what=f"racing, series {done + 1} of {len(series)}: {name}")
        numbers = [_numbers(each) for each in cases]
        first = numbers[0][0]
        for each, (macs, *others) in zip(cases, numbers, strict=True):
            relative = macs / first if macs and first else None
            for runtime in bench.runtimes:
                here, against = Timing(each.label, runtime), Timing(cases[0].label, runtime)
                if here not in times:  # int8, and this one has only floats
                    continue
                seen = (times[here].p50_ms, relative, *ratio(times, here, against))
                rows.append((runtime, name, each.label, macs, *others, *seen))
    return Table(
        title=title,
        columns=("runtime", "series", case, "MACs", "params", "MB moved", "ms", "x MACs", "x time", "low", "high"),
        rows=tuple(rows),
        source=" ".join(part for part in (source, bench.place() + ".", SOURCE) if part),
    )


def interval(table: Table, *, of: str = "x time", **equal: Cell) -> tuple[float, float, float]:
    """The column `of`, low and high of the one row with these values."""
    (row,) = table.where(**equal).rows
    middle, low, high = (float(row[table.columns.index(name)] or 0) for name in (of, "low", "high"))
    return middle, low, high


def inverse(ratio: tuple[float, float, float]) -> tuple[float, float, float]:
    """The other way round, interval and all."""
    middle, low, high = ratio
    return 1 / middle, 1 / high, 1 / low


def _numbers(case: Case) -> tuple[int | None, int | None, float | None]:
    """MACs, parameters, and the megabytes that convolutions read and write, which the count knows for float32 only."""
    count = counted(case)
    moved = sum(layer.memory_access_bytes for layer in count.layers if layer.macs) / 1e6
    return count.cost.macs, count.cost.params, moved if case.precision == "float32" else None
