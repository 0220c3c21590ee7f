"""The container: what goes in comes out to the bit, in hardly more bytes than the entropy of its symbols."""

import hashlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from needs import data_folder
from onnx import helper
from onnx_graphs import float_net, quantized_net, serialize, tensor
from torch import nn

from swiftlet.compress.fold import fold_batchnorm
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.onnx import export_onnx
from swiftlet.pack import ans, names, skeleton, streams
from swiftlet.pack.breakdown import breakdown
from swiftlet.pack.encodings import ITEMSIZE
from swiftlet.pack.format import DEFLATE, MAX_SKELETON, SKELETON, read_container, write_container
from swiftlet.pack.huffman import huffman_bits
from swiftlet.pack.onnx import pack_onnx, unpack_onnx
from swiftlet.pack.reader import unpack_tensors
from swiftlet.pack.writer import pack_tensors
from swiftlet.runtime import get_runtime
from swiftlet.zoo import create_model

ROOT = Path(__file__).parent.parent
GOLDEN = "647001130009013891208799232400"  # lowest, highest, 1, a run, 2 words

# --- coders ---------------------------------------------------------------------------------------------------------


def reference_ans(data: bytes, count: int) -> bytes:
    """The decoder as docs/pack.md describes it, in whole numbers of any length."""
    low, high = data[:2]
    if low == high:
        return bytes([low]) * count
    table, end = [], 2
    while len(table) <= high - low:
        run = [data[end]] if data[end] else [0] * (data[end + 1] + 1)
        table, end = table + run, end + (1 if data[end] else 2)
    sizes = [0 if f == 0 else (8 + (f - 1) % 8) << ((f - 1) // 8) for f in table]
    sums = [sum(sizes[:i]) * (2**24 - len(sizes)) // sum(sizes) + i for i in range(len(sizes) + 1)]
    words = [int.from_bytes(data[i : i + 4], "little") for i in range(end, len(data), 4)]
    state, symbols = 0, []
    while state < 2**32 and words:
        state = state << 32 | words.pop()
    for _ in range(count):
        part = state % 2**24
        symbol = max(i for i in range(len(sizes)) if sums[i] <= part)
        state = (state >> 24) * (sums[symbol + 1] - sums[symbol]) + part - sums[symbol]
        if state < 2**32 and words:
            state = state << 32 | words.pop()
        symbols.append(low + symbol)
    assert state == 0 and not words
    return bytes(symbols)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300), st.integers(1, 6))
def test_the_coder_is_the_documented_one(text, repeat):
    symbols = np.frombuffer(text * repeat, np.uint8)
    data = ans.encode(symbols)
    assert ans.decode(data, symbols.size).tobytes() == symbols.tobytes()
    assert reference_ans(data, symbols.size) == symbols.tobytes()


def test_the_coder_gives_these_bytes_for_ever():
    data = ans.encode(np.frombuffer(b"deeeeep" * 4, np.uint8))
    assert data.hex() == GOLDEN


@settings(max_examples=100, deadline=None)
@given(arrays.arrays(np.int64, st.integers(2, 256), elements=st.integers(0, 2**40)).filter(lambda c: c[0] and c[-1]))
def test_frequencies_are_close_and_share_everything_out(counts):
    table = ans.frequencies(counts)
    parts = ans.parts(table)
    assert parts.sum() == 2**24 and parts.min() >= 1
    assert ((table > 0) == (counts > 0)).all() and table.max() <= ans.MAX_FREQUENCY
    kept = counts >= counts.max() / 2**24
    share = counts / counts.sum()
    assert np.all(np.abs(parts / 2**24 - share)[kept] <= 0.14 * share[kept] + 2e-5)


def test_huffman_takes_what_the_textbook_says():
    assert huffman_bits([45, 13, 12, 16, 9, 5]) == 224  # Cormen et al., figure 16.3
    assert huffman_bits([7]) == 7 and huffman_bits([1, 1, 1, 1]) == 8


def test_sequences_that_are_alike_share_a_table_and_noise_is_left_alone():
    rng = np.random.default_rng(0)
    narrow = [rng.binomial(40, 0.5, 3000).astype(np.uint8) for _ in range(4)]
    wide = [rng.binomial(255, 0.5, 3000).astype(np.uint8) for _ in range(4)]
    noise = [rng.integers(0, 256, 3000, np.uint8)]
    groups = streams.group([*narrow, *wide, *noise])
    assert len(set(groups[:4])) == 1 and len(set(groups[4:8])) == 1 and groups[0] != groups[4] and groups[8] == 0


NAMES = st.lists(st.sampled_from([b"\x0a\x02", b"\x12\x02", b"\x42\x02", b"00", b"zC", b"0", b"B", b"\x02", b"\xff"]))


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(), NAMES.map(b"".join)))
def test_names_come_back_whatever_the_bytes_are(text):
    assert names.absolute(names.relative(text)) == text == names.relative(names.absolute(text))
    assert skeleton.decode(skeleton.encode(text), len(text), 0).tobytes() == text


