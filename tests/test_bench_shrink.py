"""The benchmark of shrinking: its judgement and its table on planted figures, and what the comparison rests on."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import shrink, shrink_rivals
from benchmarks.shrink_pruned import chosen
from benchmarks.shrink_table import OURS as NAMES
from benchmarks.shrink_table import goal, judged, table
from swiftlet.errors import MissingExtra
from swiftlet.runtime.race import random_batch

OURS, OURS_TOO = NAMES


def row(method: str, accuracy: float, times: float, size: int, *, least_below: float = 0.0) -> dict[str, Any]:
    return {
        "method": method,
        "runtime": "onnxruntime",
        "accuracy": accuracy,
        "interval": [accuracy - 1, accuracy + 1],
        "points_below_ours": [90.0 - accuracy, least_below, 91.0 - accuracy],
        "ms": times,
        "times_as_long": [times, times - 0.1, times + 0.1],
        "bytes": size,
        "minutes": 1.0,
    }


ROWS = [
    row(OURS, 90.0, 1.0, 1000),
    row(OURS_TOO, 90.0, 1.1, 500),  # the slower of ours is no rival
    row("as good", 89.8, 1.5, 1200),
    row("better", 90.3, 2.0, 1100),
    row("worse", 89.79, 0.5, 500, least_below=0.3),
    row("perhaps worse", 89.7, 0.5, 2000, least_below=-0.5),
    row("perhaps worse, but larger and slower", 89.7, 1.5, 2000, least_below=-0.5),
    {"method": "broken", "runtime": "onnxruntime", "failed": "ValueError: no"},
]


def test_only_what_is_as_accurate_is_compared() -> None:
    assert judged(ROWS) == {
        "as_accurate": ["as good", "better"],
        "more_accurate": ["better"],
        "not_surely_worse": ["perhaps worse"],
        "smallest_other": "better",
        "times_smaller": 1.1,
        "fastest_other": "as good",
        "times_faster": [1.5, 1.4, 1.6],
    }


def test_if_none_is_as_accurate_the_most_accurate_is_compared() -> None:
    found = judged([row(OURS, 91.0, 1.0, 1000), *ROWS[2:]])
    assert (found["as_accurate"], found["more_accurate"], found["fastest_other"]) == ([], [], "better")
    network = {"name": "net", "n": 1, "rows": ROWS, "judged": found}
    entry = {"figures": {"networks": [network], "goal": goal([found])}, "machine": "m", "command": "c", "date": "d"}
    assert "No other is as accurate; compared is the most accurate of them. The fastest of those, better," in table(
        entry
    )


def test_a_faster_or_smaller_equal_is_a_defeat() -> None:
    found = judged([*ROWS, row("tiny", 89.8, 0.8, 900)])
    assert found["times_smaller"] == 0.9 and found["times_faster"][0] == 0.8


@pytest.mark.parametrize(
    ("times", "sizes", "reached"),
    [
        ((1.3, 1.5, 1.0), (1.0, 2.0, 1.1), True),
        ((1.3, 1.29, 1.2), (2.0, 2.0, 2.0), False),  # 1.3 times as fast on one only
        ((1.5, 1.5, 0.99), (2.0, 2.0, 2.0), False),  # slower on one
        ((1.5, 1.5, 1.5), (2.0, 2.0, 0.99), False),  # larger on one
    ],
)
def test_the_goal(times: tuple[float, ...], sizes: tuple[float, ...], reached: bool) -> None:
    verdicts = [{"times_faster": [t, t, t], "times_smaller": size} for t, size in zip(times, sizes, strict=True)]
    assert goal(verdicts)["reached"] is reached


def test_the_table_shows_every_row_and_what_follows() -> None:
    verdict = judged(ROWS)
    network = {"name": "net", "n": 1234, "rows": ROWS, "judged": verdict}
    figures = {"networks": [network], "goal": goal([verdict])}
    made = table({"figures": figures, "machine": "CPU; x", "command": "c", "date": "d"})
    assert "**net**, 1,234 test pictures" in made and "| broken | onnxruntime | failed: ValueError: no |" in made
    assert "| as good | onnxruntime | 89.80 % (88.80 to 90.80) | +0.20 (+0.00 to +1.20) | 1.500 | 1.2 | 1.0 |" in made
    said = "As accurate: as good, better. The fastest of those, as good, takes 1.50 x our time (1.40 to 1.60); the "
    assert f"{said}smallest, better, 1.10 x our bytes." in made
    assert "More than 0.2 points above ours: better." in made and "missed (smallest on 1, fastest on 1, " in made
    assert "luck may be: perhaps worse." in made


def test_points_are_lost_picture_by_picture() -> None:
    ours = np.array([True] * 90 + [False] * 10)
    theirs = np.roll(ours, 1)  # one picture gained, one lost
    mean, low, high = shrink.below(ours, theirs)
    assert mean == 0 and -low == high == pytest.approx(196 * (0.02 / 100) ** 0.5, abs=0.01)
    assert shrink.below(ours, ~ours)[0] == 80


def test_the_last_step_that_holds_is_taken() -> None:
    steps = [(0.92, "1"), (0.90, "2"), (0.91, "3"), (0.5, "4")]
    assert chosen(steps, 0.905) == "3" and chosen(steps, 0.95) == "1"


def test_a_file_is_as_large_as_all_its_parts(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(b"123")
    (tmp_path / "a.bin").write_bytes(b"45")
    (tmp_path / "b.onnx").write_bytes(b"6")
    assert (shrink.size(tmp_path / "a.xml"), shrink.size(tmp_path / "b.onnx")) == (5, 1)


def test_notes_of_an_exporter_are_taken_out_and_nothing_else(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"], doc_string="line 7", metadata_props={"where": "file"})
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", shape[:1], shape[1:]))
    shrink_rivals.save_bare(model, tmp_path / "bare.onnx")
    bare = onnx.load(str(tmp_path / "bare.onnx")).graph
    assert not bare.node[0].doc_string and not bare.node[0].metadata_props
    assert (bare.node[0].op_type, list(bare.node[0].input), bare.output[0].name) == ("Relu", ["x"], "y")


def test_a_tool_that_is_not_there_is_named_with_its_extra() -> None:
    with pytest.raises(MissingExtra, match=r"no_such_tool: pip install 'swiftlet\[bench,rivals\]'"):
        shrink_rivals.required("no_such_tool")


def test_another_runtime_is_called_one_picture_at_a_time(tmp_path: Path) -> None:
    program = shrink.Called(tmp_path / "a.xml", 4, lambda batch: batch.sum((2, 3)))
    batch = random_batch(program, 1)
    assert batch.shape == (1, 3, 4, 4) and program.run(batch)[0].shape == (1, 3)
