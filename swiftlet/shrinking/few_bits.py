"""Fewer bits for each weight: kernels compute in int8 as before, so what shrinks is the file and its download.

Trained with their rounding from the start (compress/qat.py): after training alone 4 bits lose points, in training
hardly any (docs/shrinking.md).
"""

from dataclasses import replace

from torch import nn

from swiftlet.budget import Cost
from swiftlet.check import PARITY, measured_cost, score
from swiftlet.compress.qat import finished, prepare_qat
from swiftlet.compress.reparameterize import deployed
from swiftlet.export.onnx import export_onnx
from swiftlet.gate import Option, export_draft
from swiftlet.pack.onnx import pack_onnx
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.offers import Offer, draft, points_lost, trained_integer, weighed
from swiftlet.shrinking.workplace import Workplace

BITS = (6, 5, 4, 3)
SAFE_BITS = 4  # where no limit asks for less
WORTH = 0.95  # of the download: what saves less is not tried
RACE_SECONDS = 1.0


def stage_of(base: str, bits: int) -> str:
    return f"{base}.{bits}bit"


def few_bits_file(place: Workplace, model: nn.Module, bits: int) -> bytes:
    """The file that a network would have, before it is trained for it: that moves the weights little."""
    plain, _ = deployed(model)
    integer, _ = finished(prepare_qat(plain, place.calibration.images[:1], bits=bits, **place.calibration.grid)[0])
    return export_onnx(integer, place.contract)


def bits_that_fit(place: Workplace, base: str, offered: Offer) -> list[int]:
    """With which the file of a stage would be within the limits on its bytes, the most first; without such limits, the
    fewest that are safe, if they save anything worth the time."""
    model, cost = place.network(base)[0], offered["options"]["int8"]["cost"]
    was = few_bits_file(place, model, 8)
    fitting = []
    for bits in BITS if place.limited else (SAFE_BITS,):
        file = few_bits_file(place, model, bits)
        size = cost["size_bytes"] + len(file) - len(was)
        packed = cost["packed_bytes"] + len(pack_onnx(file)) - len(pack_onnx(was))
        if place.limited and not place.budget.over(Cost(**cost | {"size_bytes": size, "packed_bytes": packed})):
            fitting.append(bits)
        if not place.limited and packed < WORTH * cost["packed_bytes"]:
            fitting.append(bits)
    return fitting


def offer_few_bits(place: Workplace, base: str, bits: int, seconds: float) -> Offer:
    """Of the network of stage `base` as int8 with `bits` for each weight; taught for `seconds`."""
    return place.run.once(f"{stage_of(base, bits)}.offer", lambda: _offer(place, base, bits, seconds))


def _offer(place: Workplace, base: str, bits: int, seconds: float) -> Offer:
    began, budget = place.began(stage_of(base, bits)), place.budget
    runtime = budget.runtime or "onnxruntime"
    network, records = place.network(base)
    plain, made = deployed(network)
    integer, trained = trained_integer(
        place, stage_of(base, bits), seconds, plain, bits=bits, what=f"training with weights of {bits} bits"
    )
    facts = replace(draft(place, (*records, *made, *trained)), precision="int8")
    exported = export_draft(integer, facts, budget)
    scored = score(exported.classifier, place.photos.val, place.val_pixels)
    contestant = Contestant("", exported.classifier.program, runtime, budget.threads)
    measured = race([contestant], seconds=RACE_SECONDS, batch=budget.batch)[0]
    cost = measured_cost(exported.file, measured)
    drop = points_lost(place, scored.accuracy)
    faults = []
    if exported.parity > PARITY["int8"]:
        faults.append(f"differs from its network by {exported.parity:.2g} in a score, {PARITY['int8']:g} allowed")
    if drop > budget.max_drop:
        faults.append(f"loses {drop:.1f} points on the validation photos, {budget.max_drop:g} allowed")
    option = Option(
        file=exported.file,
        artifact=exported.artifact,
        cost=cost,
        measurement=measured,
        scored=scored,
        parity=exported.parity,
        over={},
        faults=tuple(faults),
    )
    return weighed(place, stage_of(base, bits), {"int8": option}) | {"seconds": place.run.seconds - began}
