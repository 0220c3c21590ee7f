"""PyTorch on an NVIDIA GPU: channels-last, in true float32, launched kernel by kernel or as one CUDA graph."""

from pathlib import Path

import torch
from torch import Tensor

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Clock, Program, check_usable, first_line
from swiftlet.runtime.cuda import OnGpu
from swiftlet.runtime.onnx_io import FileProgram, Signature, float_signature
from swiftlet.runtime.torch import to_arrays
from swiftlet.runtime.torch_graph import Graph


class TorchCuda:
    """The current GPU, as PyTorch is used by default: each operation is launched by Python, which small networks wait
    for. A run copies the batch there and the outputs back; a race asks the GPU, and leaves the copies out. `threads`
    has no effect."""

    name = "torch-cuda"
    replay = False

    def missing(self) -> str | None:
        if torch.cuda.is_available():
            return None
        return f"an NVIDIA GPU, and a PyTorch built for it (pytorch.org/get-started); this one is {torch.__version__}"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the screen refuses the file, or the GPU has not the memory, BadInput on a quantized one."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = float_signature(file, self.name)
        try:
            return _OnGpu(file.name, io, Graph(file).channels_last().to("cuda"), replay=self.replay)
        except RuntimeError as error:  # out of memory, or a driver that does not fit
            raise BadFile(f"{file.name}: cannot be loaded on the GPU: {first_line(error)}") from error


class TorchCudaGraph(TorchCuda):
    """The same kernels, captured at the first run of each batch size and launched together: what the GPU takes."""

    name = "torch-cuda-graph"
    replay = True


class _OnGpu(FileProgram):
    def __init__(self, name: str, io: Signature, graph: Graph, *, replay: bool) -> None:
        super().__init__(name, io, io.precision)

        def infer(image: Tensor) -> tuple[Tensor, ...]:
            with torch.inference_mode():
                outputs: tuple[Tensor, ...] = graph(image)
                return outputs

        self._gpu: OnGpu | None = OnGpu(infer, replay=replay)

    def execute(self, batch: Array) -> list[Array]:
        gpu = self._open()
        try:
            return to_arrays(tuple(output.cpu() for output in gpu(batch)))  # waits for the GPU
        except RuntimeError as error:
            raise BadFile(f"{self.name}: fails on the GPU with {batch.shape}: {first_line(error)}") from error

    def nanoseconds(self, batch: Array, clock: Clock) -> int:
        """By events of the GPU, whatever `clock` is."""
        gpu = self._open()
        try:
            return gpu.nanoseconds(batch)
        except RuntimeError as error:
            raise BadFile(f"{self.name}: fails on the GPU with {batch.shape}: {first_line(error)}") from error

    def close(self) -> None:
        self._gpu = None

    def _open(self) -> OnGpu:
        if self._gpu is None:
            raise self.closed()
        return self._gpu
