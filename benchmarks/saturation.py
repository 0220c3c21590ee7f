"""int8 where products are added in pairs of 16 bits (x86 without VNNI): what is lost, and what losing nothing costs.

Networks that others trained, from the weights of SWIFTLET_DATA, with three steps for weights: the largest makes 127,
safe pairs (compress/scales.py), 7 bits. Each with exact sums, and as such a CPU would add, emulated; and the file by
ONNX Runtime on this machine, which does one of the two.
"""

import csv
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from benchmarks.factorize import resnet20
from benchmarks.ledger import record
from benchmarks.shrink_start import SIDE, cifar10, imagenet
from swiftlet.compress.overflow import Emulation
from swiftlet.compress.quantize import calibrate, quantize_calibrated
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.data.decode import open_photo
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.train.loop import Pictures
from swiftlet.zoo import create_model

STEPS: dict[str, dict[str, Any]] = {
    "8 bits, the largest weight makes 127 steps": {"safe_pairs": False},
    "8 bits, safe pairs": {},
    "7 bits": {"weight_bits": 7},
}
EVERY = 4  # of the ImageNet photos, every fourth calibrates
CALIBRATION, TESTED = 256, 1000  # pictures of CIFAR-10
BATCH = 32
CIFAR = InputContract(side=32, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
IMAGENET = InputContract(side=SIDE, mean=(127.5,) * 3, std=(127.5,) * 3, crop_pct=SIDE / 256)


def run() -> None:
    data = Path(os.environ["SWIFTLET_DATA"])
    with tempfile.TemporaryDirectory() as folder:
        with np.load(cifar10(Path(folder))) as file:
            sample = file["x_train"][:CALIBRATION]
            tested = Pictures(file["x_test"][:TESTED], file["y_test"][:TESTED].astype(np.int64))
        large = create_model("mobilenet_v2", pretrained=str(imagenet(Path(folder))), num_classes=1001)
    photos = of_imagenet(data / "imagenet250")
    seen = np.arange(len(photos.labels)) % EVERY == 0
    unseen = Pictures(photos.pixels[~seen], photos.labels[~seen])
    figures = {
        "MobileNet V2, ImageNet": measured(large, IMAGENET, photos.pixels[seen], unseen),
        "ResNet-20, CIFAR-10 (JPEG q75)": measured(resnet20(), CIFAR, sample, tested),
    }
    record("saturation", "python -m benchmarks saturation", figures)
    print(table(figures))


def of_imagenet(folder: Path) -> Pictures:
    """250 photos; class 0 is TensorFlow's background."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([IMAGENET.pixels(open_photo(folder / "images" / row["file"])) for row in rows])
    return Pictures(pixels, np.array([int(row["index"]) + 1 for row in rows]))


def measured(model: nn.Module, contract: InputContract, sample: Any, test: Pictures) -> dict[str, Any]:
    """Shares of right answers in percent, and the mean square error of probabilities against the float network."""
    plain, _ = deployed(model.eval())
    scale, zero_point = contract.grid or (None, None)
    images, batches = (torch.from_numpy(contract.normalise(p)).split(BATCH) for p in (test.pixels, sample))  # type: ignore[no-untyped-call]
    calibrated = calibrate(plain, batches, input_scale=scale, input_zero_point=zero_point)
    whole = answers(plain, images)
    rows = []
    for name, how in STEPS.items():
        integer, _ = quantize_calibrated(calibrated, **how)
        exact, emulation = answers(integer, images), Emulation(integer, input_zero_point=zero_point)
        with torch.inference_mode():
            cut = torch.cat([emulation.run(x) for x in images]).softmax(1).numpy()
        program = get_runtime("onnxruntime").load(export_onnx(integer, contract), 1)
        shares = [overflow.share for overflow in emulation.overflows().values()]
        rows.append(
            {
                "steps": name,
                "layers_that_overflow": sum(share > 0 for share in shares),
                "largest_share_of_sums": round(max(shares), 4),
                "squared_error": float(f"{np.square(exact - whole).mean():.3g}"),
                "exact_sums": percent(exact, test),
                "sums_of_16_bits": percent(cut, test),
                "file_here": percent(program.run(test.pixels)[0], test),
            }
        )
    return {"pictures": len(test.labels), "float32": percent(whole, test), "rows": rows}


def answers(model: fx.GraphModule, images: Any) -> Any:
    with torch.inference_mode():
        return torch.cat([model(x).softmax(1) for x in images]).numpy()


def percent(scores: Any, test: Pictures) -> float:
    return round(100 * float((scores.argmax(1) == test.labels).mean()), 1)


def table(figures: dict[str, Any]) -> str:
    lines = [
        "| | layers in which sums are cut off | squared error | exact sums | sums of 16 bits | file, this machine |",
        "|---|---|---|---|---|---|",
    ]
    for name, network in figures.items():
        lines.append(f"| **{name}**, {network['pictures']} pictures, float32 | | | {network['float32']} % | | |")
        for row in network["rows"]:
            accuracies = " | ".join(f"{row[key]} %" for key in ("exact_sums", "sums_of_16_bits", "file_here"))
            lines.append(f"| {row['steps']} | {row['layers_that_overflow']} | {row['squared_error']} | {accuracies} |")
    return "\n".join(lines)
