"""Which rank for which layer: by the share of energy that each keeps, or by a budget that all share."""

from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import Literal, NamedTuple

import torch
from torch import nn

from swiftlet.compress.decompose import Decomposition, decompose
from swiftlet.compress.factors import METHODS, Layer, Places, Rank, obstacle, parts, work
from swiftlet.errors import BadInput, Infeasible

Limited = Literal["macs", "params"]


class Option(NamedTuple):
    """A layer at one rank, or as it is (rank None): the share of its energy, of squared weights or outputs, that is
    lost, and its cost for one image, without bias."""

    rank: Rank | None
    loss: float
    params: int
    macs: int

    @property
    def error(self) -> float:
        """Relative error in the Frobenius norm."""
        return sqrt(self.loss)


def curve(layer: nn.Module, input: tuple[int, ...], method: str = "svd") -> tuple[Option, ...]:
    """Relative error against cost of one layer, from low rank to high, the layer as it is last.

    `input` is the shape of its input without the batch: (C, H, W), or (..., C) for nn.Linear. The errors are those of
    the weight; tucker's are upper bounds, cp's are what one search found. Raises BadInput for a layer that the method
    cannot take apart.
    """
    check_method(method)
    reason = obstacle(layer, method)
    if reason is not None or not isinstance(layer, Layer):
        raise BadInput(f"curve: the layer cannot be taken apart: {reason}")
    x = torch.empty(1, *input, device="meta")
    try:
        y = torch.func.functional_call(layer, {name: p.to("meta") for name, p in layer.named_parameters()}, (x,))
    except RuntimeError as error:
        raise BadInput(f"curve: the layer does not take an input of {input}: {error}") from error
    return options(layer, method, decompose(layer.weight, method), Places().seen(layer, x, y))


def check_method(method: str) -> None:
    if method not in METHODS:
        raise BadInput(f"method={method!r}: give one of {', '.join(METHODS)}")


def options(layer: Layer, method: str, found: Decomposition, places: Places) -> tuple[Option, ...]:
    """Every rank that the decomposition offers, from low to high, and the layer as it is."""
    offers = [Option(rank, loss, *work(parts(layer, method, rank), places)) for rank, loss in found.losses()]
    return *offers, as_it_is(layer, places)


def as_it_is(layer: Layer, places: Places) -> Option:
    size = layer.weight.numel()
    return Option(None, 0.0, size, size * places.out)


def saving(offers: Sequence[Option]) -> list[Option]:
    """Those that cost fewer parameters and fewer multiply-adds than the layer as it is, which comes last."""
    whole = offers[-1]
    return [o for o in offers if o.params < whole.params and o.macs < whole.macs]


def by_energy(offers: Sequence[Option], energy: float) -> Rank | str:
    """The cheapest rank that keeps this share of the energy, or why none does and saves something as well."""
    cheaper = saving(offers)
    if not cheaper:
        return "no rank of it saves multiply-adds and parameters"
    enough = [o for o in cheaper if o.loss <= 1 - energy]
    if not enough:
        best = min(cheaper, key=lambda o: o.loss)
        return f"the best rank that still saves, {best.rank}, keeps {1 - best.loss:.2%} of its energy"
    rank = min(enough, key=lambda o: o.macs).rank
    assert rank is not None
    return rank


def by_budget(curves: Mapping[str, Sequence[Option]], limit: int, limited: Limited, fixed: int) -> dict[str, Option]:
    """The options, one for each layer, that with the `fixed` rest cost at most `limit` and keep a large product of
    energies: Zhang et al.'s objective (arXiv:1505.06798, on whole models).

    They lower one rank after another, whichever loses least for what it saves; here one price for a unit of cost is
    bisected, see at_price, and what that leaves over goes where it adds most. Raises Infeasible if the lowest ranks
    cost more than the limit.
    """
    offers = {path: [*saving(each), each[-1]] for path, each in curves.items()}
    least = fixed + sum(min(_cost(o, limited) for o in each) for each in offers.values())
    if least > limit:
        raise Infeasible(f"factorize: even at its lowest ranks the network has {least:,} {limited}, over {limit:,}")

    def total(chosen: Mapping[str, Option]) -> int:
        return fixed + sum(_cost(option, limited) for option in chosen.values())

    low, high = 0.0, 1.0 / limit
    while total(at_price(offers, high, limited)) > limit:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if total(at_price(offers, middle, limited)) > limit else (low, middle)
    chosen = at_price(offers, high, limited)
    while True:
        left = limit - total(chosen)
        raised = {
            path: min((o for o in offers[path] if _cost(o, limited) <= _cost(now, limited) + left), key=_nats)
            for path, now in chosen.items()
        }
        path = max(raised, key=lambda path: _nats(chosen[path]) - _nats(raised[path]))
        if _nats(raised[path]) >= _nats(chosen[path]):
            return chosen
        chosen[path] = raised[path]


def at_price(offers: Mapping[str, Sequence[Option]], price: float, limited: Limited) -> dict[str, Option]:
    """For each layer the option with the lowest -log(energy) + price x cost. No other choice that costs as much or less
    keeps a larger product of energies."""
    return {path: min(each, key=lambda o: _nats(o) + price * _cost(o, limited)) for path, each in offers.items()}


def _cost(option: Option, limited: Limited) -> int:
    return option.macs if limited == "macs" else option.params


def _nats(option: Option) -> float:
    return -log(max(1 - option.loss, 1e-12))
