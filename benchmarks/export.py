"""Our exporter beside PyTorch's two, interleaved, on MobileNet V2 1.0: seconds, bytes, and agreement with PyTorch."""

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.ledger import record
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.zoo import create_model

ROUNDS = 5


def run() -> None:
    torch.manual_seed(0)
    model = create_model("mobilenet_v2").eval()
    example = torch.randn(1, 3, 224, 224)

    def ours() -> bytes:
        return export_onnx(fold_batchnorm(model)[0], InputContract(side=224))

    def theirs(dynamo: bool) -> Callable[[], bytes]:
        def export() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                torch.onnx.export(model, (example,), path, dynamo=dynamo, verbose=False, external_data=False)
                return path.read_bytes()

        return export

    exporters = {"swiftlet": ours, "torch_dynamo": theirs(True), "torch_torchscript": theirs(False)}
    seconds: dict[str, list[float]] = {name: [] for name in exporters}
    files = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both of PyTorch's exporters warn about themselves
        for _ in range(ROUNDS):
            for name, export in exporters.items():
                started = time.perf_counter()
                files[name] = export()
                seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    session = onnxruntime.InferenceSession(files["swiftlet"], providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = torch.softmax(model(torch.from_numpy(InputContract(side=224).normalise(pixels))), 1).numpy()
    worst = float(np.abs(session.run(None, {"image": pixels})[0] - expected).max())
    figures = {
        "seconds_median": {name: round(value, 3) for name, value in median.items()},
        "times_faster_than_dynamo": round(median["torch_dynamo"] / median["swiftlet"], 1),
        "times_faster_than_torchscript": round(median["torch_torchscript"] / median["swiftlet"], 1),
        "bytes": {name: len(file) for name, file in files.items()},
        "largest_difference_of_a_score": worst,
    }
    record("export", "python -m benchmarks export", figures)
