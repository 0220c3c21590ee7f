"""Cost and Budget: the values that every measurement, search and report speaks.

Units are in the names. None in a Cost means "not measured", and what is not measured never passes a check;
None in a Budget means "no limit". MB = 10^6 bytes, KB = 10^3 bytes.
"""

from dataclasses import dataclass, fields

from swiftlet.errors import BadInput

LIMITS = (
    "params",
    "macs",
    "flops",
    "memory_access_bytes",
    "peak_activation_bytes",
    "size_bytes",
    "latency_ms",
)
ALL_LIMITS = (*LIMITS, "packed_bytes")  # the last is known of trained weights only, the others of any


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one network or file costs, counted or measured, for one image unless `batch` says otherwise.

    macs are multiply-adds; flops are 2 x macs. memory_access_bytes is ShuffleNet V2's memory access cost (its
    "MAC") in bytes. peak_activation_bytes is what an arena allocator needs; packed_bytes is the file in a container
    (swiftlet.pack), the download. A latency belongs to a place: latency_ms is refused without runtime, threads and
    batch. Raises BadInput on a half-filled or negative state.
    """

    params: int | None = None
    macs: int | None = None
    flops: int | None = None
    memory_access_bytes: int | None = None
    peak_activation_bytes: int | None = None
    size_bytes: int | None = None
    packed_bytes: int | None = None
    latency_ms: float | None = None
    runtime: str | None = None
    threads: int | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for name in ALL_LIMITS:
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise BadInput(f"Cost: {name}={value!r} must be 0 or more")
        if self.latency_ms is not None and None in (self.runtime, self.threads, self.batch):
            raise BadInput("Cost: latency_ms needs runtime, threads and batch: a latency without a place means nothing")

    def __repr__(self) -> str:
        return _short_repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Upper limits in the fields of Cost, and the accuracy that shrinking may cost.

    max_drop is in accuracy points (1.0 = one percentage point) against the float parent on the same photos.
    Raises BadInput if latency_ms is given without runtime, or a limit is not positive.
    """

    params: int | None = None
    macs: int | None = None
    flops: int | None = None
    memory_access_bytes: int | None = None
    peak_activation_bytes: int | None = None
    size_bytes: int | None = None
    packed_bytes: int | None = None
    latency_ms: float | None = None
    runtime: str | None = None
    threads: int = 1
    batch: int = 1
    max_drop: float = 1.0

    def __post_init__(self) -> None:
        for name in ALL_LIMITS:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise BadInput(f"Budget: {name}={value!r} must be above 0; leave it out for no limit")
        if self.latency_ms is not None and self.runtime is None:
            raise BadInput('Budget: latency_ms needs runtime, as in Budget(latency_ms=3, runtime="onnxruntime")')
        if self.threads < 1 or self.batch < 1:
            raise BadInput(f"Budget: threads={self.threads} and batch={self.batch} must be 1 or more")
        if not 0 <= self.max_drop <= 100:
            raise BadInput(f"Budget: max_drop={self.max_drop!r} is in accuracy points, 0 to 100")

    def __repr__(self) -> str:
        return _short_repr(self)

    def over(self, cost: Cost) -> dict[str, str]:
        """Each broken limit with the reason; empty means that the cost fits."""
        broken = {}
        for name in ALL_LIMITS:
            limit, got = getattr(self, name), getattr(cost, name)
            if limit is None:
                continue
            if got is None:
                broken[name] = "not measured"
            elif got > limit:
                broken[name] = f"{got:,} > {limit:,}"
        place, limit_place = (cost.runtime, cost.threads, cost.batch), (self.runtime, self.threads, self.batch)
        if self.latency_ms is not None and cost.latency_ms is not None and place != limit_place:
            broken["latency_ms"] = f"measured on {_place(*place)}, the limit is for {_place(*limit_place)}"
        return broken


def _place(runtime: str | None, threads: int | None, batch: int | None) -> str:
    return f"{runtime}, {threads} thread{'s' if threads != 1 else ''}, batch {batch}"


def _short_repr(value: Cost | Budget) -> str:
    """Only what differs from the defaults, so that it can be read and pasted back."""
    given = [f"{f.name}={getattr(value, f.name)!r}" for f in fields(value) if getattr(value, f.name) != f.default]
    return f"{type(value).__name__}({', '.join(given)})"
