"""Mixup (Zhang et al. 2018), cutmix (Yun et al. 2019) and random erasing (Zhong et al. 2020) on a normalised batch.

Picture 2i mixes with picture 2i + 1 and the other way round, each with a share from its own key. So a batch that is cut
into even parts, for several processes, gives the same pictures.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from swiftlet.train.boxes import TRIES, inside, random_boxes
from swiftlet.train.draws import Keys, uniforms
from swiftlet.train.recipe import Recipe

ERASING, MIXING = 2, 3  # streams
ERASED, ERASED_ASPECT = (0.02, 0.33), 0.3  # shares of the area, and the least aspect ratio: torchvision's defaults


@dataclass(frozen=True)
class Mixed:
    """A batch: images (B, C, S, S); a share of each (B,) is of class `labels` (B,), the rest of class `others` (B,)."""

    images: Tensor
    labels: Tensor
    others: Tensor
    shares: Tensor

    def loss(self, logits: Tensor, label_smoothing: float) -> Tensor:
        """Mean cross entropy against both labels, by their shares."""
        own, other = (
            F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
            for labels in (self.labels, self.others)
        )
        return (self.shares * own + (1 - self.shares) * other).mean()


def erase(images: Tensor, recipe: Recipe, keys: Keys) -> Tensor:
    """In place, with probability recipe.erasing: a box becomes 0, which is the mean colour of normalised pictures.

    Noise instead would have to be drawn pixel by pixel on the CPU, and costs more than all the rest.
    """
    if recipe.erasing > 0:
        side = images.shape[3]
        draws = uniforms(keys, 2 * TRIES + 3, stream=ERASING)
        sizes = np.stack(random_boxes(draws[:, 3:], ERASED, ERASED_ASPECT))  # (2, B)
        sizes = np.maximum(1, np.round(sizes * side)) * (draws[:, 2] < recipe.erasing)
        starts = np.floor(draws[:, :2].T * (side - sizes + 1))
        edges = torch.from_numpy(np.concatenate((starts, starts + sizes))).to(images.device, non_blocking=True)
        images.mul_((~inside(edges, side)).to(images.dtype))  # filling a mask is many times slower
    return images


def mix(images: Tensor, labels: Tensor, recipe: Recipe, keys: Keys) -> Mixed:
    """Mixup, cutmix, one of both by lot, or neither. The last picture of an odd batch stays as it is.

    For images whose channels are planes in memory: a mask that goes for all channels is slow to apply otherwise.
    """
    n, side = len(labels), images.shape[3]
    if n < 2 or (not recipe.mixup and not recipe.cutmix):
        return Mixed(images, labels, labels, torch.ones(n, device=images.device))
    from scipy.special import betaincinv  # slow to import

    u, coin, x, y = uniforms(keys, 4, stream=MIXING).T
    cut = coin < (0.5 if recipe.mixup else 1.0) if recipe.cutmix else np.zeros(n, bool)
    alpha = np.where(cut, recipe.cutmix, recipe.mixup)
    share = betaincinv(alpha, alpha, u.astype(np.float64))  # the draw's place in the beta distribution
    share[n // 2 * 2 :] = 1
    half = np.where(cut, np.sqrt(1 - share), 0) * side / 2
    edges = [np.clip(np.round(place * side + sign * half), 0, side) for sign in (-1, 1) for place in (x, y)]
    left, top, right, bottom = edges
    share = np.where(cut, 1 - (right - left) * (bottom - top) / side**2, share).astype(np.float32)
    partner = np.arange(n) ^ 1
    partner[n // 2 * 2 :] = n - 1

    on = images.device
    others, shares = (
        torch.from_numpy(partner).to(on, non_blocking=True),
        torch.from_numpy(share).to(on, non_blocking=True),
    )
    blend = torch.where(torch.from_numpy(cut).to(on, non_blocking=True), 1, shares).view(n, 1, 1, 1)
    weights = blend * ~inside(torch.from_numpy(np.stack(edges)).to(on, non_blocking=True), side)
    return Mixed(torch.lerp(images[others], images, weights), labels, labels[others], shares)
