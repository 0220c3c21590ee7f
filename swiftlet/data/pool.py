"""Work on many pictures with a few threads. Pillow and hashlib release the GIL, so threads are enough."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from swiftlet.errors import BadInput
from swiftlet.progress import Progress

T = TypeVar("T")
CHUNK = 64


def each(work: Callable[[int], T], count: int, *, threads: int, stage: str, progress: Progress | None) -> list[T]:
    """[work(0), ..., work(count - 1)]. The first exception stops the rest and is raised. Raises BadInput."""
    if threads < 1:
        raise BadInput(f"threads={threads} must be 1 or more")

    def run(start: int) -> list[T]:
        return [work(index) for index in range(start, min(start + CHUNK, count))]

    results: list[T] = []
    starts = range(0, count, CHUNK)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in map(run, starts) if threads == 1 else pool.map(run, starts):
                results += part
                if progress is not None:
                    progress(stage, len(results), count)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for 50,000 photos
            raise
    return results
