"""Who may race: a file on a runtime that loads it, survives a first run and gives the right numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.gate import REFERENCE, Agreement, agreement
from swiftlet.runtime.liven import vanishing
from swiftlet.runtime.race import random_batch
from swiftlet.runtime.trial import CORE, Job, trial


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as one runtime runs it. precision: what the runtime computes in, once the file is loaded."""

    file: Path
    runtime: str
    threads: int
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.file} on {self.runtime}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Dropped:
    """One that did not finish, and why."""

    entry: Entry
    reason: str


def drop(entry: Entry, error: Exception) -> Dropped:
    return Dropped(entry, first_line(error).removeprefix(f"{entry}: "))


@dataclass(frozen=True, slots=True)
class Admitted:
    entry: Entry
    program: Program
    agreement: Agreement


def admit(
    entries: Sequence[Entry], batch: int, progress: Callable[[str, int, int], None]
) -> tuple[list[Admitted], list[Dropped]]:
    """Load each and compare a run with the reference of its file. Raises what befell it if there is only one, BadFile
    if none is left."""
    crashes = _trials(entries, batch, progress)
    references: dict[Path, list[Array] | Exception] = {}
    admitted: list[Admitted] = []
    dropped: list[Dropped] = []
    errors: list[Exception] = []
    for done, entry in enumerate(entries):
        progress("comparing outputs", done, len(entries))
        try:
            if entry in crashes:
                raise BadFile(f"{entry}: {crashes[entry]}")
            admitted.append(_admit(entry, batch, references))
        except Exception as error:  # whatever a runtime raises ends this entry and no other
            errors.append(error)
            dropped.append(drop(entry, error))
    if not admitted:
        if len(errors) == 1:
            raise errors[0]
        reasons = "; ".join(f"{each.entry}: {each.reason}" for each in dropped)
        raise BadFile(f"nothing is left to time: {reasons}")
    return admitted, dropped


def zeros(file: Path) -> list[str]:
    """A warning if some of a file's work could be left out without a change of the outputs."""
    dead = vanishing(file)
    if not dead:
        return []
    names = ", ".join(dead[:3]) + (", ..." if len(dead) > 3 else "")
    return [
        f"{file}: {len(dead)} weights are zero throughout ({names}): an engine may delete what they multiply, so the "
        "time may not be that of the network; time it with trained weights, or with those of swiftlet.runtime.liven"
    ]


def _trials(entries: Sequence[Entry], batch: int, progress: Callable[[str, int, int], None]) -> dict[Entry, str]:
    """Why an entry's process died, for those on runtimes that might take ours with them."""
    crashes: dict[Entry, str] = {}
    for name in dict.fromkeys(entry.runtime for entry in entries):
        runtime = get_runtime(name)
        if name.split("-")[0] in CORE or runtime.missing() is not None:
            continue
        progress(f"trying {name}", 0, 0)
        mine = [entry for entry in entries if entry.runtime == name]
        deaths = trial(runtime, [Job(str(entry.file), entry.threads, batch) for entry in mine])
        crashes |= {entry: death for entry, death in zip(mine, deaths, strict=True) if death}
    return crashes


def _admit(entry: Entry, batch: int, references: dict[Path, list[Array] | Exception]) -> Admitted:
    runtime = get_runtime(entry.runtime)
    check_usable(runtime, entry.threads)
    program = runtime.load(entry.file, entry.threads)
    try:
        image = random_batch(program, batch)
        if entry.file not in references:
            references[entry.file] = _reference(entry.file, image)
        reference = references[entry.file]
        if isinstance(reference, Exception):
            raise BadInput(f"{REFERENCE} cannot run the file, so nothing can be compared: {first_line(reference)}")
        found = agreement(program.run(image), reference, program.precision)
        if found.refused:
            raise BadInput(f"{entry}: not timed, because it {found.refused}")
    except BaseException:
        program.close()
        raise
    whole = Entry(entry.file, entry.runtime, entry.threads, program.precision)
    return Admitted(whole, program, found)


def _reference(file: Path, image: Array) -> list[Array] | Exception:
    try:
        program = get_runtime(REFERENCE).load(file, 1)
        try:
            return program.run(image)
        finally:
            program.close()
    except Exception as error:  # kept, to be said of every entry of this file
        return error
