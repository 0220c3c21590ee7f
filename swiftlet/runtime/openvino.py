"""OpenVINO on the CPU: float32, int8 from the same quantized file as ONNX Runtime, or bfloat16 without calibration."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.cpu import no_bfloat16
from swiftlet.runtime.onnx_io import FileProgram, Signature, float_signature, signature

if TYPE_CHECKING:
    from swiftlet.cost.screen import Screened

NAMES = {"u8": "int8", "i8": "int8", "bf16": "bfloat16", "f16": "float16", "f32": "float32"}
INSTALL = "pip install 'swiftlet[openvino]'"


class OpenVino:
    """Everything that is not int8 in float32, which is not OpenVINO's default where the CPU has bfloat16."""

    name = "openvino"

    def missing(self) -> str | None:
        return None if find_spec("openvino") else INSTALL

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen or by OpenVINO."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        return _load(file, signature(file), threads, "f32")


class OpenVinoBfloat16:
    """Convolutions and products in bfloat16. Quantized files are for `openvino`."""

    name = "openvino-bf16"

    def missing(self) -> str | None:
        return OpenVino().missing() or no_bfloat16()

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen or by OpenVINO, BadInput on a quantized file."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        return _load(file, float_signature(file, self.name), threads, "bf16")


def import_openvino() -> ModuleType:
    """OpenVINO without its telemetry, which sends an event as soon as it is imported and writes an identity into the
    home folder. It does without the package that sends if that cannot be imported."""
    if "openvino" in sys.modules:
        return sys.modules["openvino"]
    before = sys.modules.get("openvino_telemetry")
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to say: not importable
    try:
        return import_module("openvino")
    finally:
        del sys.modules["openvino_telemetry"]
        if before is not None:
            sys.modules["openvino_telemetry"] = before


def settings(threads: int, precision: str) -> dict[str, Any]:
    """How every file here is compiled; operations.py adds what it needs."""
    return {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }


def _load(file: "Screened", io: Signature, threads: int, precision: str) -> Program:
    core = import_openvino().Core()
    try:
        model = core.read_model(file.data, b"")  # the screened bytes: no file can refer to another one
        compiled = core.compile_model(model, "CPU", settings(threads, precision))
    except Exception as error:  # RuntimeError mostly, and what its bindings raise
        raise BadFile(f"{file.name}: OpenVINO refuses it: {_reason(error)}") from error
    return _Request(file.name, io, compiled)


class _Request(FileProgram):
    """multiplied_in: the type that each convolution and product is executed in, of OpenVINO's own graph."""

    def __init__(self, name: str, io: Signature, compiled: Any) -> None:
        self.multiplied_in = _multiplied_in(compiled)
        super().__init__(name, io, _precision(self.multiplied_in, io.precision))
        self._request = compiled.create_infer_request()
        self._outputs = range(len(compiled.outputs))

    def execute(self, batch: Array) -> list[Array]:
        if self._request is None:
            raise self.closed()
        try:
            self._request.infer([batch], share_inputs=True)
        except Exception as error:  # RuntimeError mostly, and what its bindings raise
            raise BadFile(f"{self.name}: OpenVINO fails on {batch.shape}: {_reason(error)}") from error
        return [self._request.get_output_tensor(i).data.copy() for i in self._outputs]

    def close(self) -> None:
        self._request = None


def _multiplied_in(compiled: Any) -> tuple[str, ...]:
    nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    kinds = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
    return tuple(node["runtimePrecision"].astype(str) for node in nodes if node["layerType"].astype(str) in kinds)


def _precision(multiplied_in: tuple[str, ...], file: str) -> str:
    """In words; a file that is int8 but executed as floats is called so."""
    used = [name for kind, name in NAMES.items() if kind in multiplied_in]
    if not used:
        return file
    if "int8" in used:
        return "int8"
    return f"int8 emulated in {used[0]}" if file == "int8" else used[0]


def _reason(error: Exception) -> str:
    """Its first lines name places in its own source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return said[0] if said else first_line(error)
