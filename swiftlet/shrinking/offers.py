"""What a stage has to offer: its files, which lie in train/, and what the gate and the budget say of them."""

import copy
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from torch import fx, nn

from swiftlet.compress.post_training import ROUNDING
from swiftlet.compress.record import Record
from swiftlet.export.artifact import Artifact
from swiftlet.files import write_atomically
from swiftlet.gate import Option, gate
from swiftlet.pack.onnx import pack_onnx
from swiftlet.quantizing import Integer, Way, calibrated_best, trained
from swiftlet.shrinking.teach import teach
from swiftlet.shrinking.workplace import Workplace
from swiftlet.train.loop import accuracy

QUANTIZED = 0.25  # share of a rung's seconds that go to steps of QAT, if it comes to that
Offer = dict[str, Any]  # JSON: "chosen", the precision or None; "options" by precision; "seconds"


def offer(place: Workplace, name: str, seconds: float, *, of: str = "", quick: bool = False) -> Offer:
    """Of the network of a stage, or of stage `of`, as float32 and int8. `seconds`: what the rung has in all; without
    any there is no QAT. quick: no rounding is learnt either."""
    return place.run.once(f"{name}.offer", lambda: _offer(place, name, of or name, seconds, quick))


def _offer(place: Workplace, name: str, of: str, seconds: float, quick: bool) -> Offer:
    began = place.began(name)
    network, records = place.network(of)
    place.progress("quantizing and checking", 0, 0)
    reference = None if name == "parent" else reference_of(place)
    better = _better(place, name, seconds, quick) if reference is None or _holds(place, network) else ()
    passed = gate(
        network,
        draft(place, records),
        place.budget,
        calibration=place.calibration.pixels,
        val=place.photos.val,
        val_pixels=place.val_pixels,
        reference=reference,
        better=better,
    )
    return weighed(place, name, passed.options) | {"seconds": place.run.seconds - began}


def weighed(place: Workplace, name: str, found: dict[str, Option]) -> Offer:
    """The offer of these files, packed too; and the files in train/."""
    options: Offer = {}
    for precision, option in found.items():
        write_atomically(place.path(f"{name}.{precision}.onnx"), option.file)
        cost = replace(option.cost, packed_bytes=len(pack_onnx(option.file)))
        options[precision] = {
            "accuracy": option.scored.accuracy,
            "cost": asdict(cost),
            "how": [record.name for record in option.artifact.records],
            "faults": list(option.faults),
            "over": place.budget.over(cost),
        }
    legal = [p for p in ("int8", "float32") if p in options and not options[p]["faults"] and not options[p]["over"]]
    return {"chosen": legal[0] if legal else None, "options": options}


def holding(offered: Offer) -> str | None:
    """The precision that holds the accuracy, int8 first, whether it is within the budget or not."""
    if offered["chosen"]:
        return str(offered["chosen"])
    options = offered["options"]
    return next((p for p in ("int8", "float32") if p in options and not options[p]["faults"]), None)


def reference_of(place: Workplace) -> float:
    """What all accuracies are held against: that of the float32 file of the network as it came."""
    return float((place.run.stored("parent.offer") or {})["options"]["float32"]["accuracy"])


def points_lost(place: Workplace, accuracy: float) -> float:
    """By a network or file of this accuracy, a share of 1."""
    return 100 * (reference_of(place) - accuracy)


def draft(place: Workplace, records: tuple[Record, ...]) -> Artifact:
    return Artifact(
        network=place.source.network,
        arguments=place.source.arguments,
        precision="float32",
        labels=place.photos.classes,
        contract=place.contract,
        golden={},
        parents={"photos": place.photos.audit.digest, "network": place.source.digest},
        records=records,
        weights=place.source.weights,
    )


def _holds(place: Workplace, network: nn.Module) -> bool:
    """Whether it holds the accuracy as it is: what float32 has lost, no rounding gives back."""
    reached = accuracy(copy.deepcopy(network), place.val_pixels, place.photos.val.labels, place.contract)
    return points_lost(place, reached) <= place.budget.max_drop


def _better(place: Workplace, name: str, seconds: float, quick: bool) -> tuple[Way, ...]:
    best = partial(_best, place, not quick)
    return (best, partial(_trained, place, f"{name}.qat", QUANTIZED * seconds)) if seconds else (best,)


def _best(place: Workplace, rounding: bool, plain: fx.GraphModule) -> Integer:
    what = "to calibrate and round" if rounding else "to calibrate"
    place.progress(f"int8 loses too much: trying all ways {what}", 0, 0)
    return calibrated_best(plain, place.calibration, steps=ROUNDING if rounding else 0)


def _trained(place: Workplace, name: str, seconds: float, plain: fx.GraphModule) -> Integer:
    what = "int8 still loses too much: training with its rounding"
    return trained_integer(place, name, seconds, plain, bits=8, what=what)


def trained_integer(
    place: Workplace, name: str, seconds: float, plain: fx.GraphModule, *, bits: int, what: str
) -> Integer:
    """By QAT, weights of `bits`, arithmetic of 8, into train/NAME.safetensors."""
    return trained(plain, place.calibration, lambda network: teach(place, name, network, seconds, what), bits=bits)
