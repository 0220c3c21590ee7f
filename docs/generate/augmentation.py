"""python -m docs.generate.augmentation PHOTO PHOTO: draw docs/augmentation.png from two photos."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.train.augment import augment
from swiftlet.train.draws import keys
from swiftlet.train.mix import erase, mix
from swiftlet.train.operations import OPERATIONS, operate
from swiftlet.train.recipe import Recipe

PICTURE = Path(__file__).parent.parent / "augmentation.png"
SIDE, GAP, CAPTION, COLUMNS = 64, 4, 16, 4
STILL = Recipe(name="still", min_area=1.0, aspect=1.0, jitter=0.0, flip=False)
FIELDS = {
    "min_area, flip": replace(STILL, min_area=0.08, aspect=0.75, flip=True),
    "rotation": replace(STILL, rotation=30.0),
    "jitter": replace(STILL, jitter=0.4),
    "colour": replace(STILL, colour=0.9),
    "erasing": replace(STILL, erasing=1.0),
    "mixup": replace(STILL, mixup=1.0),
    "cutmix": replace(STILL, cutmix=1.0),
    "randaugment": replace(STILL, policy="randaugment"),
    "autoaugment": replace(STILL, policy="autoaugment-imagenet"),
}
LEVEL = 0.9  # of each operation


def sheet(pixels: Tensor, columns: int = COLUMNS) -> Image.Image:
    """Every field and operation on the same photos, uint8 (N, S, S, 3)."""
    cells = [("the photos", _floats(pixels))]
    cells += [(name, _views(pixels, recipe)) for name, recipe in FIELDS.items()]
    cells += [(name, _operated(pixels, name)) for name in OPERATIONS if name != "identity"]
    side, n = pixels.shape[1], len(pixels)
    width, height = n * (side + GAP) + 2 * GAP, side + CAPTION + GAP
    rows = -(-len(cells) // columns)
    image = Image.new("RGB", (columns * width - 3 * GAP, rows * height), "white")
    font, draw = ImageFont.load_default(11), ImageDraw.Draw(image)
    for i, (name, views) in enumerate(cells):
        left, top = i % columns * width, i // columns * height
        draw.text((left, top + 1), name, "black", font)
        for j, view in enumerate(views.round().byte().permute(0, 2, 3, 1).numpy()):
            image.paste(Image.fromarray(view), (left + j * (side + GAP), top + CAPTION))
    return image


def _floats(pixels: Tensor) -> Tensor:
    return pixels.permute(0, 3, 1, 2).float()


def _views(pixels: Tensor, recipe: Recipe) -> Tensor:
    of = keys(8, 0, np.arange(len(pixels)))
    images = augment(pixels, recipe, pixels.shape[1], of).sub_(128)  # so that 0 is grey, as after normalisation
    return mix(erase(images, recipe, of), torch.zeros(len(pixels)), recipe, of).images + 128


def _operated(pixels: Tensor, name: str) -> Tensor:
    images, n = _floats(pixels), len(pixels)
    signs = np.resize(np.array([1, -1], np.float32), n)
    operate(images, np.full(n, list(OPERATIONS).index(name)), np.full(n, LEVEL, np.float32), signs)
    return images


if __name__ == "__main__":
    shown = np.stack([InputContract(side=SIDE).pixels(open_photo(Path(photo))) for photo in sys.argv[1:]])
    sheet(torch.from_numpy(shown)).quantize(256, kmeans=3).save(PICTURE, optimize=True)
