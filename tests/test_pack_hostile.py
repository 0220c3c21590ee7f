"""Containers made to do harm: one error class, frozen codes, bounded time and memory, and two readers that agree."""

import gc
import json
import shutil
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from needs import missing
from onnx_graphs import float_net, quantized_net

from swiftlet.errors import BadFile
from swiftlet.pack import fuzz
from swiftlet.pack.error import CODES, ContainerError
from swiftlet.pack.format import CHUNK, MAX_HEADER, MAX_SKELETON, SKELETON, read_container, seal, write_container
from swiftlet.pack.onnx import pack_onnx, unpack_onnx
from swiftlet.pack.reader import unpack_tensors
from swiftlet.pack.writer import pack_tensors

ROOT = Path(__file__).parent.parent


def tensors() -> bytes:
    """A container with every encoding and coder but deflate, of some 2 KB."""
    rng = np.random.default_rng(0)
    shared = np.linspace(-1, 1, 9, dtype=np.float32)
    return pack_tensors(
        {
            "dense": rng.normal(0, 0.1, (8, 4, 3, 3)).astype(np.float32),
            "shared": shared[rng.binomial(8, 0.5, 2000)].reshape(40, 50),
            "sparse": shared[rng.binomial(8, 0.5, 4000)] * (rng.random(4000) < 0.1),
            "noise": rng.integers(0, 2**32, 20, np.uint32),
            "empty": np.zeros((2, 0), np.int8),
            "integers": rng.binomial(20, 0.5, 900).astype(np.int8),
            "fields": (rng.binomial(15, 0.5, 300) + 16 * rng.binomial(15, 0.5, 300)).astype(np.uint8),
        },
        {"network": "toy é"},
    )


def network() -> bytes:
    return pack_onnx(float_net())


SEEDS = {"tensors": tensors, "onnx": network}


