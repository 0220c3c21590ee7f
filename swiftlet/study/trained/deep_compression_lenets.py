"""The two LeNets that Deep Compression reports, how each is compressed here, and what the papers printed.

Han et al. 2016, arXiv:1510.00149, tables 1 to 3; Havasi et al. 2019 (MIRACLE), arXiv:1810.00440, table 1.
"""

from dataclasses import dataclass, replace

from swiftlet.study.finding import Table
from swiftlet.study.trained.prune_share import Stages
from swiftlet.train.recipe import Recipe

MOVED = Recipe(
    name="lenet", optimizer="adamw", lr=2e-3, square_decay=0.99, weight_decay=0.01, decayed="weights", batch=128,
    warmup=0.05, ema=0.0, label_smoothing=0.0, teacher_weight=0.7, min_area=0.65, aspect=0.9, rotation=8.0, jitter=0.0,
    flip=False,
)  # fmt: skip
SHARED = replace(MOVED, lr=1e-3)


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
            dense=MOVED,
            pruned=MOVED,
            shared=SHARED,
            epochs=(15, 18, 4),
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
            dense=MOVED,
            pruned=MOVED,
            shared=SHARED,
            epochs=(8, 18, 2),
            density=0.021,
            until=0.5,
            bits=4,
        ),
        paper_bytes=44_000,
        paper_error=0.74,
        layers={"conv1": "conv1", "conv2": "conv2", "fc1.0": "ip1", "classifier": "ip2"},
    ),
}

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
