"""Our own file of trained weights: safetensors, with everything that rebuilds the network in its header."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.files import write_atomically
from swiftlet.zoo.card import Architecture, parameters_of
from swiftlet.zoo.weights.bounded import parse_json
from swiftlet.zoo.weights.facts import Weights

KEY = "swiftlet"  # the one key in the file's metadata; its value is JSON


def save_weights(model: nn.Module, path: Path | str, *, contract: InputContract, licence: str) -> None:
    """Write the weights of a network of the zoo, what it sees, and the licence they are under, into one file.

    create_model(name, pretrained=path) reads it back. Raises BadInput for a network that create_model did not build.
    """
    architecture = getattr(model, "architecture", None)
    if not isinstance(architecture, Architecture):
        raise BadInput("save_weights: takes a network that create_model built, which knows its own name")
    arguments: dict[str, Any] = {"num_classes": parameters_of(architecture.name)["num_classes"].default}
    arguments |= architecture.arguments
    facts = {
        "network": architecture.name,
        "num_classes": arguments.pop("num_classes"),
        "arguments": arguments,
        "contract": contract.to_json(),
        "licence": licence,
    }
    tensors = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(Path(path), save(tensors, {KEY: json.dumps(facts, sort_keys=True)}))


def read_header(path: Path, source: str) -> Weights | None:
    """What a file says of itself; None if save_weights did not write it. Raises BadFile."""
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError) as error:
        raise BadFile(f"{path}: is not a whole safetensors file ({error})") from error
    if text is None:
        return None
    where = f"{path}, metadata {KEY!r}"
    try:
        return Weights.from_json(parse_json(text, where) | {"source": source, "layout": "swiftlet"})
    except (KeyError, TypeError) as error:
        raise BadFile(f"{where}: is malformed ({error!r}); save the file again") from error
