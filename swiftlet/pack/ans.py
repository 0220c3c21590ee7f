"""Asymmetric numeral systems (Duda 2013, arXiv:1311.2540) with a table of frequencies in front.

    lowest, highest    two symbols
    frequencies        of the symbols from lowest to highest, unless these are the same: a byte for each, but 0 and a
                       byte r for r + 1 symbols in a row that do not occur
    words              32 bits each, little-endian, as constriction's AnsCoder makes them: a stack, read from its end

A frequency byte is 1 + 8 * e + m and stands for (8 + m) * 2^e: within 6 %, which costs 0.0005 bits a symbol. Of 2^24
parts, each of the n symbols gets one, and the rest is shared out in proportion, by running sums rounded down. So
the model is a matter of whole numbers, and any reader arrives at the same one. constriction takes probabilities as
floats; given each symbol's parts less one, they sum to 2^24 - n, its scale is exactly 1 and its model exactly ours.
"""

import numpy as np
import numpy.typing as npt
from constriction import stream  # type: ignore[import-untyped]

from swiftlet.pack.encodings import Bytes
from swiftlet.pack.error import ContainerError

PARTS = 1 << 24
MAX_FREQUENCY = 200  # (8 + 7) * 2^24: sums of 256 times 2^24 stay below 2^63
BLOCK = 1 << 20  # symbols decoded at once: the library returns 4 bytes for each


def encode(symbols: Bytes) -> bytes:
    """At least one symbol -> table and words."""
    counts = np.bincount(symbols, minlength=256)
    used = np.flatnonzero(counts)
    low, high = int(used[0]), int(used[-1])
    if low == high:
        return bytes((low, high))
    table = frequencies(counts[low : high + 1])
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32) - low, _model(table))
    words: npt.NDArray[np.uint32] = coder.get_compressed()
    return bytes((low, high)) + written(table) + words.astype("<u4").tobytes()


def decode(data: bytes, count: int, offset: int = 0) -> Bytes:
    """`count` symbols; `offset` is where the data begins in its file. Raises ContainerError."""
    low, table, end = read_table(data, offset)
    words = data[end:]
    if len(table) == 1:
        if words:
            raise ContainerError("ans", offset)
        return np.full(count, low, np.uint8)
    if len(words) % 4 or not any(words[-4:]):  # a state that begins with zero is written shorter
        raise ContainerError("ans", offset)
    coder, model = stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32)), _model(table)
    symbols = np.empty(count, np.uint8)
    for start in range(0, count, BLOCK):
        block = symbols[start : start + BLOCK]
        block[:] = coder.decode(model, len(block))
    if not coder.is_empty():
        raise ContainerError("ans", offset)
    symbols += low
    return symbols


def frequencies(counts: npt.NDArray[np.integer]) -> Bytes:
    """Counts -> bytes, the smallest that is not 0 as close to 1 as their spread permits."""
    present = counts > 0
    exponents = np.frexp(counts[present])[1] - 1
    eighths = np.rint(counts[present] * 2.0 ** (3 - exponents)).astype(int)  # 8 to 16
    found = 8 * exponents + eighths - 7
    found -= 8 * max(exponents.min(), -(-(found.max() - MAX_FREQUENCY) // 8))  # by octaves
    found = np.maximum(found, 1)
    table = np.zeros(len(counts), np.uint8)
    table[present] = found
    return table


def written(table: Bytes) -> bytes:
    """Frequencies as they are stored."""
    stored, zeros = bytearray(), 0
    for frequency in table.tolist():
        if frequency and zeros:
            stored += bytes((0, zeros - 1))
        if frequency:
            stored.append(frequency)
        zeros = 0 if frequency else zeros + 1
    return bytes(stored)


def read_table(data: bytes, offset: int = 0) -> tuple[int, Bytes, int]:
    """The lowest symbol, the frequencies from there on, and where they end in the data. Raises ContainerError."""
    if len(data) < 2 or data[0] > data[1]:
        raise ContainerError("table", offset)
    low, span, end = data[0], data[1] - data[0] + 1, 2
    if span == 1:
        return low, np.ones(1, np.uint8), end
    table: list[int] = []
    while len(table) < span and end < len(data):
        if data[end]:
            table.append(data[end])
            end += 1
        elif table and table[-1] and end + 1 < len(data):  # two runs in a row, or one in front, are none
            table += [0] * (data[end + 1] + 1)
            end += 2
        else:
            raise ContainerError("table", offset)
    if len(table) != span or not table[-1] or max(table) > MAX_FREQUENCY:
        raise ContainerError("table", offset)
    return low, np.array(table, np.uint8), end


def parts(table: Bytes) -> npt.NDArray[np.int64]:
    """Each symbol's share of 2^24, at least 1."""
    level = table.astype(np.int64) - 1
    sizes = np.where(table > 0, (8 + level % 8) << np.maximum(level // 8, 0), 0)
    sums = np.concatenate(([0], np.cumsum(sizes)))
    starts = sums * (PARTS - len(table)) // sums[-1]
    return np.asarray(np.diff(starts) + 1)


def _model(table: Bytes) -> stream.model.Categorical:
    return stream.model.Categorical((parts(table) - 1).astype(np.float64), perfect=False, lazy=False)
