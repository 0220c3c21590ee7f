"""Our int8 files beside those of ONNX Runtime's own quantizer, from the same float file, in one race.

Untrained networks with settled BatchNorm statistics: bytes and milliseconds do not depend on the weights' values.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.ledger import record
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import quantize
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.runtime import get_runtime
from swiftlet.runtime.race import Contestant, race, verdict
from swiftlet.zoo import create_model

NETS: tuple[tuple[str, dict[str, Any], int], ...] = (
    ("mobilenet_v1", {"width": 0.0625, "stem_stride": 1}, 32),
    ("mobilenet_v1", {"width": 0.5}, 128),
    ("mobilenet_v2", {"width": 0.35}, 160),
    ("mobilenet_v2", {}, 224),
)


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pixels: np.ndarray) -> None:
        self.rows = iter(pixels)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self.rows, None)
        return None if row is None else {"image": row[None]}


def run() -> None:
    rows = []
    for name, arguments, side in NETS:
        torch.manual_seed(0)
        model, contract = create_model(name, num_classes=10, **arguments), InputContract(side=side)
        pixels = np.random.default_rng(0).integers(0, 256, (16, side, side, 3), np.uint8)
        images = torch.from_numpy(contract.normalise(pixels))
        with torch.no_grad():
            for _ in range(10):
                model(images)
        folded, _ = fold_batchnorm(model.eval())
        scale, zero_point = contract.grid or (1.0, 0)
        integer, _ = quantize(folded, [images], input_scale=scale, input_zero_point=zero_point)
        files = {"float32": export_onnx(folded, contract), "int8": export_onnx(integer, contract)}
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "float32.onnx").write_bytes(files["float32"])
            quantize_static(
                f"{folder}/float32.onnx",
                f"{folder}/theirs.onnx",
                Reader(pixels),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            files["int8_onnxruntime"] = (Path(folder) / "theirs.onnx").read_bytes()
        contestants = [
            Contestant(label, get_runtime("onnxruntime").load(file, 1), "onnxruntime", 1)
            for label, file in files.items()
        ]
        measured = race(contestants, seconds=6.0)
        rows.append(
            {
                "network": f"{name} {arguments.get('width', 1.0):g} at {side}",
                "kb": {label: round(len(file) / 1000, 1) for label, file in files.items()},
                "p50_ms": {label: round(m.p50_ms, 4) for label, m in zip(files, measured, strict=True)},
                "verdict": verdict(list(files), measured).splitlines(),
            }
        )
    record("int8", "python -m benchmarks int8", {"rows": rows})
