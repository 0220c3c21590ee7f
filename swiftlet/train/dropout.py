"""The dropout that a recipe asks for, in a network that was built with another."""

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from swiftlet.errors import BadInput
from swiftlet.train.recipe import Recipe


def set_dropout(model: nn.Module, recipe: Recipe) -> None:
    """Give every dropout module the recipe's probability, in place; with None they keep their own.

    Raises BadInput if dropout is wanted where the network has no module for it.
    """
    if recipe.dropout is None:
        return
    layers = [module for module in model.modules() if isinstance(module, _DropoutNd)]
    if recipe.dropout > 0 and not layers:
        raise BadInput(
            f"Recipe {recipe.name!r}: dropout={recipe.dropout}, but {type(model).__name__} has no nn.Dropout; set "
            "dropout=None, or build the network with one"
        )
    for layer in layers:
        layer.p = recipe.dropout
