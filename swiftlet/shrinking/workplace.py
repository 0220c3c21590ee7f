"""What every step of a shrinking needs: the run, the network that came in, the photos, and their pictures in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import cbrt, log
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from swiftlet.budget import ALL_LIMITS, Budget
from swiftlet.compress.record import Record
from swiftlet.compress.replay import replay
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.gate import CALIBRATION
from swiftlet.progress import Progress
from swiftlet.quantizing import Calibration
from swiftlet.run import Run
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, Measurement, race
from swiftlet.shrinking.source import Source
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import load_checkpoint
from swiftlet.train.loop import Pictures

BATCH = 16  # pictures that are looked at together: the maps of more leave the cache, which takes 1.4 times as long
RACE_SECONDS = 1.0  # for each file
HEALED, MOST = 0.15, 0.7  # of what was learned: what an epoch of teaching heals to a point, and any number of them
ASKED = 0.25  # share of a step that the teacher takes: it goes forward, the network forward and backward
LOOKED_AT = 256  # training pictures whose loss tells how much a network still knows


@dataclass
class Workplace:
    """One run's inputs. Stages go by name; "parent" is the network as it came. side: of the pictures, which may become
    smaller on the way; `at` gives the workplace for that."""

    run: Run
    source: Source
    photos: Photos
    budget: Budget
    minutes: float
    seed: int
    progress: Progress
    side: int

    def at(self, side: int) -> "Workplace":
        return self if side == self.side else replace(self, side=side)

    @cached_property
    def contract(self) -> InputContract:
        return replace(self.source.contract, side=self.side)

    @cached_property
    def before(self) -> "Workplace":
        """With the pictures that the network which came in saw."""
        return self.at(self.source.contract.side)

    @property
    def limited(self) -> bool:
        return any(getattr(self.budget, name) is not None for name in ALL_LIMITS)

    @property
    def seconds_left(self) -> float:
        return self.minutes * 60 - self.run.seconds

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.side, self.side

    def macs(self, model: nn.Module) -> int:
        counted = count_model(model, self.shape).cost.macs
        assert counted is not None
        return counted

    @cached_property
    def whole(self) -> int:
        """Multiply-adds of the network as it came."""
        return self.before.macs(self.source.model)

    def began(self, name: str) -> float:
        """When the stage was begun, in seconds of the run."""
        return float(self.run.once(f"{name}.began", lambda: {"seconds": self.run.seconds})["seconds"])

    # --- the network of a stage ---------------------------------------------------------------------------------------

    def network(self, name: str) -> tuple[nn.Module, tuple[Record, ...]]:
        """In eval mode, and what was done to the one that came in."""
        if name == "parent":
            return self.source.model, ()
        records = tuple(Record(**record) for record in (self.run.stored(name) or {})["records"])
        network = replay(self.source.model, records)
        network.load_state_dict(load_checkpoint(self.path(f"{name}.safetensors"))[0])
        return network.eval(), records

    def keep(self, name: str, records: tuple[Record, ...]) -> None:
        """The stage's weights lie in train/NAME.safetensors; with the records they are its network."""
        self.run.once(name, lambda: {"records": [{"name": r.name, "arguments": r.arguments} for r in records]})

    def path(self, name: str) -> Path:
        folder = self.run.folder / "train"
        folder.mkdir(exist_ok=True)
        return folder / name

    def raced(self, files: Sequence[str]) -> tuple[Measurement, ...]:
        """These files of train/ in one race: what was timed at another time, on a machine that does something else by
        now, does not compare."""
        runtime, threads = self.budget.runtime or "onnxruntime", self.budget.threads
        contestants = [Contestant(f, get_runtime(runtime).load(self.path(f).read_bytes(), threads), runtime, threads)
                       for f in files]  # fmt: skip
        self.progress("timing the files against each other", 0, 0)
        return race(contestants, seconds=RACE_SECONDS * len(files), batch=self.budget.batch)

    # --- how much of it is left ---------------------------------------------------------------------------------------

    def loss(self, model: nn.Module) -> float:
        """Cross-entropy over some training pictures, in eval mode."""
        pixels, labels = self._probe
        model.eval()
        with torch.inference_mode():
            scores = [
                model(torch.from_numpy(self.contract.normalise(pixels[start : start + BATCH])))
                for start in range(0, len(labels), BATCH)
            ]
            return float(F.cross_entropy(torch.cat(scores), torch.tensor(labels)))

    @cached_property
    def loss_before(self) -> float:
        """Of the network that came in."""
        return self.before.loss(self.source.model)

    def gone(self, loss: float, before: float | None = None) -> float:
        """The share of what a network of loss `before` had learned, by default the one that came in, that one of this
        loss has not: 0 to 1."""
        before = self.loss_before if before is None else before
        learned, lost = log(self.source.classes) - before, loss - before
        return max(lost, 0.0) / learned if lost < learned else 1.0  # also where it is no number

    def mild(self, drop: float, epochs: float) -> float:
        """The share that a cut may destroy of what a network knows that has lost `drop` points, if no more than allowed
        is to be lost after so many epochs of teaching (docs/log.md)."""
        return float(HEALED * cbrt(epochs) * max(self.budget.max_drop - drop, 0.0))

    def pace(self, cut: nn.Module) -> float:
        """What a step with this network takes, of one with the network that came in."""
        return ASKED + (1 - ASKED) * self.macs(cut) / self.whole

    @cached_property
    def _probe(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return self.some_training(LOOKED_AT)

    # --- pictures -----------------------------------------------------------------------------------------------------

    @cached_property
    def pictures(self) -> Pictures:
        """What is trained on."""
        contract = canvas(self.contract, self.photos.audit.median_short_side)
        pixels = self.photos.train.pixels(contract, quick=True, progress=self.progress)
        return Pictures(pixels, self.photos.train.labels)

    def some_training(self, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Pixels (N, side, side, 3) and labels of `count` training pictures, by the seed."""
        some = np.random.default_rng(self.seed).permutation(len(self.photos.train))[:count]
        split = self.photos.train.subset(some)
        return split.pixels(self.contract), split.labels

    @cached_property
    def calibration(self) -> Calibration:
        return Calibration(self.some_training(CALIBRATION)[0], self.contract)

    @cached_property
    def val_pixels(self) -> npt.NDArray[np.uint8]:
        return self.photos.val.pixels(self.contract, progress=self.progress)


def heals(gone: float, pace: float, mild: float) -> bool:
    """Whether teaching heals a cut that has destroyed this share, in steps that take `pace` times as long as those that
    `mild` was found with."""
    return gone <= min(MOST, mild / pace)
