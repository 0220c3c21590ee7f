"""The zoo as a table: every published variant with what it costs, counted, and timed here if asked."""

import json
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from swiftlet.budget import LIMITS, Budget, Cost
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.export.untrained import untrained_files
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.zoo import Variant, card, create_model, int8_safe, list_models

TIMING_SECONDS = 0.2  # per file


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant of a network at one input side, as float32 with the card's number of classes.

    `top1` is the accuracy in percent that `source` prints for ImageNet, where the side is the published one.
    """

    network: str
    arguments: dict[str, Any]
    side: int
    cost: Cost
    top1: float | None
    source: str
    int8_safe: bool

    def to_json(self) -> dict[str, Any]:
        counts = {name: getattr(self.cost, name) for name in LIMITS}
        facts = {"name": self.network, "arguments": self.arguments, "side": self.side}
        return facts | counts | {"top1": self.top1, "source": self.source, "int8_safe": self.int8_safe}


def catalogue(
    pattern: str = "*",
    budget: Budget | None = None,
    *,
    side: int | None = None,
    sort: str | None = None,
    progress: Progress | None = None,
) -> list[Row]:
    """The variants of every network that matches a shell-style pattern and whose cost is within the budget.

    `side` is the input's, by default the paper's; networks that cannot run at it are left out. A latency is measured
    only if the budget limits it. `sort` is a field of Cost, or "top1": smallest cost or highest accuracy first.
    Raises BadInput for another `sort`.
    """
    budget = budget or Budget()
    if sort not in (None, "top1", *LIMITS):
        raise BadInput(f"sort={sort!r} must be one of top1, {', '.join(LIMITS)}")
    rows = []
    variants = [(name, variant) for name in list_models(pattern) for variant in card(name).variants]
    for i, (name, variant) in enumerate(variants):
        if progress is not None:
            progress(f"looking at {name}", i, len(variants))
        row = _row(name, variant, side)
        if row is None or replace(budget, latency_ms=None).over(row.cost):
            continue
        if budget.latency_ms is not None or sort == "latency_ms":
            row = replace(row, cost=replace(row.cost, latency_ms=_latency_ms(row, budget), **_place(budget)))
            if budget.over(row.cost):
                continue
        rows.append(row)
    if sort == "top1":
        return sorted(rows, key=lambda row: -(row.top1 or 0.0))
    return rows if sort is None else sorted(rows, key=lambda row: getattr(row.cost, sort))


def _place(budget: Budget) -> dict[str, Any]:
    return {"runtime": budget.runtime or "onnxruntime", "threads": budget.threads, "batch": budget.batch}


def _row(name: str, variant: Variant, side: int | None) -> Row | None:
    """Counted from shapes alone; None if the network does not run at `side`."""
    channels, height, _ = card(name).input
    published = variant.side or height
    with torch.device("meta"):
        model = create_model(name, **variant.arguments)
    try:
        cost = count_model(model, (channels, side or published, side or published)).cost
    except BadInput:
        if side is None:
            raise
        return None
    at_home = side in (None, published)
    return Row(
        network=name,
        arguments=variant.arguments,
        side=side or published,
        cost=cost,
        top1=variant.top1 if at_home else None,
        source=variant.source if at_home else "",
        int8_safe=int8_safe(model),
    )


def _latency_ms(row: Row, budget: Budget) -> float:
    """The median of the float32 file on the budget's runtime."""
    file = untrained_files(build_row(row), InputContract(side=row.side))["float32"]
    place = _place(budget)
    program = get_runtime(place["runtime"]).load(file, budget.threads)
    contestant = Contestant(row.network, program, place["runtime"], budget.threads)
    return race([contestant], seconds=TIMING_SECONDS, batch=budget.batch)[0].p50_ms


def build_row(row: Row) -> nn.Module:
    """The network, random weights that depend on nothing else. Files take RGB, also those of networks for digits."""
    arguments = row.arguments | ({"in_channels": 3} if card(row.network).input[0] != 3 else {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(row.network, **arguments)


def described(arguments: dict[str, Any]) -> str:
    """Arguments as the command line takes them: "width=0.5 se=true"."""
    pairs = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in arguments.items())
    return " ".join(f"{name}={text}" for name, text in pairs)
