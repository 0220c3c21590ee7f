"""The plan of a run, the recipe for its minutes, and the trained weights that it starts from: all held fast at once."""

from typing import Any

from swiftlet.candidates import candidates_for
from swiftlet.data.photos import Photos
from swiftlet.errors import BadInput
from swiftlet.fitting.workplace import Workplace, facts_for_recipe
from swiftlet.plan import Plan, make_plan
from swiftlet.recipes.choose import choose
from swiftlet.train.recipe import Recipe
from swiftlet.zoo.weights.facts import facts_of


def recipe_of(photos: Photos, *, minutes: float, pretrained: bool = False) -> tuple[Recipe, str]:
    """The recipe that suits the photos and the minutes of a run, and in one sentence why (recipes/choose.py)."""
    return choose(**facts_for_recipe(photos, minutes), pretrained=pretrained)


def lay_out(place: Workplace, given: Plan | None, pretrained: str | None) -> None:
    """The plan: made once, or given. The weights that it wants are fetched and their digests held fast."""
    recipe, why = place.choice(pretrained=False)
    place.progress(f"recipe {recipe.name}: {why}", 0, 0)

    def compute() -> dict[str, Any]:
        made = given or make_plan(
            candidates_for(place.photos.audit.median_short_side, pretrained),
            place.budget,
            num_classes=place.classes,
            photos=len(place.photos.train),
            recipe=recipe,
            minutes=place.minutes,
            seed=place.seed,
            progress=place.progress,
        )
        return made.to_json()

    place.plan = Plan.from_json(place.run.once("plan", compute))
    if given is not None and given != place.plan:
        raise BadInput(f"{place.run.folder}: holds a run with another plan; choose another --out")
    wanted = (place.candidate(name) for name in {place.plan.sketch, *place.plan.shortlist})
    sources = {c.pretrained.source: c for c in wanted if c.pretrained is not None}
    place.weights = place.run.once(
        "weights", lambda: {source: facts_of(c.start(place.classes, place.seed)) for source, c in sources.items()}
    )
