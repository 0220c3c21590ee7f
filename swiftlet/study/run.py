"""One study from its name to its page."""

import inspect
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from swiftlet.errors import BadInput
from swiftlet.runtime.machine import machine
from swiftlet.study import get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import need_matplotlib, write
from swiftlet.study.trials import Lab


def run_study(
    name: str,
    bench: Bench,
    folder: Path,
    command: str,
    data: Path | None = None,
    *,
    minutes: float | None = None,
    seeds: int | None = None,
) -> tuple[Finding, dict[str, Path]]:
    """Measure, judge, draw and write. `command` is what a reader would type to repeat it; data: for a study of
    pictures; minutes and seeds: for one that trains, with trials.Lab's defaults.

    Raises BadInput for an unknown study, one that lacks its data, or one that is given what it does not take; and
    MissingExtra before anything is measured.
    """
    study = get_study(name)
    wanted = inspect.signature(study.run).parameters
    given = {"data": data, "minutes": minutes, "seeds": seeds}
    takes = given.keys() if "lab" in wanted else given.keys() & wanted.keys()
    for option, value in given.items():
        if value is not None and option not in takes:
            raise BadInput(f"study {name}: takes no --{option}")
    if "data" in takes and data is None:
        raise BadInput(f"study {name}: needs its pictures; give --data, a folder or an .npz file")
    need_matplotlib()
    offered: dict[str, Any] = {"bench": bench} | given
    if "lab" in wanted and data is not None:
        training: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        kept = folder / f"{name}.trials"
        offered["lab"] = Lab(folder=kept, quick=bench.quick, progress=bench.progress, **training)
    found = study.run(**{option: offered[option] for option in wanted})
    if bench.quick:
        note = "--quick: a coarse grid, which says nothing about the claim."
        found = replace(found, title=f"{found.title} (quick)", notes=(note, *found.notes))
    finding = replace(found, machine=str(machine()), command=command, date=date.today().isoformat())
    return finding, write(finding, folder)
