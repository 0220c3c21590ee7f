"""The study: its bytes against bits that are really written, the paper's figures, and a small run from end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swiftlet.data.digits import list_digits
from swiftlet.errors import BadPhotos
from swiftlet.study.bench import Bench
from swiftlet.study.finding import half_interval
from swiftlet.study.trained import deep_compression, prune_share
from swiftlet.study.trained.coded_size import coded_size, file_bytes
from swiftlet.study.trained.deep_compression_lenets import SUBJECTS
from swiftlet.study.trained.prune_share import SIDE
from swiftlet.train.loop import Pictures
from swiftlet.zoo import card

SPARSE = st.tuples(st.integers(1, 3000), st.floats(0, 1), st.integers(1, 40), st.integers(0, 10_000))


def sparse(size: int, density: float, values: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codebook = rng.normal(size=values).astype(np.float32)
    return np.where(rng.random(size) < density, rng.choice(codebook, size), np.float32(0))


def entries(tensor: np.ndarray, bits: int) -> list[tuple[int, float]]:
    """The paper's figure 2, weight by weight: (zeros passed over, the weight, or the zero that fills a long gap)."""
    found, gap = [], 0
    for weight in np.trim_zeros(tensor, "b").tolist():
        if weight != 0 or gap == 2**bits - 1:
            found.append((gap, weight))
            gap = 0
        else:
            gap += 1
    return found


def huffman_code(symbols: list) -> dict:
    """Symbol -> its bits as text, built from a tree of tuples."""
    nodes = [(symbols.count(symbol), i, symbol) for i, symbol in enumerate(sorted(set(symbols)))]
    codes = {symbol: "" if len(nodes) > 1 else "0" for _, _, symbol in nodes}
    groups = {i: [symbol] for _, i, symbol in nodes}
    nodes = [(number, i) for number, i, _ in nodes]
    while len(nodes) > 1:
        nodes.sort()
        (a, i), (b, j), *nodes = nodes
        for bit, group in (("0", groups[i]), ("1", groups[j])):
            codes |= {symbol: bit + codes[symbol] for symbol in group}
        groups[i] += groups.pop(j)
        nodes.append((a + b, i))
    return codes


def decoded(stream: str, code: dict, count: int) -> list:
    symbols = {bits: symbol for symbol, bits in code.items()}
    found, start = [], 0
    for _ in range(count):
        end = next(end for end in range(start, len(stream) + 1) if stream[start:end] in symbols)
        found.append(symbols[stream[start:end]])
        start = end
    assert start == len(stream)
    return found


@settings(max_examples=60, deadline=None)
@given(SPARSE)
def test_the_bits_that_are_counted_can_be_written_and_read(case):
    tensor = sparse(*case)
    size = coded_size(tensor)
    found = entries(tensor, size.index_bits)
    assert (size.weights, size.nonzero, size.entries) == (len(tensor), np.count_nonzero(tensor), len(found))
    streams = [list(stream) for stream in zip(*found, strict=True)] or [[], []]
    codes = [huffman_code(stream) for stream in streams]
    written = ["".join(map(code.get, stream)) for code, stream in zip(codes, streams, strict=True)]
    tables = 5 * (size.values + 1 + 2**size.index_bits)
    assert size.coded == sum(map(len, written)) + 32 * size.values + tables
    assert size.shared == len(found) * (size.code_bits + size.index_bits) + 32 * size.values

    restored, place = np.zeros_like(tensor), -1
    read = [decoded(stream, code, len(found)) for stream, code in zip(written, codes, strict=True)]
    for gap, weight in zip(*read, strict=True):
        place += gap + 1
        restored[place] = weight
    assert np.array_equal(restored, tensor)


@settings(max_examples=30, deadline=None)
@given(SPARSE)
def test_no_size_is_below_what_information_takes(case):
    tensor = sparse(*case)
    size = coded_size(tensor)
    assert all(getattr(coded_size(tensor, form), form) <= getattr(size, form) for form in ("pruned", "shared"))
    present = np.unique(tensor[tensor != 0], return_counts=True)[1]
    ideal = float((present * np.log2(present.sum() / present)).sum())
    assert ideal + 32 * size.values - 1e-6 <= size.entropy <= size.weights + ideal + 32 * size.values + 1e-6
    assert file_bytes({"w": tensor}) <= 4 * tensor.size + 1 + 4 + 16


