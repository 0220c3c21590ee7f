"""LeNet-300-100 and LeNet-5 on MNIST, pruned, shared and Huffman-coded (Han et al. 2016, arXiv:1510.00149). Nothing is
timed.

The protocol. Of the training pictures the last twelfth (5,000 of MNIST's) validates; densities, bits and recipes below
were chosen by it. The test pictures are shown once, at the end, to every stage of each network.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from swiftlet.data.listing import Rows
from swiftlet.data.npz import list_npz
from swiftlet.errors import BadPhotos
from swiftlet.pack.reader import unpack_tensors
from swiftlet.pack.writer import pack_tensors
from swiftlet.study.bench import Bench
from swiftlet.study.coded_size import CodedSize, coded_size, file_bytes
from swiftlet.study.finding import Cell, Finding, Table
from swiftlet.study.prune_share import SIDE, Stages, compress, error
from swiftlet.train.loop import Pictures, Progress
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VALIDATION = 12  # one part of so many
QUICK = 3_000  # pictures

TURNED = Recipe(
    name="lenet", optimizer="adamw", lr=2e-3, weight_decay=0.01, decayed="weights", batch=128, warmup=0.05, ema=0.0,
    label_smoothing=0.0, teacher_weight=0.7, min_area=0.75, aspect=0.85, rotation=10.0, jitter=0.0, flip=False,
)  # fmt: skip
ALONE = replace(TURNED, teacher_weight=0.0, min_area=0.86, aspect=0.9, rotation=7.0)  # no teacher


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network, how it is compressed, and the paper's numbers: KB, error in per cent, names of its layers."""

    title: str
    stages: Stages
    paper_bytes: int
    paper_error: float
    layers: dict[str, str]


SUBJECTS = {
    "lenet_300_100": Subject(
        title="LeNet-300-100",
        stages=Stages(
            dense=TURNED,
            pruned=TURNED,
            shared=replace(TURNED, lr=1e-3),
            epochs=(20, 20, 4),
            density=0.06,
            until=0.6,
            bits=4,
        ),
        paper_bytes=27_000,
        paper_error=1.58,
        layers={"fc1.0": "ip1", "fc2.0": "ip2", "classifier": "ip3"},
    ),
    "lenet5": Subject(
        title="LeNet-5",
        stages=Stages(
            dense=TURNED,
            pruned=ALONE,
            shared=replace(ALONE, lr=5e-4),
            epochs=(4, 9, 1),
            density=0.02,
            until=0.5,
            bits=4,
        ),
        paper_bytes=44_000,
        paper_error=0.74,
        layers={"conv1": "conv1", "conv2": "conv2", "fc1.0": "ip1", "classifier": "ip2"},
    ),
}

COLOURS = ("#0072B2", "#D55E00")
LAYER_COLUMNS = (
    "layer", "weights", "density %", "code bits", "Huffman code bits", "index bits", "Huffman index bits",
    "shared %", "coded %",
)  # fmt: skip
PUBLISHED = (
    Table(
        title="Deep Compression, LeNet-300-100",
        columns=LAYER_COLUMNS,
        rows=(
            ("ip1", "235K", 8, 6, 4.4, 5, 3.7, 3.1, 2.32),
            ("ip2", "30K", 9, 6, 4.4, 5, 4.3, 3.8, 3.04),
            ("ip3", "1K", 26, 6, 4.3, 5, 3.2, 15.7, 12.70),
            ("total", "266K", 8, 6, 5.1, 5, 3.7, 3.1, 2.49),
        ),
        source="table 2; the total of the Huffman code bits is above every row there. Table 1: 27 KB at 1.58 % error, "
        "from 1,070 at 1.64 %",
    ),
    Table(
        title="Deep Compression, LeNet-5",
        columns=LAYER_COLUMNS,
        rows=(
            ("conv1", "0.5K", 66, 8, 7.2, 5, 1.5, 78.5, 67.45),
            ("conv2", "25K", 12, 8, 7.2, 5, 3.9, 6.0, 5.28),
            ("ip1", "400K", 8, 5, 4.5, 5, 4.5, 2.7, 2.45),
            ("ip2", "5K", 19, 5, 5.2, 5, 3.7, 6.9, 6.13),
            ("total", "431K", 8, 5.3, 4.1, 5, 4.4, 3.05, 2.55),
        ),
        source="table 3; ip2's Huffman bits are above its code bits there, and their total below every row. Table 1: "
        "44 KB at 0.74 % error, from 1,720 at 0.80 %",
    ),
    Table(
        title="LeNet-5 since then",
        columns=("method", "error %", "KB", "x smaller"),
        rows=(
            ("Weightless", 1.0, 4.52, 382),
            ("Bayesian Compression", 1.0, 2.3, 771),
            ("MIRACLE, lowest error", 0.69, 3.03, 555),
            ("MIRACLE, highest compression", 0.96, 1.52, 1110),
        ),
        source="MIRACLE (Havasi et al. 2019), table 1; its decoder shares a random generator with the coder",
    ),
)


