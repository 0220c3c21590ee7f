"""Weights of 8 to 2 bits, arithmetic in float32: the file and the download shrink, the time of a picture stays.

Round to nearest, in one range per output channel or per group of weights; of the ranges that are tried, the one with
the least square error. Clipping pays the more, the fewer bits there are (Banner et al. 2019, arXiv:1810.05723).
"""

import copy

import torch
from torch import Tensor, nn

from swiftlet.compress.fold import is_training
from swiftlet.compress.record import Record
from swiftlet.compress.scales import FEW, short_scale
from swiftlet.errors import BadInput, NothingToDo

CLIPS = torch.linspace(1.0, 0.1, 31)  # shares of the full range that are tried
AT_ONCE = 1 << 18  # numbers that are looked at together: they stay in the cache
TINY = 1e-8  # the least range: a row of zeros needs one too


def weight_only(
    model: nn.Module, *, bits: int = 8, group: int | None = None, symmetric: bool = True
) -> tuple[nn.Module, Record]:
    """Return a copy whose Conv2d and Linear weights lie on grids of 2**bits values; biases and the rest stay float.

    One grid per output channel or, with `group`, per that many neighbouring weights of a channel; a channel that does
    not divide into such groups is one. Symmetric grids have 2**bits - 1 values about zero, the others 2**bits, of which
    one is zero. The layers carry what the exporter needs to store codes instead of floats: `code_scale` and
    `code_zero`, (C_out, groups), and `code_bits`. Layers that would not become smaller are skipped.
    Raises BadInput in training mode, for bits outside 2..8 or group < 1; NothingToDo if no layer became smaller.
    """
    check_bits("weight_only", bits)
    if group is not None and group < 1:
        raise BadInput(f"weight_only: group={group}, needs 1 or more weights, or None for a channel")
    if is_training(model):
        raise BadInput("weight_only: call model.eval() first, the weights are still moving")
    new = copy.deepcopy(model)
    changed: list[str] = []
    skipped: dict[str, str] = {}
    for name, layer in new.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        channel = layer.weight[0].numel()
        size = group if group is not None and channel % group == 0 else channel
        if {"weight_scale", "code_scale"} & dict(layer.named_buffers()).keys():
            skipped[name] = "its weights are integers already"
        elif bits * size + 8 * (4 + (not symmetric)) >= 32 * size:
            skipped[name] = f"with a scale for every {size} weights it would not be smaller"
        else:
            _move_to_grids(layer, size, bits, symmetric)
            changed.append(name)
    if not changed:
        raise NothingToDo(f"weight_only: found no Conv2d or Linear to make smaller; skipped {skipped}")
    arguments: dict[str, object] = {"bits": bits, "group": group, "symmetric": symmetric}
    return new, Record(name="weight_only", arguments=arguments, changed=tuple(changed), skipped=tuple(skipped.items()))


def check_bits(who: str, bits: int) -> None:
    """Raises BadInput for what is no width of a weight."""
    if not isinstance(bits, int) or not 2 <= bits <= 8:
        raise BadInput(f"{who}: bits={bits!r}, needs a whole number from 2 to 8")


def best_scales(rows: Tensor, bits: int) -> Tensor:
    """(R, n) -> (R,): for each row the step of the symmetric grid with the least square error, of FEW bits itself."""
    return _best(rows, bits, symmetric=True, short=True)[0]


def _best(rows: Tensor, bits: int, *, symmetric: bool, short: bool = False) -> tuple[Tensor, Tensor]:
    """(scale, zero) of each row, (R,): the best of CLIPS in the square error; `short`: in FEW bits."""
    if symmetric:
        high = rows.abs().amax(1).clamp(min=TINY)
        low, steps = -high, 2**bits - 2
    else:
        low, high = rows.amin(1).clamp(max=0.0), rows.amax(1).clamp(min=0.0)
        high, steps = torch.maximum(high, low + TINY), 2**bits - 1
    least = torch.full_like(high, torch.inf)
    scale, zero = torch.ones_like(high), torch.zeros_like(high)
    together = max(1, AT_ONCE // rows.numel())
    for start in range(0, len(CLIPS), together):
        clips = CLIPS[start : start + together, None]  # (k, 1)
        tried = clips * (high - low) / steps  # (k, R)
        tried = short_scale(tried, bits=FEW) if short else tried
        middle = torch.full_like(tried, 2 ** (bits - 1)) if symmetric else (-clips * low / tried).round()
        errors = _rounded(rows, tried, middle, bits, symmetric).sub_(rows).square_().sum(2)
        error, best = errors.min(0, keepdim=True)
        better = error[0] < least
        least = torch.where(better, error[0], least)
        scale = torch.where(better, tried.gather(0, best)[0], scale)
        zero = torch.where(better, middle.gather(0, best)[0], zero)
    return scale, zero


def _rounded(rows: Tensor, scale: Tensor, zero: Tensor, bits: int, symmetric: bool) -> Tensor:
    """(R, n) on grids (..., R) -> (..., R, n). A symmetric grid has as many steps below zero as above."""
    scale, zero = scale[..., None], zero[..., None]
    codes = (rows / scale).round_().add_(zero).clamp_(1 if symmetric else 0, 2**bits - 1)
    return codes.sub_(zero).mul_(scale)


def _move_to_grids(layer: nn.Conv2d | nn.Linear, size: int, bits: int, symmetric: bool) -> None:
    """In place; a row is a group of `size` weights."""
    with torch.no_grad():
        rows = layer.weight.reshape(-1, size)
        scale, zero = _best(rows, bits, symmetric=symmetric)
        layer.weight.copy_(_rounded(rows, scale, zero, bits, symmetric).view_as(layer.weight))
        shape = (layer.weight.shape[0], -1)
        layer.register_buffer("code_scale", scale.view(shape))
        layer.register_buffer("code_zero", zero.to(torch.uint8).view(shape))
        layer.register_buffer("code_bits", torch.tensor(bits, dtype=torch.int32))
