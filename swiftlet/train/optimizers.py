"""The optimizer of a recipe, and which parameters it decays."""

from typing import Any

import torch
from torch import Tensor, nn

from swiftlet.train.recipe import Recipe
from swiftlet.train.rmsprop import RMSpropTF


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Over all parameters of the model, in two groups: decayed and not.

    SGD and RMSprop add the decay to the gradient; AdamW (Loshchilov and Hutter, 2019) takes it, times the learning
    rate, from the parameter.
    """
    groups = parameter_groups(model, recipe)
    if recipe.optimizer == "adamw":
        betas = (recipe.momentum, recipe.square_decay)
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=betas, eps=recipe.epsilon, fused=True)
    if recipe.optimizer == "rmsprop":
        return RMSpropTF(
            groups, lr=recipe.lr, momentum=recipe.momentum, square_decay=recipe.square_decay, epsilon=recipe.epsilon
        )
    nesterov = recipe.nesterov and recipe.momentum > 0  # without momentum there is nothing to look ahead with
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, fused=True)


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
    """Put back what state_tensors gave. Parameters outside the model keep what they have.

    On the parameters' device and in their layout in memory, which the fused steps rely on.
    """
    parameters = dict(model.named_parameters())
    for p in parameters.values():
        optimizer.state.pop(p, None)
    for key, value in tensors.items():
        name, _, entry = key.rpartition("/")
        p = parameters[name]
        optimizer.state[p][entry] = torch.empty_like(p).copy_(value) if value.shape == p.shape else value.to(p.device)
