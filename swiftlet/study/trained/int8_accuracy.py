"""What a trained network is worth in int8: a measure for the arms of a study."""

from typing import Any

import torch

from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.study.trial import Figures, Lesson

CALIBRATION, BATCH = 256, 64  # training pictures
# arguments of quantize(): as swiftlet begins, and the plainest there are
WAYS: dict[str, dict[str, Any]] = {"int8": {}, "int8 per tensor": {"calibration": "minmax", "per_channel": False}}


def in_int8(model: torch.nn.Module, lesson: Lesson) -> Figures:
    """Accuracy in % on the validation pictures for each of WAYS, of a model in evaluation mode, which is not changed.

    PyTorch computes it on the grids of int8. So sums are exact on every machine, also on one without VNNI.
    """
    plain, _ = deployed(model)
    contract = lesson.contract
    images = torch.from_numpy(contract.normalise(lesson.sample(CALIBRATION)))
    batches = images.split(BATCH)  # type: ignore[no-untyped-call]
    scale, zero_point = contract.grid or (None, None)
    found = {}
    for way, how in WAYS.items():
        integer, _ = quantize(plain, batches, input_scale=scale, input_zero_point=zero_point, **how)
        found[way] = lesson.percent(integer)
    return found
