"""Labelled pictures, and the test split that opens once."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from swiftlet.data.contract import InputContract
from swiftlet.data.listing import Pictures
from swiftlet.data.memory import check_memory
from swiftlet.data.pool import each
from swiftlet.errors import BadFile, BadImage, BadInput, BadPhotos
from swiftlet.files import write_json
from swiftlet.progress import Progress

QUICK = 2  # times the side: at 1, pixels would differ two to three times as much


class Split:
    """N labelled pictures. labels: (N,) int64, read-only; keys: where each came from."""

    def __init__(
        self, pictures: Pictures, positions: Sequence[int], keys: Sequence[str], labels: Sequence[int]
    ) -> None:
        """The `positions` of `pictures`, with as many keys and labels."""
        self._pictures = pictures
        self._positions = tuple(int(position) for position in positions)
        self.keys = tuple(keys)
        self.labels: npt.NDArray[np.int64] = np.array(labels, np.int64)
        self.labels.flags.writeable = False
        if not len(self._positions) == len(self.keys) == len(self.labels):
            raise BadInput("Split: positions, keys and labels must be equally many")

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        """Picture `index`, upright RGB; with `least_side` it may come out smaller, as open_photo says.

        Raises BadPhotos if the file has changed so that it cannot be read any more.
        """
        try:
            return self._pictures.image(self._positions[index], least_side=least_side)
        except BadImage as error:
            raise BadPhotos(f"{self.keys[index]} could be read at the start and now cannot: {error}") from error

    def pixels(
        self, contract: InputContract, *, quick: bool = False, threads: int = 2, progress: Progress | None = None
    ) -> npt.NDArray[np.uint8]:
        """(N, side, side, 3) uint8, row i = contract.pixels(image(i)). Raises BadPhotos if memory will not hold it.

        quick: for training only. JPEGs are decoded at the smallest scale that leaves the contract's crop at least
        QUICK times its side, so large photos take a fraction of the time; pixels differ by about a grey level.
        """
        least_side = math.ceil(QUICK * contract.side / contract.crop_pct) if quick else None
        check_memory(len(self) * contract.side**2 * 3, f"{len(self):,} pictures of side {contract.side}")
        out = np.empty((len(self), contract.side, contract.side, 3), np.uint8)

        def fill(index: int) -> None:
            out[index] = contract.pixels(self.image(index, least_side=least_side))

        each(fill, len(self), threads=threads, stage="pixels", progress=progress)
        return out

    def subset(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> "Split":
        """These pictures in this order."""
        chosen = [int(index) for index in indices]
        return Split(
            self._pictures,
            [self._positions[index] for index in chosen],
            [self.keys[index] for index in chosen],
            [int(self.labels[index]) for index in chosen],
        )


class SealedSplit:
    """The test photos. Their number per class is known; the photos come out once, for one file, after a written record.

    This is what keeps the reported accuracy honest: nothing can be chosen by looking at them.
    """

    def __init__(self, split: Split, classes: int) -> None:
        self.__split = split
        self.label_counts: tuple[int, ...] = tuple(np.bincount(split.labels, minlength=classes).tolist())

    def __len__(self) -> int:
        return sum(self.label_counts)

    def open(self, file_digest: str, ledger: Path) -> Split:
        """The photos, to measure the file with this digest; `ledger` is a JSON file that says so from now on.

        The same digest may open again, so that a killed run can finish. Raises BadInput for any other, BadFile if the
        ledger cannot be read.
        """
        if not file_digest:
            raise BadInput("SealedSplit.open needs the digest of the file to test")
        if ledger.exists():
            opened_for = _opened_for(ledger)
            if opened_for != file_digest:
                raise BadInput(
                    f"the test split was opened for file {opened_for} already ({ledger}), now asked for {file_digest}: "
                    "start a new run to test another file"
                )
        else:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            write_json(ledger, {"file": file_digest, "opened": now, "photos": len(self)})
        return self.__split


def _opened_for(ledger: Path) -> str:
    try:
        opened_for = json.loads(ledger.read_text(encoding="utf-8"))["file"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{ledger}: is not the record of an opened test split") from error
    if not isinstance(opened_for, str):
        raise BadFile(f"{ledger}: is not the record of an opened test split")
    return opened_for
