"""What a container's bytes are spent on, beside the entropy of its symbols."""

from dataclasses import dataclass

import numpy as np

from swiftlet.pack.ans import read_table
from swiftlet.pack.encodings import ITEMSIZE, Bytes, Source, decode
from swiftlet.pack.format import ANS, DEFLATE, RAW, SKELETON, Container, read_container
from swiftlet.pack.huffman import huffman_bits
from swiftlet.pack.reader import symbols_of
from swiftlet.pack.streams import entropy_bits


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Bytes. `header` has names, shapes and digests; `graph` is the rest of an ONNX file, deflated; `plain` what is
    not coded: mantissas, codebooks; `tables` and `words` are the coded streams. `entropy` is that of the coded symbols,
    of each tensor by itself; `huffman` what an optimal prefix code for each tensor takes, without its table."""

    header: int
    graph: int
    plain: int
    tables: int
    words: int
    entropy: float
    huffman: float

    @property
    def total(self) -> int:
        return self.header + self.graph + self.plain + self.tables + self.words


def breakdown(data: bytes) -> Breakdown:
    """Of a container. Raises ContainerError."""
    container = read_container(data)
    source = _Measured(container)
    for entry in container.tensors:
        out = np.empty(int(np.prod(entry.shape)) * ITEMSIZE[entry.dtype], np.uint8)
        decode(entry.encoding, entry.dtype, out, source)
    size = dict.fromkeys((RAW, DEFLATE, ANS, SKELETON), 0)
    for stream in container.streams:
        size[stream.coder] += len(stream.data)
    tables = sum(read_table(stream.data)[2] for stream in container.streams if stream.coder == ANS)
    return Breakdown(
        header=len(data) - sum(size.values()),
        graph=size[DEFLATE] + size[SKELETON],
        plain=size[RAW],
        tables=tables,
        words=size[ANS] - tables,
        entropy=source.entropy / 8,
        huffman=source.huffman / 8,
    )


class _Measured(Source):
    """Adds up the entropy of what is taken from coded streams."""

    def __init__(self, container: Container) -> None:
        decoded = symbols_of(container)
        super().__init__(decoded.streams, decoded.offsets)
        self.coded = [stream.coder == ANS for stream in container.streams]
        self.entropy = self.huffman = 0.0

    def take(self, stream: int, count: int) -> Bytes:
        symbols = super().take(stream, count)
        if self.coded[stream]:
            counts = np.bincount(symbols, minlength=256)
            self.entropy += float(entropy_bits(counts.astype(np.float64)))
            self.huffman += huffman_bits(counts)
        return symbols
