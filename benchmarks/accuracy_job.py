"""One row of benchmarks/accuracy.py with one seed: what is trained, and the files that come of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from benchmarks.accuracy_tasks import Row, Task
from swiftlet.budget import Budget
from swiftlet.check import load_classifier
from swiftlet.compress.qat import finished, prepare_qat
from swiftlet.compress.record import Record
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.data.split import Split
from swiftlet.export.artifact import Artifact
from swiftlet.export.onnx import graph_digest
from swiftlet.gate import CALIBRATION, RACE_SECONDS, export_draft, gate
from swiftlet.quantizing import Calibration
from swiftlet.runtime.race import Contestant, race
from swiftlet.train.checkpoint import load_checkpoint
from swiftlet.train.loop import Pictures

DELIVERED = "int8"
Files = tuple[dict[str, bytes], dict[str, float]]  # ONNX files by precision, and their milliseconds


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of a task's table with one seed; a trial sees validation only."""

    task: Task
    row: Row
    seed: int
    trial: bool
    out: Path

    @property
    def name(self) -> str:
        return f"{self.row.name}-{self.row.epochs:g}ep-{'trial' if self.trial else 'final'}-{self.seed}"

    @property
    def contract(self) -> InputContract:
        return InputContract(side=self.task.side)

    @property
    def folder(self) -> Path:
        return self.out / self.task.name / self.name

    @property
    def teacher(self) -> "Job | None":
        """The row that teaches this one, trained on the same pictures with the same seed."""
        return None if self.row.teacher is None else replace(self, row=self.task.find(self.row.teacher))

    def build(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.row.build()

    def calibration(self, learned: Pictures) -> Calibration:
        some = np.random.default_rng(self.seed).permutation(len(learned.labels))[:CALIBRATION]
        return Calibration(learned.pixels[some], self.contract)

    def start(self, learned: Pictures) -> nn.Module:
        """What is trained: random weights or, with bits, the teacher's network on grids."""
        return self.build() if self.row.bits is None else self.on_grids(learned)[0]

    def on_grids(self, learned: Pictures) -> tuple[fx.GraphModule, tuple[Record, ...]]:
        """Of a row with bits. Raises BadFile if its teacher is not trained."""
        assert self.teacher is not None and self.row.bits is not None
        plain, records = deployed(self.teacher.trained())
        calibration = self.calibration(learned)
        network, record = prepare_qat(plain, calibration.images, bits=self.row.bits, **calibration.grid)
        return network, (*records, record)

    def trained(self) -> nn.Module:
        """Of a row without bits. Raises BadFile if it is not there."""
        model: nn.Module = self.load(self.build())
        return model

    def load(self, model: nn.Module) -> Any:
        """The same with the weights that training ended with. Raises BadFile if it has not."""
        model.load_state_dict(load_checkpoint(self.folder / "trained.safetensors")[0])
        return model.eval()


def draft(job: Job, photos: Photos) -> Artifact:
    return Artifact(
        network=job.row.network,
        arguments=job.row.arguments,
        precision="float32",
        labels=photos.classes,
        contract=job.contract,
        golden={},
        parents={"photos": photos.audit.digest},
        records=(),
        weights={},
    )


def gated(job: Job, photos: Photos, learned: Pictures, held_back: Split) -> Files:
    """What the gate makes of the network."""
    options = gate(
        job.trained(),
        draft(job, photos),
        Budget(runtime="onnxruntime"),
        calibration=job.calibration(learned).pixels,
        val=held_back,
        val_pixels=held_back.pixels(job.contract),
    ).options
    files = {precision: option.file for precision, option in options.items()}
    return files, {precision: option.measurement.p50_ms for precision, option in options.items()}


def rounded(job: Job, photos: Photos, learned: Pictures, held_back: Split) -> Files:
    """The network on its grids, and the file of the one that it was made of."""
    assert job.teacher is not None
    float32 = (job.teacher.folder / "float32.onnx").read_bytes()
    network, records = job.on_grids(learned)
    integer, record = finished(job.load(network))
    known = draft(job, photos)
    parents = known.parents | {"float32": graph_digest(float32)}
    facts = replace(known, precision=DELIVERED, records=(*records, record), parents=parents)
    files = {"float32": float32, DELIVERED: export_draft(integer, facts, Budget(runtime="onnxruntime")).file}
    programs = {precision: load_classifier(file).program for precision, file in files.items()}
    entrants = [Contestant(precision, program, "onnxruntime", 1) for precision, program in programs.items()]
    times = race(entrants, seconds=RACE_SECONDS, batch=1)
    return files, {precision: time.p50_ms for precision, time in zip(files, times, strict=True)}
