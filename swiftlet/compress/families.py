"""How many channels each layer keeps, such that the operations between the layers still fit."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from swiftlet.compress.channels import Channels, Narrow
from swiftlet.errors import BadInput

TRIES = 24  # numbers of channels that are tried for a family before it is left as it is


@dataclass(frozen=True, eq=False, slots=True)
class Family:
    """Channels whose numbers depend on each other.

    One cohort are the channels that a layer is the first to make and that come into the same parts of slices and
    splits. Cohorts are in one family if some operation makes equal parts of them together: all shrink by one ratio.
    """

    cohorts: tuple[tuple[int, ...], ...]

    @property
    def channels(self) -> list[int]:
        return [number for cohort in self.cohorts for number in cohort]


def families(channels: Channels) -> list[Family]:
    """All channels, in the order of the layers that make them first."""
    kinds = defaultdict[tuple[str, ...], list[int]](list)
    for number, keys in sorted(channels.signatures.items()):
        kinds[channels.creators[number], *(key for key, _ in keys if key in channels.parts)].append(number)
    cohorts = [tuple(numbers) for numbers in kinds.values()]
    cohort_of = {number: i for i, cohort in enumerate(cohorts) for number in cohort}
    family_of = list(range(len(cohorts)))
    for numbers in channels.links:
        linked = {family_of[cohort_of[number]] for number in numbers}
        family_of = [min(linked) if family in linked else family for family in family_of]
    grouped = defaultdict[int, list[tuple[int, ...]]](list)
    for cohort, family in zip(cohorts, family_of, strict=True):
        grouped[family].append(cohort)
    return [Family(tuple(members)) for members in grouped.values()]


def fit(old: Channels, wanted: Sequence[tuple[Family, float | None]], multiple: int) -> Narrow:
    """The narrower network in which each family keeps its share, or the nearest to it that its operations allow.

    Each cohort keeps a multiple of `multiple` channels, at least one multiple; or all of them, as it does for None.
    """
    options = [_options(family, share, multiple) for family, share in wanted]
    family_of = {number: i for i, (family, _) in enumerate(wanted) for number in family.channels}
    while True:
        kept = [spread(family, counts[0]) for (family, _), counts in zip(wanted, options, strict=True)]
        narrow = Narrow(old, [number for numbers in kept for number in numbers])
        misfit = narrow.misfits()
        if not misfit:
            return narrow
        narrower = {i for i in map(family_of.__getitem__, misfit) if len(options[i]) > 1}
        if not narrower:
            keys = old.signatures[min(misfit)]
            raise BadInput(f"prune_channels: {keys[0]} depends on other channels in a way that cannot be followed")
        for i in narrower:
            options[i].pop(0)


def spread(family: Family, counts: Sequence[int]) -> list[int]:
    """So many channels of each cohort, evenly over it."""
    return [
        cohort[(2 * i + 1) * len(cohort) // (2 * count)]
        for cohort, count in zip(family.cohorts, counts, strict=True)
        for i in range(count)
    ]


def _options(family: Family, share: float | None, multiple: int) -> list[tuple[int, ...]]:
    """How many channels the cohorts could keep, the nearest to the share first, all of them last."""
    sizes = [len(cohort) for cohort in family.cohorts]
    if share is None:
        return [tuple(sizes)]

    def counts(share: float) -> tuple[int, ...]:
        return tuple(min(n, max(1, round(share * n / multiple)) * multiple) for n in sizes)

    shares = [i * multiple / max(sizes) for i in range(1, max(sizes) // multiple + 1)]
    shares.sort(key=lambda other: abs(other - share))
    return [*dict.fromkeys(counts(other) for other in (share, *shares[:TRIES])), tuple(sizes)]
