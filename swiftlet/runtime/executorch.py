"""ExecuTorch on the CPU with XNNPACK. Float32 only."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakSet

from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.convert import convert
from swiftlet.runtime.onnx_io import OnePicture, Signature, fixed_shape, float_signature
from swiftlet.runtime.torch_graph import to_tensor


class ExecuTorch:
    """Its pool of threads is one for the whole process, and programs point into it: while some are loaded, others can
    be loaded only with as many threads."""

    name = "executorch"

    def __init__(self) -> None:
        self._loaded: WeakSet[_Method] = WeakSet()

    def missing(self) -> str | None:
        return None if find_spec("executorch") else "pip install 'swiftlet[executorch]' (1.5 GB)"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen or by ExecuTorch; BadInput on a quantized file, or on
        threads that differ from those of a program that is still open."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = float_signature(file, self.name)
        fixed_shape(file, io, self.name)
        content = convert(file, self.name)
        runtime, library = _import()
        self._set_threads(library, threads)
        try:
            program = runtime.Runtime.get().load_program(content)
            loaded = _Method(file.name, io, program, program.load_method("forward"))
        except RuntimeError as error:
            raise BadFile(f"{file.name}: ExecuTorch refuses it: {first_line(error)}") from error
        self._loaded.add(loaded)
        return loaded

    def _set_threads(self, library: ModuleType, threads: int) -> None:
        if library._threadpool_get_thread_count() == threads:
            return
        if any(program.is_open for program in self._loaded):
            raise BadInput("executorch has one pool of threads per process: close its programs first, or use as many")
        library._unsafe_reset_threadpool(threads)


def _import() -> tuple[ModuleType, ModuleType]:
    """executorch.runtime, and the library below it, which alone knows of threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it uses itself
        return import_module("executorch.runtime"), import_module("executorch.extension.pybindings.portable_lib")


class _Method(OnePicture):
    def __init__(self, name: str, io: Signature, program: Any, method: Any) -> None:
        super().__init__(name, io, io.precision)
        self._program, self._method = program, method

    @property
    def is_open(self) -> bool:
        return self._method is not None

    def picture(self, batch: Array) -> list[Array]:
        if self._method is None:
            raise self.closed()
        try:
            outputs = self._method.execute([to_tensor(batch)])
        except RuntimeError as error:
            raise BadFile(f"{self.name}: ExecuTorch fails on {batch.shape}: {first_line(error)}") from error
        return [output.numpy().copy() for output in outputs]

    def close(self) -> None:
        self._program = self._method = None
