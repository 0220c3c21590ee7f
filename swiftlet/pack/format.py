"""The container's layout: what each byte of a .swl file means, and the checks before anything is decoded.

    magic      8 bytes, the last is the version: 2, or 1, which lacks coder 3 and encoding 4
    lengths    of the header, 4 bytes, and of the payload, 8 bytes, little-endian
    header     canonical JSON: keys sorted, no spaces, UTF-8
    digests    SHA-256 of every 2^20 bytes of the payload, the last piece being shorter
    digest     SHA-256 of everything above
    payload    the streams, one after the other, and nothing after them

The header has five keys. `kind` is "onnx" or "tensors"; `meta` maps names to texts; `sha256` is that of the content.
`streams` lists [coder, symbols, bytes]: a stream is a sequence of symbols, each of one byte, and its coder says how it
is stored. `tensors` lists [name, dtype, shape, encoding]: an encoding says how many symbols are taken from which
streams, and what they mean (encodings.py). In an ONNX file the name is instead the number of bytes between this tensor
and the one before, and a tensor of the type and encoding of the one before is just [bytes, elements], but in version 1.
docs/pack.md has the whole text.

So every number that asks for memory stands in the header and is checked there against the limits and the file's size.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field
from math import prod
from typing import Any, NoReturn

from swiftlet.pack.encodings import ITEMSIZE, demands
from swiftlet.pack.error import HEADER_AT, ContainerError

MAGIC = b"\x89SWL\r\n\x1a"
VERSION = 2  # that is written; VERSIONS are read
VERSIONS = (1, 2)
RAW, DEFLATE, ANS, SKELETON = 0, 1, 2, 3  # the coders
CHUNK = 1 << 20
MAX_HEADER = 1 << 18  # read within 0.1 s and 8 MB, whatever is in it
MAX_TENSORS = 16_384
MAX_STREAMS = 4_096
MAX_SKELETON = 1 << 20  # bytes for coder 3: to find the names of a longer one would take more memory than readers may
MAX_RANK = 8
MAX_NAME = 256  # bytes
MAX_EXPANSION = 2_048  # bytes unpacked for each byte of the file; deflate alone reaches 1,032
MAX_BYTES = 1_000_000_000
META_KEY = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half a pair: text that UTF-8 cannot hold
KEYS = ["kind", "meta", "sha256", "streams", "tensors"]


@dataclass(frozen=True, slots=True)
class Stream:
    """`symbols` bytes, stored as `data` by `coder`; it began at byte `offset` of the file that it was read from."""

    coder: int
    symbols: int
    data: bytes
    offset: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor: its name (in an ONNX file: bytes since the tensor before), numpy-like type, shape and encoding."""

    name: str | int
    dtype: str
    shape: tuple[int, ...]
    encoding: list[Any]


@dataclass(frozen=True, slots=True)
class Container:
    """A container whose streams are not decoded yet. `sha256` is that of the ONNX file, or of all tensors' bytes.

    A container of version 1 remains one when it is written again.
    """

    kind: str
    meta: dict[str, str]
    sha256: str
    streams: tuple[Stream, ...]
    tensors: tuple[Entry, ...]
    version: int = VERSION


def write_container(container: Container) -> bytes:
    """The one byte string that means this container: write_container(read_container(x)) == x."""
    header = _canonical(
        {
            "kind": container.kind,
            "meta": container.meta,
            "sha256": container.sha256,
            "streams": [[s.coder, s.symbols, len(s.data)] for s in container.streams],
            "tensors": _rows(container),
        }
    )
    payload = b"".join(stream.data for stream in container.streams)
    return seal(header, payload, container.version)


def _rows(container: Container) -> list[list[Any]]:
    """What the header says of the tensors."""
    rows: list[list[Any]] = []
    before: list[Any] = []
    for t in container.tensors:
        row = [t.name, t.dtype, list(t.shape), t.encoding]
        short = container.kind == "onnx" and container.version > 1 and _repeats(row, before)
        rows.append([t.name, *t.shape] if short else row)
        before = row
    return rows


