"""Photos in, from a folder, shards, an .npz file or the digits; out: train, val, a sealed test split and an audit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.audit import Audit, Duplicate, Seen, look, report
from swiftlet.data.deal import CARVE_VAL, UNSPLIT, deal
from swiftlet.data.digits import list_digits
from swiftlet.data.folder import list_folder
from swiftlet.data.listing import SPLITS, Listing, SetAside
from swiftlet.data.npz import list_npz
from swiftlet.data.shard_reader import list_shards, open_shards, place_of
from swiftlet.data.shard_tar import list_tars
from swiftlet.data.split import SealedSplit, Split
from swiftlet.errors import BadPhotos
from swiftlet.progress import Progress

__all__ = ["Audit", "Duplicate", "Photos", "SealedSplit", "SetAside", "Split", "load_labelled", "load_photos"]

FEWEST_UNSPLIT = 5
FEWEST_TRAIN = 2


@dataclass(frozen=True)
class Photos:
    """A classification task: class names (a label is a position in them), three splits and what the audit found."""

    name: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: SealedSplit
    audit: Audit


def load_photos(
    source: Path | str | None, *, seed: int = 0, threads: int = 2, progress: Progress | None = None
) -> Photos:
    """Photos from a folder per class, train/val/test folders of such, or an .npz file; None: the built-in digits.

    Splits that the user made are kept. Without any, each class is dealt 70/15/15; without val, it is 15/85 of train;
    with train and val only, val becomes the sealed test (people hold it out to report on) and a new val is dealt.
    `seed` decides the dealing. Bad files are set aside and named in the audit.

    Also from the shards that make_shards wrote, in a folder or at an address that fsspec opens. They were audited and
    split when they were made, so nothing is decoded here and `seed` decides nothing. Raises BadPhotos, MissingExtra.
    """
    if source is not None and place_of(source) is not None:
        return _from_shards(source)
    seen, splits, notes = dealt(list_source(source), seed=seed, threads=threads, progress=progress)

    def part(split: str) -> Split:
        return _split(seen, np.flatnonzero(splits == split))

    return Photos(
        name=seen.listing.name,
        classes=seen.listing.classes,
        train=part("train"),
        val=part("val"),
        test=SealedSplit(part("test"), len(seen.listing.classes)),
        audit=report(seen, splits, seed=seed, notes=notes),
    )


def _from_shards(source: Path | str) -> Photos:
    index, pictures = open_shards(source)
    listing = list_shards(index, pictures)

    def part(split: str) -> Split:
        rows = np.flatnonzero(listing.splits == split)
        return Split(pictures, rows.tolist(), [listing.keys[row] for row in rows], listing.labels[rows].tolist())

    return Photos(
        name=index.name,
        classes=index.classes,
        train=part("train"),
        val=part("val"),
        test=SealedSplit(part("test"), len(index.classes)),
        audit=index.audit,
    )


def dealt(
    listing: Listing, *, seed: int, threads: int, progress: Progress | None
) -> tuple[Seen, npt.NDArray[Any], tuple[str, ...]]:
    """(good pictures of a listing, (N,) the split of each, notes on how they were split). Raises BadPhotos."""
    notes: list[str] = []
    given = listing.given
    if given and "train" not in given:
        raise BadPhotos(f"{listing.name}: has {' and '.join(sorted(given))} but no train photos; add a train folder")
    if given == {"train", "val"}:
        splits = np.where(listing.splits == "val", "test", listing.splits)
        listing, given = replace(listing, splits=splits), frozenset({"train", "test"})
        notes.append("your val photos are the sealed test; validation photos are taken from train")
    elif given == {"train", "test"}:
        notes.append("there are no val photos: validation photos are taken from train")

    seen = look(listing, threads=threads, progress=progress)
    own = listing.splits[seen.positions]
    learnable = own != "test" if given != set(SPLITS) else own == "train"
    _check_classes(listing, seen.labels[learnable], FEWEST_TRAIN if given else FEWEST_UNSPLIT)
    splits = _deal(seen, learnable, own, seed) if given != set(SPLITS) else own
    for split in SPLITS:
        if not (splits == split).any():
            raise BadPhotos(f"{listing.name}: the {split} split holds no photo that can be used")
    return seen, splits, tuple(notes)


def load_labelled(
    source: Path | str,
    classes: tuple[str, ...] | None = None,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> tuple[tuple[str, ...], Split, Audit]:
    """(classes, photos, audit) to check a file on: the test photos of a split source, else its val, else all there is.

    `classes`: the names that the file knows, in its order; labels become positions in them. Raises BadPhotos, also
    for a class that is not among them.
    """
    listing = list_source(source, classes)
    notes: tuple[str, ...] = ()
    used = next((split for split in ("test", "val", "train") if split in listing.given), "")
    if used:
        listing = _only(listing, used)
        notes = (f"of the splits, only the {used} photos are used",)
    seen = look(listing, threads=threads, progress=progress)
    everything = np.arange(len(seen.positions))
    return (
        listing.classes,
        _split(seen, everything),
        report(seen, np.full(len(everything), used or "test"), seed=0, notes=notes),
    )


def list_source(source: Path | str | None, classes: tuple[str, ...] | None = None) -> Listing:
    """What a source holds: load_photos's, or tar files of others in WebDataset's form. Raises BadPhotos."""
    if source is None:
        return list_digits()
    if place_of(source) is not None:
        return _renamed(list_shards(*open_shards(source)), classes)
    source = Path(source)
    tars = _tars(source)
    if tars:
        listing = list_tars(tars, classes)
    elif source.is_dir():
        listing = list_folder(source, classes)
    elif source.suffix.lower() == ".npz" and source.is_file():
        listing = list_npz(source, classes)
    elif source.exists():
        raise BadPhotos(f"{source}: is no folder, .npz or .tar file; unpack an archive into a folder first")
    else:
        raise BadPhotos(f"{source}: there is no such folder or file")
    if not listing.classes:
        reasons = "".join(f"; {item.key}: {item.reason}" for item in listing.set_aside[:3])
        raise BadPhotos(
            f"{source}: holds no class folder; put the photos of each class into a folder with its name{reasons}"
        )
    return listing


def _tars(source: Path) -> list[Path]:
    """The tar files that a source is, or that it holds beside no folder."""
    if source.is_dir():
        visible = [entry for entry in source.iterdir() if not entry.name.startswith(".")]
        tars = sorted(entry for entry in visible if entry.suffix.lower() == ".tar" and entry.is_file())
        return [] if any(entry.is_dir() for entry in visible) else tars
    return [source] if source.suffix.lower() == ".tar" and source.is_file() else []


def _renamed(listing: Listing, classes: tuple[str, ...] | None) -> Listing:
    """With labels as positions in `classes`, matched by name."""
    if classes is None or classes == listing.classes:
        return listing
    for name in listing.classes:
        if name not in classes:
            known = ", ".join(classes)
            raise BadPhotos(f"{listing.name}: class {name!r} is not one of the file's classes ({known})")
    place = np.array([classes.index(name) for name in listing.classes], np.int64)
    return replace(listing, classes=classes, labels=place[listing.labels])


def _only(listing: Listing, split: str) -> Listing:
    """The listing without the pictures of the other splits, which need not even be decoded."""
    chosen = np.flatnonzero(listing.splits == split)
    return replace(
        listing,
        keys=tuple(listing.keys[index] for index in chosen),
        labels=listing.labels[chosen],
        splits=listing.splits[chosen],
        pictures=listing.pictures.subset(chosen.tolist()),
    )


def _check_classes(listing: Listing, labels: npt.NDArray[np.int64], fewest: int) -> None:
    where = "train" if listing.given else listing.name
    if len(listing.classes) < 2:
        raise BadPhotos(
            f"{where}: holds one class only, {listing.classes[0]!r}; a classifier needs two or more folders"
        )
    for name, count in zip(listing.classes, np.bincount(labels, minlength=len(listing.classes)), strict=True):
        if count < fewest:
            raise BadPhotos(
                f"{where}: class {name!r} has {count} photos that can be used and needs {fewest}; "
                "add photos or remove the folder"
            )


def _deal(seen: Seen, open_: npt.NDArray[np.bool_], own: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """Deals the photos under `open_` (N,) into splits; the others keep their own."""
    chosen = np.flatnonzero(open_)
    splits = own.copy()
    splits[chosen] = deal(
        seen.labels[chosen],
        seen.groups.near[chosen],
        [seen.digests[index] for index in chosen],
        seen.listing.classes,
        CARVE_VAL if seen.listing.given else UNSPLIT,
        seed,
    )
    return splits


def _split(seen: Seen, chosen: npt.NDArray[np.int64] | Sequence[int]) -> Split:
    return Split(
        seen.listing.pictures,
        seen.positions[chosen].tolist(),
        [seen.listing.keys[seen.positions[index]] for index in chosen],
        seen.labels[chosen].tolist(),
    )
