"""Tar files in WebDataset's form, written the same way each time and read with suspicion.

Members of one picture stand together and share their name up to the first dot; what follows is the kind: NAME.jpg (or
.jpeg, .png, .webp) and NAME.cls, the label in digits. Names of members tell what belongs together. They never become
paths: nothing is ever unpacked.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from swiftlet.data.decode import FORMATS
from swiftlet.data.listing import SPLIT_NAMES, Listing, SetAside
from swiftlet.data.shard_index import MAX_SHARD, MAX_STORED, ROW
from swiftlet.data.shard_place import Folder
from swiftlet.data.shard_reader import Stored
from swiftlet.errors import BadPhotos

BLOCK = tarfile.BLOCKSIZE  # 512 bytes
MAX_NAME, MAX_DEPTH = 255, 16  # characters of a member's name, folders in it
MAX_EXTENDED = 65_536  # bytes of a pax header
MAX_LABEL = 1_000_000
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:\ud800-\udfff]")
PLAIN_PAX = {"path", "mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment"}


class Writer:
    """A tar file in memory: no times, no owners, the names in ASCII."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()

    def __len__(self) -> int:
        return self._stream.tell()

    def add(self, name: str, content: bytes) -> int:
        """Gives the offset of the content."""
        about = tarfile.TarInfo(name)
        about.size, about.mode = len(content), 0o644
        self._stream.write(about.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        offset = self._stream.tell()
        self._stream.write(content + bytes(-len(content) % BLOCK))
        return offset

    def close(self) -> bytes:
        """The whole file, with the two empty blocks that end it."""
        return self._stream.getvalue() + bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in a tar file: its name without a leading "./", and where its content lies."""

    name: str
    offset: int
    length: int


def members(stream: IO[bytes], where: str) -> Iterator[Member]:
    """The files of a tar file in its order, by headers alone.

    Raises BadPhotos for all that a set of photos does not need: links, devices, sparse files, names that leave the
    folder or hide something, a name twice, a member larger than MAX_STORED or than the file, a missing end, data
    behind the end, GNU's long names, and pax headers that say more than a name, times and owners.
    """
    stop = stream.seek(0, io.SEEK_END)
    seen: set[str] = set()
    at, name = 0, None
    while True:
        stream.seek(at)
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            raise _bad(where, at, "ends without the empty blocks that end a tar file: it is cut off")
        if not any(block):
            break
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise _bad(where, at, f"holds no tar header ({error})") from error
        start, size = at + BLOCK, header.size
        at = start + size + -size % BLOCK
        if not 0 <= size <= MAX_STORED or at > stop:
            raise _bad(where, start - BLOCK, f"a member of {size:,} bytes, more than the file or a photo holds")
        if header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE):
            if size > MAX_EXTENDED:
                raise _bad(where, start - BLOCK, f"a pax header of {size:,} bytes")
            name = _pax(stream.read(size), f"{where}, byte {start}") or name
            continue
        if header.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE):
            raise _bad(where, start - BLOCK, "a link, a device or something else that is no plain file")
        found, name = _checked(name or header.name, f"{where}, byte {start - BLOCK}"), None
        if header.type == tarfile.DIRTYPE:
            if size:
                raise _bad(where, start - BLOCK, "a folder with content")
            continue
        if found in seen:
            raise _bad(where, start - BLOCK, f"{found!r} a second time")
        seen.add(found)
        yield Member(found, start, size)
    while rest := stream.read(1 << 20):
        if any(rest):
            raise _bad(where, at, "data behind its end")


def _bad(where: str, at: int, what: str) -> BadPhotos:
    return BadPhotos(f"{where}, byte {at}: {what}; swiftlet reads plain tar files of photos and labels only")


def _checked(name: str, where: str) -> str:
    name = name.removeprefix("./").rstrip("/")
    parts = name.split("/")
    if (
        len(name) > MAX_NAME
        or len(parts) > MAX_DEPTH
        or FORBIDDEN.search(name)
        or ".." in parts
        or ("" in parts and name)
        or "." in parts
    ):
        raise BadPhotos(f"{where}: a member called {name!r:.100}; names are relative, plain and short")
    return name


def _pax(data: bytes, where: str) -> str | None:
    """The name in a pax header, lines of "LENGTH key=value\\n"; refuses what would change more than that."""
    name, at = None, 0
    while at < len(data):
        digits, space, _ = data[at : at + 8].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        key, equals, value = data[at + len(digits) + 1 : at + length].partition(b"=")
        if not equals or not value.endswith(b"\n") or at + length > len(data):
            raise BadPhotos(f"{where}: a damaged pax header; pack the photos again")
        if key.decode("utf-8", "replace") not in PLAIN_PAX:
            raise BadPhotos(f"{where}: a pax header with {key!r:.60}; pack the photos again, as plain files")
        if key == b"path":
            name = value[:-1].decode("utf-8", "surrogateescape")
        at += length
    return name


def list_tars(files: list[Path], classes: tuple[str, ...] | None = None) -> Listing:
    """The photos in tar files in WebDataset's form that others made; keys are FILE/NAME.

    Files named with train, val or test in them (photos-train-000.tar) make splits, if all are. Class names are the
    labels as text, or the argument `classes`, by position. Set aside with a reason: names without a label or with two
    pictures. Raises BadPhotos.
    """
    found: list[tuple[int, int, int, int, bytes]] = []
    keys: list[str] = []
    splits: list[str] = []
    aside: list[SetAside] = []
    for shard, file in enumerate(files):
        size = file.stat().st_size
        if size > MAX_SHARD:
            raise BadPhotos(f"{file}: has {size:,} bytes; swiftlet reads tar files of {MAX_SHARD:,} at most")
        split = _split_of(file)
        with file.open("rb") as stream:
            for key, parts in _samples(stream, str(file)):
                label, reason = _label(stream, parts.get("cls"))
                pictures = [parts[kind] for kind in parts if f".{kind}" in FORMATS]
                if len(pictures) != 1:
                    reason = "no picture of that name" if not pictures else "several pictures of that name"
                elif not pictures[0].length:
                    reason = "empty file"
                if reason:
                    aside.append(SetAside(f"{file.name}/{key}", reason))
                    continue
                stream.seek(pictures[0].offset)
                digest = hashlib.sha256(stream.read(pictures[0].length)).digest()
                found.append((shard, pictures[0].offset, pictures[0].length, label, digest))
                keys.append(f"{file.name}/{key}")
                splits.append(split)
    if ("" in splits) != (set(splits) <= {""}):
        raise BadPhotos(f"{files[0].parent}: some tar files are called train, val or test and others are not")
    rows = np.zeros(len(found), ROW)
    for row, (shard, offset, length, label, digest) in zip(rows, found, strict=True):
        row["shard"], row["offset"], row["length"], row["label"] = shard, offset, length, label
        row["sha256"] = np.frombuffer(digest, np.uint8)
    labels = rows["label"].astype(np.int64)
    if classes is None:
        kinds, labels = np.unique(labels, return_inverse=True)
        classes = tuple(str(kind) for kind in kinds)
    elif len(labels) and labels.max() >= len(classes):
        raise BadPhotos(f"{files[0].parent}: has label {labels.max()}, and there are {len(classes)} classes")
    given = frozenset(splits) - {""}
    if given == {"train"}:
        given, splits = frozenset(), [""] * len(splits)
    return Listing(
        name=files[0].parent.resolve().name,
        classes=classes,
        keys=tuple(keys),
        labels=labels.astype(np.int64),
        splits=np.array(splits, "U5"),
        pictures=Stored(Folder(files[0].parent), [file.name for file in files], rows),
        given=given,
        set_aside=tuple(sorted(aside, key=lambda item: item.key)),
    )


def _samples(stream: IO[bytes], where: str) -> Iterator[tuple[str, dict[str, Member]]]:
    """(name up to the first dot of its last part, {kind: member}) for neighbours that share it."""
    key, parts = "", dict[str, Member]()
    for member in members(stream, where):
        folder, slash, last = member.name.rpartition("/")
        stem, _, kind = last.partition(".")
        if folder + slash + stem != key and parts:
            yield key, parts
            parts = {}
        key = folder + slash + stem
        parts[kind.lower()] = member
    if parts:
        yield key, parts


def _label(stream: IO[bytes], member: Member | None) -> tuple[int, str]:
    """(label, reason why there is none)"""
    if member is None or member.length > 20:
        return 0, "no label (.cls) of that name"
    stream.seek(member.offset)
    text = stream.read(member.length).strip()
    if not text.isdigit() or int(text) > MAX_LABEL:
        return 0, f"its label is {text!r:.30}, not a number from 0 to {MAX_LABEL:,}"
    return int(text), ""


def _split_of(file: Path) -> str:
    words = {SPLIT_NAMES[word] for word in re.split(r"[^a-z]+", file.stem.lower()) if word in SPLIT_NAMES}
    return words.pop() if len(words) == 1 else ""
