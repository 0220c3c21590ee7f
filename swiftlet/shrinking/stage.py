"""A stage of the ladder: a trained network and its files under the gate."""

from typing import Any, NamedTuple

from swiftlet.shrinking.offers import Offer, holding
from swiftlet.shrinking.workplace import Workplace


class Stage(NamedTuple):
    """name: of its files in train/; step: what was done; float32: the stage whose float32 file is its parent; place:
    with the pictures that it sees; undone: why it does not stand although it holds the accuracy."""

    name: str
    step: str
    offer: Offer
    float32: str
    place: Workplace
    undone: str = ""

    @property
    def stands(self) -> bool:
        return holding(self.offer) is not None and not self.undone

    @property
    def accuracy(self) -> float:
        """Of its better file, a share of 1."""
        return float(max(option["accuracy"] for option in self.offer["options"].values()))

    @property
    def option(self) -> dict[str, Any]:
        """The file that stands."""
        found: dict[str, Any] = self.offer["options"][self.precision]
        return found

    @property
    def precision(self) -> str:
        """Of the file that stands, or of the int8 one if none does."""
        return holding(self.offer) or "int8"

    @property
    def file(self) -> str:
        """Its name in train/."""
        return f"{self.name}.{self.precision}.onnx"
