"""Damaged ONNX files on their way through the screen into ONNX Runtime: none may end the process, hang it, or raise
anything but one of our errors (docs/pack.md, F8).

Half of the mutants have bytes changed anywhere; the other half are whole protobuf messages with one to four fields
changed, so that they reach what is behind the parser. Each is loaded and, if that goes well, run on one picture, in a
child process with limited memory, which is started anew after a death.

python -m benchmarks.mutants 100000      about twenty minutes of one core; without a number 10,000
"""

import random
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from benchmarks.ledger import record
from swiftlet.data.contract import InputContract
from swiftlet.errors import SwiftletError
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime.liven import livened
from swiftlet.zoo import create_model

SIDE = 32
# squeeze-and-excitation and h-swish, channel shuffle, padded shortcuts: as float32 and as int8
NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("mobilenet_v3_small", {"width": 0.35}),
    ("shufflenet_v2", {"width": 0.5}),
    ("resnet20", {"width": 0.1875}),
)
MEMORY, SECONDS = 4 << 30, 10.0  # of a child; for one mutant
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 65_536, 2**31 - 1, 2**31, 2**62, 2**63 - 1, -1, -2, -(2**31), -(2**63))
RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"))
KEPT = Path("runs") / "mutants"  # those that did harm


def run(n: int = 10_000) -> None:
    files = []
    for name, arguments in NETWORKS:
        model = livened(create_model(name, num_classes=10, **arguments).eval(), (3, SIDE, SIDE))
        files += list(untrained_files(model, InputContract(side=SIDE)).values())
    verdicts: Counter[str] = Counter()
    child = Child()
    for i, mutant in enumerate(mutants(files, n)):
        verdict = child.verdict(mutant)
        verdicts[verdict] += 1
        if verdict not in ("refused", "ran"):
            KEPT.mkdir(parents=True, exist_ok=True)
            (KEPT / f"{i}.onnx").write_bytes(mutant)
            print(f"mutant {i}: {verdict}", flush=True)
    child.end()
    harmless = {name: verdicts.pop(name, 0) for name in ("refused", "ran")}
    record("mutants", f"python -m benchmarks.mutants {n}", {"mutants": n, **harmless, "harm": dict(verdicts)})


class Child:
    """A process that loads and runs files, one after the other."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def verdict(self, file: bytes) -> str:
        """ "refused", "ran", the name of an error that is not ours, "hang" or "death N", N the exit code."""
        try:
            self._pipe.send_bytes(file)
            if self._pipe.poll(SECONDS):
                return self._pipe.recv_bytes().decode()
            verdict = "hang"
            self._process.kill()
        except (EOFError, ConnectionError):
            verdict = ""
        self._process.join()
        verdict = verdict or f"death {self._process.exitcode}"
        self._start()
        return verdict

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def serve(pipe: Connection) -> None:
    from swiftlet.runtime import get_runtime
    from swiftlet.runtime.race import random_batch

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    runtime = get_runtime("onnxruntime")
    while True:
        file = pipe.recv_bytes()
        try:
            program = runtime.load(file, 1)
            program.run(random_batch(program, 1))
            program.close()
            verdict = "ran"
        except SwiftletError:
            verdict = "refused"
        except Exception as error:
            verdict = repr(error)[:200]
        pipe.send_bytes(verdict.encode())


def mutants(files: list[bytes], n: int) -> Iterator[bytes]:
    """By turns of files, bytes and fields; the same ones each time."""
    chance = random.Random(0)
    for i in range(n):
        file = files[i // 2 % len(files)]
        yield other_fields(file, chance) if i % 2 else other_bytes(file, chance)


def other_bytes(file: bytes, chance: random.Random) -> bytes:
    mutant = bytearray(file)
    for _ in range(chance.choice((1, 1, 2, 8))):
        start = chance.randrange(len(mutant))
        end = min(len(mutant), start + chance.choice((1, 2, 8, 64)))
        match chance.randrange(5):
            case 0:
                mutant[start] ^= 1 << chance.randrange(8)
            case 1:
                mutant[start:end] = chance.randbytes(end - start)
            case 2:
                mutant[start:start] = mutant[start:end]
            case 3 if len(mutant) > 64:
                del mutant[start:end]
            case _:
                mutant[start:end] = bytes([chance.choice((0, 127, 255))]) * (end - start)
    return bytes(mutant)


def other_fields(file: bytes, chance: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(file)
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = list(fields(model))
        texts = [value for message, field in places for value in values(message, field) if isinstance(value, str)]
        change(*chance.choice(places), texts, chance)
    return bytes(model.SerializeToString())


def fields(message: Message) -> Iterator[tuple[Message, Any]]:
    """All fields that are set, here and further in."""
    for field, _ in message.ListFields():
        yield message, field
        if field.message_type is not None:
            for inner in values(message, field):
                yield from fields(inner)


def values(message: Message, field: Any) -> list[Any]:
    value = getattr(message, field.name)
    return list(value) if field.is_repeated else [value]


def change(message: Message, field: Any, texts: list[str], chance: random.Random) -> None:
    """Leave the field out, repeat or exchange parts of it, or give it another value."""
    if chance.random() < 0.1:
        message.ClearField(field.name)
        return
    given = getattr(message, field.name)
    if not field.is_repeated:
        if field.message_type is None:
            setattr(message, field.name, another(given, field, texts, chance))
        return
    parts = list(given)
    at = chance.randrange(len(parts))
    match chance.randrange(4):
        case 0:
            del parts[at]
        case 1:
            parts.insert(chance.randrange(len(parts) + 1), parts[at])
        case 2:
            other = chance.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case _ if field.message_type is None:
            parts[at] = another(parts[at], field, texts, chance)
    copies = [type(part).FromString(part.SerializeToString()) if isinstance(part, Message) else part for part in parts]
    message.ClearField(field.name)
    getattr(message, field.name).extend(copies)


def another(value: Any, field: Any, texts: list[str], chance: random.Random) -> Any:
    """Of the same type, within what the field can hold."""
    if isinstance(value, bool):
        return not value
    if field.enum_type is not None:
        return chance.choice(field.enum_type.values).number
    if isinstance(value, int):
        near = chance.choice((value + 1, value - 1, value * 2, -value))
        other = chance.choice((near, chance.choice(NUMBERS)))
        low, high = RANGES[field.cpp_type]
        return max(low, min(other, high))
    if isinstance(value, float):
        return chance.choice(FLOATS)
    if isinstance(value, str):
        return chance.choice((*texts, "", "x" * 300))
    start = chance.randrange(len(value) + 1)
    return chance.choice(
        (b"", value[:start], value + value[:start], value[:start] + chance.randbytes(8) + value[start:])
    )


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
