"""Damaged containers, made by the thousand, and what becomes of them: each is read right or refused with a code.

Half of the mutants have bytes changed, cut, repeated or moved anywhere. The other half know the format: a number, text
or list of the header is changed, or bytes of the payload, and all lengths and digests are made to fit again, so that
the change reaches the checks and decoders behind them.
"""

import copy
import json
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from swiftlet.errors import BadInput
from swiftlet.pack.encodings import ITEMSIZE
from swiftlet.pack.error import CODES, HEADER_AT, ContainerError
from swiftlet.pack.format import read_container, seal, write_container
from swiftlet.pack.onnx import unpack_onnx
from swiftlet.pack.reader import unpack_tensors
from swiftlet.progress import Progress

MAX_SECONDS = 1.0
SPARE_BYTES = 16 << 20
READ = "read"  # the verdict on a mutant that is not refused
NUMBERS: tuple[Any, ...] = (
    0, 1, 2, 3, 255, 256, 257, 65_536, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**64, -1, 0.5, True, None, "", [],
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """What became of `mutants` damaged copies: `accepted` were read, the others refused by code; `faults` should be
    empty. `peak_share` is the largest memory of a mutant as a share of what is allowed: twice what its header declares,
    content and symbols, and 16 MiB."""

    mutants: int
    accepted: int
    refused: dict[str, int]
    faults: tuple[str, ...]
    slowest_seconds: float
    peak_share: float


def fuzz(data: bytes, *, n: int, seed: int = 0, progress: Progress | None = None) -> Fuzzed:
    """Read n mutants of a container. Raises BadInput if n < 1, ContainerError if the container itself is refused."""
    if n < 1:
        raise BadInput(f"fuzz: n={n} must be 1 or more")
    unpack(data)
    verdicts: Counter[str] = Counter()
    faults, slowest, peak_share = [], 0.0, 0.0
    tracemalloc.start()
    try:
        for i, mutant in enumerate(mutants(data, n, seed)):
            if progress is not None and i % 100 == 0:
                progress("reading mutants", i, n)
            tracemalloc.reset_peak()
            before, began = tracemalloc.get_traced_memory()[0], time.perf_counter()
            try:
                unpack(mutant)
                verdict = READ
            except ContainerError as error:
                verdict = error.code
                if error.code not in CODES or not 0 <= error.offset <= len(mutant):
                    faults.append(f"mutant {i}: {error.code} at byte {error.offset}")
            except Exception as error:  # what this looks for
                verdict = type(error).__name__
                faults.append(f"mutant {i}: {error!r}")
            seconds = time.perf_counter() - began
            share = (tracemalloc.get_traced_memory()[1] - before) / (2 * declared_bytes(mutant) + SPARE_BYTES)
            verdicts[verdict] += 1
            slowest, peak_share = max(slowest, seconds), max(peak_share, share)
            if seconds > MAX_SECONDS:
                faults.append(f"mutant {i}: {seconds:.1f} s")
            if share > 1:
                faults.append(f"mutant {i}: {share:.2f} of the memory that it may take")
            if verdict == READ and write_container(read_container(mutant)) != mutant:
                faults.append(f"mutant {i}: is accepted, and written differently")
    finally:
        tracemalloc.stop()
    accepted = verdicts.pop(READ, 0)
    return Fuzzed(n, accepted, dict(sorted(verdicts.items())), tuple(faults), slowest, peak_share)


def unpack(data: bytes) -> None:
    """Decode everything in a container of either kind. Raises ContainerError."""
    if read_container(data).kind == "onnx":
        unpack_onnx(data)
    else:
        unpack_tensors(data)


def declared_bytes(data: bytes) -> int:
    """Bytes of content and symbols that an acceptable header declares; 0 if it is refused."""
    try:
        container = read_container(data)
    except ContainerError:
        return 0
    content = sum(prod(entry.shape) * ITEMSIZE[entry.dtype] for entry in container.tensors)
    return content + sum(stream.symbols for stream in container.streams)


def mutants(data: bytes, n: int, seed: int = 0) -> Iterator[bytes]:
    """n mutants, by turns of bytes and of fields; the same for the same seed."""
    chance = random.Random(seed)
    header, payload = parts(data)
    for i in range(n):
        yield _other_fields(header, payload, chance) if i % 2 else _other_bytes(data, chance)


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and payload of a container."""
    container = read_container(data)
    length = int.from_bytes(data[8:12], "little")
    size = sum(len(stream.data) for stream in container.streams)
    return json.loads(data[HEADER_AT : HEADER_AT + length]), data[len(data) - size :]


def _other_bytes(data: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        # half of all changes in the first quarter of a KiB, where lengths and the header are
        start = chance.randrange(len(mutant) if chance.random() < 0.5 else min(256, len(mutant)))
        end = min(len(mutant), start + chance.choice((1, 2, 4, 8, 32, 64)))
        match chance.randrange(7):
            case 0:
                mutant[start] ^= 1 << chance.randrange(8)
            case 1:
                mutant[start:end] = chance.randbytes(end - start)
            case 2:
                mutant[start:end] = bytes([chance.choice((0, 255))]) * (end - start)
            case 3 if len(mutant) > 64:
                del mutant[start:end]
            case 4:
                mutant[start:start] = mutant[start:end]
            case 5 if len(mutant) > 64:
                del mutant[start:]
            case _:
                other = chance.randrange(len(mutant))
                mutant[start:end] = mutant[other : other + end - start]
        if not mutant:
            break
    return bytes(mutant)


def _other_fields(header: dict[str, Any], payload: bytes, chance: random.Random) -> bytes:
    header, body = copy.deepcopy(header), bytearray(payload)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if chance.random() < 0.4 and body:
            at = chance.randrange(len(body))
            match chance.randrange(4):
                case 0:
                    body[at] ^= 1 << chance.randrange(8)
                case 1:
                    body[at : at + 4] = chance.randbytes(4)
                case 2:
                    del body[at : at + chance.choice((1, 4, 64))]
                case _:
                    body[at:at] = chance.randbytes(chance.choice((1, 4)))
        else:
            _change(header, chance)
    text = json.dumps(header, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode(errors="replace")
    if chance.random() < 0.1:  # not canonical
        text = text.replace(b",", chance.choice((b", ", b",0,", b",1e1,", b'," ",')), 1)
    return seal(text, bytes(body))


def _change(header: dict[str, Any], chance: random.Random) -> None:
    """Change one value somewhere in the tree."""
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [header]
    while todo:
        branch = todo.pop()
        for key, value in branch.items() if isinstance(branch, dict) else enumerate(branch):
            places.append((branch, key))
            if isinstance(value, dict | list):
                todo.append(value)
    branch, key = chance.choice(places)
    value = branch[key]
    match chance.randrange(6):
        case 0:
            branch[key] = chance.choice(NUMBERS)
        case 1 if isinstance(branch, list):
            branch.insert(key, copy.deepcopy(chance.choice(branch)))
        case 2:
            del branch[key]
        case 3 if isinstance(branch, list):
            chance.shuffle(branch)
        case 4 if isinstance(value, str):
            branch[key] = chance.choice(("", "x" * 300, "\u0301", "e\u0301", "\x00", "é", value[::-1], value + "0"))
        case _ if type(value) is int:
            branch[key] = value + chance.choice((-1, 1, -value, value, 255))
        case _:
            branch[key] = copy.deepcopy(chance.choice(places)[0])
