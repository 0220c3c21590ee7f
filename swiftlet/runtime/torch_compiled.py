"""torch.compile: Inductor writes C++ for the whole network, with the weights frozen in."""

import os
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from swiftlet.errors import BadFile, SwiftletError
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.onnx_io import FileProgram, at_shape, float_signature
from swiftlet.runtime.torch import thread_count, to_arrays
from swiftlet.runtime.torch_graph import Graph, to_tensor

if TYPE_CHECKING:
    from swiftlet.cost.screen import Screened

DEFAULT_COMPILER = {"darwin": "clang++", "win32": "cl"}


class TorchCompiled:
    """Compiles at the first run of each batch size, which takes 3 s for a tiny network and a minute for a large one.

    What is compiled is gone with the process. PyTorch itself keeps, in its own cache folder, what it finds out about
    the CPU when it compiles for the first time on a machine (about 15 s).
    """

    name = "torch-compiled"

    def missing(self) -> str | None:
        compiler = os.environ.get("CXX", DEFAULT_COMPILER.get(sys.platform, "g++"))
        if shutil.which(compiler) is None:
            return f"a C++ compiler, which PyTorch calls: there is no {compiler} (apt install g++, or set CXX)"
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the screen refuses the file, BadInput on a quantized one."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        return _Compiled(screen_onnx(path), threads)


class _Compiled(FileProgram):
    def __init__(self, file: "Screened", threads: int) -> None:
        io = float_signature(file, TorchCompiled.name)
        super().__init__(file.name, io, io.precision)
        Graph(file)  # an operator that is not translated is found here
        self._file: Screened | None = file
        self._threads = threads
        self._compiled: dict[tuple[int, ...], Callable[[Tensor], tuple[Tensor, ...]]] = {}

    def execute(self, batch: Array) -> list[Array]:
        if self._file is None:
            raise self.closed()
        image = to_tensor(batch)
        with thread_count(self._threads), torch.no_grad():
            if batch.shape not in self._compiled:
                self._compiled[batch.shape] = _compile(self._file, image, self._threads)
            return to_arrays(self._compiled[batch.shape](image))

    def close(self) -> None:
        self._file, self._compiled = None, {}


def _compile(file: "Screened", image: Tensor, threads: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
    """Exported first: torch.compile counts compilations per piece of Python code and stops silently after eight, so
    that all files must not share the forward of Graph."""
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa
    from torch._inductor.utils import fresh_cache

    pick_vec_isa()  # before the cache is set aside: it compiles a program per set of instructions
    settings: dict[str, Any] = {"freezing": True, "cpp.threads": threads, "compile_threads": 1}
    with TemporaryDirectory(prefix="swiftlet-") as folder, config.patch(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler warns of parts of PyTorch that it uses itself
        try:
            graph = Graph(at_shape(file, tuple(image.shape)), fixed_sizes=True)
            module = torch.export.export(graph, (image,), strict=False).module()
            with fresh_cache(dir=folder):
                compiled: Callable[[Tensor], tuple[Tensor, ...]] = torch.compile(module, fullgraph=True, dynamic=False)
                compiled(image)
        except SwiftletError:
            raise
        except Exception as error:  # the compiler's errors share no other base
            reason = first_line(getattr(error, "inner_exception", error))
            raise BadFile(f"{file.name}: torch.compile fails on {tuple(image.shape)}: {reason}") from error
    return compiled
