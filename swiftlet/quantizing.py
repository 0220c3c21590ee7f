"""Better ways than plain calibration from the network that is deployed to an int8 one; the gate tries them in turn.

Each is a function of the deployed network and of a Calibration, and gives the int8 network with the records of what
made it. They cost half a minute and more, so they are for files that lose too much without them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx

from swiftlet.compress.post_training import ROUNDING, quantize_best
from swiftlet.compress.qat import finished, prepare_qat
from swiftlet.compress.record import Record
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, NothingToDo

BATCH, LEAST_BATCHES = 64, 4  # pictures looked at together; quantize_best keeps every fourth batch to judge by
Integer = tuple[fx.GraphModule, tuple[Record, ...]]  # an int8 network and what made it of the deployed one
Way = Callable[[fx.GraphModule], Integer]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Training pictures that set the int8 ranges: `pixels` uint8 (N, side, side, 3), as `contract` sees them."""

    pixels: npt.NDArray[np.uint8]
    contract: InputContract

    @property
    def images(self) -> list[Tensor]:
        """As a network takes them: float (B, 3, side, side), B at most BATCH. Made anew each time, because they take
        four times the memory of the pixels and are wanted for seconds."""
        size = max(1, min(BATCH, len(self.pixels) // LEAST_BATCHES))
        images = torch.from_numpy(self.contract.normalise(self.pixels))
        return list(images.split(size))  # type: ignore[no-untyped-call]

    @property
    def grid(self) -> dict[str, Any]:
        """The grid that the pixels lie on, as arguments of quantize() and its kin."""
        scale, zero_point = self.contract.grid or (None, None)
        return {"input_scale": scale, "input_zero_point": zero_point}


def calibrated_best(plain: fx.GraphModule, on: Calibration, *, steps: int = ROUNDING) -> Integer:
    """Every calibration, equalization, learnt rounding (`steps` per layer, most of the time) and corrected biases, as
    far as each pays."""
    integer, record = quantize_best(plain, on.images, steps=steps, **on.grid)
    return integer, (record,)


def trained(
    plain: fx.GraphModule, on: Calibration, teach: Callable[[fx.GraphModule], None], *, bits: int = 8
) -> Integer:
    """Trained with its rounding, weights of `bits`; `teach` trains the network that it is given, in place.

    Raises NothingToDo if that ends in numbers that are not finite.
    """
    network, prepared = prepare_qat(plain, on.images, bits=bits, **on.grid)
    teach(network)
    try:
        integer, record = finished(network)
    except BadInput as error:
        raise NothingToDo(f"trained: {error}") from error
    return integer, (prepared, record)
