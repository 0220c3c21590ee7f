"""What every runtime reads from a screened ONNX file: its one input, its outputs, and its precision."""

import copy
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swiftlet.errors import BadFile, BadInput
from swiftlet.runtime.base import Array, Program

if TYPE_CHECKING:
    import onnx

    from swiftlet.cost.screen import Screened

INTEGER_OPERATORS = {"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}


class Signature(NamedTuple):
    """input_shape has None for free dimensions; output_shapes are those at batch 1.

    precision: "int8" if the file rounds activations to integers, else the type of its weights.
    """

    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: np.dtype[Any]
    output_names: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    output_dtypes: tuple[np.dtype[Any], ...]
    precision: str


class FileProgram(Program):
    """A program that was made from an ONNX file, with the attributes that the file gives."""

    def __init__(self, name: str, io: Signature, precision: str) -> None:
        self.name, self.input_shape, self.input_dtype = name, io.input_shape, io.input_dtype
        self.output_names, self.precision = io.output_names, precision

    def closed(self) -> BadFile:
        """The error of a program that was closed before."""
        return BadFile(f"{self.name}: the program is closed; load the file again")


class OnePicture(FileProgram):
    """A program that was converted at batch 1: larger batches run picture by picture."""

    def execute(self, batch: Array) -> list[Array]:
        if len(batch) == 1:
            return self.picture(batch)
        pictures = [self.picture(batch[i : i + 1]) for i in range(len(batch))]
        return [np.concatenate(parts) for parts in zip(*pictures, strict=True)]

    @abstractmethod
    def picture(self, batch: Array) -> list[Array]:
        """The outputs of a batch of one."""


def signature(file: "Screened") -> Signature:
    """Raises BadFile if the network has more than one input."""
    from onnx.helper import tensor_dtype_to_np_dtype

    from swiftlet.cost.shapes import real_inputs

    inputs, outputs = real_inputs(file.model.graph), file.model.graph.output
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise BadFile(f"{file.name}: {len(inputs)} inputs ({names}); swiftlet runs networks with one, the photo")
    tensor = inputs[0].type.tensor_type
    known = [file.known[value.name] for value in outputs]
    return Signature(
        inputs[0].name,
        tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim),
        tensor_dtype_to_np_dtype(tensor.elem_type),
        tuple(value.name for value in outputs),
        tuple(tensor.shape for tensor in known),
        tuple(tensor_dtype_to_np_dtype(tensor.dtype) for tensor in known),
        _precision(file.model),
    )


def float_signature(file: "Screened", runtime: str) -> Signature:
    """The same for a runtime that computes in floating point: raises BadInput on a file that is meant to run in int8,
    whose time in floats would say nothing."""
    io = signature(file)
    if io.precision == "int8":
        raise BadInput(
            f"{file.name}: a quantized file, and {runtime} computes in floating point only; "
            f"run it on onnxruntime or openvino, or give {runtime} the float file"
        )
    return io


def fixed_shape(file: "Screened", io: Signature, runtime: str) -> tuple[int, ...]:
    """The input's shape at batch 1. Raises BadFile if another dimension is free, or the batch is fixed at more."""
    batch, *rest = io.input_shape
    if None in rest or batch not in (None, 1):
        raise BadFile(
            f"{file.name}: the input is {io.input_shape}, and {runtime} is given networks of one picture of fixed "
            "size; export the file with a free batch and all other sizes fixed"
        )
    return (1, *(size for size in rest if size is not None))


def at_shape(file: "Screened", shape: tuple[int, ...]) -> "Screened":
    """The same file, of which more is known: the input has `shape`."""
    from swiftlet.cost.shapes import infer_shapes, real_inputs

    model = copy.deepcopy(file.model)
    for dim, size in zip(real_inputs(model.graph)[0].type.tensor_type.shape.dim, shape, strict=True):
        dim.dim_value = size
    return file._replace(model=model, known=infer_shapes(model))


def _precision(model: "onnx.ModelProto") -> str:
    from onnx.helper import tensor_dtype_to_np_dtype

    operators = {node.op_type for node in model.graph.node}
    if operators & INTEGER_OPERATORS or any(name.startswith("QLinear") for name in operators):
        return "int8"
    sizes: dict[str, int] = {}
    stored = {node.input[0] for node in model.graph.node if node.op_type == "Cast"}  # in fewer bits than computed in
    for tensor in model.graph.initializer:
        dtype = tensor_dtype_to_np_dtype(tensor.data_type)
        if tensor.name not in stored and dtype.name.endswith(("float16", "float32", "float64")):
            sizes[dtype.name] = sizes.get(dtype.name, 0) + max(1, int(np.prod(tensor.dims)))
    return max(sizes, key=lambda name: sizes[name], default="float32")
