"""What a training delivers."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training delivered. `accuracy` is a share of 1, with its 95 % interval, of `file` on the `n` validation
    photos; the test photos stay sealed. A batch was cut into `accumulate` pieces per process, and BatchNorm took its
    statistics from each. `weights` is the same network for PyTorch (create_model's `pretrained`).
    `started_from`: source, licence and sha256 of the weights that it started from; nothing if they were random."""

    file: str
    weights: str
    network: str
    recipe: str
    epochs: float
    steps: int
    processes: int
    accumulate: int
    engine: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    size_bytes: int
    seconds: float
    started_from: dict[str, str]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Trained":
        return cls(**data | {"interval": tuple(data["interval"])})
