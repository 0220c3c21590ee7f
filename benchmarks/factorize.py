"""What factorized layers cost and keep: milliseconds of single 3x3 layers against their chains, and the accuracy of the
published ResNet-20 without any training afterwards (needs SWIFTLET_DATA). Nothing else should run meanwhile."""

import io
import os
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.ledger import record
from swiftlet.compress import decompose
from swiftlet.compress.factorize import factorize
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.cost.count import count_model
from swiftlet.export.onnx import export_layers
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race
from swiftlet.zoo import create_model

LAYERS = ((64, 56), (128, 28), (256, 14), (512, 14))  # channels in and out, side
METHODS = ("svd", "spatial", "cp", "tucker")
SHARES = (0.5, 0.25)  # of the multiply-adds
SECONDS = 0.5  # for each contestant
TESTED, FITTED = 1000, 512  # images
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the network's publisher


def rank_for(method: str, channels: int, share: float) -> int | tuple[int, int]:
    """Of a 3x3 layer, for that share of its multiply-adds."""
    m = channels
    if method == "tucker":  # both ranks r: 2 m r + 9 r^2 = 9 m^2 share
        r = round((-2 * m + sqrt(4 * m * m + 324 * m * m * share)) / 18)
        return r, r
    return round({"svd": 9 * m / 10, "spatial": 9 * m / 6, "cp": 9 * m * m / (2 * m + 9)}[method] * share)


def speed(channels: int, side: int) -> dict[str, Any]:
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()).eval()
    shape = (channels, side, side)
    chains: dict[str, nn.Module] = {"whole": layer}
    for method in METHODS:
        for share in SHARES:
            rank = rank_for(method, channels, share)
            chains[f"{method} {share:g}"] = factorize(layer, shape, method=method, ranks={"0": rank})[0]
    runtime = get_runtime("onnxruntime")
    entrants = [
        Contestant(name, runtime.load(export_layers(chain, shape), 1), "onnxruntime", 1)
        for name, chain in chains.items()
    ]
    times = dict(zip(chains, race(entrants, seconds=SECONDS * len(entrants)), strict=True))
    whole = times.pop("whole").p50_ms
    faster = {name: round(whole / measured.p50_ms, 2) for name, measured in times.items()}
    return {"channels": channels, "side": side, "ms": round(whole, 3), "times_as_fast": faster}


def resnet20() -> nn.Module:
    """akamaster's, whose names differ from ours and whose order does not."""
    path = Path(os.environ["SWIFTLET_DATA"]) / "weights" / "cifar10_resnet20.th"
    theirs = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
    model = create_model("resnet20")
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, theirs.values(), strict=True)), strict=False)
    return model.eval()


def images(split: str, n: int) -> tuple[Tensor, Tensor]:
    with np.load(Path(os.environ["SWIFTLET_DATA"]) / "cifar10" / "cifar10_jpeg.npz") as packed:
        data, ends, labels = packed[f"jpeg_{split}"], packed[f"off_{split}"][: n + 1], packed[f"y_{split}"][:n]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data[a:b]))) for a, b in pairwise(ends)])
    scaled = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    return torch.from_numpy(scaled).float().permute(0, 3, 1, 2), torch.from_numpy(labels.astype(np.int64))


def accuracies() -> dict[str, Any]:
    tested, labels = images("test", TESTED)
    fitted = images("train", FITTED)[0].split(128)  # type: ignore[no-untyped-call]

    def percent(model: nn.Module) -> float:
        with torch.inference_mode():
            right = torch.cat([model(batch).argmax(1) for batch in tested.split(250)]) == labels  # type: ignore[no-untyped-call]
        return round(100 * float(right.float().mean()), 1)

    plain = fold_batchnorm(resnet20())[0]
    macs = count_model(plain, (3, 32, 32)).cost.macs or 0
    found: dict[str, Any] = {"images": TESTED, "whole": percent(plain)}
    for method in ("svd", "spatial", "tucker"):
        for share in (0.75, 0.5):
            for kind, batches in (("weights", None), ("images", fitted)):
                new, _ = factorize(plain, (3, 32, 32), method=method, macs=int(share * macs), batches=batches)
                found[f"{method} {share:g} {kind}"] = percent(new)
    return found


def run() -> None:
    accuracy = accuracies()
    decompose.SWEEPS = 1  # of CP's search: speed does not depend on the values
    figures = {"accuracy_percent": accuracy, "speed": [speed(*layer) for layer in LAYERS]}
    record("factorize", "python -m benchmarks factorize", figures)
