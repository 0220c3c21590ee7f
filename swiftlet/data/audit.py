"""Every photo is decoded once before anything is trained; what cannot be used is set aside with the reason."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.data.duplicates import Groups, find_groups, thumbnail
from swiftlet.data.listing import SPLITS, Listing, SetAside
from swiftlet.data.pool import each
from swiftlet.errors import BadImage, BadPhotos
from swiftlet.progress import Progress


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A picture that stands in two splits, the same or nearly."""

    a: str
    b: str
    split_a: str
    split_b: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found in a source of photos. found = used + set aside; counts: split -> class -> photos.

    duplicates: pictures in two splits, possible only if the user made the splits. duplicate_groups: sets of copies,
    kept on one side where swiftlet made the splits. digest: over contents, labels, splits and seed; it does not change
    with file names or with files that were set aside.
    """

    found: int
    used: int
    set_aside: tuple[SetAside, ...]
    duplicates: tuple[Duplicate, ...]
    duplicate_groups: int
    counts: dict[str, dict[str, int]]
    notes: tuple[str, ...]
    median_short_side: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "set_aside": [asdict(item) for item in self.set_aside],
            "duplicates": [asdict(item) for item in self.duplicates],
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Seen:
    """What decoding taught about the good pictures of a listing, in its order."""

    listing: Listing
    positions: npt.NDArray[np.int64]  # (N,) in the listing
    digests: tuple[bytes, ...]
    short_sides: npt.NDArray[np.int64]
    groups: Groups
    set_aside: tuple[SetAside, ...]

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        return self.listing.labels[self.positions]

    @property
    def keys(self) -> list[str]:
        return [self.listing.keys[position] for position in self.positions]


def look(listing: Listing, *, threads: int, progress: Progress | None) -> Seen:
    """Decodes every picture of the listing. Raises BadPhotos if not one can be used."""

    def one(index: int) -> tuple[bytes, bytes, int, npt.NDArray[np.uint8]] | BadImage:
        try:
            image = listing.pictures.image(index)
            pixels = hashlib.sha256(f"{image.size}".encode())
            pixels.update(image.tobytes())
            return listing.pictures.digest(index), pixels.digest(), min(image.size), thumbnail(image)
        except BadImage as error:
            return error

    results = each(one, len(listing.keys), threads=threads, stage="reading photos", progress=progress)
    aside = list(listing.set_aside)
    good = []
    for index, result in enumerate(results):
        if isinstance(result, BadImage):
            aside.append(SetAside(listing.keys[index], str(result)))
        else:
            good.append((index, *result))
    aside.sort(key=lambda item: item.key)
    if not good:
        reasons = "; ".join(f"{item.key}: {item.reason}" for item in aside[:3])
        raise BadPhotos(f"{listing.name}: holds no photo that can be used ({reasons or 'it is empty'})")
    positions, digests, pixels, short_sides, thumbs = zip(*good, strict=True)
    if progress is not None:
        progress("comparing photos", 0, 1)
    chosen = np.array(positions, np.int64)
    groups = find_groups(pixels, np.stack(thumbs), listing.labels[chosen])
    if progress is not None:
        progress("comparing photos", 1, 1)
    return Seen(listing, chosen, digests, np.array(short_sides, np.int64), groups, tuple(aside))


def report(seen: Seen, splits: npt.NDArray[Any], *, seed: int, notes: tuple[str, ...]) -> Audit:
    """The audit of what was seen, with `splits` as delivered: (N,) of split names."""
    labels, keys, classes = seen.labels, seen.keys, seen.listing.classes
    counts = {
        split: dict(zip(classes, np.bincount(labels[splits == split], minlength=len(classes)).tolist(), strict=True))
        for split in SPLITS
        if (splits == split).any()
    }
    lines = sorted(
        f"{split} {classes[label]} {digest.hex()}"
        for split, label, digest in zip(splits, labels, seen.digests, strict=True)
    )
    return Audit(
        found=len(keys) + len(seen.set_aside),
        used=len(keys),
        set_aside=seen.set_aside,
        duplicates=_across_splits(seen.groups, splits, keys),
        duplicate_groups=seen.groups.count,
        counts=counts,
        notes=(*seen.listing.notes, *notes, *_missing(counts), *_about_copies(seen.groups, labels, keys, classes)),
        median_short_side=int(np.median(seen.short_sides)),
        digest=hashlib.sha256("\n".join([f"seed {seed}", *classes, *lines]).encode()).hexdigest(),
    )


def _across_splits(groups: Groups, splits: npt.NDArray[Any], keys: list[str]) -> tuple[Duplicate, ...]:
    """Each picture that a group has outside its first split, paired with the group's first picture there."""
    found = []
    for group in groups.members():
        first = min(group, key=lambda index: (SPLITS.index(splits[index]), index))
        found += [
            Duplicate(keys[first], keys[other], str(splits[first]), str(splits[other]))
            for other in group
            if splits[other] != splits[first]
        ]
    return tuple(sorted(found, key=lambda pair: (pair.a, pair.b)))


def _missing(counts: dict[str, dict[str, int]]) -> list[str]:
    return [
        f"no {split} photos of class {name!r}"
        for split in counts
        for name, count in counts[split].items()
        if count == 0
    ]


def _about_copies(
    groups: Groups, labels: npt.NDArray[np.int64], keys: list[str], classes: tuple[str, ...]
) -> list[str]:
    notes = []
    torn = [group for group in groups.members() if len(set(labels[group].tolist())) > 1]
    if torn:
        examples = []
        for group in torn[:3]:
            _, first = np.unique(labels[group], return_index=True)  # one picture for each label
            examples.append(" and ".join(f"{keys[index]} ({classes[labels[index]]})" for index in group[first]))
        notes.append(f"{len(torn)} pictures have more than one label (the same or nearly): {'; '.join(examples)}")
    sizes = [len(group) for group in groups.members()]
    if sizes:
        notes.append(f"{len(sizes)} groups of copies or near copies, the largest of {max(sizes)} photos")
    for size in groups.scenes:
        notes.append(
            f"{size} photos look nearly the same (a fixed scene?), more than half of their class: they are spread over "
            "the splits, and accuracy on them may look better than on new photos"
        )
    return notes
