"""swiftlet: photos and a budget in; the most accurate small network that fits, as a checked file, out."""

from typing import TYPE_CHECKING, Any

from swiftlet._version import __version__ as __version__
from swiftlet.budget import Budget as Budget
from swiftlet.budget import Cost as Cost
from swiftlet.cost.count import count as count
from swiftlet.errors import SwiftletError as SwiftletError
from swiftlet.zoo import create_model as create_model
from swiftlet.zoo import list_models as list_models

if TYPE_CHECKING:
    from swiftlet.fitting import Result as Result
    from swiftlet.fitting import fit as fit


def __getattr__(name: str) -> Any:
    """fit and Result need Pillow, ONNX and more: they are imported when they are asked for."""
    if name in ("fit", "Result"):
        from swiftlet import fitting

        return getattr(fitting, name)
    raise AttributeError(f"module 'swiftlet' has no attribute {name!r}")
