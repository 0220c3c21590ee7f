"""Trained networks as files that could be delivered: shrunk, checked under the gate, and the best of them published."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from swiftlet.candidates import Candidate
from swiftlet.check import load_classifier, score
from swiftlet.export.artifact import Artifact
from swiftlet.files import write_atomically
from swiftlet.fitting.workplace import Workplace
from swiftlet.gate import CALIBRATION, Passed, gate, with_figures
from swiftlet.quantizing import Calibration, Way

RESCUED = ".rescued"  # at the end of the name of an offer that rescue.py made once more
Offer = dict[str, Any]  # JSON: "candidate"; "trained", its stage; "chosen", a precision or None; "options" by precision
# "training": whether int8 was trained with its rounding; "only_inaccurate": nothing else speaks against it; "seconds"


def offer(place: Workplace, stage: str, name: str, reached: float) -> None:
    """Shrink and check a trained network, and deliver it if it is the best legal file so far.

    One that is behind the best file is not worth the time, unless nobody knows yet whether it is legal at all.
    """
    best = best_offer(place)
    known = any(offered["candidate"] == name for offered in offers(place).values())
    behind = best is not None and known and reached < best[1]["accuracy"]
    if behind and place.run.stored(f"{stage}.offer") is None:
        return
    make_offer(place, stage, stage, name)


def make_offer(place: Workplace, key: str, stage: str, name: str, better: Sequence[Way] = ()) -> None:
    """The offer `key` of the network of a stage, and the file to the user if it is the best now. `better`: see gate."""
    before = best_offer(place)
    place.run.once(f"{key}.offer", lambda: _offer(place, key, stage, name, better))
    best = best_offer(place)
    if best is not None and (before is None or best[0] != before[0]):
        _publish(place, *best)
        place.stoppable = True


def calibration_of(place: Workplace, candidate: Candidate) -> Calibration:
    some = np.random.default_rng(place.seed).permutation(len(place.photos.train))[:CALIBRATION]
    return Calibration(place.photos.train.subset(some).pixels(candidate.contract), candidate.contract)


def _offer(place: Workplace, key: str, stage: str, name: str, better: Sequence[Way]) -> Offer:
    place.progress(f"shrinking and checking {name}", 0, 0)
    candidate, began = place.candidate(name), place.run.seconds
    draft = Artifact(
        network=candidate.network,
        arguments=candidate.arguments | {"num_classes": place.classes},
        precision="float32",
        labels=place.photos.classes,
        contract=candidate.contract,
        golden={},
        parents={"photos": place.photos.audit.digest},
        records=(),
        weights=place.weights_of(candidate),
    )
    passed = gate(
        place.trained(stage, candidate),
        draft,
        place.budget,
        calibration=calibration_of(place, candidate).pixels,
        val=place.photos.val,
        val_pixels=place.pixels("val", draft.contract),
        better=better,
    )
    for precision, option in passed.options.items():
        write_atomically(file_of(place, key, precision), option.file)
    return {
        "candidate": name,
        "trained": stage,
        "chosen": passed.chosen,
        "accuracy": passed.options[passed.chosen].scored.accuracy if passed.chosen else 0.0,
        "options": {
            precision: {
                "accuracy": option.scored.accuracy,
                "cost": asdict(option.cost),
                "parity_max_abs": option.parity,
                "refused": option.refused,
            }
            for precision, option in passed.options.items()
        },
        "training": any(record.name == "finished" for record in passed.options["int8"].artifact.records),
        "only_inaccurate": _only_inaccurate(passed, place.budget.max_drop),
        "seconds": place.run.seconds - began,
    }


def _only_inaccurate(passed: Passed, max_drop: float) -> bool:
    """Whether nothing speaks against the int8 file but that it loses too much."""
    integer, plain = passed.options["int8"], passed.options["float32"]
    loses = 100 * (plain.scored.accuracy - integer.scored.accuracy) > max_drop
    return loses and not integer.over and len(integer.faults) == 1


def file_of(place: Workplace, key: str, precision: str) -> Path:
    return place.path(f"{key}.{precision}.onnx")


def offers(place: Workplace) -> dict[str, Offer]:
    """The stored offers by name, in the order of their names. One that was made again stands for the first if it saved
    the int8 file, and for nothing if it did not."""
    found = sorted((place.run.folder / "stages").glob("*.offer.json"))
    names = [path.name.removesuffix(".offer.json") for path in found]
    stored = {name: place.run.stored(f"{name}.offer") or {} for name in names}
    for again in [name for name in names if name.endswith(RESCUED)]:
        del stored[again.removesuffix(RESCUED) if stored[again]["chosen"] == "int8" else again]
    return stored


def best_offer(place: Workplace) -> tuple[str, Offer] | None:
    """The legal offer with the highest validation accuracy, of equals the one with the fewest bytes times multiply-adds
    (milliseconds would make another file of a run that was killed), and its name."""
    legal = [(name, offered) for name, offered in offers(place).items() if offered["chosen"]]
    return max(legal, key=lambda pair: (pair[1]["accuracy"], -_bytes_times_macs(pair[1])), default=None)


def _bytes_times_macs(offered: Offer) -> int:
    cost = offered["options"][offered["chosen"]]["cost"]
    return int(cost["size_bytes"] * cost["macs"])


def is_legal(place: Workplace, name: str) -> bool:
    """Whether a file of this candidate has been admitted; one that was not even offered may still be."""
    mine = [offered for offered in offers(place).values() if offered["candidate"] == name]
    return not mine or any(offered["chosen"] for offered in mine)


def _publish(place: Workplace, key: str, offered: Offer) -> None:
    """Put the best file so far where the user looks for it, with its validation accuracy inside."""
    contract = place.candidate(offered["candidate"]).contract
    file = file_of(place, key, offered["chosen"]).read_bytes()
    scored = score(load_classifier(file), place.photos.val, place.pixels("val", contract))
    write_atomically(place.run.folder / "model.onnx", with_figures(file, scored, "validation"))
