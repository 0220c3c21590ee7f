"""Files in and out of containers, told apart by name on the way in and by content on the way out."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from swiftlet.errors import BadFile, BadInput
from swiftlet.pack.error import ContainerError
from swiftlet.pack.format import MAX_BYTES, read_container
from swiftlet.pack.onnx import pack_onnx, unpack_onnx
from swiftlet.pack.reader import read_file, unpack_tensors
from swiftlet.pack.writer import pack_tensors

SUFFIX = ".swl"


def pack_file(path: Path) -> bytes:
    """The container of an .onnx file, or of the tensors and metadata of a .safetensors file.

    Raises BadInput for any other name, BadFile for a file that is not what its name says or cannot be read.
    """
    if path.suffix == ".onnx":
        return pack_onnx(path)
    if path.suffix != ".safetensors":
        raise BadInput(f"pack: {path} is neither an .onnx nor a .safetensors file")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return pack_tensors(tensors, file.metadata())
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that numpy does not have
        raise BadFile(f"{path}: {error}; give float16 to float64 or integers") from error


def unpack_file(path: Path) -> tuple[bytes, str]:
    """The content of a container and the suffix of its file: the ONNX file to the bit, or a safetensors file.

    Raises ContainerError if the container is refused, BadFile if the file cannot be read.
    """
    data = read_file(path, MAX_BYTES)
    try:
        if read_container(data).kind == "onnx":
            return unpack_onnx(data), ".onnx"
        tensors, meta = unpack_tensors(data)
    except ContainerError as error:
        raise ContainerError(error.code, error.offset, str(path)) from error
    return save(tensors, meta or None), ".safetensors"
