"""What works on this machine: versions, runtimes, and a tiny network sent the whole way through each of them."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from swiftlet._version import __version__
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput, SwiftletError
from swiftlet.export.untrained import untrained_files
from swiftlet.layers.conv_bn import conv_bn
from swiftlet.layers.inverted_residual import InvertedResidual
from swiftlet.layers.squeeze_excite import SqueezeExcite
from swiftlet.runtime import RUNTIMES
from swiftlet.runtime.base import Runtime
from swiftlet.runtime.cpu import adds_in_16_bits
from swiftlet.runtime.liven import livened
from swiftlet.runtime.machine import machine

# Allowed difference of a score, as a share of the range of all scores: a wrong answer is off by about 1. bfloat16 has
# 8 bits, and in int8 two ways to round a sum may differ by a step in any layer.
PARITY = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.1}
Scores = npt.NDArray[np.float32]


def examine() -> dict[str, Any]:
    """Facts by name; "ok" is True if every runtime that can be used agrees with PyTorch on a network exported just now.

    Each runtime is given the network as a float file and as an int8 file; the reference is PyTorch's own forward, and
    for int8 the file computed in float32 between its quantizers.
    """
    facts: dict[str, Any] = {"swiftlet": __version__, "python": sys.version.split()[0], "machine": str(machine())}
    facts["torch threads"] = torch.get_num_threads()
    if adds_in_16_bits():
        facts["int8"] = "no VNNI: products are added in 16 bits, so files of other tools may give other scores here"
    contract = InputContract(side=32)
    model = livened(_network(), (3, 32, 32))
    files = untrained_files(model, contract)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        images = torch.from_numpy(contract.normalise(pixels))
        expected = {"float32": torch.softmax(model(images), 1).numpy()}
    expected["int8"] = RUNTIMES["torch"].load(files["int8"], 1).run(pixels)[0]
    agree = True
    for name, runtime in RUNTIMES.items():
        if name == "null":
            continue
        missing = runtime.missing()
        if missing:
            facts[f"runtime {name}"] = f"not usable; needs: {missing}"
            continue
        findings = [_compare(runtime, files[kind], kind, pixels, expected[kind]) for kind in files]
        facts[f"runtime {name}"] = "; ".join(text for text, _ in findings)
        agree = agree and all(fine for _, fine in findings)
    return facts | {"ok": agree}


def _network() -> nn.Module:
    """A kind of each layer that mobile networks have, and few of them: some runtimes compile for seconds per layer."""
    stem = conv_bn(3, 8, 3, stride=2)
    blocks = InvertedResidual(8, 16, 8, se=SqueezeExcite(16, 4)), InvertedResidual(8, 16, 12, 5, stride=2)
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


def _compare(
    runtime: Runtime, file: bytes, kind: str, pixels: npt.NDArray[np.uint8], expected: Scores
) -> tuple[str, bool]:
    """What to print of a file of a kind, float32 or int8, on a runtime, and whether that is well: "no int8" is."""
    try:
        program = runtime.load(file, 1)
        scores = program.run(pixels)[0]
    except SwiftletError as error:
        if isinstance(error, BadInput) and kind == "int8":
            return "no int8", True
        return f"FAILS: {error}", False
    worst = float(np.abs(scores - expected).max() / np.ptp(expected))
    program.close()
    fine = worst <= PARITY["bfloat16" if program.precision == "bfloat16" else kind]
    return f"{program.precision} {'agrees' if fine else 'DIFFERS'} (to {worst:.1g} of the scores' range)", fine
