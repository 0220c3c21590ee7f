"""Counting against four public counters, side by side: fvcore, ptflops, torchinfo and PyTorch's own.

Each counts two networks again and again, one after the other in a new order every round; the others run the network on
a picture, as they always do. Then the whole zoo, every published variant, by ours alone.
"""

import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.ledger import record
from swiftlet.cost.count import count_model
from swiftlet.zoo import card, create_model, list_models

NETWORKS = ("xception", "mobilenet_v3_large")
ROUNDS = 15
Shape = tuple[int, ...]


def run() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, by fvcore
        raced = {name: race(name, ROUNDS) for name in NETWORKS}
    figures = {"threads": torch.get_num_threads(), "rounds": ROUNDS, "networks": raced, "zoo": zoo()}
    record("count", "python -m benchmarks count", figures)


def by_swiftlet(model: nn.Module, shape: Shape) -> int:
    return count_model(model, shape).cost.macs or 0


def by_fvcore(model: nn.Module, shape: Shape) -> int:
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(model, torch.zeros(1, *shape))
    return int(analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total())


def by_ptflops(model: nn.Module, shape: Shape) -> int:
    import tests.torchvision_ops  # noqa: F401, I001  (first: ptflops imports torchvision)
    from ptflops import get_model_complexity_info

    macs, _ = get_model_complexity_info(model, shape, as_strings=False, print_per_layer_stat=False, verbose=False)
    return int(macs)


def by_torchinfo(model: nn.Module, shape: Shape) -> int:
    from torchinfo import summary

    return int(summary(model, input_size=(1, *shape), verbose=0).total_mult_adds)


def by_torch(model: nn.Module, shape: Shape) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    return int(counter.get_total_flops())


COUNTERS: dict[str, Callable[[nn.Module, Shape], int]] = {
    "swiftlet": by_swiftlet,
    "fvcore": by_fvcore,
    "ptflops": by_ptflops,
    "torchinfo": by_torchinfo,
    "torch": by_torch,
}


def race(name: str, rounds: int) -> dict[str, Any]:
    """Per counter: what it counted, median milliseconds, and how many times as long as ours it took."""
    shape = card(name).input
    models = {counter: create_model(name).eval() for counter in COUNTERS}  # some write into what they count
    counted = {counter: count(models[counter], shape) for counter, count in COUNTERS.items()}  # also warms up
    seconds: dict[str, list[float]] = {counter: [] for counter in COUNTERS}
    order = list(COUNTERS)
    shuffle = random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for counter in order:
            start = time.perf_counter()
            COUNTERS[counter](models[counter], shape)
            seconds[counter].append(time.perf_counter() - start)
    ours = seconds["swiftlet"]
    return {
        counter: {
            "counted": counted[counter],
            "ms": round(1000 * statistics.median(taken), 2),
            "times_ours": round(statistics.median(t / o for t, o in zip(taken, ours, strict=True)), 2),
        }
        for counter, taken in seconds.items()
    }


def zoo() -> dict[str, Any]:
    """Seconds to build and to count everything."""
    building = counting = 0.0
    variants = 0
    for name in list_models():
        for variant in card(name).variants:
            side = variant.side or card(name).input[1]
            start = time.perf_counter()
            with torch.device("meta"):
                model = create_model(name, **variant.arguments)
            built = time.perf_counter()
            count_model(model, (card(name).input[0], side, side))
            building, counting = building + built - start, counting + time.perf_counter() - built
            variants += 1
    return {
        "networks": len(list_models()),
        "variants": variants,
        "counting_seconds": round(counting, 2),
        "building_seconds": round(building, 2),
    }
