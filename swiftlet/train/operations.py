"""The operations of AutoAugment (Cubuk et al. 2019, table 6) on whole batches, without its Cutout and SamplePairing.

Pictures are float (B, 3, S, S) in 0..255, amounts (B, 1, 1, 1). None works in place. They are Pillow's operations but
for its rounding down to whole grey levels: shear and rotation are bilinear, what comes in from outside is grey.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from swiftlet.train.boxes import Floats, resample

GREY = 128.0
TRANSLATE = 150 / 331  # the paper's pixels, of the side of its pictures


def grey(pictures: Tensor) -> Tensor:
    """(B, 1, S, S): luma of ITU-R 601 in the 16-bit weights that Pillow has."""
    red, green, blue = pictures[:, 0:1], pictures[:, 1:2], pictures[:, 2:3]
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).div_(65536)


def shear_x(pictures: Tensor, amount: Tensor) -> Tensor:
    """By so many pixels a pixel, about the top edge."""
    return _affine(pictures, xy=amount, x=amount)


def shear_y(pictures: Tensor, amount: Tensor) -> Tensor:
    """By so many pixels a pixel, about the left edge."""
    return _affine(pictures, yx=amount, y=amount)


def translate_x(pictures: Tensor, amount: Tensor) -> Tensor:
    """By a share of the side."""
    return _affine(pictures, x=2 * amount)


def translate_y(pictures: Tensor, amount: Tensor) -> Tensor:
    """By a share of the side."""
    return _affine(pictures, y=2 * amount)


def rotate(pictures: Tensor, amount: Tensor) -> Tensor:
    """By degrees, counter-clockwise, about the centre."""
    cos, sin = torch.cos(torch.deg2rad(amount)), torch.sin(torch.deg2rad(amount))
    return _affine(pictures, xx=cos, xy=-sin, yx=sin, yy=cos)


def brightness(pictures: Tensor, amount: Tensor) -> Tensor:
    """0 is black, 1 the picture."""
    return (pictures * amount).clamp_(0, 255)


def colour(pictures: Tensor, amount: Tensor) -> Tensor:
    """0 is the grey picture, 1 the picture."""
    return _blend(grey(pictures).add_(0.5).floor_(), pictures, amount)


def contrast(pictures: Tensor, amount: Tensor) -> Tensor:
    """0 is the picture's mean grey, 1 the picture."""
    levels = grey(pictures).add_(0.5).floor_()
    mean = levels.sum((1, 2, 3), keepdim=True, dtype=torch.float64) / levels[0].numel()  # whole numbers: exact
    return _blend((mean + 0.5).floor().float(), pictures, amount)


def sharpness(pictures: Tensor, amount: Tensor) -> Tensor:
    """0 is smoothed over 3x3 pixels (the outermost stay), 1 the picture."""
    smooth = pictures.clone()
    threes = (pictures[:, :, :-2] + pictures[:, :, 1:-1]).add_(
        pictures[:, :, 2:]
    )  # sums: far faster than a convolution
    nines = (threes[..., :-2] + threes[..., 1:-1]).add_(threes[..., 2:])
    inner = smooth[:, :, 1:-1, 1:-1]
    inner.mul_(4).add_(nines).div_(13).add_(0.5).floor_()
    return _blend(smooth, pictures, amount)


def posterize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Keeps so many of the 8 bits."""
    step = torch.exp2(8 - amount)
    return (pictures / step).floor_().mul_(step)


def solarize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Inverts what is at least so bright."""
    return torch.where(pictures < amount, pictures, 255 - pictures)


def autocontrast(pictures: Tensor, amount: Tensor) -> Tensor:
    """Stretches each channel to 0..255."""
    low, high = pictures.amin((2, 3), keepdim=True), pictures.amax((2, 3), keepdim=True)
    flat = high <= low
    stretched = (pictures - low).mul_(255 / torch.where(flat, 1, high - low)).clamp_(max=255)
    return torch.where(flat, pictures, stretched)


def equalize(pictures: Tensor, amount: Tensor) -> Tensor:
    """Spreads the levels of each channel until all are equally frequent."""
    levels = pictures.round().long().flatten(2)  # (B, 3, S x S)
    counts = levels.new_zeros(*levels.shape[:2], 256).scatter_add_(2, levels, torch.ones_like(levels))
    highest = counts.gather(2, levels.amax(2, keepdim=True))  # how many pixels have the brightest level
    step = (levels.shape[2] - highest) // 255
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp_(max=255)
    spread = table.gather(2, levels).view_as(pictures).to(pictures.dtype)
    return torch.where((step == 0)[..., None], pictures, spread)


def invert(pictures: Tensor, amount: Tensor) -> Tensor:
    return 255 - pictures


def identity(pictures: Tensor, amount: Tensor) -> Tensor:
    return pictures


def _blend(low: Tensor, pictures: Tensor, amount: Tensor) -> Tensor:
    return (pictures - low).mul_(amount).add_(low).clamp_(0, 255)


def _affine(pictures: Tensor, **entries: Tensor) -> Tensor:
    """Where each pixel comes from: entries of the matrix, xx and yy 1 and all others 0 unless given."""
    maps = pictures.new_zeros(len(pictures), 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = 1
    for name, value in entries.items():
        row, column = "xy".index(name[0]), "xy".index(name[1]) if len(name) > 1 else 2
        maps[:, row, column] = value.flatten()
    return resample(pictures, maps, pictures.shape[2], fill=GREY)


def _either_way(most: float, about: float = 0.0) -> Callable[[Floats, Floats], Floats]:
    return lambda level, sign: about + sign * level * np.float32(most)


def _none(level: Floats, sign: Floats) -> Floats:
    return level


# name: the operation, and its amount from a level in 0..1 and a sign. A level of 1 is the end of the paper's range.
# Of the four that may weaken or strengthen, 0 is here the picture as it is; in the paper's code that is 0.5.
OPERATIONS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Floats, Floats], Floats]]] = {
    "identity": (identity, _none),
    "shear-x": (shear_x, _either_way(0.3)),
    "shear-y": (shear_y, _either_way(0.3)),
    "translate-x": (translate_x, _either_way(TRANSLATE)),
    "translate-y": (translate_y, _either_way(TRANSLATE)),
    "rotate": (rotate, _either_way(30.0)),
    "brightness": (brightness, _either_way(0.9, 1.0)),
    "colour": (colour, _either_way(0.9, 1.0)),
    "contrast": (contrast, _either_way(0.9, 1.0)),
    "sharpness": (sharpness, _either_way(0.9, 1.0)),
    "posterize": (posterize, lambda level, sign: 8 - np.round(4 * level)),
    "solarize": (solarize, lambda level, sign: 255 * (1 - level)),
    "autocontrast": (autocontrast, _none),
    "equalize": (equalize, _none),
    "invert": (invert, _none),
}


def operate(pictures: Tensor, chosen: npt.NDArray[np.integer], levels: Floats, signs: Floats) -> None:
    """In place: on each picture the operation that `chosen` (B,) gives by its place in OPERATIONS, at its level."""
    for place in np.unique(chosen):
        operation, amount = list(OPERATIONS.values())[place]
        if operation is identity:
            continue
        members = np.flatnonzero(chosen == place)
        where = torch.from_numpy(members).to(pictures.device, non_blocking=True)
        amounts = torch.from_numpy(amount(levels[members], signs[members]).astype(np.float32))
        drawn = operation(pictures[where], amounts.to(pictures.device, non_blocking=True).view(-1, 1, 1, 1))
        pictures.index_copy_(0, where, drawn)
