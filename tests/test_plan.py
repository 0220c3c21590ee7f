"""Planning: what is feasible, the nearest feasible budget, and a plan as a file."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swiftlet.budget import Budget
from swiftlet.candidates import Candidate, candidates_for, sides_for
from swiftlet.errors import BadFile, Infeasible
from swiftlet.plan import Plan, make_plan
from swiftlet.recipes.glyphs import RECIPE as GLYPHS

SMALL = tuple(
    Candidate(network=network, width=width, side=16)
    for network, width in (("mobilenet_v1", 0.0625), ("mobilenet_v1", 0.125), ("mobilenet_v2", 0.1))
)


def small_plan(budget: Budget) -> Plan:
    return make_plan(SMALL, budget, num_classes=10, photos=200, recipe=GLYPHS, minutes=1)


@given(st.integers(1, 10_000))
def test_sides_suit_the_photos(median: int) -> None:
    sides = sides_for(median)
    assert 1 <= len(sides) <= 4 and list(sides) == sorted(set(sides))
    assert sides[-1] <= 224
    assert median > 48 or sides[-1] <= max(24, 2 * median)


def test_forty_candidates_for_photos() -> None:
    candidates = candidates_for(160)
    assert len(candidates) == len({c.name for c in candidates}) == 40


def test_a_plan_measures_every_file_and_trains_only_what_fits() -> None:
    plan = small_plan(Budget(latency_ms=50, size_bytes=100_000, runtime="onnxruntime"))
    tiny, wider, v2 = plan.planned
    assert "float32" in tiny.feasible
    assert tiny.costs["float32"].latency_ms is not None and tiny.costs["float32"].runtime == "onnxruntime"
    assert tiny.costs["int8"].size_bytes < tiny.costs["float32"].size_bytes < 100_000  # type: ignore[operator]
    assert "size_bytes" in wider.over["float32"] and not v2.feasible
    assert tiny.candidate.name in plan.shortlist and v2.candidate.name not in plan.shortlist
    assert all(set(rung) == {plan.sketch, *plan.shortlist} for rung in plan.rungs)
    assert "float32" in plan.find(plan.sketch).feasible and plan.sketch_steps >= 20
    assert plan.find(plan.shortlist[0]).train_ms is not None


def test_a_plan_survives_json_and_a_damaged_one_is_refused() -> None:
    plan = small_plan(Budget(runtime="null"))
    data = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(data) == plan
    for damaged in (
        {},
        [],
        data | {"rungs": 3},
        data | {"shortlist": ["nobody"]},
        data | {"planned": [{}]},
        data | {"rungs": [{}]},
    ):
        with pytest.raises(BadFile, match="plan"):
            Plan.from_json(damaged)


@pytest.mark.parametrize(
    "limits",
    [{"size_bytes": 1000}, {"macs": 1000}, {"latency_ms": 1e-4, "size_bytes": 50_000}, {"macs": 1000, "params": 10}],
)
def test_an_infeasible_budget_names_one_that_is_feasible(limits: dict[str, int]) -> None:
    budget = Budget(runtime="onnxruntime", **limits)
    with pytest.raises(Infeasible, match="nearest is mobilenet") as error:
        small_plan(budget)
    quoted = dict(re.findall(r"--max-(kb|ms|mmacs) ([\d.]+)", str(error.value)))
    assert len(quoted) == len(limits.keys() - {"params"})
    params = re.search(r"it fits.* params (\d+)", str(error.value))
    assert (params is not None) == ("params" in limits)
    better = replace(
        budget,
        params=int(params[1]) if params else None,
        size_bytes=round(float(quoted["kb"]) * 1000) if "kb" in quoted else None,
        macs=round(float(quoted["mmacs"]) * 1e6) if "mmacs" in quoted else None,
        latency_ms=3 * float(quoted["ms"]) if "ms" in quoted else None,  # the machine may have become busier since
    )
    assert small_plan(better).shortlist


def test_counts_alone_rule_out_without_exporting(monkeypatch: pytest.MonkeyPatch) -> None:
    exported: list[object] = []
    from swiftlet import plan as module

    whole = module.untrained_files
    monkeypatch.setattr(module, "untrained_files", lambda model, seen: exported.append(seen) or whole(model, seen))
    small_plan(Budget(macs=200_000, runtime="null"))
    assert len(exported) == 1  # only V1 at 1/16 has so few
