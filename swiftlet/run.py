"""A run folder: one owner, stages that are computed once, and a clock that survives a kill."""

import fcntl
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from swiftlet.errors import BadFile, BadInput, RunBusy
from swiftlet.files import write_json
from swiftlet.signals import Terminated

CLOCK_SECONDS = 5.0


class Run:
    """The folder of one fit. Use it as a context manager: inside, this process is the only one that writes there.

    Raises RunBusy if another process owns the folder (the lock goes with the process, so a killed one holds nothing)
    and BadInput if the folder holds something that is no run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._resumed = time.monotonic()
        self._before = 0.0
        self._written = 0.0

    def __enter__(self) -> "Run":
        if self.folder.is_dir() and not (self.folder / "lock").exists() and any(self.folder.iterdir()):
            raise BadInput(f"{self.folder}: is not empty and holds no swiftlet run; choose another --out")
        try:
            (self.folder / "stages").mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise BadInput(f"{self.folder}: cannot be written to ({error.strerror}); choose another --out") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RunBusy(
                f"{self.folder}: another swiftlet is at work there; wait for it or choose another --out"
            ) from None
        try:
            for leftover in self.folder.rglob(".*.tmp"):  # of a killed process: nobody else can be writing
                leftover.unlink()
            self._before = self._clock()
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt | Terminated):
            self.tick(force=True)
        self._lock.close()

    @property
    def seconds(self) -> float:
        """Time spent on this run so far, in all processes that worked on it."""
        return self._before + time.monotonic() - self._resumed

    def tick(self, *, force: bool = False) -> None:
        """Put the clock on disk, now and then."""
        if force or self.seconds - self._written > CLOCK_SECONDS:
            self._written = self.seconds
            write_json(self._path("clock"), {"seconds": self.seconds})

    def _clock(self) -> float:
        seconds = self._read("clock", {"seconds": 0.0}).get("seconds")
        if not isinstance(seconds, int | float) or not seconds >= 0:
            raise BadFile(f"{self._path('clock')}: is damaged; delete it, and the run's time starts at 0 again")
        return float(seconds)

    def claim(self, facts: dict[str, Any]) -> None:
        """Remember what this run is; a later process must want the same. Raises BadInput naming what differs."""
        for key, value in self.once("claim", lambda: facts).items():
            if facts.get(key) != value:
                held = f"{self.folder}: holds a run with {key} = {value!r}"
                raise BadInput(f"{held}, now asked for {facts.get(key)!r}; choose another --out")

    def once(self, stage: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored result of a stage; computed, and stored whole, if there is none yet."""
        stored = self.stored(stage)
        if stored is not None:
            return stored
        write_json(self._path(stage), compute())
        self.tick(force=True)
        return self._read(stage, {})  # as a later process would read it

    def stored(self, stage: str) -> dict[str, Any] | None:
        """The result of a stage if it has been computed. Raises BadFile if the file is damaged."""
        return self._read(stage, {}) if self._path(stage).exists() else None

    def _path(self, stage: str) -> Path:
        return self.folder / "stages" / f"{stage}.json"

    def _read(self, stage: str, default: dict[str, Any]) -> dict[str, Any]:
        path = self._path(stage)
        if not path.exists():
            return default
        try:
            value = json.loads(path.read_text())
        except ValueError as error:
            raise BadFile(f"{path}: is damaged ({error}); delete it to compute that stage again") from error
        if not isinstance(value, dict):
            raise BadFile(f"{path}: is not a stage of a run; delete it to compute that stage again")
        return value


def read_run(folder: Path) -> tuple[dict[str, Any] | None, list[str], float]:
    """Of a run, without owning it: its result, or None if it is not finished; its stages; the seconds spent on it.

    Raises BadFile if the folder holds no run.
    """
    if not (folder / "stages" / "claim.json").exists():
        raise BadFile(f"{folder}: holds no run; give the folder that fit or train wrote to")
    run = Run(folder)
    stages = sorted(path.name.removesuffix(".json") for path in (folder / "stages").glob("*.json"))
    return run.stored("result"), stages, run._clock()
