"""The ladder: the network as it came, as int8, then narrower and narrower, each taught by the one that it came from.

A rung is a trained network and its two files under the gate (gate.py). With a budget the first rung within it is the
last; without one the ladder goes down until a rung costs more accuracy than allowed, and that rung is undone. Each
stage is stored in the run, so a killed run goes on where it was.
"""

import copy
import shutil
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from math import ceil, log
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from swiftlet.budget import LIMITS, Budget
from swiftlet.check import measured_cost
from swiftlet.compress.post_training import quantize_best
from swiftlet.compress.prune import prune_channels, prune_to
from swiftlet.compress.qat import finished, prepare_qat
from swiftlet.compress.record import Record
from swiftlet.compress.replay import replay
from swiftlet.cost.count import count_model
from swiftlet.data.photos import Photos
from swiftlet.errors import Infeasible, NothingToDo
from swiftlet.export.artifact import Artifact
from swiftlet.export.onnx import contract_grid
from swiftlet.files import write_atomically
from swiftlet.gate import CALIBRATION, Integer, gate
from swiftlet.pack.onnx import pack_onnx
from swiftlet.plan import METADATA_BYTES, Progress, untrained_files
from swiftlet.recipes.choose import choose, looks_grey
from swiftlet.run import Run
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.shrinking.source import Source
from swiftlet.signals import Terminated, interruptible, stoppable
from swiftlet.train.augment import canvas
from swiftlet.train.checkpoint import Checkpoints, load_checkpoint, save_checkpoint
from swiftlet.train.distill import Teacher
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.metrics import Metrics
from swiftlet.train.recipe import Recipe

NARROWER, MOST_RUNGS = 0.6, 6  # of the multiply-adds, from one rung to the next
SPARE, MARGIN = 3, 0.9  # rungs that follow should a file be larger or slower than an untrained one was, and their step
GRID = tuple(round(0.95 - 0.05 * i, 2) for i in range(18))  # shares of channels that are tried for what fits
ROUND_TO = 8  # channels: what runtimes pad to at least
TAYLOR_BATCHES, BATCH = 8, 64
PROBE = 6  # steps that are timed to see how many a rung's time holds
TAUGHT, QUANTIZED = 0.6, 0.25  # shares of a rung's time that go to steps, and to those of QAT if it comes to that
QUICK_SECONDS = 0.1


