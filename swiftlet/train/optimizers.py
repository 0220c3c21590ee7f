"""The optimizer of a recipe, and which parameters it decays."""

from typing import Any

import torch
from torch import Tensor, nn

from swiftlet.train.recipe import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Over all parameters of the model, in two groups: decayed and not."""
    groups = parameter_groups(model, recipe)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters that the recipe decays, and those that it spares: BatchNorm, biases, depthwise weights."""
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups > 1 and module.weight.shape[1] == 1
        for name, p in module.named_parameters(recurse=False):
            small = p.ndim == 1 or name == "bias"
            spare = recipe.decayed != "all" and (small or (depthwise and recipe.decayed == "dense"))
            (spared if spare else decayed).append(p)
    return [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": spared, "weight_decay": 0.0}]


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """What the optimizer remembers, as "PARAMETER/ENTRY" -> tensor, for a checkpoint."""
    found = {}
    for name, p in model.named_parameters():
        for entry, value in optimizer.state.get(p, {}).items():
            if value is not None:
                found[f"{name}/{entry}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return found


def load_state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what state_tensors gave."""
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        optimizer.state[parameters[name]][entry] = value