def mnist_like(folder: Path) -> Path:
    """The built-in digits at 24 x 24 with a margin, in MNIST's arrays."""
    listing = list_digits()
    rows = np.stack(listing.pictures.rows)
    grey = np.pad(rows.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
    file = folder / "digits.npz"
    np.savez(file, x_train=grey[:1400], y_train=listing.labels[:1400], x_test=grey[1400:], y_test=listing.labels[1400:])
    return file


def test_the_study_from_end_to_end(tmp_path):
    figures = pytest.importorskip("matplotlib.figure")
    calls = []
    bench = Bench(runtimes=("null",), quick=True, progress=lambda what, done, total: calls.append((what, done, total)))
    finding = deep_compression.run(bench, mnist_like(tmp_path))
    stages, each, *layers = finding.measured
    assert stages.column("stage") == ["dense", "pruned", "shared", "Huffman-coded", "container"] * 2
    for name, subject in SUBJECTS.items():
        of_network = stages.where(network=subject.title)
        *sizes, container = of_network.column("bytes")
        assert sizes[0] == 4 * card(name).params and sizes == sorted(sizes, reverse=True)
        assert container < 1.1 * sizes[-1]
        assert of_network.rows[-1][4:] == of_network.rows[-2][4:]  # what is loaded again answers the same
        seeds = each.where(network=subject.title)
        assert seeds.column("seed") == [0, 1] and len(set(seeds.column("bytes"))) == 2
        of_file = of_network.where(stage="container")
        for column in ("bytes", "validation error %", "test error %"):
            assert of_file.column(column) == [pytest.approx(np.mean(seeds.column(column)))]
    for table, published in zip(layers, finding.published, strict=False):
        assert table.columns == published.columns and table.column("layer") == published.column("layer")
        for ours, theirs in zip(table.column("weights"), published.column("weights"), strict=True):
            assert round(ours / 1000, 1) == pytest.approx(float(theirs.rstrip("K")), abs=0.5)
    assert {what.split(",")[0] for what, _, _ in calls} >= {"LeNet-5 from seed 1 sharing"}
    figure = figures.Figure()
    deep_compression.draw(finding, figure)
    assert len(figure.axes[0].lines) == 4


def test_half_an_interval_of_three_seeds():
    # from a table: t = 4.303 for two degrees of freedom
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(2.4841, abs=5e-4)
    assert half_interval([0.7, 0.7]) == 0


@pytest.mark.parametrize(
    ("errors", "size", "verdict"),
    [
        ((0.70, 0.71, 0.72), 44_000, "holds"),
        ((0.70, 0.71, 0.72), 44_001, "fails"),
        ((0.70, 0.75, 0.74), 12_000, "cannot tell"),
        ((0.80, 0.81, 0.82), 12_000, "fails"),
    ],
)
def test_planted_errors_and_bytes_give_each_verdict(errors, size, verdict):
    networks = [deep_compression.Made(i, (size,), (0.0,), (wrong,), {}) for i, wrong in enumerate(errors)]
    assert deep_compression.kept(SUBJECTS["lenet5"], networks) == verdict


def test_pictures_to_train_on_have_room_to_be_pushed_aside():
    pictures = Pictures(np.full((2, SIDE, SIDE, 3), 255, np.uint8), np.arange(2))
    roomy = prune_share.with_margin(pictures)
    assert roomy.pixels.shape[1:3] == (SIDE + 4, SIDE + 4) and roomy.labels is pictures.labels
    assert np.array_equal(roomy.pixels[:, 2:-2, 2:-2], pictures.pixels)
    assert roomy.pixels.sum(dtype=int) == pictures.pixels.sum(dtype=int)


def test_views_are_sharpened_to_black_and_white():
    grey = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    expected = torch.tensor([0.0, 0.0, 0.2, 0.5, 0.8, 1.0, 1.0])
    assert torch.allclose(prune_share.Sharper()(grey), expected, atol=1e-6)


def test_the_data_must_be_mnist(tmp_path):
    other = tmp_path / "other.npz"
    np.savez(
        other,
        x_train=np.zeros((9, 32, 32), np.uint8),
        y_train=np.arange(9),
        x_test=np.zeros((9, 32, 32), np.uint8),
        y_test=np.arange(9),
    )
    with pytest.raises(BadPhotos, match="takes MNIST"):
        deep_compression.read_mnist(other)
    with pytest.raises(BadPhotos, match="cannot be read"):
        deep_compression.read_mnist(tmp_path / "none.npz")
    train, validation, test = deep_compression.read_mnist(mnist_like(tmp_path))
    assert [len(part.labels) for part in (train, validation, test)] == [1283, 117, 397]
    assert np.array_equal(validation.labels, list_digits().labels[1283:1400])
