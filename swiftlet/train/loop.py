"""The training loop: one step path, every random choice a function of (seed, epoch, picture), resumable to the bit."""

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.compress.batchnorm import recalibrate
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.train.augment import augment, normalised, refuse_other_sides, side_at
from swiftlet.train.averages import Average
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distill import Distillation, Teacher
from swiftlet.train.distributed import ALONE, Ranks
from swiftlet.train.draws import keys, shuffled
from swiftlet.train.dropout import set_dropout
from swiftlet.train.engine import DEFAULT, Engine
from swiftlet.train.metrics import Metrics
from swiftlet.train.mix import Mixed, erase, mix
from swiftlet.train.optimizers import load_state_tensors, make_optimizer, state_tensors
from swiftlet.train.recipe import Recipe
from swiftlet.train.schedules import rate

SAVE_SECONDS = 10.0  # between two checkpoints, and more where saving one takes so long that it would cost more than
SAVE_SHARE = 0.02  # this share of the time
RECALIBRATION = 16  # batches from which the delivered network's BatchNorm statistics come, and by which they are chosen
CLEARLY = 0.9  # of the loss with averaged statistics
Progress = Callable[[int, int, float], None]  # step, steps, loss


@dataclass(frozen=True)
class Pictures:
    """Training pictures in memory: pixels uint8 (N, S, S, 3), labels int64 (N,).

    S is the network's side or somewhat more, so that a random crop still has the pixels that the network could see.
    """

    pixels: np.ndarray
    labels: np.ndarray


