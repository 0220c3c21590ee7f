"""Real ImageNet weights in our MobileNet V2, on real photos, against LiteRT running the file that they are from."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import data_folder, missing
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.zoo import create_model

SIDE = 224
CONTRACT = InputContract(side=SIDE, mean=(127.5,) * 3, std=(127.5,) * 3, crop_pct=SIDE / 256)


@pytest.fixture(scope="module")
def photos() -> tuple[np.ndarray, np.ndarray]:
    """(pixels, labels) of the 250 ImageNet photos; 0 is the background class of TensorFlow's networks."""
    folder = data_folder("imagenet250")
    rows = list(csv.DictReader((folder / "labels.csv").read_text().splitlines()))
    pixels = np.stack([CONTRACT.pixels(open_photo(folder / "images" / row["file"])) for row in rows])
    return pixels, np.array([int(row["index"]) for row in rows]) + 1


def unfolded(file: Path) -> nn.Module:
    """Our network with folded weights in it: each BatchNorm adds the bias that it was folded into, nothing else."""
    model = create_model("mobilenet_v2", padding="tensorflow", num_classes=1001).eval()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shifts = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] + layers[-1:]
    with np.load(file) as arrays, torch.no_grad():
        assert len(arrays.files) == 2 * len(layers) == 2 * len(shifts)
        for i, (layer, shift) in enumerate(zip(layers, shifts, strict=True)):
            layer.weight.copy_(torch.from_numpy(arrays[f"{i:02}.weight"]).reshape(layer.weight.shape))
            shift.bias.copy_(torch.from_numpy(arrays[f"{i:02}.bias"]))
            if isinstance(shift, nn.BatchNorm2d):
                shift.running_var.fill_(1 - shift.eps)  # scale 1 and mean 0 are what it has from the start
    return model


def scores_of_litert(file: Path, pixels: np.ndarray) -> np.ndarray:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        missing(f"LiteRT is not installed: {error}")
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    (image,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for picture in pixels:
        interpreter.set_tensor(image["index"], picture[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(scores["index"])[0].copy())
    return np.stack(found)


def test_mobilenet_v2_classifies_as_well_as_the_file_its_weights_are_from(photos) -> None:
    pixels, labels = photos
    folder = data_folder("weights")
    model = unfolded(folder / "mobilenet_v2_100_imagenet_folded_dequant.npz")
    with torch.inference_mode():
        images = torch.from_numpy(CONTRACT.normalise(pixels)).split(50)
        ours = torch.cat([model(batch) for batch in images]).argmax(1).numpy()
    right = 100 * (ours == labels).mean()
    assert right > 85  # wrong padding, wrong pixels or wrong order of layers cost many points
    theirs = scores_of_litert(folder / "mobilenet_v2_1.0_224_quant.tflite", pixels).argmax(1)
    assert abs(right - 100 * (theirs == labels).mean()) <= 1.0
    assert (ours == theirs).mean() > 0.97
