"""What the networks of the shrinking benchmark start from: published weights, and pictures as an .npz file."""

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.zoo import create_model
from swiftlet.zoo.weights.own import save_weights

SIDE = 224
PHOTOS = 4  # every fourth of 250: all must pass at once


def cifar10(folder: Path) -> Path:
    """CIFAR-10 (JPEG q75), decoded once."""
    file = folder / "cifar10-jpeg-q75.npz"
    if not file.exists():
        with np.load(Path(os.environ["SWIFTLET_DATA"]) / "cifar10" / "cifar10_jpeg.npz") as packed:
            arrays: dict[str, Any] = {}
            for split in ("train", "test"):
                data, starts = packed[f"jpeg_{split}"], packed[f"off_{split}"]
                arrays[f"x_{split}"] = np.stack(
                    [np.asarray(open_photo(data[a:b].tobytes())) for a, b in pairwise(starts)]
                )
                arrays[f"y_{split}"] = packed[f"y_{split}"]
        part = folder / "part.npz"
        np.savez(part, **arrays)
        part.rename(file)
    return file


def imagenet(folder: Path) -> Path:
    """MobileNet V2 with the weights of TensorFlow's file, into which BatchNorm was folded.

    Training needs it back. Its statistics are measured on some photos, and scale and shift are those that undo them, so
    what the network computes stays the same.
    """
    file = folder / "start.safetensors"
    if file.exists():
        return file
    data = Path(os.environ["SWIFTLET_DATA"])
    model = create_model("mobilenet_v2", padding="tensorflow", num_classes=1001).eval()
    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    norms: list[Any] = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    contract = InputContract(side=SIDE, mean=(127.5,) * 3, std=(127.5,) * 3, crop_pct=SIDE / 256)
    photos = sorted((data / "imagenet250" / "images").iterdir())[::PHOTOS]
    pixels = np.stack([contract.pixels(open_photo(photo)) for photo in photos])

    def settle(norm: Any, inputs: tuple[Tensor]) -> None:
        var, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)

    with np.load(data / "weights" / "mobilenet_v2_100_imagenet_folded_dequant.npz") as arrays, torch.no_grad():
        for i, (layer, shifted) in enumerate(zip(layers, [*norms, layers[-1]], strict=True)):
            layer.weight.copy_(torch.from_numpy(arrays[f"{i:02}.weight"]).reshape(layer.weight.shape))
            shifted.bias.copy_(torch.from_numpy(arrays[f"{i:02}.bias"]))
        hooks = [norm.register_forward_pre_hook(settle) for norm in norms]
        model(torch.from_numpy(contract.normalise(pixels)))
    for hook in hooks:
        hook.remove()
    save_weights(model, file, contract=contract, licence="Apache-2.0")
    return file
