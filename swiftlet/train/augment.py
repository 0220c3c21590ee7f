"""The view of each picture that the network is shown: crop, turn, mirror, light, a policy, for a whole batch at once.

One affine map per picture and one bilinear lookup do crop, aspect, rotation, shift and mirror together. Every choice is
a function of the picture's key, made on the CPU; the pixels stay on the device that they are on.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.train.boxes import TRIES, random_boxes, resample
from swiftlet.train.draws import Keys, uniforms
from swiftlet.train.operations import grey
from swiftlet.train.policies import apply_policy
from swiftlet.train.recipe import Recipe

GROWN = 0.75  # share of the run after which the side is the network's own
SIDE_STEP = 8
MIDDLE = 128.0  # contrast is stretched about this grey
CANVAS = 1.25  # times the network's side


def canvas(contract: InputContract, short_side: int) -> InputContract:
    """What training pictures are decoded by: a little larger than the network's side, where the photos, of that median
    short side, have the pixels, so that random crops stay sharp."""
    return replace(contract, side=min(round(CANVAS * contract.side), max(contract.side, short_side)))


def side_at(recipe: Recipe, side: int, step: int, steps: int) -> int:
    """Side of the views at a step: from recipe.side_from x side, in multiples of 8, linearly to side."""
    done = step / (GROWN * steps)
    if done >= 1 or recipe.side_from == 1:
        return side
    share = recipe.side_from + (1 - recipe.side_from) * done
    return min(side, max(SIDE_STEP, round(share * side / SIDE_STEP) * SIDE_STEP))


def refuse_other_sides(model: nn.Module, recipe: Recipe, side: int, steps: int) -> None:
    """Raises BadInput if the network cannot take pictures of the side that the run begins with."""
    first, mode = side_at(recipe, side, 0, steps), model.training
    if first == side:
        return
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, first, first, device=next(model.parameters()).device))
    except RuntimeError as error:
        raise BadInput(
            f"recipe {recipe.name!r} begins at {first} pixels, which the network cannot take; set side_from=1 ({error})"
        ) from error
    finally:
        model.train(mode)


def augment(pictures: Tensor, recipe: Recipe, side: int, keys: Keys) -> Tensor:
    """uint8 (B, S, S, 3) -> float32 (B, 3, side, side) in 0..255, a view of each picture that its key decides.

    Raises BadInput if they are no such pictures.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1:] != (pictures.shape[1],) * 2 + (3,):
        raise BadInput(f"augment takes uint8 (B, S, S, 3), got {pictures.dtype} {tuple(pictures.shape)}")
    draws = uniforms(keys, 2 * TRIES + 7)
    images = _views(pictures.permute(0, 3, 1, 2).float(), recipe, side, draws[:, :-3])
    light = torch.from_numpy(2 * draws[:, -3:] - 1).to(images.device, non_blocking=True)[..., None, None]
    if recipe.jitter > 0:
        brightness, contrast = 1 + recipe.jitter * light[:, 0:1], 1 + recipe.jitter * light[:, 1:2]
        images.mul_(brightness * contrast).add_(MIDDLE * (1 - contrast))
    if recipe.colour > 0:
        luma = grey(images)
        images.sub_(luma).mul_(1 + recipe.colour * light[:, 2:3]).add_(luma)
    if recipe.jitter > 0 or recipe.colour > 0:
        images.clamp_(0, 255)
    return apply_policy(images, recipe, keys)


def _views(pictures: Tensor, recipe: Recipe, side: int, draws: np.ndarray) -> Tensor:
    """Crops, turned and mirrored."""
    whole = recipe.min_area == 1 and recipe.rotation == 0
    x, y, turn, coin = draws[:, -4:].T
    mirror = np.where(coin < 0.5, np.float32(-1), np.float32(1)) if recipe.flip else np.ones_like(coin)
    if whole and pictures.shape[2] == side:  # the very pixels
        if not recipe.flip:
            return pictures
        flipped = torch.from_numpy(mirror < 0).to(pictures.device, non_blocking=True).view(-1, 1, 1, 1)
        return torch.where(flipped, pictures.flip(3), pictures)
    w, h = random_boxes(draws[:, :-4], (recipe.min_area, 1.0), recipe.aspect)
    angle = (2 * turn - 1) * np.float32(np.radians(recipe.rotation))
    cos, sin = np.cos(angle), np.sin(angle)
    rows = (cos * w * mirror, -sin * h, (2 * x - 1) * (1 - w)), (sin * w * mirror, cos * h, (2 * y - 1) * (1 - h))
    maps = torch.from_numpy(np.stack([np.stack(row, 1) for row in rows], 1)).to(
        pictures.device, non_blocking=True
    )  # (B, 2, 3)
    finer = max(1, round(pictures.shape[2] / side))  # bilinear alone would skip pixels of a picture this much larger
    return F.avg_pool2d(resample(pictures, maps, side * finer), finer) if finer > 1 else resample(pictures, maps, side)


def normalised(images: Tensor, contract: InputContract) -> Tensor:
    """What InputContract.normalise does, to the bit, for (B, 3, S, S) in 0..255, in place, on any device."""
    mean, std = (
        torch.tensor(values).view(3, 1, 1).to(images.device, non_blocking=True)
        for values in (contract.mean, contract.std)
    )
    return images.sub_(mean).div_(std)
