"""swiftlet study tables: time the kernels of a few hundred random networks, so that latency can be predicted."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter

import numpy as np
import torch

from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.export.onnx import contract_grid, export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import check_usable
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.kernel_times import Profile
from swiftlet.runtime.kernels import kernels, optimised
from swiftlet.runtime.machine import BUSY, moment, others
from swiftlet.runtime.race import random_batch
from swiftlet.runtime.tables import FEWEST, Tables, Timed, fitted, place_of, tables_path
from swiftlet.study.networks import Network, families, random_network

Progress = Callable[[str, int, int], None]

HELD_OUT = 1_000_000  # networks from this number on are never in the tables: they judge them
PRECISIONS = ("float32", "float32", "int8")  # in turn
LEAST_VISITS = 3  # of each network
VISIT_SECONDS = 0.05  # for the whole network; its kernels take about as long
LEAST_RUNS, MOST_PROFILED = 4, 12  # in one visit
BUILDING_SHARE = 0.32  # of the time
MINUTES, QUICK_MINUTES = 12.0, 1.0  # fewer networks make worse curves, and the interval says so
FITTING_SHARE = 0.08  # of the time goes to the curves


def make_tables(
    *, runtime: str = "onnxruntime", threads: int = 1, minutes: float = MINUTES, progress: Progress | None = None
) -> tuple[Tables, Path]:
    """Measure for about that long, fit, and write them to the user's cache: (the tables, where they are).

    A machine so slow that this is not enough for any tables gets the time that it needs.

    Raises BadInput for a runtime that does not tell its kernels, MissingExtra.
    """
    if not minutes > 0:
        raise BadInput(f"minutes={minutes} must be above 0")
    place, whole = place_of(runtime, threads), int(60 * minutes)
    check_usable(get_runtime(runtime), threads)
    started, seconds = monotonic(), 60 * minutes
    with TemporaryDirectory(prefix="swiftlet-") as folder:
        together: list[Visited] = []
        for i in count():
            passed = monotonic() - started
            if passed > BUILDING_SHARE * seconds and sum(v.precision == PRECISIONS[0] for v in together) >= FEWEST:
                break
            precision = PRECISIONS[(i + i // len(families())) % len(PRECISIONS)]
            network = random_network(i)
            if progress is not None:
                progress(f"building networks, {network.family} as {precision}", int(passed), whole)
            together.append(Visited(network, precision, runtime, threads, Path(folder) / str(i)))
        visit_all(together, started + (1 - FITTING_SHARE) * seconds, progress)
        networks = [network.timed() for network in together]
    if progress is not None:
        progress(f"fitting {len(networks)} networks", int(seconds), whole)
    tables, path = fitted(place, networks), tables_path(runtime, threads)
    tables.save(path)
    return tables, path


def network_file(network: Network, precision: str) -> bytes:
    """The network as it would be delivered: folded, and quantized if it is to be int8."""
    plain, _ = deployed(network.module)
    contract = InputContract(side=network.side)
    if precision == "int8":
        noise = np.random.default_rng(0).integers(0, 256, (1, network.side, network.side, 3), np.uint8)
        scale, zero_point = contract_grid(contract) or (None, None)
        images = [torch.from_numpy(contract.normalise(noise))]
        plain, _ = quantize(plain, images, input_scale=scale, input_zero_point=zero_point)
    return export_onnx(plain, contract)


class Visited:
    """A network that is timed in short visits, a minute or so apart, so that one at least finds the machine at rest.

    Between visits it lies on the disk, under `path`.
    """

    def __init__(self, network: Network, precision: str, runtime: str, threads: int, path: Path) -> None:
        file = network_file(network, precision)
        graph = optimised(file, threads)
        self.family, self.precision, self.kernels = network.family, precision, kernels(graph)
        self._runtime, self._threads = runtime, threads
        self._file, self._graph = path.with_suffix(".onnx"), path.with_suffix(".optimised")
        self._file.write_bytes(file)
        self._graph.write_bytes(graph.SerializeToString())
        self.visits_ms: list[float] = []
        self._visits_us: list[list[float]] = []
        self._busy = 0

    def visit(self) -> None:
        """The whole, then kernel by kernel."""
        program = get_runtime(self._runtime).load(self._file, self._threads)
        profile = Profile(self._graph.read_bytes(), self._threads)
        image = random_batch(program, 1)
        before = moment()
        with flushed_denormals():
            program.run(image)
            end = perf_counter() + VISIT_SECONDS
            times: list[float] = []
            while len(times) < LEAST_RUNS or perf_counter() < end:
                start = perf_counter()
                program.run(image)
                times.append(perf_counter() - start)
            profile.run(image, min(MOST_PROFILED, max(LEAST_RUNS, len(times) // 2)))
        self._busy += (others(before, moment()) or 0.0) > BUSY
        program.close()
        us = profile.close()
        self.visits_ms.append(1000 * float(np.median(times[1:])))
        self._visits_us.append([us[kernel.name] for kernel in self.kernels])

    def timed(self) -> Timed:
        """After the last visit: of the whole and of each kernel, the fastest one."""
        us = np.min(self._visits_us, axis=0).tolist()
        disturbed = 2 * self._busy > len(self.visits_ms)
        return Timed(self.precision, self.kernels, tuple(us), min(self.visits_ms), disturbed)


def visit_all(networks: Sequence[Visited], until: float, progress: Progress | None = None) -> None:
    """In rounds, in another order each time, as many as there is time for, but three at least."""
    order, started = Random(0), monotonic()
    for done in count():
        if done >= LEAST_VISITS and monotonic() + (monotonic() - started) / done > until:
            break
        for network in order.sample(networks, len(networks)):
            if progress is not None:
                left = max(1, int(until - started))
                progress(f"timing networks, round {done + 1}", min(left, int(monotonic() - started)), left)
            network.visit()