def _repeats(row: list[Any], before: list[Any]) -> bool:
    """Whether a tensor of an ONNX file has the type and encoding of the one before, to the letter."""
    if not before or row[1] != before[1] or row[3] != before[3] or not isinstance(row[2], list) or len(row[2]) != 1:
        return False
    return _canonical(row[3]) == _canonical(before[3])  # True equals 1 otherwise


def seal(header: bytes, payload: bytes, version: int = VERSION) -> bytes:
    """Lengths and digests around a header and a payload."""
    lengths = len(header).to_bytes(4, "little") + len(payload).to_bytes(8, "little")
    front = MAGIC + bytes([version]) + lengths + header + b"".join(_digests(payload))
    return front + hashlib.sha256(front).digest() + payload


def read_container(data: bytes, *, max_bytes: int = MAX_BYTES) -> Container:
    """Check lengths, digests, header and limits; decode nothing. Raises ContainerError."""
    header, start = _checked(data)
    version = data[len(MAGIC)]
    fields = _parse(header)
    if fields["kind"] not in ("onnx", "tensors") or not re.fullmatch("[0-9a-f]{64}", _text(fields["sha256"])):
        _refuse("header-field")
    for key, value in _is(fields["meta"], dict).items():
        if not META_KEY.fullmatch(key) or not isinstance(value, str):
            _refuse("header-field")
    sizes = _streams(fields["streams"], fields["kind"], version, len(data) - start)
    entries = _entries(fields["tensors"], fields["kind"], version)
    _check_totals(entries, sizes, fields["kind"], version, min(max_bytes, MAX_EXPANSION * len(data)))
    streams = []
    for coder, symbols, size in sizes:
        streams.append(Stream(coder, symbols, data[start : start + size], start))
        start += size
    return Container(fields["kind"], fields["meta"], fields["sha256"], tuple(streams), tuple(entries), version)


def is_name(value: Any) -> bool:
    """Whether a tensor may be called so."""
    return (
        is_text(value)
        and 1 <= len(value.encode()) <= MAX_NAME
        and value == unicodedata.normalize("NFC", value)
        and not CONTROL.search(value)
    )


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not SURROGATE.search(value)


