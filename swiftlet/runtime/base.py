"""What a runtime is: a name, what it misses, and a file made into a Program. Timing stands above, in race.py."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from swiftlet.errors import BadInput, MissingExtra

Array = np.ndarray[Any, np.dtype[Any]]
Clock = Callable[[], int]  # nanoseconds from some start


class Program(ABC):
    """A loaded network with one input. Subclasses set the attributes and write `execute`.

    name: of the file, for messages; input_shape: None where a dimension is free, as the batch is; precision: what the
    arithmetic is done in, such as "float32", "bfloat16", "int8" or "int8 emulated in float32".
    """

    name: str
    input_shape: tuple[int | None, ...]
    input_dtype: np.dtype[Any]
    output_names: tuple[str, ...]
    precision: str

    def run(self, batch: Array) -> list[Array]:
        """One array per output name. Raises BadInput if the batch has the wrong type or shape, BadFile if it fails."""
        if not isinstance(batch, np.ndarray) or batch.dtype != self.input_dtype or not self._fits(batch.shape):
            got = f"{batch.dtype} {batch.shape}" if isinstance(batch, np.ndarray) else type(batch).__name__
            raise BadInput(f"{self.name}: expects {self.input_dtype} {self._shape_text()}, got {got}")
        return self.execute(batch)

    def nanoseconds(self, batch: Array, clock: Clock) -> int:
        """How long one run takes by `clock`. A program on a GPU asks the GPU instead."""
        start = clock()
        self.run(batch)
        return max(1, clock() - start)  # a coarse clock may not have ticked

    @abstractmethod
    def execute(self, batch: Array) -> list[Array]:
        """Run a batch whose type and shape have been checked."""

    def close(self) -> None:  # noqa: B027  (most programs hold nothing)
        """Give back threads and memory; the program cannot run afterwards."""

    def _fits(self, shape: tuple[int, ...]) -> bool:
        pairs = zip(shape, self.input_shape, strict=False)
        return len(shape) == len(self.input_shape) and all(w in (None, g) for g, w in pairs) and 0 not in shape

    def _shape_text(self) -> str:
        return "(" + ", ".join("any" if size is None else str(size) for size in self.input_shape) + ")"


class Runtime(Protocol):
    """Something that executes ONNX files on this machine."""

    name: str

    def missing(self) -> str | None:
        """What to install before this runtime works, or what this machine lacks for it; None if it works."""

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Screen and load a file. Raises BadFile, BadInput (threads, or a precision it has not), MissingExtra."""


def check_usable(runtime: Runtime, threads: int) -> None:
    """Raises BadInput on a thread count that cannot be, MissingExtra if the runtime cannot be used here."""
    check_threads(threads)
    if (missing := runtime.missing()) is not None:
        raise MissingExtra(f"the runtime {runtime.name} cannot be used: {missing}")


def first_line(error: BaseException) -> str:
    """The reason that an error gives, without the pages that native libraries add."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_threads(threads: int) -> None:
    if not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise BadInput(f"threads={threads!r} must be 1 or more")