class Training:
    """A network, its averaged copy, its optimizer and its position in a run of `steps` steps.

    The model is trained in place, channels-last; `average` holds the average of parameters and BatchNorm statistics,
    which is what gets evaluated. The same arguments give the same bits on the same machine, however often the run was
    saved and loaded in between. Each of `ranks` takes its contiguous part of every batch, and that in `accumulate`
    pieces of equal size, one after the other. Raises BadInput if the batch does not divide so.
    """

    def __init__(
        self,
        model: nn.Module,
        pictures: Pictures,
        contract: InputContract,
        recipe: Recipe,
        *,
        steps: int,
        seed: int,
        ranks: Ranks = ALONE,
        accumulate: int = 1,
        engine: Engine = DEFAULT,
        teacher: Teacher | None = None,
    ) -> None:
        if engine.compiled and teacher is not None:
            raise BadInput("Training: a compiled network shows its maps to no teacher; take an uncompiled engine")
        self.pictures, self.contract, self.recipe, self.steps, self.seed = pictures, contract, recipe, steps, seed
        refuse_other_sides(model, recipe, contract.side, steps)
        self.ranks, self.accumulate = ranks, accumulate
        mixes = recipe.mixup > 0 or recipe.cutmix > 0
        ranks.check_batch(min(recipe.batch, len(pictures.labels)), accumulate, pairs=mixes)
        set_dropout(model, recipe)
        self.distillation = (
            None if teacher is None else Distillation(model, contract, teacher, recipe, seed=seed, ranks=ranks)
        )
        self.engine = engine.safe_for(model)
        self.model = self.engine.place(model)
        if self.distillation and teacher:
            self.distillation.to(engine.device)
            teacher.network.to(engine.device)
        self.network = ranks.parallel(engine.forward(self.model), warmup=round(recipe.warmup * steps))
        self.step = 0
        self.average = Average(model, recipe.ema * steps)
        self.loss = math.nan  # of the last step whose loss was read
        self._unread: list[tuple[int, float, Tensor]] = []  # step, learning rate, loss
        taught = [model, self.distillation] if self.distillation else [model]
        self.optimizer = make_optimizer(nn.ModuleList(taught), recipe)

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch; the pictures that do not fill a last batch are left to other epochs."""
        n = len(self.pictures.labels)
        return n // min(self.recipe.batch, n)

    def run(
        self,
        *,
        checkpoints: Checkpoints | None = None,
        metrics: Metrics | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Progress | None = None,
    ) -> bool:
        """Train to the end, or until should_stop() says so between two steps. Returns True if the end was reached.

        With `checkpoints`, claims them, starts where the newest stands, if there is one, and saves now and then and on
        stop, so that saving takes at most SAVE_SHARE of the time; what it says in `metrics` goes on from there too.
        Raises BadFile for checkpoints of another run, and CannotSave if one cannot be written: training that could be
        lost stops at once. With several ranks only rank 0 has checkpoints and metrics, one that is asked to stop stops
        all, and the loss of one raises WorkerLost.
        """
        with self.ranks.watched(lambda: f"step {self.step}"), self.engine.running():
            return self._run(checkpoints, metrics, should_stop, progress)

    def _run(
        self,
        checkpoints: Checkpoints | None,
        metrics: Metrics | None,
        should_stop: Callable[[], bool],
        progress: Progress | None,
    ) -> bool:
        found = None
        if checkpoints is not None:
            checkpoints.claim()
            found = checkpoints.latest()
        found = self.ranks.share(found)
        if found is not None:
            self.restore(*found, checkpoints.folder if checkpoints else Path("the checkpoint of rank 0"))
        if metrics is not None:
            metrics.resume(found[1].get("metrics") if found else None)

        def save() -> float:
            """The time of the next one."""
            self._read(metrics)
            if checkpoints is None:
                return math.inf
            began = time.monotonic()
            tensors, facts = self.state()
            checkpoints.save(self.step, tensors, facts | ({"metrics": metrics.state()} if metrics else {}))
            now = time.monotonic()
            return now + max(SAVE_SECONDS, (now - began) / SAVE_SHARE)

        due = time.monotonic() + SAVE_SECONDS
        self.model.train()
        if self.ranks.world > 1 and self.step < self.steps:
            self._settle()
        while self.step < self.steps:
            if self.ranks.mean(should_stop()) > 0:
                break
            loss = self.advance()
            self._unread.append((self.step, self.optimizer.param_groups[0]["lr"], loss))
            if self.step % self.engine.read_every == 0 or self.step == self.steps or math.isnan(self.loss):
                self._read(metrics)
            if progress is not None:
                progress(self.step, self.steps, self.loss)
            if time.monotonic() > due and not self._unread:  # reading is for all ranks, the time for one
                due = save()
        save()
        return self.step == self.steps

    def _read(self, metrics: Metrics | None) -> None:
        """Read and log the losses of the steps made since; this waits for the device."""
        losses = torch.stack([loss for _, _, loss in self._unread]).tolist() if self._unread else []
        for (step, lr, _), loss in zip(self._unread, losses, strict=True):
            self.loss = self.ranks.mean(loss)
            if metrics is not None:
                metrics.add(
                    step,
                    epoch=(step - 1) // self.per_epoch,
                    loss=self.loss,
                    lr=lr,
                    pictures=min(self.recipe.batch, len(self.pictures.labels)),
                    last=step == self.steps,
                )
        self._unread = []

    def advance(self) -> Tensor:
        """Make one step. Gives the loss before it, (), which the device may not have computed yet."""
        recipe = self.recipe
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * rate(recipe, self.step, self.steps, self.per_epoch)
        self.optimizer.zero_grad()
        loss = self._gradients()
        if self.recipe.clip:
            nn.utils.clip_grad_norm_((p for group in self.optimizer.param_groups for p in group["params"]), recipe.clip)
        self.optimizer.step()
        self.average.update(self.model, self.step)
        self.step += 1
        return loss

    def _gradients(self) -> Tensor:
        """Of the mean loss of the batch, in p.grad; gives that loss over this rank's part."""
        epoch, order = self._order()
        parts = np.split(order[self.ranks.part(len(order))], self.accumulate)
        total = torch.zeros((), device=self.engine.device)
        for i, part in enumerate(parts):
            batch = self._batch(epoch, part)
            seed = self.seed * 1_000_003 + self.step + 1_000_000_007 * (self.ranks.rank * self.accumulate + i)
            last = i == len(parts) - 1
            apart = nullcontext() if last else self.ranks.apart(self.network)
            with torch.random.fork_rng(devices=self.engine.generators), apart:
                torch.manual_seed(seed)  # dropout knows only the global generators
                with self.engine.autocast():
                    loss = self._loss(batch) / len(parts)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, batch: Mixed) -> Tensor:
        """Mean over a batch: against its labels, and against the teacher if there is one."""
        smoothing = self.recipe.label_smoothing
        if self.distillation is None:
            return batch.loss(self.network(batch.images).float(), smoothing)
        with self.distillation.watching(self.model):
            logits = self.network(batch.images).float()
        return self.distillation.loss(batch.images, logits, batch.loss(logits, smoothing))

    def _settle(self) -> None:
        """DistributedDataParallel lays out its buckets anew after its first backward pass, and sums depend on them.

        So each process makes one for nothing, and one that was stopped adds up in the same order as one that was not.
        """
        before = [buffer.clone() for buffer in self.model.buffers()]
        self._gradients()
        self.optimizer.zero_grad()
        for buffer, value in zip(self.model.buffers(), before, strict=True):
            buffer.copy_(value)

    def _order(self) -> tuple[int, npt.NDArray[np.int64]]:
        """The epoch, and the pictures of this step: an epoch is a permutation drawn from (seed, epoch), so the
        position in it is all that there is to remember."""
        n = len(self.pictures.labels)
        size = min(self.recipe.batch, n)
        epoch, place = divmod(self.step, self.per_epoch)
        return epoch, shuffled(np.arange(place * size, (place + 1) * size), n, self.seed, epoch)

    def next_batch(self) -> Mixed:
        """What the next step of one process takes, on the device."""
        return self._batch(*self._order())

    def _batch(self, epoch: int, order: npt.NDArray[np.int64]) -> Mixed:
        recipe, of = self.recipe, keys(self.seed, epoch, order)
        side = side_at(recipe, self.contract.side, self.step, self.steps)
        pixels, labels = self._pictures(order)
        images = erase(normalised(augment(pixels, recipe, side, of), self.contract), recipe, of)
        batch = mix(images, labels, recipe, of)
        return replace(batch, images=batch.images.contiguous(memory_format=self.engine.layout))

    def _pictures(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pixels and labels, on the device."""
        pixels, labels = (torch.from_numpy(of_all[order]) for of_all in (self.pictures.pixels, self.pictures.labels))
        return self.engine.move(pixels), self.engine.move(labels)

    def averaged(self) -> dict[str, Tensor]:
        """State dict of the averaged network."""
        return self.average.tensors()

    def delivered(self) -> dict[str, Tensor]:
        """State dict of the network to deliver: the averaged one, with the averaged statistics of BatchNorm, or with
        its own, see recalibrate(), where these lower the loss over plain training pictures clearly.

        That is so in runs that are short or were stopped early: the averaged ones lag behind the weights. At the end of
        a long run both are as good, and the averaged ones better by a hair. The views for its own are augmented and not
        mixed, as most that it was trained on. With sync-BN all ranks must call this.
        """
        network: nn.Module = deepcopy(self.model)
        network.load_state_dict(self.averaged())
        before = self._plain_loss(network)
        recalibrate(network, (self._view(self.steps, order) for order in self._some(self.steps)))
        clearly = not before * CLEARLY <= self._plain_loss(network)  # also where the loss before was no number
        return dict(network.state_dict()) if clearly else self.averaged()

    def _some(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """The first batches of an epoch."""
        n = len(self.pictures.labels)
        size = min(self.recipe.batch, n)
        count = min(RECALIBRATION, n // size)
        return np.split(shuffled(np.arange(count * size), n, self.seed, epoch), count)

    def _view(self, epoch: int, order: npt.NDArray[np.int64]) -> Tensor:
        """Augmented pictures of the network's own side."""
        images = augment(self._pictures(order)[0], self.recipe, self.contract.side, keys(self.seed, epoch, order))
        return normalised(images, self.contract).contiguous(memory_format=self.engine.layout)

    def _plain_loss(self, network: nn.Module) -> float:
        """Over some of the training pictures, in eval mode, as evaluation shows them but for the resampling."""
        losses, side = [], self.contract.side
        with torch.no_grad():
            network.eval()
            for order in self._some(self.steps + 1):
                pixels, labels = self._pictures(order)
                images = pixels.permute(0, 3, 1, 2).float()
                if images.shape[3] != side:
                    images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)
                images = normalised(images, self.contract).contiguous(memory_format=self.engine.layout)
                losses.append(F.cross_entropy(network(images), labels))
        return torch.stack(losses).mean().item()

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Tensors and facts from which restore() goes on."""
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state.items()}
        tensors |= {f"optimizer.{name}": t for name, t in state_tensors(self.optimizer, self.model).items()}
        if self.distillation:
            tensors |= {f"hints.{name}": t for name, t in self.distillation.state_dict().items()}
            of_hints = state_tensors(self.optimizer, self.distillation)
            tensors |= {f"hints_optimizer.{name}": t for name, t in of_hints.items()}
        return tensors, {"step": self.step, **self._fingerprint()}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any], where: Path) -> None:
        """Continue from a saved position. Raises BadFile, naming `where` it was, if it belongs to another run."""
        parts: dict[str, dict[str, Tensor]] = {
            part: {} for part in ("model", "average", "optimizer", "hints", "hints_optimizer")
        }
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.get(part, {})[rest] = tensor
        for key, value in self._fingerprint().items():
            if key in facts and facts[key] != value:
                raise BadFile(f"{where}: was saved with {key}={facts[key]!r}, this run has {value!r}; delete it")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        foreign = {name.rpartition("/")[0] for name in parts["optimizer"]} - shapes.keys()
        if foreign or any({n: t.shape for n, t in parts[part].items()} != shapes for part in ("model", "average")):
            raise BadFile(f"{where}: was saved with another network; delete it")
        if not isinstance(facts.get("step"), int):
            raise BadFile(f"{where}: does not say at which step it was saved; delete it")
        self.model.load_state_dict(parts["model"])
        self.average.state = {name: t.to(self.engine.device) for name, t in parts["average"].items()}
        load_state_tensors(self.optimizer, self.model, parts["optimizer"])
        if self.distillation:
            self.distillation.load_state_dict(parts["hints"])
            load_state_tensors(self.optimizer, self.distillation, parts["hints_optimizer"])
        self.step = facts["step"]

    def _fingerprint(self) -> dict[str, object]:
        shape = list(self.pictures.pixels.shape)
        teacher = self.distillation.digest if self.distillation else None
        facts = {"recipe": self.recipe.to_json(), "steps": self.steps, "seed": self.seed, "pictures": shape}
        return facts | {"teacher": teacher, "engine": self.engine.to_json()}


def accuracy(model: nn.Module, pixels: np.ndarray, labels: np.ndarray, contract: InputContract) -> float:
    """Share of pictures whose highest logit is right, in eval mode. pixels uint8 (N, side, side, 3)."""
    model.eval()
    right, device = 0, next((p.device for p in model.parameters()), torch.device("cpu"))
    with torch.inference_mode():
        for start in range(0, len(labels), 256):
            images = torch.from_numpy(contract.normalise(pixels[start : start + 256])).to(device)
            predicted = model(images.contiguous(memory_format=torch.channels_last)).argmax(1).cpu().numpy()
            right += int((predicted == labels[start : start + 256]).sum())
    return right / max(1, len(labels))
