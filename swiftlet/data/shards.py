"""Photos into tar shards: audited, split, without metadata, in an order that no file name decides.

The format is WebDataset's, so other tools read the shards too; the index beside them (shard_index.py) lets swiftlet
read any picture by one request. Same photos, same options and same Pillow: same bytes.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.audit import Audit, Seen, report
from swiftlet.data.clean import Cleaned
from swiftlet.data.listing import SPLITS, SetAside
from swiftlet.data.photos import dealt, list_source
from swiftlet.data.shard_index import INDEX, MAX_SHARD, ROW, SHARD_NAME, TABLE, Index, Shard
from swiftlet.data.shard_tar import Writer
from swiftlet.errors import BadImage, BadInput, BadPhotos
from swiftlet.files import write_atomically
from swiftlet.progress import Progress

MANIFEST = "manifest.jsonl"
UNFINISHED = "unfinished"  # lies in the folder until the index does
OURS = re.compile(rf"{SHARD_NAME.pattern}|{re.escape(TABLE)}|{re.escape(MANIFEST)}|{UNFINISHED}|\..*\.tmp")
SIDES = (16, 4096)
MB = 1_000_000
AT_A_TIME = 16  # pictures that each thread makes before they are written
EXTENSION = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What make_shards wrote. pictures: split -> number. encoded: pictures that were not stored as they were, because
    they had to be made smaller or upright, or are no JPEG, PNG or plain WebP files."""

    folder: str
    shards: int
    bytes: int
    pictures: dict[str, int]
    encoded: int
    set_aside: tuple[SetAside, ...]
    audit: Audit


