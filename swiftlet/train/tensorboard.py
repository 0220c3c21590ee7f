"""The log of a training for TensorBoard. The JSON lines stay the record; this only shows them."""

import json
from pathlib import Path

from swiftlet.errors import MissingExtra
from swiftlet.train.metrics import Metrics


class TensorBoard:
    """Event files in a folder, from what is in a training's log so far and, at every `update`, what has come since.

    The number in every field of a line becomes a scalar at the line's step, at the time when the speed log has one for
    that step. Raises MissingExtra without the extra 'tensorboard'.
    """

    def __init__(self, metrics: Metrics, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("event files are written by TensorBoard: pip install 'swiftlet[tensorboard]'") from error
        self.metrics = metrics
        # purge_step: what earlier processes wrote here is not shown any more, since all of it is written anew
        self._writer = SummaryWriter(str(folder), purge_step=0)
        self._read = {metrics.path: 0, metrics.speed_path: 0}

    def update(self) -> int:
        """Hand on the whole lines that are new, and give their number. Call it after the log was resumed."""
        speeds = self._new(self.metrics.speed_path)
        times = {line["step"]: line["time"] for line in speeds}
        lines = self._new(self.metrics.path)
        for line in (*lines, *speeds):
            for name, value in line.items():
                if name not in ("step", "time") and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, line["step"], walltime=times.get(line["step"]))
        self._writer.flush()
        return len(lines)

    def close(self) -> None:
        self.update()
        self._writer.close()

    def _new(self, path: Path) -> list[dict[str, float]]:
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._read[path])
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read[path] += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
