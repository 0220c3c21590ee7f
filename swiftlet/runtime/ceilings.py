"""What this machine can do at best: multiply-adds per second in each precision, and bytes per second.

Measured in a few seconds with the densest work there is (square matrix products, 3x3 convolutions of 256 channels),
in PyTorch and in ONNX Runtime, and kept in the user's cache, one file per machine. The best of all runs counts: a
ceiling is what nothing exceeds, so what slows a run down is no part of it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from swiftlet.files import write_json
from swiftlet.runtime.base import check_threads
from swiftlet.runtime.cuda import OnGpu
from swiftlet.runtime.machine import BUSY, machine, moment, others
from swiftlet.runtime.torch import thread_count

CASE_SECONDS = 0.15  # for each way to reach the ceiling
SLOW_SECONDS = 0.5  # a case that takes longer is run once: this machine has no such instructions
SIDES = (512, 1024)  # of the square matrices
IMAGE = (256, 28)  # channels and side of the convolution
GPU_SIDES, GPU_IMAGE = (4096, 8192), (32, 256, 56)  # large enough to fill the largest there are; batch, channels, side
GPU_RUNS = 8  # of each case, of which the first does not count
GPU_ADDITIONS = 20  # launched together
NEAR_BYTES = 128 * 1024  # of each of two vectors that are added within the core's own cache
FAR_BYTES = (128 * 2**20, 512 * 2**20)  # copied through memory: twice the cache, within these bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """float32, bfloat16, int8: GFLOP/s (for int8 GOP/s), 2 per multiply-add. memory_gbs, cache_gbs: 10^9 bytes read
    and written per second, through memory and in the cores' own caches; cache_bytes: of the last-level cache, None if
    unknown. far_bytes: of the two buffers copied for memory_gbs. threads: 0 for a GPU, whose cache is the one that all
    of it shares. others: cores that something else kept busy meanwhile, None if unknown. note: what to know about them.
    """

    threads: int
    float32: float
    bfloat16: float
    int8: float
    memory_gbs: float
    cache_gbs: float
    cache_bytes: int | None
    far_bytes: int
    others: float | None
    note: str = ""

    def rate(self, precision: str) -> float | None:
        """GFLOP/s that nothing in this precision (see Program.precision) exceeds; None if that was not measured.

        An engine may compute parts of an int8 or bfloat16 network in float32, so their ceilings are never below that
        one; "int8, the rest in bfloat16" has the highest of the three.
        """
        if precision.startswith("int8 emulated"):
            return self.float32
        named = [getattr(self, name) for name in PRECISIONS if name in precision]
        return max(self.float32, *named) if named else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


PRECISIONS = ("float32", "bfloat16", "int8")
MEASURED = (*PRECISIONS, "memory_gbs", "cache_gbs")


def cache_folder() -> Path:
    """swiftlet's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "swiftlet"


def ceilings(
    threads: int = 1,
    *,
    gpu: bool = False,
    folder: Path | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Ceilings:
    """This machine's ceilings for a number of threads: from the cache, or measured now, in about four seconds.

    gpu: those of the current NVIDIA GPU instead, whatever `threads` is.

    The file's name is a digest of the machine, versions included. A file that is damaged, or was written while the
    machine was busy, is measured again; one that cannot be written is named in `note`. again: the old ones are not
    good enough; the better of both is kept. Raises BadInput on a bad thread count.
    """
    check_threads(threads)
    key = hashlib.sha256(str(machine()).encode()).hexdigest()[:16]
    threads = 0 if gpu else threads
    path = (folder or cache_folder()) / f"ceilings-{key}-{'gpu' if gpu else threads}.json"
    known = _read(path, threads)
    if known is not None and not again and (known.others or 0) <= BUSY:
        return known
    found = measure_gpu(progress=progress) if gpu else measure(threads, progress=progress)
    if known is not None:
        found = replace(found, **{name: max(getattr(found, name), getattr(known, name)) for name in MEASURED})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"machine": str(machine())} | found.to_json())
    except OSError as error:
        return replace(found, note="; ".join(filter(None, (found.note, f"not kept: {path}: {error.strerror}"))))
    return found


