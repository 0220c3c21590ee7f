"""What every step of a run needs: folder, photos, budget and plan, networks and pictures in memory, and the time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from swiftlet.budget import Budget
from swiftlet.candidates import Candidate
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.errors import BadFile
from swiftlet.plan import Plan
from swiftlet.progress import Progress
from swiftlet.recipes import scaled
from swiftlet.recipes.choose import choose, looks_grey
from swiftlet.run import Run
from swiftlet.train.checkpoint import load_checkpoint
from swiftlet.train.recipe import Recipe
from swiftlet.zoo.weights.facts import facts_of

FINISH_SECONDS = 8.0  # kept back from the training time for the test split, the last race and the report


@dataclass
class Workplace:
    """One run's inputs, and what layout.py finds: plan and weights, the facts of each source of trained weights."""

    run: Run
    photos: Photos
    budget: Budget
    seed: int
    minutes: float
    progress: Progress
    interrupted: Callable[[], bool] = lambda: False
    plan: Plan = field(init=False)
    weights: dict[str, dict[str, str]] = field(init=False)
    stoppable: bool = False  # time alone stops nothing before there is a file to deliver
    decoded: dict[tuple[str, InputContract], npt.NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.photos.classes)

    def candidate(self, name: str) -> Candidate:
        return self.plan.find(name).candidate

    # --- time ---------------------------------------------------------------------------------------------------------

    @property
    def seconds_left(self) -> float:
        """For all but the delivery."""
        return self.minutes * 60 - FINISH_SECONDS - self.run.seconds

    def out_of_time(self, kept_back: float = 0.0) -> bool:
        """Whether to stop what could go on; `kept_back`: seconds that something else needs yet."""
        return self.interrupted() or (self.stoppable and self.seconds_left < kept_back)

    # --- the recipe ---------------------------------------------------------------------------------------------------

    @cached_property
    def recipe(self) -> Recipe:
        """For random weights; the plan's steps are of its batch."""
        return self.choice(pretrained=False)[0]

    def choice(self, *, pretrained: bool) -> tuple[Recipe, str]:
        """The recipe and why. Chosen by what the run began with, because the same run may go on with other minutes."""
        facts = self.run.once("recipe", lambda: facts_for_recipe(self.photos, self.minutes))
        return choose(**facts, pretrained=pretrained)

    @property
    def finetuning(self) -> Recipe:
        """For trained weights."""
        return scaled(self.choice(pretrained=True)[0], self.recipe.batch)

    def recipe_for(self, candidate: Candidate) -> Recipe:
        return self.recipe if candidate.pretrained is None else self.finetuning

    # --- networks -----------------------------------------------------------------------------------------------------

    def start(self, candidate: Candidate) -> nn.Module:
        """What its training starts from. Trained weights must still be those that the run began with."""
        model = candidate.start(self.classes, self.seed)
        if candidate.pretrained is not None:
            source = candidate.pretrained.source
            if facts_of(model) != self.weights[source]:
                raise BadFile(f"{source}: holds other weights than when this run began; choose another --out")
        return model

    def weights_of(self, candidate: Candidate) -> dict[str, str]:
        return {} if candidate.pretrained is None else self.weights[candidate.pretrained.source]

    def trained(self, stage: str, candidate: Candidate) -> nn.Module:
        """The network that a stage of training ended with."""
        model = candidate.build(self.classes, self.seed)
        model.load_state_dict(load_checkpoint(self.path(f"{stage}.safetensors"))[0])
        return model

    # --- files and pictures -------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Path:
        return self.run.folder / "test-opened.json"

    def path(self, name: str) -> Path:
        folder = self.run.folder / "train"
        folder.mkdir(exist_ok=True)
        return folder / name

    def pixels(self, split: str, contract: InputContract) -> npt.NDArray[np.uint8]:
        """Of "train" or "val". Decoded once a side and kept: successive halving comes back to the same sides."""
        plain = InputContract(side=contract.side, resize=contract.resize, crop_pct=contract.crop_pct)
        if (split, plain) not in self.decoded:
            photos = self.photos.train if split == "train" else self.photos.val
            self.decoded[split, plain] = photos.pixels(plain, quick=split == "train", progress=self.progress)
        return self.decoded[split, plain]


def facts_for_recipe(photos: Photos, minutes: float) -> dict[str, Any]:
    """What a recipe is chosen by."""
    side = photos.audit.median_short_side
    return {"grey": looks_grey(photos), "pictures": len(photos.train), "side": side, "minutes": minutes}
