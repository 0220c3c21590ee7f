"""Dense, pruned, shared: one network through the stages of Deep Compression, in the trainer that `fit` uses.

Where a recipe gives a teacher weight, the dense network teaches the pruned and the shared one.

What is scored should lie in the middle of what was trained on, not at its edge. So training pictures get a margin: a
crop can show a digit smaller than it is, or pushed to a side, and not larger only. And views are sharpened, since
bilinear resampling leaves them softer than the pictures that are scored.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from swiftlet.compress import share, sparsify
from swiftlet.data.contract import InputContract
from swiftlet.train.distill import Teacher
from swiftlet.train.loop import Pictures, Progress, Training, accuracy
from swiftlet.train.recipe import Recipe

SIDE = 28
MARGIN = 2  # black pixels on each side of a training picture
GAIN = 1.5  # MNIST's views then differ from pixel to pixel as much as its pictures: mean square 0.074, without it 0.049
Tensors = dict[str, npt.NDArray[np.float32]]
CONTRACT = InputContract(side=SIDE, mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))  # black is 0


class Grey(nn.Module):
    """The first channel: a grey picture has three equal ones. (B, 3, H, W) -> (B, 1, H, W)."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1]


class Sharper(nn.Module):
    """Contrast GAIN times as high about the middle grey, cut off at black and white. Any shape, 0 to 1."""

    def forward(self, images: Tensor) -> Tensor:
        return (GAIN * (images - 0.5) + 0.5).clamp(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """How one network is compressed. Epochs of each stage; density: of all weights, reached after the share `until` of
    the pruning epochs; bits: of each tensor's values, biases too."""

    dense: Recipe
    pruned: Recipe
    shared: Recipe
    epochs: tuple[float, float, float]
    density: float
    until: float
    bits: int


@dataclass(frozen=True, slots=True)
class Compressed:
    """The network's state after each stage, by name."""

    dense: Tensors
    pruned: Tensors
    shared: Tensors


def compress(
    network: nn.Module, pictures: Pictures, stages: Stages, *, seed: int, progress: Callable[[str], Progress]
) -> Compressed:
    """`network` takes one grey channel and is not changed. pictures: of SIDE."""
    per_epoch = len(pictures.labels) / min(stages.dense.batch, len(pictures.labels))
    steps = [max(1, round(epochs * per_epoch)) for epochs in stages.epochs]
    roomy = with_margin(pictures)

    def train(model: nn.Module, recipe: Recipe, count: int, hook: Progress, parent: nn.Module | None) -> nn.Module:
        teacher = None
        if parent is not None and recipe.teacher_weight:
            teacher = Teacher(nn.Sequential(Sharper(), parent), CONTRACT)
        seeing = nn.Sequential(Sharper(), model)
        Training(seeing, roomy, CONTRACT, recipe, steps=count, seed=seed, teacher=teacher).run(progress=hook)
        return model.eval()

    dense = train(_of_grey(network), stages.dense, steps[0], progress("dense"), None)
    pruning = sparsify.masked(dense)
    further = sparsify.Gradual(pruning, 1 - stages.density, scope="lamp", end=stages.until)
    shown = progress("pruning")

    def prune(step: int, count: int, loss: float) -> None:
        further(step, count, loss)
        shown(step, count, loss)

    pruned, _ = sparsify.finished(train(pruning, stages.pruned, steps[1], prune, dense))
    sharing, _ = share.share(pruned, {name: stages.bits for name, _ in pruned.named_parameters()})
    shared, _ = share.finished(train(sharing, stages.shared, steps[2], progress("sharing"), dense))
    return Compressed(_tensors(dense), _tensors(pruned), _tensors(shared))


def with_margin(pictures: Pictures) -> Pictures:
    """MARGIN black pixels more on each side."""
    around = ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0))
    return Pictures(np.pad(pictures.pixels, around), pictures.labels)


def error(network: nn.Module, tensors: Tensors, pictures: Pictures) -> float:
    """Per cent of the pictures that are taken for another class, with this state; the network is not changed."""
    model = _of_grey(network)
    model[1].load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    return 100 * (1 - accuracy(model, pictures.pixels, pictures.labels, CONTRACT))


def _of_grey(network: nn.Module) -> nn.Sequential:
    """A copy that takes pictures with three equal channels."""
    return nn.Sequential(Grey(), copy.deepcopy(network))


def _tensors(model: nn.Module) -> Tensors:
    """By their names in the network of one channel."""
    return {name.removeprefix("1."): t.contiguous().numpy() for name, t in model.state_dict().items()}
