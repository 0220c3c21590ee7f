"""What pixels a network sees. This file is the reference; every other path must agree with it on golden_pictures()."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from swiftlet.errors import BadFile, BadInput

SIDES = (8, 1024)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
FIXED = {"crop": "center", "exif": "transpose", "colour": "RGB"}
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """From an upright RGB picture (decode.py) to the network's input. mean and std per channel, in units of 0..255.

    The rule: of a width x height picture take the centred square box of side s = crop_pct x the short side, from
    (width - s) / 2 and (height - s) / 2 (halves stay halves, so a mirrored picture gives mirrored pixels), and resize
    that box to side x side with Pillow's antialiased filter called `resize`. The filter reads past the box where the
    picture goes on. "224 crop of 256" is crop_pct = 224 / 256. Raises BadInput.
    """

    side: int
    mean: Triple = (128.0, 128.0, 128.0)
    std: Triple = (64.0, 64.0, 64.0)
    resize: Literal["bilinear", "bicubic"] = "bilinear"
    crop_pct: float = 1.0
    crop: Literal["center"] = "center"
    exif: Literal["transpose"] = "transpose"
    colour: Literal["RGB"] = "RGB"

    def __post_init__(self) -> None:
        for name, wrong in _faults(asdict(self)):
            raise BadInput(f"InputContract: {name} {wrong}")

    def pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """An RGB picture of any size -> (side, side, 3) uint8. Raises BadInput for another mode."""
        if image.mode != "RGB":
            raise BadInput(f"InputContract.pixels takes an RGB picture, got mode {image.mode}; open_photo gives RGB")
        width, height = image.size
        box_side = min(width, height) * self.crop_pct
        left, top = (width - box_side) / 2, (height - box_side) / 2
        box = (left, top, left + box_side, top + box_side)
        return np.array(image.resize((self.side, self.side), FILTERS[self.resize], box=box))

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, side, side, 3) uint8 -> (N, 3, side, side) float32, (x - mean) / std, channels last in memory.

        Raises BadInput.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (self.side, self.side, 3):
            raise BadInput(f"normalise takes uint8 (N, {self.side}, {self.side}, 3), got {pixels.dtype} {pixels.shape}")
        out = pixels.astype(np.float32)
        out -= np.array(self.mean, np.float32)
        out /= np.array(self.std, np.float32)
        return out.transpose(0, 3, 1, 2)

    @property
    def grid(self) -> tuple[float, int] | None:
        """(scale, zero point) of normalised pixels if one uint8 grid serves all channels exactly, else None."""
        whole = float(self.mean[0]).is_integer() and 0 <= self.mean[0] <= 255
        if len(set(self.mean)) > 1 or len(set(self.std)) > 1 or not whole:
            return None
        return 1 / self.std[0], int(self.mean[0])

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, data: object) -> "InputContract":
        """The contract in a delivered file. All keys must be there and no others. Raises BadFile naming the key."""
        if not isinstance(data, dict):
            raise BadFile(f"input contract: expected an object, got {type(data).__name__}")
        names = {field.name for field in fields(cls)}
        for key in sorted(data.keys() ^ names, key=str):
            raise BadFile(f"input contract: key {key!r} is {'missing' if key in names else 'unknown'}")
        for name, wrong in _faults(data):
            raise BadFile(f"input contract: {name} {wrong}")
        triples = {name: tuple(float(value) for value in data[name]) for name in ("mean", "std")}
        return cls(**(data | triples))


def _faults(data: dict[str, Any]) -> list[tuple[str, str]]:
    """(field, what is wrong with it) for the values of a contract."""
    faults = []
    side = data["side"]
    if type(side) is not int or not SIDES[0] <= side <= SIDES[1]:
        faults.append(("side", f"must be an integer from {SIDES[0]} to {SIDES[1]}, got {side!r}"))
    for name in ("mean", "std"):
        values = data[name]
        if not (
            isinstance(values, list | tuple)
            and len(values) == 3
            and all(type(value) in (int, float) and math.isfinite(value) for value in values)
            and (name == "mean" or min(values) > 0)
        ):
            positive = " positive" if name == "std" else ""
            faults.append((name, f"must be three finite{positive} numbers, got {values!r}"))
    if data["resize"] not in tuple(FILTERS):
        faults.append(("resize", f"must be {' or '.join(map(repr, FILTERS))}, got {data['resize']!r}"))
    share = data["crop_pct"]
    if type(share) not in (int, float) or not 0 < share <= 1:
        faults.append(("crop_pct", f"must be a number above 0, at most 1, got {share!r}"))
    faults += [
        (name, f"must be {only!r}, the only kind there is; got {data[name]!r}")
        for name, only in FIXED.items()
        if data[name] != only
    ]
    return faults


def golden_pictures() -> tuple[tuple[str, Image.Image], ...]:
    """Four named RGB pictures to prove that two paths see the same pixels.

    Value of channel c at column x, row y, from integers below 2^53 only: JavaScript can make the same pictures.
    """
    return (
        ("gradient-96x64", _picture(96, 64, lambda x, y, c: (x * 255 // 95, y * 255 // 63, (x + y) * 255 // 158)[c])),
        ("checker-50x75", _picture(50, 75, lambda x, y, c: (20, 210, 0, 240, 30, 250)[(x // 5 + y // 5) % 2 * 3 + c])),
        ("noise-33x40", _picture(33, 40, _noise)),
        ("rings-128x128", _picture(128, 128, lambda x, y, c: ((x - 40 - 20 * c) ** 2 + (y - 64) ** 2) // 8 % 256)),
    )


def _noise(x: int, y: int, c: int) -> int:
    mixed = (3 * (33 * y + x) + c + 1) * 40503 % 65521
    return mixed * mixed % 65521 % 256


def _picture(width: int, height: int, value: Callable[[int, int, int], int]) -> Image.Image:
    flat = bytes(value(x, y, c) for y in range(height) for x in range(width) for c in range(3))
    return Image.frombytes("RGB", (width, height), flat)
