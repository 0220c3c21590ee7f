"""Pictures that are copies of each other: the same pixels, or re-encoded, resized or slightly brightened ones.

A picture is compared by its thumbnail, 16x16 RGB. Two are near-duplicates if their grey thumbnails correlate at ALIKE
or more, what a gain and an offset leave unexplained is at most RESIDUAL grey levels (rms), and colours differ by at
most COLOUR levels on average. Correlation alone calls many 28x28 garments alike and a tight residual alone misses
brightened photos; docs/log.md has the measured recall and false positives. Not found: mirrored, rotated or cropped
copies, and re-encoded pictures of a few pixels (8x8), which differ from each other as little as from their copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

THUMB = 16
ALIKE = 0.995
RESIDUAL = 6.0
COLOUR = 32.0
FLAT = 2.0  # grey levels: a thumbnail that varies less shows nothing to compare
SCENE = (10, 0.5)  # photos, share of its class
BLOCK = 1 << 24  # similarities in memory at a time


@dataclass(frozen=True)
class Groups:
    """Who belongs together. Both arrays are (N,) int64: the lowest position in the picture's group."""

    same: npt.NDArray[np.int64]  # same pixels
    near: npt.NDArray[np.int64]  # same or near
    scenes: tuple[int, ...]  # sizes of the near groups that were given up, see find_groups

    @property
    def count(self) -> int:
        """Groups of two or more."""
        return int((np.bincount(self.near) > 1).sum()) if len(self.near) else 0

    def members(self) -> list[npt.NDArray[np.int64]]:
        """The near groups of two or more, as positions in rising order."""
        order = np.argsort(self.near, kind="stable")
        starts = np.flatnonzero(np.diff(self.near[order])) + 1
        return [group for group in np.split(order, starts) if len(group) > 1]


def thumbnail(image: Image.Image) -> npt.NDArray[np.uint8]:
    """RGB picture -> (16, 16, 3) uint8, squashed: two sizes of one picture must agree, whatever their rounding."""
    return np.asarray(image.resize((THUMB, THUMB), Image.Resampling.BILINEAR, reducing_gap=4.0))


def find_groups(pixels: Sequence[bytes], thumbs: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> Groups:
    """Groups from digests of the pixels, (N, 16, 16, 3) thumbnails and (N,) labels.

    A large near group that is more than half of a class is not copies but a fixed scene (a conveyor belt, a parked
    camera): keeping it on one side would leave nothing to test on, so only its exact duplicates stay together.
    """
    first: dict[bytes, int] = {}
    same = np.array([first.setdefault(digest, index) for index, digest in enumerate(pixels)], np.int64)
    unique = np.flatnonzero(same == np.arange(len(same)))
    near = unique[_near(thumbs[unique])][np.searchsorted(unique, same)]

    sizes = np.bincount(near, minlength=len(near))
    per_class = np.bincount(labels)
    roots, copies = np.flatnonzero(sizes), np.bincount(same, minlength=len(same))
    scenes = []
    for root in roots[sizes[roots] > SCENE[0]]:
        inside = near == root
        if sizes[root] > SCENE[1] * per_class[labels[inside]].max() and copies[same[inside]].max() < sizes[root]:
            near[inside] = same[inside]
            scenes.append(int(sizes[root]))
    return Groups(same, near, tuple(scenes))


def _near(thumbs: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(N,) the lowest position in each thumbnail's near group: one matrix product in blocks, then the finer checks."""
    flat = thumbs.reshape(len(thumbs), THUMB * THUMB, 3)
    grey = flat.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    grey -= grey.mean(axis=1, keepdims=True)
    spread = np.sqrt((grey * grey).mean(axis=1))  # (N,) grey levels
    grey /= np.maximum(spread, 1e-6)[:, None] * THUMB
    grey[spread < FLAT] = 0

    parent = np.arange(len(thumbs))
    step = max(1, BLOCK // max(1, len(thumbs)))
    for start in range(0, len(thumbs), step):
        for a, alike in enumerate(grey[start : start + step] @ grey[start:].T, start):
            others = start + np.flatnonzero(alike >= ALIKE)
            others = others[others > a]
            others = others[parent[others] != parent[a]]  # of a fixed scene every pair is alike: see each picture once
            residual = np.sqrt(np.maximum(0, 1 - alike[others - start] ** 2) * spread[a] * spread[others])
            colour = np.abs(flat[others].astype(np.int16) - flat[a]).mean(axis=(1, 2))
            for b in others[(residual <= RESIDUAL) & (colour <= COLOUR)]:
                low, high = sorted((_root(parent, a), _root(parent, b)))
                parent[high] = low
    return np.array([_root(parent, index) for index in range(len(parent))], np.int64)


def _root(parent: npt.NDArray[np.int64], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return int(index)
