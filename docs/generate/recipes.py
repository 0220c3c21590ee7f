"""docs/recipes.md: every recipe, what its header says of it, and the fields in which it differs from the defaults."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib import import_module

from swiftlet import recipes
from swiftlet.recipes import get_recipe, list_recipes
from swiftlet.train.recipe import Recipe

FACTS = ("hardware", "minutes", "expected", "seeds", "side", "source")


def recipes_page() -> str:
    """Ours first, then the papers'."""
    ours = [name for name in list_recipes() if get_recipe(name).epochs is None]
    papers = [name for name in list_recipes() if name not in ours]
    defaults = ", ".join(f"{field.name} {_shown(field.default)}" for field in fields(Recipe) if field.name != "name")
    lines = [
        "# Recipes",
        "",
        "A recipe is everything that decides a training run apart from the network, the pictures and a teacher. "
        "`fit` chooses one by the pictures and the minutes and says which; `swiftlet.recipes.get_recipe(NAME)` gives "
        "one, `scaled(recipe, batch)` the same at another batch with the rate that goes with it. By "
        "`python -m docs.generate`; what a field means is in the docstring of `swiftlet.train.recipe.Recipe`, and "
        "where each number is from, in the recipe's own file.",
        "",
        "## Ours, for small data",
        "",
        *_table(ours),
        "",
        "## The papers', for ImageNet",
        "",
        "None of them was run here: hardware and accuracy are as the papers print them. Epochs follow from the printed "
        f"steps and batch and {recipes.IMAGENET:,} pictures.",
        "",
        *_table(papers),
        "",
        "## Fields",
        "",
        f"What differs from the defaults: {defaults}.",
        "",
        *(f"- **{name}**: {_differences(get_recipe(name))}" for name in ours + papers),
    ]
    return "\n".join(lines) + "\n"


def facts(name: str) -> dict[str, str]:
    """The header of a recipe's file: its first line as "what", and the facts of FACTS that it gives."""
    doc = import_module(f"{recipes.__name__}.{name}").__doc__ or ""
    found = dict(re.findall(rf"^({'|'.join(FACTS)}) +(.+)$", doc, re.MULTILINE))
    return {"what": doc.partition("\n")[0].rstrip("."), **found}


def _table(names: list[str]) -> list[str]:
    rows = [(f"[{name}](../swiftlet/recipes/{name}.py)", facts(name)) for name in names]
    return [
        f"| recipe | for | {' | '.join(FACTS)} |",
        f"|{'---|' * (len(FACTS) + 2)}",
        *(f"| {link} | {' | '.join(found[key] for key in ('what', *FACTS))} |" for link, found in rows),
    ]


def _differences(recipe: Recipe) -> str:
    values = {field.name: getattr(recipe, field.name) for field in fields(Recipe)}
    differ = {field.name: values[field.name] for field in fields(Recipe) if values[field.name] != field.default}
    return ", ".join(f"{key} {_shown(value)}" for key, value in differ.items() if key != "name") or "nothing"


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
