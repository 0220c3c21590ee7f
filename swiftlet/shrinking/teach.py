"""A network is trained on: by the network that came in, for its part of the run's minutes."""

import copy
import shutil
import time
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from swiftlet.recipes.choose import choose, looks_grey
from swiftlet.shrinking.workplace import Workplace
from swiftlet.signals import Terminated, interruptible, stoppable
from swiftlet.train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from swiftlet.train.distill import Teacher
from swiftlet.train.engine import DEFAULT, Engine
from swiftlet.train.fastest import fastest
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.metrics import Metrics
from swiftlet.train.recipe import Recipe

PROBE = 6  # steps that are timed to see how many fit into a number of seconds
HEALING = 10  # times the rate of fine-tuning, where a cut left nothing of what had been learned; docs/log.md
TEACHER = 0.5  # weight of what the network that came in answers; it may have more to learn itself: docs/log.md
LONG, TRIAL = 100.0, 0.05  # seconds of a rung from which it may pay to find the fastest engine, and the share for that
TRIED = 32  # steps, at least, that finding it takes


def teach(
    place: Workplace, name: str, model: nn.Module, seconds: float, what: str, *, engine: Engine = DEFAULT
) -> None:
    """In place, into train/NAME.safetensors. A killed one goes on; `seconds` counts when the stage begins."""
    weights = place.path(f"{name}.safetensors")
    if not weights.exists():
        plan = place.run.once(f"{name}.plan", lambda: _plan(place, model, seconds, engine))
        steps, engine, recipe = plan["steps"], Engine(**plan["engine"]), Recipe.from_json(plan["recipe"])
        training = _training(place, model, recipe, steps, zlib.crc32(f"{place.seed} {name}".encode()), engine)

        def show(step: int, total: int, loss: float) -> None:
            place.progress(f"{what}, loss {loss:.2f}", step, total)
            place.run.tick()

        checkpoints, metrics = Checkpoints(place.path(f"{name}.part")), Metrics(place.path(f"{name}.jsonl"))
        with stoppable() as terminated, interruptible() as interrupted:
            stop = lambda: terminated() or interrupted()  # noqa: E731
            if not training.run(checkpoints=checkpoints, metrics=metrics, should_stop=stop, progress=show):
                raise Terminated if terminated() else KeyboardInterrupt
        save_checkpoint(weights, training.delivered(), {"steps": steps})
    model.load_state_dict(load_checkpoint(weights)[0])
    model.eval()
    shutil.rmtree(place.path(f"{name}.part"), ignore_errors=True)


def engine_of(place: Workplace, seconds: float) -> Engine:
    """The fastest for networks like the one that came in, if rungs of so many `seconds` are worth the trial. Not for
    QAT: bfloat16 would round a second time."""
    if seconds < LONG or TRIED * _pace(place) > TRIAL * seconds:
        return DEFAULT

    def find() -> dict[str, object]:
        place.progress("timing ways to compute a step", 0, 0)
        network = copy.deepcopy(place.source.model).requires_grad_(True)
        return fastest(network, recipe_of(place), place.side, seconds=TRIAL * seconds).to_json()

    return Engine(**place.run.once("engine", find))


def recipe_of(place: Workplace) -> Recipe:
    """That of fine-tuning."""
    side, grey = place.photos.audit.median_short_side, looks_grey(place.photos)
    return choose(grey=grey, pictures=len(place.photos.train), side=side, minutes=place.minutes, pretrained=True)[0]


def recipe_taken(place: Workplace, *names: str) -> Recipe:
    """Of the first of these stages that was taught; that of fine-tuning if none was."""
    plans = (place.run.stored(f"{name}.plan") for name in names)
    return next((Recipe.from_json(plan["recipe"]) for plan in plans if plan), recipe_of(place))


def healing(place: Workplace, model: nn.Module) -> Recipe:
    """The rate goes up to HEALING times that of fine-tuning with the share of what was learned that is gone: of the way
    from the loss of the network that came in to that of a guess. What a cut hardly hurt, a high rate would.

    Gradients are clipped: at such rates MobileNet V2 otherwise forgets in the warm-up what it knew (docs/log.md).
    Without BatchNorm (quantized, or from a file) a network bears no more than the rate of fine-tuning.
    """
    recipe = replace(recipe_of(place), clip=1.0)
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return recipe
    gone = place.gone(place.loss(model))
    return replace(recipe, lr=recipe.lr * (1 + (HEALING - 1) * gone), teacher_weight=TEACHER)


def epochs_in(place: Workplace, seconds: float) -> float:
    """Of the training photos, by the network that came in."""
    return seconds / _pace(place) * recipe_of(place).batch / len(place.photos.train)


def _pace(place: Workplace) -> float:
    """Seconds of a step with the network that came in."""

    def find() -> dict[str, float]:
        network, recipe = copy.deepcopy(place.source.model).requires_grad_(True), recipe_of(place)
        few = Pictures(*place.some_training(2 * recipe.batch))  # their number does not change the time of a step
        return {"seconds": _step_seconds(place, network, recipe, DEFAULT, few)}

    return float(place.run.once("pace", find)["seconds"])


def _plan(place: Workplace, model: nn.Module, seconds: float, engine: Engine) -> dict[str, Any]:
    """As many steps as take that long, and how they are made."""
    recipe = healing(place, model)
    steps = max(1, int(seconds / _step_seconds(place, copy.deepcopy(model), recipe, engine)))
    return {"steps": steps, "engine": engine.to_json(), "recipe": recipe.to_json()}


def _step_seconds(
    place: Workplace, model: nn.Module, recipe: Recipe, engine: Engine, pictures: Pictures | None = None
) -> float:
    """Of a few steps, which the model does not survive."""
    place.progress("timing training steps", 0, 0)
    marks: list[float] = []
    training = _training(place, model, recipe, PROBE, 0, engine, pictures)
    training.run(progress=lambda *_: marks.append(time.perf_counter()))
    return float(np.median(np.diff(marks)))


def _training(
    place: Workplace,
    model: nn.Module,
    recipe: Recipe,
    steps: int,
    seed: int,
    engine: Engine,
    pictures: Pictures | None = None,
) -> Training:
    """On all training pictures by default."""
    teacher = Teacher(copy.deepcopy(place.source.model), place.source.contract)
    return Training(
        model,
        pictures or place.pictures,
        place.contract,
        recipe,
        steps=steps,
        seed=seed,
        engine=engine,
        teacher=teacher,
    )
