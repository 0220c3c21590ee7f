"""Checking a file: what an ONNX classifier, ours or not, does on photos, measured on the file itself."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.budget import Budget, Cost
from swiftlet.cost.count import count_onnx
from swiftlet.cost.screen import read_onnx, screen_onnx
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_labelled
from swiftlet.data.split import Split
from swiftlet.errors import BadInput
from swiftlet.export.artifact import read_artifact
from swiftlet.export.golden import parity
from swiftlet.pack.onnx import pack_onnx
from swiftlet.runtime import get_runtime
from swiftlet.runtime.base import Program
from swiftlet.runtime.race import Measurement, quick

IMAGENET = InputContract(side=224, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
BATCH = 32
# Allowed difference of a score between two ways to compute one network. Float: on every picture. int8: on most of
# them, because integer kernels and the emulation round sums in different places, and one flipped rounding can travel
# far on a picture that the network is unsure of; what int8 really costs is measured as accuracy, on the file.
PARITY = {"float32": 1e-4, "int8": 0.05}
MOST = 0.75


def typical(differences: npt.NDArray[np.float64], precision: str) -> float:
    """The difference that PARITY bounds: the largest, or for int8 that which most pictures stay below."""
    return float(np.quantile(differences, MOST) if precision == "int8" else differences.max())


@dataclass(frozen=True)
class Classifier:
    """A loaded file that takes uint8 pictures under its input contract, whatever its own input looks like."""

    program: Program
    contract: InputContract
    labels: tuple[str, ...] | None
    golden: dict[str, Any] | None
    precision: str | None
    notes: tuple[str, ...]

    def scores(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(N, side, side, 3) uint8 -> (N, classes)."""
        if not len(pixels):
            raise BadInput("scores: there are no pictures to run")
        size = BATCH if self.program.input_shape[0] is None else self.program.input_shape[0]
        out = []
        for start in range(0, len(pixels), size):
            batch = pixels[start : start + size]
            missing = size - len(batch) if self.program.input_shape[0] is not None else 0
            padded = np.concatenate((batch, batch[-1:].repeat(missing, 0))) if missing else batch
            out.append(self.program.run(self._fed(padded))[0][: len(batch)])
        return np.concatenate(out).reshape(len(pixels), -1)

    def _fed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        channels_last = self.program.input_shape[-1] == 3
        if self.program.input_dtype == np.uint8:
            return pixels if channels_last else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        images = self.contract.normalise(pixels).astype(self.program.input_dtype, copy=False)
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1) if channels_last else images)


def load_classifier(
    file: Path | bytes, *, runtime: str = "onnxruntime", threads: int = 1, contract: InputContract | None = None
) -> Classifier:
    """Load an ONNX classifier, packed or not. Its own metadata say what pixels it sees; a file without them is given
    `contract`, or ImageNet's usual normalisation, and the notes say so. Raises BadFile, BadInput."""
    artifact = read_artifact(read_onnx(file))
    program = get_runtime(runtime).load(file, threads)
    if artifact is not None:
        return Classifier(program, artifact.contract, artifact.labels, artifact.golden, artifact.precision, ())
    shape = program.input_shape
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise BadInput(
            f"the file takes an input of shape {shape}; check needs one picture input, NCHW or NHWC with 3 channels"
        )
    height, width = shape[1:3] if shape[3] == 3 else shape[2:4]
    if height != width:
        raise BadInput(f"the file takes pictures of {height} x {width}; check needs square ones")
    base = contract or IMAGENET
    side = height or base.side
    seen = InputContract(side=side, mean=base.mean, std=base.std)
    how = "raw uint8 pixels" if program.input_dtype == np.uint8 else f"(pixel - {seen.mean}) / {seen.std}"
    note = f"the file does not say what pixels it sees: fed {side} x {side} centre squares as {how}"
    return Classifier(program, seen, None, None, None, (note,))


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson score), as shares of 1."""
    from scipy.stats import binomtest  # takes a second to import, and most commands do not need it

    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


@dataclass(frozen=True)
class Scored:
    """Scores (N, classes) of a split's pictures and their true labels (N,)."""

    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    keys: tuple[str, ...]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = self.scores.argmax(1) == self.labels
        return right

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(int(self.right.sum()), len(self.right))


