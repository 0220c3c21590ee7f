"""Work on an NVIDIA GPU, and how long it takes by the GPU's own clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from swiftlet.runtime.base import Array
from swiftlet.runtime.torch_graph import to_tensor

Work = Callable[[Tensor], Any]
WARM_UP = 3  # runs before a capture: libraries choose their algorithms and take their memory in them


class _Captured(NamedTuple):
    image: Tensor  # where the kernels read
    graph: torch.cuda.CUDAGraph
    outputs: Any  # where they write


class OnGpu:
    """A function of one tensor on the current GPU, in true float32, with cuDNN's fastest algorithm for each shape.

    replay: its kernels are captured once for each input shape and launched together (a CUDA graph), so that the GPU
    never waits for Python. Otherwise PyTorch launches one after the other. Raises RuntimeError where PyTorch does.
    """

    def __init__(self, work: Work, *, replay: bool) -> None:
        self._work, self._replay = work, replay
        self._captured: _Captured | None = None

    def __call__(self, batch: Array) -> Any:
        """What the function returns, on the GPU; the kernels may still run, and the next call may overwrite it."""
        with exact():
            launch, captured = self._prepared(batch)
            result = launch()
        return captured.outputs if captured else result

    def nanoseconds(self, batch: Array) -> int:
        """From the first launch to the end of the last kernel; the batch is on the GPU before that."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        with exact():
            launch, _ = self._prepared(batch)
            torch.cuda.synchronize()
            start.record()
            launch()
            end.record()
            end.synchronize()
        milliseconds: float = start.elapsed_time(end)
        return max(1, round(1e6 * milliseconds))

    def _prepared(self, batch: Array) -> tuple[Callable[[], Any], _Captured | None]:
        image = to_tensor(batch).to("cuda")
        if not self._replay:
            return lambda: self._work(image), None
        if self._captured is None or self._captured.image.shape != image.shape:
            self._captured = None  # its memory goes back first
            self._captured = _capture(self._work, image)
        self._captured.image.copy_(image)
        return self._captured.graph.replay, self._captured


def _capture(work: Work, image: Tensor) -> _Captured:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # as PyTorch asks for before a capture
        for _ in range(WARM_UP):
            work(image)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = work(image)
    return _Captured(image, graph, outputs)


@contextmanager
def exact() -> Iterator[None]:
    """float32 without TF32, PyTorch's default for convolutions, which keeps 10 bits of 23."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