@dataclass
class Ladder:
    """One run's inputs, and the stages that they lead to."""

    run: Run
    source: Source
    photos: Photos
    budget: Budget
    minutes: float
    seed: int
    progress: Progress

    # --- down the ladder --------------------------------------------------------------------------------------------

    def descend(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Each rung's stage, what was done for it, and its offer; the last one may be there only to be undone."""
        for name, what in self._stages():
            offer = self.offer(name)
            yield name, what, offer
            out_of_time = self.run.seconds > self.minutes * 60  # on the way to a budget there is no stopping half-way
            if holding(offer) is None or (offer["chosen"] if self._limited else out_of_time):
                return

    def _stages(self) -> Iterator[tuple[str, str]]:
        """Networks that are ready to be offered, each narrower than the one before."""
        yield "parent", "as it came"
        before = "parent"
        for i, limit in enumerate(self.limits, start=1):
            name = f"narrow-{i}"
            if not self._narrow(name, before, limit):
                return
            yield name, f"pruned to {100 * limit / self._whole:.0f} %"
            before = name

    @property
    def _limited(self) -> bool:
        return any(getattr(self.budget, name) is not None for name in LIMITS)

    # --- how far ------------------------------------------------------------------------------------------------------

    @cached_property
    def limits(self) -> list[int]:
        """Multiply-adds of the rungs below the first."""
        return list(self.run.once("limits", lambda: {"macs": self._find_limits()})["macs"])

    @cached_property
    def _whole(self) -> int:
        return macs(self.source.model, self.shape)

    def _find_limits(self) -> list[int]:
        """Decided by what fits with the weights as they are: bytes and milliseconds do not depend on them."""
        if not self._limited:
            return [round(self._whole * NARROWER**i) for i in range(1, MOST_RUNGS + 1)]
        share = self._share_that_fits()
        rungs = max(1, min(MOST_RUNGS, ceil(log(share) / log(NARROWER))))
        shares = [share ** (i / rungs) for i in range(1, rungs + 1)] + [share * MARGIN**i for i in range(1, SPARE + 1)]
        return [round(self._whole * part) for part in shares]

    def _share_that_fits(self) -> float:
        """The largest share of the multiply-adds, by the grid. Raises Infeasible."""
        graded = self._with_gradients(self.source.model)
        for keep in GRID:
            self.progress(f"looking for what fits, {100 * keep:.0f} % of the channels", 0, 0)
            try:
                narrow = self._pruned(graded, keep=keep)[0]
            except NothingToDo:
                continue
            if any(self._fits(file) for file in untrained_files(narrow, self.source.contract).values()):
                return macs(narrow, self.shape) / self._whole
        raise Infeasible(
            f"{self.source.network}: even {100 * GRID[-1]:.0f} % of its channels are not within {self.budget}; "
            "start from a smaller network"
        )

    def _fits(self, file: bytes) -> bool:
        runtime, threads = self.budget.runtime or "onnxruntime", self.budget.threads
        contestant = Contestant("", get_runtime(runtime).load(file, threads), runtime, threads)
        cost = measured_cost(file, race([contestant], seconds=QUICK_SECONDS, batch=self.budget.batch)[0])
        return not self.budget.over(replace(cost, size_bytes=len(file) + METADATA_BYTES))

    # --- pruning ----------------------------------------------------------------------------------------------------

    def _narrow(self, name: str, before: str, limit: int) -> bool:
        """Prune the network of the stage before, teach it, keep it. False if it cannot be pruned so far."""
        if self.run.stored(name) is not None:
            return True
        self.progress(f"pruning to {limit / 1e6:.2f} M multiply-adds", 0, 0)
        network, records = self.network(before)
        try:
            measure = partial(macs, shape=self.shape)
            narrow, record = self._pruned(self._with_gradients(network), measure=measure, limit=limit)
        except (NothingToDo, Infeasible):
            return False
        self._teach(name, narrow, TAUGHT, f"teaching {limit / 1e6:.2f} M multiply-adds")
        stored = [{"name": r.name, "arguments": r.arguments} for r in (*records, record)]
        self.run.once(name, lambda: {"records": stored})
        return True

    def _pruned(self, graded: nn.Module, **goal: Any) -> tuple[fx.GraphModule, Record]:
        """By the first-order change of the loss; to multiples of ROUND_TO channels where there are as many."""
        prune = partial(prune_channels if "keep" in goal else prune_to, graded, self.shape)
        try:
            return prune(importance="taylor", scope="global", round_to=ROUND_TO, **goal)
        except (NothingToDo, Infeasible):
            return prune(importance="taylor", scope="global", **goal)

    def _with_gradients(self, model: nn.Module) -> nn.Module:
        """A copy with the gradients of the loss over some training pictures."""
        graded = copy.deepcopy(model).eval().requires_grad_(True)
        pixels, labels = self._some_training
        for start in range(0, len(labels), BATCH):
            images = torch.from_numpy(self.source.contract.normalise(pixels[start : start + BATCH]))
            loss = F.cross_entropy(graded(images), torch.tensor(labels[start : start + BATCH]))
            loss.backward()  # type: ignore[no-untyped-call]
        return graded

    @cached_property
    def _some_training(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        some = np.random.default_rng(self.seed).permutation(len(self.photos.train))[: BATCH * TAYLOR_BATCHES]
        split = self.photos.train.subset(some)
        return split.pixels(self.source.contract), split.labels

    # --- the network of a stage ---------------------------------------------------------------------------------------

    def network(self, name: str) -> tuple[nn.Module, tuple[Record, ...]]:
        """In eval mode, and what was done to the one that came in."""
        if name == "parent":
            return self.source.model, ()
        records = tuple(Record(**record) for record in (self.run.stored(name) or {})["records"])
        network = replay(self.source.model, records)
        network.load_state_dict(load_checkpoint(self.path(f"{name}.safetensors"))[0])
        return network.eval(), records

    def path(self, name: str) -> Path:
        folder = self.run.folder / "train"
        folder.mkdir(exist_ok=True)
        return folder / name

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.source.contract.side, self.source.contract.side

    # --- training -----------------------------------------------------------------------------------------------------

    @cached_property
    def _pictures(self) -> Pictures:
        contract = canvas(self.source.contract, self.photos.audit.median_short_side)
        return Pictures(
            self.photos.train.pixels(contract, quick=True, progress=self.progress), self.photos.train.labels
        )

    @cached_property
    def _recipe(self) -> Recipe:
        side, grey = self.photos.audit.median_short_side, looks_grey(self.photos)
        return choose(grey=grey, pictures=len(self.photos.train), side=side, minutes=self.minutes, pretrained=True)[0]

    def _training(self, model: nn.Module, steps: int, seed: int) -> Training:
        teacher = Teacher(copy.deepcopy(self.source.model), self.source.contract)
        return Training(
            model, self._pictures, self.source.contract, self._recipe, steps=steps, seed=seed, teacher=teacher
        )

    def _steps(self, model: nn.Module, share: float) -> int:
        """As many as there is time for in `share` of a rung's part of the minutes."""
        self.progress("timing training steps", 0, 0)
        marks: list[float] = []
        self._training(copy.deepcopy(model), PROBE, 0).run(progress=lambda *_: marks.append(time.perf_counter()))
        rungs = len(self.limits) - SPARE if self._limited else MOST_RUNGS // 2
        return max(1, int(share * self.minutes * 60 / rungs / float(np.median(np.diff(marks)))))

    def _teach(self, name: str, model: nn.Module, share: float, what: str) -> None:
        """In place, by the network that came in, into train/NAME.safetensors; a killed one goes on."""
        if not self.path(f"{name}.safetensors").exists():
            steps = self.run.once(f"{name}.steps", lambda: {"steps": self._steps(model, share)})["steps"]
            training = self._training(model, steps, zlib.crc32(f"{self.seed} {name}".encode()))

            def show(step: int, total: int, loss: float) -> None:
                self.progress(f"{what}, loss {loss:.2f}", step, total)
                self.run.tick()

            checkpoints, metrics = Checkpoints(self.path(f"{name}.part")), Metrics(self.path(f"{name}.jsonl"))
            with stoppable() as terminated, interruptible() as interrupted:
                stop = lambda: terminated() or interrupted()  # noqa: E731
                if not training.run(checkpoints=checkpoints, metrics=metrics, should_stop=stop, progress=show):
                    raise Terminated if terminated() else KeyboardInterrupt
            save_checkpoint(self.path(f"{name}.safetensors"), training.delivered(), {"steps": steps})
        model.load_state_dict(load_checkpoint(self.path(f"{name}.safetensors"))[0])
        model.eval()
        shutil.rmtree(self.path(f"{name}.part"), ignore_errors=True)

    # --- files --------------------------------------------------------------------------------------------------------

    def offer(self, name: str) -> dict[str, Any]:
        """What the gate says of a stage's files, which lie in train/."""
        return self.run.once(f"{name}.offer", lambda: self._offer(name))

    def _offer(self, name: str) -> dict[str, Any]:
        began = self.run.seconds
        network, records = self.network(name)
        draft = Artifact(
            network=self.source.network,
            arguments=self.source.arguments,
            precision="float32",
            labels=self.photos.classes,
            contract=self.source.contract,
            golden={},
            parents={"photos": self.photos.audit.digest, "network": self.source.digest},
            records=records,
            weights=self.source.weights,
        )
        self.progress("quantizing and checking", 0, 0)
        reference = None if name == "parent" else self.offer("parent")["options"]["float32"]["accuracy"]
        passed = gate(
            network,
            draft,
            self.budget,
            calibration=self.calibration,
            val=self.photos.val,
            val_pixels=self._val_pixels,
            reference=reference,
            better=(self._calibrated_best, partial(self._trained, f"{name}.qat")),
        )
        options = {}
        for precision, option in passed.options.items():
            write_atomically(self.path(f"{name}.{precision}.onnx"), option.file)
            options[precision] = {
                "accuracy": option.scored.accuracy,
                "cost": asdict(option.cost),
                "packed_bytes": len(pack_onnx(option.file)),
                "how": [record.name for record in option.artifact.records],
                "faults": list(option.faults),
                "over": option.over,
            }
        return {"chosen": passed.chosen, "options": options, "seconds": self.run.seconds - began}

    @cached_property
    def calibration(self) -> npt.NDArray[np.uint8]:
        some = np.random.default_rng(self.seed).permutation(len(self.photos.train))[:CALIBRATION]
        return self.photos.train.subset(some).pixels(self.source.contract)

    @cached_property
    def _val_pixels(self) -> npt.NDArray[np.uint8]:
        return self.photos.val.pixels(self.source.contract, progress=self.progress)

    @property
    def _grid(self) -> dict[str, Any]:
        scale, zero_point = contract_grid(self.source.contract) or (None, None)
        return {"input_scale": scale, "input_zero_point": zero_point}

    @cached_property
    def _images(self) -> list[torch.Tensor]:
        images = torch.from_numpy(self.source.contract.normalise(self.calibration))
        return list(images.split(BATCH))  # type: ignore[no-untyped-call]

    def _calibrated_best(self, plain: fx.GraphModule) -> Integer:
        self.progress("int8 loses too much: trying all ways to calibrate and round", 0, 0)
        integer, record = quantize_best(plain, self._images, **self._grid)
        return integer, (record,)

    def _trained(self, name: str, plain: fx.GraphModule) -> Integer:
        network, prepared = prepare_qat(plain, self._images, **self._grid)
        self._teach(name, network, QUANTIZED, "int8 still loses too much: training with its rounding")
        integer, record = finished(network)
        return integer, (prepared, record)


def holding(offer: dict[str, Any]) -> str | None:
    """The precision that holds the accuracy, int8 first, whether it is within the budget or not."""
    if offer["chosen"]:
        return str(offer["chosen"])
    return next((p for p in ("int8", "float32") if not offer["options"][p]["faults"]), None)


def macs(model: nn.Module, shape: tuple[int, int, int]) -> int:
    counted = count_model(model, shape).cost.macs
    assert counted is not None
    return counted
