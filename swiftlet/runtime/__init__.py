"""Runtimes that execute the delivered files, and the race that times them.

program = get_runtime("onnxruntime").load(Path("model.onnx"), threads=1)
scores = program.run(batch)[0]
"""

from swiftlet.errors import BadInput
from swiftlet.runtime.base import Program, Runtime
from swiftlet.runtime.executorch import ExecuTorch
from swiftlet.runtime.litert import LiteRt
from swiftlet.runtime.ncnn import Ncnn, NcnnBfloat16
from swiftlet.runtime.null import Null
from swiftlet.runtime.onnxruntime import OnnxRuntime, OnnxRuntimeCuda
from swiftlet.runtime.openvino import OpenVino, OpenVinoBfloat16
from swiftlet.runtime.torch import TorchBfloat16, TorchChannelsLast, TorchRuntime
from swiftlet.runtime.torch_compiled import TorchCompiled
from swiftlet.runtime.torch_cuda import TorchCuda, TorchCudaGraph

__all__ = ["RUNTIMES", "Program", "Runtime", "get_runtime"]

ALL: tuple[Runtime, ...] = (
    OnnxRuntime(),
    OnnxRuntimeCuda(),
    TorchRuntime(),
    TorchChannelsLast(),
    TorchCompiled(),
    TorchBfloat16(),
    TorchCuda(),
    TorchCudaGraph(),
    OpenVino(),
    OpenVinoBfloat16(),
    Ncnn(),
    NcnnBfloat16(),
    LiteRt(),
    ExecuTorch(),
    Null(),
)
RUNTIMES: dict[str, Runtime] = {runtime.name: runtime for runtime in ALL}


def get_runtime(name: str) -> Runtime:
    """The runtime of that name; BadInput lists the known ones."""
    if name not in RUNTIMES:
        raise BadInput(f"unknown runtime {name!r}; known: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]
