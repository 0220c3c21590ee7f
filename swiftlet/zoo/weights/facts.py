"""What is known of trained weights: before they are read, and of a network that was built from them."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile

Names = Literal["timm", "torchvision", "swiftlet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Trained weights before their tensors are read.

    `source` is where they are from, as it was asked for. `network` and `arguments`, with `num_classes`, build the
    network that they are for; `contract` is what it saw in training; `layout` says whose names the tensors have.
    """

    source: str
    network: str
    arguments: dict[str, Any]
    num_classes: int
    layout: Names
    contract: InputContract
    licence: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"contract": self.contract.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Weights":
        """What to_json gave. Raises BadFile, and TypeError or KeyError if a key is missing or unknown."""
        contract = InputContract.from_json(data["contract"])
        texts = [data[name] for name in ("source", "network", "licence")]
        if not all(isinstance(text, str) for text in texts) or data["layout"] not in get_args(Names):
            raise BadFile(f"trained weights: source, network, licence or layout is malformed in {data!r:.200}")
        if not isinstance(data["arguments"], dict) or type(data["num_classes"]) is not int:
            raise BadFile(f"trained weights: arguments or num_classes is malformed in {data!r:.200}")
        return cls(**(data | {"contract": contract}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """Where the weights of a network are from: each one that was built from trained weights has it as
    `model.pretrained`. `digest` is the SHA-256 of the file that was read."""

    source: str
    licence: str
    digest: str
    contract: InputContract
    layout: Names


def facts_of(model: nn.Module) -> dict[str, str]:
    """Source, licence and sha256 of the trained weights that a network was built from; nothing if they were random."""
    read = getattr(model, "pretrained", None)
    if not isinstance(read, Pretrained):
        return {}
    return {"source": read.source, "licence": read.licence, "sha256": read.digest}
