"""Which residual blocks a network can best do without, before it is trained for it: least loss for most time."""

from dataclasses import dataclass

from torch import nn

from swiftlet.compress.blocks import drop_blocks, least_blocks, residual_blocks
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.workplace import Workplace

RACE_SECONDS, LEAST = 0.3, 0.01  # of the race, for each file; share of the time below which a difference is noise
MOST = 6  # blocks that are looked for: each takes the loss of a network for every block that is left


@dataclass(frozen=True)
class Blocks:
    """In the order in which they should go; what the first `mild` destroy can be healed."""

    order: tuple[str, ...]
    mild: int


def find_blocks(place: Workplace, model: nn.Module, drop: float) -> Blocks:
    """Of a network that has lost `drop` points."""
    found = place.run.once("blocks", lambda: _find(place, model, drop))
    return Blocks(tuple(found["order"]), found["mild"])


def _find(place: Workplace, model: nn.Module, drop: float) -> dict[str, object]:
    if not residual_blocks(model):
        return {"order": [], "mild": 0}

    def loss(network: nn.Module) -> float:
        place.progress("looking for blocks that it can do without", 0, 0)
        return place.loss(network)

    saved, before = _milliseconds(place, model), place.loss(model)
    order = least_blocks(model, MOST, loss, saved)
    gone = [place.gone(loss(drop_blocks(model, order[: i + 1])[0]), before) for i in range(len(order))]
    mild = next((i for i, share in enumerate(gone) if share > place.mild(drop)), len(order))
    return {"order": list(order), "mild": mild, "milliseconds": saved}


def _milliseconds(place: Workplace, model: nn.Module) -> dict[str, float]:
    """That each block takes: of the int8 file with it and without it, which do not depend on the weights."""
    networks = {"": model} | {name: drop_blocks(model, [name])[0] for name in residual_blocks(model)}
    runtime, threads = place.budget.runtime or "onnxruntime", place.budget.threads
    contestants: list[Contestant] = []
    for name, network in networks.items():
        place.progress("timing blocks", len(contestants), len(networks))
        file = untrained_files(network, place.contract)["int8"]
        contestants.append(Contestant(name, get_runtime(runtime).load(file, threads), runtime, threads))
    whole, *without = race(contestants, seconds=RACE_SECONDS * len(contestants), batch=place.budget.batch)
    least = LEAST * whole.p50_ms
    return {
        name: max(least, whole.p50_ms - each.p50_ms) for name, each in zip(list(networks)[1:], without, strict=True)
    }
