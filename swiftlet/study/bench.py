"""Time the cases of a study: every case on every runtime, interleaved in one race."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_model
from swiftlet.cost.tally import Count
from swiftlet.errors import BadFile, BadInput, MissingExtra
from swiftlet.export.onnx import export_layers
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Array, Clock, Program
from swiftlet.runtime.cuda import OnGpu
from swiftlet.runtime.race import Contestant, Measurement, compare, race
from swiftlet.runtime.torch import thread_count

Precision = Literal["float32", "int8"]
TRAINING = ("torch", "torch-cuda", "torch-cuda-graph")  # the runtimes beside which the training step runs too


class Case(NamedTuple):
    """A part of a network to be timed. input: (C, H, W) of one picture."""

    label: str
    module: nn.Module
    input: tuple[int, int, int]
    precision: Precision = "float32"


class Timing(NamedTuple):
    """Which case on which runtime. step is "forward", or "train" for forward and backward in PyTorch."""

    label: str
    runtime: str
    step: str = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """How a study times. seconds: for each case on each runtime; quick: a coarse grid, to see that all works."""

    runtimes: tuple[str, ...] = ("onnxruntime", "torch")
    threads: int = 1
    batch: int = 1
    seconds: float = 0.3
    seed: int = 0
    quick: bool = False
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if not self.runtimes:
            raise BadInput("a study needs at least one runtime")
        if not self.seconds > 0 or self.batch < 1:
            raise BadInput(f"study: seconds={self.seconds:g} must be above 0 and batch={self.batch} 1 or more")
        for name in self.runtimes:
            if (missing := get_runtime(name).missing()) is not None:
                raise MissingExtra(f"{name} cannot be used: {missing}")

    def times(
        self,
        cases: Sequence[Case],
        *,
        train: bool = False,
        programs: Mapping[Timing, Program] | None = None,
        what: str = "racing",
    ) -> dict[Timing, Measurement]:
        """Race all cases on all runtimes against each other.

        `train` adds the training step of each case wherever PyTorch is among the runtimes; `programs` are whatever
        else shall run in the same race. An int8 case runs where it is computed in integers, and nowhere else. Raises
        BadInput if a runtime cannot run a case.
        """
        labels = [case.label for case in cases]
        if len(set(labels)) != len(labels):
            raise BadInput(f"two cases have one label: {sorted(labels)}")
        racing = dict(programs or {})
        for case in cases:
            file = self.file(case)
            for name in self.runtimes:
                if case.precision == "int8":
                    program = self.in_integers(file, name)
                    if program is None:
                        continue
                else:
                    program = get_runtime(name).load(file, self.threads)
                racing[Timing(case.label, name)] = program
                if train and name in TRAINING:
                    racing[Timing(case.label, name, "train")] = TrainStep(case, self.threads, name)

        def show(done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(f"{what}, {len(racing)} programs", done, total)

        if not racing:
            return {}
        contestants = [
            Contestant(" ".join(timing), program, timing.runtime, self.threads) for timing, program in racing.items()
        ]
        seconds = self.seconds * len(contestants)
        try:
            found = race(contestants, seconds=seconds, batch=self.batch, seed=self.seed, progress=show)
        finally:
            for program in racing.values():
                program.close()
        return dict(zip(racing, found, strict=True))

    def in_integers(self, file: bytes, runtime: str) -> Program | None:
        """An int8 file as a program, unless the runtime refuses it or emulates it in floats."""
        try:
            program = get_runtime(runtime).load(file, self.threads)
        except (BadInput, BadFile):
            return None
        if program.precision.startswith("int8") and "emulated" not in program.precision:
            return program
        program.close()
        return None

    def place(self) -> str:
        """How it was measured, for the source of a table."""
        return f"{self.threads} thread{'s' if self.threads > 1 else ''}, batch {self.batch}"

    def file(self, case: Case) -> bytes:
        """The case as an ONNX file: BatchNorm folded, quantized if it asks for that."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            plain, _ = deployed(case.module.eval())
            if case.precision == "int8":
                plain, _ = quantize(plain, [torch.randn(4, *case.input)])
        return export_layers(plain, case.input)


def default_runtimes() -> tuple[str, ...]:
    """ONNX Runtime and PyTorch on the CPU, and on a GPU where there is one: its own time, without Python's launches."""
    gpu = [name for name in ("torch-cuda-graph", "onnxruntime-cuda") if get_runtime(name).missing() is None]
    return ("onnxruntime", "torch", *gpu)


def ratio(times: Mapping[Timing, Measurement], slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """How many times longer `slow` takes, with its 95 % interval."""
    return compare(times[fast].rounds_ms, times[slow].rounds_ms)


def counted(case: Case) -> Count:
    """MACs, parameters and memory traffic of a case, as its module stands, in float32."""
    return count_model(case.module, case.input)


class TrainStep(Program):
    """Forward and backward of a module in training mode, where a runtime of PyTorch's runs: the work of a step without
    its optimizer."""

    def __init__(self, case: Case, threads: int, runtime: str) -> None:
        self.name, self.input_shape, self.input_dtype = case.label, (None, *case.input), np.dtype(np.float32)
        self.output_names, self.precision = ("gradients",), "float32"
        device = "cuda" if "cuda" in runtime else "cpu"
        self._module, self._threads = copy.deepcopy(case.module).train().to(device), threads
        self._gpu = OnGpu(self._step, replay=runtime.endswith("graph")) if device == "cuda" else None

    def execute(self, batch: Array) -> list[Array]:
        """An empty list: the gradients stay in the module."""
        if self._gpu is not None:
            self._gpu(batch)
            torch.cuda.synchronize()
        else:
            with thread_count(self._threads):
                self._step(torch.from_numpy(batch))
        return []

    def nanoseconds(self, batch: Array, clock: Clock) -> int:
        """On a GPU by its own events."""
        return super().nanoseconds(batch, clock) if self._gpu is None else self._gpu.nanoseconds(batch)

    def _step(self, image: torch.Tensor) -> None:
        self._module.zero_grad(set_to_none=True)
        with torch.enable_grad():
            image = image.detach().requires_grad_()  # a layer inside a network hands its gradient on
            self._module(image).sum().backward()
