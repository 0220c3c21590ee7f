"""The ledger: one JSON file per benchmark, which README and docs quote and a test compares with them."""

import json
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swiftlet.files import write_json
from swiftlet.runtime.machine import machine

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy", "pillow")


def record(name: str, command: str, figures: dict[str, Any]) -> None:
    """Write results/NAME.json and print the figures."""
    entry = {
        "date": date.today().isoformat(),
        "command": command,
        "machine": str(machine()),
        "versions": {package: version(package) for package in PACKAGES},
        "figures": figures,
    }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", entry)
    print(json.dumps({name: figures}, indent=1))
