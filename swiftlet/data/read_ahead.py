"""Pixels of photos that memory does not hold: rows are decoded when they are asked for, or before, if one says so."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.contract import InputContract
from swiftlet.data.memory import check_memory
from swiftlet.data.split import QUICK, Split
from swiftlet.errors import BadPhotos
from swiftlet.progress import Progress

Pixels = npt.NDArray[np.uint8]
BATCH = 256


class ReadAhead:
    """What Split.pixels gives, (N, side, side, 3) uint8, row by row: the same values, read by threads on demand.

    Index it with a slice or with an array of rows. Only what is asked for or expected is in memory. Raises BadPhotos
    for a picture that cannot be read.
    """

    def __init__(self, split: Split, contract: InputContract, *, quick: bool = False) -> None:
        self._split, self._contract = split, contract
        self._least_side = math.ceil(QUICK * contract.side / contract.crop_pct) if quick else None
        self._pool = ThreadPoolExecutor(thread_name_prefix="swiftlet-read-ahead")
        self._coming: dict[int, Future[Pixels]] = {}
        self.shape = (len(split), contract.side, contract.side, 3)

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, asked: slice | npt.NDArray[np.integer[Any]]) -> Pixels:
        rows = self._rows(asked)
        self._start(rows)
        coming = [self._coming[row] for row in rows]
        for row in set(rows):
            del self._coming[row]
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for place, pixels in zip(out, coming, strict=True):
            place[:] = pixels.result()
        return out

    def expect(self, asked: slice | npt.NDArray[np.integer[Any]]) -> None:
        """Start on these rows, which are wanted next, and drop others that were expected before."""
        rows = self._rows(asked)
        for row in self._coming.keys() - set(rows):
            self._coming.pop(row).cancel()
        self._start(rows)

    def close(self) -> None:
        """End the threads; nothing can be read after that."""
        self._coming.clear()
        self._pool.shutdown(cancel_futures=True)

    def _start(self, rows: Sequence[int]) -> None:
        for row in rows:
            if row not in self._coming:
                self._coming[row] = self._pool.submit(self._row, row)

    def _rows(self, asked: slice | npt.NDArray[np.integer[Any]]) -> Sequence[int]:
        return range(*asked.indices(len(self))) if isinstance(asked, slice) else asked.tolist()

    def _row(self, row: int) -> Pixels:
        return self._contract.pixels(self._split.image(row, least_side=self._least_side))


def pixels_of(
    split: Split, contract: InputContract, *, quick: bool = False, progress: Progress | None = None
) -> Pixels | ReadAhead:
    """Split.pixels if memory holds them, decoded once; else the same rows on demand. Values do not depend on it."""
    try:
        check_memory(len(split) * contract.side**2 * 3, "")
    except BadPhotos:
        return ReadAhead(split, contract, quick=quick)
    return split.pixels(contract, quick=quick, progress=progress)


def in_batches(pixels: Pixels | ReadAhead, part: slice) -> Iterator[tuple[slice, Pixels]]:
    """(rows, their pixels) for the rows of `part`, a few at a time; the next ones are read meanwhile."""
    pieces = [slice(start, min(start + BATCH, part.stop)) for start in range(part.start, part.stop, BATCH)]
    for piece, following in zip(pieces, [*pieces[1:], None], strict=True):
        batch = pixels[piece]
        if following is not None and isinstance(pixels, ReadAhead):
            pixels.expect(following)
        yield piece, batch
