"""A runtime that computes nothing: zeros of the right shape, so that search and report are tested without any other."""

from pathlib import Path

import numpy as np

from swiftlet.runtime.base import Array, Program, check_threads
from swiftlet.runtime.onnx_io import FileProgram, Signature, signature


class Null:
    """Always available; its answers are worthless and its timings are those of a function call."""

    name = "null"

    def missing(self) -> str | None:
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Screen the file like every runtime. Raises BadFile."""
        from swiftlet.cost.screen import screen_onnx

        check_threads(threads)
        file = screen_onnx(path)
        return _Zeros(file.name, signature(file))


class _Zeros(FileProgram):
    def __init__(self, name: str, io: Signature) -> None:
        super().__init__(name, io, "nothing is computed")
        self._shapes, self._dtypes = io.output_shapes, io.output_dtypes

    def execute(self, batch: Array) -> list[Array]:
        pairs = zip(self._shapes, self._dtypes, strict=True)
        return [np.zeros((len(batch), *shape[1:]), dtype) for shape, dtype in pairs]
