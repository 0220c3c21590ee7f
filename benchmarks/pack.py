"""Real trained networks in containers: bytes, what they are spent on, and how fast both readers decode them.

Needs $SWIFTLET_DATA, and node for the JavaScript reader. Decoding is from bytes in memory to the file or the tensors
in memory, every digest checked; MB/s are those of the same weights in float32, whatever type they have.
"""

import io
import json
import lzma
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from benchmarks.ledger import record
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.compress.quantize import quantize
from swiftlet.cost.packed import packed_bytes
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.pack.breakdown import breakdown
from swiftlet.pack.format import read_container
from swiftlet.pack.onnx import pack_onnx, unpack_onnx
from swiftlet.pack.reader import unpack_tensors
from swiftlet.pack.writer import pack_tensors
from swiftlet.zoo import create_model
from swiftlet.zoo.weights.load import assign

ROUNDS = 9
READER = Path(__file__).parent.parent / "swiftlet" / "pack" / "reader.js"
IN_NODE = """
import { readFileSync } from "node:fs";
import { read } from %s;
const data = new Uint8Array(readFileSync(process.argv[1]));
const seconds = [];
for (let i = 0; i < %d; i++) {
  const began = performance.now();
  await read(data);
  seconds.push((performance.now() - began) / 1000);
}
console.log(JSON.stringify(seconds));
"""


def run() -> None:
    root = Path(os.environ["SWIFTLET_DATA"])
    weights = root / "weights"
    resnet = resnet20(weights / "cifar10_resnet20.th", root / "cifar10" / "cifar10_jpeg.npz")
    rows = {
        "SqueezeNet 1.0 after Deep Compression, float32 tensors": of_tensors(
            arrays(weights / "squeezenet1_0_deepcomp_imagenet.npz")
        ),
        "MobileNet V2 1.0 on its int8 grid, float32 tensors": of_tensors(
            arrays(weights / "mobilenet_v2_100_imagenet_folded_dequant.npz")
        ),
        **{f"ResNet-20, {precision} ONNX": of_onnx(file) for precision, file in resnet.items()},
    }
    record("pack", "python -m benchmarks pack", {"rounds": ROUNDS, "networks": rows})


def arrays(file: Path) -> dict[str, Any]:
    with np.load(file) as stored:
        return {name: stored[name] for name in stored.files}


def resnet20(weights: Path, photos: Path) -> dict[str, bytes]:
    """The trained network as our float32 and our int8 file, calibrated on 64 test pictures."""
    stored = torch.load(weights, weights_only=True, map_location="cpu")["state_dict"]
    model = create_model("resnet20").eval()
    pairs = [("stem.0", "conv1"), ("stem.1", "bn1"), ("classifier", "linear")]
    for stage in range(3):
        for block in range(3):
            for i in range(2):
                ours, theirs = f"stages.{stage}.{block}.body.{i}", f"layer{stage + 1}.{block}"
                pairs += [(f"{ours}.0", f"{theirs}.conv{i + 1}"), (f"{ours}.1", f"{theirs}.bn{i + 1}")]
    assign(model, {k.removeprefix("module."): v for k, v in stored.items()}, pairs, str(weights))
    contract = InputContract(side=32, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    with np.load(photos) as packed:
        data, ends = packed["jpeg_test"], packed["off_test"][:65]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data[a:b].tobytes()))) for a, b in pairwise(ends)])
    folded, _ = fold_batchnorm(model)
    scale, zero_point = contract.grid or (None, None)
    images = torch.from_numpy(contract.normalise(pixels))
    integer, _ = quantize(folded, [images], input_scale=scale, input_zero_point=zero_point)
    networks: dict[str, nn.Module] = {"float32": folded, "int8": integer}
    return {precision: export_onnx(network, contract) for precision, network in networks.items()}


def of_tensors(tensors: dict[str, Any]) -> dict[str, Any]:
    packed = pack_tensors(tensors)
    raw = b"".join(array.tobytes() for array in tensors.values())
    found = unpack_tensors(packed).tensors
    assert all(found[name].tobytes() == array.tobytes() for name, array in tensors.items())
    return figures(packed, raw, sum(array.size for array in tensors.values()), lambda: unpack_tensors(packed))


def of_onnx(file: bytes) -> dict[str, Any]:
    packed = pack_onnx(file)
    assert unpack_onnx(packed) == file
    constants = [numpy_helper.to_array(t) for t in onnx.ModelProto.FromString(file).graph.initializer]
    found = figures(packed, file, sum(c.size for c in constants), lambda: unpack_onnx(packed))
    return found | {"count_says_bytes": packed_bytes(file)}


def figures(packed: bytes, original: bytes, weights: int, decode: Callable[[], object]) -> dict[str, Any]:
    spent = breakdown(packed)
    coded = spent.words + spent.tables
    return {
        "bytes": len(original),
        "packed_bytes": len(packed),
        "times_smaller": round(len(original) / len(packed), 2),
        "zlib_9_bytes": len(zlib.compress(original, 9)),
        "xz_9_bytes": len(lzma.compress(original, preset=9)),
        "spent": {name: round(value) for name, value in asdict(spent).items()},
        "percent_over_entropy": {
            "words": round(100 * (spent.words / spent.entropy - 1), 2),
            "words_and_tables": round(100 * (coded / spent.entropy - 1), 2),
            "all_but_what_is_not_coded": round(100 * ((len(packed) - spent.plain) / spent.entropy - 1), 2),
            "all": round(100 * (len(packed) / (spent.entropy + spent.plain + spent.graph) - 1), 2),
            "huffman_without_tables": round(100 * (spent.huffman / spent.entropy - 1), 2),
        },
        "tensors": len(read_container(packed).tensors),
        "mb_per_second_float32": {
            "python": speed(weights, [seconds(decode) for _ in range(ROUNDS)]),
            "javascript": speed(weights, in_node(packed)),
        },
    }


def speed(weights: int, seconds: list[float]) -> float | None:
    return round(4 * weights / statistics.median(seconds) / 1e6, 1) if seconds else None


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def in_node(packed: bytes) -> list[float]:
    """Seconds of each round in Node; none without it."""
    node = shutil.which("node")
    if node is None:
        return []
    with tempfile.NamedTemporaryFile(suffix=".swl") as file:
        file.write(packed)
        file.flush()
        script = IN_NODE % (json.dumps(READER.as_uri()), ROUNDS)
        command = [node, "--input-type=module", "-e", script, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout)
    return found
