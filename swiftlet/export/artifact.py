"""Artifact: a delivered file and everything known about it."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

import onnx

from swiftlet.budget import Cost
from swiftlet.compress.record import Record
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput

KEY = "swiftlet"  # the one key in the file's metadata_props; its value is JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A delivered file and its manifest. Accuracies are shares of 1, measured on the file that carries this.

    `parents` maps what the file was made from (data, float32 file) to SHA-256 digests; `weights` has source, licence
    and sha256 of the trained weights that the training started from, nothing if those were random; `records` are the
    transforms in the order in which they were applied; `golden` is the proof of golden.py. A latency belongs to a
    machine: it stands in the manifest beside the file and never inside it, so that the same run gives the same bytes.
    Raises BadInput if only some of accuracy, interval, n and split are given.
    """

    network: str
    arguments: dict[str, Any]
    precision: str
    labels: tuple[str, ...]
    contract: InputContract
    golden: dict[str, Any]
    parents: dict[str, str]
    records: tuple[Record, ...]
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    split: str | None = None
    cost: Cost = field(default_factory=Cost)
    weights: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [f is None for f in (self.accuracy, self.interval, self.n, self.split)]
        if any(missing) and not all(missing):
            raise BadInput("Artifact: accuracy, interval, n and split belong together; give all or none")

    def metadata(self) -> dict[str, str]:
        """For metadata_props: everything that does not depend on the machine, without the module paths."""
        facts = asdict(self)
        facts["cost"] = {"params": self.cost.params, "macs": self.cost.macs}
        facts["records"] = [{"name": record.name, "arguments": record.arguments} for record in self.records]
        facts["contract"] = self.contract.to_json()
        return {KEY: json.dumps(facts, sort_keys=True, separators=(",", ":"))}

    def to_json(self) -> dict[str, Any]:
        """For the manifest beside the file."""
        return asdict(self) | {"contract": self.contract.to_json()}


def read_artifact(model: onnx.ModelProto) -> Artifact | None:
    """What an ONNX file says of itself; None if swiftlet did not write it. Raises BadFile if that is malformed."""
    found = [p.value for p in model.metadata_props if p.key == KEY]
    if not found:
        return None
    try:
        facts = json.loads(found[0])
        facts["labels"] = tuple(_text(label) for label in facts["labels"])
        facts["contract"] = InputContract.from_json(facts["contract"])
        facts["golden"] = dict(facts["golden"])
        facts["records"] = tuple(Record(**record) for record in facts["records"])
        facts["interval"] = None if facts["interval"] is None else tuple(facts["interval"])
        facts["cost"] = Cost(**facts["cost"])
        return Artifact(**facts)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadFile(f"the swiftlet metadata in the file is malformed ({error!r}); export the file again") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a label must be a string, not {value!r}")
    return value
