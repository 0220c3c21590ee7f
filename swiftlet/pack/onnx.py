"""ONNX files in a container: the weights coded, the rest deflated, and every byte of the file back where it was.

A file is cut at its tensors' raw bytes. What remains, the skeleton, is the graph as it was written, lengths included,
so joining the pieces needs no protobuf library and gives the same bytes whoever wrote the file, and whatever else is
in it.
"""

import hashlib
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from onnx import TensorProto

from swiftlet.errors import BadFile, BadInput
from swiftlet.pack.encodings import ITEMSIZE, decode
from swiftlet.pack.error import ContainerError
from swiftlet.pack.format import MAGIC, MAX_BYTES, read_container
from swiftlet.pack.reader import check_content, read_file, symbols_of
from swiftlet.pack.wire import BROKEN, check_wire, fields
from swiftlet.pack.writer import Item, write_items

MIN_BYTES = 300  # of a tensor; below, its line in the header costs more than the coder saves, unless it has
FEW_BYTES, FEW_VALUES = 64, 16  # at least so many bytes of so few values: weights of 4 bits or less
DTYPES = {
    TensorProto.FLOAT: "f4", TensorProto.DOUBLE: "f8", TensorProto.FLOAT16: "f2", TensorProto.BFLOAT16: "bf",
    TensorProto.INT16: "i2", TensorProto.INT32: "i4", TensorProto.INT64: "i8",
    TensorProto.UINT16: "u2", TensorProto.UINT32: "u4", TensorProto.UINT64: "u8",
}  # fmt: skip

# fields that lead to tensors, by number (onnx.proto): graph; initializers and nodes; attributes; tensors
GRAPH = 7
INSIDE = {
    "model": {GRAPH: "graph"},
    "graph": {5: "tensor", 1: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor"},
}
FLOAT_DATA, RAW_DATA, DOUBLE_DATA = 4, 9, 10


def pack_onnx(file: Path | bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A container from which `unpack_onnx` restores the file to the bit.

    Raises BadFile if the file cannot be read, is larger than max_bytes or is no ONNX file.
    """
    data = read_file(file, max_bytes)
    name = "ONNX bytes" if isinstance(file, bytes) else str(file)
    try:
        check_wire(data)
        tensors = sorted(_tensors(data))
    except (BadFile, DecodeError) as error:
        raise BadFile(f"{name}: {error if isinstance(error, BadFile) else BROKEN}") from error
    if not any(field == GRAPH for field, _, _ in fields(data, 0, len(data))):
        raise BadFile(f"{name}: no graph inside; is it an ONNX file?")
    items, rest, end = [], [], 0
    for low, high, dtype in tensors:
        rest.append(data[end:low])
        items.append(Item(len(rest[-1]), dtype, ((high - low) // ITEMSIZE[dtype],), data[low:high]))
        end = high
    rest.append(data[end:])
    return write_items("onnx", {}, hashlib.sha256(data).hexdigest(), items, b"".join(rest))


def unpack_onnx(file: Path | bytes, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The ONNX file in a container, as its bytes: what a runtime loads, after the screening of any other file.

    `max_bytes` limits the file and what it unpacks to. Raises ContainerError for a container that is refused, BadInput
    for one of tensors, BadFile for a file that cannot be read.
    """
    container = read_container(read_file(file, max_bytes), max_bytes=max_bytes)
    if container.kind != "onnx":
        raise BadInput("the container holds tensors by name, not an ONNX file; use unpack_tensors")
    source = symbols_of(container)
    skeleton = source.streams[0]
    sizes = [prod(entry.shape) * ITEMSIZE[entry.dtype] for entry in container.tensors]
    file_bytes, at, taken = np.empty(skeleton.size + sum(sizes), np.uint8), 0, 0
    for entry, size in zip(container.tensors, sizes, strict=True):
        gap = int(entry.name)
        file_bytes[at : at + gap] = skeleton[taken : taken + gap]
        at, taken = at + gap, taken + gap
        decode(entry.encoding, entry.dtype, file_bytes[at : at + size], source)
        at += size
    file_bytes[at:] = skeleton[taken:]
    check_content(container, hashlib.sha256(file_bytes.data).hexdigest())
    return file_bytes.tobytes()


def plain_onnx(data: bytes, name: str, *, max_bytes: int = MAX_BYTES) -> bytes:
    """What a file `name` holds: the ONNX file in it if it is a container, by its first bytes; else `data` as it is.

    Raises ContainerError, and BadFile for a container of tensors, both with the name.
    """
    if not data.startswith(MAGIC[:4]):  # an ONNX file cannot begin so: it would be field 1,329
        return data
    try:
        return unpack_onnx(data, max_bytes=max_bytes)
    except ContainerError as error:
        raise ContainerError(error.code, error.offset, name) from error
    except BadInput as error:
        raise BadFile(f"{name}: a container of tensors by name, not of an ONNX file; unpack it instead") from error


def _tensors(data: bytes) -> Iterator[tuple[int, int, str]]:
    """(start, end, type) of the numbers of every tensor that is worth it."""
    todo = [("model", 0, len(data))]
    while todo:
        kind, start, end = todo.pop()
        for field, low, high in fields(data, start, end):
            if kind != "tensor":
                if field in INSIDE[kind]:
                    todo.append((INSIDE[kind][field], low, high))
            elif field in (FLOAT_DATA, RAW_DATA, DOUBLE_DATA) and _pays(data[low:high]):
                yield low, high, _dtype(data[start:end], high - low)


def _pays(raw: bytes) -> bool:
    return len(raw) >= MIN_BYTES or (len(raw) >= FEW_BYTES and len(set(raw)) <= FEW_VALUES)


def _dtype(tensor: bytes, size: int) -> str:
    """Of the raw numbers of a TensorProto; types of a byte or less, and all that does not divide, are bytes."""
    dtype = DTYPES.get(TensorProto.FromString(tensor).data_type, "u1")
    return dtype if size % ITEMSIZE[dtype] == 0 else "u1"
