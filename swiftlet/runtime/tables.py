"""Tables of measured kernel times for one machine, runtime, version and number of threads, kept in the user's cache.

`swiftlet study tables` fills them from a few hundred random networks: each is profiled kernel by kernel, and timed
without the profiler. A curve per kind of kernel gives the parts; a correction per precision leads from their sum to the
time of the whole, because the profiler's clock costs time itself. How far off that is, is found on networks that the
curves have not seen.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swiftlet.errors import BadFile, BadInput
from swiftlet.files import write_json
from swiftlet.runtime.base import Array, check_threads
from swiftlet.runtime.ceilings import cache_folder
from swiftlet.runtime.correct import Correction, Parts, correct
from swiftlet.runtime.interpolate import FIXED, WORK, Curve, fit, numbers
from swiftlet.runtime.kernels import Kernel
from swiftlet.runtime.machine import machine

FORMAT = 2  # 1 had no rest_ms
RUNTIMES = ("onnxruntime",)  # those that tell which kernels they run
FOLDS = 5
FEWEST = 3 * FOLDS  # networks of one precision below which nothing can be said of new ones


class Timed(NamedTuple):
    """One network: its kernels with the profiler's microseconds, its milliseconds without the profiler, and whether
    the machine was never at rest meanwhile."""

    precision: str
    kernels: tuple[Kernel, ...]
    us: tuple[float, ...]
    ms: float
    disturbed: bool = False


@dataclass(frozen=True, eq=False)
class Tables:
    """curves: by kind of kernel; corrections, and how many networks they come from: by precision; disturbed: how many
    of all never met the machine at rest; rest_ms: what the reference of study/visits.py takes then; place: the machine,
    runtime, version and threads."""

    place: str
    curves: dict[str, Curve]
    corrections: dict[str, Correction]
    networks: dict[str, int]
    disturbed: int
    rest_ms: float

    def parts(self, kernels: Sequence[Kernel]) -> Parts:
        """Microseconds by kind, as the profiler would show them; kinds without a curve are left out and named."""
        return _parts(self.curves, kernels)

    def to_json(self) -> dict[str, Any]:
        """What they cover, without the numbers."""
        points = {kind: len(curve.us) for kind, curve in self.curves.items()}
        corrections = {precision: found.to_json() for precision, found in self.corrections.items()}
        counts = {"networks": self.networks, "disturbed": self.disturbed, "rest_ms": self.rest_ms, "points": points}
        return {"place": self.place, **counts, "corrections": corrections}

    def save(self, path: Path) -> None:
        """Write atomically; folders are made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        curves = {
            kind: {
                "points": [[_short(value) for value in row] for row in curve.points.tolist()],
                "us": [_short(value) for value in curve.us.tolist()],
                "price": curve.price.tolist(),
                "shape": curve.shape.tolist(),
            }
            for kind, curve in self.curves.items()
        }
        corrections = {precision: found.to_json() for precision, found in self.corrections.items()}
        write_json(
            path,
            {
                "format": FORMAT,
                "place": self.place,
                "networks": self.networks,
                "disturbed": self.disturbed,
                "rest_ms": self.rest_ms,
                "curves": curves,
                "corrections": corrections,
            },
        )


def fitted(place: str, networks: Sequence[Timed], rest_ms: float) -> Tables:
    """The tables that follow from measured networks.

    Raises BadInput if no precision has at least 15 networks, or a network has other than one time per kernel.
    """
    for network in networks:
        if len(network.kernels) != len(network.us) or not network.ms > 0:
            raise BadInput(f"{len(network.us)} times for {len(network.kernels)} kernels, {network.ms} ms in all")
    by_precision: dict[str, list[int]] = defaultdict(list)
    for i, network in enumerate(networks):
        by_precision[network.precision].append(i)
    enough = {precision: found for precision, found in by_precision.items() if len(found) >= FEWEST}
    if not enough:
        raise BadInput(f"{len(networks)} networks are too few for tables; measure {FEWEST} or more of one precision")
    fold = np.empty(len(networks), int)
    for found in by_precision.values():
        fold[found] = np.random.default_rng(0).permutation(len(found)) % FOLDS
    measured = _by_kind(networks, fold)
    curves = {kind: fit(points, us) for kind, (points, us, _) in measured.items()}
    unseen: list[Parts] = [_parts({}, ())] * len(networks)
    for f in range(FOLDS):
        rest = {
            kind: curves[kind].through(points[folds != f], us[folds != f])
            for kind, (points, us, folds) in measured.items()
            if (folds != f).any()
        }
        for i in np.flatnonzero(fold == f).tolist():
            unseen[i] = _parts(rest, networks[i].kernels)
    corrections = {
        precision: correct([unseen[i] for i in found], np.array([networks[i].ms for i in found]), fold[found])
        for precision, found in enough.items()
    }
    counts = {precision: len(found) for precision, found in enough.items()}
    return Tables(place, curves, corrections, counts, sum(network.disturbed for network in networks), rest_ms)


