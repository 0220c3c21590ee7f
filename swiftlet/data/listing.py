"""What a source holds before anyone has looked into a picture."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from swiftlet.data.decode import open_photo
from swiftlet.errors import BadImage

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, slots=True)
class SetAside:
    """One file or folder that is not used, and why."""

    key: str
    reason: str


class Pictures(Protocol):
    """Pictures by position. Both methods raise BadImage and are safe to call from threads."""

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        """With `least_side` it may come out smaller, as open_photo says."""
        ...

    def digest(self, index: int) -> bytes:
        """sha256 of the stored form: the file's bytes, or the array's shape and values."""
        ...

    def subset(self, indices: Sequence[int]) -> "Pictures": ...


class Files:
    """Pictures in files, decoded when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        return open_photo(self.paths[index], least_side=least_side)

    def digest(self, index: int) -> bytes:
        try:
            with self.paths[index].open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").digest()
        except OSError as error:
            raise BadImage(f"cannot be read: {error.strerror or error}") from error

    def subset(self, indices: Sequence[int]) -> "Files":
        return Files([self.paths[index] for index in indices])


class Rows:
    """Pictures in memory: (H, W) or (H, W, 3) uint8 each."""

    def __init__(self, rows: Sequence[npt.NDArray[np.uint8]]) -> None:
        self.rows = tuple(rows)

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        return Image.fromarray(self.rows[index]).convert("RGB")

    def digest(self, index: int) -> bytes:
        row = self.rows[index]
        return hashlib.sha256(f"{row.shape}".encode() + row.tobytes()).digest()

    def subset(self, indices: Sequence[int]) -> "Rows":
        return Rows([self.rows[index] for index in indices])


@dataclass(frozen=True)
class Listing:
    """Pictures with keys, labels and, where the user made them, splits. Sorted by key within a source's own order."""

    name: str
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    labels: npt.NDArray[np.int64]  # (N,), positions in classes
    splits: npt.NDArray[Any]  # (N,) of str: "train", "val", "test"; "" where the user made no splits
    pictures: Pictures
    given: frozenset[str] = frozenset()  # the splits that the user made, even those without a picture
    set_aside: tuple[SetAside, ...] = ()
    notes: tuple[str, ...] = ()
