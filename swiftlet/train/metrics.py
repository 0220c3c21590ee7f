"""What a training has measured, as JSON lines that a resumed run continues to the byte."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile, CannotSave
from swiftlet.files import sync_folder

EVERY = 10


class Metrics:
    """The log NAME.jsonl of one training: an object every `every` steps, and whatever else is written to it.

    A checkpoint keeps `state()`, and `resume` cuts the file back to it, so the log of a run that was killed is byte for
    byte that of the undisturbed one. Speed is no part of the result and differs from run to run; it goes to
    NAME.speed.jsonl (step, pictures per second, seconds since 1970), which only ever grows.
    """

    def __init__(self, path: Path, *, every: int = EVERY) -> None:
        self.path, self.every = path, every
        self.speed_path = path.with_suffix(".speed.jsonl")
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._losses = 0.0
        self._steps = 0
        self._pictures = 0
        self._since = time.monotonic()

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Start where a checkpoint left the log, or at nothing (None). Raises BadFile if the log is not that one."""
        state = state or {"bytes": 0, "sha256": hashlib.sha256().hexdigest(), "losses": 0.0, "steps": 0}
        with _saving(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
        with self.path.open("r+b") as file:
            kept = file.read(state["bytes"])
            self._digest = hashlib.sha256(kept)
            if self._digest.hexdigest() != state["sha256"]:
                raise BadFile(
                    f"{self.path}: its first {state['bytes']} bytes are not what the checkpoint was saved with; "
                    "put that log back, or delete the checkpoints too to start again"
                )
            file.truncate(len(kept))
        self._bytes, self._losses, self._steps = len(kept), state["losses"], state["steps"]
        self._pictures, self._since = 0, time.monotonic()

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to keep. The log is on disk up to there, durably."""
        with _saving(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())
            sync_folder(self.path.parent)
        return {
            "bytes": self._bytes,
            "sha256": self._digest.hexdigest(),
            "losses": self._losses,
            "steps": self._steps,
        }

    def add(self, step: int, *, epoch: int, loss: float, lr: float, pictures: int, last: bool = False) -> None:
        """After a step: its number from 1, epoch from 0, the loss and learning rate that it had, and how many pictures.

        A line has the mean loss since the line before; there is one every `every` steps and after the `last`.
        """
        self._losses += loss
        self._steps += 1
        self._pictures += pictures
        if step % self.every and not last:
            return
        now = time.monotonic()
        speed = {
            "step": step,
            "pictures_per_second": self._pictures / max(1e-9, now - self._since),
            "time": time.time(),
        }
        self.write({"step": step, "epoch": epoch, "loss": self._losses / self._steps, "lr": lr})
        _append(self.speed_path, speed)
        self._losses, self._steps, self._pictures, self._since = 0.0, 0, 0, now

    def write(self, fields: Mapping[str, object]) -> None:
        """Append one object, an evaluation say. It must be a function of the run alone: no times."""
        line = _append(self.path, fields)
        self._digest.update(line)
        self._bytes += len(line)


def _append(path: Path, fields: Mapping[str, object]) -> bytes:
    line = (json.dumps(fields) + "\n").encode()
    with _saving(path), path.open("ab") as file:
        file.write(line)
    return line


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotSave(
            f"{path}: cannot be written ({error.strerror or error}); the checkpoints are intact: mend that and run "
            "the same command again"
        ) from error
