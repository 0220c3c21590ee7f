"""Checkpoints: tensors in safetensors, facts in its JSON header, on disk whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from swiftlet.errors import BadFile
from swiftlet.files import write_atomically


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: Mapping[str, object]) -> None:
    """Store tensors and JSON facts in one file."""
    contiguous = {name: t.detach().contiguous() for name, t in tensors.items()}
    write_atomically(path, save(contiguous, {"facts": json.dumps(dict(facts), sort_keys=True)}))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what save_checkpoint wrote. Raises BadFile if it is not such a file."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            if not isinstance(facts, dict):
                raise ValueError("its facts are no object")
            return {name: file.get_tensor(name) for name in file.keys()}, facts  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise BadFile(f"{path}: not a swiftlet checkpoint ({error}); delete it to start this part again") from error
