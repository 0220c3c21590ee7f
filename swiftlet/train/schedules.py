"""How the learning rate goes over a run, as a share of its peak."""

import math

from swiftlet.train.recipe import Recipe

START, END = 1 / 25, 1 / 250_000  # of the one-cycle schedule, shares of the peak: torch's OneCycleLR by default


def rate(recipe: Recipe, step: int, steps: int, per_epoch: int) -> float:
    """For step 0..steps-1: linear warm-up over the first `warmup` of the run, then by the recipe's schedule.

    "exponential" is a staircase that begins after the warm-up: times gamma at the end of every gamma_epochs epochs.
    "one-cycle" (Smith, 2018) rises over `warmup` of the run along half a cosine from 1/25 of the peak, and falls along
    another half to 1/250,000 of it. With the same warm-up "cosine" differs from it in the rise alone, a straight line
    from 0; one-cycle is usually run with a long one (0.3). The momentum stays what it is.
    """
    up = round(recipe.warmup * steps)
    if recipe.schedule == "one-cycle":
        peak = max(0, up - 1)  # the step with the whole rate
        if step <= peak:
            return _half_cosine(START, 1.0, step / peak if peak else 1.0)
        return _half_cosine(1.0, END, (step - peak) / (steps - 1 - peak))
    if step < up:
        return (step + 1) / up
    if recipe.schedule == "exponential":
        return float(recipe.gamma ** ((step - up) // (recipe.gamma_epochs * per_epoch)))
    done = (step - up) / max(1, steps - up)
    return 1 - done if recipe.schedule == "linear" else _half_cosine(1.0, 0.0, done)


def _half_cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))
