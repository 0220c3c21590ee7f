"""The last step: the best file is measured, on the test split if the run is whole, and written with its evidence."""

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from PIL import Image

from swiftlet.check import load_classifier, measured_cost, score
from swiftlet.cost.screen import read_onnx
from swiftlet.errors import Infeasible
from swiftlet.export.artifact import read_artifact
from swiftlet.export.golden import write_golden
from swiftlet.export.onnx import graph_digest
from swiftlet.files import write_atomically, write_json
from swiftlet.fitting.offers import best_offer, file_of, offers
from swiftlet.fitting.result import Result
from swiftlet.fitting.workplace import Workplace
from swiftlet.gate import ParityError, with_figures
from swiftlet.report.build import build_report
from swiftlet.report.gather import gather
from swiftlet.runtime.machine import machine
from swiftlet.runtime.race import Contestant, race
from swiftlet.zoo.weights.own import save_weights

RACE_SECONDS = 2.0
GOLDEN_PHOTOS = 4


def deliver(place: Workplace, *, test: bool) -> Result:
    """Measure the best file, on the test split or, if that is to stay sealed, on the validation photos; write the
    file, its manifest, golden pictures and report. Raises Infeasible if no trained file is legal."""
    best = best_offer(place)
    if best is None:
        raise Infeasible(_why_nothing(place))
    key, offered = best
    place.progress("measuring the file that is delivered", 0, 0)
    candidate = place.candidate(offered["candidate"])
    precision, contract = offered["chosen"], candidate.contract
    files = {name: file_of(place, key, name).read_bytes() for name in offered["options"]}
    split = place.photos.test.open(graph_digest(files[precision]), place.ledger) if test else place.photos.val
    pixels = split.pixels(contract)
    threads, runtime = place.budget.threads, place.budget.runtime or "onnxruntime"
    loaded = {name: load_classifier(file, runtime=runtime, threads=threads) for name, file in files.items()}
    scored = {name: score(classifier, split, pixels) for name, classifier in loaded.items()}
    delivered = with_figures(files[precision], scored[precision], "test" if test else "validation")
    classifier = load_classifier(delivered, runtime=runtime, threads=threads)
    if not np.array_equal(score(classifier, split, pixels).scores, scored[precision].scores):
        raise ParityError("writing the figures into the file changed its scores")
    contestant = Contestant(offered["candidate"], classifier.program, runtime, threads)
    measurement = race([contestant], seconds=RACE_SECONDS, batch=place.budget.batch)[0]
    cost = measured_cost(delivered, measurement, packed=place.budget.packed_bytes is not None)

    folder = place.run.folder
    result = Result(
        file=str(folder / "model.onnx"),
        report=str(folder / "report.html"),
        network=offered["candidate"],
        precision=precision,
        split="test" if test else "validation",
        n=len(split),
        accuracy=scored[precision].accuracy,
        interval=scored[precision].interval,
        accuracy_float=scored["float32"].accuracy,
        size_bytes=len(delivered),
        p50_ms=measurement.p50_ms,
        p90_ms=measurement.p90_ms,
        machine=str(machine()),
        cost=cost,
        budget_met=not place.budget.over(cost),
        over=place.budget.over(cost),
        interrupted=not test,
        seconds=round(place.run.seconds, 1),
        tried=tuple(_tried(place, key)),
        weights=place.weights_of(candidate),
        recipe="{.name}: {}".format(*place.choice(pretrained=candidate.pretrained is not None)),
    )
    write_atomically(folder / "model.onnx", delivered)
    model = place.trained(offered["trained"], candidate)
    licence = result.weights.get("licence", "not stated")
    save_weights(model, folder / "model.safetensors", contract=contract, licence=licence)
    write_golden(folder / "golden", classifier.scores, contract, _golden_photos(place))
    artifact = read_artifact(read_onnx(delivered))
    assert artifact is not None  # we have just written it
    digest = hashlib.sha256(delivered).hexdigest()
    manifest = replace(artifact, cost=cost).to_json() | {
        "file": "model.onnx",
        "sha256": digest,
        "measurement": measurement.to_json(),
    }
    write_json(folder / "model.json", manifest)
    evidence = gather(
        asdict(result),
        place.plan,
        place.budget,
        place.photos,
        split,
        contract,
        pixels,
        scored,
        digest,
        place.recipe_for(candidate),
        place.seed,
    )
    write_atomically(folder / "report.html", build_report(evidence).encode())
    return result


def _golden_photos(place: Workplace) -> list[tuple[str, Image.Image]]:
    """Some validation photos of a moderate size: a reader in another language needs pictures, not megabytes."""
    photos = [place.photos.val.image(i).copy() for i in range(min(GOLDEN_PHOTOS, len(place.photos.val)))]
    for photo in photos:
        photo.thumbnail((512, 512))
    return [(f"photo-{i}", photo) for i, photo in enumerate(photos)]


def _tried(place: Workplace, delivered: str) -> Iterator[dict[str, Any]]:
    """Every candidate of the plan by precision: what it costs, what it reached, what became of it."""
    known = offers(place)
    for planned in place.plan.planned:
        name = planned.candidate.name
        labels = ("sketch", *(f"round{i + 1}" for i in range(len(place.plan.rungs))))
        rounds = [stage for label in labels if place.run.stored(stage := f"{name}.{label}")]
        mine = [key for key in known if known[key]["candidate"] == name]
        for precision, cost in planned.costs.items():
            row: dict[str, Any] = {"name": name, "precision": precision, "accuracy": None, "delivered": False}
            row |= {"latency_ms": cost.latency_ms, "size_bytes": cost.size_bytes, "macs": cost.macs}
            broken = planned.over[precision]
            row["status"] = "; ".join(f"{limit} {why}" for limit, why in broken.items()) or "feasible, not trained"
            if mine:
                last = delivered if delivered in mine else mine[-1]
                option = known[last]["options"][precision]
                row |= {"accuracy": option["accuracy"], "latency_ms": option["cost"]["latency_ms"]}
                row |= {"size_bytes": option["cost"]["size_bytes"]}
                row["delivered"] = last == delivered and known[last]["chosen"] == precision
                row["status"] = "delivered" if row["delivered"] else option["refused"] or "trained, not the best"
            elif rounds and precision == "float32":
                trained = place.run.stored(rounds[-1]) or {}
                row |= {"accuracy": trained["accuracy"], "status": "trained, behind the best file"}
            yield row


def _why_nothing(place: Workplace) -> str:
    reasons = [
        f"{key} as {precision}: {option['refused']}"
        for key, offered in offers(place).items()
        for precision, option in offered["options"].items()
    ]
    return f"no trained file met the budget: {' | '.join(reasons) or 'nothing was trained in the time given'}"
