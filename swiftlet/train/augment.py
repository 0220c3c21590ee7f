"""Random crops, turns, mirrors and light, for a whole batch at once.

One affine map per picture and one bilinear lookup do crop, aspect, rotation, shift and mirror together.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from swiftlet.train.draws import Keys, uniforms
from swiftlet.train.recipe import Recipe


def augment(pictures: Tensor, recipe: Recipe, side: int, keys: Keys) -> Tensor:
    """Normalised (B, C, S, S) -> (B, C, side, side) with a view of each picture that its key decides; S may differ
    from side."""
    n = len(pictures)
    draws = iter(torch.from_numpy(uniforms(keys, 8).T.copy()))

    def uniform(low: float, high: float) -> Tensor:
        drawn: Tensor = next(draws)
        return low + (high - low) * drawn

    area, turn = uniform(recipe.min_area, 1.0), uniform(-1.0, 1.0) * math.radians(recipe.rotation)
    ratio = torch.exp(uniform(-1.0, 1.0) * -math.log(recipe.aspect) / 2)
    w, h = (area.sqrt() * ratio).clamp(max=1.0), (area.sqrt() / ratio).clamp(max=1.0)  # of the picture's side
    dx, dy = uniform(-1.0, 1.0) * (1 - w), uniform(-1.0, 1.0) * (1 - h)
    mirror = torch.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0) if recipe.flip else torch.ones(n)
    cos, sin = torch.cos(turn), torch.sin(turn)
    theta = torch.stack((cos * w * mirror, -sin * h, dx, sin * w * mirror, cos * h, dy), 1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, pictures.shape[1], side, side], align_corners=False)
    views = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    gain = (1 + uniform(-1.0, 1.0) * recipe.jitter).view(n, 1, 1, 1)
    light = (uniform(-1.0, 1.0) * recipe.jitter).view(n, 1, 1, 1)
    return views * gain + light
