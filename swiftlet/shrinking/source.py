"""What is to be shrunk: a trained network, wherever it comes from."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swiftlet.check import IMAGENET
from swiftlet.cost.screen import screen_onnx
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.artifact import read_artifact
from swiftlet.export.import_onnx import import_onnx
from swiftlet.zoo import create_model
from swiftlet.zoo.weights.facts import facts_of
from swiftlet.zoo.weights.pretrained import describe

WEIGHTS, FLOAT = "model.safetensors", "float32.onnx"  # of a run: one of them is what was trained


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A trained network in eval mode, and what is known of it.

    labels: None if the file does not say; digest: SHA-256 of the file; photos, seed: of the run that it comes from, the
    digest of its photos and what dealt them; weights: source, licence and digest for the Artifact; notes: for the user.
    """

    network: str
    arguments: dict[str, Any]
    model: nn.Module
    classes: int
    contract: InputContract
    labels: tuple[str, ...] | None
    digest: str
    photos: str | None
    seed: int | None
    weights: dict[str, str]
    notes: tuple[str, ...]

    def refuse_other_photos(self, photos: Photos) -> None:
        """Raises BadInput if these are not the photos of its run, or do not have its classes."""
        if self.photos is not None and self.photos != photos.audit.digest:
            raise BadInput(f"these are not the photos that the run was trained on ({photos.name}); give it those")
        if self.labels is not None and self.labels != photos.classes:
            raise BadInput(f"the network tells {_some(self.labels)} apart, the photos show {_some(photos.classes)}")
        if self.classes != len(photos.classes):
            raise BadInput(f"the network gives {self.classes} scores, the photos have {len(photos.classes)} classes")


def open_source(path: Path | str, *, contract: InputContract | None = None) -> Source:
    """Open the folder of a run, a .safetensors file of save_weights, or a float32 ONNX classifier, packed or
    not.

    `contract`: what a file that does not say sees; by default centre squares with ImageNet's normalisation. Raises
    BadFile, and BadInput for a contract where the file has its own.
    """
    path = Path(path)
    photos, seed, file = None, None, path
    if path.is_dir():
        claim = _claim(path)
        photos, seed = claim["photos"], claim["seed"]
        file = path / WEIGHTS if (path / WEIGHTS).is_file() else path / FLOAT
    if not file.is_file():
        what = f"has neither {WEIGHTS} nor {FLOAT}; is the run finished?" if path.is_dir() else "is missing"
        raise BadFile(f"{path}: {what}")
    found = _of_weights(file) if file.suffix == ".safetensors" else _of_onnx(file, contract)
    if contract is not None and (found.contract.mean, found.contract.std) != (contract.mean, contract.std):
        raise BadInput(f"{file}: says itself what pixels it sees ({found.contract}); leave the contract out")
    return replace(found, photos=photos, seed=seed)


def _claim(folder: Path) -> dict[str, Any]:
    try:
        claim: dict[str, Any] = json.loads((folder / "stages" / "claim.json").read_text())
        return {"photos": str(claim["photos"]), "seed": int(claim["seed"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{folder}: holds no run ({error}); give the folder that fit or train wrote to") from error


def _of_weights(file: Path) -> Source:
    known = describe(file)
    model: Any = create_model(known.network, pretrained=str(file), num_classes=known.num_classes)
    read = facts_of(model)
    return Source(
        network=known.network,
        arguments=dict(model.architecture.arguments),
        model=model.eval(),
        classes=known.num_classes,
        contract=known.contract,
        labels=None,
        digest=read["sha256"],
        photos=None,
        seed=None,
        weights=read,
        notes=(),
    )


def _of_onnx(file: Path, contract: InputContract | None) -> Source:
    side = contract.side if contract else IMAGENET.side
    imported, screened = import_onnx(file, side=side), screen_onnx(file, side=side)
    artifact = read_artifact(screened.model)
    digest = hashlib.sha256(screened.data).hexdigest()  # of the ONNX file, packed or not
    channels, height, width = imported.input
    if channels != 3 or height != width:
        raise BadFile(f"{file}: takes {channels} x {height} x {width}; swiftlet trains on square RGB pictures")
    notes: tuple[str, ...] = ()
    seen = imported.contract
    if seen is None:
        seen = replace(contract or IMAGENET, side=height)
        notes = (f"the file does not say what pixels it sees: taken for {seen}",)
    if imported.scores == "log_softmax":
        notes += ("the file gave logarithms of probabilities; what is delivered gives probabilities",)
    classes = _outputs(imported.model, imported.input)
    return Source(
        network=artifact.network if artifact else file.stem,
        arguments=artifact.arguments if artifact else {},
        model=imported.model,
        classes=classes,
        contract=seen,
        labels=artifact.labels if artifact else None,
        digest=digest,
        photos=None,
        seed=None,
        weights={"source": str(file), "licence": "not stated", "sha256": digest},
        notes=notes,
    )


def _outputs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with torch.inference_mode():
        return int(model(torch.zeros(1, *shape)).shape[1])


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
