"""The int8 collapse of MobileNetV3, and its cure: one trained network, quantized in every way, in one table.

Trained here on Fashion-MNIST in about four minutes of one core, calibrated on 512 of its training pictures; accuracy
is that of each ONNX file on the 10,000 official test pictures, by ONNX Runtime. So short a training leaves ranges that
lie close together, so the second table has the same function with channels of depthwise layers scaled up or down, as
long training leaves them (Nagel et al. 2019, arXiv:1906.04721, figure 2), and the next layer scaled back.
Needs SWIFTLET_DATA.
"""

import copy
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import quantize_static
from torch import fx, nn

from benchmarks.accuracy_tasks import FASHION
from benchmarks.int8 import Reader
from benchmarks.ledger import record
from swiftlet.check import wilson
from swiftlet.compress.post_training import quantize_best
from swiftlet.compress.quantize import quantize
from swiftlet.compress.reparameterize import deployed
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.train.loop import Pictures, Training
from swiftlet.zoo import create_model

NETWORK: tuple[str, dict[str, Any]] = ("mobilenet_v3_small", {"width": 0.35, "stem_stride": 1})
CONTRACT = InputContract(side=28)
STEPS, SEED = 2000, 0
CALIBRATION, BATCH = 512, 64
SPREAD = 16.0  # channels are scaled by factors between this and its inverse, evenly on a logarithmic scale


def run() -> None:
    with np.load(Path(os.environ["SWIFTLET_DATA"]) / "fashion_mnist" / "fashion_mnist.npz") as file:
        train, test = pictures(file, "train"), pictures(file, "test")
    plain, _ = deployed(trained(train))
    grid = CONTRACT.grid
    assert grid is not None  # the contract's mean is one whole number
    given: dict[str, Any] = {"input_scale": grid[0], "input_zero_point": grid[1]}
    sample = train.pixels[np.random.default_rng(SEED).permutation(len(train.labels))[:CALIBRATION]]
    batches = torch.from_numpy(CONTRACT.normalise(sample)).split(BATCH)  # type: ignore[no-untyped-call]

    spread = spread_out(plain)
    figures: dict[str, Any] = {
        "network": f"{NETWORK[0]} {NETWORK[1]}",
        "data": "fashion_mnist",
        "side": CONTRACT.side,
        "training_steps": STEPS,
        "test_pictures": len(test.labels),
        "as_trained": compared(plain, sample, batches, given, test),
        "spread": compared(spread, sample, batches, given, test),
    }
    record("int8_collapse", "python -m benchmarks int8_collapse", figures)
    for name in ("as_trained", "spread"):
        print(f"{table(figures[name]['rows'])}\n")


def compared(plain: fx.GraphModule, sample: np.ndarray, batches: Any, given: dict[str, Any], test: Pictures) -> Any:
    """One row for each way to int8, the float file first, and what the Records say."""
    naive, _ = quantize(plain, batches, **given, calibration="minmax", per_channel=False)
    by_channel, said = quantize(plain, batches, **given, calibration="minmax")
    ours, best = quantize_best(plain, batches, **given)
    float32 = export_onnx(plain, CONTRACT)
    files = {
        "float32": float32,
        "per tensor, min-max": export_onnx(naive, CONTRACT),
        "ONNX Runtime's default": by_onnxruntime(float32, sample),
        "ONNX Runtime, per channel": by_onnxruntime(float32, sample, per_channel=True),
        "per channel, min-max": export_onnx(by_channel, CONTRACT),
        "ours": export_onnx(ours, CONTRACT),
    }
    answers = {name: right(scores_of(file, test.pixels), test) for name, file in files.items()}
    rows = [
        {"name": name, "kb": round(len(file) / 1000, 1), **against(answers["float32"], answers[name])}
        for name, file in files.items()
    ]
    found = {key: best.arguments[key] for key in ("kept", "tried")}
    return {"range_spread": said.arguments.get("range_spread", {}), "ours": found, "rows": rows}


def spread_out(plain: fx.GraphModule) -> fx.GraphModule:
    """The same function in other weights: a channel behind a ReLU may be scaled if all its readers scale it back."""
    new, generator = copy.deepcopy(plain), torch.Generator().manual_seed(SEED)
    for path, layer in plain.named_modules():
        block, _, inside = path.partition(".depthwise.")
        if not inside or not isinstance(layer, nn.ReLU):
            continue
        depthwise: Any = new.get_submodule(f"{block}.depthwise.0")
        readers: list[Any] = [new.get_submodule(f"{block}.project.0")]
        if f"{block}.se.reduce" in dict(new.named_modules()):
            readers.append(new.get_submodule(f"{block}.se.reduce"))
        factors = SPREAD ** (2 * torch.rand(depthwise.out_channels, generator=generator) - 1)
        with torch.no_grad():
            depthwise.weight.mul_(factors.view(-1, 1, 1, 1))
            depthwise.bias.mul_(factors)
            for reader in readers:
                reader.weight.div_(factors.view(1, -1, 1, 1))
    return new


def pictures(file: Any, split: str) -> Pictures:
    """Grey ones as three equal colours."""
    grey = file[f"x_{split}"]
    return Pictures(np.repeat(grey[..., None], 3, axis=3), file[f"y_{split}"].astype(np.int64))


def trained(train: Pictures) -> nn.Module:
    torch.manual_seed(SEED)
    model = create_model(NETWORK[0], num_classes=10, **NETWORK[1])
    training = Training(model, train, CONTRACT, FASHION, steps=STEPS, seed=SEED)
    training.run()
    model.load_state_dict(training.delivered())
    return model.eval()


def by_onnxruntime(file: bytes, sample: np.ndarray, **options: bool) -> bytes:
    """As its documentation calls it: QDQ, min-max, signed int8 on both sides."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "float32.onnx").write_bytes(file)
        quantize_static(f"{folder}/float32.onnx", f"{folder}/int8.onnx", Reader(sample), **options)
        return (Path(folder) / "int8.onnx").read_bytes()


def scores_of(file: bytes, pixels: np.ndarray) -> np.ndarray:
    program = get_runtime("onnxruntime").load(file, 1)
    return np.concatenate([program.run(part)[0] for part in np.array_split(pixels, 20)])


def right(scores: np.ndarray, test: Pictures) -> np.ndarray:
    answers: np.ndarray = scores.argmax(1) == test.labels
    return answers


def percent(answers: np.ndarray) -> float:
    return round(100 * float(answers.mean()), 2)


def against(whole: np.ndarray, answers: np.ndarray) -> dict[str, Any]:
    """Accuracy with its 95 % interval, and the drop with that of a paired comparison, all in percent or points."""
    low, high = wilson(int(answers.sum()), len(answers))
    lost = whole.astype(float) - answers
    half = 196 * float(lost.std()) / len(lost) ** 0.5
    drop = 100 * float(lost.mean())
    return {
        "accuracy": percent(answers),
        "interval": [round(100 * low, 2), round(100 * high, 2)],
        "drop": round(drop, 2),
        "drop_interval": [round(drop - half, 2), round(drop + half, 2)],
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| | KB | accuracy | 95 % interval | drop |", "|---|---|---|---|---|"]
    for row in rows:
        low, high = row["interval"]
        drop = f"{row['drop']:+.2f} ({row['drop_interval'][0]:+.2f} to {row['drop_interval'][1]:+.2f})"
        lines.append(f"| {row['name']} | {row['kb']} | {row['accuracy']:.2f} % | {low:.2f} to {high:.2f} % | {drop} |")
    return "\n".join(lines)
