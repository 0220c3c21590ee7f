"""ONNX Runtime on the CPU."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile, MissingExtra
from swiftlet.runtime.base import Array, Program, check_threads
from swiftlet.runtime.onnx_io import Signature, signature

ERRORS_ONLY = 4  # fatal; what goes wrong arrives as an exception, with the file's name


class OnnxRuntime:
    """Loads the screened bytes, never a path, so that no file can refer to another one."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else "pip install onnxruntime"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen or by ONNX Runtime."""
        from swiftlet.cost.screen import screen_onnx

        check_threads(threads)
        if (missing := self.missing()) is not None:
            raise MissingExtra(f"the runtime onnxruntime is not installed: {missing}")
        import onnxruntime as ort  # here, so that `import swiftlet` works without it

        file = screen_onnx(path)
        io = signature(file)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads  # explicit: the library's default differs per machine
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = ERRORS_ONLY
        try:
            session = ort.InferenceSession(file.data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"{file.name}: ONNX Runtime refuses it: {_reason(error)}") from error
        return _Session(file.name, io, session)


class _Session(Program):
    def __init__(self, name: str, io: Signature, session: Any) -> None:
        self.name, self.input_shape, self.input_dtype = name, io.input_shape, io.input_dtype
        self.output_names, self._input, self._session = io.output_names, io.input_name, session

    def execute(self, batch: Array) -> list[Array]:
        if self._session is None:
            raise BadFile(f"{self.name}: the program is closed; load the file again")
        try:
            outputs: list[Array] = self._session.run(self.output_names, {self._input: batch})
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"{self.name}: ONNX Runtime fails on {batch.shape}: {_reason(error)}") from error
        return outputs

    def close(self) -> None:
        self._session = None


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
