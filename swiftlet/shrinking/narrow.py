"""How narrow a network must become, found with its weights as they are, and how its channels are cut out.

Bytes and milliseconds do not depend on training, so what fits is known before anything is trained.
"""

from bisect import bisect_left
from dataclasses import replace
from math import ceil, log
from typing import Any

import torch
from torch import Tensor, fx, nn

from swiftlet.check import measured_cost
from swiftlet.compress.batchnorm import recalibrate
from swiftlet.compress.importance import taylor_scores
from swiftlet.compress.prune import prune_channels, prune_to
from swiftlet.compress.record import Record
from swiftlet.errors import Infeasible, NothingToDo
from swiftlet.export.untrained import untrained_files
from swiftlet.pack.onnx import pack_onnx
from swiftlet.plan import METADATA_BYTES
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.few_bits import BITS, few_bits_file
from swiftlet.shrinking.untrained import milliseconds
from swiftlet.shrinking.workplace import BATCH, Workplace, heals

Scores = dict[str, Tensor]

NARROWER, MOST_RUNGS = 0.6, 6  # of the multiply-adds, from one rung to the next on the way to a budget
SPARE, MARGIN = 3, 0.9  # rungs that follow should a file be larger or slower than an untrained one was, and their step
GRID = tuple(round(1.0 - 0.05 * i, 2) for i in range(19))  # shares of channels that are tried for what fits
ROUND_TO = (1, 4, 8, 16)  # channels
ROUNDING_SECONDS, ALIKE = 0.5, 1.02  # of the race between them, for each; times as fast that count as equal
NEAR = 0.9  # of the multiply-adds that were asked for: a multiple that leaves less is too coarse
QUICK_SECONDS = 0.1
TAYLOR_PICTURES = 512


def mild_limit(place: Workplace, base: str, model: nn.Module, scores: Scores, mild: float) -> tuple[float, int] | None:
    """The smallest share of its channels to which the network of stage `base` can be cut so that teaching heals it, and
    the multiply-adds. None if the least cut is too deep already."""
    found = place.run.once(f"{base}.mild", lambda: {"mild": _mild_limit(place, model, scores, mild)})["mild"]
    return None if found is None else (found[0], found[1])


def _mild_limit(place: Workplace, model: nn.Module, scores: Scores, mild: float) -> tuple[float, int] | None:
    before = place.loss(model)
    macs: dict[float, int] = {}

    def too_deep(keep: float) -> bool:
        place.progress(f"looking for what can be healed, {100 * keep:.0f} % of the channels", 0, 0)
        try:
            narrow = pruned(place, model, scores, keep=keep)[0]
        except NothingToDo:
            return False
        recalibrate(narrow, place.calibration.images)
        macs[keep] = place.macs(narrow)
        return not heals(place.gone(place.loss(narrow), before), place.pace(narrow), mild)

    keep = GRID[bisect_left(GRID, True, lo=1, key=too_deep) - 1]
    return (keep, macs[keep]) if keep in macs else None


def limits(place: Workplace, base: str, model: nn.Module) -> list[int]:
    """Multiply-adds of the rungs from stage `base`, whose network `model` is, trained or not, down to the budget; SPARE
    of them are for a budget that is missed. Raises Infeasible."""
    return list(place.run.once(f"{base}.limits", lambda: {"macs": _limits(place, model)})["macs"])


def _limits(place: Workplace, model: nn.Module) -> list[int]:
    whole = place.macs(model)
    share = _share_that_fits(place, model)
    rungs = min(MOST_RUNGS, ceil(log(share) / log(NARROWER)))
    shares = [share ** (i / rungs) for i in range(1, rungs + 1)] + [share * MARGIN**i for i in range(1, SPARE + 1)]
    return [round(whole * part) for part in shares]


