"""Names of tensors as differences, so that layers of an ONNX file that are alike become the same bytes.

The exporter numbers tensors as they are made, to the base 60. A name here is a byte 10, 18 or 66, a byte 2 and two
DIGITS: in protobuf a text of two characters, as the input or output of a node or the name of a constant. That is a
matter of bytes, not of protobuf, so it can be undone whatever they are: where something else looks so, it is changed
and changed back. A name is stored as its number less that of the last name before it that is no input, modulo 3,600.
"""

import numpy as np
import numpy.typing as npt

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzCDEFGHIJKLMNOPQRSTUVWXYZ"  # without B, byte 66: names never overlap
BASE = len(DIGITS)
INPUT, OUTPUT, CONSTANT = 10, 18, 66

CODES = np.frombuffer(DIGITS.encode(), np.uint8)
VALUES = np.full(256, -1, np.int32)
VALUES[CODES] = np.arange(BASE)
Numbers = npt.NDArray[np.int32]


def relative(text: bytes) -> bytes:
    """The same bytes with differences for names."""
    bytes_, at = _find(text)
    numbers = _read(bytes_, at)
    return _written(bytes_, at, numbers - _last(numbers, bytes_[at] != INPUT))


def absolute(text: bytes) -> bytes:
    """The inverse: absolute(relative(text)) == text == relative(absolute(text))."""
    bytes_, at = _find(text)
    numbers, counts = _read(bytes_, at), bytes_[at] != INPUT
    numbers[counts] = np.cumsum(numbers[counts], dtype=np.int64) % BASE**2
    numbers[~counts] += _last(numbers, counts)[~counts]
    return _written(bytes_, at, numbers)


def _find(text: bytes) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The bytes, and where a name begins in them."""
    bytes_ = np.frombuffer(text, np.uint8)
    if len(text) < 4:
        return bytes_, np.empty(0, np.int64)
    digit = VALUES[bytes_[2:]] >= 0
    found = (bytes_[1:-2] == 2) & digit[:-1] & digit[1:]
    return bytes_, np.flatnonzero(found & np.isin(bytes_[:-3], (INPUT, OUTPUT, CONSTANT)))


def _read(bytes_: npt.NDArray[np.uint8], at: npt.NDArray[np.int64]) -> Numbers:
    return VALUES[bytes_[at + 2]] * BASE + VALUES[bytes_[at + 3]]


def _last(numbers: Numbers, counts: npt.NDArray[np.bool_]) -> Numbers:
    """Of each, the number of the last one before it that counts; 0 if there is none."""
    before: npt.NDArray[np.int64] = np.cumsum(counts, dtype=np.int64) - counts  # how many
    return np.concatenate(([0], numbers[counts]))[before].astype(np.int32)


def _written(bytes_: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], numbers: Numbers) -> bytes:
    new = bytes_.copy()
    high, low = np.divmod(numbers % BASE**2, BASE)
    new[at + 2], new[at + 3] = CODES[high], CODES[low]
    return new.tobytes()