def rebuilt(data: bytes, edit, payload=None) -> bytes:
    """A container whose header was edited, lengths and digests made to fit."""
    header, body = fuzz.parts(data)
    edited = edit(header)
    text = json.dumps(header if edited is None else edited, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return seal(text.encode(), body if payload is None else payload)


def one(dtype: str, shape: list[int], encoding: list, *streams: tuple[int, int, bytes], version: int = 2) -> bytes:
    """A container of one tensor."""
    rows = [[coder, symbols, len(data)] for coder, symbols, data in streams]
    header = {
        "kind": "tensors",
        "meta": {},
        "sha256": "0" * 64,
        "streams": rows,
        "tensors": [["w", dtype, shape, encoding]],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return seal(text, b"".join(data for _, _, data in streams), version)


def old(data: bytes) -> bytes:
    """The same under version 1."""
    length = int.from_bytes(data[8:12], "little")
    return seal(data[20 : 20 + length], fuzz.parts(data)[1], 1)


def twice(header: dict) -> None:
    """The first tensor once more, in full."""
    header["tensors"].insert(1, header["tensors"][0])


def put(**fields):
    return lambda header: header.update(fields)


def tensor(index: int, field: int, value: object):
    return lambda header: header["tensors"][index].__setitem__(field, value)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


BODY = bytes(9)
words = (2**40).to_bytes(8, "little")
REFUSED = {
    "magic": lambda: flipped(tensors(), 7),
    "short": lambda: tensors()[:-1],
    "trailing": lambda: tensors() + b"\x00",
    "header-size": lambda: seal(b"x" * (MAX_HEADER + 1), b""),
    "header-digest": lambda: flipped(tensors(), 30),
    "header-json": lambda: seal(b'{"kind": "tensors"}', b""),
    "header-field": lambda: rebuilt(tensors(), put(extra=1)),
    "name": lambda: rebuilt(tensors(), tensor(0, 0, "shared")),
    "dtype": lambda: rebuilt(tensors(), tensor(0, 1, "bf")),
    "shape": lambda: rebuilt(tensors(), tensor(0, 2, [1] * 9)),
    "stream": lambda: rebuilt(tensors(), put(streams=[[1, 5, 5]])),
    "encoding": lambda: one("u1", [2], [True, 0], (0, 2, b"ab")),
    "count": lambda: one("u1", [3], [0, 0], (0, 2, b"ab")),
    "limit": lambda: one("u1", [2**40], [0, 0], (0, 2, b"ab")),
    "chunk-digest": lambda: flipped(tensors(), len(tensors()) - 1),
    "table": lambda: one("u1", [9], [1, 0], (2, 9, b"\x01\x00")),
    "ans": lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x01\x01\x01" + words)),
    "deflate": lambda: rebuilt(network(), lambda h: h["streams"][0].__setitem__(1, h["streams"][0][1] + 1)),
    "codebook": lambda: one("u2", [2], [2, 1, 0, 0, 0], (0, 4, b"ab\x00\x01")),
    "gaps": lambda: one("u1", [2], [3, 1, 1, 0, [0, 0]], (0, 2, b"\x02\x07")),
    "content-digest": lambda: one("u1", [2], [0, 0], (0, 2, b"ab")),
}  # fmt: skip


def test_every_code_has_its_case_and_codes_do_not_change():
    assert list(CODES) == list(REFUSED)


@pytest.mark.parametrize("code", REFUSED)
def test_refusals(code):
    data = REFUSED[code]()
    with pytest.raises(BadFile, match=f"{code} at byte") as caught:
        fuzz.unpack(data)
    assert isinstance(caught.value, ContainerError) and caught.value.code == code
    assert 0 <= caught.value.offset <= len(data)


VARIANTS = [
    ("header-json", lambda: rebuilt(tensors(), lambda h: [h])[:20] + b"", "short"),
    ("NaN", lambda: seal(b"NaN", b""), "header-json"),
    ("deep", lambda: seal(b"[" * 130_000 + b"]" * 130_000, b""), "header-json"),
    ("surrogate", lambda: seal(b'{"a":"\\ud800"}', b""), "header-json"),
    ("twice", lambda: seal(b'{"kind":"onnx","kind":"onnx"}', b""), "header-json"),
    ("mark", lambda: seal(b"\xef\xbb\xbf{}", b""), "header-json"),
    ("list", lambda: seal(b"[]", b""), "header-field"),
    ("name of a list", lambda: rebuilt(tensors(), tensor(0, 0, [])), "name"),
    ("empty name", lambda: rebuilt(tensors(), tensor(0, 0, "")), "name"),
    ("decomposed", lambda: rebuilt(tensors(), tensor(0, 0, "e\u0301")), "name"),
    ("meta", lambda: rebuilt(tensors(), put(meta={"1": "a"})), "header-field"),
    ("huge", lambda: one("u1", [2**53 - 1] * 8, [0, 0], (0, 2, b"ab")), "limit"),
    ("huge and empty", lambda: one("f4", [0, 2**53 - 1, 2**53 - 1], []), "limit"),
    ("true as a size", lambda: one("u1", [True, 2], [0, 0], (0, 2, b"ab")), "shape"),
    ("fraction", lambda: one("u1", [1.0], [0, 0], (0, 1, b"a")), "header-json"),
    ("unfinished", lambda: one("u1", [1], [], (0, 1, b"a")), "encoding"),
    ("sparse in sparse", lambda: one("u1", [9], [3, 1, 1, 0, [3, 1, 1, 0, [0, 0]]], (0, 3, b"abc")), "encoding"),
    ("no such stream", lambda: one("u1", [2], [0, 1], (0, 2, b"ab")), "encoding"),
    ("unused stream", lambda: one("u1", [2], [0, 0], (0, 2, b"ab"), (0, 1, b"c")), "count"),
    ("value twice", lambda: one("u2", [1], [2, 2, 0, 0, 0], (0, 5, b"\x02\x00\x00\x00\x00")), "codebook"),
    ("value too large", lambda: one("u2", [1], [2, 2, 0, 0, 0], (0, 5, b"\xff\xff\xff\xff\x00")), "codebook"),
    ("weight of zero", lambda: one("u1", [2], [3, 1, 1, 0, [0, 0]], (0, 2, b"\x01\x00")), "gaps"),
    ("ends in a skip", lambda: one("u1", [600], [3, 1, 2, 0, [0, 0]], (0, 3, b"\x01\xff\x07")), "gaps"),
    ("no words", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x01\x01\x01")), "ans"),
    ("odd words", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x01\x01\x01abcde")), "ans"),
    ("words of nothing", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x00abcd")), "ans"),
    ("cut table", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\xff\x01\x01")), "table"),
    ("table begins with a run", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x03\x00\x01\x01\x01" + words)), "table"),
    ("table ends in a run", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x03\x01\x01\x00\x01" + words)), "table"),
    ("runs in a row", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x03\x01\x00\x00\x00\x00\x01" + words)), "table"),
    ("run too long", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x03\x01\x00\xff\x01" + words)), "table"),
    ("large frequency", lambda: one("u1", [9], [1, 0], (2, 9, b"\x00\x01\x01\xff" + words)), "table"),
    ("field too large", lambda: one("u1", [1], [4, 4, 0], (0, 2, b"\x01\x10")), "codebook"),
    ("fields of 3 bits", lambda: one("u1", [3], [4, 3, 0], (0, 8, bytes(8))), "encoding"),
    ("fields of words", lambda: one("u2", [1], [4, 4, 0], (0, 4, bytes(4))), "encoding"),
    ("sparse fields", lambda: one("u1", [9], [3, 1, 1, 0, [4, 4, 0]], (0, 3, b"abc")), "encoding"),
    ("fields in version 1", lambda: one("u1", [1], [4, 4, 0], (0, 2, b"ab"), version=1), "encoding"),
    ("names in version 1", lambda: old(network()), "stream"),
    ("version 3", lambda: network()[:7] + b"\x03" + network()[8:], "magic"),
    ("names in tensors", lambda: one("u1", [1], [0, 0], (SKELETON, 1, b"a")), "stream"),
    (
        "long skeleton",
        lambda: rebuilt(network(), put(streams=[[SKELETON, MAX_SKELETON + 1, len(BODY)]]), BODY),
        "limit",
    ),
    ("like the one before the first", lambda: rebuilt(network(), put(tensors=[[9, 8]])), "header-field"),
    ("said again", lambda: rebuilt(network(), twice), "header-field"),
    ("after deflate", lambda: after_deflate(b"x"), "deflate"),
    ("deflate cut", lambda: after_deflate(None), "deflate"),
]


def after_deflate(extra: bytes | None) -> bytes:
    """The skeleton's stream with something behind its end, or without its last byte."""
    header, body = fuzz.parts(network())
    size = header["streams"][0][2]
    deflated = body[: size - 1] if extra is None else body[:size] + extra
    header["streams"][0][2] = len(deflated)
    return rebuilt(network(), lambda _: header, deflated + body[size:])


@pytest.mark.parametrize(("name", "make", "code"), VARIANTS, ids=[name for name, _, _ in VARIANTS])
def test_more_refusals(name, make, code):
    with pytest.raises(ContainerError) as caught:
        fuzz.unpack(make())
    assert caught.value.code == code


def bombs() -> dict[str, bytes]:
    """A few bytes that ask for much."""
    zeros = zlib.compress(bytes(50_000_000), 9)
    onnx = {"kind": "onnx", "meta": {}, "sha256": "0" * 64, "tensors": []}
    rare = bytes([0, 1, 193, 1]) + (2**63).to_bytes(8, "little")
    named = [[SKELETON, 50_000_000, len(zeros)]]
    return {
        "skeleton": seal(json.dumps(onnx | {"streams": named}, sort_keys=True, separators=(",", ":")).encode(), zeros),
        "deflate, honest": _onnx_bomb(onnx, zeros, 50_000_000),
        "deflate, lying": _onnx_bomb(onnx, zeros, 100),
        "constant": one("u1", [10**9], [1, 0], (2, 10**9, b"\x05\x05")),
        "ans": one("u1", [10**9], [1, 0], (2, 10**9, rare)),
        "codebook": one("f4", [10**8], [2, 1, 0, 0, 0, 0, 1], (0, 4, b"abcd"), (2, 10**8, b"\x00\x00")),
        "gaps": one("f4", [10**8], [3, 1, 1, 0, [0, 1]], (0, 1, b"\x00"), (0, 4, b"abcd")),
        "zero-sized": one("u1", [0, 2**53 - 1], [], (0, 1, b"a")),
    }


def _onnx_bomb(header: dict, deflated: bytes, size: int) -> bytes:
    text = json.dumps(header | {"streams": [[1, size, len(deflated)]]}, sort_keys=True, separators=(",", ":"))
    return seal(text.encode(), deflated)


@pytest.mark.parametrize("name", bombs())
def test_bombs_take_no_time_and_no_memory(name):
    data = bombs()[name]
    limit = 10_000_000
    tracemalloc.start()
    began = time.process_time()
    with pytest.raises(ContainerError):
        container = read_container(data, max_bytes=limit)
        (unpack_onnx if container.kind == "onnx" else unpack_tensors)(data, max_bytes=limit)
    seconds, peak = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 0.1 and peak < 2**20


def test_the_longest_headers_are_read_at_once_and_in_bounded_memory():
    rows = [[f"{i:x}", "u1", [1], [0, 0]] for i in range(10_500)]
    many = rebuilt(tensors(), put(tensors=rows, streams=[[0, len(rows), len(rows)]]), bytes(len(rows)))
    for data in (many, seal(b"[" + b"[]," * 87_000 + b"[]]", b"")):
        assert MAX_HEADER > int.from_bytes(data[8:12], "little") > 0.9 * MAX_HEADER
        seconds = []
        gc.collect()
        gc.disable()  # it would look through all that other tests have left
        for _ in range(5):
            began = time.process_time()
            if data is many:
                assert len(read_container(data).tensors) == len(rows)
            else:
                with pytest.raises(ContainerError, match="header-field"):
                    read_container(data)
            seconds.append(time.process_time() - began)
        gc.enable()
        assert min(seconds) <= 0.1
        tracemalloc.start()
        try:
            read_container(data)
        except ContainerError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 10_000_000


def test_every_single_bit_counts():
    data = pack_tensors({"w": np.sign(np.random.default_rng(0).normal(size=400)).astype(np.float32)})
    assert 300 < len(data) < 600
    for bit in range(8 * len(data)):
        mutant = bytearray(data)
        mutant[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ContainerError):
            read_container(bytes(mutant))


def test_a_file_of_several_chunks_names_the_damaged_one():
    data = pack_tensors({"w": np.random.default_rng(0).integers(0, 256, 3 * CHUNK + 5, np.uint8)})
    assert write_container(read_container(data)) == data
    for back, chunk in ((1, 3), (6, 2), (CHUNK + 6, 1)):
        with pytest.raises(ContainerError, match="chunk-digest") as caught:
            read_container(flipped(data, len(data) - back))
        assert caught.value.offset == len(data) - 5 - (3 - chunk) * CHUNK


@pytest.mark.parametrize("kind", SEEDS)
def test_mutants(kind):
    found = fuzz.fuzz(SEEDS[kind](), n=1500)
    assert found.faults == ()
    assert found.accepted + sum(found.refused.values()) == 1500
    assert len(found.refused) > 11  # it reaches what is behind the digests
    assert found.accepted > 5 and found.peak_share < 1


def crash(data):
    raise IndexError("index out of range")


def hang(data):
    time.sleep(0.01)


def hoard(data):
    bytes(2 * fuzz.SPARE_BYTES)


@pytest.mark.parametrize(
    ("broken", "sign"),
    [(crash, "IndexError"), (hang, " s"), (hoard, "of the memory"), (lambda data: None, "written differently")],
)
def test_the_fuzzer_sees_what_it_looks_for(broken, sign, monkeypatch):
    data = tensors()
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 0.005)
    monkeypatch.setattr(fuzz, "mutants", lambda data, n, seed: [data] * n)
    monkeypatch.setattr(fuzz, "write_container", lambda container: data + b" ")
    calls = iter(range(9))  # the first is the container itself
    monkeypatch.setattr(fuzz, "unpack", lambda given: broken(given) if next(calls) else None)
    assert any(sign in fault for fault in fuzz.fuzz(data, n=1).faults)


WATCH = """
import sys
from pathlib import Path
from swiftlet.pack import fuzz
from swiftlet.pack.error import ContainerError
data = Path(sys.argv[1]).read_bytes()
fuzz.unpack(data)  # whatever loads late, such as codecs
events, mutants = [], list(fuzz.mutants(data, 1000))
FORBIDDEN = ("exec", "compile", "import", "open", "pickle.find_class", "subprocess.Popen", "os.system", "marshal.loads")
sys.addaudithook(lambda event, args: events.append(event) if event in FORBIDDEN or event.startswith("socket") else None)
refused = 0
for mutant in mutants:
    try:
        fuzz.unpack(mutant)
    except ContainerError:
        refused += 1
print(refused, sorted(set(events)))
"""


def test_loading_never_executes(tmp_path):
    (tmp_path / "seed.swl").write_bytes(tensors())
    command = [sys.executable, "-c", WATCH, tmp_path / "seed.swl"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    refused, events = run.stdout.split(maxsplit=1)
    assert int(refused) > 500 and events.strip() == "[]"


READ = """
import { readFileSync } from "node:fs";
import { read } from %s;
const batch = readFileSync(process.argv[1]);
const found = [];
for (let at = 0; at < batch.length; ) {
  const length = batch.readUInt32LE(at);
  const data = new Uint8Array(batch.subarray(at + 4, at + 4 + length));
  at += 4 + length;
  try {
    const { kind, meta, tensors, sha256 } = await read(data);
    found.push([kind, sha256, meta, (tensors ?? []).map(({ name, dtype, shape }) => [name, dtype, shape])]);
  } catch (error) {
    found.push(error.code === undefined ? String(error.stack) : [error.code, error.offset]);
  }
}
console.log(JSON.stringify(found));
"""


def read_in_javascript(batch: list[bytes], folder: Path) -> list:
    """What reader.js says of each."""
    node = shutil.which("node") or missing("Node, which runs the JavaScript reader, is not installed")
    path = folder / "batch.bin"
    path.write_bytes(b"".join(len(data).to_bytes(4, "little") + data for data in batch))
    script = READ % json.dumps((ROOT / "swiftlet/pack/reader.js").as_uri())
    command = [node, "--input-type=module", "--no-warnings", "-e", script, path]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def read_in_python(data: bytes) -> list:
    try:
        container = read_container(data)
        (unpack_onnx if container.kind == "onnx" else unpack_tensors)(data)
    except ContainerError as error:
        return [error.code, error.offset]
    named = [[e.name, e.dtype, list(e.shape)] for e in container.tensors if container.kind == "tensors"]
    return [container.kind, container.sha256, container.meta, named]  # the digest was compared with the content


def test_both_readers_agree(tmp_path):
    rng = np.random.default_rng(0)
    more = {dtype: rng.normal(0, 20, 500).astype(dtype) for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8")}
    batch = [tensors(), network(), pack_onnx(quantized_net()), pack_tensors(more), pack_tensors({})]
    valid = len(batch)
    batch += [make() for make in REFUSED.values()] + [make() for _, make, _ in VARIANTS]
    for kind in SEEDS:
        batch += fuzz.mutants(SEEDS[kind](), 800, seed=1)
    ours, theirs = [read_in_python(data) for data in batch], read_in_javascript(batch, tmp_path)
    assert len(ours) == len(theirs)
    for i, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        assert one == other, i
    assert all(len(found) == 4 for found in ours[:valid])
    assert sum(len(found) == 4 for found in ours) > valid + 10
