"""Other tools' ways from a trained network to a small file, each as its own documentation recommends.

All start from the same network, as torch.onnx.export writes it where they take ONNX, and calibrate on the same
pictures. What an exporter notes beside the network (names of source lines, 200 KB of them) is taken out, so that
nobody's file is large for it. Needs the extra `rivals`.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.data.photos import Photos
from swiftlet.errors import MissingExtra
from swiftlet.gate import CALIBRATION
from swiftlet.runtime.cpu import adds_in_16_bits
from swiftlet.runtime.openvino import import_openvino

INPUT = "image"


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What everybody starts from: the trained network in eval mode, which nobody edits, and its photos; minutes that
    fine-tuning may take; points that may be lost; a folder to write to. `seed` deals the calibration pictures. `kept`:
    how the names of layers end that Torch-Pruning is told to leave as wide as they are."""

    model: nn.Module
    contract: InputContract
    photos: Photos
    minutes: float
    max_drop: float
    folder: Path
    seed: int = 0
    kept: tuple[str, ...] = ()

    @property
    def example(self) -> Tensor:
        return torch.zeros(1, 3, self.contract.side, self.contract.side)

    def calibration(self) -> npt.NDArray[np.float32]:
        """(256, 3, side, side): the training pictures that the ladder of swiftlet.shrink calibrates on."""
        some = np.random.default_rng(self.seed).permutation(len(self.photos.train))[:CALIBRATION]
        return self.images(self.photos.train.subset(some).pixels(self.contract))

    def images(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.contract.normalise(pixels))


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: npt.NDArray[np.float32]) -> None:
        self.rows: Iterator[npt.NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        row = next(self.rows, None)
        return None if row is None else {INPUT: row[None]}


def required(name: str) -> Any:
    """A tool that only this benchmark needs. Raises MissingExtra."""
    os.environ.setdefault("NNCF_CI", "1")  # NNCF's word for: send nothing
    import_openvino()  # so that NNCF does not import it with its telemetry
    try:
        tool = import_module(name)
    except ImportError as error:
        raise MissingExtra(f"benchmarks shrink compares with {name}: pip install 'swiftlet[bench,rivals]'") from error
    logging.getLogger("nncf").setLevel(logging.ERROR)  # it tells each of its steps
    return tool


def check_installed() -> None:
    """Raises MissingExtra before anything is trained."""
    for name in ("nncf", "torch_pruning", "torchao"):
        required(name)


# --- float32 ----------------------------------------------------------------------------------------------------------


def export(model: nn.Module, example: Tensor, file: Path) -> None:
    """By PyTorch's own exporter, at batch 1, which suits every tool here."""
    torch.onnx.export(
        model, (example,), str(file), input_names=[INPUT], dynamo=True, external_data=False, verbose=False
    )
    save_bare(onnx.load(str(file)), file)


def save_bare(model: onnx.ModelProto, file: Path) -> None:
    """Without notes: metadata and doc strings decide nothing that is computed."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, str(file))


def float32(given: Given) -> Path:
    file = given.folder / "float32.onnx"
    export(given.model, given.example, file)
    return file


# --- ONNX Runtime -----------------------------------------------------------------------------------------------------


def onnxruntime_default(given: Given) -> Path:
    file = given.folder / "onnxruntime-default.onnx"
    quantize_static(str(given.folder / "float32.onnx"), str(file), Reader(given.calibration()))
    save_bare(onnx.load(str(file)), file)
    return file


def onnxruntime_best(given: Given) -> Path:
    return statically_quantized(given.folder / "float32.onnx", given.folder / "onnxruntime-best.onnx", given)


def statically_quantized(source: Path, file: Path, given: Given) -> Path:
    """As its documentation advises: preprocessed, per channel, uint8 activations, int8 weights; of 7 bits where a CPU
    has no VNNI."""
    with tempfile.TemporaryDirectory() as folder:
        ready = f"{folder}/ready.onnx"
        quant_pre_process(str(source), ready)
        quantize_static(
            ready,
            str(file),
            Reader(given.calibration()),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=adds_in_16_bits(),
        )
    save_bare(onnx.load(str(file)), file)
    return file


# --- NNCF -------------------------------------------------------------------------------------------------------------


def _dataset(nncf: Any, given: Given, form: Callable[[npt.NDArray[np.float32]], Any]) -> Any:
    return nncf.Dataset([form(row[None]) for row in given.calibration()])


def nncf_onnx(given: Given) -> Path:
    nncf, file = required("nncf"), given.folder / "nncf.onnx"
    model = onnx.load(str(given.folder / "float32.onnx"))
    save_bare(nncf.quantize(model, _dataset(nncf, given, lambda row: {INPUT: row})), file)
    return file


def nncf_accuracy_control(given: Given) -> Path:
    """Layers that cost most go back to floats, one after the other, until no more than max_drop points are lost."""
    nncf, file = required("nncf"), given.folder / "nncf-accuracy-control.onnx"
    split = given.photos.val
    rows = list(zip(given.images(split.pixels(given.contract))[:, None], split.labels.tolist(), strict=True))
    sessions: list[tuple[Any, InferenceSession]] = []  # of the model that was asked for last: NNCF asks for each row

    def right(model: onnx.ModelProto, some: Iterable[tuple[npt.NDArray[np.float32], int]]) -> tuple[float, list[float]]:
        if not sessions or sessions[0][0] is not model:
            sessions[:] = [(model, InferenceSession(model.SerializeToString()))]
        run = sessions[0][1].run
        found = [float(run(None, {INPUT: image})[0].argmax() == label) for image, label in some]
        return sum(found) / len(found), found

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(str(given.folder / "float32.onnx")),
        _dataset(nncf, given, lambda row: {INPUT: row}),
        nncf.Dataset(rows, lambda row: {INPUT: row[0]}),
        right,
        max_drop=given.max_drop / 100,
    )
    save_bare(quantized, file)
    return file


def nncf_openvino(given: Given) -> Path:
    """OpenVINO's own format, which NNCF is made for: .xml, with a .bin beside it."""
    nncf, openvino, file = required("nncf"), import_openvino(), given.folder / "nncf-openvino.xml"
    model = openvino.Core().read_model(str(given.folder / "float32.onnx"))
    openvino.save_model(nncf.quantize(model, _dataset(nncf, given, lambda row: row)), str(file))
    return file


# --- torchao ----------------------------------------------------------------------------------------------------------


def _pt2e(given: Given) -> nn.Module:
    """PyTorch's export, calibrated and converted with the quantizer for x86."""
    steps, x86 = (
        required(f"torchao.quantization.pt2e.{name}") for name in ("quantize_pt2e", "quantizer.x86_inductor_quantizer")
    )
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = steps.prepare_pt2e(torch.export.export(given.model, (given.example,)).module(), quantizer)
    with torch.no_grad():
        for row in torch.from_numpy(given.calibration()):
            prepared(row[None])
    converted: nn.Module = steps.convert_pt2e(prepared)
    converted.training = False  # as it was exported; it does not know
    return converted


def torchao_inductor(given: Given) -> Path:
    """Compiled for one thread by AOTInductor, weights folded in: the file that PyTorch itself runs."""
    file, threads = given.folder / "torchao.pt2", torch.get_num_threads()
    torch.set_num_threads(1)  # it is compiled for as many
    try:
        with torch.no_grad():
            program = torch.export.export(_pt2e(given), (given.example,))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(file), inductor_configs={"freezing": True}
            )
    finally:
        torch.set_num_threads(threads)
    return file


def torchao_onnx(given: Given) -> Path:
    """The same network by PyTorch's exporter, for ONNX Runtime."""
    file = given.folder / "torchao.onnx"
    export(_pt2e(given), given.example, file)
    return file
