"""The training loop: one step path, every random choice a function of (seed, step), resumable to the bit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile
from swiftlet.train.augment import augment
from swiftlet.train.checkpoint import load_checkpoint, save_checkpoint
from swiftlet.train.recipe import Recipe

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

    The model is trained in place, channels-last; `ema` holds the average of parameters and BatchNorm
    statistics, which is what gets evaluated. The same arguments give the same bits on the same machine, however
    often the run was saved and loaded in between.
    """

    def __init__(
        self, model: nn.Module, pictures: Pictures, contract: InputContract, recipe: Recipe, *, steps: int, seed: int
    ) -> None:
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pictures, self.contract, self.recipe, self.steps, self.seed = pictures, contract, recipe, steps, seed
        self.canvas = replace(contract, side=pictures.pixels.shape[1])
        self.step = 0
        self.ema = {name: t.detach().clone() for name, t in model.state_dict().items()}
        self.optimizer = torch.optim.SGD(
            parameter_groups(model, recipe.weight_decay), lr=recipe.lr, momentum=recipe.momentum, nesterov=True
        )

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
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.step)
        images, labels = self._batch(generator)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * schedule(self.step, self.steps, recipe.warmup)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed * 1_000_003 + self.step)  # dropout knows only the global generator
            logits = self.model(images)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self._average()
        self.step += 1
        return loss.item()

    def _batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The pictures of this step: epochs are permutations drawn from (seed, epoch), so position is the step."""
        n, size = len(self.pictures.labels), min(self.recipe.batch, len(self.pictures.labels))
        per_epoch = n // size
        epoch, place = divmod(self.step, per_epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(n)[place * size : (place + 1) * size]
        pixels = torch.from_numpy(self.canvas.normalise(self.pictures.pixels[order]))
        images = augment(pixels, self.recipe, self.contract.side, generator)
        return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(self.pictures.labels[order])

    def _average(self) -> None:
        horizon = max(1.0, self.recipe.ema_horizon * self.steps)
        keep = min(1 - 1 / horizon, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        floats = [name for name, t in state.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.ema[name] for name in floats], [state[name] for name in floats], 1 - keep)

    def averaged(self) -> dict[str, Tensor]:
        """State dict of the averaged network."""
        return {name: t.clone() for name, t in self.ema.items()}

    def save(self, path: Path) -> None:
        tensors = {f"model.{name}": t for name, t in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": t for name, t in self.ema.items()}
        names = {id(p): name for name, p in self.model.named_parameters()}
        for p, state in self.optimizer.state.items():
            tensors[f"momentum.{names[id(p)]}"] = state["momentum_buffer"]
        save_checkpoint(path, tensors, {"step": self.step, **self._fingerprint()})

    def load(self, path: Path) -> None:
        """Continue from a saved position. Raises BadFile if it belongs to another run."""
        tensors, facts = load_checkpoint(path)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "momentum": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts.get(part, {})[rest] = tensor
        for key, value in self._fingerprint().items():
            if key in facts and facts[key] != value:
                raise BadFile(f"{path}: was saved with {key}={facts[key]!r}, this run has {value!r}; delete it")
        shapes = {name: tensor.shape for name, tensor in self.model.state_dict().items()}
        if any({name: t.shape for name, t in parts[part].items()} != shapes for part in ("model", "ema")):
            raise BadFile(f"{path}: was saved with another network; delete it")
        if not isinstance(facts.get("step"), int):
            raise BadFile(f"{path}: does not say at which step it was saved; delete it")
        self.model.load_state_dict(parts["model"])
        self.ema = parts["ema"]
        for name, p in self.model.named_parameters():
            if name in parts["momentum"]:
                self.optimizer.state[p]["momentum_buffer"] = parts["momentum"][name]
        self.step = facts["step"]

    def _fingerprint(self) -> dict[str, object]:
        shape = list(self.pictures.pixels.shape)
        return {"recipe": self.recipe.to_json(), "steps": self.steps, "seed": self.seed, "pictures": shape}


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate: linear warm-up over the first `warmup` of the run, then a half cosine to 0."""
    up = max(1, round(warmup * steps))
    if step < up:
        return (step + 1) / up
    return 0.5 * (1 + math.cos(math.pi * (step - up) / max(1, steps - up)))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two optimizer groups: decayed weights; and BatchNorm, biases and depthwise weights, which are not decayed."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and module.weight.shape[1] == 1
            (spared if p.ndim == 1 or name == "bias" or depthwise else decayed).append(p)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


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