def score(classifier: Classifier, split: Split, pixels: npt.NDArray[np.uint8] | None = None) -> Scored:
    """Run every picture of a split through the file; `pixels` saves decoding them again."""
    if pixels is None:
        pixels = split.pixels(classifier.contract)
    return Scored(classifier.scores(pixels), split.labels, split.keys)


def measured_cost(file: Path | bytes, measurement: Measurement, *, packed: bool = False) -> Cost:
    """What a file costs: counted from its graph, its own bytes, and the measured median latency; `packed`: its bytes in
    a container too."""
    counted = count_onnx(file).cost
    return replace(
        counted,
        packed_bytes=len(pack_onnx(screen_onnx(file).data)) if packed else None,
        latency_ms=measurement.p50_ms,
        runtime=measurement.runtime,
        threads=measurement.threads,
        batch=measurement.batch,
    )


@dataclass(frozen=True, kw_only=True)
class Check:
    """What `swiftlet check` found. accuracy and interval are None without photos, parity without a golden record.
    file_bytes: of `file`, fewer than those of the ONNX file in it (cost.size_bytes) if it is a container."""

    file: str
    file_bytes: int
    accuracy: float | None
    interval: tuple[float, float] | None
    n: int
    cost: Cost
    measurement: Measurement
    labels: tuple[str, ...] | None
    parity_max_abs: float | None
    parity_ok: bool | None
    over: dict[str, str]
    set_aside: int
    notes: tuple[str, ...]


def check(
    file: Path,
    photos: Path | None = None,
    *,
    budget: Budget | None = None,
    runtime: str = "onnxruntime",
    threads: int = 1,
    contract: InputContract | None = None,
    labels: tuple[str, ...] | None = None,
    seconds: float = 2.0,
) -> Check:
    """Measure a file: accuracy on a photo folder, bytes, milliseconds, parity with its own golden record, budget.

    A container is measured as the ONNX file in it; its size too is that of the ONNX file, here and for the budget.

    `labels` name the outputs of a file that does not know them; without, the sorted folder names are taken, which
    must then be as many as the outputs. Raises BadFile, BadPhotos, BadInput.
    """
    classifier = load_classifier(file, runtime=runtime, threads=threads, contract=contract)
    notes, scored, set_aside = list(classifier.notes), None, 0
    known = classifier.labels or labels
    if photos is not None:
        classes, split, audit = load_labelled(photos, known)
        notes += audit.notes
        set_aside = len(audit.set_aside)
        scored = score(classifier, split)
        outputs = scored.scores.shape[1]
        if len(classes) != outputs:
            raise BadInput(
                f"{file}: gives {outputs} scores but there are {len(classes)} labels; name them with --labels FILE"
            )
        known = classes
    precision = "int8" if classifier.precision == "int8" else "float32"
    differences = None
    if classifier.golden is not None:
        differences = parity(classifier.scores, classifier.contract, classifier.golden)
    measurement = quick(classifier.program, runtime, threads, seconds=seconds)
    cost = measured_cost(file, measurement, packed=True)
    return Check(
        file=str(file),
        file_bytes=Path(file).stat().st_size,
        accuracy=scored.accuracy if scored else None,
        interval=scored.interval if scored else None,
        n=len(scored.labels) if scored else 0,
        cost=cost,
        measurement=measurement,
        labels=known,
        parity_max_abs=None if differences is None else float(differences.max()),
        parity_ok=None if differences is None else typical(differences, precision) <= PARITY[precision],
        over=budget.over(cost) if budget else {},
        set_aside=set_aside,
        notes=tuple(notes),
    )
