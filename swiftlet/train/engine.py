"""How the steps of a training are computed: where, in which layout and number format, by how many threads."""

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from swiftlet.errors import BadInput
from swiftlet.runtime.machine import machine

GPU_READS = 10
BLOCK = 8  # channels that oneDNN's AVX2 kernels take together

# glibc's mallopt: parameters, and the values that its own adjustment ends at once large blocks have been freed
MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1
NO_LIMIT = 2**31 - 1
SETTLED = {MMAP_MAX: 65_536, MMAP_THRESHOLD: 32 * 2**20, TRIM_THRESHOLD: 64 * 2**20}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Each of these changes the last bits of the result, so a checkpoint goes on with the engine that it came from.

    device: "cpu" or "cuda". channels_last: memory layout of pictures and weights. bfloat16: convolutions and matrix
    products in bfloat16 by autocast; weights, optimizer, BatchNorm statistics and loss stay float32. compiled: forward
    and backward through torch.compile. threads: of PyTorch on the CPU, None for as many as it has been given. Raises
    BadInput.
    """

    device: str = "cpu"
    channels_last: bool = True
    bfloat16: bool = False
    compiled: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise BadInput(f"Engine: device={self.device!r}, needs 'cpu' or 'cuda'")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise BadInput("Engine: device='cuda', and PyTorch finds no NVIDIA GPU here; use 'cpu'")
        if self.threads is not None and self.threads < 1:
            raise BadInput(f"Engine: threads={self.threads}, needs 1 or more, or None")

    def __str__(self) -> str:
        layout = "channels-last" if self.channels_last else "channels-first"
        threads = f", {self.threads} threads" if self.threads else ""
        return f"{self.device}, {self.format} {layout}{', compiled' if self.compiled else ''}{threads}"

    @property
    def format(self) -> str:
        """The number format of the products."""
        return "bfloat16" if self.bfloat16 else "float32"

    @property
    def layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.contiguous_format

    @property
    def generators(self) -> list[int]:
        """The CUDA devices whose generator takes part."""
        return [torch.cuda.current_device()] if self.device == "cuda" else []

    @property
    def read_every(self) -> int:
        """Steps after which their losses are read. A GPU would stand still while Python reads, and after."""
        return GPU_READS if self.device == "cuda" else 1

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    def safe_for(self, model: nn.Module) -> "Engine":
        """Itself; or channels-first, where channels-last would write into memory that is not its own.

        On x86 CPUs without AVX-512, oneDNN's weight gradient of a 1x1 convolution with a stride counts on BLOCK input
        channels in that layout (github.com/uxlfoundation/oneDNN/issues/6035).
        """
        flags = machine().flags
        if self.device != "cpu" or not self.channels_last or "avx2" not in flags or "avx512f" in flags:
            return self
        convs = (layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
        return replace(self, channels_last=False) if any(_overruns(conv) for conv in convs) else self

    def place(self, model: nn.Module) -> nn.Module:
        """The model itself, moved to the device and laid out."""
        return model.to(self.device, memory_format=self.layout)  # type: ignore[call-overload, no-any-return]

    def move(self, tensor: Tensor) -> Tensor:
        """To the device, without waiting for what it is doing."""
        if self.device == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def forward(self, model: nn.Module) -> nn.Module:
        """What to call in its place: itself, or itself compiled, with the same parameters."""
        if not self.compiled:
            return model
        compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
        return compiled

    def autocast(self) -> torch.autocast:
        """For the forward pass."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.bfloat16)

    @contextmanager
    def running(self) -> Iterator[None]:
        """For the whole training: the thread count is set, and memory is kept, see kept_memory."""
        with kept_memory(), self.threaded():
            yield

    @contextmanager
    def threaded(self) -> Iterator[None]:
        """Sets PyTorch's thread count, and puts the caller's back."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)


DEFAULT = Engine()


def _overruns(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.groups == 1 and conv.in_channels < BLOCK


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, freed memory stays with the process for the next allocation of any size; it goes back at the end.

    A step takes and frees the same hundreds of megabytes each time. By default glibc gets each large block from the
    system and returns it, and the system clears every page of it anew: 68,000 page faults in a MobileNetV2 step of 32
    pictures of 96 pixels, and a tenth to a quarter of its time. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:  # or whoever started us has decided
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(MMAP_MAX, 0)
    libc.mallopt(TRIM_THRESHOLD, NO_LIMIT)
    try:
        yield
    finally:
        for parameter, value in SETTLED.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(ctypes.c_size_t(0))
