"""The benchmark of accuracies: its tables count to what they say, and its protocol, on a set that trains in seconds."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import accuracy
from benchmarks.accuracy import Job, finish, main
from benchmarks.accuracy_tasks import RESNET8, TASKS, Row, Task
from benchmarks.resnet8 import PRINTED_PARAMS, UNCOUNTED, resnet8
from swiftlet.budget import Budget, Cost
from swiftlet.compress import qat
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.count import count_model
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadInput
from swiftlet.export.artifact import read_artifact
from swiftlet.export.onnx import export_onnx, graph_digest
from swiftlet.export.untrained import untrained_files
from swiftlet.pack.onnx import pack_onnx, unpack_onnx
from swiftlet.progress import Progress
from swiftlet.quantizing import Calibration
from swiftlet.recipes import get_recipe
from swiftlet.signals import Terminated

ROWS = [(task, row) for task in TASKS.values() for row in task.rows]
METADATA_BYTES = 2_500  # a fifth in a container


@pytest.mark.parametrize(("task", "row"), ROWS, ids=[f"{task.name}-{row.name}" for task, row in ROWS])
def test_rows_count_to_what_they_say_and_fit(task: Task, row: Row) -> None:
    counted = count_model(row.build(), (3, task.side, task.side)).cost
    assert (counted.params, counted.macs) == row.counted[:2]
    size = {"packed_bytes" if row.bits else "size_bytes": row.counted[2] + METADATA_BYTES // (5 if row.bits else 1)}
    cost = Cost(params=counted.params, macs=counted.macs, **size)
    assert not row.budget.over(cost)
    assert row.anchor or row.budget != Budget()
    assert row.teacher is None or task.find(row.teacher)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "row"), ROWS, ids=[f"{task.name}-{row.name}" for task, row in ROWS])
def test_files_have_the_bytes_that_the_rows_say(task: Task, row: Row) -> None:
    contract = InputContract(side=task.side)
    if row.bits is None:
        assert len(untrained_files(row.build(), contract)["int8"]) == pytest.approx(row.counted[2], rel=0.01)
        return
    on = Calibration(np.random.default_rng(0).integers(0, 256, (8, task.side, task.side, 3), np.uint8), contract)
    network, _ = qat.prepare_qat(deployed(row.build().eval())[0], on.images, bits=row.bits, **on.grid)
    packed = pack_onnx(export_onnx(qat.finished(network)[0], contract))
    assert len(packed) == pytest.approx(row.counted[2], rel=0.03)  # of random weights


def test_names_are_unique() -> None:
    for task in TASKS.values():
        assert len({row.name for row in task.rows}) == len(task.rows)
    with pytest.raises(SystemExit, match=r"no row 'resnet9'; there are resnet8, "):
        TASKS["cifar10"].find("resnet9")


def test_resnet8_is_that_of_mlperf_tiny() -> None:
    cost = count_model(resnet8(), (3, 32, 32)).cost
    assert cost.params is not None and cost.params + UNCOUNTED == PRINTED_PARAMS == 78_666
    assert (cost.params, cost.macs) == (RESNET8.params, RESNET8.macs) == (77_946, 12_501_632)


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Two classes that differ in brightness, a network, and one that it teaches."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 240), ("test", 60)):
        y = rng.integers(0, 2, n)
        arrays |= {f"x_{split}": (rng.integers(0, 90, (n, 16, 16)) + 120 * y[:, None, None]).astype(np.uint8)}
        arrays |= {f"y_{split}": y}
    np.savez(tmp_path / "light.npz", **arrays)
    monkeypatch.setenv("SWIFTLET_DATA", str(tmp_path))
    monkeypatch.setattr(accuracy, "GATE", 20)
    monkeypatch.setattr("swiftlet.gate.RACE_SECONDS", 0.05)
    row = Row(
        budget=Budget(size_bytes=1_000),
        network="mobilenet_v1",
        arguments={"width": 0.0625, "stem_stride": 1},
        recipe=replace(get_recipe("glyphs"), batch=16, lr=0.1),
        epochs=6,
        counted=(0, 0, 0),
    )
    taught = replace(row, teacher=row.name)
    made = Task(name="light", data="light.npz", side=16, rows=(row, taught))
    monkeypatch.setitem(TASKS, "light", made)
    return made


def test_a_trial_leaves_the_test_split_sealed_and_a_final_run_opens_it_once(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    trial = finish(Job(task=task, row=task.rows[1], seed=0, trial=True, out=out))
    assert trial["split"] == "validation" and trial["n"] == 42  # 15/85 of 240
    assert len(list(out.rglob("int8.onnx"))) == 2  # the teacher was trained too
    assert not list(out.rglob("test-opened.json"))

    monkeypatch.setattr(accuracy, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.ledger.RESULTS", tmp_path)
    (tmp_path / "accuracy.json").write_text(json.dumps({"figures": {"mnist": {"a": 1}}}))
    for seed in ("1", "0"):  # on two days, say
        main(["light", "--out", str(out), "--seeds", seed, "--record", "--rows", task.rows[0].name])
    figures = json.loads((tmp_path / "accuracy.json").read_text())["figures"]
    assert figures["mnist"] == {"a": 1}
    (name, row), *others = figures["light"].items()
    assert name == "mobilenet_v1-0.0625" and not others
    assert [r["seed"] for r in row["runs"]] == [0, 1] and {r["split"] for r in row["runs"]} == {"test"}
    values = [r["accuracy_percent"]["int8"] for r in row["runs"]]
    assert row["mean_accuracy_percent"]["int8"] == pytest.approx(sum(values) / 2, abs=0.01) and max(values) > 80
    for run in row["runs"]:
        assert run["interval_percent"][0] < run["accuracy_percent"]["int8"] <= run["interval_percent"][1]
        assert run["n"] == 60 and set(run["over"]) == {"size_bytes"}
        folder = out / "light" / f"mobilenet_v1-0.0625-6ep-final-{run['seed']}"
        file = folder / "int8.onnx"
        assert file.stat().st_size == run["bytes"]
        opened = json.loads((folder / "test-opened.json").read_text())
        assert opened["file"] == graph_digest(file.read_bytes()) and read_artifact(onnx.load(file)) is not None
    capsys.readouterr()
    main(["light", "--out", str(out), "--seeds", "1", "--rows", task.rows[0].name])  # finished: shown, not made again
    assert json.loads(capsys.readouterr().out)["light mobilenet_v1-0.0625"]["runs"] == row["runs"][1:]


def test_a_row_with_bits_goes_on_from_its_teacher_and_is_measured_in_its_container(task: Task, tmp_path: Path) -> None:
    first = task.rows[0]
    gentle = replace(first.recipe, lr=0.01, clip=1.0)
    few = replace(
        first, recipe=gentle, epochs=2, teacher=first.name, bits=4, budget=Budget(packed_bytes=1_000), counted=(0, 0, 0)
    )
    whole = replace(task, rows=(first, few))
    job = Job(task=whole, row=few, seed=0, trial=True, out=tmp_path / "runs")
    result = finish(job)
    assert job.name == "mobilenet_v1-0.0625-4bit-2ep-trial-0"
    packed, file = ((job.folder / name).read_bytes() for name in ("int8.swl", "int8.onnx"))
    assert unpack_onnx(packed) == file and (result["bytes"], result["packed_bytes"]) == (len(file), len(packed))
    assert set(result["over"]) == {"packed_bytes"} and set(result["p50_ms"]) == {"float32", "int8"}
    taught = Job(task=whole, row=first, seed=0, trial=True, out=tmp_path / "runs")
    assert (job.folder / "float32.onnx").read_bytes() == (taught.folder / "float32.onnx").read_bytes()
    assert len(packed) < 0.8 * len((taught.folder / "int8.swl").read_bytes())
    assert result["accuracy_percent"]["int8"] > 80 and result["accuracy_percent"]["float32"] > 80
    artifact = read_artifact(onnx.load_from_string(file))
    assert (
        artifact is not None and artifact.records[-2].arguments["bits"] == 4 and artifact.records[-1].name == "finished"
    )


@pytest.mark.slow
def test_workers_make_what_one_process_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: Task) -> None:
    monkeypatch.undo()  # a worker knows the module as it stands
    monkeypatch.setenv("SWIFTLET_DATA", str(tmp_path))
    row = replace(task.rows[1], epochs=0.5)
    taught = [Job(task=task, row=row, seed=seed, trial=True, out=tmp_path / "together") for seed in (0, 1)]
    accuracy.finish_together(taught, 2)
    alone = replace(taught[0], out=tmp_path / "alone")
    finish(alone)
    for job in (taught[0], taught[0].teacher):
        assert job is not None
        made, expected = (f / "trained.safetensors" for f in (job.folder, replace(job, out=alone.out).folder))
        assert made.read_bytes() == expected.read_bytes()


def test_another_recipe_is_another_run(task: Task, tmp_path: Path) -> None:
    row = replace(task.rows[0], epochs=0.1)
    job = Job(task=task, row=row, seed=0, trial=True, out=tmp_path / "runs")
    finish(job)
    with pytest.raises(BadInput, match="choose another --out"):
        finish(replace(job, row=replace(row, recipe=get_recipe("glyphs"))))
    with pytest.raises(SystemExit):
        main(["light", "--try", "--record"])


def test_a_terminated_run_goes_on_to_the_same_weights(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Job(task=task, row=replace(task.rows[0], epochs=0.5), seed=0, trial=True, out=tmp_path / "whole")
    cut = replace(whole, out=tmp_path / "cut")
    seen: list[int] = []

    @contextmanager
    def bars() -> Iterator[Progress]:
        def report(what: str, step: int, steps: int) -> None:
            if what.startswith("training"):
                seen.append(step)
                if step == 2:
                    os.kill(os.getpid(), signal.SIGTERM)

        yield report

    with monkeypatch.context() as patched:
        patched.setattr(accuracy, "bars", bars)
        with pytest.raises(Terminated):
            finish(cut)
    assert seen == [1, 2] and not (cut.folder / "trained.safetensors").exists()
    result = finish(cut)
    assert result["accuracy_percent"] == finish(whole)["accuracy_percent"]
    assert (cut.folder / "trained.safetensors").read_bytes() == (whole.folder / "trained.safetensors").read_bytes()
