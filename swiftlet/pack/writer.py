"""From tensors to a container: each tensor in the encoding that needs fewest bytes, by the entropy of its symbols."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from swiftlet.errors import BadInput
from swiftlet.pack import streams
from swiftlet.pack.encodings import FIELDS, FLOATS, ITEMSIZE, MAX_CODEBOOK, Bytes, Words, gaps_of, rotated, split
from swiftlet.pack.format import (
    ANS,
    DEFLATE,
    MAX_EXPANSION,
    MAX_HEADER,
    MAX_RANK,
    MAX_SKELETON,
    MAX_TENSORS,
    META_KEY,
    RAW,
    SKELETON,
    Container,
    Entry,
    Stream,
    is_name,
    is_text,
    write_container,
)

SAMPLE = 4_096  # elements; more than 256 different values among them, and there is no codebook
DTYPES = ITEMSIZE.keys() - {"bf"}


class Item(NamedTuple):
    """A tensor to be packed: as an Entry, with its bytes instead of an encoding."""

    name: str | int
    dtype: str
    shape: tuple[int, ...]
    data: bytes | Bytes


class Draft(NamedTuple):
    """An encoding with the symbols of its streams, which are numbered from 0; `size` is an estimate in bytes."""

    size: float
    encoding: list[Any]
    sequences: list[Bytes]


def pack_tensors(tensors: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, str] | None = None) -> bytes:
    """A container of tensors by name, in this order, with texts beside them; `unpack_tensors` gives both back.

    Tensors: int8 to int64, uint8 to uint64, float16 to float64, at most 8 dimensions. Lossless to the bit.
    Raises BadInput for other types, names that are not NFC text of 1 to 256 bytes, and more than the format holds.
    """
    items = []
    for name, values in tensors.items():
        array = np.asarray(values)
        dtype = array.dtype.str[1:]
        if dtype not in DTYPES or array.ndim > MAX_RANK:
            raise BadInput(f"pack: {name!r} is {array.dtype}, {array.ndim}-dimensional; floats and integers of 8 to 64 "
                           f"bits are packed, in at most {MAX_RANK} dimensions")  # fmt: skip
        if not is_name(name):
            raise BadInput(f"pack: {name!r} must be 1 to 256 bytes of NFC text without control characters")
        little = np.ascontiguousarray(array, f"<{dtype}")
        items.append(Item(name, dtype, array.shape, little.reshape(-1).view(np.uint8)))
    digest = hashlib.sha256()
    for item in items:
        digest.update(np.frombuffer(item.data, np.uint8).data)
    return write_items("tensors", meta or {}, digest.hexdigest(), items)


def write_items(
    kind: str, meta: Mapping[str, str], sha256: str, items: Sequence[Item], skeleton: bytes | None = None
) -> bytes:
    """A container of these tensors, and of a file's bytes without them. Raises BadInput if it exceeds the format."""
    if len(items) > MAX_TENSORS:
        raise BadInput(f"pack: {len(items):,} tensors; the format holds {MAX_TENSORS:,}")
    for key, text in meta.items():
        if not META_KEY.fullmatch(key) or not is_text(text):
            raise BadInput(f"pack: meta {key!r} must be a text under a name of a-z, 0-9, '_', '.' and '-' that "
                           "begins with a letter")  # fmt: skip
    drafts = [_draft(item) for item in items]
    sequences = [sequence for draft in drafts for sequence in draft.sequences]
    first = [] if skeleton is None else [_first(skeleton)]
    unpacked = sum(len(item.data) for item in items) + len(skeleton or b"")
    for groups in (streams.group(sequences), [0] * len(sequences)):
        stored, numbers = _streams(sequences, groups, first)
        entries, at = [], 0
        for item, draft in zip(items, drafts, strict=True):
            encoding = _renumbered(draft.encoding, numbers[at : at + len(draft.sequences)])
            entries.append(Entry(item.name, item.dtype, item.shape, encoding))
            at += len(draft.sequences)
        packed = write_container(Container(kind, dict(meta), sha256, (*first, *stored), tuple(entries)))
        if unpacked <= MAX_EXPANSION * len(packed):  # else once more, with nothing coded
            break
    if int.from_bytes(packed[8:12], "little") > MAX_HEADER:
        raise BadInput(
            f"pack: names, shapes and texts need more than {MAX_HEADER:,} bytes of header; shorten the texts"
        )
    return packed


