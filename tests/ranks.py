"""One process of a distributed training on random pictures, for test_distributed.py: python ranks.py SETTINGS.json

It writes OUT/RANK.safetensors with all that it has trained, and OUT/RANK.txt with the error that ended it, which is a
disagreement in the end if nothing else.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import SwiftletError
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distributed import ALONE, Ranks, joined
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=12)
RECIPE = Recipe(name="ranks", batch=16, lr=0.05, mixup=0.2)
STEPS = 5


def plain() -> nn.Module:
    """Without BatchNorm, so that a rank's part of a batch is no world of its own."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip


def mobile() -> nn.Module:
    torch.manual_seed(0)
    return create_model("mobilenet_v1", width=0.1, num_classes=3, stem_stride=1)


NETWORKS = {"plain": plain, "mobile": mobile}


def training(
    model: nn.Module, ranks: Ranks = ALONE, *, accumulate: int = 1, recipe: Recipe = RECIPE, n: int = 51
) -> Training:
    rng = np.random.default_rng(1)
    pictures = Pictures(rng.integers(0, 256, (n, 16, 16, 3), np.uint8), rng.integers(0, 3, n))
    return Training(model, pictures, CONTRACT, recipe, steps=STEPS, seed=3, ranks=ranks, accumulate=accumulate)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    out, me = Path(settings["out"]), os.environ["RANK"]
    tensors = {}

    def show(step: int, steps: int, loss: float) -> None:
        if "victim" in settings and (me, step) == ("1", settings["step"]):
            os.kill(os.getpid(), signal.Signals[settings["victim"]])

    try:
        with joined(timeout=settings.get("timeout", 30.0)) as ranks:
            for name, job in settings["jobs"].items():
                here = replace(ranks, compress=job.get("compress"))
                for stop in [job["stop"], STEPS] if "stop" in job else [STEPS]:
                    t = training(NETWORKS[job["network"]](), here, accumulate=job.get("accumulate", 1))
                    hears = ranks.rank == ranks.world - 1  # that it should stop
                    t.run(
                        checkpoints=Checkpoints(out / name) if "stop" in job and ranks.first else None,
                        should_stop=lambda t=t, stop=stop, hears=hears: hears and t.step == stop,
                        progress=show,
                    )
                    assert t.step == stop
                tensors |= {f"{name}.{key}": value for key, value in t.state()[0].items()}
            save_file({key: value.contiguous() for key, value in tensors.items()}, out / f"{me}.safetensors")
            ranks.check_same({"side": 16, "seed": int(me)})  # which they have not
    except SwiftletError as error:
        (out / f"{me}.txt").write_text(f"{type(error).__name__}: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
