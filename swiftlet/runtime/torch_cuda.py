"""PyTorch on an NVIDIA GPU: eager, channels-last, in true float32."""

from pathlib import Path

import torch

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.onnx_io import FileProgram, Signature, float_signature
from swiftlet.runtime.torch import to_arrays
from swiftlet.runtime.torch_graph import Graph, to_tensor


class TorchCuda:
    """The current GPU. A run copies the batch there and the outputs back, and returns when they have arrived: its time
    is all that. `threads` has no effect. TF32, which PyTorch uses by default, is off: it keeps 10 bits of 23."""

    name = "torch-cuda"

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
            return _OnGpu(file.name, io, Graph(file).channels_last().to("cuda"))
        except RuntimeError as error:  # out of memory, or a driver that does not fit
            raise BadFile(f"{file.name}: cannot be loaded on the GPU: {first_line(error)}") from error


class _OnGpu(FileProgram):
    def __init__(self, name: str, io: Signature, graph: Graph) -> None:
        super().__init__(name, io, io.precision)
        self._graph: Graph | None = graph

    def execute(self, batch: Array) -> list[Array]:
        if self._graph is None:
            raise self.closed()
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
                outputs = self._graph(to_tensor(batch).to("cuda"))
                return to_arrays(tuple(output.cpu() for output in outputs))  # waits for the GPU
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    def close(self) -> None:
        self._graph = None
