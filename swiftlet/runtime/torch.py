"""PyTorch as a runtime: it executes the graph of an ONNX file node by node, with its own kernels.

A second opinion on every file that ONNX Runtime executes, and the runtime for those who deploy PyTorch. `torch` also
computes quantized files, in float32 between their quantizers: its results agree within one step of the output's scale,
its times say nothing about int8, and `precision` says so. The other kinds refuse them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from swiftlet.runtime.base import Array, Program, check_usable
from swiftlet.runtime.cpu import no_bfloat16
from swiftlet.runtime.onnx_io import FileProgram, Signature, float_signature, signature
from swiftlet.runtime.torch_graph import Graph, to_tensor


class TorchRuntime:
    """Eager PyTorch on the CPU as most people run it: maps in planes (NCHW), float32."""

    name = "torch"

    def missing(self) -> str | None:
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the screen refuses the file, or it has an operator that is not translated."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = signature(file)
        precision = "int8 emulated in float32" if io.precision == "int8" else io.precision
        return Eager(file.name, io, Graph(file).contiguous(), threads, precision)


class TorchChannelsLast:
    """The same with maps in channels-last order (NHWC), in which most convolutions are faster."""

    name = "torch-channels-last"

    def missing(self) -> str | None:
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile like TorchRuntime, and BadInput on a quantized file."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = float_signature(file, self.name)
        return Eager(file.name, io, Graph(file).channels_last(), threads, io.precision)


class TorchBfloat16:
    """Channels-last, with convolutions and products in bfloat16 (autocast; their weights are converted once)."""

    name = "torch-bf16"

    def missing(self) -> str | None:
        return no_bfloat16()

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile like TorchRuntime, and BadInput on a quantized file."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = float_signature(file, self.name)
        graph = Graph(file).half_weights(torch.bfloat16).channels_last()
        return Eager(file.name, io, graph, threads, "bfloat16")


class Eager(FileProgram):
    """A Graph, or what was made of one, called in this process."""

    def __init__(self, name: str, io: Signature, graph: Graph, threads: int, precision: str) -> None:
        super().__init__(name, io, precision)
        self._graph: Graph | None = graph
        self._threads = threads

    def execute(self, batch: Array) -> list[Array]:
        if self._graph is None:
            raise self.closed()
        half = torch.autocast("cpu", torch.bfloat16) if self.precision == "bfloat16" else nullcontext()
        with torch.inference_mode(), thread_count(self._threads), half:
            return to_arrays(self._graph(to_tensor(batch)))

    def close(self) -> None:
        self._graph = None


def to_arrays(outputs: tuple[Tensor, ...]) -> list[Array]:
    """bfloat16, which NumPy has not, becomes float32."""
    return [np.ascontiguousarray((x.float() if x.dtype == torch.bfloat16 else x).numpy()) for x in outputs]


@contextmanager
def thread_count(threads: int) -> Iterator[None]:
    """PyTorch's thread count is global: set it around a run, and put the caller's back."""
    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