def _digests(payload: bytes | memoryview) -> list[bytes]:
    return [hashlib.sha256(payload[i : i + CHUNK]).digest() for i in range(0, len(payload), CHUNK)]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _checked(data: bytes) -> tuple[bytes, int]:
    """The header's bytes and where the payload begins, after lengths and digests have proved right."""
    if data[:8] not in {MAGIC + bytes([version]) for version in VERSIONS}:
        raise ContainerError("magic", 0)
    if len(data) < HEADER_AT:
        raise ContainerError("short", len(data))
    length, payload = int.from_bytes(data[8:12], "little"), int.from_bytes(data[12:HEADER_AT], "little")
    if length > MAX_HEADER:
        raise ContainerError("header-size", 8)
    chunks = -(-payload // CHUNK)
    start = HEADER_AT + length + 32 * chunks + 32
    if len(data) < start + payload:
        raise ContainerError("short", len(data))
    if len(data) > start + payload:
        raise ContainerError("trailing", start + payload)
    view = memoryview(data)
    if hashlib.sha256(view[: start - 32]).digest() != data[start - 32 : start]:
        raise ContainerError("header-digest", start - 32)
    for i, digest in enumerate(_digests(view[start:])):
        if digest != data[HEADER_AT + length + 32 * i : HEADER_AT + length + 32 * (i + 1)]:
            raise ContainerError("chunk-digest", start + CHUNK * i)
    return data[HEADER_AT : HEADER_AT + length], start


def _parse(header: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(header.decode(), parse_int=_whole, parse_float=_fraction)
        same = _canonical(fields) == header  # also refuses a key given twice
    except (ValueError, RecursionError):
        _refuse("header-json")
    if not same:
        _refuse("header-json")
    if not isinstance(fields, dict) or sorted(fields) != KEYS:
        _refuse("header-field")
    return fields


def _whole(digits: str) -> int:
    value = int(digits)
    if abs(value) > 1 << 53:  # JavaScript would read another number
        raise ValueError(digits)
    return value


def _fraction(digits: str) -> NoReturn:
    raise ValueError(digits)


def _streams(value: Any, kind: str, version: int, payload: int) -> list[tuple[int, int, int]]:
    rows = _is(value, list)
    if len(rows) > MAX_STREAMS:
        _refuse("stream")
    sizes = []
    for i, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 3 or not all(_is_size(n) for n in row):
            _refuse("stream")
        coder, symbols, size = row
        skeleton = kind == "onnx" and i == 0  # what is left of the file without its weights, and nothing else
        if coder not in coders(version, skeleton=skeleton) or symbols < 1 or (coder == RAW and size != symbols):
            _refuse("stream")
        if coder == SKELETON and symbols > MAX_SKELETON:
            _refuse("limit")
        sizes.append((coder, symbols, size))
    if (kind == "onnx" and not rows) or sum(size for _, _, size in sizes) != payload:
        _refuse("stream")
    return sizes


def coders(version: int, *, skeleton: bool) -> tuple[int, ...]:
    """Those that a stream may have."""
    if not skeleton:
        return RAW, ANS
    return (DEFLATE,) if version == 1 else (DEFLATE, SKELETON)


def _entries(value: Any, kind: str, version: int) -> list[Entry]:
    rows = _is(value, list)
    if len(rows) > MAX_TENSORS:
        _refuse("limit")
    entries, names = [], set()
    before: list[Any] = []
    for found in rows:
        row = found
        if kind == "onnx" and version > 1 and before and isinstance(row, list):
            if len(row) == 2:
                row = [row[0], before[1], [row[1]], before[3]]
            elif len(row) == 4 and _repeats(row, before):  # in more letters than it takes
                _refuse("header-field")
        name, dtype, shape, encoding = row if isinstance(row, list) and len(row) == 4 else _refuse("header-field")
        before = row
        if kind == "tensors":
            if not is_name(name) or name in names:
                _refuse("name")
            names.add(name)
        elif not _is_size(name):
            _refuse("header-field")
        if not isinstance(dtype, str) or dtype not in ITEMSIZE or (dtype == "bf" and kind == "tensors"):
            _refuse("dtype")
        if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(_is_size(n) for n in shape):
            _refuse("shape")
        entries.append(Entry(name, dtype, tuple(shape), encoding))
    return entries


def _check_totals(entries: list[Entry], sizes: list[tuple[int, int, int]], kind: str, version: int, limit: int) -> None:
    """What the tensors unpack to is within the limit, and they take exactly what the streams hold."""
    total = sizes[0][1] if kind == "onnx" else 0
    needed = [0] * len(sizes)
    skeleton = 0
    for entry in entries:
        count = prod(entry.shape)
        total += count * ITEMSIZE[entry.dtype]
        if (
            total > limit or prod(n or 1 for n in entry.shape) > MAX_BYTES
        ):  # numpy multiplies the rest of an empty shape
            _refuse("limit")
        for stream, symbols in demands(entry.encoding, entry.dtype, count, version=version):
            if stream >= len(sizes) or sizes[stream][0] in (DEFLATE, SKELETON):
                _refuse("encoding")
            needed[stream] += symbols
        skeleton += entry.name if isinstance(entry.name, int) else 0
    if total > limit or sum(symbols for _, symbols, _ in sizes) > limit:
        _refuse("limit")
    if kind == "onnx":
        if skeleton > sizes[0][1]:
            _refuse("count")
        needed[0] = sizes[0][1]
    if needed != [symbols for _, symbols, _ in sizes]:
        _refuse("count")


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53  # JavaScript's integers end there


def _is(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) else _refuse("header-field")


def _text(value: Any) -> str:
    return str(_is(value, str))


def _refuse(code: str) -> NoReturn:
    raise ContainerError(code, HEADER_AT)
