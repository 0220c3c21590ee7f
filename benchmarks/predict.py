"""Latency predicted without running, against timings of 200 random networks that the tables have not seen.

A network is timed in three visits or more, a minute apart, and the median of those counts in which the machine was at
rest (study/visits.py), in the tables as here: a virtual machine's host slows it by a third for many seconds on end.
How many networks never met it at rest, and how far off the prediction is from the median of all visits, is recorded
too. Run `swiftlet study tables` on the same idle machine first. Beside it stands a plain regression on the counts of
the whole graph (MACs, bytes moved, kernels), which the tables have to beat.
"""

import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ledger import record
from swiftlet.progress import bars
from swiftlet.runtime import get_runtime
from swiftlet.runtime.kernels import Kernel, kernels, optimised
from swiftlet.runtime.predict import Prediction, predict_kernels
from swiftlet.runtime.race import Contestant, race
from swiftlet.runtime.tables import Tables, load_tables, tables_path
from swiftlet.study.networks import Network, random_network
from swiftlet.study.tables import HELD_OUT
from swiftlet.study.visits import VISIT_SECONDS, Reference, Visited, network_file, visit_all

NETWORKS = {"float32": 200, "int8": 100}
MINUTES = {"float32": 6.0, "int8": 9.5}  # from the start, for as many visits as there is time for
PLANNED_SECONDS = 0.05  # that plan races a file


class Judged(NamedTuple):
    family: str
    kernels: tuple[Kernel, ...]
    predicted: Prediction
    ms: float
    middle_ms: float
    disturbed: bool
    seconds_to_export: float
    seconds_to_predict: float
    seconds_to_race: float


def run() -> None:
    tables = load_tables(tables_path())
    figures: dict[str, Any] = {"networks_in_tables": tables.networks, "visit_seconds": VISIT_SECONDS}
    started = time.monotonic()
    for precision, wanted in NETWORKS.items():
        judged = judge(range(wanted), precision, tables, started + 60 * MINUTES[precision])
        for last in judged:
            print(f"{last.family} {precision}: {last.predicted}, timed {last.ms:.3f} ms", flush=True)
        figures[precision] = summary(judged)
        if precision == "float32":
            figures[precision]["regression_on_counts"] = regression(judged)
    record("predict", "python -m benchmarks predict", figures)


def judge(numbers: Iterable[int], precision: str, tables: Tables, until: float) -> list[Judged]:
    """Predict all, then time all, in turn. `until`: on time.monotonic."""
    with TemporaryDirectory(prefix="swiftlet-") as folder, bars() as progress:
        rows = []
        for i in numbers:
            network = random_network(HELD_OUT + i)
            progress(f"predicting {precision}, {network.family}", i, 0)
            clocked = clock(network, precision, tables)
            rows.append((clocked, Visited(network, precision, "onnxruntime", 1, Path(folder) / str(i))))
        rest_ms = visit_all([visited for _, visited in rows], Reference("onnxruntime", 1), until, progress)
        judged = []
        for (predicted, *seconds), visited in rows:
            timed = visited.timed(min(rest_ms, tables.rest_ms))
            middle = float(np.median([visit.ms for visit in visited.visits]))
            judged.append(Judged(visited.family, timed.kernels, predicted, timed.ms, middle, timed.disturbed, *seconds))
    return judged


def clock(network: Network, precision: str, tables: Tables) -> tuple[Prediction, float, float, float]:
    """The prediction, and the seconds to fold and export, to predict, and to load and race as plan does."""
    begun = time.perf_counter()
    file = network_file(network, precision)
    started = time.perf_counter()
    predicted = predict_kernels(kernels(optimised(file)), precision, tables=tables)
    between = time.perf_counter()
    program = get_runtime("onnxruntime").load(file, 1)
    race([Contestant(network.family, program, "onnxruntime", 1)], seconds=PLANNED_SECONDS)
    return predicted, started - begun, between - started, time.perf_counter() - between


def summary(judged: list[Judged]) -> dict[str, Any]:
    """Errors over all networks, those that never met the machine at rest included."""
    error = np.array([j.predicted.ms / j.ms - 1 for j in judged])
    inside = [j.predicted.low <= j.ms <= j.predicted.high for j in judged]
    by_family: dict[str, list[float]] = defaultdict(list)
    for j, e in zip(judged, np.abs(error), strict=True):
        by_family[j.family].append(float(e))
    return {
        "networks": len(judged),
        "disturbed": sum(j.disturbed for j in judged),
        "ms_from_to": [round(f(j.ms for j in judged), 3) for f in (min, max)],
        **errors(error),
        "against_all_visits": errors(np.array([j.predicted.ms / j.middle_ms - 1 for j in judged])),
        "median_signed_error_percent": _percent(float(np.median(error))),
        "inside_90_percent_interval_percent": _percent(float(np.mean(inside))),
        "median_width_of_interval_percent": _percent(
            float(np.median([(j.predicted.high - j.predicted.low) / j.predicted.ms for j in judged]))
        ),
        "not_fully_covered": sum(bool(j.predicted.unknown) for j in judged),
        "median_error_percent_by_family": {k: _percent(float(np.median(v))) for k, v in sorted(by_family.items())},
        "seconds_to_fold_and_export_median": round(float(np.median([j.seconds_to_export for j in judged])), 4),
        "seconds_to_predict_median": round(float(np.median([j.seconds_to_predict for j in judged])), 4),
        "seconds_to_load_and_race_as_plan_does_median": round(float(np.median([j.seconds_to_race for j in judged])), 4),
    }


def errors(error: np.ndarray[Any, Any]) -> dict[str, Any]:
    size = np.abs(error)
    return {
        "median_error_percent": _percent(float(np.median(size))),
        "p95_error_percent": _percent(float(np.quantile(size, 0.95))),
        "within_5_percent": _percent(float(np.mean(size <= 0.05))),
        "within_10_percent": _percent(float(np.mean(size <= 0.10))),
    }


def regression(judged: list[Judged]) -> dict[str, Any]:
    """Least squares of log time on the logarithms of MACs, bytes moved and number of kernels of the whole graph.

    Each half of the networks is judged by what the other half gave.
    """
    counts, ms = _counts(judged), np.array([j.ms for j in judged])
    error = np.empty(len(judged))
    odd = np.arange(len(judged)) % 2 == 1
    for half in (odd, ~odd):
        answer = np.linalg.lstsq(counts[~half], np.log(ms[~half]), rcond=None)[0]
        error[half] = np.exp(counts[half] @ answer) / ms[half] - 1
    return errors(error)


def _counts(judged: list[Judged]) -> np.ndarray[Any, Any]:
    rows = [
        [
            1.0,
            np.log(1 + sum(k.macs for k in j.kernels)),
            np.log(1 + sum(k.reads + k.weights + k.writes for k in j.kernels)),
            np.log(len(j.kernels)),
        ]
        for j in judged
    ]
    return np.array(rows)


def _percent(share: float) -> float:
    return round(100 * share, 2)
