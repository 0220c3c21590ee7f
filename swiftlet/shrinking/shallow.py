"""Which residual blocks a network can best do without, before it is trained for it: least loss for most time."""

from dataclasses import dataclass

from torch import nn

from swiftlet.compress.blocks import drop_blocks, least_blocks, residual_blocks
from swiftlet.shrinking.untrained import milliseconds
from swiftlet.shrinking.workplace import Workplace

RACE_SECONDS, LEAST = 0.3, 0.01  # of the race, for each file; share of the time below which a difference is noise
MOST = 6  # blocks that are looked for: each takes the loss of a network for every block that is left


@dataclass(frozen=True)
class Blocks:
    """In the order in which they should go; what share of what the network knows goes with each and those before it."""

    order: tuple[str, ...]
    gone: tuple[float, ...]

    def mild(self, share: float) -> int:
        """How many can go and destroy no more than this."""
        return next((i for i, gone in enumerate(self.gone) if gone > share), len(self.order))


def find_blocks(place: Workplace, base: str, model: nn.Module, most: float) -> Blocks:
    """Of the network of stage `base`, up to the first that leaves it less than this share of what it knows."""
    found = place.run.once(f"{base}.blocks", lambda: _find(place, model, most))
    return Blocks(tuple(found["order"]), tuple(found["gone"]))


def _find(place: Workplace, model: nn.Module, most: float) -> dict[str, object]:
    if not residual_blocks(model):
        return {"order": [], "gone": []}

    def loss(network: nn.Module) -> float:
        place.progress("looking for blocks that it can do without", 0, 0)
        return place.loss(network)

    saved, before = _milliseconds(place, model), place.loss(model)
    order = least_blocks(model, MOST, loss, saved, most=place.loss_without(most, before))
    gone = [place.gone(loss(drop_blocks(model, order[: i + 1])[0]), before) for i in range(len(order))]
    return {"order": list(order), "gone": gone, "milliseconds": saved}


def _milliseconds(place: Workplace, model: nn.Module) -> dict[str, float]:
    """That each block takes: with it and without it."""
    networks = {"": (place, model)}
    networks |= {name: (place, drop_blocks(model, [name])[0]) for name in residual_blocks(model)}
    times = milliseconds(networks, RACE_SECONDS, "timing blocks")
    whole = times.pop("")
    return {name: max(LEAST * whole, whole - without) for name, without in times.items()}
