"""What int8 costs layer by layer, and which layers to leave in float so that the whole is good enough."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, fx, nn

from swiftlet.compress.quantize import Calibrated, calibrate, quantize_calibrated
from swiftlet.compress.record import Record
from swiftlet.errors import BadInput, NothingToDo


def score_difference(model: nn.Module, other: nn.Module, batches: Iterable[Tensor]) -> float:
    """How far two classifiers disagree on `batches` of (B, C, H, W) images: the share of probability that moved from
    one class to another, averaged over the images. 0: the same scores; 1: never a class in common."""
    moved: list[Tensor] = []
    with torch.inference_mode():
        for images in batches:
            moved.append((model(images).softmax(1) - other(images).softmax(1)).abs().sum(1) / 2)
    if not moved:
        raise BadInput("score_difference: no images were given")
    return torch.cat(moved).mean().item()


def sensitivity(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    calibration: str = "mse",
    per_channel: bool = True,
    weight_bits: int = 8,
) -> dict[str, float]:
    """score_difference() to the float network with one layer at a time in int8, its input and output included.

    By path, the most sensitive first. The arguments are those of quantize(); raises what it raises.
    """
    images = list(batches)
    calibrated = calibrate(
        model, images, input_scale=input_scale, input_zero_point=input_zero_point, calibration=calibration
    )
    _, record = quantize_calibrated(calibrated, per_channel=per_channel, weight_bits=weight_bits)
    return _sensitivity(calibrated, record.changed, images, per_channel, weight_bits)


def mixed_precision(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    accept: Callable[[fx.GraphModule], bool],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    calibration: str = "mse",
    per_channel: bool = True,
    weight_bits: int = 8,
) -> tuple[fx.GraphModule, Record]:
    """quantize() with the most sensitive layers left in float, as few as `accept` allows.

    `accept` judges a candidate, by its accuracy on validation photos, say. It is asked about all layers in int8 first,
    then with 1, 2, 4, ... of them in float, then in between: a dozen times at most for a hundred layers. Where it is
    not monotonous, what is returned was accepted all the same. The other arguments are those of quantize(). Raises what
    it raises, and NothingToDo if no candidate with an int8 layer is accepted.
    """
    images = list(batches)
    calibrated = calibrate(
        model, images, input_scale=input_scale, input_zero_point=input_zero_point, calibration=calibration
    )

    def candidate(floats: int) -> tuple[fx.GraphModule, Record]:
        return quantize_calibrated(
            calibrated, per_channel=per_channel, weight_bits=weight_bits, skip=order[:floats] if floats else ()
        )

    order: list[str] = []
    best = candidate(0)
    if accept(best[0]):
        return best
    layers = best[1].changed
    order = list(_sensitivity(calibrated, layers, images, per_channel, weight_bits))
    refused, floats = 0, 1
    while floats < len(order) and not accept((best := candidate(floats))[0]):
        refused, floats = floats, 2 * floats
    if floats >= len(order):
        floats = len(order) - 1
        if floats <= refused or not accept((best := candidate(floats))[0]):
            raise NothingToDo(f"mixed_precision: none of the {len(order)} layers can be int8 and be accepted")
    while floats - refused > 1:
        middle = (floats + refused) // 2
        tried = candidate(middle)
        if accept(tried[0]):
            best, floats = tried, middle
        else:
            refused = middle
    return best


def _sensitivity(
    calibrated: Calibrated, layers: tuple[str, ...], images: list[Tensor], per_channel: bool, weight_bits: int
) -> dict[str, float]:
    found = {}
    for path in layers:
        others = [other for other in layers if other != path]
        one, _ = quantize_calibrated(calibrated, per_channel=per_channel, weight_bits=weight_bits, skip=others)
        found[path] = score_difference(calibrated.model, one, images)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
