"""swiftlet: photos and a budget in; the most accurate small network that fits, as a checked file, out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from swiftlet._version import __version__ as __version__

if TYPE_CHECKING:
    from swiftlet.budget import Budget as Budget
    from swiftlet.budget import Cost as Cost
    from swiftlet.cost.count import count as count
    from swiftlet.errors import SwiftletError as SwiftletError
    from swiftlet.fitting import Result as Result
    from swiftlet.fitting import fit as fit
    from swiftlet.shrinking.verb import Shrunk as Shrunk
    from swiftlet.shrinking.verb import shrink as shrink
    from swiftlet.zoo import create_model as create_model
    from swiftlet.zoo import list_models as list_models
    from swiftlet.zoo.scale import scale_width as scale_width
    from swiftlet.zoo.weights.load import load_weights as load_weights
    from swiftlet.zoo.weights.own import save_weights as save_weights

_HOME = {
    "Budget": "budget",
    "Cost": "budget",
    "Result": "fitting",
    "SwiftletError": "errors",
    "count": "cost.count",
    "create_model": "zoo",
    "fit": "fitting",
    "list_models": "zoo",
    "load_weights": "zoo.weights.load",
    "save_weights": "zoo.weights.own",
    "scale_width": "zoo.scale",
    "shrink": "shrinking.verb",
    "Shrunk": "shrinking.verb",
}
__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are asked for, so that `swiftlet --help` is quick."""
    if name not in _HOME:
        raise AttributeError(f"module 'swiftlet' has no attribute {name!r}")
    return getattr(import_module(f"swiftlet.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
