"""One study from its name to its page."""

import inspect
from dataclasses import replace
from datetime import date
from pathlib import Path

from swiftlet.errors import BadInput
from swiftlet.runtime.machine import machine
from swiftlet.study import get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import need_matplotlib, write


def run_study(
    name: str, bench: Bench, folder: Path, command: str, data: Path | None = None
) -> tuple[Finding, dict[str, Path]]:
    """Time, judge, draw and write. `command` is what a reader would type to repeat it; data: for a study of pictures.

    Raises BadInput for an unknown study, or one that lacks its data or takes none, MissingExtra before anything is
    timed.
    """
    study = get_study(name)
    takes_data = "data" in inspect.signature(study.run).parameters
    if takes_data and data is None:
        raise BadInput(f"study {name}: needs its pictures; give --data FILE.npz")
    if data is not None and not takes_data:
        raise BadInput(f"study {name}: takes no data; leave out --data")
    need_matplotlib()
    found = study.run(bench, data) if takes_data else study.run(bench)
    if bench.quick:
        note = "--quick: a coarse grid, which says nothing about the claim."
        found = replace(found, title=f"{found.title} (quick)", notes=(note, *found.notes))
    finding = replace(found, machine=str(machine()), command=command, date=date.today().isoformat())
    return finding, write(finding, folder)
