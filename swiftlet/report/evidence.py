"""What a report shows, as plain values: fit and shrink fill them in, the page only lays them out."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One line of the verdict: a limit of the budget and what the delivered file measured, both as printed."""

    name: str
    limit: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One file that was planned or trained. accuracy is a share of 1 on the validation photos, None if not trained."""

    name: str
    precision: str
    accuracy: float | None
    latency_ms: float | None
    size_bytes: int | None
    macs: int | None
    delivered: bool
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step down the ladder of shrink, and the file that it led to. accuracy is a share of 1 on the validation
    photos, packed_bytes the file in a container; seconds: what the step took; undone: why it does not stand, or ""."""

    name: str
    precision: str
    accuracy: float
    latency_ms: float
    size_bytes: int
    packed_bytes: int
    macs: int
    seconds: float
    undone: str
    delivered: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """One class on the sealed test photos: how many, how many right, and the class most often taken for it."""

    label: str
    n: int
    right: int
    interval: tuple[float, float] | None
    confused_with: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One test photo as the network saw it: uint8 (side, side, 3)."""

    key: str
    pixels: npt.NDArray[np.uint8]
    truth: str
    predicted: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything on the page. Shares are of 1; provenance keeps its order.

    A run of fit has `tried` files, one of shrink a `ladder` in the order of its steps; the other stays empty.
    latency_limit_ms and size_limit_bytes are the budget's limits as numbers, for lines in charts; None draws none.
    """

    title: str
    verdict: str
    budget_met: bool
    interrupted: bool
    file: str
    file_sha256: str
    split: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    accuracy_float: float
    p50_ms: float
    p90_ms: float
    size_bytes: int
    machine: str
    limits: tuple[Limit, ...]
    tried: tuple[Tried, ...]
    classes: tuple[ClassRow, ...]
    mistakes: tuple[Picture, ...]
    lost_to_int8: tuple[Picture, ...]
    photos_found: int
    photos_used: int
    set_aside: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    snippet: str
    provenance: dict[str, str]
    latency_limit_ms: float | None = None
    size_limit_bytes: int | None = None
    ladder: tuple[Step, ...] = ()
