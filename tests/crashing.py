"""A runtime like those that swiftlet tries in a process of its own; small, because that process imports it."""

import os
import signal
from pathlib import Path

from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Program


class Crashing:
    """ONNX Runtime, but it takes its process with it when it meets a file called dead."""

    name = "crashing"

    def missing(self) -> str | None:
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        if isinstance(path, Path) and "dead" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        return get_runtime("onnxruntime").load(path, threads)
