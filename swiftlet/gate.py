"""The gate: a trained network in, the float file or the int8 file out, whichever proved itself."""

from collections.abc import Sequence
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
from swiftlet.errors import NothingToDo, SwiftletError
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.export.golden import golden_record
from swiftlet.export.onnx import export_onnx, graph_digest, with_metadata
from swiftlet.quantizing import Calibration, Integer, Way
from swiftlet.runtime.race import SAME, Contestant, Measurement, compare, race

CALIBRATION = 256  # training photos that set the int8 ranges
RACE_SECONDS = 2.0


class ParityError(SwiftletError):
    """A file does not compute what its PyTorch network computes: a fault of the exporter or of the runtime."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """A file that could be delivered, with its figures on the validation photos. `over`: the limits that it breaks, as
    Budget.over tells them; `faults`: what else speaks against it."""

    file: bytes
    artifact: Artifact
    cost: Cost
    measurement: Measurement
    scored: Scored
    parity: float
    over: dict[str, str]
    faults: tuple[str, ...]

    @property
    def refused(self) -> str:
        """Why it may not be delivered; "" if it may."""
        return "; ".join((*(f"{name} {why}" for name, why in self.over.items()), *self.faults))


@dataclass(frozen=True, kw_only=True)
class Passed:
    """The files of a trained network by precision; `chosen` is None if neither is legal."""

    options: dict[str, Option]
    chosen: str | None


def gate(
    model: nn.Module,
    draft: Artifact,
    budget: Budget,
    *,
    calibration: npt.NDArray[np.uint8],
    val: Split,
    val_pixels: npt.NDArray[np.uint8],
    reference: float | None = None,
    better: Sequence[Way] = (),
) -> Passed:
    """Fold BatchNorm, quantize to int8, export both, prove parity, score both on the validation photos, race them.

    `draft` says what the network is, and its records what was done to it; precision, golden and cost are filled in
    here. `calibration` are training pictures and `val_pixels` those of `val`, uint8 (N, side, side, 3) under
    draft.contract. int8 is chosen if it loses at most budget.max_drop points and the race does not show it to be slower
    than a float file that is within the budget too; else the float file, if it is. Points are lost against `reference`,
    an accuracy as a share of 1: by default that of the float file, which then loses none. `better`: other ways from the
    deployed network to an int8 one, tried in turn while the best so far loses too much; one that raises NothingToDo is
    passed over. Raises ParityError.
    """
    plain, float32 = export_float(model, draft, budget)
    on = Calibration(calibration[:CALIBRATION], draft.contract)

    def calibrated(network: fx.GraphModule) -> Integer:
        integer, record = quantize(network, on.images, **on.grid)
        return integer, (record,)

    runtime = budget.runtime or "onnxruntime"
    parents = draft.parents | {"float32": graph_digest(float32.file)}
    scored = {"float32": score(float32.classifier, val, val_pixels)}
    base = scored["float32"].accuracy if reference is None else reference

    def drop(precision: str) -> float:
        return 100 * (base - scored[precision].accuracy)

    exported = {"float32": float32}
    for way in (calibrated, *better):
        try:
            integer, made = way(plain)
        except NothingToDo:
            if way is calibrated:
                raise
            continue
        records = (*float32.artifact.records, *made)
        file = export_draft(integer, replace(draft, precision="int8", records=records, parents=parents), budget)
        reached = score(file.classifier, val, val_pixels)
        if "int8" not in scored or reached.accuracy > scored["int8"].accuracy:
            exported["int8"], scored["int8"] = file, reached
        if drop("int8") <= budget.max_drop:
            break
    contestants = [Contestant(p, e.classifier.program, runtime, budget.threads) for p, e in exported.items()]
    measurements = dict(zip(exported, race(contestants, seconds=RACE_SECONDS, batch=budget.batch), strict=True))

    options: dict[str, Option] = {}
    for precision, export in exported.items():
        cost = measured_cost(export.file, measurements[precision], packed=budget.packed_bytes is not None)
        faults = []
        if export.parity > PARITY[precision]:
            faults.append(f"differs from its network by {export.parity:.2g} in a score, {PARITY[precision]:g} allowed")
        if drop(precision) > budget.max_drop:
            faults.append(f"loses {drop(precision):.1f} points on the validation photos, {budget.max_drop:g} allowed")
        slower, surely, _ = compare(measurements["float32"].rounds_ms, measurements["int8"].rounds_ms)
        if precision == "int8" and surely > 1 + SAME and not options["float32"].over:
            faults.append(f"takes {slower:.2f} x the time of float32")
        options[precision] = Option(
            file=export.file,
            artifact=export.artifact,
            cost=cost,
            measurement=measurements[precision],
            scored=scored[precision],
            parity=export.parity,
            over=budget.over(cost),
            faults=tuple(faults),
        )
    return Passed(options=options, chosen=next((p for p in ("int8", "float32") if not options[p].refused), None))


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
    float32 = export_draft(plain, replace(draft, precision="float32", records=(*draft.records, *records)), budget)
    if not float32.parity <= PARITY["float32"]:
        raise ParityError(f"the exported file differs from its network by {float32.parity:.2g} in a score")
    return plain, float32


def with_figures(file: bytes, scored: Scored, split: str) -> bytes:
    """The file with its accuracy inside."""
    artifact = read_artifact(read_onnx(file))
    assert artifact is not None  # it is ours
    figures = replace(artifact, accuracy=scored.accuracy, interval=scored.interval, n=len(scored.labels), split=split)
    return with_metadata(file, figures.metadata())


def export_draft(model: fx.GraphModule, draft: Artifact, budget: Budget) -> Exported:
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
