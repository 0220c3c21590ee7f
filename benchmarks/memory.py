"""Peak activation memory: counted, and what ONNX Runtime takes.

A process of its own runs the file at two batch sizes; the difference of the peaks of its resident memory, per picture,
leaves out weights, code and scratch memory. Without its arena the runtime asks the system for each tensor and gives it
back after its last reader, which is what the count says; the arena keeps what it has and grows in powers of two.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.ledger import record
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_onnx
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.zoo import card, create_model, list_models

BATCHES = (2, 10)

# Layout "nchwc" pads channels to the width of the machine's vectors; "plain" is every other optimisation.
CHILD = """
import sys
import numpy as np
import onnxruntime as ort

file, side, arena, layout, *batches = sys.argv[1:]
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.enable_cpu_mem_arena = options.enable_mem_pattern = arena == "arena"
levels = ort.GraphOptimizationLevel
options.graph_optimization_level = levels.ORT_ENABLE_ALL if layout == "nchwc" else levels.ORT_ENABLE_EXTENDED

def resident(key):
    with open("/proc/self/status") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

for batch in map(int, batches):
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pictures = np.ones((batch, int(side), int(side), 3), np.uint8)
    session.run(None, {session.get_inputs()[0].name: pictures[:1]})
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = resident("VmRSS")
    session.run(None, {session.get_inputs()[0].name: pictures})
    print(resident("VmHWM") - before)
"""


def measured(file: bytes, side: int, *, arena: bool = False, layout: str = "plain") -> int:
    """Bytes per picture that ONNX Runtime takes beside the weights. Linux only: reads /proc."""
    # every block above a page comes from the system and goes back to it
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "4096", "MALLOC_TRIM_THRESHOLD_": "0"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(file)
        arguments = [str(path), str(side), "arena" if arena else "none", layout, *map(str, BATCHES)]
        done = subprocess.run(
            [sys.executable, "-c", CHILD, *arguments], env=environment, capture_output=True, text=True, check=True
        )
    few, many = map(int, done.stdout.split())
    return (many - few) // (BATCHES[1] - BATCHES[0])


def exported(name: str) -> tuple[bytes, int]:
    """The file of an untrained network of the zoo, float32, and its side."""
    side = card(name).input[1]
    plain, _ = deployed(create_model(name).eval())
    return export_onnx(plain, InputContract(side=side)), side


def run() -> None:
    figures: dict[str, Any] = {}
    for name in list_models():
        if card(name).input[0] != 3:
            continue  # the file takes pictures of three colours
        file, side = exported(name)
        counted = count_onnx(file).cost.peak_activation_bytes or 0
        found = {
            "none": measured(file, side),
            "nchwc": measured(file, side, layout="nchwc"),
            "arena": measured(file, side, arena=True),
        }
        figures[name] = {"counted": counted} | found | {"ratio": round(found["none"] / counted, 3)}
        print(name, figures[name], flush=True)
    record("memory", "python -m benchmarks memory", figures)


def table(figures: dict[str, Any]) -> str:
    """The rows of docs/counting.md: networks that take a megabyte or more, so that pages of memory do not matter."""
    rows = ["| network | counted, KB | no arena | vector layout | arena |", "|---|---|---|---|---|"]
    for name, found in figures.items():
        if found["counted"] >= 1_000_000:
            cells = (f"{found[mode] / found['counted']:.2f}" for mode in ("none", "nchwc", "arena"))
            rows.append(f"| `{name}` | {found['counted'] / 1000:,.0f} | {' | '.join(cells)} |")
    return "\n".join(rows)
