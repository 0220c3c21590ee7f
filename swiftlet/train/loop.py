"""The training loop: one step path, every random choice a function of (seed, epoch, picture), resumable to the bit."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile
from swiftlet.train.augment import augment
from swiftlet.train.averages import Average
from swiftlet.train.checkpoint import load_checkpoint, save_checkpoint
from swiftlet.train.draws import keys, shuffled
from swiftlet.train.optimizers import load_state_tensors, make_optimizer, state_tensors
from swiftlet.train.recipe import Recipe
from swiftlet.train.schedules import rate

SAVE_SECONDS = 10.0
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
    saved and loaded in between.
    """

    def __init__(
        self, model: nn.Module, pictures: Pictures, contract: InputContract, recipe: Recipe, *, steps: int, seed: int
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pictures, self.contract, self.recipe, self.steps, self.seed = pictures, contract, recipe, steps, seed
        self.canvas = replace(contract, side=pictures.pixels.shape[1])
        self.step = 0
        self.average = Average(model, recipe.ema * steps)
        self.optimizer = make_optimizer(model, recipe)

    @property
    def per_epoch(self) -> int:
        """Steps in an epoch; the pictures that do not fill a last batch are left to other epochs."""
        n = len(self.pictures.labels)
        return n // min(self.recipe.batch, n)

    def run(
        self,
        *,
        checkpoint: Path | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        progress: Progress | None = None,
    ) -> bool:
        """Train to the end, or until should_stop() says so between two steps. Returns True if the end was reached.

        With `checkpoint`, starts where that file stands, if it exists, and saves there every SAVE_SECONDS and on stop.
        """
        if checkpoint is not None and checkpoint.exists():
            self.load(checkpoint)
        saved = time.monotonic()
        self.model.train()
        while self.step < self.steps:
            if should_stop():
                break
            loss = self._step()
            if progress is not None:
                progress(self.step, self.steps, loss)
            if checkpoint is not None and time.monotonic() - saved > SAVE_SECONDS:
                self.save(checkpoint)
                saved = time.monotonic()
        if checkpoint is not None:
            self.save(checkpoint)
        return self.step == self.steps

    def _step(self) -> float:
        recipe = self.recipe
        images, labels = self._batch()
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * rate(recipe, self.step, self.steps, self.per_epoch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + self.step)  # dropout knows only the global generator
            logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update(self.model, self.step)
        self.step += 1
        return loss.item()

    def _order(self) -> tuple[int, npt.NDArray[np.int64]]:
        """The epoch, and the pictures of this step: an epoch is a permutation drawn from (seed, epoch), so the
        position in it is all that there is to remember."""
        n = len(self.pictures.labels)
        size = min(self.recipe.batch, n)
        epoch, place = divmod(self.step, self.per_epoch)
        return epoch, shuffled(np.arange(place * size, (place + 1) * size), n, self.seed, epoch)

    def _batch(self) -> tuple[Tensor, Tensor]:
        epoch, order = self._order()
        pixels = torch.from_numpy(self.canvas.normalise(self.pictures.pixels[order]))
        images = augment(pixels, self.recipe, self.contract.side, keys(self.seed, epoch, order))
        return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(self.pictures.labels[order])

    def averaged(self) -> dict[str, Tensor]:
        """State dict of the averaged network."""
        return self.average.tensors()

    def save(self, path: Path) -> None:
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"average.{name}": t for name, t in self.average.state.items()}
        tensors |= {f"optimizer.{name}": t for name, t in state_tensors(self.optimizer, self.model).items()}
        save_checkpoint(path, tensors, {"step": self.step, **self._fingerprint()})

    def load(self, path: Path) -> None:
        """Continue from a saved position. Raises BadFile if it belongs to another run."""
        tensors, facts = load_checkpoint(path)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.get(part, {})[rest] = tensor
        for key, value in self._fingerprint().items():
            if key in facts and facts[key] != value:
                raise BadFile(f"{path}: was saved with {key}={facts[key]!r}, this run has {value!r}; delete it")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        foreign = {name.rpartition("/")[0] for name in parts["optimizer"]} - shapes.keys()
        if foreign or any({n: t.shape for n, t in parts[part].items()} != shapes for part in ("model", "average")):
            raise BadFile(f"{path}: was saved with another network; delete it")
        if not isinstance(facts.get("step"), int):
            raise BadFile(f"{path}: does not say at which step it was saved; delete it")
        self.model.load_state_dict(parts["model"])
        self.average.state = parts["average"]
        load_state_tensors(self.optimizer, self.model, parts["optimizer"])
        self.step = facts["step"]

    def _fingerprint(self) -> dict[str, object]:
        shape = list(self.pictures.pixels.shape)
        return {"recipe": self.recipe.to_json(), "steps": self.steps, "seed": self.seed, "pictures": shape}


def accuracy(model: nn.Module, pixels: np.ndarray, labels: np.ndarray, contract: InputContract) -> float:
    """Share of pictures whose highest logit is right, in eval mode. pixels uint8 (N, side, side, 3)."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(labels), 256):
            images = torch.from_numpy(contract.normalise(pixels[start : start + 256]))
            predicted = model(images.contiguous(memory_format=torch.channels_last)).argmax(1).numpy()
            right += int((predicted == labels[start : start + 256]).sum())
    return right / max(1, len(labels))
