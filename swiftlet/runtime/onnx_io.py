"""The one input and the outputs of a screened ONNX file, as every runtime needs them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from swiftlet.errors import BadFile

if TYPE_CHECKING:
    from swiftlet.cost.screen import Screened


class Signature(NamedTuple):
    """input_shape has None for free dimensions; output_shapes are those at batch 1."""

    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: np.dtype[Any]
    output_names: tuple[str, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    output_dtypes: tuple[np.dtype[Any], ...]


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
    )
