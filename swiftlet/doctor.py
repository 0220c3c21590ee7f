"""What works on this machine: versions, runtimes, and a tiny network sent the whole way through each of them."""

import sys
from typing import Any

import numpy as np
import torch

from swiftlet._version import __version__
from swiftlet.data.contract import InputContract
from swiftlet.errors import SwiftletError
from swiftlet.export.onnx import export_onnx
from swiftlet.plan import Candidate
from swiftlet.runtime import RUNTIMES
from swiftlet.runtime.machine import machine

PARITY = 1e-4


def examine() -> dict[str, Any]:
    """Facts by name; "ok" is True if every installed runtime agrees with PyTorch on a network exported just now."""
    facts: dict[str, Any] = {"swiftlet": __version__, "python": sys.version.split()[0], "machine": str(machine())}
    facts["torch threads"] = torch.get_num_threads()
    model = Candidate(network="mobilenet_v1", width=0.0625, side=32).build(10, 0).eval()
    contract = InputContract(side=32)
    file = export_onnx(model, contract)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    with torch.inference_mode():
        expected = torch.softmax(model(torch.from_numpy(contract.normalise(pixels))), 1).numpy()
    ok = True
    for name, runtime in RUNTIMES.items():
        if name == "null":
            continue
        missing = runtime.missing()
        if missing:
            facts[f"runtime {name}"] = f"not installed: {missing}"
            continue
        try:
            worst = float(np.abs(runtime.load(file, 1).run(pixels)[0] - expected).max())
        except SwiftletError as error:
            facts[f"runtime {name}"], ok = f"FAILS: {error}", False
            continue
        ok = ok and worst <= PARITY
        facts[f"runtime {name}"] = f"{'agrees' if worst <= PARITY else 'DIFFERS'}, largest difference {worst:.1g}"
    return facts | {"ok": ok}
