"""Cards and the registry: which networks there are, what is known of them, and how to build them by name."""

import difflib
import fnmatch
import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from torch import nn

from swiftlet.errors import BadInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One published variant: the arguments that make it, and the ImageNet top-1 accuracy in percent that `source`, a
    table of the paper unless it says otherwise, prints for it. `side` is the input's, None for the card's own."""

    arguments: dict[str, Any] = field(default_factory=dict)
    top1: float | None = None
    source: str = ""
    side: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Facts about one architecture at its default arguments; a test recomputes params and macs.

    `title` is its name as printed, `input` is (channels, height, width); `params` counts weights, biases and BatchNorm
    scale and shift; `macs` are multiply-adds of one image. `variants` are what the zoo's tables list, the default
    first. Networks of one `family` share a page.
    """

    title: str
    family: str
    paper: str
    input: tuple[int, int, int]
    params: int
    macs: int
    variants: tuple[Variant, ...] = (Variant(),)
    licence: str = "Apache-2.0 (swiftlet's code; no weights shipped)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """Architecture as data: what create_model needs to build the same network again. Each network carries its own as
    `model.architecture`."""

    name: str
    arguments: dict[str, Any]


Builder = Callable[..., nn.Module]
B = TypeVar("B", bound=Builder)
_ZOO: dict[str, tuple[Card, Builder]] = {}


def register(card: Card) -> Callable[[B], B]:
    """Add a builder to the zoo under its own name; it then checks its arguments by their annotations (BadInput).

    Raises BadInput if the name is taken.
    """

    def add(build: B) -> B:
        name, known = build.__name__, inspect.signature(build).parameters
        if name in _ZOO:
            raise BadInput(f"register: the zoo already has a network called {name!r}")

        @functools.wraps(build)
        def checked(**arguments: Any) -> nn.Module:
            for argument, value in arguments.items():
                if argument in known:
                    _check(name, argument, known[argument].annotation, value)
            model = build(**arguments)
            model.architecture = Architecture(name=name, arguments=arguments)  # type: ignore[assignment]
            return model

        _ZOO[name] = (card, checked)
        return cast(B, checked)

    return add


def list_models(pattern: str = "*") -> list[str]:
    """Names in the zoo that match a shell-style pattern, sorted: list_models("mobilenet*")."""
    return sorted(fnmatch.filter(_ZOO, pattern))


def card(name: str) -> Card:
    """The card of a network. Raises BadInput for an unknown name."""
    return _find(name)[0]


def parameters_of(name: str) -> dict[str, inspect.Parameter]:
    """The arguments that a network takes. Raises BadInput for an unknown name."""
    return dict(inspect.signature(_find(name)[1]).parameters)


def build_model(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Build a network by name with random weights, in training mode.

    Raises BadInput for an unknown name or argument, and names the ones that exist.
    """
    build, known = _find(name)[1], parameters_of(name)
    for argument in arguments:
        if argument not in known:
            raise BadInput(f"{name} has no argument {argument!r}; it has {', '.join(known)}")
    return build(**arguments)


def int8_safe(model: nn.Module) -> bool:
    """Whether a network is free of what plain int8 is known to wreck: h-swish, swish and the gates of SE.

    MobileNet-EdgeTPU and EfficientNet-Lite leave both out for this reason.
    """
    return not any(isinstance(m, nn.Hardswish | nn.SiLU | nn.Hardsigmoid | nn.Sigmoid) for m in model.modules())


def _check(network: str, argument: str, kind: Any, value: Any) -> None:
    """Refuse a value that is not of its annotated kind. Numbers must be positive: all but a dropout, which may be 0."""
    kinds = get_args(kind) if get_origin(kind) is not Literal else (kind,)
    if type(None) in kinds and value is None:
        return
    kind = next((k for k in kinds if k is not type(None)), kind)
    if get_origin(kind) is Literal:
        if value not in get_args(kind) or type(value) is not type(get_args(kind)[0]):
            raise BadInput(f"{network}: {argument}={value!r} must be {' or '.join(map(repr, get_args(kind)))}")
    elif kind is bool:
        if not isinstance(value, bool):
            raise BadInput(f"{network}: {argument}={value!r} must be True or False")
    elif kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        if argument == "dropout":
            fits, least = number and 0 <= value < 1, "0 or more, below 1"
        else:
            fits, least = number and 0 < value < math.inf, "above 0"
        if not fits:
            raise BadInput(f"{network}: {argument}={value!r} must be of type {kind.__name__} and {least}")


def _find(name: str) -> tuple[Card, Builder]:
    if name not in _ZOO:
        close = difflib.get_close_matches(name, _ZOO, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(_ZOO))}"
        raise BadInput(f"the zoo has no network called {name!r}; {hint}")
    return _ZOO[name]
