"""The latency of a file on this machine, without running it: its kernels, looked up in measured tables, and summed.

prediction = predict(Path("model.onnx"))          # swiftlet study tables has been run once
prediction.ms, prediction.low, prediction.high    # a nine-in-ten interval
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftlet.errors import BadInput
from swiftlet.runtime.correct import COVERAGE
from swiftlet.runtime.kernels import Kernel, kernels, optimised
from swiftlet.runtime.onnx_io import fixed_shape, signature
from swiftlet.runtime.tables import Tables, load_tables, tables_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Milliseconds of one run at batch 1.

    low, high: within which nine of ten networks like those in the tables lie; covered: the share of the kernels whose
    kind is in the tables; unknown: the other kinds and how many kernels each has. What is not covered is not in `ms`,
    which is then a lower bound: `high` is infinite.
    """

    ms: float
    low: float
    high: float
    covered: float
    unknown: dict[str, int]
    precision: str
    runtime: str
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps; an infinite `high` is None."""
        high = self.high if math.isfinite(self.high) else None
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"high": high}

    def __str__(self) -> str:
        if not self.unknown:
            return f"{self.ms:.3g} ms predicted ({COVERAGE:.0%} {self.low:.3g} to {self.high:.3g})"
        names = ", ".join(f"{count} x {kind}" for kind, count in self.unknown.items())
        return f"more than {self.low:.3g} ms predicted: no times for {names} ({self.covered:.0%} covered)"


def predict(
    file: Path | bytes, *, runtime: str = "onnxruntime", threads: int = 1, tables: Tables | None = None
) -> Prediction:
    """What a run of an ONNX file takes here, at batch 1. `tables`: by default this machine's, from the user's cache.

    Raises BadFile for a file that is refused, is fixed at another batch or free in more than that; BadInput if there
    are no tables, for this machine or for the file's precision, or for a runtime that does not tell which kernels it
    runs.
    """
    from swiftlet.cost.screen import screen_onnx

    if tables is None:
        tables = load_tables(tables_path(runtime, threads))
    screened = screen_onnx(file)
    io = signature(screened)
    fixed_shape(screened, io, "a prediction")
    found = kernels(optimised(screened.data, threads))
    return predict_kernels(found, io.precision, runtime=runtime, threads=threads, tables=tables)


def predict_kernels(
    found: Sequence[Kernel], precision: str, *, runtime: str = "onnxruntime", threads: int = 1, tables: Tables
) -> Prediction:
    """The same from the kernels alone: a search that changes one layer need not make the others again.

    Raises BadInput if there are none, or if the tables hold nothing of that precision.
    """
    if not found:
        raise BadInput("predict: the graph has no kernels, so there is nothing to predict")
    if precision not in tables.corrections:
        known = ", ".join(tables.corrections)
        raise BadInput(f"predict: the file is {precision}, and the tables know {known}; time the file instead")
    parts, correction = tables.parts(found), tables.corrections[precision]
    low, high = correction.interval_us(parts)
    missing = sum(parts.unknown.values())
    return Prediction(
        ms=correction.total_us(parts) / 1000,
        low=low / 1000,
        high=math.inf if missing else high / 1000,
        covered=1 - missing / len(found),
        unknown=parts.unknown,
        precision=precision,
        runtime=runtime,
        threads=threads,
    )
