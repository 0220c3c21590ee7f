"""ncnn on the CPU, converted by pnnx: float32, or bfloat16 where the CPU has it."""

import warnings
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from swiftlet.errors import BadFile
from swiftlet.runtime.base import Array, Program, check_usable
from swiftlet.runtime.convert import run_converter
from swiftlet.runtime.cpu import no_bfloat16
from swiftlet.runtime.onnx_io import OnePicture, Signature, fixed_shape, float_signature
from swiftlet.runtime.torch_graph import Graph

if TYPE_CHECKING:
    from swiftlet.cost.screen import Screened

HALF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")


class Ncnn:
    """True float32: what ncnn stores in fewer bits by default is switched off. Pictures run one by one."""

    name = "ncnn"

    def missing(self) -> str | None:
        return None if find_spec("ncnn") and find_spec("pnnx") else "pip install 'swiftlet[ncnn]'"

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen, pnnx or ncnn; BadInput on a quantized file."""
        check_usable(self, threads)
        return _load(self.name, path, threads, ())


class NcnnBfloat16:
    """Weights and maps kept in bfloat16, products in it where ncnn has them."""

    name = "ncnn-bf16"

    def missing(self) -> str | None:
        return Ncnn().missing() or no_bfloat16()

    def load(self, path: Path | bytes, threads: int) -> Program:
        """Raises BadFile if the file is refused, by the screen, pnnx or ncnn; BadInput on a quantized file."""
        check_usable(self, threads)
        return _load(self.name, path, threads, ("use_bf16_packed", "use_bf16_storage"))


def _load(name: str, path: Path | bytes, threads: int, half: tuple[str, ...]) -> Program:
    import ncnn

    from swiftlet.cost.screen import screen_onnx

    file = screen_onnx(path)
    io = float_signature(file, name)
    shape = fixed_shape(file, io, name)
    net = ncnn.Net()
    net.opt.use_vulkan_compute = False
    net.opt.num_threads = threads
    for option in HALF:
        setattr(net.opt, option, option in half)
    with TemporaryDirectory(prefix="swiftlet-") as folder:
        _pnnx(file, shape, Path(folder))
        if net.load_param(f"{folder}/net.ncnn.param") or net.load_model(f"{folder}/net.ncnn.bin"):
            raise BadFile(f"{file.name}: ncnn cannot load what pnnx made of it; it says why on stderr")
    return _Net(file.name, io, net, "bfloat16" if half else "float32")


def _pnnx(file: "Screened", shape: tuple[int, ...], folder: Path) -> None:
    """Write net.ncnn.param and net.ncnn.bin. Their input is float32 whatever the file's is: ncnn has no other."""
    import pnnx
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, but what pnnx reads; and the sizes are meant
        traced = torch.jit.trace(Graph(file, fixed_sizes=True), torch.zeros(shape), check_trace=False)  # type: ignore[no-untyped-call]
    traced.save(folder / "net.pt")
    sizes = ",".join(map(str, shape))
    run_converter([pnnx.EXEC_PATH, "net.pt", f"inputshape=[{sizes}]f32", "fp16=0"], folder, "net.ncnn.bin", file.name)


class _Net(OnePicture):
    def __init__(self, name: str, io: Signature, net: Any, precision: str) -> None:
        super().__init__(name, io, precision)
        self._net, self._shapes = net, io.output_shapes
        self._outputs = [f"out{i}" for i in range(len(io.output_names))]

    def picture(self, batch: Array) -> list[Array]:
        import ncnn

        if self._net is None:
            raise self.closed()
        pixels = np.ascontiguousarray(batch[0], np.float32)  # kept here: a Mat does not own what it is made of
        image = ncnn.Mat(pixels)
        run = self._net.create_extractor()
        if run.input("in0", image):
            raise BadFile(f"{self.name}: ncnn fails on its input")
        found = []
        for name, shape in zip(self._outputs, self._shapes, strict=True):
            code, result = run.extract(name)
            if code:
                raise BadFile(f"{self.name}: ncnn fails on {name} with code {code}")
            found.append(np.array(result).reshape(shape))
        return found

    def close(self) -> None:
        self._net = None
