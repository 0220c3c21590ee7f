"""Planning: what is feasible under a budget, before any training.

Bytes and milliseconds do not depend on the values of the weights, so every candidate is exported with random ones,
as float and as int8, counted, and timed on the runtime that will run it. Only then is anything trained.
"""

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from swiftlet.budget import LIMITS, Budget, Cost
from swiftlet.candidates import Candidate
from swiftlet.cost.count import count_model, count_onnx
from swiftlet.errors import BadFile, Infeasible
from swiftlet.export.untrained import untrained_files
from swiftlet.progress import Progress
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, compare, race
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe

# Multiply-adds of MobileNet V1 that are worth one of these, from the same race: only to rank what to try first.
WORTH = {"mobilenet_v2": 0.25, "resnet18": 8.0, "shufflenet_v2": 3.0}
SHORTLIST, PER_NETWORK = 4, 2  # no more than two of one network: ranks are guesses, accuracies are measured
FAIR_EPOCHS, FAIR_EPOCHS_PRETRAINED = 8, 4
PRETRAINED_WORTH = 20  # epochs from random weights that one from trained weights is worth
PRETRAINED_ENOUGH = 8  # epochs from trained weights, of which more help little
SKETCH_SECONDS = 20.0  # with planning, there is a first file within a minute
TIMING_SECONDS = 0.05  # per file: enough to tell what fits, the race before delivery is thorough
METADATA_BYTES, METADATA_BYTES_PER_CLASS = 2000, 120  # labels, contract, golden scores: an upper bound
LATENCY_MARGIN = 1.1  # a candidate that meets the limit only just, in a quick measurement, may miss it in the race

