"""The files of a training: the weights for PyTorch, and the float32 ONNX file with its figures inside."""

import hashlib

from torch import nn

from swiftlet.budget import Budget
from swiftlet.check import load_classifier, score
from swiftlet.data.photos import Photos
from swiftlet.data.read_ahead import Pixels
from swiftlet.export.artifact import Artifact
from swiftlet.export.golden import write_golden
from swiftlet.files import write_atomically
from swiftlet.gate import export_float, with_figures
from swiftlet.run import Run
from swiftlet.train.loop import Training
from swiftlet.training.job import Job
from swiftlet.training.result import Trained
from swiftlet.zoo.weights.own import save_weights

NO_LICENCE = "not stated"


def deliver(
    model: nn.Module,
    job: Job,
    data: Photos,
    training: Training,
    validation: Pixels,
    run: Run,
    started_from: dict[str, str],
) -> Trained:
    """Both files, the ONNX one with its figures inside and its golden pictures beside it. `validation`: the pixels of
    data.val under the job's contract."""
    folder = run.folder
    licence = started_from.get("licence", NO_LICENCE)
    save_weights(model, folder / "model.safetensors", contract=job.contract, licence=licence)
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    draft = Artifact(
        network=job.network,
        arguments=model.architecture.arguments,  # type: ignore[union-attr, arg-type]
        precision="float32",
        labels=data.classes,
        contract=job.contract,
        golden={},
        parents={"photos": data.audit.digest, "weights": digest},
        records=(),
        weights=started_from,
    )
    _, exported = export_float(model, draft, Budget(runtime="onnxruntime"))
    scored = score(exported.classifier, data.val, validation)
    file = with_figures(exported.file, scored, "validation")
    write_golden(folder / "golden", load_classifier(file).scores, job.contract, [])
    write_atomically(folder / "model.onnx", file)
    return Trained(
        file=str(folder / "model.onnx"),
        weights=str(folder / "model.safetensors"),
        network=job.network,
        recipe=training.recipe.name,
        epochs=round(training.steps / training.per_epoch, 2),
        steps=training.steps,
        processes=training.ranks.world,
        accumulate=training.accumulate,
        engine=str(training.engine),
        n=len(data.val),
        accuracy=scored.accuracy,
        interval=scored.interval,
        size_bytes=len(file),
        seconds=round(run.seconds, 1),
        started_from=started_from,
    )
