"""Runtimes that execute the delivered files, and the race that times them.

program = get_runtime("onnxruntime").load(Path("model.onnx"), threads=1)
scores = program.run(batch)[0]
"""

from swiftlet.errors import BadInput
from swiftlet.runtime.base import Program, Runtime
from swiftlet.runtime.null import Null
from swiftlet.runtime.onnxruntime import OnnxRuntime
from swiftlet.runtime.torch import TorchRuntime

__all__ = ["RUNTIMES", "Program", "Runtime", "get_runtime"]

RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in (OnnxRuntime(), TorchRuntime(), Null())}


def get_runtime(name: str) -> Runtime:
    """The runtime of that name; BadInput lists the known ones."""
    if name not in RUNTIMES:
        raise BadInput(f"unknown runtime {name!r}; known: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]