def _first(skeleton: bytes) -> Stream:
    return streams.encode(SKELETON if len(skeleton) <= MAX_SKELETON else DEFLATE, skeleton)


def _streams(sequences: list[Bytes], groups: list[int], first: list[Stream]) -> tuple[list[Stream], list[int]]:
    """The streams after `first`, and for each sequence the number of its own."""
    used = sorted(set(groups))
    stored = []
    for group in used:
        symbols = np.concatenate([s for s, g in zip(sequences, groups, strict=True) if g == group])
        stored.append(streams.encode(ANS if group else RAW, symbols))
    return stored, [len(first) + used.index(group) for group in groups]


def _renumbered(encoding: list[Any], numbers: list[int]) -> list[Any]:
    """The encoding with the container's streams instead of its own."""
    match encoding:
        case [4, bits, stream]:
            return [4, bits, numbers[stream]]
        case [0 | 1 as tag, *own]:
            return [tag, *(numbers[i] for i in own)]
        case [2, size, *own]:
            return [2, size, *(numbers[i] for i in own)]
        case [3, nonzeros, gaps, stream, inner]:
            return [3, nonzeros, gaps, numbers[stream], _renumbered(inner, numbers)]
    return encoding


def _draft(item: Item) -> Draft:
    """The best encoding of a tensor."""
    data = np.frombuffer(item.data, np.uint8)
    if not data.size:
        return Draft(0, [], [])
    words = data.view(f"<u{ITEMSIZE[item.dtype]}")
    drafts = _dense(words, item.dtype, 0)
    if words.itemsize == 1:
        fields = [split(data, bits).reshape(-1) for bits in FIELDS]
        drafts += [Draft(_size(f), [4, bits, 0], [f]) for bits, f in zip(FIELDS, fields, strict=True)]
    nonzeros = int(np.count_nonzero(words))
    if 0 < nonzeros < words.size:
        gaps = gaps_of(words)
        for inner in _dense(words[words != 0], item.dtype, 1):
            encoding = [3, nonzeros, gaps.size, 0, inner.encoding]
            drafts.append(Draft(inner.size + _size(gaps), encoding, [gaps, *inner.sequences]))
    return min(drafts, key=lambda draft: draft.size)


def _dense(words: Words, dtype: str, first: int) -> list[Draft]:
    """Encodings that store every word; streams are numbered from `first`."""
    width = words.itemsize
    turned = rotated(words, 1) if dtype in FLOATS else words
    planes = _planes(turned)
    drafts = [
        Draft(words.nbytes, [0, first], [words.view(np.uint8)]),
        Draft(sum(map(_size, planes)), [1, *range(first, first + width)], planes),
    ]
    if 2 <= width <= 4 and np.unique(words[:SAMPLE]).size <= MAX_CODEBOOK:
        values, indices = np.unique(words, return_inverse=True)
        if values.size <= MAX_CODEBOOK:
            steps = np.diff(values, prepend=values.dtype.type(0))
            sequences = [*_planes(steps), indices.astype(np.uint8)]
            streams_ = range(first, first + len(sequences))
            drafts.append(Draft(sum(map(_size, sequences)), [2, values.size, *streams_], sequences))
    return drafts


def _planes(words: Words) -> list[Bytes]:
    """The lowest bytes of all words, and so on to the highest."""
    return [np.ascontiguousarray(plane) for plane in words.view(np.uint8).reshape(words.size, -1).T]


def _size(sequence: Bytes) -> float:
    counts = np.bincount(sequence, minlength=256).astype(np.float64)
    return min(float(streams.coded_bytes(counts)), sequence.size)
