"""Racing files: every file on every runtime at every number of threads, interleaved in one race."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile, BadInput
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.ceilings import Ceilings, ceilings
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.machine import BUSY, Moment, disturbance, machine, moment, others
from swiftlet.runtime.race import Contestant, Measurement, survivors, verdict
from swiftlet.runtime.roofline import Bound, Work, bound, impossible, work_of
from swiftlet.timing.entrants import Admitted, Dropped, Entry, admit, drop, zeros


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One that finished. bound: the least time that this machine allows, None where no ceiling is measured (float16).
    largest_difference: to the reference, as a share of the output's range; cosine: with it."""

    entry: Entry
    measurement: Measurement
    bound: Bound | None
    largest_difference: float
    cosine: float

    @property
    def roofline(self) -> float | None:
        """The bound as a share of p50."""
        return None if self.bound is None else self.bound.share(self.measurement.p50_ms)

    def to_json(self) -> dict[str, Any]:
        found = self.measurement.to_json()
        del found["machine"], found["rounds_ms"]
        limit = self.bound
        return {
            "file": str(self.entry.file),
            "precision": self.entry.precision,
            **found,
            "bound_ms": limit and limit.ms,
            "binds": limit and limit.binds,
            "roofline": self.roofline,
            "macs": limit and limit.macs,
            "memory_bytes": limit and limit.memory_bytes,
            "largest_difference": self.largest_difference,
            "cosine": self.cosine,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """The race: who finished, who did not and why, the verdict, and the machine's state before and after.

    others: cores that other work kept busy during the race, None if the system does not tell; ceilings: per thread
    count, those of a GPU under 0.
    """

    rows: tuple[Row, ...]
    dropped: tuple[Dropped, ...]
    verdict: str
    notes: tuple[str, ...]
    before: Moment
    after: Moment
    others: float | None
    ceilings: dict[int, Ceilings]

    def to_json(self) -> dict[str, Any]:
        return {
            "results": [row.to_json() for row in self.rows],
            "dropped": [
                {"file": str(d.entry.file), "runtime": d.entry.runtime, "threads": d.entry.threads, "reason": d.reason}
                for d in self.dropped
            ],
            "verdict": self.verdict,
            "notes": list(self.notes),
            "machine": str(machine()),
            "load": {"before": self.before.to_json(), "after": self.after.to_json(), "others": self.others},
            "ceilings": {str(threads): found.to_json() for threads, found in self.ceilings.items()},
        }


def time_files(
    files: Sequence[Path],
    runtimes: Sequence[str],
    threads: Sequence[int],
    *,
    batch: int = 1,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> Timed:
    """Race the files. One whose runtime is missing, that fails, gives other numbers than the reference or is faster
    than the machine can be is dropped, with the reason, and the race goes on without it.

    Raises BadInput for an unknown runtime, and for the only entry what befell it: BadFile, BadInput, MissingExtra.
    """
    if not seconds > 0 or batch < 1:
        raise BadInput(f"time: seconds={seconds:g} must be above 0 and batch={batch} 1 or more")
    for name in runtimes:
        get_runtime(name)
    entries = list(dict.fromkeys(Entry(file, name, n) for file in files for name in runtimes for n in threads))
    if not entries:
        raise BadInput("time: give at least one file, runtime and number of threads")
    show: Progress = progress or (lambda what, done, total: None)
    with flushed_denormals():  # before any worker thread starts: those inherit it
        admitted, dropped = admit(entries, batch, show)
        places = dict.fromkeys(_place(a.entry) for a in admitted)
        known = {place: _ceilings(place, show) for place in places}
        contestants = [Contestant(str(a.entry), a.program, a.entry.runtime, a.entry.threads) for a in admitted]
        before = moment()
        found = survivors(
            contestants, seconds=seconds, batch=batch, progress=lambda done, total: show("racing", done, total)
        )
        after = moment()
    rows: list[Row] = []
    errors: list[Exception] = []
    works: dict[Path, Work] = {}
    for entrant, outcome in zip(admitted, found, strict=True):
        file, place = entrant.entry.file, _place(entrant.entry)
        entrant.program.close()
        if file not in works:
            works[file] = work_of(file)
        if isinstance(outcome, Measurement):
            why = _impossible(entrant, works[file], outcome, known, show)
            if why is None:
                rows.append(_row(entrant, outcome, works[file], known[place]))
                continue
            outcome = BadFile(f"{entrant.entry}: {why}")
        errors.append(outcome)
        dropped.append(drop(entrant.entry, outcome))
    if not rows:
        raise (
            errors[0]
            if len(dropped) == 1
            else BadFile(
                "nothing is left of the race: " + "; ".join(f"{each.entry}: {each.reason}" for each in dropped)
            )
        )
    labels, measured = [str(row.entry) for row in rows], [row.measurement for row in rows]
    busy = others(before, after)
    return Timed(
        rows=tuple(rows),
        dropped=tuple(dropped),
        verdict=verdict(labels, measured) if len(rows) > 1 else f"{labels[0]}: {measured[0]}",
        notes=tuple(_notes(rows, busy, known)),
        before=before,
        after=after,
        others=busy,
        ceilings=known,
    )


GPU = 0  # in the place of a thread count


def place_name(place: int) -> str:
    return "the GPU" if place == GPU else f"{place} thread{'s' if place > 1 else ''}"


def _place(entry: Entry) -> int:
    return GPU if "cuda" in entry.runtime else entry.threads


def _ceilings(place: int, show: Progress, *, again: bool = False) -> Ceilings:
    tell = lambda done, total: show("measuring ceilings", done, total)  # noqa: E731
    return ceilings(max(1, place), gpu=place == GPU, again=again, progress=tell)


def _impossible(
    entrant: Admitted, work: Work, found: Measurement, known: dict[int, Ceilings], show: Progress
) -> str | None:
    """A time above the ceiling is first held against the ceiling's own measurement: it may have been disturbed."""
    entry, place = entrant.entry, _place(entrant.entry)
    why = impossible(work, known[place], entry.precision, found.p50_ms, found.batch)
    if why is not None:
        known[place] = _ceilings(place, show, again=True)
        why = impossible(work, known[place], entry.precision, found.p50_ms, found.batch)
    return why


def _row(entrant: Admitted, found: Measurement, work: Work, limits: Ceilings) -> Row:
    entry = entrant.entry
    return Row(
        entry=entry,
        measurement=found,
        bound=bound(work, limits, entry.precision, found.batch),
        largest_difference=entrant.agreement.largest,
        cosine=entrant.agreement.cosine,
    )


def _notes(rows: Sequence[Row], busy: float | None, known: dict[int, Ceilings]) -> list[str]:
    notes = disturbance(busy)
    for file in dict.fromkeys(row.entry.file for row in rows):
        notes += zeros(file)
    if GPU in known:
        notes.append("times on the GPU are from its own clock, the batch there already: copies are not in them")
    for place, found in known.items():
        if found.note:
            notes.append(f"ceilings, {place_name(place)}: {found.note}")
        if (found.others or 0) > BUSY and place != GPU:
            notes.append(f"ceilings, {place_name(place)}: measured while other work used {found.others:.1f} cores")
    return notes
