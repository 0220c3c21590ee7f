"""A second try for an int8 file that loses too much by calibration alone: rounded in the best way, then trained.

Either takes long, so it is done only where it decides something: for a candidate of which no file is legal otherwise,
and for the last round, whose int8 file is the smaller and faster one to deliver. The time that there is for it is
found out once and kept in the run.
"""

import shutil
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

from torch import fx

from swiftlet.fitting.offers import RESCUED, Offer, best_offer, calibration_of, make_offer, offers
from swiftlet.fitting.work import work
from swiftlet.fitting.workplace import Workplace
from swiftlet.quantizing import Calibration, Integer, Way, calibrated_best, trained
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import load_checkpoint, save_checkpoint
from swiftlet.train.distill import Teacher
from swiftlet.train.loop import Pictures, Training

ROUNDING_SECONDS = 45.0  # what calibrated_best and the gate take with the larger candidates, until one here is timed
SHARE, LEAST = 0.15, 30  # of the steps that trained the network; and the least that teach anything
STEP = 2.5  # a step with rounding and a teacher takes up to so many times as long as one of the network itself
CLIP = 1.0  # norm of the gradients: BatchNorm is folded, and without a bound 30 steps undid a trained network


class _Interrupted(Exception):
    """By Ctrl-C: then there is no offer, and the same command makes it."""


def rescue(place: Workplace, stage: str, name: str, *, last: bool) -> None:
    """Offer the network of a stage again, with better ways to int8, if that can save the file and there is time."""
    first = place.run.stored(f"{stage}.offer")
    if first is None or not first["only_inaccurate"] or place.interrupted() or (first["chosen"] and not last):
        return
    ways = place.run.once(f"{stage}.ways", lambda: _ways(place, stage, name))
    if not ways["rounding"]:
        return
    on = calibration_of(place, place.candidate(name))
    better: list[Way] = [partial(_rounded, place, on)]
    if ways["steps"]:
        better.append(partial(_trained, place, on, stage, name, ways["steps"]))
    try:
        make_offer(place, f"{stage}{RESCUED}", stage, name, better)
    except _Interrupted:
        return


def seconds_for_rescue(place: Workplace, name: str, steps: int) -> float:
    """To be kept back from a training of so many steps, because a file of this candidate had to be rescued before."""
    before = _rescued(place, name)
    if before is None:
        return 0.0
    training = _steps(steps) * _step_seconds(place, name) if before["training"] else 0.0
    first = place.run.stored(f"{before['trained']}.offer") or {}
    return 1.1 * (float(first["seconds"] + before["seconds"]) + training)


def _ways(place: Workplace, stage: str, name: str) -> dict[str, Any]:
    """Which ways there is time for: {"rounding": whether, "steps": of training}. As long as there is no file to deliver
    there is time for all."""
    steps = _steps((place.run.stored(stage) or {})["steps"])
    if best_offer(place) is None:
        return {"rounding": True, "steps": steps}
    before = _rescued(place, name)
    left = place.seconds_left - min(ROUNDING_SECONDS, before["seconds"] if before else ROUNDING_SECONDS)
    steps = min(steps, int(max(0.0, left) / _step_seconds(place, name)))
    return {"rounding": left >= 0, "steps": steps if steps >= LEAST else 0}


def _steps(steps: int) -> int:
    return max(LEAST, round(SHARE * steps))


def _step_seconds(place: Workplace, name: str) -> float:
    return STEP * place.plan.find(name).picture_ms * place.recipe.batch / 1000


def _rescued(place: Workplace, name: str) -> Offer | None:
    """The last offer of this candidate that was rescued."""
    found = [offered for key, offered in offers(place).items() if key.endswith(RESCUED)]
    return next((offered for offered in reversed(found) if offered["candidate"] == name), None)


def _rounded(place: Workplace, on: Calibration, plain: fx.GraphModule) -> Integer:
    place.progress("int8 loses too much: trying all ways to calibrate and round", 0, 0)
    return calibrated_best(plain, on)


def _trained(place: Workplace, on: Calibration, stage: str, name: str, steps: int, plain: fx.GraphModule) -> Integer:
    return trained(plain, on, partial(_teach, place, stage, name, steps))


def _teach(place: Workplace, stage: str, name: str, steps: int, network: fx.GraphModule) -> None:
    """In place, by the network that it was made of, into train/STAGE.qat.safetensors. Raises _Interrupted."""
    file, contract = place.path(f"{stage}.qat.safetensors"), place.candidate(name).contract
    if not file.exists():
        pixels = place.pixels("train", canvas(contract, place.photos.audit.median_short_side))
        training = Training(
            network,
            Pictures(pixels, place.photos.train.labels),
            contract,
            replace(place.finetuning, clip=CLIP),
            steps=steps,
            seed=zlib.crc32(f"{place.seed} {stage}.qat".encode()),
            teacher=Teacher(place.trained(stage, place.candidate(name)), contract),
        )
        whole = work(place, training, f"{stage}.qat", f"int8 still loses too much: training {name} with its rounding")
        if not whole and place.interrupted():
            raise _Interrupted
        save_checkpoint(file, training.delivered(), {"steps": training.step})
    network.load_state_dict(load_checkpoint(file)[0])
    network.eval()
    shutil.rmtree(place.path(f"{stage}.qat.part"), ignore_errors=True)
