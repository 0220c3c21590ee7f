"""Shrinking under one gate: a trained network in, the float file or the int8 file out, whichever proved itself."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from swiftlet.budget import Budget, Cost
from swiftlet.check import PARITY, Classifier, Scored, load_classifier, measured_cost, score, typical
from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_onnx
from swiftlet.cost.screen import read_onnx
from swiftlet.data.contract import golden_pictures
from swiftlet.data.split import Split
from swiftlet.errors import SwiftletError
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.export.golden import golden_record
from swiftlet.export.onnx import contract_grid, export_onnx, graph_digest, with_metadata
from swiftlet.runtime.race import SAME, Contestant, Measurement, compare, race

CALIBRATION = 256  # training photos that set the int8 ranges
RACE_SECONDS = 2.0


class ParityError(SwiftletError):
    """A file does not compute what its PyTorch network computes: a fault of the exporter or of the runtime."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A file that could be delivered, with its figures on the validation photos; `refused` says why not, "" = legal."""

    file: bytes
    artifact: Artifact
    cost: Cost
    measurement: Measurement
    scored: Scored
    parity: float
    refused: str


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """The files of a trained network by precision; `chosen` is None if neither is legal."""

    options: dict[str, Option]
    chosen: str | None


def shrink(
    model: nn.Module,
    draft: Artifact,
    budget: Budget,
    *,
    calibration: npt.NDArray[np.uint8],
    val: Split,
    val_pixels: npt.NDArray[np.uint8],
) -> Shrunk:
    """Fold BatchNorm, quantize to int8, export both, prove parity, score both on the validation photos, race them.

    `draft` says what the network is; precision, golden, records and cost are filled in here. `calibration` are
    training pictures and `val_pixels` those of `val`, uint8 (N, side, side, 3) under draft.contract. int8 is chosen
    if it loses at most budget.max_drop points and the race does not show it to be slower; else the float file, if
    it is within the budget. Raises ParityError.
    """
    scale, zero_point = contract_grid(draft.contract) or (None, None)
    plain, float32 = export_float(model, draft, budget)
    images = torch.from_numpy(draft.contract.normalise(calibration[:CALIBRATION])).split(64)  # type: ignore[no-untyped-call]
    integer, quantize_record = quantize(plain, images, input_scale=scale, input_zero_point=zero_point)

    runtime = budget.runtime or "onnxruntime"
    parents = draft.parents | {"float32": graph_digest(float32.file)}
    records = (*float32.artifact.records, quantize_record)
    int8 = _export(integer, replace(draft, precision="int8", records=records, parents=parents), budget)
    exported = {"float32": float32, "int8": int8}
    scored = {p: score(e.classifier, val, val_pixels) for p, e in exported.items()}
    contestants = [Contestant(p, e.classifier.program, runtime, budget.threads) for p, e in exported.items()]
    measurements = dict(zip(exported, race(contestants, seconds=RACE_SECONDS, batch=budget.batch), strict=True))
    drop = 100 * (scored["float32"].accuracy - scored["int8"].accuracy)

    options = {}
    for precision, export in exported.items():
        cost = measured_cost(export.file, measurements[precision])
        reasons = [f"{name} {why}" for name, why in budget.over(cost).items()]
        if export.parity > PARITY[precision]:
            reasons.append(f"differs from its network by {export.parity:.2g} in a score, {PARITY[precision]:g} allowed")
        if precision == "int8" and drop > budget.max_drop:
            reasons.append(f"loses {drop:.1f} points on the validation photos, {budget.max_drop:g} allowed")
        slower, surely, _ = compare(measurements["float32"].rounds_ms, measurements["int8"].rounds_ms)
        if precision == "int8" and surely > 1 + SAME:
            reasons.append(f"takes {slower:.2f} x the time of float32")
        options[precision] = Option(
            file=export.file,
            artifact=export.artifact,
            cost=cost,
            measurement=measurements[precision],
            scored=scored[precision],
            parity=export.parity,
            refused="; ".join(reasons),
        )
    return Shrunk(options=options, chosen=next((p for p in ("int8", "float32") if not options[p].refused), None))


@dataclass(frozen=True)
class Exported:
    """A file, what it says of itself, the same loaded, and its difference from its network."""

    file: bytes
    artifact: Artifact
    classifier: Classifier
    parity: float


def export_float(model: nn.Module, draft: Artifact, budget: Budget) -> tuple[fx.GraphModule, Exported]:
    """The network as it is deployed, and its float32 file, which carries `draft` and its golden record.

    Raises ParityError.
    """
    plain, records = deployed(model.eval())
    float32 = _export(plain, replace(draft, precision="float32", records=records), budget)
    if not float32.parity <= PARITY["float32"]:
        raise ParityError(f"the exported file differs from its network by {float32.parity:.2g} in a score")
    return plain, float32


def with_figures(file: bytes, scored: Scored, split: str) -> bytes:
    """The file with its accuracy inside."""
    artifact = read_artifact(read_onnx(file))
    assert artifact is not None  # it is ours
    figures = replace(artifact, accuracy=scored.accuracy, interval=scored.interval, n=len(scored.labels), split=split)
    return with_metadata(file, figures.metadata())


def _export(model: fx.GraphModule, draft: Artifact, budget: Budget) -> Exported:
    """The file with its golden record inside, and its difference from its network."""
    graph, runtime, threads = export_onnx(model, draft.contract), budget.runtime or "onnxruntime", budget.threads
    bare = load_classifier(with_metadata(graph, draft.metadata()), runtime=runtime, threads=threads)
    difference = largest_difference(model, bare, draft.precision)
    counted = count_onnx(graph).cost
    artifact = replace(draft, golden=golden_record(bare.scores, draft.contract), cost=counted)
    file = with_metadata(graph, artifact.metadata())
    return Exported(file, artifact, load_classifier(file, runtime=runtime, threads=threads), difference)


def largest_difference(model: nn.Module, classifier: Classifier, precision: str) -> float:
    """Between a file and its network, of any score, on the golden pictures and on noise at batch 1, 2 and 7.

    For int8, the difference that most pictures stay below; see check.typical.
    """
    contract = classifier.contract
    golden = np.stack([contract.pixels(picture) for _, picture in golden_pictures()])
    noise = np.random.default_rng(0).integers(0, 256, (7, contract.side, contract.side, 3), np.uint8)
    differences = []
    for pixels in (golden, noise[:1], noise[:2], noise):
        with torch.inference_mode():
            expected = torch.softmax(model(torch.from_numpy(contract.normalise(pixels))), 1).numpy()
        differences.append(np.abs(classifier.scores(pixels) - expected).max(1))
    return typical(np.concatenate(differences), precision)
