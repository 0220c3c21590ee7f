"""RandAugment (Cubuk et al. 2020) and AutoAugment (Cubuk et al. 2019): which operations a picture's key gives it."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from swiftlet.train.boxes import Floats
from swiftlet.train.draws import Keys, uniforms
from swiftlet.train.operations import OPERATIONS, operate
from swiftlet.train.recipe import Recipe

STREAM = 1
HIGHEST = 9  # AutoAugment's levels are 0..9

# An operation, with which probability, at which level; "" where the operation has none.
Step = tuple[str, float, int | None]

# Table 9 of the AutoAugment paper.
IMAGENET: tuple[tuple[Step, Step], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
    (("equalize", 0.8, None), ("equalize", 0.6, None)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, None), ("solarize", 0.2, 4)),
    (("equalize", 0.4, None), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, None)),
    (("posterize", 0.8, 5), ("equalize", 1.0, None)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, None), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, None)),
    (("equalize", 0.0, None), ("equalize", 0.8, None)),
    (("invert", 0.6, None), ("equalize", 1.0, None)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, None)),
    (("shear-x", 0.6, 5), ("equalize", 1.0, None)),
    (("colour", 0.4, 0), ("equalize", 0.6, None)),
    (("equalize", 0.4, None), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, None)),
    (("invert", 0.6, None), ("equalize", 1.0, None)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, None), ("equalize", 0.6, None)),
)

# Table 7 of the AutoAugment paper.
CIFAR10: tuple[tuple[Step, Step], ...] = (
    (("invert", 0.1, None), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate-x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear-y", 0.5, 8), ("translate-y", 0.7, 9)),
    (("autocontrast", 0.5, None), ("equalize", 0.9, None)),
    (("shear-y", 0.2, 7), ("posterize", 0.3, 7)),
    (("colour", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, None), ("equalize", 0.5, None)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("colour", 0.7, 7), ("translate-x", 0.5, 8)),
    (("equalize", 0.3, None), ("autocontrast", 0.4, None)),
    (("translate-y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("colour", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, None)),
    (("equalize", 0.2, None), ("autocontrast", 0.6, None)),
    (("equalize", 0.2, None), ("equalize", 0.6, None)),
    (("colour", 0.9, 9), ("equalize", 0.6, None)),
    (("autocontrast", 0.8, None), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("colour", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, None)),
    (("translate-y", 0.9, 9), ("translate-y", 0.7, 9)),
    (("autocontrast", 0.9, None), ("solarize", 0.8, 3)),
    (("equalize", 0.8, None), ("invert", 0.1, None)),
    (("translate-y", 0.7, 9), ("autocontrast", 0.9, None)),
)
AUTOAUGMENT = {"autoaugment-imagenet": IMAGENET, "autoaugment-cifar10": CIFAR10}

# RandAugment's section 3: all but invert.
RANDAUGMENT = tuple(name for name in OPERATIONS if name != "invert")

PLACES = {name: place for place, name in enumerate(OPERATIONS)}


def apply_policy(pictures: Tensor, recipe: Recipe, keys: Keys) -> Tensor:
    """Works in place on float (B, 3, S, S) in 0..255: the operations that a picture's key draws, one after another."""
    if recipe.policy != "none":
        drawn = _randaugment(recipe, keys) if recipe.policy == "randaugment" else _autoaugment(recipe.policy, keys)
        for chosen, levels, signs in zip(*drawn, strict=True):
            operate(pictures, chosen, levels, signs)
        pictures.clamp_(0, 255)  # sums of bilinear weights round to a little more
    return pictures


Drawn = tuple[npt.NDArray[np.int64], Floats, Floats]  # (steps, B) each: place in OPERATIONS, level 0..1, sign


def _randaugment(recipe: Recipe, keys: Keys) -> Drawn:
    draws = uniforms(keys, 2 * recipe.operations, stream=STREAM)
    names = np.array([PLACES[name] for name in RANDAUGMENT])
    chosen = names[(draws[:, : recipe.operations].T * len(names)).astype(np.int64)]
    levels = np.full(chosen.shape, recipe.magnitude / 10, np.float32)
    return chosen, levels, _signs(draws[:, recipe.operations :].T)


def _autoaugment(policy: str, keys: Keys) -> Drawn:
    table = AUTOAUGMENT[policy]
    draws = uniforms(keys, 5, stream=STREAM)
    rows = (draws[:, 0] * len(table)).astype(np.int64)
    names = np.array([[PLACES[name] for name, _, _ in row] for row in table])[rows].T  # (2, B)
    probabilities = np.array([[probability for _, probability, _ in row] for row in table])[rows].T
    levels = np.array([[(level or 0) / HIGHEST for _, _, level in row] for row in table], np.float32)[rows].T
    chosen = np.where(probabilities > draws[:, 1:3].T, names, PLACES["identity"])
    return chosen, levels, _signs(draws[:, 3:5].T)


def _signs(draws: Floats) -> Floats:
    return np.where(draws < 0.5, np.float32(-1), np.float32(1))
