"""Recipes by name: one file each, a value named RECIPE, and in the docstring what it was run on and what it reached.

get_recipe("photos").lr
"""

from importlib import import_module
from pkgutil import iter_modules

from swiftlet.errors import BadInput
from swiftlet.train.recipe import Recipe

__all__ = ["get_recipe", "list_recipes"]


def list_recipes() -> list[str]:
    """Every name, in alphabetical order."""
    return sorted(module.name for module in iter_modules(__path__))


def get_recipe(name: str) -> Recipe:
    """Raises BadInput, with the names that there are."""
    if name not in list_recipes():
        raise BadInput(f"unknown recipe {name!r}; known: {', '.join(list_recipes())}")
    recipe: Recipe = import_module(f"{__name__}.{name}").RECIPE
    return recipe
