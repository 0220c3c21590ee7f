"""Cards and the registry: which networks there are, what is known of them, and how to build them by name."""

import difflib
import fnmatch
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from swiftlet.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts about one architecture at its default arguments; a test recomputes params and macs.

    `input` is (channels, height, width); `params` counts weights, biases and BatchNorm scale and shift; `macs` are
    multiply-adds of one image; `top1` is the accuracy in percent that the paper prints for ImageNet.
    """

    paper: str
    input: tuple[int, int, int]
    params: int
    macs: int
    top1: float | None = None
    licence: str = "Apache-2.0 (swiftlet's code; no weights shipped)"


Builder = Callable[..., nn.Module]
_ZOO: dict[str, tuple[Card, Builder]] = {}


def register(card: Card) -> Callable[[Builder], Builder]:
    """Add a builder to the zoo under its own name. Raises BadInput if the name is taken."""

    def add(build: Builder) -> Builder:
        if build.__name__ in _ZOO:
            raise BadInput(f"register: the zoo already has a network called {build.__name__!r}")
        _ZOO[build.__name__] = (card, build)
        return build

    return add


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo that match a shell-style pattern, sorted: list_models("mobilenet*")."""
    return sorted(fnmatch.filter(_ZOO, pattern))


def card(name: str) -> Card:
    """The card of a network. Raises BadInput for an unknown name."""
    return _find(name)[0]


def create_model(name: str, **arguments: object) -> nn.Module:
    """Build a network by name with random weights, in training mode.

    create_model("mobilenet_v2", width=0.35, num_classes=10). Raises BadInput for an unknown name or argument, and
    names the ones that exist.
    """
    build = _find(name)[1]
    known = inspect.signature(build).parameters
    for argument in arguments:
        if argument not in known:
            raise BadInput(f"{name} has no argument {argument!r}; it has {', '.join(known)}")
        _check(name, argument, known[argument].annotation, arguments[argument])
    return build(**arguments)


def _check(network: str, argument: str, kind: Any, value: Any) -> None:
    """Numbers must be numbers, and positive: all but a dropout, which may be 0."""
    if kind not in (int, float):
        return
    number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    least = "0 or more" if argument == "dropout" else "above 0"
    if not number or not (0 < value < math.inf or (argument == "dropout" and 0 <= value < 1)):
        raise BadInput(f"{network}: {argument}={value!r} must be of type {kind.__name__} and {least}")


def _find(name: str) -> tuple[Card, Builder]:
    if name not in _ZOO:
        close = difflib.get_close_matches(name, _ZOO, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_ZOO))}"
        raise BadInput(f"the zoo has no network called {name!r}; {hint}")
    return _ZOO[name]
