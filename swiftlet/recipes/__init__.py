"""Recipes by name: one file each, a value named RECIPE, and in the docstring what it was run on and what it reached.

get_recipe("photos").lr
"""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

from swiftlet.errors import BadInput
from swiftlet.train.recipe import Recipe

__all__ = ["IMAGENET", "get_recipe", "list_recipes", "scaled"]

IMAGENET = 1_281_167  # training pictures of ILSVRC 2012, by which the papers' steps become epochs
NO_RECIPES = {"choose"}  # modules of this package that hold code


def list_recipes() -> list[str]:
    """Every name, in alphabetical order."""
    return sorted({module.name for module in iter_modules(__path__)} - NO_RECIPES)


def get_recipe(name: str) -> Recipe:
    """Raises BadInput, with the names that there are."""
    if name not in list_recipes():
        raise BadInput(f"unknown recipe {name!r}; known: {', '.join(list_recipes())}")
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe


def scaled(recipe: Recipe, batch: int) -> Recipe:
    """The recipe at another batch, its learning rate moved with it.

    In proportion for SGD (Goyal et al. 2017, arXiv:1706.02677, section 2.1, who warm up over 5 epochs for it) and for
    RMSprop, as the authors of MobileNet V2 and MnasNet do in their code; by the square root for AdamW (Malladi et al.
    2022, arXiv:2205.10287). Raises BadInput if the batch is not a whole number of at least 1.
    """
    moved = replace(recipe, batch=batch)  # refuses a batch that cannot be, before it is divided by
    ratio = batch / recipe.batch
    return replace(moved, lr=recipe.lr * (ratio**0.5 if recipe.optimizer == "adamw" else ratio))
