"""The ladder: the network as it came, as int8, on smaller pictures, without some of its residual blocks, narrower, each
taught by the one that came in; at last with fewer bits for each weight.

With a budget the first stage within it is the last. Without one the fastest cut that can be healed goes first, and the
ladder goes down until a stage costs more accuracy than allowed, or the time is up. Each stage is stored in the run, so
a killed run goes on where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt

from torch import nn

from swiftlet.budget import LIMITS
from swiftlet.compress.batchnorm import recalibrate
from swiftlet.compress.blocks import drop_blocks
from swiftlet.compress.record import Record
from swiftlet.errors import Infeasible, NothingToDo
from swiftlet.runtime.race import compare
from swiftlet.shrinking.few_bits import bits_that_fit, offer_few_bits, stage_of
from swiftlet.shrinking.narrow import SPARE, Scores, limits, mild_limit, pruned, scores_of
from swiftlet.shrinking.offers import Offer, holding, offer, points_lost
from swiftlet.shrinking.shallow import Blocks, find_blocks
from swiftlet.shrinking.smaller import at_side, sides_below, smaller_side
from swiftlet.shrinking.stage import Stage
from swiftlet.shrinking.teach import engine_of, epochs_in, teach
from swiftlet.shrinking.untrained import milliseconds
from swiftlet.shrinking.workplace import Workplace

RUNGS = 4  # equal parts of the time
FIRST = 0.6  # share of the time that the first rung without a budget has
TAUGHT = 0.7  # share of a rung's seconds that goes to steps; the rest to files and the gate
RACE_SECONDS = 0.5  # for each kind of cut
PAYS = 0.98  # of the bytes, or of what the budget counts: a step that leaves more of them must be faster
LAST = 0.5  # of an equal part: the least that a rung has, and what the last step, fewer bits, needs
CLOSE = 1.0  # standard errors of an accuracy: a cut that lost so much too much may hold after the last step
WORTH = 0.9  # of the multiply-adds of the stage before: a rung that leaves more is not worth its time


@dataclass
class Ladder:
    """The order of the steps, and when to stop."""

    place: Workplace
    taught: int = 0  # stages
    scored: dict[str, Scores] = field(default_factory=dict)  # by stage

    def descend(self) -> Iterator[Stage]:
        """All stages that were tried. The last one that stands is the result."""
        place = self.place
        # to a budget QAT takes its share of the whole time if need be: int8 is what all else builds on
        seconds = place.minutes * 60 if place.limited else 0.0
        good = Stage("parent", "as it came", self._offer(place, "parent", seconds), "parent", place)
        yield good
        if not place.limited:
            yield from self._while_it_holds(good)
            return
        for step in (self._smaller, self._shallower):
            for stage in step(good):
                yield stage
                good = stage if stage.stands else good
        if self._enough(good):
            return
        try:
            below = limits(self.place, good.name, self.place.network(good.name)[0])
        except Infeasible:
            if not self.taught:
                raise
            return  # blocks had to go, and their loss could not be healed
        yield from self._to_the_budget(good, below)

    def _to_the_budget(self, good: Stage, below: list[int]) -> Iterator[Stage]:
        """From a stage that stands to these multiply-adds, one after the other; to fewer bits, if bytes are over."""
        for number, limit in enumerate(below, 1):
            if self._over(good) == {"packed_bytes"}:
                for coded in self._coded(good, good):
                    yield coded
                    if coded.offer["chosen"]:
                        return
            stage = self._pruned(f"narrow-{number}", good, limit, self._seconds(len(below) - number + 1))
            if stage is None:
                return
            yield stage
            if not stage.stands:
                if self._only_bytes(good):
                    yield from self._coded(good, good)
                return
            good = stage
            if self._enough(good):
                return

    def _while_it_holds(self, good: Stage) -> Iterator[Stage]:
        """From a stage that stands, again and again, the cut that leaves the fastest file of those that teaching can
        heal; then to fewer bits, first from a cut that lost a little too much: that step teaches, too."""
        kinds = {"smaller": self._smaller, "shallower": self._shallower, "narrower": self._narrower}
        close: Stage | None = None
        while not self._enough(good):
            kind = self._fastest_cut(good, tuple(kinds))
            if kind is None:
                break
            stage = good
            for stage in kinds[kind](good):
                yield stage
            if stage.stands and stage is not good:
                good, close = stage, None
            else:
                del kinds[kind]
                close = stage if self._close(stage) else close
        if self._loses_by_rounding(good):
            name = f"{good.name}.best"
            found = offer(self.place, name, self._part, of=good.float32)
            stage = Stage(name, "int8", found, good.float32, self.place)
            yield stage
            good = stage if stage.stands else good
        if close is not None:
            for stage in self._coded(close, good):
                yield stage
                if stage.stands:
                    return
            if self._late:
                return
        yield from self._coded(good, good)

    def _fastest_cut(self, good: Stage, kinds: tuple[str, ...]) -> str | None:
        """Of these kinds the one that, as deep as teaching can heal, leaves the fastest int8 file; None if none is
        worth its time. The clock does not care for what the weights are."""

        def find() -> dict[str, str | None]:
            place, mild = self.place, self._mild(good)
            network = place.network(good.name)[0]
            cuts: dict[str, tuple[Workplace, nn.Module]] = {}
            if "smaller" in kinds:
                cuts["smaller"] = place.at(smaller_side(place, self._probe(good), network, mild)), network
            if "shallower" in kinds:
                found = find_blocks(place, good.name, network, mild)
                count = found.mild(mild)
                cuts["shallower"] = place, drop_blocks(network, found.order[:count])[0] if count else network
            if "narrower" in kinds:
                scores = self._scores(good, network)
                if deepest := mild_limit(place, self._probe(good), network, scores, mild):
                    cuts["narrower"] = place, pruned(place, network, scores, keep=deepest[0])[0]
            most = WORTH * place.macs(network)
            worth = {kind: (at, cut) for kind, (at, cut) in cuts.items() if at.macs(cut) <= most}
            times = milliseconds(worth, RACE_SECONDS, "timing what can be cut")
            return {"kind": min(times, key=times.__getitem__, default=None)}

        found: str | None = self.place.run.once(f"cut-{self.taught}.{len(kinds)}", find)["kind"]
        return found

    # --- steps --------------------------------------------------------------------------------------------------------

    def _smaller(self, before: Stage) -> Iterator[Stage]:
        """The network of the stage before on smaller pictures, and taught; if that does not hold, half the way back.
        If it does, all that follows sees such pictures."""
        if self._enough(before) or self._only_bytes(before):
            return
        network, records = self.place.network(before.name)
        side = smaller_side(self.place, self._probe(before), network, self._mild(before))
        while side < self.place.side:
            there, seconds = self.place.at(side), self._seconds(0)
            name = self._next("smaller")
            there.began(name)
            if there.run.stored(name) is None:
                smaller = at_side(there, network).requires_grad_(True)
                self._taught(there, name, smaller, records, f"teaching pictures of {side} pixels", seconds)
            stage = Stage(name, f"at {side} pixels", self._offer(there, name, seconds), name, there)
            stage = self._paying(stage, before)
            yield stage
            if stage.stands:
                self.place = there
                return
            if self._enough(before):
                return
            between = [other for other in sides_below(self.place.side) if other > side]
            side = between[len(between) // 2] if between else self.place.side

    def _shallower(self, before: Stage) -> Iterator[Stage]:
        """The network of the stage before without residual blocks, and taught; if that does not hold, with fewer
        gone."""
        if self._enough(before) or self._only_bytes(before):
            return
        place = self.place
        whole, records = place.network(before.name)
        found = find_blocks(place, before.name, whole, self._mild(before))
        wanted = place.run.once(
            f"{self._probe(before)}.shallow", lambda: {"count": self._blocks_to_drop(before, whole, found)}
        )
        count = wanted["count"]
        more = " more" if any(record.name == "drop_blocks" for record in records) else ""
        while count:
            seconds = self._seconds(0)
            name, step = self._next("shallow"), f"without {count}{more} block{'s' if count > 1 else ''}"
            place.began(name)
            if place.run.stored(name) is None:
                network, record = drop_blocks(whole, found.order[:count])
                network.requires_grad_(True)
                recalibrate(network, place.calibration.images)
                self._taught(place, name, network, (*records, record), f"teaching {step}", seconds)
            stage = self._paying(Stage(name, step, self._offer(place, name, seconds), name, place), before)
            yield stage
            if stage.stands or self._enough(before):
                return
            count //= 2

    def _narrower(self, before: Stage) -> Iterator[Stage]:
        """The network of the stage before with fewer channels, and taught; if that does not hold, half the way back."""
        network, failed = self.place.network(before.name)[0], 0
        deepest = mild_limit(
            self.place, self._probe(before), network, self._scores(before, network), self._mild(before)
        )
        limit = deepest[1] if deepest else self._macs(before)
        while limit <= WORTH * self._macs(before):
            seconds = self._seconds(0)
            stage = self._pruned(self._next("narrow"), before, limit, seconds, above=failed)
            if stage is None:
                return
            yield stage
            if stage.stands or self._enough(before):
                return
            failed = self._macs(stage)
            limit = round(sqrt(self._macs(before) * failed))

    def _blocks_to_drop(self, before: Stage, model: nn.Module, found: Blocks) -> int:
        """The mild ones; with a budget more, if it cannot be kept otherwise. Raises Infeasible."""
        place, mild = self.place, found.mild(self._mild(before))
        if not place.limited:
            return mild
        for count in range(mild, len(found.order) + 1):
            network = drop_blocks(model, found.order[:count])[0] if count else model
            try:
                limits(place, f"without-{count}" if count else before.name, network.eval())
            except Infeasible:
                if count == len(found.order):
                    raise
                continue
            return count
        return 0

    def _pruned(self, name: str, before: Stage, limit: int, seconds: float, *, above: int = 0) -> Stage | None:
        """The network of the stage before with its least channels cut out, and taught. None if there is no such one
        with more than `above` multiply-adds."""
        place = self.place
        place.began(name)
        if place.run.stored(name) is None:
            place.progress(f"pruning to {limit / 1e6:.2f} M multiply-adds", 0, 0)
            network, records = place.network(before.name)
            try:
                scores = self._scores(before, network)
                narrow, record = pruned(place, network, scores, above=above, measure=place.macs, limit=limit)
            except (NothingToDo, Infeasible):
                return None
            if place.macs(narrow) <= above:
                return None
            recalibrate(narrow, place.calibration.images)  # what was cut out is missing from the statistics
            what = f"teaching {limit / 1e6:.2f} M multiply-adds"
            self._taught(place, name, narrow, (*records, record), what, seconds)
        step = f"pruned to {100 * limit / place.whole:.0f} %"
        return self._paying(Stage(name, step, self._offer(place, name, seconds), name, place), before)

    def _taught(
        self, place: Workplace, name: str, model: nn.Module, records: tuple[Record, ...], what: str, seconds: float
    ) -> None:
        teach(place, name, model, TAUGHT * seconds, what, engine=engine_of(place, seconds))
        place.keep(name, records)

    def _coded(self, of: Stage, before: Stage) -> Iterator[Stage]:
        """The network of a stage, that before or another, with as many bits for a weight as the budget lets it have, or
        the fewest that are safe."""
        if holding(before.offer) != "int8":
            return
        place, base, step = of.place, of.float32, "" if of is before else f"{of.step}, "
        for bits in bits_that_fit(place, base, of.offer):
            found = offer_few_bits(place, base, bits, self._coding_seconds)
            coded = Stage(stage_of(base, bits), f"{step}weights of {bits} bits", found, base, place)
            stage = self._paying(coded, before)
            yield stage
            if found["chosen"] or not stage.stands:
                return

    def _paying(self, stage: Stage, before: Stage) -> Stage:
        """The same, undone if it is neither smaller than what stood before, nor less of what the budget counts, nor
        surely faster, in one race of both."""
        if not stage.stands:
            return stage
        costs = before.option["cost"], stage.option["cost"]
        limited = {name for name in LIMITS if getattr(self.place.budget, name) is not None} - {"latency_ms"}
        if any(costs[1][name] < PAYS * costs[0][name] for name in {"size_bytes", "packed_bytes"} | limited):
            return stage

        def race() -> dict[str, object]:
            old, new = self.place.raced((before.file, stage.file))
            return {"surely": compare(old.rounds_ms, new.rounds_ms)[2] < 1}

        if self.place.run.once(f"{stage.name}.faster", race)["surely"]:
            return stage
        return stage._replace(undone="neither smaller nor faster than the step before")

    # --- when to stop -------------------------------------------------------------------------------------------------

    def _next(self, kind: str) -> str:
        """The name of the next stage that is taught."""
        self.taught += 1
        return f"{kind}-{self.taught}"

    def _probe(self, before: Stage) -> str:
        """What was found out about its network for the next rung is stored under this name: it goes with the time."""
        return f"{before.name}.{self.taught}"

    @staticmethod
    def _offer(place: Workplace, name: str, seconds: float) -> Offer:
        """Without a budget the time is better spent on teaching than on learning to round; that comes last."""
        return offer(place, name, seconds, quick=not place.limited)

    def _scores(self, stage: Stage, network: nn.Module) -> Scores:
        """What the channels of its network are worth, looked for once."""
        if stage.name not in self.scored:
            self.scored[stage.name] = scores_of(self.place, network)
        return self.scored[stage.name]

    def _mild(self, before: Stage) -> float:
        """The share of what the stage before knows that its next rung can heal; found once, because it goes with the
        time. What a taught stage has lost says its better file: what rounding costs is dealt anew. The network as it
        came has lost nothing, and what its int8 file may have gained is luck."""

        def find() -> dict[str, float]:
            epochs = epochs_in(self.place, TAUGHT * self._seconds(0))
            lost = 0.0 if before.name == "parent" else points_lost(self.place, before.accuracy)
            return {"share": self.place.mild(lost, epochs)}

        return float(self.place.run.once(f"{self._probe(before)}.heals", find)["share"])

    @property
    def _part(self) -> float:
        """Seconds of an equal part."""
        return self.place.minutes * 60 / RUNGS

    def _seconds(self, limits_left: int) -> float:
        """What the next rung has. To a budget an equal part of what is left for these limits, or a little in any case.
        Without one most is for the first: what is cut deep once and taught long holds better than what is cut often."""
        if not self.place.limited:
            wanted = self._part if self.taught else FIRST * self.place.minutes * 60
            return max(LAST * self._part, min(wanted, self.place.seconds_left - LAST * self._part))
        if not limits_left:
            return self._part
        rungs = max(1, limits_left - SPARE) + (self.place.budget.packed_bytes is not None)
        return max(self.place.seconds_left / rungs, LAST * self._part)

    @property
    def _coding_seconds(self) -> float:
        """What QAT with fewer bits has: what is left, but not more than a rung, nor too little to tell."""
        return TAUGHT * min(self._part, max(self.place.seconds_left, LAST * self._part))

    def _enough(self, good: Stage) -> bool:
        """Within the budget; without one, no time for another step and the last one. Decided once: a run that goes on
        has less time than it had."""
        if self.place.limited:  # on the way to a budget there is no stopping half-way
            return good.offer["chosen"] is not None
        short = self.place.seconds_left < (1 + LAST) * self._part  # a brief rung heals little
        return bool(self.place.run.once(f"enough-{self.taught}", lambda: {"enough": short})["enough"])

    @property
    def _late(self) -> bool:
        """No time for another last step; decided once, as above."""
        late = self.place.seconds_left < LAST * self._part
        return bool(self.place.run.once("late", lambda: {"late": late})["late"])

    def _close(self, stage: Stage) -> bool:
        """Whether a stage lost more than allowed, but no more than may be luck on so many validation photos."""
        place, right = self.place, stage.accuracy
        error = 100 * sqrt(right * (1 - right) / len(place.photos.val))
        return not stage.stands and points_lost(place, right) <= place.budget.max_drop + CLOSE * error

    def _loses_by_rounding(self, stage: Stage) -> bool:
        """Whether its int8 file loses more than allowed, although its float32 file does not."""
        drops = {p: points_lost(self.place, option["accuracy"]) for p, option in stage.offer["options"].items()}
        return stage.precision == "float32" and drops["int8"] > self.place.budget.max_drop

    def _over(self, stage: Stage) -> set[str]:
        """The limits that the file of a stage that stands still breaks."""
        return set(stage.option["over"])

    def _only_bytes(self, stage: Stage) -> bool:
        """Whether there is a budget of which it breaks nothing but limits on bytes."""
        return self.place.limited and self._over(stage) <= {"size_bytes", "packed_bytes"}

    def _macs(self, stage: Stage) -> int:
        return int(stage.offer["options"]["float32"]["cost"]["macs"])
