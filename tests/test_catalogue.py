"""The zoo as a table: every variant, sorted, filtered, timed if asked."""

import pytest

from swiftlet.budget import Budget
from swiftlet.catalogue import build_row, catalogue, described
from swiftlet.cost.count import count
from swiftlet.errors import BadInput
from swiftlet.zoo import card, list_models


def test_every_variant_is_there_with_its_printed_accuracy() -> None:
    rows = catalogue("mobilenet_v1")
    assert [(row.arguments, row.side, row.top1) for row in rows] == [
        (variant.arguments, variant.side or 224, variant.top1) for variant in card("mobilenet_v1").variants
    ]
    assert all(row.int8_safe and row.cost.latency_ms is None for row in rows)
    assert {row.network for row in catalogue("*")} == set(list_models())
    for row in (rows[0], *catalogue("lenet5")):  # counted from shapes, the same as from the network
        assert count(build_row(row), (3, row.side, row.side)).macs is not None
    assert rows[0].cost == count(build_row(rows[0]))


def test_sorted_by_any_cost_or_by_accuracy() -> None:
    for field in ("params", "macs", "memory_access_bytes", "peak_activation_bytes"):
        costs = [getattr(row.cost, field) for row in catalogue("mobilenet_v[12]", sort=field)]
        assert costs == sorted(costs)
    accuracies = [row.top1 or 0.0 for row in catalogue("mobilenet*", sort="top1")]
    assert accuracies == sorted(accuracies, reverse=True)
    with pytest.raises(BadInput, match="sort='mac' must be one of top1, params, macs"):
        catalogue(sort="mac")


def test_a_budget_filters_and_a_latency_is_measured() -> None:
    light = catalogue("mobilenet_v1", Budget(macs=100_000_000, params=1_000_000))
    assert [row.arguments for row in light] == [{"width": 0.25}]
    (timed,) = catalogue("lenet5", Budget(latency_ms=1000, runtime="onnxruntime"))
    assert 0 < (timed.cost.latency_ms or 0) < 1000 and timed.cost.runtime == "onnxruntime"
    assert catalogue("lenet5", Budget(latency_ms=1e-6, runtime="onnxruntime")) == []


def test_at_another_side_printed_accuracies_do_not_hold_and_some_networks_cannot_run() -> None:
    rows = catalogue("*net*5*", side=64)
    assert {row.side for row in rows} == {64} and not any(row.top1 for row in rows)
    assert "resnet50" in {row.network for row in rows} and "lenet5" not in {row.network for row in rows}


def test_hswish_and_gates_are_not_int8_safe_and_their_twins_are() -> None:
    safe = {(row.network, described(row.arguments)): row.int8_safe for row in catalogue("*")}
    twins = [key for key in safe if key[1] == "int8_safe=true"]
    assert {name for name, _ in twins} >= {
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "mnasnet_a1",
        "ghostnet",
        "lcnet",
    }
    for name, arguments in twins:
        assert safe[name, arguments] and not safe[name, ""]


def test_arguments_as_the_command_line_takes_them() -> None:
    assert described({"width": 0.5, "se": True, "split": "torchvision", "groups": 8}) == (
        "width=0.5 se=true split=torchvision groups=8"
    )
