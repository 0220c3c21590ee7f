"""How long each kernel of a network takes while the network runs, by ONNX Runtime's own profiler."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, check_threads, first_line
from swiftlet.runtime.onnxruntime import session_options

WARM_UP = 2  # runs that are not counted, each time that it is run again
KEPT = 0.25  # of the runs, the fastest: the others met something else on this machine or its host


class Profile:
    """An optimised graph, as ONNX bytes, run as it stands, and the times of its kernels.

    The profiler's clock ticks in whole microseconds, rounded down, and looking at it takes time that is part of what
    is shown: correct.py takes both off. Raises BadFile.
    """

    def __init__(self, graph: bytes, threads: int) -> None:
        import onnxruntime as ort  # here, so that `import swiftlet` works without it

        check_threads(threads)
        options = session_options(threads)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # done already
        options.enable_profiling = True
        self._folder = TemporaryDirectory(prefix="swiftlet-")
        options.profile_file_prefix = str(Path(self._folder.name) / "profile")
        try:
            self._session: Any = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no other base
            self._folder.cleanup()
            raise BadFile(f"ONNX Runtime cannot read its own graph again: {first_line(error)}") from error
        self._input = self._session.get_inputs()[0].name
        self._counted: list[bool] = []

    def run(self, batch: Array, runs: int) -> None:
        """That many runs that count, after some that do not."""
        for i in range(WARM_UP + runs):
            self._session.run(None, {self._input: batch})
            self._counted.append(i >= WARM_UP)

    def close(self) -> dict[str, float]:
        """Microseconds of each kernel by name: the mean of its fastest quarter over all runs that count."""
        events = json.loads(Path(self._session.end_profiling()).read_text())
        self._folder.cleanup()
        times: dict[str, list[int]] = {}
        for event in sorted(events, key=lambda event: event["ts"]):
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
                times.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"])
        return {name: _fast(np.array(found)[self._counted]) for name, found in times.items()}


def _fast(values: Array) -> float:
    """A mean resolves better than the whole microseconds that a single time is given in."""
    return float(np.sort(values)[: max(1, round(len(values) * KEPT))].mean())
