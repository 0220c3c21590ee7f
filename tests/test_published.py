"""Every published count of parameters and multiply-adds, recomputed.

docs/published.csv has one row per printed figure: what the source printed, which of our networks it is, and, where the
count does not come out as printed or the network is not in the zoo, why not. The rule says what the source counts
otherwise than we do.
"""

import csv
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from swiftlet.cost.count import count_model
from swiftlet.zoo import card, create_model, list_models

PER_CHANNEL = {"without BatchNorm": 0, "shift and running statistics": 3}  # what a source counts of BatchNorm
ROWS = list(csv.DictReader((Path(__file__).parent.parent / "docs/published.csv").read_text().splitlines()))
OURS = [row for row in ROWS if row["network"]]


@cache
def counted(network: str, arguments: str, side: int, rule: str) -> tuple[int, int]:
    """(parameters, multiply-adds) by the source's rule."""
    given = json.loads(arguments)
    if "1001 classes" in rule:
        given["num_classes"] = 1001  # TensorFlow's background class
    with torch.device("meta"):
        model = create_model(network, **given)
    cost = count_model(model, (card(network).input[0], side, side)).cost
    norms = sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    per_channel = next((n for text, n in PER_CHANNEL.items() if text in rule), 2)
    return cost.params + (per_channel - 2) * norms, cost.macs


def agrees(count: int, printed: str) -> bool:
    """To the printed precision, rounded or cut off: 4100 M is how 4.1 G are written here. An empty cell agrees."""
    if not printed:
        return True
    whole, _, decimals = printed.partition(".")
    unit = 100.0 if len(whole) > 3 and whole.endswith("00") else 10.0 ** -len(decimals)
    off = count / 1e6 - float(printed)
    return -0.5 * unit - 1e-9 <= off < unit


def reproduced(row: dict[str, str]) -> bool:
    side = int(row["side"] or card(row["network"]).input[1])
    params, macs = counted(row["network"], row["arguments"], side, row["rule"])
    return agrees(params, row["params_millions"]) and agrees(macs, row["macs_millions"])


def name(row: dict[str, str]) -> str:
    return f"{row['model']} {row['variant']} {row['side']} in {row['source']}"


def test_every_figure_is_reproduced_or_explained() -> None:
    unexplained = [name(row) for row in ROWS if not row["network"] and not row["exception"]]
    wrong = [
        f"{name(row)}: {row['params_millions']} M, {row['macs_millions']} M printed, counted {counts}"
        for row in OURS
        if not row["exception"] and not reproduced(row)
        for counts in [counted(row["network"], row["arguments"], int(row["side"] or 224), row["rule"])]
    ]
    assert not unexplained + wrong


def test_no_exception_is_stale() -> None:
    assert [name(row) for row in OURS if row["exception"] and reproduced(row)] == []


def test_two_variants_at_least_of_each_network_with_a_multiplier() -> None:
    found = {network: {row["arguments"] for row in OURS if row["network"] == network} for network in list_models()}
    for network in ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "mnasnet_a1"):
        assert len(found[network]) >= 2, network
    for network in ("shufflenet_v1", "shufflenet_v2", "ghostnet", "ghost_vgg16"):
        assert len(found[network]) >= 2, network


@pytest.mark.parametrize(
    ("count", "printed", "right"),
    [
        (568_740_352, "569", True),
        (568_740_352, "568", True),
        (568_740_352, "570", False),
        (5_483_032, "5.4", True),
        (5_483_032, "5.5", True),
        (5_483_032, "5.3", False),
        (4_089_184_000, "4100", True),
        (3_857_973_000, "4100", False),
        (1, "", True),
    ],
)
def test_rounded_or_cut_off(count: int, printed: str, right: bool) -> None:
    assert agrees(count, printed) is right
