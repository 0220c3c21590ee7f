"""From a container to tensors."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftlet.errors import BadFile, BadInput
from swiftlet.pack import streams
from swiftlet.pack.encodings import Source, decode
from swiftlet.pack.error import HEADER_AT, ContainerError
from swiftlet.pack.format import MAX_BYTES, Container, read_container


class Unpacked(NamedTuple):
    """Tensors by name, and the texts beside them."""

    tensors: dict[str, npt.NDArray[Any]]
    meta: dict[str, str]


def unpack_tensors(file: Path | bytes, *, max_bytes: int = MAX_BYTES) -> Unpacked:
    """What `pack_tensors` was given, to the bit.

    `max_bytes` limits the file and what it unpacks to. Raises ContainerError for a container that is refused, BadInput
    for one of an ONNX file, BadFile for a file that cannot be read.
    """
    container = read_container(read_file(file, max_bytes), max_bytes=max_bytes)
    if container.kind != "tensors":  # so no bf, which numpy does not have: see read_container
        raise BadInput("the container holds an ONNX file, not tensors by name; use unpack_onnx")
    source, digest, tensors = symbols_of(container), hashlib.sha256(), {}
    for entry in container.tensors:
        values = np.empty(entry.shape, f"<{entry.dtype}")
        data = values.reshape(-1).view(np.uint8)
        decode(entry.encoding, entry.dtype, data, source)
        digest.update(data.data)
        tensors[str(entry.name)] = values
    check_content(container, digest.hexdigest())
    return Unpacked(tensors, container.meta)


def symbols_of(container: Container) -> Source:
    """The decoded streams of the tensors. Raises ContainerError."""
    decoded = [streams.decode(stream) for stream in container.streams]
    return Source(decoded, [stream.offset for stream in container.streams])


def check_content(container: Container, sha256: str) -> None:
    if sha256 != container.sha256:
        raise ContainerError("content-digest", HEADER_AT)


def read_file(file: Path | bytes, limit: int) -> bytes:
    """The whole file. Raises BadFile if it cannot be read or is longer than the limit."""
    if isinstance(file, bytes):
        name, data = "the bytes given", file
    else:
        name = str(file)
        try:
            with Path(file).open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise BadFile(f"{name}: cannot be read ({error.strerror}); check the path") from error
    if len(data) > limit:
        raise BadFile(f"{name}: more than {limit:,} bytes; that is the limit (max_bytes)")
    return data