def run(bench: Bench, data: Path) -> Finding:
    """Both networks; the verdict asks for no more bytes and no more test errors than the paper's, of each.

    data: MNIST as an .npz file with a train and a test split. Raises BadPhotos for anything else.
    """
    training, validation, test = read_mnist(data)
    if bench.quick:
        training, validation, test = (_first(pictures, QUICK) for pictures in (training, validation, test))
    rows: list[tuple[Cell, ...]] = []
    layers, sentences, kept = [], [], []
    for name, subject in SUBJECTS.items():
        stages = replace(subject.stages, epochs=(1.0, 1.0, 1.0)) if bench.quick else subject.stages
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(bench.seed)
            network = create_model(name)
        found = compress(network, training, stages, seed=bench.seed, progress=_reporter(bench, subject.title))
        file = pack_tensors(found.shared)
        plain = sum(tensor.nbytes for tensor in found.dense.values())
        sizes = (
            ("dense", found.dense, plain),
            ("pruned", found.pruned, file_bytes(found.pruned, "pruned")),
            ("shared", found.shared, file_bytes(found.shared, "shared")),
            ("Huffman-coded", found.shared, file_bytes(found.shared, "coded")),
            ("container", unpack_tensors(file).tensors, len(file)),
        )
        for stage, tensors, size in sizes:
            errors = [error(network, tensors, pictures) for pictures in (validation, test)]
            rows.append((subject.title, stage, size, plain / size, *errors))
        layers.append(layer_table(subject, found.shared))
        wrong = errors[1]  # of the container
        kept.append(len(file) <= subject.paper_bytes and wrong <= subject.paper_error)
        sentences.append(
            f"{subject.title} takes {len(file) / 1000:.2f} KB at {wrong:.2f} % test error, "
            f"{plain / len(file):.0f}x less than its floats (the paper: {subject.paper_bytes / 1000:.0f} KB at "
            f"{subject.paper_error} %)"
        )
    return Finding(
        study="deep-compression",
        title="Deep Compression of LeNets",
        claim="Pruning, weight sharing and entropy coding make LeNet-300-100 40x and LeNet-5 39x smaller without loss "
        "of accuracy (Deep Compression).",
        verdict="holds" if all(kept) else "fails",
        sentence="; ".join(sentences) + ".",
        measured=(
            Table(
                title="What each stage is worth",
                columns=("network", "stage", "bytes", "x smaller", "validation error %", "test error %"),
                rows=tuple(rows),
                source=f"{len(training.labels):,} pictures to train, {len(validation.labels):,} to validate, "
                f"{len(test.labels):,} to test, seed {bench.seed}. Biases, names and shapes included. Pruned: floats "
                "and gaps; shared: codes, gaps, codebooks; Huffman-coded: counted, with its tables; container: "
                "`swiftlet pack`'s file, loaded again",
            ),
            *layers,
        ),
        published=PUBLISHED,
        notes=(
            "Trained on pictures that are cropped and turned by up to 10 degrees, which the paper does not do. The "
            "dense LeNet-300-100 teaches the pruned and the shared one.",
            "Densities, bits and recipes were chosen on the validation pictures, with seed 0.",
        ),
    )


