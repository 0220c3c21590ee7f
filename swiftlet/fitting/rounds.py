"""The training: a sketch, then successive halving over the plan's rungs. What is trained is offered at once."""

import shutil
import zlib
from typing import Any

from swiftlet.fitting.offers import best_offer, is_legal, offer
from swiftlet.fitting.rescue import rescue, seconds_for_rescue
from swiftlet.fitting.work import work
from swiftlet.fitting.workplace import Workplace
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import save_checkpoint
from swiftlet.train.loop import Pictures, Training, accuracy


def train(place: Workplace) -> None:
    """The sketch, then successive halving over the plan's rungs; what is trained is offered for delivery at once.

    A candidate whose file turns out illegal (int8 too inaccurate or slow) goes no further; if none is left, the
    sketch's network goes on in their place.
    """
    plan = place.plan
    place.stoppable = best_offer(place) is not None
    sketch, names = plan.sketch, list(plan.shortlist)
    if _round(place, f"{sketch}.sketch", sketch, plan.sketch_steps, None, f"a first file, {sketch}") is None:
        return
    for i, steps in enumerate(plan.rungs, start=1):
        reached: dict[str, float] = {}
        for j, name in enumerate(names, start=1):
            what = f"training {name}, {j} of {len(names)} in round {i} of {len(plan.rungs)}"
            before = f"{name}.round{i - 1}" if i > 1 else None
            right = _round(place, f"{name}.round{i}", name, steps[name], before, what, last=i == len(plan.rungs))
            if right is None:
                return
            if is_legal(place, name):
                reached[name] = right
        best = sorted(reached, key=lambda name: -reached[name])
        names = best[: max(1, len(names) // 2)] or [sketch]
        place.stoppable = True


def _round(
    place: Workplace, stage: str, name: str, steps: int, before: str | None, what: str, *, last: bool | None = None
) -> float | None:
    """Train and offer one candidate; its validation accuracy, or None if that was the last thing to do. `last`: whether
    this is the last rung; None for the sketch, which only gives a first file and is not worth rescuing."""
    stage, trained = _train_one(place, stage, name, steps, before, what)
    if not place.interrupted() or best_offer(place) is None:
        offer(place, stage, name, trained["accuracy"])
        if last is not None:
            rescue(place, stage, name, last=last)
    return None if place.out_of_time() else float(trained["accuracy"])


def _train_one(
    place: Workplace, stage: str, name: str, steps: int, before: str | None, what: str
) -> tuple[str, dict[str, Any]]:
    """One candidate, from the weights of the stage before if there is one: the stage, its accuracy and steps.

    What Ctrl-C cut short is no stage of the run but STAGE.partial, so that the next process goes on with it.
    """
    candidate = place.candidate(name)
    part = place.path(f"{stage}.part")
    stored = place.run.stored(stage)
    if stored is not None:
        if part.exists():  # killed right after it was stored
            shutil.rmtree(part)
        return stage, stored
    if before is not None and place.path(f"{before}.safetensors").exists():
        model = place.trained(before, candidate)
    else:
        model = place.start(candidate)
    contract = candidate.contract
    pixels = place.pixels("train", canvas(contract, place.photos.audit.median_short_side))
    pictures = Pictures(pixels, place.photos.train.labels)
    seed = zlib.crc32(f"{place.seed} {stage}".encode())
    training = Training(model, pictures, contract, place.recipe_for(candidate), steps=steps, seed=seed)
    whole = work(place, training, stage, what, kept_back=seconds_for_rescue(place, name, steps))
    if training.step == 0 and best_offer(place) is None:
        raise KeyboardInterrupt  # asked to stop before there was anything to deliver
    delivered = training.delivered()
    model.load_state_dict(delivered)
    right = accuracy(model, place.pixels("val", contract), place.photos.val.labels, contract)
    result = {"accuracy": right, "steps": training.step, "planned_steps": steps}
    if not whole and place.interrupted():
        stage = f"{stage}.partial"
        save_checkpoint(place.path(f"{stage}.safetensors"), delivered, result)
        return stage, result
    save_checkpoint(place.path(f"{stage}.safetensors"), delivered, result)
    stored = place.run.once(stage, lambda: result)
    shutil.rmtree(part)
    return stage, stored
