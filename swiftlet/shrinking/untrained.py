"""How fast networks would be as int8 files: the clock does not care for the values of the weights."""

from typing import TypeVar

from torch import nn

from swiftlet.export.untrained import untrained_int8
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.workplace import Workplace

Key = TypeVar("Key")


def milliseconds(networks: dict[Key, tuple[Workplace, nn.Module]], seconds: float, what: str) -> dict[Key, float]:
    """Of each, on the pictures of its workplace, in one race of `seconds` for each; `what` is told as progress."""
    if not networks:
        return {}
    place = next(iter(networks.values()))[0]
    runtime, threads = place.budget.runtime or "onnxruntime", place.budget.threads
    contestants: list[Contestant] = []
    for at, network in networks.values():
        place.progress(what, len(contestants), len(networks))
        file = untrained_int8(network, at.contract)
        contestants.append(Contestant("", get_runtime(runtime).load(file, threads), runtime, threads))
    timed = race(contestants, seconds=seconds * len(contestants), batch=place.budget.batch)
    return {key: measured.p50_ms for key, measured in zip(networks, timed, strict=True)}
