"""LiteRT (TensorFlow Lite) on the CPU with XNNPACK, converted by litert-torch. Float32 only."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Program, check_usable, first_line
from swiftlet.runtime.convert import convert
from swiftlet.runtime.onnx_io import OnePicture, Signature, fixed_shape, float_signature


class LiteRt:
    """Takes ONNX files like the others: a .tflite of unknown origin would reach native code unscreened."""

    name = "litert"

    def missing(self) -> str | None:
        here = find_spec("ai_edge_litert") and find_spec("litert_torch")
        return None if here else "pip install 'swiftlet[litert]' (2 GB; docs/runtimes.md says how)"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the screen, litert-torch or LiteRT refuses the file, BadInput if it is quantized."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        from ai_edge_litert.interpreter import Interpreter

        file = screen_onnx(path)
        io = float_signature(file, self.name)
        fixed_shape(file, io, self.name)
        content = convert(file, self.name)
        try:
            interpreter = Interpreter(model_content=content, num_threads=threads)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadFile(f"{file.name}: LiteRT refuses it: {first_line(error)}") from error
        return _Interpreter(file.name, io, interpreter)


class _Interpreter(OnePicture):
    def __init__(self, name: str, io: Signature, interpreter: Any) -> None:
        super().__init__(name, io, io.precision)
        self._interpreter = interpreter
        self._input: int = interpreter.get_input_details()[0]["index"]
        named = interpreter.get_signature_runner().get_output_details()  # output_0, output_1, ...
        self._outputs: list[int] = [named[f"output_{i}"]["index"] for i in range(len(named))]

    def picture(self, batch: Array) -> list[Array]:
        if self._interpreter is None:
            raise self.closed()
        try:
            self._interpreter.set_tensor(self._input, batch)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise BadFile(f"{self.name}: LiteRT fails on {batch.shape}: {first_line(error)}") from error
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def close(self) -> None:
        self._interpreter = None
