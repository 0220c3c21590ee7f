"""The best int8 network that calibration images alone can give: every step is tried, and kept if it pays."""

from collections.abc import Iterable, Sequence
from functools import partial

from torch import Tensor, fx

from swiftlet.compress.bias_correct import correct_biases
from swiftlet.compress.calibrate import METHODS
from swiftlet.compress.equalize import equalize
from swiftlet.compress.quantize import quantize
from swiftlet.compress.record import Record
from swiftlet.compress.round import adaround
from swiftlet.compress.sensitivity import score_difference
from swiftlet.errors import BadInput, NothingToDo

ROUNDING = 150  # steps of learning to round, per layer
JUDGES = 4  # one batch in so many is not fitted to, and says what pays


def quantize_best(
    model: fx.GraphModule,
    batches: Iterable[Tensor],
    *,
    input_scale: float | None = None,
    input_zero_point: int | None = None,
    per_channel: bool = True,
    weight_bits: int = 8,
    skip: Sequence[str] = (),
    steps: int = ROUNDING,
) -> tuple[fx.GraphModule, Record]:
    """quantize() a folded classifier in every way there is, and return the one that differs least from `model`.

    Each calibration, with and without cross-layer equalization; then, on top of the best of these, learnt rounding
    (`steps` per layer; 0 leaves it out) and corrected biases. Judged by score_difference() on every fourth batch, which
    nothing else sees. The Record's "tried" says what each way came to, and "kept" which are in the result. No step
    needs labels. The other arguments are those of quantize(); raises what that raises, and BadInput for less than two
    batches.
    """
    images = list(batches)
    judges = images[JUDGES - 1 :: JUDGES] or images[1:]
    fitted = [batch for batch in images if not any(batch is judge for judge in judges)]
    if not fitted or not judges:
        raise BadInput(f"quantize_best: {len(images)} batches of images were given; two are the least")
    tried: dict[str, float] = {}
    found: dict[str, tuple[fx.GraphModule, fx.GraphModule, Record]] = {}
    for prefix, origin in _origins(model).items():
        for calibration in METHODS:
            integer, record = quantize(
                origin,
                fitted,
                input_scale=input_scale,
                input_zero_point=input_zero_point,
                calibration=calibration,
                per_channel=per_channel,
                weight_bits=weight_bits,
                skip=skip,
            )
            name = prefix + calibration
            tried[name] = score_difference(model, integer, judges)
            found[name] = origin, integer, record
    best = min(tried, key=lambda name: tried[name])
    origin, integer, record = found[best]
    kept, least = [best], tried[best]
    for name, improve in (("adaround", partial(adaround, steps=steps)), ("correct_biases", correct_biases)):
        if name == "adaround" and not steps:
            continue
        try:
            candidate, _ = improve(origin, integer, fitted)
        except NothingToDo:
            continue
        tried[name] = score_difference(model, candidate, judges)
        if tried[name] < least:
            integer, least = candidate, tried[name]
            kept.append(name)
    arguments = record.arguments | {
        "kept": kept,
        "tried": {name: round(value, 5) for name, value in tried.items()},
        "steps": steps,
    }
    return integer, Record(name="quantize_best", arguments=arguments, changed=record.changed, skipped=record.skipped)


def _origins(model: fx.GraphModule) -> dict[str, fx.GraphModule]:
    """What to quantize, by how its name begins in "tried"."""
    try:
        return {"": model, "equalize ": equalize(model)[0]}
    except NothingToDo:
        return {"": model}
