"""No time counts before the numbers are right: a program's outputs against the reference of the same file.

The reference is ONNX Runtime on the same bytes, so an integer file is compared with itself, not with the float network
that it was made from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swiftlet.runtime.base import Array

REFERENCE = "onnxruntime"
FLOAT_TOLERANCE = 1e-3  # largest difference, as a share of the range of the reference's output
COSINE = 0.98  # bfloat16 and int8: kernels round in different places, so single values differ more


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of the worst output. largest: difference as a share of the output's range; refused: why, or ""."""

    largest: float
    cosine: float
    refused: str


def agreement(outputs: Sequence[Array], reference: Sequence[Array], precision: str) -> Agreement:
    """float32: every value within 1e-3 of the output's range. Shorter types and integers: cosine at least 0.98."""
    if [output.shape for output in outputs] != [output.shape for output in reference]:
        shapes = " and ".join(str([output.shape for output in each]) for each in (outputs, reference))
        return Agreement(largest=float("inf"), cosine=0.0, refused=f"gives other shapes than the reference: {shapes}")
    found = [_compare(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(outputs, reference, strict=True)]
    largest, cosine = max(pair[0] for pair in found), min(pair[1] for pair in found)
    reason = ""
    if not np.isfinite(largest):
        reason = "gives values that are no finite numbers, or the reference does"
    elif precision == "float32" and largest > FLOAT_TOLERANCE:
        reason = f"differs from {REFERENCE} by {largest:.2g} of the output's range, allowed is {FLOAT_TOLERANCE:g}"
    elif precision != "float32" and cosine < COSINE:
        reason = f"has cosine {cosine:.4f} with {REFERENCE} on the same file ({precision}), needed is {COSINE}"
    return Agreement(largest=largest, cosine=cosine, refused=reason)


def _compare(a: Array, b: Array) -> tuple[float, float]:
    """(largest difference over the range of b, cosine)."""
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf"), 0.0
    scale = float(np.ptp(b)) or float(np.abs(b).max()) or 1.0
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    cosine = float((a * b).sum()) / lengths if lengths else float(np.array_equal(a, b))
    return float(np.abs(a - b).max()) / scale, cosine