def _share_that_fits(place: Workplace, model: nn.Module) -> float:
    """The largest share of the multiply-adds, by the grid. Raises Infeasible."""
    scores = scores_of(place, model)
    shares: dict[float, float] = {}

    def fits(keep: float) -> bool:
        place.progress(f"looking for what fits, {100 * keep:.0f} % of the channels", 0, 0)
        try:
            narrow = pruned(place, model, scores, keep=keep)[0] if keep < 1 else model
        except NothingToDo:
            narrow = model
        shares[keep] = place.macs(narrow) / place.macs(model)
        return within(place, narrow)

    found = bisect_left(GRID, True, key=fits)
    if found == len(GRID):
        raise Infeasible(
            f"{place.source.network}: even {100 * GRID[-1]:.0f} % of its channels are not within {place.budget}; "
            "start from a smaller network"
        )
    return shares[GRID[found]]


def within(place: Workplace, model: nn.Module) -> bool:
    """Whether a file of this network would be within the budget; its download, with as few bits as there may be."""
    contract, budget = place.contract, place.budget
    files = untrained_files(model, contract)
    packed = len(pack_onnx(few_bits_file(place, model, BITS[-1]))) if budget.packed_bytes is not None else None
    runtime, threads = budget.runtime or "onnxruntime", budget.threads
    for file in files.values():
        contestant = Contestant("", get_runtime(runtime).load(file, threads), runtime, threads)
        cost = measured_cost(file, race([contestant], seconds=QUICK_SECONDS, batch=budget.batch)[0])
        if not budget.over(replace(cost, size_bytes=len(file) + METADATA_BYTES, packed_bytes=packed)):
            return True
    return False


def rounding(place: Workplace, model: nn.Module, scores: Scores) -> int:
    """The multiple that widths are cut to: what gives the most multiply-adds in a millisecond, the finest of equals.

    Kernels compute so many channels together, and the rest of a width costs as much as all of it; but how many depends
    on runtime and processor. So networks of the same multiply-adds are raced, as int8 files with weights as they are:
    once, with the first network that is cut.
    """
    return int(place.run.once("rounding", lambda: {"channels": _rounding(place, model, scores)})["channels"])


def _rounding(place: Workplace, model: nn.Module, scores: Scores) -> int:
    limit = NARROWER * place.macs(model)
    networks: dict[int, tuple[Workplace, nn.Module]] = {}
    for channels in ROUND_TO:
        try:
            narrow, _ = _cut(place, model, scores, channels, measure=place.macs, limit=limit)
        except (NothingToDo, Infeasible):
            continue
        if channels == 1 or place.macs(narrow) >= NEAR * limit:
            networks[channels] = place, narrow
    times = milliseconds(networks, ROUNDING_SECONDS, "timing multiples of channels")
    speed = {channels: place.macs(networks[channels][1]) / ms for channels, ms in times.items()}
    return next((c for c in speed if speed[c] * ALIKE >= max(speed.values())), 1)


def pruned(
    place: Workplace, model: nn.Module, scores: Scores, *, above: int = 0, **goal: Any
) -> tuple[fx.GraphModule, Record]:
    """Without the channels of all layers that change the loss least, to first order; in multiples of rounding()
    channels, or of fewer where that would miss the goal by much or leave no more multiply-adds than `above`.
    Raises Infeasible or NothingToDo."""
    least = max(above, NEAR * goal.get("limit", 0))
    for channels in [c for c in reversed(ROUND_TO) if 1 < c <= rounding(place, model, scores)]:
        try:
            found = _cut(place, model, scores, channels, **goal)
        except (NothingToDo, Infeasible):
            continue
        if place.macs(found[0]) > least:
            return found
    return _cut(place, model, scores, 1, **goal)


def _cut(
    place: Workplace, model: nn.Module, scores: Scores, channels: int, **goal: Any
) -> tuple[fx.GraphModule, Record]:
    prune = prune_channels if "keep" in goal else prune_to
    return prune(model, place.shape, importance="taylor", scores=scores, scope="global", round_to=channels, **goal)


def scores_of(place: Workplace, model: nn.Module) -> Scores:
    """What its channels are worth on some training pictures."""
    pixels, labels = place.some_training(TAYLOR_PICTURES)
    batches = [slice(start, start + BATCH) for start in range(0, len(labels), BATCH)]
    normalise = place.contract.normalise
    return taylor_scores(model, ((torch.from_numpy(normalise(pixels[b])), torch.tensor(labels[b])) for b in batches))