def make_shards(
    source: Path | str | None,
    out: Path | str,
    *,
    shard_mb: float = 100.0,
    side: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Made:
    """Write the photos at `source` (load_photos's; also tar files in WebDataset's form) as shards into folder `out`.

    Splits are those of load_photos, with `seed`; each has its own shards, of at most `shard_mb` megabytes (one
    picture larger than that has one for itself). Pictures with a short side above `side` are made smaller. Bad files
    are set aside and named. `out` also gets manifest.jsonl: which photo became which picture; reading does not need
    it, and it is the only file with the photos' names. The index comes last, so what has one is whole; a call that
    was killed is made again, and starts over. threads: by default one for each processor.

    Raises BadPhotos, and BadInput for a folder with anything else in it.
    """
    if not 0 < shard_mb <= MAX_SHARD / MB:
        raise BadInput(f"make_shards: shard_mb={shard_mb!r}, needs more than 0 and at most {MAX_SHARD // MB}")
    if side is not None and not SIDES[0] <= side <= SIDES[1]:
        raise BadInput(f"make_shards: side={side!r}, needs {SIDES[0]} to {SIDES[1]}")
    folder, threads = Path(out), threads or os.cpu_count() or 1
    _claim(folder)
    listing = list_source(source)
    cleaned = Cleaned(listing.pictures, side)
    seen, splits, notes = dealt(replace(listing, pictures=cleaned), seed=seed, threads=threads, progress=progress)
    work = _Work(folder, cleaned, seen, splits, int(shard_mb * MB), threads, progress)
    order = work.order()
    shards, rows, manifest, encoded = work.write(order)
    audit = _audit(seen, splits, order, seed, notes)
    index = Index(listing.name, listing.classes, side, shards, rows, audit)
    table, text = index.files()
    aside = [{"photo": item.key, "set_aside": item.reason} for item in seen.set_aside]
    lines = [json.dumps(line, sort_keys=True) + "\n" for line in manifest + aside]
    write_atomically(folder / MANIFEST, "".join(lines).encode())
    write_atomically(folder / TABLE, table)
    write_atomically(folder / INDEX, text)
    (folder / UNFINISHED).unlink()
    return Made(
        folder=str(folder),
        shards=len(shards),
        bytes=sum(shard.bytes for shard in shards),
        pictures={split: sum(s.pictures for s in shards if s.split == split) for split in SPLITS},
        encoded=encoded,
        set_aside=seen.set_aside,
        audit=audit,
    )


def _claim(folder: Path) -> None:
    """An empty folder, or what a call left that did not come to its end, which is removed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = sorted(folder.iterdir())
        if (folder / INDEX).exists():
            raise BadInput(f"{folder}: holds shards already; delete them or choose another folder")
        for file in there:
            if not (folder / UNFINISHED).exists() or not OURS.fullmatch(file.name) or not file.is_file():
                raise BadInput(f"{folder}: holds {file.name!r}; choose an empty folder for the shards")
        (folder / UNFINISHED).touch()
        for file in there:
            if file.name != UNFINISHED:
                file.unlink()
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written to ({error.strerror or error}); choose another folder") from error


@dataclass
class _Work:
    folder: Path
    cleaned: Cleaned
    seen: Seen
    splits: npt.NDArray[Any]
    limit: int  # bytes of a shard
    threads: int
    progress: Progress | None

    def __post_init__(self) -> None:
        self.keys, self.labels = self.seen.keys, self.seen.labels  # made anew each time they are asked for

    def order(self) -> list[int]:
        """By split, then by content: neighbours in a shard are no neighbours in a folder, whatever files are called."""
        places = [SPLITS.index(split) for split in self.splits]
        return sorted(range(len(places)), key=lambda i: (places[i], self.seen.digests[i], self.labels[i], self.keys[i]))

    def write(self, order: list[int]) -> tuple[tuple[Shard, ...], npt.NDArray[np.void], list[dict[str, Any]], int]:
        """(shards, rows of the index, lines of the manifest, how many pictures were encoded)"""
        shards: list[Shard] = []
        rows = np.zeros(len(order), ROW)
        manifest: list[dict[str, Any]] = []
        encoded, tar, split, held = 0, Writer(), "", 0

        def close() -> None:
            nonlocal tar, held
            if held:
                shards.append(self._close(tar, split, held, shards))
            tar, held = Writer(), 0

        for number, (index, data, size, anew) in enumerate(self._pictures(order)):
            label = int(self.labels[index])
            cost = len(data) + 4 * 512  # two headers, a label, padding
            if self.splits[index] != split or len(tar) + cost > self.limit:
                close()
            split, held, encoded = str(self.splits[index]), held + 1, encoded + anew
            extension, digest = EXTENSION[data[:2]], self.seen.digests[index]
            offset = tar.add(f"{number:09}.{extension}", data)
            tar.add(f"{number:09}.cls", str(label).encode())
            rows[number] = len(shards), offset, len(data), label, np.frombuffer(digest, np.uint8)
            manifest.append(
                {
                    "photo": self.keys[index],
                    "picture": number,
                    "split": split,
                    "label": label,
                    "width": size[0],
                    "height": size[1],
                    "bytes": len(data),
                    "sha256": digest.hex(),
                    "encoded": anew,
                }
            )
        close()
        return tuple(shards), rows, manifest, encoded

    def _pictures(self, order: list[int]) -> Iterator[tuple[int, bytes, tuple[int, int], bool]]:
        """(position in seen, file, size, whether it was encoded) in this order, made a few at a time in threads."""
        step = AT_A_TIME * self.threads
        with ThreadPoolExecutor(self.threads) as pool:
            for start in range(0, len(order), step):
                chosen = order[start : start + step]
                yield from pool.map(self._picture, chosen)
                if self.progress is not None:
                    self.progress("writing shards", start + len(chosen), len(order))

    def _picture(self, index: int) -> tuple[int, bytes, tuple[int, int], bool]:
        try:
            data, image, encoded = self.cleaned.stored(int(self.seen.positions[index]))
        except BadImage as error:
            raise BadPhotos(f"{self.keys[index]} could be read and now cannot: {error}") from error
        if hashlib.sha256(data).digest() != self.seen.digests[index]:
            raise BadPhotos(f"{self.keys[index]} has changed while it was read; run the same call again")
        return index, data, image.size, encoded

    def _close(self, tar: Writer, split: str, pictures: int, before: list[Shard]) -> Shard:
        name = f"{split}-{sum(shard.split == split for shard in before):06}.tar"
        content = tar.close()
        if len(content) > MAX_SHARD:
            raise BadPhotos(f"{name}: would have {len(content):,} bytes, more than {MAX_SHARD:,}; use --side")
        write_atomically(self.folder / name, content)
        return Shard(name, split, pictures, len(content), hashlib.sha256(content).hexdigest())


def _audit(seen: Seen, splits: npt.NDArray[Any], order: list[int], seed: int, notes: tuple[str, ...]) -> Audit:
    """Of what the shards hold, which calls pictures by their numbers: the photos' names stay at home."""
    keys = list(seen.listing.keys)
    for number, index in enumerate(order):
        keys[seen.positions[index]] = f"{number:09}"
    if seen.set_aside:
        notes = (*notes, f"{len(seen.set_aside)} files were set aside when the shards were made")
    nameless = replace(seen, listing=replace(seen.listing, keys=tuple(keys)), set_aside=())
    return report(nameless, splits, seed=seed, notes=notes)
