"""Cost and Budget: what is not measured never passes, and a latency belongs to a place."""

from typing import Any

import pytest

from swiftlet.budget import ALL_LIMITS, Budget, Cost
from swiftlet.errors import BadInput

PLACE: dict[str, Any] = {"runtime": "onnxruntime", "threads": 1, "batch": 1}


@pytest.mark.parametrize("name", ALL_LIMITS)
def test_each_limit_is_kept_broken_or_not_measured(name: str) -> None:
    def cost(value: int) -> Cost:
        return Cost(**{name: value}, **(PLACE if name == "latency_ms" else {}))

    budget = Budget(**{name: 10}, runtime="onnxruntime")
    assert budget.over(cost(10)) == {}
    assert budget.over(cost(1_011)) == {name: "1,011 > 10"}
    assert budget.over(Cost()) == {name: "not measured"}
    assert Budget().over(cost(1_011)) == {}


def test_a_latency_of_another_place_is_over() -> None:
    budget = Budget(latency_ms=3.0, runtime="onnxruntime")
    there = Cost(latency_ms=1.0, **(PLACE | {"threads": 2}))
    assert budget.over(there) == {
        "latency_ms": "measured on onnxruntime, 2 threads, batch 1, the limit is for onnxruntime, 1 thread, batch 1"
    }


def test_the_repr_can_be_read_and_pasted_back() -> None:
    budget = Budget(packed_bytes=8_000, max_drop=0.3)
    assert repr(budget) == "Budget(packed_bytes=8000, max_drop=0.3)" and eval(repr(budget)) == budget
    assert repr(Cost()) == "Cost()"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"packed_bytes": 0}, "packed_bytes=0 must be above 0"),
        ({"latency_ms": 3.0}, "latency_ms needs runtime"),
        ({"threads": 0}, "must be 1 or more"),
        ({"max_drop": 101}, "0 to 100"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        Budget(**given)


def test_half_a_cost_is_refused() -> None:
    with pytest.raises(BadInput, match="latency_ms needs runtime, threads and batch"):
        Cost(latency_ms=1.0, runtime="onnxruntime")
    with pytest.raises(BadInput, match="packed_bytes=-1 must be 0 or more"):
        Cost(packed_bytes=-1)
