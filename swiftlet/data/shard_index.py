"""What tar shards hold, so that any picture is read by one seek or one range request.

Two files beside the shards. `shards.json`: classes, the shards with their splits, sizes and digests, and the audit.
`pictures.npy`: a row of 48 bytes for each picture (ROW), shard by shard; np.load reads it. The digest of the second
stands in the first. A picture's number is its row; its members are NUMBER.jpg (or .png, .webp) and NUMBER.cls.
"""

import hashlib
import io
import json
import re
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.audit import Audit, Duplicate
from swiftlet.data.listing import SPLITS
from swiftlet.data.shard_place import Place
from swiftlet.errors import BadPhotos

FORMAT = {"format": "swiftlet shards", "version": 1}
INDEX, TABLE = "shards.json", "pictures.npy"
SHARD_NAME = re.compile(r"(train|val|test)-\d{6}\.tar")
SHA256 = re.compile(r"[0-9a-f]{64}")
ROW = np.dtype([("shard", "<u4"), ("offset", "<u4"), ("length", "<u4"), ("label", "<u4"), ("sha256", "u1", 32)])
MAX_JSON = 64_000_000  # bytes; 30,000 shards take 5 MB
MAX_TABLE = 10_000_000_000  # bytes, 200 million pictures
MAX_SHARD = 2_000_000_000  # bytes: offsets are 32 bits wide
MAX_STORED = 100_000_000  # bytes of one picture's file


@dataclass(frozen=True, slots=True)
class Shard:
    """A tar file. `bytes` is its size, `sha256` in hexadecimal, `split` train, val or test."""

    name: str
    split: str
    pictures: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """name: of the source. rows: (N,) of ROW. side: the short side that larger pictures were made smaller to."""

    name: str
    classes: tuple[str, ...]
    side: int | None
    shards: tuple[Shard, ...]
    rows: npt.NDArray[np.void]
    audit: Audit

    def files(self) -> tuple[bytes, bytes]:
        """The bytes of TABLE and of INDEX."""
        stream = io.BytesIO()
        np.lib.format.write_array(stream, self.rows, version=(1, 0), allow_pickle=False)
        table = stream.getvalue()
        index = FORMAT | {
            "name": self.name,
            "classes": list(self.classes),
            "side": self.side,
            "shards": [asdict(shard) for shard in self.shards],
            "table": {"sha256": hashlib.sha256(table).hexdigest(), "bytes": len(table)},
            "audit": self.audit.to_json(),
        }
        return table, (json.dumps(index, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()

    @property
    def splits(self) -> npt.NDArray[Any]:
        """(N,) of str."""
        return np.repeat(np.array([s.split for s in self.shards], "U5"), [s.pictures for s in self.shards])


def read_index(place: Place) -> Index:
    """The index at `place`, every field checked. Raises BadPhotos."""
    try:
        data = json.loads(place.whole(INDEX, MAX_JSON))
        if data["format"] != FORMAT["format"]:
            raise BadPhotos(f"{place}/{INDEX}: is not the index of swiftlet's shards")
        if data["version"] != FORMAT["version"]:
            raise BadPhotos(
                f"{place}/{INDEX}: has version {data['version']!r}, this swiftlet reads {FORMAT['version']}"
            )
        classes = _texts(data["classes"])
        shards = tuple(Shard(**shard) for shard in data["shards"])
        side, digest, size = data["side"], data["table"]["sha256"], data["table"]["bytes"]
        audit = _audit(data["audit"])
        if not isinstance(data["name"], str) or not (side is None or type(side) is int):
            raise ValueError("name or side")
        if type(size) is not int or not 0 < size <= MAX_TABLE:
            raise ValueError("table")
        _check_shards(shards)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadPhotos(f"{place}/{INDEX}: is damaged ({error}); make the shards again") from error
    table = place.whole(TABLE, size)
    if len(table) != size or hashlib.sha256(table).hexdigest() != digest:
        raise BadPhotos(f"{place}/{TABLE}: is not the file that {INDEX} describes; make or copy the shards again")
    return Index(data["name"], classes, side, shards, _rows(f"{place}/{TABLE}", table, shards, len(classes)), audit)


def _check_shards(shards: tuple[Shard, ...]) -> None:
    for shard in shards:
        if not SHARD_NAME.fullmatch(shard.name) or not shard.name.startswith(f"{shard.split}-"):
            raise ValueError(f"a shard called {shard.name!r:.100}")
        if not SHA256.fullmatch(shard.sha256):
            raise ValueError(f"the digest of {shard.name}")
        if type(shard.pictures) is not int or shard.pictures < 1:
            raise ValueError(f"the number of pictures in {shard.name}")
        if type(shard.bytes) is not int or not 0 < shard.bytes <= MAX_SHARD:
            raise ValueError(f"the size of {shard.name}")
    if len({shard.name for shard in shards}) < len(shards):
        raise ValueError("a shard named twice")
    if {shard.split for shard in shards} != set(SPLITS):
        raise ValueError("a split without a shard")


def _rows(where: str, table: bytes, shards: tuple[Shard, ...], classes: int) -> npt.NDArray[np.void]:
    stream = io.BytesIO(table[:1024])  # a header of version 1.0 for our rows is 128 bytes
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of .npy")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except ValueError as error:
        raise BadPhotos(f"{where}: cannot be read as .npy ({error}); make the shards again") from error
    count = sum(shard.pictures for shard in shards)
    if dtype != ROW or shape != (count,) or len(table) != stream.tell() + count * ROW.itemsize:
        raise BadPhotos(f"{where}: does not hold {count} rows of {ROW}; make the shards again")
    rows = np.frombuffer(table, ROW, offset=stream.tell())
    sizes = np.array([shard.bytes for shard in shards], np.int64)
    ends = rows["offset"].astype(np.int64) + rows["length"]
    if (
        not np.array_equal(rows["shard"], np.repeat(np.arange(len(shards)), [shard.pictures for shard in shards]))
        or (ends > sizes[rows["shard"]]).any()
        or not 0 < rows["length"].min() <= rows["length"].max() <= MAX_STORED
        or rows["label"].max() >= classes
    ):
        raise BadPhotos(f"{where}: names pictures that its shards cannot hold; make the shards again")
    return rows


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ValueError("classes")
    if len(set(value)) < len(value):
        raise ValueError("a class named twice")
    return tuple(value)


def _audit(value: dict[str, Any]) -> Audit:
    audit = Audit(
        **value
        | {
            "set_aside": (),  # who made the shards was told; nobody else can do anything about it
            "duplicates": tuple(Duplicate(**pair) for pair in value["duplicates"]),
            "notes": tuple(value["notes"]),
        }
    )
    for name in ("found", "used", "duplicate_groups", "median_short_side"):
        if type(getattr(audit, name)) is not int:
            raise ValueError(f"audit: {name}")
    if not SHA256.fullmatch(audit.digest):
        raise ValueError("audit: digest")
    return audit
