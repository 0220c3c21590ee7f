"""Random boxes in square pictures, and what an affine map sees of them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Floats = npt.NDArray[np.float32]
TRIES = 10


def random_boxes(draws: Floats, areas: tuple[float, float], aspect: float) -> tuple[Floats, Floats]:
    """Widths and heights (N,) as shares of the side, from draws (N, 2 x TRIES).

    Area uniform in `areas`, width / height log-uniform in aspect..1/aspect: the first try that fits into the picture,
    else the whole picture (Inception's crop, Szegedy et al. 2015, section 6, as torchvision draws it).
    """
    area = areas[0] + (areas[1] - areas[0]) * draws[:, :TRIES]
    ratio = np.exp((2 * draws[:, TRIES:] - 1) * np.float32(np.log(1 / aspect)))
    sizes = np.sqrt(np.stack((area * ratio, area / ratio)))  # (2, N, TRIES)
    fits = (sizes <= 1).all(0)
    first = np.take_along_axis(sizes, fits.argmax(1)[None, :, None], 2)[..., 0]
    width, height = np.where(fits.any(1), first, np.float32(1))
    return width, height


def inside(edges: Tensor, side: int) -> Tensor:
    """(N, 1, side, side) bool: the pixels in each picture's box, of edges (4, N): left, top, right, bottom."""
    left, top, right, bottom = edges[..., None]
    at = torch.arange(side, device=edges.device)
    columns, rows = (at >= left) & (at < right), (at >= top) & (at < bottom)
    box: Tensor = (rows[:, :, None] & columns[:, None, :])[:, None]
    return box


def resample(pictures: Tensor, maps: Tensor, side: int, *, fill: float | None = None) -> Tensor:
    """(N, C, S, S) -> (N, C, side, side), bilinear: (x, y) shows what is at maps (N, 2, 3) x (x, y, 1) of the picture.

    Places are measured from -1 to 1 between the outer edges. Outside stands `fill`, or the nearest pixel if it is None.
    """
    at = (torch.arange(side, device=pictures.device) * 2 + 1) / side - 1
    grid = pictures.new_empty(len(pictures), side, side, 2)
    for axis in range(2):  # by hand: a batched matrix product need not give a picture the same bits in every batch
        across, down, shift = maps[:, axis].unbind(1)
        columns, rows = across[:, None] * at, down[:, None] * at + shift[:, None]
        torch.add(columns[:, None, :], rows[:, :, None], out=grid[..., axis])
    if fill is None:
        return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    seen = F.grid_sample(pictures - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return seen.add_(fill)
