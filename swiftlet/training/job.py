"""What is trained: a network, how it sees pictures, and the recipe, from what the caller says and leaves out."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swiftlet._version import __version__
from swiftlet.candidates import sides_for
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.errors import BadInput
from swiftlet.recipes import get_recipe, scaled
from swiftlet.recipes.choose import FINAL, PICTURE_MS, choose, looks_grey
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import card, create_model, list_models
from swiftlet.zoo.weights.pretrained import describe


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained: everything but the photos and the processes."""

    network: str
    arguments: dict[str, Any]
    contract: InputContract
    recipe: Recipe
    minutes: float | None
    accumulate: int | None
    seed: int
    pretrained: str | None

    def build(self, num_classes: int, *, trained: bool) -> nn.Module:
        """The network, with the weights that training starts from or, if these do not matter, random ones."""
        source = self.pretrained if trained else None
        arguments = self.arguments
        if self.pretrained is not None and not trained:
            arguments = describe(self.pretrained).arguments | arguments
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return create_model(self.network, pretrained=source, num_classes=num_classes, **arguments)


def job_of(
    data: Photos,
    model: str,
    arguments: dict[str, Any],
    side: int | None,
    recipe: str | None,
    changes: dict[str, Any],
    epochs: float | None,
    minutes: float | None,
    accumulate: int | None,
    seed: int,
) -> Job:
    if accumulate is not None and (type(accumulate) is not int or accumulate < 1):
        raise BadInput(f"train: accumulate={accumulate!r} must be a whole number, at least 1")
    if epochs is not None and minutes is not None:
        raise BadInput("train: give --epochs or --minutes, not both")
    for name, length in (("epochs", epochs), ("minutes", minutes)):
        if length is not None and not length > 0:
            raise BadInput(f"train: {name}={length!r} must be above 0")
    known = None if model in list_models() or not ("/" in model or Path(model).exists()) else describe(model)
    if known is None:
        card(model)  # refuses what is neither
        contract = InputContract(side=side or sides_for(data.audit.median_short_side)[-1])
    else:
        contract = replace(known.contract, side=side or known.contract.side, crop_pct=1.0)
    chosen = get_recipe(recipe) if recipe else _suitable(data, epochs, minutes, known is not None)
    chosen = _changed(chosen, changes)
    if epochs is not None or minutes is not None:
        chosen = replace(chosen, epochs=epochs)
    elif chosen.epochs is None:
        raise BadInput(f"train: recipe {chosen.name!r} does not say how long; give --epochs or --minutes")
    return Job(
        network=known.network if known else model,
        arguments=arguments,
        contract=contract,
        recipe=chosen,
        minutes=minutes,
        accumulate=accumulate,
        seed=seed,
        pretrained=model if known else None,
    )


def _changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    known = recipe.to_json()
    for name, value in changes.items():
        if name not in known or name == "name":
            raise BadInput(f"train: a recipe has no {name!r}; it has {', '.join(n for n in known if n != 'name')}")
        if isinstance(value, str) != isinstance(known[name], str):
            raise BadInput(f"train: {name}={value!r} cannot be; recipe {recipe.name!r} has {known[name]!r}")
    if "batch" in changes:
        recipe = scaled(recipe, changes["batch"])
    return replace(recipe, **changes)


def _suitable(data: Photos, epochs: float | None, minutes: float | None, pretrained: bool) -> Recipe:
    if minutes is None:  # by the guess that `choose` makes itself
        minutes = (epochs or 0.0) * len(data.train) * PICTURE_MS / 60_000 / FINAL
    return choose(
        grey=looks_grey(data),
        pictures=len(data.train),
        side=data.audit.median_short_side,
        minutes=minutes,
        pretrained=pretrained,
    )[0]


def facts_of_run(job: Job, data: Photos) -> dict[str, Any]:
    """What a later process, and every rank, must have the same; the number of ranks may change."""
    facts = {"photos": data.audit.digest, "swiftlet": __version__, "recipe": job.recipe.to_json()}
    facts |= {"model": job.network, "arguments": job.arguments, "contract": job.contract.to_json()}
    return facts | {"minutes": job.minutes, "seed": job.seed, "pretrained": job.pretrained}
