"""What a run delivers."""

from dataclasses import dataclass, field
from typing import Any

from swiftlet.budget import Cost


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run delivered. Accuracies are shares of 1, taken from `file` on `split` ("test", or "validation" if the
    run was interrupted, in which case the test split is still sealed and the same command goes on). `weights` has
    source, licence and sha256 of the trained weights that the network started from; none if they were random."""

    file: str
    report: str
    network: str
    precision: str
    split: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    accuracy_float: float
    size_bytes: int
    p50_ms: float
    p90_ms: float
    machine: str
    cost: Cost
    budget_met: bool
    over: dict[str, str]
    interrupted: bool
    seconds: float
    tried: tuple[dict[str, Any], ...]
    weights: dict[str, str] = field(default_factory=dict)
    recipe: str = ""  # and why it was chosen

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Result":
        return cls(
            **data | {"interval": tuple(data["interval"]), "cost": Cost(**data["cost"]), "tried": tuple(data["tried"])}
        )