def layer_table(subject: Subject, tensors: dict[str, np.ndarray[Any, Any]]) -> Table:
    """The paper's columns for the weights of each layer, and for all together; per cent are of 32 bits a weight."""
    sizes = {label: coded_size(tensors[f"{path}.weight"]) for path, label in subject.layers.items()}
    rows = [(label, *_cells([size])) for label, size in sizes.items()]
    return Table(
        title=f"Ours, {subject.title}",
        columns=LAYER_COLUMNS,
        rows=(*rows, ("total", *_cells(list(sizes.values())))),
        source="weights without biases, codebooks and code tables included; bits are means over entries",
    )


def _cells(sizes: list[CodedSize]) -> tuple[Cell, ...]:
    weights, entries = sum(size.weights for size in sizes), sum(size.entries for size in sizes)

    def mean(name: str) -> float:
        return float(sum(getattr(size, name) * size.entries for size in sizes) / max(1, entries))

    return (
        weights,
        100 * sum(size.nonzero for size in sizes) / weights,
        *(mean(name) for name in ("code_bits", "huffman_code_bits", "index_bits", "huffman_index_bits")),
        *(100 * sum(getattr(size, name) for size in sizes) / (32 * weights) for name in ("shared", "coded")),
    )


def read_mnist(file: Path) -> tuple[Pictures, Pictures, Pictures]:
    """Pictures to train, to validate and to test, grey ones in three equal channels. Raises BadPhotos."""
    listing = list_npz(file)
    given = {split: np.flatnonzero(listing.splits == split) for split in ("train", "test")}
    rows = listing.pictures.rows if isinstance(listing.pictures, Rows) else ()
    if not all(map(len, given.values())) or {row.shape for row in rows} != {(SIDE, SIDE)}:
        raise BadPhotos(
            f"{file}: holds {len(rows)} pictures, {len(given['train'])} of them to train and {len(given['test'])} to "
            f"test; this study takes MNIST: x_train, y_train, x_test, y_test, pictures of {SIDE} x {SIDE} grey pixels"
        )

    def pictures(places: np.ndarray[Any, Any]) -> Pictures:
        grey = np.stack([rows[place] for place in places])
        return Pictures(np.repeat(grey[..., None], 3, axis=3), listing.labels[places])

    train, validation = np.split(given["train"], [len(given["train"]) * (VALIDATION - 1) // VALIDATION])
    return pictures(train), pictures(validation), pictures(given["test"])


def _first(pictures: Pictures, count: int) -> Pictures:
    return Pictures(pictures.pixels[:count], pictures.labels[:count])


def _reporter(bench: Bench, title: str) -> Callable[[str], Progress]:
    def of(stage: str) -> Progress:
        def report(step: int, steps: int, loss: float) -> None:
            if bench.progress is not None:
                bench.progress(f"{title} {stage}, loss {loss:.3f}", step, steps)

        return report

    return of


def draw(finding: Finding, figure: "Figure") -> None:
    """Kilobytes after each stage, a line for each network, and the paper's end of it."""
    axes = figure.subplots()
    table = finding.measured[0]
    for subject, colour in zip(SUBJECTS.values(), COLOURS, strict=True):
        ours = table.where(network=subject.title)
        kilobytes = [size / 1000 for size in ours.column("bytes")]
        axes.plot(ours.column("stage"), kilobytes, "o-", color=colour, label=f"{subject.title}, ours")
        for stage, size, wrong in zip(ours.column("stage"), kilobytes, ours.column("test error %"), strict=True):
            axes.annotate(f"{wrong:.2f} %", (stage, size), textcoords="offset points", xytext=(6, 6), color=colour)
        axes.plot(["container"], [subject.paper_bytes / 1000], "x", color=colour, label=f"{subject.title}, paper")
    axes.set(yscale="log", ylabel="KB", xlabel="after the stage; numbers at points are test errors")
    axes.margins(0.1)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