def _by_kind(networks: Sequence[Timed], fold: Array) -> dict[str, tuple[Array, Array, Array]]:
    """What was measured of each kind of kernel: its numbers, its microseconds, and the fold of the network."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    rest: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for network, f in zip(networks, fold.tolist(), strict=True):
        for kernel, us in zip(network.kernels, network.us, strict=True):
            rows[kernel.kind].append(numbers(kernel))
            rest[kernel.kind].append((us, f))
    found = {}
    for kind in sorted(rows):
        times, folds = zip(*rest[kind], strict=True)
        found[kind] = (np.array(rows[kind], float), np.array(times), np.array(folds))
    return found


def _parts(curves: dict[str, Curve], kernels: Sequence[Kernel]) -> Parts:
    groups: dict[str, list[Kernel]] = defaultdict(list)
    unknown: dict[str, int] = {}
    for kernel in kernels:
        if kernel.kind in curves and len(curves[kernel.kind].points[0]) == FIXED + len(kernel.sizes):
            groups[kernel.kind].append(kernel)
        else:
            unknown[kernel.kind] = unknown.get(kernel.kind, 0) + 1
    us, variance, counts = {}, {}, {}
    for kind, group in groups.items():
        each, log_variance = curves[kind].predict(group)
        us[kind], counts[kind] = float(each.sum()), len(group)
        variance[kind] = float((each**2 * log_variance).sum())
    return Parts(us, variance, counts, unknown)


def _short(value: float) -> float | int:
    """Without digits that mean nothing, for the file's size."""
    return int(value) if float(value).is_integer() else float(f"{value:.5g}")


# --- the cache ----------------------------------------------------------------------------------------------------


def place_of(runtime: str, threads: int) -> str:
    """Machine, runtime, version and threads in one line. Raises BadInput for a runtime without them."""
    check_threads(threads)
    if runtime not in RUNTIMES:
        raise BadInput(
            f"no latency can be predicted for {runtime!r}: it does not tell which kernels it runs; "
            f"those that do: {', '.join(RUNTIMES)}. Time the file instead"
        )
    try:
        release = version(runtime)
    except PackageNotFoundError:
        release = "not installed"
    here = machine()
    flags, memory = " ".join(here.flags), f"cache {here.cache_bytes or 'unknown'}"
    return f"{here.cpu}, {here.cores} cores, {flags}, {memory}; {runtime} {release}; threads {threads}"


def tables_path(runtime: str = "onnxruntime", threads: int = 1, *, folder: Path | None = None) -> Path:
    """Where the tables of this machine are kept, in $XDG_CACHE_HOME/swiftlet or ~/.cache/swiftlet unless said."""
    key = hashlib.sha256(place_of(runtime, threads).encode()).hexdigest()[:16]
    return (folder or cache_folder()) / f"tables-{runtime}-{threads}-{key}.json"


def load_tables(path: Path) -> Tables:
    """Raises BadInput if there are none, BadFile if the file is damaged: both say how to make new ones."""
    try:
        stamp = path.stat().st_mtime_ns
    except OSError as error:
        raise BadInput(
            f"no kernel times are known for this machine and runtime ({path}: {error.strerror}); "
            "measure them, in some minutes, with: swiftlet study tables"
        ) from error
    return _load(path, stamp)


@cache
def _load(path: Path, stamp: int) -> Tables:
    try:
        data: Any = json.loads(path.read_text())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        curves = {kind: _curve(entry) for kind, entry in data["curves"].items()}
        corrections = {name: Correction.from_json(entry) for name, entry in data["corrections"].items()}
        if not curves or not corrections:
            raise ValueError("it is empty")
        counts = {str(precision): int(n) for precision, n in data["networks"].items()}
        disturbed, rest_ms = int(data["disturbed"]), float(data["rest_ms"])
        if not rest_ms > 0:
            raise ValueError(f"its reference took {rest_ms} ms")
        return Tables(str(data["place"]), curves, corrections, counts, disturbed, rest_ms)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFile(f"{path}: damaged kernel times ({error}); measure again with: swiftlet study tables") from error


def _curve(entry: dict[str, Any]) -> Curve:
    points, us, price, shape = (np.array(entry[name], float) for name in ("points", "us", "price", "shape"))
    fits = points.ndim == 2 and points.shape[1] > FIXED and us.shape == (len(points),) and price.shape == (1 + WORK,)
    finite = all(np.isfinite(array).all() for array in (points, us, price, shape))
    if not fits or not finite or not (us > 0).all() or (price < 0).any():
        raise ValueError("a curve has other than one time per point")
    if len(shape) not in (0, 2 + points.shape[1]):
        raise ValueError("a curve has other than one length per number")
    return Curve(points, us, price, shape)
