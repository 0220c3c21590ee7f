"""Streams: which sequences of symbols share a table, and how streams turn into bytes and back."""

import zlib

import numpy as np
import numpy.typing as npt

from swiftlet.pack import ans, skeleton
from swiftlet.pack.encodings import Bytes
from swiftlet.pack.error import ContainerError
from swiftlet.pack.format import ANS, DEFLATE, RAW, SKELETON, Stream

Counts = npt.NDArray[np.float64]  # (..., 256)

OVERHEAD = 2 + 6 + 12  # bytes of a stream besides its frequencies: their range, the coder's last state, the header
MAX_TABLES = 64
PASSES = 2
DEFLATE_LEVEL = 9


def group(sequences: list[Bytes]) -> list[int]:
    """For each sequence the number of its stream: 0 is stored as it is, all others have a table each.

    The smallest come first; each joins the stream that grows least, or opens one where that costs less still. In a
    second pass each chooses again, among the streams that have formed.
    """
    counts = [np.bincount(s, minlength=256).astype(np.float64) for s in sequences]
    smallest_first = sorted(range(len(sequences)), key=lambda i: sequences[i].size)
    tables, chosen = np.zeros((MAX_TABLES, 256)), [0] * len(sequences)
    for i in smallest_first * PASSES:
        if chosen[i]:
            tables[chosen[i] - 1] -= counts[i]
        open_ = min(MAX_TABLES, max(chosen) + 1)  # with one that is empty
        growth = coded_bytes(tables[:open_] + counts[i]) - coded_bytes(tables[:open_])
        best = int(growth.argmin())
        chosen[i] = best + 1 if growth[best] < sequences[i].size else 0
        if chosen[i]:
            tables[best] += counts[i]
    return chosen


def coded_bytes(counts: Counts) -> Counts:
    """Bytes that an entropy coder needs for sequences with these counts, table included; 0 for none."""
    used = counts > 0
    runs = used[..., 0] + (used[..., 1:] & ~used[..., :-1]).sum(-1)  # of symbols that occur
    table = used.sum(-1) + 2 * (runs - 1)
    return np.where(runs > 0, entropy_bits(counts) / 8 + table + OVERHEAD, 0)


def entropy_bits(counts: Counts) -> Counts:
    """Shannon's bits of all symbols together, by the frequencies along the last axis."""
    total = np.maximum(counts.sum(-1, keepdims=True), 1)
    bits = np.log2(total / np.where(counts > 0, counts, total))
    return np.asarray((counts * bits).sum(-1))


def encode(coder: int, symbols: bytes | Bytes) -> Stream:
    """A stream of at least one symbol."""
    if coder == ANS:
        data = ans.encode(np.frombuffer(symbols, np.uint8))
    elif coder == SKELETON:
        data = skeleton.encode(bytes(symbols))
    else:
        data = zlib.compress(bytes(symbols), DEFLATE_LEVEL) if coder == DEFLATE else bytes(symbols)
    return Stream(coder, len(symbols), data)


def decode(stream: Stream) -> Bytes:
    """The symbols of a stream, no more than it declares. Raises ContainerError."""
    if stream.coder == RAW:
        return np.frombuffer(stream.data, np.uint8)
    if stream.coder == ANS:
        return ans.decode(stream.data, stream.symbols, stream.offset)
    if stream.coder == SKELETON:
        return skeleton.decode(stream.data, stream.symbols, stream.offset)
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(stream.data, stream.symbols + 1)
    except zlib.error as error:
        raise ContainerError("deflate", stream.offset) from error
    if len(text) != stream.symbols or not inflater.eof or inflater.unused_data:
        raise ContainerError("deflate", stream.offset)
    return np.frombuffer(text, np.uint8)
