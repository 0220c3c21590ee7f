"""Photos per second from file to pixels, one thread: ours beside Pillow's plain path, and out of memory after that.

Pillow's path: open, turn upright, convert to RGB, resize the centred square to 224. The photos are those of imagenet250
in $SWIFTLET_DATA, made as large as they were meant to be and saved as JPEG at quality 90: upscaled, so they hold less
detail than a camera's and decode somewhat faster. Both paths read the same files.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.data.listing import Files
from swiftlet.data.split import Split
from swiftlet.runtime.measurement import compare
from swiftlet.train.draws import shuffled

SIDE = 224
KINDS = {"500 pixels": (500, 100), "12 megapixels": (4000, 12)}  # long side, photos
ROUNDS = 11
BATCH = 64
IN_MEMORY = {96: 4000, SIDE: 2000}  # side: pictures, at the canvas of a training run

Pixels = npt.NDArray[np.uint8]


def plain(path: Path) -> Pixels:
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    width, height = image.size
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short)
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))


def make_photos(source: Path, folder: Path, long_side: int, count: int) -> list[Path]:
    made = []
    for path in sorted(source.iterdir())[:count]:
        with Image.open(path) as image:
            scale = long_side / max(image.size)
            size = (round(image.width * scale), round(image.height * scale))
            made.append(folder / path.name)
            image.convert("RGB").resize(size, Image.Resampling.BICUBIC).save(made[-1], "JPEG", quality=90)
    return made


def first_pass(paths: list[Path], rounds: int = ROUNDS) -> dict[str, Any]:
    """Photos per second, how many times as fast ours are, with interval, and by how many grey levels they differ."""
    split = Split(Files(paths), range(len(paths)), [path.name for path in paths], [0] * len(paths))
    contract = InputContract(side=SIDE)
    ways: dict[str, Callable[[], Pixels]] = {
        "pillow": lambda: np.stack([plain(path) for path in paths]),
        "evaluation": lambda: split.pixels(contract, threads=1),
        "training": lambda: split.pixels(contract, quick=True, threads=1),
    }
    pixels = {name: way() for name, way in ways.items()}
    if not np.array_equal(pixels["pillow"], pixels["evaluation"]):
        raise AssertionError("the evaluation path gives other pixels than Pillow")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(_seconds(way))
    difference = np.abs(pixels["training"].astype(np.int16) - pixels["pillow"])
    return {
        "photos": len(paths),
        "photos_per_second": {name: round(len(paths) / float(np.median(of)), 1) for name, of in times.items()},
        "times_as_fast": {
            name: [round(x, 3) for x in compare(times[name], times["pillow"])] for name in ("evaluation", "training")
        },
        "training_differs_by": round(float(difference.mean()), 2),
    }


def later_pass(side: int, n: int, rounds: int = ROUNDS) -> float:
    """Pictures per second in shuffled batches of uint8 out of memory, before they are augmented."""
    canvas = round(1.25 * side)
    pixels = np.random.default_rng(0).integers(0, 256, (n, canvas, canvas, 3), np.uint8)

    def epoch(number: int) -> None:
        for start in range(0, n - BATCH + 1, BATCH):
            torch.from_numpy(pixels[shuffled(np.arange(start, start + BATCH), n, 0, number)])

    seconds = [_seconds(lambda number=number: epoch(number)) for number in range(rounds)]  # type: ignore[misc]
    return n // BATCH * BATCH / float(np.median(seconds))


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def run() -> None:
    source = Path(os.environ["SWIFTLET_DATA"]) / "imagenet250" / "images"
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    for kind, (long_side, count) in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[kind] = first_pass(make_photos(source, Path(folder), long_side, count))
    figures["in memory"] = {f"side {side}": round(later_pass(side, n)) for side, n in IN_MEMORY.items()}
    record("decode", "python -m benchmarks decode", figures)
