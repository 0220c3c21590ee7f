"""Time networks in short visits, a minute or so apart, and know in which of them the machine was at rest.

The host of a virtual machine slows it by a third for many seconds on end, and nothing inside shows it, but that a known
piece of work takes longer: two small convolutions are timed before and after each visit. A visit counts if they took
what they take at best, within REST; of those that count the median is taken.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic, perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_layers, export_onnx
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Array, Program
from swiftlet.runtime.denormals import flushed_denormals
from swiftlet.runtime.kernel_times import Profile
from swiftlet.runtime.kernels import kernels, optimised
from swiftlet.runtime.race import random_batch
from swiftlet.runtime.tables import Timed
from swiftlet.study.networks import Network

LEAST_VISITS = 3  # of each network, and then more to those with fewer than this many at rest
VISIT_SECONDS = 0.05  # for the whole network; its kernels take about as long
LEAST_RUNS, MOST_PROFILED = 4, 12  # in one visit
REFERENCE_SECONDS = 0.006  # before a visit, and again after it
REST = 1.06  # times the reference at best: 86 % of the visits on a quiet virtual machine (docs/log.md)
BEST = 0.02  # the quantile that is "at best": a single time may be a fluke


class Reference:
    """Work that is always the same, as a clock for the machine's pace."""

    def __init__(self, runtime: str, threads: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 1)).eval()
        self._program = get_runtime(runtime).load(export_layers(layers, (32, 14, 14)), threads)
        self._image = random_batch(self._program, 1)

    def ms(self) -> float:
        """Now."""
        return 1000 * float(np.median(_times(self._program, self._image, REFERENCE_SECONDS)))


class Visit(NamedTuple):
    """ms: of the whole network; us: of each kernel; reference_ms: the worse of before and after."""

    ms: float
    us: list[float]
    reference_ms: float


class Visited:
    """A network that is timed in visits. Between them it lies on the disk, under `path`."""

    def __init__(self, network: Network, precision: str, runtime: str, threads: int, path: Path) -> None:
        file = network_file(network, precision)
        graph = optimised(file, threads)
        self.family, self.precision, self.kernels = network.family, precision, kernels(graph)
        self._runtime, self._threads = runtime, threads
        self._file, self._graph = path.with_suffix(".onnx"), path.with_suffix(".optimised")
        self._file.write_bytes(file)
        self._graph.write_bytes(graph.SerializeToString())
        self.visits: list[Visit] = []

    def visit(self, reference: Reference) -> None:
        """The whole, then kernel by kernel."""
        program = get_runtime(self._runtime).load(self._file, self._threads)
        profile = Profile(self._graph.read_bytes(), self._threads)
        image = random_batch(program, 1)
        with flushed_denormals():
            before = reference.ms()
            program.run(image)
            times = _times(program, image, VISIT_SECONDS)
            profile.run(image, min(MOST_PROFILED, max(LEAST_RUNS, len(times) // 2)))
            after = reference.ms()
        program.close()
        us = profile.close()
        self.visits.append(
            Visit(1000 * float(np.median(times)), [us[kernel.name] for kernel in self.kernels], max(before, after))
        )

    def at_rest(self, rest_ms: float) -> list[Visit]:
        return [visit for visit in self.visits if visit.reference_ms <= REST * rest_ms]

    def timed(self, rest_ms: float) -> Timed:
        """After the last visit: the median of those at rest; if there was none, the calmest one, and it says so."""
        quiet = self.at_rest(rest_ms)
        used = quiet or [min(self.visits, key=lambda visit: visit.reference_ms)]
        us = np.median([visit.us for visit in used], axis=0).tolist()
        ms = float(np.median([visit.ms for visit in used]))
        return Timed(self.precision, self.kernels, tuple(us), ms, disturbed=not quiet)


def visit_all(
    networks: Sequence[Visited], reference: Reference, until: float, progress: Progress | None = None
) -> float:
    """In rounds, in another order each time: three over all networks, then over those that met the machine at rest
    less than three times, then over all again, until the time is up (on time.monotonic).

    Returns what the reference takes at best.
    """
    order, started = Random(0), monotonic()
    for done in count():
        due = networks
        if done >= LEAST_VISITS:
            best = _best(networks)
            due = [network for network in networks if len(network.at_rest(best)) < LEAST_VISITS] or networks
        for network in order.sample(due, len(due)):
            if done >= LEAST_VISITS and monotonic() > until:
                return _best(networks)
            if progress is not None:
                left = max(1, int(until - started))
                progress(f"timing networks, round {done + 1}", min(left, int(monotonic() - started)), left)
            network.visit(reference)
    raise AssertionError("count() does not end")


def _best(networks: Sequence[Visited]) -> float:
    return float(np.quantile([visit.reference_ms for network in networks for visit in network.visits], BEST))


def network_file(network: Network, precision: str) -> bytes:
    """The network as it would be delivered: folded, and quantized if it is to be int8."""
    plain, _ = deployed(network.module)
    contract = InputContract(side=network.side)
    if precision == "int8":
        noise = np.random.default_rng(0).integers(0, 256, (1, network.side, network.side, 3), np.uint8)
        scale, zero_point = contract.grid or (None, None)
        images = [torch.from_numpy(contract.normalise(noise))]
        plain, _ = quantize(plain, images, input_scale=scale, input_zero_point=zero_point)
    return export_onnx(plain, contract)


def _times(program: Program, image: Array, seconds: float) -> list[float]:
    """Seconds of each run but the first."""
    times: list[float] = []
    end = perf_counter() + seconds
    while len(times) < LEAST_RUNS or perf_counter() < end:
        start = perf_counter()
        program.run(image)
        times.append(perf_counter() - start)
    return times[1:]
