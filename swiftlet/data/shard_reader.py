"""Pictures in shards by number, and the whole of an indexed set as photos that need no second audit."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from swiftlet.data.decode import open_photo
from swiftlet.data.listing import SPLITS, Listing
from swiftlet.data.shard_index import INDEX, Index, read_index
from swiftlet.data.shard_place import Folder, Place, Remote, is_address
from swiftlet.errors import BadImage, BadPhotos


class Stored:
    """Pictures in tar files, read when asked for. What does not have the digest of its row is refused."""

    def __init__(self, place: Place, names: Sequence[str], rows: npt.NDArray[np.void]) -> None:
        """names: of the files; rows: (N,) of shard_index.ROW, `shard` a position in `names`."""
        self.place, self.names, self.rows = place, tuple(names), rows

    def data(self, index: int) -> bytes:
        """The picture's file."""
        row = self.rows[index]
        name = self.names[row["shard"]]
        try:
            data = self.place.part(name, int(row["offset"]), int(row["length"]))
        except BadPhotos as error:
            raise BadImage(str(error)) from error
        if hashlib.sha256(data).digest() != row["sha256"].tobytes():
            raise BadImage(f"{self.place}/{name}, byte {row['offset']}: is not the picture that the index describes")
        return data

    def image(self, index: int, *, least_side: int | None = None) -> Image.Image:
        return open_photo(self.data(index), least_side=least_side)

    def digest(self, index: int) -> bytes:
        digest: bytes = self.rows[index]["sha256"].tobytes()
        return digest

    def subset(self, indices: Sequence[int]) -> "Stored":
        return Stored(self.place, self.names, self.rows[np.asarray(indices, np.int64)])


def place_of(source: Path | str) -> Place | None:
    """Where indexed shards lie, if `source` is such a folder or any address."""
    if is_address(source):
        return Remote(str(source))
    return Folder(Path(source)) if (Path(source) / INDEX).is_file() else None


def open_shards(source: Path | str) -> tuple[Index, Stored]:
    """The index at a folder or an address, and its pictures by number. Raises BadPhotos, MissingExtra."""
    place = place_of(source)
    if place is None:
        raise BadPhotos(f"{source}: holds no {INDEX}; make shards with swiftlet shards PHOTOS {source}")
    index = read_index(place)
    return index, Stored(place, [shard.name for shard in index.shards], index.rows)


def list_shards(index: Index, pictures: Stored) -> Listing:
    """All pictures in the index's order; a key is the picture's number."""
    return Listing(
        name=index.name,
        classes=index.classes,
        keys=tuple(f"{number:09}" for number in range(len(index.rows))),
        labels=index.rows["label"].astype(np.int64),
        splits=index.splits,
        pictures=pictures,
        given=frozenset(SPLITS),
        notes=index.audit.notes,
    )
