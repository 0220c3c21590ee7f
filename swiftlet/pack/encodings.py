"""What the symbols of a tensor mean. A symbol is one byte; each encoding is a list of small numbers, streams included.

    []                                   a tensor without elements
    [0, stream]                          its bytes as they are
    [1, stream, ...]                     a stream for each byte of an element, lowest first. Floats are rotated left by
                                         one bit before, so that the highest byte is the exponent and the sign is lowest
    [2, size, stream, ..., stream]       `size` <= 256 different values, as the differences of ascending unsigned
                                         integers, a stream for each byte; then an index for each element: the weight
                                         sharing of Deep Compression
    [3, nonzeros, gaps, stream, inner]   `gaps` symbols: 0 to 254 zeros and then a weight, or 255 for as many zeros and
                                         no weight; then the weights that are not zero, in an encoding of their own
    [4, bits, stream]                    bytes of two symbols of 4 bits each, or of four of 2, lowest first

Deep Compression: Han, Mao, Dally 2016, arXiv:1510.00149, sections 2 and 3.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from swiftlet.pack.error import HEADER_AT, ContainerError

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.unsignedinteger[Any]]  # elements as unsigned integers of the same width

# bf is bfloat16, which numpy does not have
ITEMSIZE = {
    "f2": 2, "f4": 4, "f8": 8, "bf": 2,
    "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8,
}  # fmt: skip
FLOATS = ("f2", "f4", "f8", "bf")
FIELDS = (2, 4)  # bits of the symbols of encoding 4
SKIP = 255
MAX_CODEBOOK = 256
BLOCK = 1 << 18  # elements at once, so that decoding needs little more than the streams and the tensors themselves


def demands(encoding: Any, dtype: str, count: int, *, version: int, inner: bool = False) -> Iterator[tuple[int, int]]:
    """(stream, number of symbols) in the order in which they are taken. Raises ContainerError for what cannot be."""
    width = ITEMSIZE[dtype]
    match encoding:
        case [tag, *_] if type(tag) is not int:  # True and 1.0 equal 1
            raise ContainerError("encoding", HEADER_AT)
        case [] if count == 0 and not inner:
            pass
        case [0, stream] if count and _sizes(stream):
            yield stream, count * width
        case [1, *streams] if count and len(streams) == width and _sizes(*streams):
            yield from ((stream, count) for stream in streams)
        case [2, size, *streams] if (
            count and width <= 4 and len(streams) == width + 1 and _sizes(size, *streams) and 1 <= size <= MAX_CODEBOOK
        ):
            yield from ((stream, size) for stream in streams[:-1])
            yield streams[-1], count
        case [3, nonzeros, gaps, stream, weights] if (
            count and not inner and _sizes(nonzeros, gaps, stream) and 1 <= nonzeros <= gaps <= count
        ):
            yield stream, gaps
            yield from demands(weights, dtype, nonzeros, version=version, inner=True)
        case [4, bits, stream] if (
            version > 1 and count and width == 1 and not inner and _sizes(bits, stream) and bits in FIELDS
        ):
            yield stream, count * 8 // bits
        case _:
            raise ContainerError("encoding", HEADER_AT)


class Source:
    """Decoded streams, and how much of each is taken; `offsets` says where each began in the file."""

    def __init__(self, streams: Sequence[Bytes], offsets: Sequence[int]) -> None:
        self.streams, self.offsets, self.taken = streams, offsets, [0] * len(streams)

    def take(self, stream: int, count: int) -> Bytes:
        start = self.taken[stream]
        self.taken[stream] += count
        return self.streams[stream][start : start + count]


def decode(encoding: list[Any], dtype: str, out: Bytes, source: Source) -> None:
    """Write a tensor's bytes to `out`, from an encoding that has passed `demands`. Raises ContainerError."""
    width = ITEMSIZE[dtype]
    words = out.view(f"<u{width}")
    match encoding:
        case [0, stream]:
            out[:] = source.take(stream, out.size)
        case [1, *streams]:
            planes = out.reshape(-1, width)
            for i, stream in enumerate(streams):
                planes[:, i] = source.take(stream, len(planes))
            if dtype in FLOATS:
                for start in range(0, words.size, BLOCK):
                    words[start : start + BLOCK] = rotated(words[start : start + BLOCK], -1)
        case [2, size, *streams, indices]:
            steps = np.stack([source.take(stream, size) for stream in streams], 1).astype(np.uint64)
            values = (steps << np.arange(0, 8 * width, 8, dtype=np.uint64)).sum(1).cumsum()
            index = source.take(indices, words.size)
            if (values[1:] <= values[:-1]).any() or values[-1] >> np.uint64(8 * width) or index.max() >= size:
                raise ContainerError("codebook", source.offsets[indices])
            for start in range(0, words.size, BLOCK):
                words[start : start + BLOCK] = values[index[start : start + BLOCK]]
        case [3, nonzeros, gaps, stream, inner]:
            symbols, weights = source.take(stream, gaps), np.empty(nonzeros * width, np.uint8)
            decode(inner, dtype, weights, source)
            if not _spread(symbols, weights.view(words.dtype), words):
                raise ContainerError("gaps", source.offsets[stream])
        case [4, bits, stream]:
            fields = source.take(stream, out.size * 8 // bits).reshape(out.size, -1)
            if fields.max() >> bits:
                raise ContainerError("codebook", source.offsets[stream])
            for start in range(0, out.size, BLOCK):
                out[start : start + BLOCK] = joined(fields[start : start + BLOCK], bits)


def split(bytes_: Bytes, bits: int) -> Bytes:
    """(n,) -> (n, 8 / bits): the fields of each byte, lowest first."""
    return bytes_[:, None] >> np.arange(0, 8, bits, dtype=np.uint8) & np.uint8(2**bits - 1)


def joined(fields: Bytes, bits: int) -> Bytes:
    """The inverse."""
    bytes_: Bytes = np.bitwise_or.reduce(fields << np.arange(0, 8, bits, dtype=np.uint8), axis=1)
    return bytes_


def rotated(words: Words, by: int) -> Words:
    """Each word rotated left by one bit, or right if by is -1."""
    bits = 8 * words.itemsize
    one, rest = words.dtype.type(1), words.dtype.type(bits - 1)
    return (words << one) | (words >> rest) if by == 1 else (words >> one) | (words << rest)


def gaps_of(words: Words) -> Bytes:
    """The gap symbols of an array that is not all zero."""
    zeros = np.diff(np.flatnonzero(words), prepend=-1) - 1
    ends = np.cumsum(zeros // SKIP + 1)
    symbols = np.full(ends[-1], SKIP, np.uint8)
    symbols[ends - 1] = zeros % SKIP
    return symbols


def _spread(symbols: Bytes, weights: Words, words: Words) -> bool:
    """Put the weights where the gap symbols lead, zeros elsewhere; False if the two do not agree."""
    words[:] = 0
    end = used = 0
    for start in range(0, symbols.size, BLOCK):
        block = symbols[start : start + BLOCK]
        weight = block != SKIP
        ends = end + np.cumsum(block + weight.astype(np.int64))
        places, end = ends[weight] - 1, int(ends[-1])
        if end > words.size or used + places.size > weights.size:
            return False
        words[places] = weights[used : used + places.size]
        used += places.size
    return bool(used == weights.size and symbols[-1] != SKIP and weights.all())


def _sizes(*values: Any) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