def measure_gpu(*, progress: Callable[[int, int], None] | None = None) -> Ceilings:
    """Those of the current NVIDIA GPU, by its own clock; its cache is the one that all of it shares."""
    before, info = moment(), torch.cuda.get_device_properties()
    best = dict.fromkeys(PRECISIONS, 0.0)
    cases = [*_in_torch("cuda", GPU_SIDES, GPU_IMAGE)]
    for done, (precision, work, run) in enumerate(cases):
        best[precision] = max(best[precision], work / _fastest_on_gpu(run) / 1e9)
        if progress is not None:
            progress(done + 1, len(cases))
    far, near = torch.ones(info.total_memory // 64, device="cuda"), torch.ones(info.L2_cache_size // 32, device="cuda")
    copy, sums = torch.empty_like(far), torch.empty_like(near)
    ways = (lambda: copy.copy_(far), lambda: torch.mul(far, 2.0, out=copy))  # the GPU's copier, and a kernel
    copied = max(2 * far.nbytes / _fastest_on_gpu(run) for run in ways)

    def add() -> None:
        for _ in range(GPU_ADDITIONS):  # one alone would be a matter of its launch
            torch.add(near, sums, out=sums)

    added = 3 * GPU_ADDITIONS * near.nbytes / _fastest_on_gpu(add)
    return Ceilings(
        threads=0,
        **best,
        memory_gbs=copied / 1e9,
        cache_gbs=added / 1e9,
        cache_bytes=info.L2_cache_size,
        far_bytes=2 * far.nbytes,
        others=others(before, moment()),
        note="",
    )


def _fastest_on_gpu(run: Callable[[], Any]) -> float:
    """Seconds of the fastest run."""
    with torch.inference_mode():
        gpu, nothing = OnGpu(lambda _: run(), replay=True), np.zeros(1, np.float32)
        _, *times = [gpu.nanoseconds(nothing) for _ in range(GPU_RUNS)]
    return min(times) / 1e9


def _read(path: Path, threads: int) -> Ceilings | None:
    """None for a file that is not there, or holds anything but ceilings."""
    try:
        known = json.loads(path.read_text())
        found = Ceilings(**{field.name: known[field.name] for field in fields(Ceilings)})
        cache = found.cache_bytes is None or found.cache_bytes > 0
        usable = cache and found.threads == threads and all(float(getattr(found, name)) > 0 for name in MEASURED)
        return found if usable and float(found.others or 0) >= 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def measure(threads: int, *, progress: Callable[[int, int], None] | None = None) -> Ceilings:
    """Measure them now, whatever the cache holds."""
    before = moment()
    best = dict.fromkeys(PRECISIONS, 0.0)
    with torch.inference_mode(), thread_count(threads):
        cases = [*_in_torch(), *_in_onnxruntime(threads)]
        for done, (precision, work, run) in enumerate(cases):
            best[precision] = max(best[precision], work / _fastest(run) / 1e9)
            if progress is not None:
                progress(done + 1, len(cases) + 1)
        far_bytes, memory_gbs = _memory()
    cache_gbs = threads * _in_cache()
    if progress is not None:
        progress(len(cases) + 1, len(cases) + 1)
    cache = machine().cache_bytes
    close = cache is not None and far_bytes < 2 * cache
    return Ceilings(
        threads=threads,
        **best,
        memory_gbs=memory_gbs,
        cache_gbs=cache_gbs,
        cache_bytes=cache,
        far_bytes=far_bytes,
        others=others(before, moment()),
        note=f"memory_gbs: {far_bytes / 2**20:.0f} MiB were copied, less than twice the cache" if close else "",
    )


Case = tuple[str, float, Callable[[], Any]]  # precision, operations of one run, the run


def _in_torch(
    device: str = "cpu", sides: Sequence[int] = SIDES, image: tuple[int, int, int] = (1, *IMAGE)
) -> Iterator[Case]:
    generator = torch.Generator(device).manual_seed(0)
    for side in sides:
        work = 2.0 * side**3
        matrix = torch.randn(side, side, generator=generator, device=device)
        for precision in (torch.float32, torch.bfloat16):
            cast = matrix.to(precision)
            yield str(precision).removeprefix("torch."), work, lambda m=cast: torch.mm(m, m)  # type: ignore[misc]
        small = torch.randint(-127, 128, (side, side), dtype=torch.int8, generator=generator, device=device)
        other = small.t() if device == "cuda" else small  # the layout that each of them is fast in
        yield "int8", work, lambda m=small, n=other: torch._int_mm(m, n)  # type: ignore[misc]
    batch, channels, side = image
    picture = torch.randn(batch, channels, side, side, generator=generator, device=device)
    kernel = torch.randn(channels, channels, 3, 3, generator=generator, device=device)
    picture, kernel = (x.contiguous(memory_format=torch.channels_last) for x in (picture, kernel))
    for precision in (torch.float32, torch.bfloat16):
        x, w = picture.to(precision), kernel.to(precision)
        conv = lambda x=x, w=w: torch.conv2d(x, w, None, 1, 1)  # noqa: E731
        yield str(precision).removeprefix("torch."), _conv_work(batch, channels, side), conv


def _in_onnxruntime(threads: int) -> Iterator[Case]:
    """The same convolution in float32, and a product of 8-bit integers."""
    from onnx import TensorProto, helper, numpy_helper

    from swiftlet.runtime.onnxruntime import OnnxRuntime

    random = np.random.default_rng(0)
    channels, side = IMAGE
    rows = SIDES[0]
    kernel = random.standard_normal((channels, channels, 3, 3), np.float32)
    matrix = random.integers(-127, 128, (rows, rows)).astype(np.int8)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    product = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    for precision, node, weight, kinds, shape, work in (
        ("float32", conv, kernel, floats, (1, channels, side, side), _conv_work(1, *IMAGE)),
        ("int8", product, matrix, (TensorProto.UINT8, TensorProto.INT32), (rows, rows), 2.0 * rows**3),
    ):
        graph = helper.make_graph(
            [node],
            "ceiling",
            [helper.make_tensor_value_info("x", kinds[0], shape)],
            [helper.make_tensor_value_info("y", kinds[1], None)],
            [numpy_helper.from_array(weight, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        program = OnnxRuntime().load(model.SerializeToString(), threads)
        x = random.integers(0, 256, shape).astype(program.input_dtype)
        yield precision, work, lambda p=program, x=x: p.run(x)  # type: ignore[misc]


def _conv_work(batch: int, channels: int, side: int) -> float:
    return 2.0 * 9 * batch * (channels * side) ** 2


def _memory() -> tuple[int, float]:
    """(bytes of both buffers, GB/s): the better of copying (read and write) and summing (read)."""
    info = machine()
    size = min(max(2 * (info.cache_bytes or 0), FAR_BYTES[0]), FAR_BYTES[1], (info.memory_bytes or 2**32) // 16)
    source = torch.ones(size // 4)
    target = torch.ones_like(source)
    copied = 2 * source.nbytes / _fastest(lambda: target.copy_(source))
    read = source.nbytes / _fastest(lambda: source.sum())
    return 2 * source.nbytes, max(copied, read) / 1e9


def _in_cache() -> float:
    """GB/s of one core, read and written: an addition reads twice and writes once."""
    terms, sums = np.ones(NEAR_BYTES // 4, np.float32), np.ones(NEAR_BYTES // 4, np.float32)
    return 3 * NEAR_BYTES / _fastest(lambda: np.add(sums, terms, out=sums)) / 1e9


def _fastest(run: Callable[[], Any]) -> float:
    """Seconds of the fastest run."""
    best, end = float("inf"), perf_counter() + CASE_SECONDS
    first = True
    while first or perf_counter() < end:
        start = perf_counter()
        run()
        taken = perf_counter() - start
        best = min(best, taken)
        if first and taken < SLOW_SECONDS:
            end = perf_counter() + CASE_SECONDS  # the first run made buffers and caches ready
        first = False
    return best
