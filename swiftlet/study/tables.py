"""swiftlet study tables: time the kernels of a few hundred random networks, so that latency can be predicted."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from swiftlet.errors import BadInput
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import check_usable
from swiftlet.runtime.tables import FEWEST, Tables, fitted, place_of, tables_path
from swiftlet.study.networks import families, random_network
from swiftlet.study.visits import Reference, Visited, visit_all

HELD_OUT = 1_000_000  # networks from this number on are never in the tables: they judge them
PRECISIONS = ("float32", "float32", "int8")  # in turn
BUILDING_SHARE = 0.32  # of the time
MINUTES, QUICK_MINUTES = 12.0, 1.0  # fewer networks make worse curves, and the interval says so
FITTING_SHARE = 0.08  # of the time goes to the curves


def table_network(i: int, runtime: str, threads: int, folder: Path) -> Visited:
    """The i-th network of the tables, in its precision."""
    precision = PRECISIONS[(i + i // len(families())) % len(PRECISIONS)]
    return Visited(random_network(i), precision, runtime, threads, folder / str(i))


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
            if progress is not None:
                progress("building networks", int(passed), whole)
            together.append(table_network(i, runtime, threads, Path(folder)))
        until = started + (1 - FITTING_SHARE) * seconds
        rest_ms = visit_all(together, Reference(runtime, threads), until, progress)
        networks = [network.timed(rest_ms) for network in together]
    if progress is not None:
        progress(f"fitting {len(networks)} networks", int(seconds), whole)
    tables, path = fitted(place, networks, rest_ms), tables_path(runtime, threads)
    tables.save(path)
    return tables, path