# limit: command-line flag and its unit; a limit without one is quoted by its name in Budget
FLAGS = {"size_bytes": ("--max-kb", 1e3), "latency_ms": ("--max-ms", 1.0), "macs": ("--max-mmacs", 1e6)}
SAFE = 1.2  # a quoted latency leaves this much room, because the machine will not be equally quiet next time


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A candidate with the cost of its files by precision ("float32", "int8") and what each breaks in the budget."""

    candidate: Candidate
    costs: dict[str, Cost]
    over: dict[str, dict[str, str]]
    train_ms: float | None = None  # one picture, one training step; measured on the shortlist, estimated elsewhere

    @property
    def feasible(self) -> tuple[str, ...]:
        return tuple(precision for precision, broken in self.over.items() if not broken)

    @property
    def picture_ms(self) -> float:
        """One picture, one training step. Unmeasured: about eight forward passes of the optimised file."""
        if self.train_ms is not None:
            return self.train_ms
        return max(0.1, 8 * (self.costs["float32"].latency_ms or 0.0))

    @property
    def macs(self) -> int:
        return next(iter(self.costs.values())).macs or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All candidates, and what will be trained.

    First the sketch, for a few seconds, so that there is a legal file early: a candidate that is legal as float32, if
    there is one. Then successive halving over the shortlist, in order of promise. A rung holds the training steps of
    every candidate that could reach it, the sketch among them, which steps in where int8 is not admitted.
    """

    planned: tuple[Planned, ...]
    sketch: str
    sketch_steps: int
    shortlist: tuple[str, ...]
    rungs: tuple[dict[str, int], ...]
    batch: int
    seconds: float

    def find(self, name: str) -> Planned:
        return next(p for p in self.planned if p.candidate.name == name)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Plan":
        """Raises BadFile if the JSON is not a plan."""
        try:
            planned = tuple(
                Planned(
                    candidate=Candidate.from_json(p["candidate"]),
                    costs={k: Cost(**v) for k, v in p["costs"].items()},
                    over=p["over"],
                    train_ms=p["train_ms"],
                )
                for p in data["planned"]
            )
            rungs = tuple({str(k): int(v) for k, v in rung.items()} for rung in data["rungs"])
            plan = cls(
                planned=planned,
                sketch=str(data["sketch"]),
                sketch_steps=int(data["sketch_steps"]),
                shortlist=tuple(data["shortlist"]),
                rungs=rungs,
                batch=int(data["batch"]),
                seconds=float(data["seconds"]),
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise BadFile(f"this is not a plan that swiftlet wrote ({error!r})") from error
        names = {p.candidate.name for p in plan.planned}
        for name in [plan.sketch, *plan.shortlist, *(name for rung in plan.rungs for name in rung)]:
            if name not in names:
                raise BadFile(f"the plan wants to train {name!r}, which is not among its candidates")
        for rung in plan.rungs:
            for name in {plan.sketch, *plan.shortlist} - set(rung):
                raise BadFile(f"the plan has a rung without steps for {name!r}")
        return plan


def make_plan(
    candidates: tuple[Candidate, ...],
    budget: Budget,
    *,
    num_classes: int,
    photos: int,
    recipe: Recipe,
    minutes: float = 10.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Plan:
    """Count and time every candidate, pick a shortlist, and lay out a successive halving that fits the minutes.

    `photos` is the number of training photos. A limit on packed bytes is left to the gate: it is known of trained
    weights only. Raises Infeasible if no candidate meets the budget; the text names the
    nearest one and what it would need.
    """
    started, budget = time.monotonic(), replace(budget, packed_bytes=None)
    planned = []
    for i, candidate in enumerate(candidates):
        if progress is not None:
            progress(f"timing candidates, {candidate.name}", i, len(candidates))
        planned.append(_try(candidate, budget, num_classes, seed))
    if progress is not None:
        progress("timing training steps", 0, 0)
    feasible = [p for p in planned if p.feasible]
    if not feasible:
        raise Infeasible(_nearest(planned, budget, num_classes, seed))
    seconds = _training_seconds(minutes)
    promising = _most_promising(feasible, seconds, photos)
    safe = [p for p in feasible if "float32" in p.feasible] or promising
    sketch = max(safe, key=lambda p: _promise(p, SKETCH_SECONDS, photos))
    timed = {p.candidate.name: _with_train_ms(p, recipe, num_classes, seed) for p in [*promising, sketch]}
    sketch = timed[sketch.candidate.name]
    promising = sorted((timed[p.candidate.name] for p in promising), key=lambda p: -_promise(p, seconds, photos))
    shortlist = _shortlist(promising, seconds, photos)
    sketch_seconds = min(SKETCH_SECONDS, 0.1 * seconds)
    return Plan(
        planned=tuple(timed.get(p.candidate.name, p) for p in planned),
        shortlist=tuple(p.candidate.name for p in shortlist),
        sketch=sketch.candidate.name,
        sketch_steps=_steps(sketch, sketch_seconds, recipe.batch),
        rungs=_rungs(shortlist, sketch, seconds - sketch_seconds, recipe.batch),
        batch=recipe.batch,
        seconds=time.monotonic() - started,
    )


def _try(candidate: Candidate, budget: Budget, num_classes: int, seed: int) -> Planned:
    """Export, count, and, unless the counts alone rule it out, time both precisions of one candidate."""
    model = candidate.build(num_classes, seed)
    counted = count_model(model, (3, candidate.side, candidate.side)).cost
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)  # folding leaves these, int8 needs a byte each
    least = Cost(params=weights, macs=counted.macs, flops=counted.flops, size_bytes=weights)
    broken = {name: why for name, why in budget.over(least).items() if getattr(least, name) is not None}
    if broken:
        return Planned(candidate=candidate, costs={"int8": least}, over={"int8": broken})
    runtime = budget.runtime or "onnxruntime"
    costs, over = {}, {}
    files = untrained_files(model, candidate.contract)
    contestants = [
        Contestant(precision, get_runtime(runtime).load(file, budget.threads), runtime, budget.threads)
        for precision, file in files.items()
    ]
    timed = dict(zip(files, race(contestants, seconds=TIMING_SECONDS * len(files), batch=budget.batch), strict=True))
    for precision, file in files.items():
        p50 = timed[precision].p50_ms
        graph = count_onnx(file).cost
        counts = {name: getattr(graph, name) for name in LIMITS if name != "latency_ms"}
        counts["size_bytes"] = len(file) + METADATA_BYTES + METADATA_BYTES_PER_CLASS * num_classes
        place: dict[str, Any] = {"runtime": runtime, "threads": budget.threads, "batch": budget.batch}
        costs[precision] = Cost(**counts, latency_ms=p50, **place)
        over[precision] = budget.over(costs[precision])
        if budget.latency_ms is not None and p50 <= budget.latency_ms < p50 * LATENCY_MARGIN:
            over[precision]["latency_ms"] = f"{p50:.3g} is too close to {budget.latency_ms:g} to be sure of it"
    slower, at_least, _ = compare(timed["float32"].rounds_ms, timed["int8"].rounds_ms)
    if at_least > LATENCY_MARGIN and not over["float32"]:
        over["int8"]["slower"] = f"int8 takes {slower:.1f} x the time of float32"
    return Planned(candidate=candidate, costs=costs, over=over)


def _training_seconds(minutes: float) -> float:
    """What is left for steps: 15 % and some seconds go to exporting, verifying and a machine that has other work."""
    return max(5.0, 0.85 * (minutes * 60 - 15))


def _promise(p: Planned, seconds: float, photos: int) -> float:
    """Expected accuracy, in units that only serve to rank: bigger is better, and so are epochs, up to a hundred.

    In the V1 and V2 papers a doubling of multiply-adds buys 3 to 5 points at small sizes; on a few thousand photos
    a doubling of epochs buys more until it stops at about a hundred (docs/log.md has our own runs). From trained
    weights five epochs do what those hundred do, and after about eight a larger side is the better use of the time.
    """
    epochs = 0.5 * seconds * 1000 / (p.picture_ms * photos)
    trained = p.candidate.pretrained is not None
    epochs = PRETRAINED_WORTH * min(epochs, PRETRAINED_ENOUGH) if trained else min(epochs, 100.0)
    worth = 1.0 if trained else WORTH.get(p.candidate.network, 1.0)
    return math.log2(max(worth * p.macs, 1)) + 1.5 * math.log2(max(1e-3, epochs))


def _most_promising(feasible: list[Planned], seconds: float, photos: int) -> list[Planned]:
    """The first four by promise, of which at most two are of one network."""
    chosen: list[Planned] = []
    for p in sorted(feasible, key=lambda p: -_promise(p, seconds, photos)):
        if sum(other.candidate.network == p.candidate.network for other in chosen) < PER_NETWORK:
            chosen.append(p)
    return chosen[:SHORTLIST]


def _with_train_ms(p: Planned, recipe: Recipe, num_classes: int, seed: int) -> Planned:
    """Measured: the median of three training steps after a first one."""
    candidate, rng = p.candidate, np.random.default_rng(seed)
    pictures = Pictures(
        rng.integers(0, 256, (recipe.batch, candidate.side, candidate.side, 3), np.uint8),
        rng.integers(0, num_classes, recipe.batch),
    )
    model = candidate.build(num_classes, seed)
    training = Training(model, pictures, candidate.contract, recipe, steps=4, seed=seed)
    marks: list[float] = []
    training.run(progress=lambda *_: marks.append(time.perf_counter()))
    train_ms = float(np.median(np.diff(marks))) * 1000 / recipe.batch
    return Planned(candidate=candidate, costs=p.costs, over=p.over, train_ms=train_ms)


def _shares(candidates: int) -> list[float]:
    """How the training time is dealt to the rungs of a successive halving: the last, with one network, has 60 %."""
    before = max(1, candidates.bit_length() - 1)
    return [0.4 / before] * before + [0.6]


def _steps(p: Planned, seconds: float, batch: int) -> int:
    return max(20, int(1000 * seconds / (p.picture_ms * batch)))


def _rungs(shortlist: list[Planned], sketch: Planned, seconds: float, batch: int) -> tuple[dict[str, int], ...]:
    """Training steps per rung and candidate. A rung lists all that could reach it; the rung before decides who does."""
    return tuple(
        {
            p.candidate.name: _steps(p, seconds * share / max(1, len(shortlist) >> i), batch)
            for p in [*shortlist, sketch]
        }
        for i, share in enumerate(_shares(len(shortlist)))
    )


def _shortlist(promising: list[Planned], seconds: float, photos: int) -> list[Planned]:
    """The first four, two or one, as many as the first rung gives the epochs that it takes to tell good from bad."""
    size = 1 << (len(promising).bit_length() - 1)
    while size > 1:
        first = 1000 * seconds * _shares(size)[0] / size
        if all(first >= _fair_epochs(p) * photos * p.picture_ms for p in promising[:size]):
            break
        size //= 2
    return promising[:size]


def _fair_epochs(p: Planned) -> int:
    return FAIR_EPOCHS if p.candidate.pretrained is None else FAIR_EPOCHS_PRETRAINED


def _nearest(planned: list[Planned], budget: Budget, num_classes: int, seed: int) -> str:
    """Names the file whose worst overrun is smallest, and the budget that it would need."""

    def overrun(cost: Cost) -> float:
        pairs = ((getattr(cost, name), getattr(budget, name)) for name in LIMITS)
        return max((got / limit for got, limit in pairs if got is not None and limit is not None), default=0.0)

    closest = sorted(planned, key=lambda p: min(overrun(cost) for cost in p.costs.values()))[:3]
    boundless = Budget(runtime=budget.runtime, threads=budget.threads, batch=budget.batch)
    files = [
        (p.candidate.name, precision, p.costs[precision])
        for p in (_try(p.candidate, boundless, num_classes, seed) for p in closest)
        for precision in p.feasible
    ]
    name, precision, cost = min(files, key=lambda file: overrun(file[2]))
    needs = []
    for field in LIMITS:
        if getattr(budget, field) is not None:
            flag, unit = FLAGS.get(field, (field, 1.0))
            room = SAFE if field == "latency_ms" else 1.0
            needs.append(f"{flag} {math.ceil(getattr(cost, field) * room / unit * 100) / 100:.12g}")
    broken = "; ".join(f"{field}: {why}" for field, why in budget.over(cost).items())
    return (
        f"no candidate meets the budget. The nearest is {name} as {precision} ({broken or 'only just too slow'}); "
        f"it fits {' '.join(needs)}"
    )