def test_names_in_a_row_become_the_same_bytes():
    def node(*inputs: bytes, output: bytes) -> bytes:
        return b"".join(b"\x0a\x02" + name for name in inputs) + b"\x12\x02" + output + b'"\x04Relu'

    text = node(b"00", b"05", output=b"06") + node(b"06", b"0b", output=b"0c")
    one, other = names.relative(text)[: len(text) // 2], names.relative(text)[len(text) // 2 :]
    assert one == node(b"00", b"05", output=b"06") and other == node(b"00", b"05", output=b"06")
    assert names.relative(b"\x12\x02ZZ\x0a\x0200") == b"\x12\x02ZZ\x0a\x0201"  # 3,599 and one more


def test_both_readers_have_one_dictionary():
    page = (ROOT / "swiftlet" / "pack" / "reader.js").read_text()
    texts = re.findall(r'^ +"([\w+/=]+)",?$', page.partition("const DICTIONARY")[2], re.MULTILINE)
    ours = re.findall(r'^ +"([\w+/=]+)"$', (ROOT / "swiftlet" / "pack" / "skeleton.py").read_text(), re.MULTILINE)
    assert "".join(texts) == "".join(ours)
    # another dictionary would be another version of the format
    digest = "f666f121a1124ad1eedd5f653f962b2b90175d11ced572f138a4ebf2826f6b52"
    assert hashlib.sha256(skeleton.DICTIONARY).hexdigest() == digest


# --- tensors --------------------------------------------------------------------------------------------------------

DTYPES = sorted(ITEMSIZE.keys() - {"bf"})


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()  # NaN and -0 included


@st.composite
def networks(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Dense, sparse, shared and constant arrays of every type."""
    found = {}
    for i in range(draw(st.integers(0, 4))):
        shape = draw(arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12))
        array = draw(arrays.arrays(np.dtype(draw(st.sampled_from(DTYPES))), shape, fill=st.just(0)))
        match draw(st.integers(0, 2)):
            case 1:
                array = np.tile(array.reshape(-1), draw(st.integers(1, 40)))
            case 2:
                array = array * np.array(draw(arrays.arrays(np.bool_, array.shape)), array.dtype)
        found[f"layer.{i}"] = array
    return found


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@settings(max_examples=60, deadline=None)
@given(networks(), st.dictionaries(st.from_regex(r"[a-z][a-z0-9_.-]{0,9}", fullmatch=True), TEXTS))
def test_tensors_come_back_to_the_bit(tensors, meta):
    packed = pack_tensors(tensors, meta)
    found = unpack_tensors(packed)
    assert found.meta == meta and list(found.tensors) == list(tensors)
    assert all(same(found.tensors[name], array) for name, array in tensors.items())
    assert write_container(read_container(packed)) == packed
    assert pack_tensors(found.tensors, found.meta) == packed


@pytest.mark.parametrize(
    ("make", "tag"),
    [
        (lambda rng: rng.integers(0, 2**32, 5000, np.uint32), 0),
        (lambda rng: rng.normal(0, 0.1, 5000).astype(np.float32), 1),
        (lambda rng: np.linspace(-1, 1, 16, dtype=np.float32)[rng.binomial(15, 0.5, 5000)], 2),
        (lambda rng: rng.normal(0, 0.1, 5000).astype(np.float32) * (rng.random(5000) < 0.1), 3),
        (lambda rng: (np.arange(5000) % 1000 == 7).astype(np.int8) * 9, 3),
        (lambda rng: (rng.binomial(15, 0.5, 5000) + 16 * rng.binomial(15, 0.5, 5000)).astype(np.uint8), 4),
        (lambda rng: np.zeros((3, 0), np.float32), None),
    ],
)
def test_each_kind_of_tensor_gets_its_encoding(make, tag):
    array = np.asarray(make(np.random.default_rng(0)))
    packed = pack_tensors({"w": array.astype(array.dtype)})
    assert ([*read_container(packed).tensors[0].encoding, None])[0] == tag
    assert same(unpack_tensors(packed).tensors["w"], array)


def test_long_gaps_and_zeros_at_both_ends():
    for gaps in ([0], [254], [255], [256], [510], [765, 0, 254, 255]):
        array = np.zeros(sum(gaps) + len(gaps) + 300, np.float32)
        array[np.cumsum(np.array(gaps) + 1) - 1] = np.random.default_rng(0).normal(size=len(gaps))
        for one in (array, array[::-1].copy(), -array):
            assert same(unpack_tensors(pack_tensors({"w": one})).tensors["w"], one)


def test_minus_zero_is_not_zero():
    array = np.zeros(1000, np.float32)
    array[[3, 500]] = [-0.0, np.nan]
    assert same(unpack_tensors(pack_tensors({"w": array})).tensors["w"], array)


def test_zeros_of_any_size_stay_within_the_expansion_that_readers_allow():
    packed = pack_tensors({"w": np.zeros(10_000_000, np.int8)})
    assert len(packed) > 4_800 and not unpack_tensors(packed).tensors["w"].any()


def sparse_and_shared(rng: np.random.Generator, count: int, density: float, bits: int) -> np.ndarray:
    values = np.sort(rng.normal(0, 0.05, 2**bits)).astype(np.float32)
    weights = values[np.clip(rng.normal(2 ** (bits - 1), 2 ** (bits - 3), count), 0, 2**bits - 1).astype(int)]
    return weights * (rng.random(count) < density)


def test_a_sparse_and_shared_network_takes_its_entropy():
    rng = np.random.default_rng(0)
    shapes = [(64, 32, 3, 3), (128, 64, 3, 3), (256, 128, 3, 3), (10, 256)]
    tensors = {f"w{i}": sparse_and_shared(rng, math.prod(s), 0.4, 8).reshape(s) for i, s in enumerate(shapes)}
    packed = pack_tensors(tensors)
    spent = breakdown(packed)
    assert len(packed) > 100_000 and spent.total == len(packed)
    assert spent.words <= 1.002 * spent.entropy
    assert len(packed) <= 1.02 * spent.entropy + spent.plain  # `plain` is the codebooks here
    assert spent.entropy < spent.huffman


def test_what_cannot_be_packed():
    with pytest.raises(BadInput, match="complex64"):
        pack_tensors({"w": np.zeros(3, np.complex64)})
    with pytest.raises(BadInput, match="9-dimensional"):
        pack_tensors({"w": np.zeros((1,) * 9, np.float32)})
    for name in ("", "e\u0301", "a\n", "x" * 257):
        with pytest.raises(BadInput, match="NFC"):
            pack_tensors({name: np.zeros(3)})
    with pytest.raises(BadInput, match="begins with a letter"):
        pack_tensors({}, {"Key": ""})
    with pytest.raises(BadInput, match="begins with a letter"):
        pack_tensors({}, {"key": "\ud800"})
    with pytest.raises(BadInput, match="bytes of header"):
        pack_tensors({}, {"text": "x" * 2**20})
    with pytest.raises(BadInput, match="16,385 tensors"):
        pack_tensors({str(i): np.zeros(0) for i in range(16_385)})


# --- ONNX files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def onnx_file() -> bytes:
    torch.manual_seed(0)
    model = create_model("mobilenet_v2", width=0.35, num_classes=10).eval()
    return export_onnx(fold_batchnorm(model)[0], InputContract(side=32))


def test_an_onnx_file_comes_back_to_the_bit(onnx_file):
    packed = pack_onnx(onnx_file)
    assert len(packed) < 0.93 * len(onnx_file)
    assert unpack_onnx(packed) == onnx_file
    assert read_container(packed).sha256 == hashlib.sha256(onnx_file).hexdigest()
    assert pack_onnx(onnx_file) == packed
    program = get_runtime("onnxruntime").load(unpack_onnx(packed), 1)  # no file between
    assert program.execute(np.zeros((1, 32, 32, 3), np.uint8))[0].shape == (1, 10)


def test_a_container_of_version_1_is_read_and_remains_one():
    """Packed by the code of 26 November 2026."""
    packed = (ROOT / "tests" / "data" / "version1.swl").read_bytes()
    assert packed[7] == 1 and unpack_onnx(packed) == float_net()
    assert write_container(read_container(packed)) == packed
    assert pack_onnx(float_net())[7] == 2 and len(pack_onnx(float_net())) < len(packed) - 100


def test_layers_that_are_alike_cost_little():
    """Names, nodes and the lines of their weights in the header; the weights, of one value each, cost nothing."""
    sizes = []
    for layers in (10, 20):
        network = nn.Sequential(*(nn.Conv2d(3, 3, 7, padding=3, bias=False) for _ in range(layers)))
        network = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        with torch.no_grad():
            for i, weight in enumerate(network.parameters()):
                weight.fill_(i + 1)
        packed = pack_onnx(export_onnx(network, InputContract(side=16)))
        sizes.append(len(packed))
    assert sizes[1] - sizes[0] < 10 * 36


def test_skeletons_that_are_too_long_for_names_are_deflated():
    text = "x" * MAX_SKELETON
    short, long = (
        serialize([helper.make_node("Relu", ["image"], ["scores"], doc_string=text[:n])], [], shape=[1], dtype=1)
        for n in (9, MAX_SKELETON)
    )
    for file, coder in ((short, SKELETON), (long, DEFLATE)):
        packed = pack_onnx(file)
        assert unpack_onnx(packed) == file and read_container(packed).streams[0].coder == coder


@pytest.mark.parametrize("make", [float_net, quantized_net])
def test_small_files_come_back_too(make):
    packed = pack_onnx(make())
    assert unpack_onnx(packed) == make() and len(packed) < len(make()) + 100


def test_numbers_that_are_no_raw_data_and_fields_that_nobody_knows(onnx_file):
    node = helper.make_node("Constant", [], ["w"], value=tensor("", np.arange(5000), np.float32))
    weights = helper.make_tensor("v", 1, [5000], np.random.default_rng(0).normal(size=5000))  # in float_data
    file = serialize([node, helper.make_node("Add", ["image", "w"], ["scores"])], [weights], shape=[5000], dtype=1)
    file += b"\xfa\x7f\x03abc"  # field 2047: protobuf keeps what it does not know
    packed = pack_onnx(file)
    assert unpack_onnx(packed) == file
    assert [entry.shape for entry in read_container(packed).tensors] == [(5000,), (5000,)]


def test_files_that_are_none_and_containers_of_the_other_kind(tmp_path):
    for data in (b"", b"\x00" * 100, b"text"):
        with pytest.raises(BadFile, match=r"ONNX bytes: .* ONNX file"):
            pack_onnx(data)
    with pytest.raises(BadFile, match="cannot be read"):
        pack_onnx(tmp_path / "absent.onnx")
    with pytest.raises(BadFile, match="the limit"):
        pack_onnx(float_net(), max_bytes=100)
    with pytest.raises(BadInput, match="use unpack_tensors"):
        unpack_onnx(pack_tensors({"w": np.zeros(3)}))
    with pytest.raises(BadInput, match="use unpack_onnx"):
        unpack_tensors(pack_onnx(float_net()))


# --- a real network -------------------------------------------------------------------------------------------------


def test_squeezenet_after_deep_compression():
    """Its authors report 0.66 MB with 8 bits, 0.47 with 6: arXiv:1602.07360, table 2. This is the one with 8."""
    with np.load(data_folder("weights") / "squeezenet1_0_deepcomp_imagenet.npz") as file:
        tensors = {name: file[name] for name in file.files}
    packed = pack_tensors(tensors)
    found = unpack_tensors(packed).tensors
    assert all(same(found[name], array) for name, array in tensors.items())
    spent = breakdown(packed)
    assert len(packed) <= 1.02 * (spent.entropy + spent.plain)
    assert len(packed) < 535_000
