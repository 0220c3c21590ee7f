"""Milliseconds per operation, from the runtimes that tell: ONNX Runtime, OpenVINO, PyTorch node by node.

A profiler slows down what it measures, and small operations most, so the sum is more than a run's latency. Names are
the runtime's own; swiftlet/timing/layers.py joins them with the layers of the file.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np

from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.race import random_batch

RUNS = 20
WARM_RUNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation as the runtime executed it: its name and kind there, and the median milliseconds of a run."""

    name: str
    op: str
    ms: float


def operations(file: Path | bytes, runtime: str, threads: int = 1, batch: int = 1) -> tuple[Operation, ...]:
    """In the order of execution, medians over 20 runs on random input.

    Raises BadInput for a runtime that does not tell, BadFile, MissingExtra.
    """
    if runtime not in PROFILERS:
        raise BadInput(f"{runtime} gives no times per layer; those that do: {', '.join(PROFILERS)}")
    chosen = get_runtime(runtime)
    check_usable(chosen, threads)
    program = chosen.load(file, threads)
    try:
        image = random_batch(program, batch)
        with flushed_denormals():
            runs = PROFILERS[runtime](file, program, threads, image)
    finally:
        program.close()
    return tuple(_medians(runs))


Run = list[tuple[str, str, float]]  # name, kind, milliseconds, in the order of execution


def _medians(runs: list[Run]) -> Iterable[Operation]:
    """Of the runs after the warm-up; an operation is known by its name and how often it came before in the run."""
    times: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for run in runs[WARM_RUNS:]:
        seen: dict[str, int] = defaultdict(int)
        for name, op, ms in run:
            times[name, op, seen[name]].append(ms)
            seen[name] += 1
    return [Operation(name=name, op=op, ms=float(np.median(ms))) for (name, op, _), ms in times.items()]


def _onnxruntime(file: Path | bytes, program: Program, threads: int, image: Array) -> list[Run]:
    """From the trace that a session with enable_profiling writes when it ends."""
    import onnxruntime as ort

    from swiftlet.cost.screen import screen_onnx
    from swiftlet.runtime.onnxruntime import session_options

    options = session_options(threads)
    options.enable_profiling = True
    with TemporaryDirectory(prefix="swiftlet-") as folder:
        options.profile_file_prefix = str(Path(folder) / "trace")
        try:
            session = ort.InferenceSession(screen_onnx(file).data, options, providers=["CPUExecutionProvider"])
            for _ in range(WARM_RUNS + RUNS):
                session.run(program.output_names, {session.get_inputs()[0].name: image})
            trace = json.loads(Path(session.end_profiling()).read_text())
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"{program.name}: ONNX Runtime cannot profile it: {first_line(error)}") from error
    runs: list[Run] = [[]]
    for event in sorted(trace, key=lambda event: event.get("ts", 0)):
        if event.get("name") == "model_run":
            runs.append([])  # the event of a whole run begins before those of its nodes
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            runs[-1].append((name, event["args"]["op_name"], event["dur"] / 1e3))
    return [run for run in runs if run]


def _openvino(file: Path | bytes, program: Program, threads: int, image: Array) -> list[Run]:
    """The same network compiled with performance counters. What was fused into another operation is left out."""
    from swiftlet.cost.screen import screen_onnx
    from swiftlet.runtime.openvino import import_openvino, settings

    options = settings(threads, "bf16" if "bfloat16" in program.precision else "f32") | {"PERF_COUNT": "YES"}
    core = import_openvino().Core()
    runs: list[Run] = []
    try:
        model = core.read_model(screen_onnx(file).data, b"")
        request = core.compile_model(model, "CPU", options).create_infer_request()
        for _ in range(WARM_RUNS + RUNS):
            request.infer([image])
            done = [info for info in request.profiling_info if info.status == info.Status.EXECUTED]
            runs.append([(i.node_name, i.node_type, i.real_time.total_seconds() * 1e3) for i in done])
    except RuntimeError as error:
        raise BadFile(f"{program.name}: OpenVINO cannot profile it: {first_line(error)}") from error
    return runs


def _torch(file: Path | bytes, program: Program, threads: int, image: Array) -> list[Run]:
    """The loop over nodes in torch_graph.py, with a clock around each."""
    graph: Any = program._graph  # type: ignore[attr-defined]
    step: Callable[..., Any] = graph._step
    runs: list[Run] = []

    def timed(node: Any, values: Any) -> Any:
        start = perf_counter()
        result = step(node, values)
        runs[-1].append((node.label.partition(" ")[2].strip("'\""), node.kind, (perf_counter() - start) * 1e3))
        return result

    graph._step = timed
    for _ in range(WARM_RUNS + RUNS):
        runs.append([])
        program.run(image)
    return runs


PROFILERS: dict[str, Callable[[Path | bytes, Program, int, Array], list[Run]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": _openvino,
    "torch": _torch,
    "torch-channels-last": _torch,
    "torch-bf16": _torch,
}
