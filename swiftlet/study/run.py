"""One study from its name to its page."""

import inspect
import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from swiftlet._version import __version__
from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime.machine import machine
from swiftlet.study import get_study
from swiftlet.study.bench import Bench
from swiftlet.study.finding import Finding
from swiftlet.study.page import need_matplotlib, write
from swiftlet.study.trials import Lab

LEAST = 4.0  # minutes: with less, a study that trains says nothing


def run_study(
    name: str,
    bench: Bench,
    folder: Path,
    command: str,
    data: Path | None = None,
    *,
    minutes: float | None = None,
    seeds: int | None = None,
    trials: Path | None = None,
) -> tuple[Finding, dict[str, Path]]:
    """Measure, judge, draw and write. `command` is what a reader would type to repeat it; data: for a study of
    pictures; minutes and seeds: for one that trains, with trials.Lab's defaults; trials: the folder that keeps them,
    NAME.trials in `folder` unless given.

    Raises BadInput for an unknown study, one that lacks its data, or one that is given what it does not take; and
    MissingExtra before anything is measured.
    """
    takes = taken_by(name)
    given = {"data": data, "minutes": minutes, "seeds": seeds}
    for option, value in given.items():
        if value is not None and option not in takes:
            raise BadInput(f"study {name}: takes no --{option}")
    if "data" in takes and data is None:
        raise BadInput(f"study {name}: needs its pictures; give --data, a folder or an .npz file")
    need_matplotlib()
    offered: dict[str, Any] = {"bench": bench} | given
    facts = setting(name, bench, data)
    if "lab" in takes and data is not None:
        training: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        kept = trials or folder / f"{name}.trials"
        lab = offered["lab"] = Lab(folder=kept, quick=bench.quick, progress=bench.progress, **training)
        facts["minutes"] = lab.minutes
    study = get_study(name)
    found = study.run(**{option: offered[option] for option in inspect.signature(study.run).parameters})
    if bench.quick:
        note = "--quick: a coarse grid, which says nothing about the claim."
        found = replace(found, title=f"{found.title} (quick)", notes=(note, *found.notes))
    today = date.today().isoformat()
    finding = replace(found, machine=str(machine()), command=command, date=today, setting=facts)
    return finding, write(finding, folder)


def taken_by(name: str) -> set[str]:
    """What a study takes: "bench", "lab", and the options among "data", "minutes" and "seeds". BadInput if unknown."""
    wanted = set(inspect.signature(get_study(name).run).parameters)
    return wanted | {"data", "minutes", "seeds"} if "lab" in wanted else wanted


def setting(name: str, bench: Bench, data: Path | None) -> dict[str, Any]:
    """What decides a finding apart from the machine and its minutes, in JSON's types."""
    takes = taken_by(name)
    facts: dict[str, Any] = {"swiftlet": __version__, "quick": bench.quick}
    if "bench" in takes:
        facts |= {"runtimes": list(bench.runtimes), "threads": bench.threads, "batch": bench.batch}
    if "data" in takes and data is not None:
        facts["data"] = str(data.resolve())
    return facts


def stored(name: str, bench: Bench, folder: Path, data: Path | None) -> Finding | None:
    """The finding of an earlier run of this version, if it can stand for one with this setting on this machine.

    Without `data` any pictures will do. A quick one stands for quick ones only, and one that trained for less than
    LEAST minutes for none.
    """
    json_, *pages = (folder / f"{name}.{kind}" for kind in ("json", "html", "png"))
    if not json_.exists() or not all(page.exists() for page in pages):
        return None
    try:
        finding = Finding.from_json(json.loads(json_.read_text("utf-8")))
    except (ValueError, BadFile):
        return None  # of another version, whose studies may measure something else, or damaged: it is made anew
    facts = setting(name, bench, data)
    quick = finding.setting.get("quick")
    same = all(finding.setting.get(key) == value for key, value in facts.items() if key != "quick")
    if not same or finding.machine != str(machine()) or (quick and not bench.quick):
        return None
    long_enough = quick or finding.setting.get("minutes", LEAST) >= LEAST
    return finding if long_enough else None
