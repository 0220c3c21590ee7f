"""Networks that cost the same: of many widths the one whose multiply-adds, or whose time, come nearest to a reference.

What was chosen is kept beside the trials, so that a study that was killed goes on with the networks that it began with.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

from torch import nn

from swiftlet._version import __version__
from swiftlet.run import Run
from swiftlet.study.bench import Bench, Case, Timing, counted
from swiftlet.study.chunks import Linked, race_in_chunks
from swiftlet.study.finding import Cell, Table
from swiftlet.study.trials import Lab

CLASSES = 10  # of the networks that are counted and timed; the pictures' own number changes the last layer alone
By = Literal["MACs", "ms"]
BOTH: tuple[By, By] = ("MACs", "ms")
NEAR = 0.05  # of what was to be equal; what is farther off is named


class Network(NamedTuple):
    """A candidate. build(num_classes=N) gives it with fresh weights; side: of the pictures that it sees."""

    label: str
    build: Callable[..., nn.Module]
    side: int


class Price(NamedTuple):
    """Multiply-adds and milliseconds, and either as times the reference's, the latter with its 95 % interval."""

    macs: int
    x_macs: float
    ms: float
    x_time: float
    low: float
    high: float


class Matched(NamedTuple):
    """labels: of each kind of network the one that has the reference's MACs and the one that has its time, which may be
    the same; prices: of these, of the reference and of the others, by label."""

    labels: Mapping[str, Mapping[By, str]]
    prices: Mapping[str, Price]

    def equal(self, label: str) -> str:
        """In what a network was brought to the reference's: "MACs", "ms", both, or nothing."""
        return " and ".join(by for by in BOTH if any(label == chosen[by] for chosen in self.labels.values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Which networks are not quite equal, for a finding's notes."""
        far = []
        for chosen in self.labels.values():
            for by, label in chosen.items():
                times = self.prices[label].x_macs if by == "MACs" else self.prices[label].x_time
                if abs(math.log(times)) > NEAR:
                    far.append(f"{label} has {times:.2f}x the {by}")
        return (f"Of the widths that were tried none comes nearer: {', '.join(far)}.",) if far else ()


def match(
    bench: Bench, lab: Lab, reference: Network, kinds: Mapping[str, Sequence[Network]], others: Sequence[Network] = ()
) -> Matched:
    """Choose from each kind on the first runtime of the bench, and then race all that is left once more.

    The second race is the one that is reported: in the first, whoever was lucky would be chosen for it. Raises BadInput
    if something else is kept beside lab.folder.
    """
    runtime = bench.runtimes[0]
    networks = {each.label: each for each in (reference, *others, *(each for kind in kinds.values() for each in kind))}

    def race(labels: Sequence[str]) -> dict[str, Linked]:
        cases = [partial(_case, networks[label]) for label in labels]
        found = race_in_chunks(
            replace(bench, runtimes=(runtime,)), cases, _case(reference), what="networks of equal cost"
        )
        return {label: found[Timing(label, runtime)] for label in labels}

    def chosen() -> dict[str, Any]:
        macs = {label: counted(_case(network)).cost.macs or 0 for label, network in networks.items()}
        raced = race([each.label for kind in kinds.values() for each in kind])

        def off(by: By, label: str) -> float:
            return abs(math.log(macs[label] / macs[reference.label] if by == "MACs" else raced[label].against))

        labels = {
            name: {by: min((each.label for each in kind), key=partial(off, by)) for by in BOTH}
            for name, kind in kinds.items()
        }
        left = [reference.label, *(each.label for each in others)]
        left += [label for of_a_kind in labels.values() for label in of_a_kind.values()]
        again = race(list(dict.fromkeys(left)))
        return {"labels": labels, "prices": {label: [macs[label], *time] for label, time in again.items()}}

    with Run(lab.folder.with_suffix(".equal")) as run:
        how = {"runtime": runtime, "threads": bench.threads, "batch": bench.batch, "seconds": bench.seconds}
        run.claim(how | {"networks": list(networks), "swiftlet": __version__})
        kept = run.once("equal", chosen)
    first = kept["prices"][reference.label][0]
    prices = {}
    for label in (label for label in networks if label in kept["prices"]):
        macs, *time = kept["prices"][label]
        prices[label] = Price(macs, macs / first, *time)
    return Matched({name: kept["labels"][name] for name in kinds}, prices)


def price_table(bench: Bench, matched: Matched, reference: str) -> Table:
    """What the arms of a study cost."""
    rows: list[tuple[Cell, ...]] = [
        (label, matched.equal(label), price.macs / 1e6, *price[1:]) for label, price in matched.prices.items()
    ]
    return Table(
        title="Cost",
        columns=("arm", "equal", "M MACs", "x MACs", "ms", "x time", "low", "high"),
        rows=tuple(rows),
        source=f"{bench.runtimes[0]}, float32, {bench.place()}, {CLASSES} classes, BatchNorm folded; x: times "
        f"{reference}, low and high of the time; raced once more after they were chosen",
    )


def _case(network: Network) -> Case:
    return Case(network.label, network.build(num_classes=CLASSES), (3, network.side, network.side))
