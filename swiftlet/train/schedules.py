"""How the learning rate goes over a run, as a share of its peak."""

import math

from swiftlet.train.recipe import Recipe


def rate(recipe: Recipe, step: int, steps: int, per_epoch: int) -> float:
    """For step 0..steps-1: linear warm-up over the first `warmup` of the run, then by the recipe's schedule."""
    up = round(recipe.warmup * steps)
    if step < up:
        return (step + 1) / up
    done = (step - up) / max(1, steps - up)
    if recipe.schedule == "exponential":
        return recipe.gamma ** ((step - up) // max(1, round(recipe.gamma_epochs * per_epoch)))
    return 1 - done if recipe.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
