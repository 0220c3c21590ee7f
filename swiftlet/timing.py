"""Racing files: every file on every runtime at every number of threads, interleaved in one race."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swiftlet.errors import BadInput, MissingExtra
from swiftlet.plan import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, Measurement, race, verdict


@dataclass(frozen=True)
class Entry:
    """One line of the result: a file as one runtime runs it."""

    file: Path
    runtime: str
    threads: int


def time_files(
    files: Sequence[Path],
    runtimes: Sequence[str],
    threads: Sequence[int],
    *,
    batch: int = 1,
    seconds: float = 5.0,
    progress: Progress | None = None,
) -> tuple[tuple[Entry, ...], tuple[Measurement, ...], str]:
    """Entries, their measurements in the same order, and a sentence: who is faster, or that it cannot be told.

    Raises BadFile, BadInput for an unknown runtime, MissingExtra for one that is not installed.
    """
    entries, contestants = [], []
    for file in files:
        for name in runtimes:
            missing = get_runtime(name).missing()
            if missing:
                raise MissingExtra(f"{name} cannot be used: {missing}")
            for count in threads:
                entries.append(Entry(file, name, count))
                label = f"{file} on {name}, {count} thread{'s' if count > 1 else ''}"
                contestants.append(Contestant(label, get_runtime(name).load(file, count), name, count))
    if not contestants:
        raise BadInput("time: give at least one file")

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress("racing", done, total)

    measured = race(contestants, seconds=seconds, batch=batch, progress=show)
    labels = [contestant.label for contestant in contestants]
    sentence = verdict(labels, measured) if len(measured) > 1 else f"{labels[0]}: {measured[0]}"
    return tuple(entries), measured, sentence
