"""Which residual blocks a network can best do without, before it is trained for it: least loss for most time."""

from dataclasses import dataclass
from itertools import islice, repeat

from torch import nn

from swiftlet.compress.blocks import drop_blocks, least_blocks, residual_blocks
from swiftlet.shrinking.untrained import milliseconds
from swiftlet.shrinking.workplace import Workplace, heals

RACE_SECONDS, LEAST = 0.3, 0.01  # of the race, for each file; share of the time below which a difference is noise
MOST = 6  # blocks that are looked for: each takes the loss of a network for every block that is left


@dataclass(frozen=True)
class Blocks:
    """In the order in which they should go. Without each and those before it: the share of what the network knows that
    is gone, and the pace of teaching."""

    order: tuple[str, ...]
    gone: tuple[float, ...]
    pace: tuple[float, ...]

    def mild(self, mild: float) -> int:
        """How many can go so that teaching heals it."""
        healed = map(heals, self.gone, self.pace, repeat(mild))
        return next((i for i, well in enumerate(healed) if not well), len(self.order))


def find_blocks(place: Workplace, base: str, model: nn.Module, mild: float) -> Blocks:
    """Of the network of stage `base`, MOST at most; without a budget up to the first that teaching does not heal."""
    found = place.run.once(f"{base}.blocks", lambda: _find(place, model, mild))
    return Blocks(tuple(found["order"]), tuple(found["gone"]), tuple(found["pace"]))


def _find(place: Workplace, model: nn.Module, mild: float) -> dict[str, object]:
    order: list[str] = []
    gone: list[float] = []
    pace: list[float] = []
    if not residual_blocks(model):
        return {"order": order, "gone": gone, "pace": pace}

    def loss(network: nn.Module) -> float:
        place.progress("looking for blocks that it can do without", 0, 0)
        return place.loss(network)

    saved, before = _milliseconds(place, model), place.loss(model)
    for name, after in islice(least_blocks(model, loss, saved), MOST):
        order.append(name)
        gone.append(place.gone(after, before))
        pace.append(place.pace(drop_blocks(model, order)[0]))
        if not place.limited and not heals(gone[-1], pace[-1], mild):
            break
    return {"order": order, "gone": gone, "pace": pace, "milliseconds": saved}


def _milliseconds(place: Workplace, model: nn.Module) -> dict[str, float]:
    """That each block takes: with it and without it."""
    networks = {"": (place, model)}
    networks |= {name: (place, drop_blocks(model, [name])[0]) for name in residual_blocks(model)}
    times = milliseconds(networks, RACE_SECONDS, "timing blocks")
    whole = times.pop("")
    return {name: max(LEAST * whole, whole - without) for name, without in times.items()}
