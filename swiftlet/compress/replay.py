"""A compressed network from data alone: architecture, records, weights."""

import copy
import importlib
from collections.abc import Iterable

from torch import nn

from swiftlet.compress.record import Record
from swiftlet.errors import BadInput

# What changes the structure of a network: the module and the function that do the same to a fresh one. A transform
# that depends on nothing but the structure takes the network alone, the others have a `rebuild` that takes the record.
AGAIN = {
    "drop_blocks": ("swiftlet.compress.blocks", "rebuild"),
    "factorize": ("swiftlet.compress.factorize", "rebuild"),
    "fold_batchnorm": ("swiftlet.compress.fold", "fold_batchnorm"),
    "prune_channels": ("swiftlet.compress.prune", "rebuild"),
    "reparameterize": ("swiftlet.compress.reparameterize", "reparameterize"),
}


def replay(model: nn.Module, records: Iterable[Record]) -> nn.Module:
    """Return a copy, in evaluation mode, with the structure that these transforms gave to another of its kind.

    The copy then takes the state dict that the other has: load_state_dict(..., strict=True) shows that nothing is
    missing. So a checkpoint is an architecture's name and arguments, its records, and a safetensors file.
    Raises BadInput for a record of a transform that does not change the structure, and for one that does not fit.
    """
    new = copy.deepcopy(model).eval()
    for record in records:
        if record.name not in AGAIN:
            raise BadInput(f"replay: {record.name!r} cannot be done again from its record; {', '.join(AGAIN)} can")
        module, name = AGAIN[record.name]
        again = getattr(importlib.import_module(module), name)  # here: each needs what the others do not
        new = again(new, record) if name == "rebuild" else again(new)[0]
    return new
