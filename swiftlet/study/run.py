"""One study from its name to its page."""

from dataclasses import replace
from datetime import date
from pathlib import Path

from swiftlet.runtime.machine import machine
from swiftlet.study import get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import need_matplotlib, write


def run_study(name: str, bench: Bench, folder: Path, command: str) -> tuple[Finding, dict[str, Path]]:
    """Time, judge, draw and write. `command` is what a reader would type to repeat it.

    Raises BadInput for an unknown study, MissingExtra before anything is timed.
    """
    study = get_study(name)
    need_matplotlib()
    found = study.run(bench)
    if bench.quick:
        note = "--quick: a coarse grid, which says nothing about the claim."
        found = replace(found, title=f"{found.title} (quick)", notes=(note, *found.notes))
    finding = replace(found, machine=str(machine()), command=command, date=date.today().isoformat())
    return finding, write(finding, folder)
