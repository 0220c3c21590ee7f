"""All studies that fit into some minutes, and one page of what holds: `swiftlet study all`.

What is timed comes first, the quickest study first: it needs no pictures and tells most in the fewest minutes. What
trains shares the rest. A share has to be worth it, so with few minutes fewer studies train; those left out are named.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from shutil import rmtree
from typing import NamedTuple

from swiftlet._version import __version__
from swiftlet.errors import BadInput, BadPhotos, SwiftletError
from swiftlet.run import Run
from swiftlet.runtime.machine import machine
from swiftlet.study import MINUTES, STUDIES
from swiftlet.study.bench import Bench
from swiftlet.study.overview import NAME, Survey, write_overview
from swiftlet.study.page import need_matplotlib
from swiftlet.study.run import LEAST, run_study, stored, taken_by

SURVEY_MINUTES = 20.0
SECONDS = 0.1  # for each case on each runtime, as MINUTES were measured
RUNTIMES = 2  # that they were measured on
ANYWAY = -math.inf  # minutes that a study needs which runs whatever is left: begun before a kill, or quick
SURE = 1.0  # minutes that were measured here and tell more of this machine's pace than another's


class Need(NamedTuple):
    """A study that waits. minutes: what it takes or, if it shares the rest with others, the least that makes sense."""

    name: str
    minutes: float
    shares: bool


def choose(waiting: Sequence[Need], left: float) -> tuple[Need, float] | None:
    """What runs next and in how many of the minutes that are left; None if nothing fits.

    Shares are equal. As long as they are too small for one of the studies, the most demanding one gives up its own, the
    last of several. The first of the others runs.
    """
    timed = min((need for need in waiting if not need.shares), key=lambda need: need.minutes, default=None)
    if timed is not None and timed.minutes <= left:
        return timed, timed.minutes
    sharing = [need for need in waiting if need.shares]
    while sharing:
        share = left / len(sharing)
        dearest = max(reversed(sharing), key=lambda need: need.minutes)
        if dearest.minutes <= share:
            return sharing[0], share
        sharing.remove(dearest)
    return None


def run_survey(
    bench: Bench, folder: Path, command: str, data: Path | None = None, *, minutes: float = SURVEY_MINUTES
) -> tuple[Survey, dict[str, Path]]:
    """Run what fits, judge, and write all.html and all.json beside the files of the studies, anew after each of them.

    What an earlier run left in `folder` is taken (run.stored). A study that SwiftletError stops is left out with its
    reason. A killed survey goes on with the same call: finished studies, trials and the clock are on disk. Raises
    BadInput for minutes that are none or if another survey is unfinished there, BadPhotos if `data` is absent, RunBusy
    if another process is at work there, and MissingExtra without matplotlib.
    """
    need_matplotlib()
    if not minutes > 0:
        raise BadInput(f"study all: minutes={minutes:g} must be above 0")
    if data is not None and not data.exists():
        raise BadPhotos(f"{data}: no such file or folder")
    folder.mkdir(parents=True, exist_ok=True)
    with Run(folder / f"{NAME}.run") as run:
        _claim(run, bench, data, minutes)
        work = _Work(run, bench, folder, command, data, minutes)
        while True:
            chosen = work.choose()
            survey, paths = work.told(over=chosen is None)
            if chosen is None:
                break
            work.carry_out(*chosen)
        _forget(run)
    return survey, paths


class _Work:
    """A survey at work: what is found, what failed, and the run that remembers shares and time."""

    def __init__(self, run: Run, bench: Bench, folder: Path, command: str, data: Path | None, minutes: float) -> None:
        self.run, self.bench, self.folder, self.command = run, bench, folder, command
        self.data, self.minutes = data, minutes
        self.started = float(run.once("start", lambda: {"seconds": run.seconds})["seconds"])
        self.failed: dict[str, str] = {}
        kept = {name: stored(name, bench, folder, data) for name in STUDIES}
        self.found = {name: finding for name, finding in kept.items() if finding is not None}
        self.spent = {name: float(did["minutes"]) for name in STUDIES if (did := run.stored(f"done {name}"))}
        self.earlier = frozenset(self.found.keys() - self.spent.keys())

    def left(self) -> float:
        """Minutes."""
        return self.minutes - (self.run.seconds - self.started) / 60

    def choose(self) -> tuple[Need, float] | None:
        """The next study and its minutes."""
        return choose(self.waiting(), self.left())

    def carry_out(self, need: Need, minutes: float) -> None:
        """Run one study. One that was begun before a kill goes on with the minutes that its trials were begun with."""
        name, takes = need.name, taken_by(need.name)
        lent = None
        if "lab" in takes and not self.bench.quick:
            share = {"minutes": minutes - self.beside()}
            lent = float(self.run.once(f"share {name}", lambda: share)["minutes"])
        before = self.run.seconds
        try:
            finding, _ = run_study(
                name,
                self._watched(name),
                self.folder,
                self.command,
                self.data if "data" in takes else None,
                minutes=lent,
                trials=self.run.folder / "trials" / name,
            )
        except SwiftletError as error:
            self.failed[name] = str(error)
        else:
            self.found[name], self.spent[name] = finding, (self.run.seconds - before) / 60
            self.run.once(f"done {name}", lambda: {"minutes": self.spent[name]})

    def waiting(self) -> list[Need]:
        """What has neither run nor failed, and could run; what was begun comes first, whatever is left."""
        needs = []
        for name in STUDIES:
            takes = taken_by(name)
            if name in self.found or name in self.failed or ("data" in takes and self.data is None):
                continue
            if self.bench.quick or self.run.stored(f"share {name}") is not None:
                minutes = ANYWAY
            else:
                minutes = LEAST + self.beside() if "lab" in takes else MINUTES[name] * self.pace()
            needs.append(Need(name, minutes, "data" in takes))
        return sorted(needs, key=lambda need: need.minutes)

    def pace(self) -> float:
        """How many times as long as in MINUTES a study takes here, by those that ran or, at first, by what is asked."""
        timed = [name for name in self.spent if "data" not in taken_by(name)]
        usual = sum(MINUTES[name] for name in timed)
        if usual >= SURE:
            return sum(self.spent[name] for name in timed) / usual
        return len(self.bench.runtimes) / RUNTIMES * self.bench.seconds / SECONDS

    def beside(self) -> float:
        """Minutes that a study which trains takes beside its training, to read the pictures say: the most so far."""
        shares = {name: share for name in self.spent if (share := self.run.stored(f"share {name}"))}
        return max((0.0, *(self.spent[name] - float(share["minutes"]) for name, share in shares.items())))

    def told(self, *, over: bool) -> tuple[Survey, dict[str, Path]]:
        """The page as it stands."""
        survey = Survey(
            findings=tuple(self.found[name] for name in STUDIES if name in self.found),
            earlier=self.earlier,
            left_out=self._left_out(over),
            minutes=self.minutes,
            spent=self.minutes - self.left(),
            quick=self.bench.quick,
            place=f"{self.bench.runtimes[0]}, {self.bench.place()}",
            data=None if self.data is None else str(self.data),
            machine=str(machine()),
            command=self.command,
            date=date.today().isoformat(),
        )
        return survey, write_overview(survey, self.folder)

    def _left_out(self, over: bool) -> dict[str, str]:
        reasons = dict.fromkeys(STUDIES, "trains on pictures, and there were none: give --data")
        for name, minutes, shares in self.waiting():
            takes = f"takes {'' if shares else 'about '}{round(minutes, 1):g} minutes{' or more' if shares else ''}"
            left = f"{max(0.0, self.left()):.1f} were left: give more --minutes"
            reasons[name] = f"{takes}, {left}" if over else "not yet: still at work, or stopped; the same call goes on"
        reasons |= {name: f"could not run: {reason}" for name, reason in self.failed.items()}
        return {name: reasons[name] for name in STUDIES if name not in self.found}

    def _watched(self, name: str) -> Bench:
        def show(what: str, done: int, total: int) -> None:
            self.run.tick()
            if self.bench.progress is not None:
                self.bench.progress(f"{name}, {what}", done, total)

        return replace(self.bench, progress=show)


def _claim(run: Run, bench: Bench, data: Path | None, minutes: float) -> None:
    facts = {
        "minutes": minutes,
        "data": None if data is None else str(data.resolve()),
        "quick": bench.quick,
        "seconds": bench.seconds,
        "seed": bench.seed,
        "runtimes": list(bench.runtimes),
        "threads": bench.threads,
        "batch": bench.batch,
        "machine": str(machine()),
        "swiftlet": __version__,
    }
    try:
        run.claim(facts)
    except BadInput as error:
        raise BadInput(f"{error}, or delete that folder to give up what was begun there") from None


def _forget(run: Run) -> None:
    """A survey that is finished leaves nothing but its clock: the next one starts at its minutes' beginning."""
    if (run.folder / "trials").exists():
        rmtree(run.folder / "trials")
    for stage in sorted((run.folder / "stages").glob("*.json")):
        if stage.name != "clock.json":
            stage.unlink()
