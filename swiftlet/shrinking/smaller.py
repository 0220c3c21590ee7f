"""How many pixels a network can do without (the resolution multiplier of MobileNet V1, section 3.4).

All layers stay, so no bytes are saved; multiply-adds go about with the square of the side, with less where maps round
up.
"""

import copy
from bisect import bisect_left

from torch import nn

from swiftlet.compress.batchnorm import recalibrate
from swiftlet.data.contract import SIDES
from swiftlet.shrinking.narrow import within
from swiftlet.shrinking.workplace import Workplace, heals

STEP, LEAST = 4, 0.5  # sides that are tried: multiples of so many pixels, down to this share of the side


def smaller_side(place: Workplace, base: str, model: nn.Module, mild: float) -> int:
    """The smallest side of the pictures whose harm to the network of stage `base` teaching heals; with a budget the
    largest of those that keep it, if one does. The side as it is if all are too small."""
    return int(place.run.once(f"{base}.side", lambda: {"side": _smaller_side(place, model, mild)})["side"])


def _smaller_side(place: Workplace, model: nn.Module, mild: float) -> int:
    before = place.loss(model)

    def too_small(side: int) -> bool:
        place.progress(f"looking for what can be healed, pictures of {side} pixels", 0, 0)
        there = place.at(side)
        try:
            gone = there.gone(there.loss(at_side(there, model)), before)
        except RuntimeError:  # PyTorch's, of a layer that was made for one size of maps
            return True
        return not heals(gone, there.pace(model), mild)

    sides = [place.side, *sides_below(place.side)]
    healed = sides[: bisect_left(sides, True, lo=1, key=too_small)]
    if not place.limited:
        return healed[-1]
    fits = bisect_left(healed, True, key=lambda side: within(place.at(side), model))
    return healed[min(fits, len(healed) - 1)]


def sides_below(side: int) -> list[int]:
    """The largest first."""
    least = max(LEAST * side, SIDES[0])
    return [below for below in range((side - 1) // STEP * STEP, 0, -STEP) if below >= least]


def at_side(place: Workplace, model: nn.Module) -> nn.Module:
    """A copy whose BatchNorm has seen pictures of this side."""
    network = copy.deepcopy(model)
    recalibrate(network, place.calibration.images)
    return network
