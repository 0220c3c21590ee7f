"""Splits made by swiftlet: stratified, groups of duplicates on one side, decided by content and seed alone.

Nothing here sees a file name or a position, so that renaming a photo, or removing a bad one, moves no other photo.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.errors import BadPhotos

Shares = dict[str, float]  # split -> share of each class; the rest is for training
UNSPLIT: Shares = {"test": 0.15, "val": 0.15}
CARVE_VAL: Shares = {"val": 15 / 85}


def deal(
    labels: npt.NDArray[np.int64],
    groups: npt.NDArray[np.int64],
    digests: Sequence[bytes],
    classes: Sequence[str],
    shares: Shares,
    seed: int,
) -> npt.NDArray[Any]:
    """(N,) of split names for (N,) labels, (N,) group ids and N content digests.

    Each class gets its share of photos in each split, at least one (two from eight photos on) as far as groups allow.
    Raises BadPhotos for a class with fewer different pictures than there are splits.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[int(group)].append(index)
    hands: list[list[tuple[str, list[int]]]] = [[] for _ in classes]
    for group in members.values():
        digest, label = min((digests[index], int(labels[index])) for index in group)
        hands[label].append((hashlib.sha256(f"{seed}:{digest.hex()}".encode()).hexdigest(), group))

    splits = np.full(len(labels), "train", "U5")
    for name, hand in zip(classes, hands, strict=True):
        if len(hand) <= len(shares):
            photos = int((labels == classes.index(name)).sum())
            raise BadPhotos(
                f"class {name!r}: its {photos} photos show only {len(hand)} different pictures; "
                f"{len(shares) + 1} are needed, one for each split: add photos or leave the class out"
            )
        _deal_class(hand, shares, splits)
    return splits


def _deal_class(hand: list[tuple[str, list[int]]], shares: Shares, splits: npt.NDArray[Any]) -> None:
    """Deals out the (order, group)s of one class into `splits`, in place."""
    photos = sum(len(group) for _, group in hand)
    room = {split: max(2 if photos >= 8 else 1, math.floor(share * photos + 0.5)) for split, share in shares.items()}
    by_size = sorted(hand, key=lambda item: (len(item[1]), item[0]))
    opening = dict(zip(shares, by_size, strict=False))  # one group each comes first, the smallest: none may stay empty
    kept = by_size[len(shares)]  # and this one is for training
    for split, (_, group) in opening.items():
        splits[group] = split
        room[split] -= len(group)
    for order, group in sorted(hand):
        if order == kept[0] or any(order == taken for taken, _ in opening.values()):
            continue
        for split in shares:
            if len(group) <= room[split]:
                splits[group] = split
                room[split] -= len(group)
                break
