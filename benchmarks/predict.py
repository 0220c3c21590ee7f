"""Latency predicted without running, against timings of 200 random networks that the tables have not seen.

The tables are made by the way, of as many networks as `swiftlet study tables` takes, and those that judge them are
visited in turn with them: a virtual machine is another one ten minutes later, and what is judged here is the method. A
network is timed in three visits or more, minutes apart, and the median of those counts in which the machine was at rest
(study/visits.py). How many networks never met it at rest, and how far off the prediction is from the median of all
visits, is recorded too. Beside it stands a plain regression on the counts of the whole graph (MACs, bytes moved,
kernels), which the tables have to beat. Twenty-odd minutes; nothing else should run.
"""

import time
from collections import defaultdict
from itertools import chain
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
from swiftlet.runtime.tables import Tables, fitted, place_of
from swiftlet.study.networks import Network, random_network
from swiftlet.study.tables import HELD_OUT, table_network
from swiftlet.study.visits import VISIT_SECONDS, Reference, Visited, network_file, visit_all

IN_TABLES = 570  # networks, float32 and int8
NETWORKS = {"float32": 200, "int8": 100}  # held out
MINUTES = 14.0  # for the visits of all
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
    with TemporaryDirectory(prefix="swiftlet-") as folder, bars() as progress:
        inside: list[Visited] = []
        for i in range(IN_TABLES):
            progress("building networks for the tables", i, IN_TABLES)
            inside.append(table_network(i, "onnxruntime", 1, Path(folder)))
        held_out: dict[str, list[Visited]] = {precision: [] for precision in NETWORKS}
        for precision, wanted in NETWORKS.items():
            for i in range(wanted):
                progress(f"building networks to judge by, {precision}", i, wanted)
                path = Path(folder) / f"{precision}-{i}"
                held_out[precision].append(Visited(random_network(HELD_OUT + i), precision, "onnxruntime", 1, path))
        everyone = [*inside, *chain.from_iterable(held_out.values())]
        rest_ms = visit_all(everyone, Reference("onnxruntime", 1), time.monotonic() + 60 * MINUTES, progress)
        progress("fitting", 0, 0)
        tables = fitted(place_of("onnxruntime", 1), [visited.timed(rest_ms) for visited in inside], rest_ms)
        figures: dict[str, Any] = {
            "networks_in_tables": tables.networks,
            "disturbed_in_tables": tables.disturbed,
            "visit_seconds": VISIT_SECONDS,
            "visits_median": float(np.median([len(visited.visits) for visited in everyone])),
        }
        for precision, networks in held_out.items():
            progress(f"predicting, {precision}", 0, 0)
            judged = [judge(HELD_OUT + i, visited, tables, rest_ms) for i, visited in enumerate(networks)]
            figures[precision] = summary(judged)
            if precision == "float32":
                figures[precision]["regression_on_counts"] = regression(judged)
    record("predict", "python -m benchmarks predict", figures)


def judge(number: int, visited: Visited, tables: Tables, rest_ms: float) -> Judged:
    """The network of that number, which was `visited`."""
    predicted, *seconds = clock(random_network(number), visited.precision, tables)
    timed, middle = visited.timed(rest_ms), float(np.median([visit.ms for visit in visited.visits]))
    return Judged(visited.family, timed.kernels, predicted, timed.ms, middle, timed.disturbed, *seconds)


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
