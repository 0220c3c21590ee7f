"""A photo set that a tiny network learns in seconds, and a fixed plan, so that runs can be compared bit for bit."""

from pathlib import Path

import numpy as np
from PIL import Image

from swiftlet.budget import Cost
from swiftlet.candidates import Candidate
from swiftlet.plan import Plan, Planned

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40), "yellow": (220, 200, 50)}


def write_photos(folder: Path, *, per_class: int = 30, seed: int = 0) -> Path:
    """A folder per colour: noisy PNG patches of that colour with a dark bar somewhere."""
    rng = np.random.default_rng(seed)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for i in range(per_class):
            pixels = rng.normal(colour, 45, (24, 20, 3))
            at = int(rng.integers(0, 18))
            pixels[at : at + 4] *= 0.3
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{i:03}.png")
    return folder


def fixed_plan(*, steps: tuple[int, ...] = (40, 120)) -> Plan:
    """Two candidates, then the better one: no clock decides anything."""
    cost = Cost(params=1, macs=1, flops=2, size_bytes=1, latency_ms=0.1, runtime="onnxruntime", threads=1, batch=1)
    candidates = tuple(Candidate(network="mobilenet_v1", width=0.0625, side=side) for side in (16, 24))
    planned = tuple(
        Planned(candidate=c, costs={"float32": cost, "int8": cost}, over={"float32": {}, "int8": {}}, train_ms=1.0)
        for c in candidates
    )
    names = tuple(c.name for c in candidates)
    rungs = tuple(dict.fromkeys(names, n) for n in steps)
    return Plan(planned=planned, sketch=names[0], sketch_steps=6, shortlist=names, rungs=rungs, batch=64, seconds=0.0)
