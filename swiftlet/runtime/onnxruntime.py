"""ONNX Runtime on the CPU, and on an NVIDIA GPU where there is one."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Clock, Program, check_usable, first_line
from swiftlet.runtime.denormals import unchanged_denormals
from swiftlet.runtime.onnx_io import FileProgram, Signature, float_signature, signature

ERRORS_ONLY = 4  # fatal; what goes wrong arrives as an exception, with the file's name


class OnnxRuntime:
    """Loads the screened bytes, never a path, so that no file can refer to another one."""

    name = "onnxruntime"

    def missing(self) -> str | None:
        return None if find_spec("onnxruntime") else "pip install onnxruntime"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen or by ONNX Runtime."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        return _session(file.name, file.data, signature(file), threads, ["CPUExecutionProvider"])


class OnnxRuntimeCuda:
    """The same on the first GPU, in true float32.

    A run copies the batch to the GPU and the outputs back, and returns when they have arrived; a race leaves the copies
    out. Quantized files are refused: the CUDA provider computes them in floats.
    """

    name = "onnxruntime-cuda"

    def missing(self) -> str | None:
        if find_spec("onnxruntime") is None:
            return "pip install onnxruntime-gpu"
        import onnxruntime as ort

        if "CUDAExecutionProvider" not in ort.get_available_providers():
            return "an NVIDIA GPU, and pip install onnxruntime-gpu in place of onnxruntime"
        return None

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused or the GPU cannot be used, BadInput on a quantized file."""
        from swiftlet.cost.screen import screen_onnx

        check_usable(self, threads)
        file = screen_onnx(path)
        io = float_signature(file, self.name)
        providers = [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
        program = _session(file.name, file.data, io, threads, providers, _CudaSession)
        if program.providers[0] != "CUDAExecutionProvider":  # ONNX Runtime goes to the CPU without an error
            raise BadFile(f"{file.name}: ONNX Runtime has the CUDA provider but cannot start it; is CUDA installed?")
        return program


class _Session(FileProgram):
    def __init__(self, name: str, io: Signature, session: Any) -> None:
        super().__init__(name, io, io.precision)
        self._input, self._session = io.input_name, session
        self.providers: list[str] = session.get_providers()

    def execute(self, batch: Array) -> list[Array]:
        if self._session is None:
            raise self.closed()
        try:
            outputs: list[Array] = self._session.run(self.output_names, {self._input: batch})
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"{self.name}: ONNX Runtime fails on {batch.shape}: {first_line(error)}") from error
        return outputs

    def close(self) -> None:
        self._session = None


class _CudaSession(_Session):
    def nanoseconds(self, batch: Array, clock: Clock) -> int:
        """From the batch on the GPU to the outputs there. ONNX Runtime has no events to ask, so it is the time by
        `clock` until the GPU has finished."""
        import onnxruntime as ort

        if self._session is None:
            raise self.closed()
        try:
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(self._input, ort.OrtValue.ortvalue_from_numpy(batch, "cuda", 0))
            for name in self.output_names:
                binding.bind_output(name, "cuda")
            binding.synchronize_inputs()
            start = clock()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return max(1, clock() - start)
        except Exception as error:  # its exceptions share no other base
            raise BadFile(f"{self.name}: ONNX Runtime fails on {batch.shape}: {first_line(error)}") from error


def session_options(threads: int) -> Any:
    """How every session here is made; operations.py adds what it needs."""
    import onnxruntime as ort  # here, so that `import swiftlet` works without it

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads  # explicit: the library's default differs per machine
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = ERRORS_ONLY
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def _session(
    name: str, data: bytes, io: Signature, threads: int, providers: list[Any], made: type[_Session] = _Session
) -> _Session:
    import onnxruntime as ort

    options = session_options(threads)
    try:
        with unchanged_denormals():  # the option also sets it in the thread that asks, for good
            return made(name, io, ort.InferenceSession(data, options, providers=providers))
    except Exception as error:  # its exceptions share no other base
        raise BadFile(f"{name}: ONNX Runtime refuses it: {first_line(error)}") from error
