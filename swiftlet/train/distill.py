"""Knowledge distillation: a trained network's answers beside the labels, and its maps as hints.

Answers: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2.
Hints: Romero et al., "FitNets" (2015), section 2.2; here they go along with the whole training, where the paper trains
the student up to its hint first.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.train.distributed import ALONE, Ranks
from swiftlet.train.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network and the pixels that it sees. It stays as it is, but is set to evaluation and channels-last.

    hints: pairs of module paths, in the student and in the teacher, whose outputs (B, C, H, W) should agree;
    hint_weight: of their loss, which is added to that of answers and labels.
    """

    network: nn.Module
    contract: InputContract
    hints: tuple[tuple[str, str], ...] = ()
    hint_weight: float = 1.0


class Distillation(nn.Module):
    """What a student learns from a teacher. Its parameters are the hints' 1x1 regressors, which train along.

    Raises BadInput if the teacher would have no say, or a hint names no module or one that gives no maps.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        student: nn.Module,
        contract: InputContract,
        teacher: Teacher,
        recipe: Recipe,
        *,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__()
        if ranks.world > 1 and teacher.hints:
            raise BadInput("hints: several processes would each train regressors of their own; teach by answers alone")
        if not recipe.teacher_weight and not teacher.hints:
            raise BadInput(f"Recipe {recipe.name!r}: teacher_weight is 0, and the teacher gives no hints")
        self.teacher, self.weight, self.temperature = teacher, recipe.teacher_weight, recipe.temperature
        teacher.network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        theirs = teacher.contract
        mean, std, their_mean, their_std = map(torch.tensor, (contract.mean, contract.std, theirs.mean, theirs.std))
        self.register_buffer("scale", (std / their_std).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", ((mean - their_mean) / their_std).view(3, 1, 1), persistent=False)
        self.regressors = nn.ModuleList()
        if teacher.hints:
            ours, paths = zip(*teacher.hints, strict=True)
            channels = zip(
                _channels("student", student, ours, contract.side),
                _channels("teacher", teacher.network, paths, theirs.side),
                strict=True,
            )
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.regressors.extend(nn.Conv2d(a, b, 1, bias=False) for a, b in channels)
        self.digest = _digest(teacher)

    @contextmanager
    def watching(self, student: nn.Module) -> Iterator[None]:
        """The student's forward pass belongs inside: its maps are kept for the loss."""
        with _outputs(student, [ours for ours, _ in self.teacher.hints]) as self._maps:
            yield

    def loss(self, images: Tensor, logits: Tensor, label_loss: Tensor) -> Tensor:
        """(1 - weight) label_loss + weight T^2 KL(teacher's answers || student's, both at temperature T) + hints.

        images (B, 3, S, S) as the student saw them, logits (B, K). Raises BadInput if the teacher has other classes.
        """
        with (
            torch.no_grad(),
            _outputs(self.teacher.network, [theirs for _, theirs in self.teacher.hints]) as their_maps,
        ):
            answers = self.teacher.network(self.view(images))
        if answers.shape != logits.shape:
            raise BadInput(f"the teacher gives {list(answers.shape)} scores, the student {list(logits.shape)}")
        t = self.temperature
        soft = [F.log_softmax(scores.float() / t, 1) for scores in (logits, answers)]
        distance = F.kl_div(soft[0], soft[1], reduction="batchmean", log_target=True)
        loss = (1 - self.weight) * label_loss + self.weight * t**2 * distance
        for regressor, (ours, theirs) in zip(self.regressors, self.teacher.hints, strict=True):
            share = self.teacher.hint_weight / len(self.regressors)
            loss = loss + share * hint_loss(regressor(self._maps[ours]), their_maps[theirs])
        return loss

    def view(self, images: Tensor) -> Tensor:
        """The student's normalised pictures, normalised as the teacher's contract says and at its side."""
        side = self.teacher.contract.side
        if images.shape[-1] != side:
            smaller = side < images.shape[-1]
            images = F.interpolate(images, size=(side, side), mode="bilinear", antialias=smaller)
        return torch.addcmul(self.shift, images, self.scale).contiguous(memory_format=torch.channels_last)


def hint_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Mean squared error of maps (B, C, H, W), each picture's brought to mean 0 and variance 1: 2 - 2 x correlation.

    So neither side's scale matters. Theirs may have another height and width; they are resampled to ours.
    """
    if theirs.shape[2:] != ours.shape[2:]:
        theirs = F.interpolate(theirs, size=ours.shape[2:], mode="bilinear", antialias=True)
    ours, theirs = ours.float(), theirs.float()
    return F.mse_loss(F.layer_norm(ours, ours.shape[1:]), F.layer_norm(theirs, theirs.shape[1:]))


@contextmanager
def _outputs(network: nn.Module, paths: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """What these modules give, by path, as of the last forward pass inside."""
    found: dict[str, Tensor] = {}
    handles = []
    for path in paths:

        def keep(module: nn.Module, inputs: object, output: Tensor, path: str = path) -> None:
            found[path] = output

        handles.append(network.get_submodule(path).register_forward_hook(keep))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _channels(who: str, network: nn.Module, paths: Iterable[str], side: int) -> list[int]:
    """How many maps the modules give. Raises BadInput."""
    modules = dict(network.named_modules())
    for path in paths:
        if path not in modules:
            raise BadInput(f"hint: the {who} has no module {path!r}")
    was_training = network.training
    device = next(network.parameters()).device
    with torch.no_grad(), _outputs(network.eval(), paths) as found:
        network(torch.zeros(1, 3, side, side, device=device))
    network.train(was_training)
    for path in paths:
        if path not in found or not isinstance(found[path], Tensor) or found[path].ndim != 4:
            raise BadInput(f"hint: {path!r} of the {who} gives no maps (B, C, H, W)")
    return [found[path].shape[1] for path in paths]


def _digest(teacher: Teacher) -> str:
    """Of all that decides what the teacher says, to know the run by."""
    found = hashlib.sha256(repr((teacher.contract, teacher.hints, teacher.hint_weight)).encode())
    for name, tensor in teacher.network.state_dict().items():
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
