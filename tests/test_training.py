"""swiftlet train: one network, one recipe; what it delivers, and that it goes on where it was stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy import COLOURS, write_photos

from swiftlet.check import check
from swiftlet.errors import BadInput, RunBusy
from swiftlet.run import Run, read_run
from swiftlet.training import Trained, train
from swiftlet.zoo import create_model

SMALL = {
    "model": "mobilenet_v1",
    "arguments": {"width": 0.0625, "stem_stride": 1},
    "side": 16,
    "epochs": 40,
    "changes": {"batch": 16},
}
FLAGS = [
    "--model",
    "mobilenet_v1",
    "-a",
    "width=0.0625",
    "-a",
    "stem_stride=1",
    "--side",
    "16",
    "--epochs",
    "40",
    "--set",
    "batch=16",
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "colours")


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(photos, **SMALL, out=tmp_path_factory.mktemp("runs") / "run")


def test_both_files_hold_the_network_that_was_evaluated(done: Trained) -> None:
    run = Path(done.file).parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1] == {"step": done.steps, "validation_accuracy": pytest.approx(done.accuracy, abs=0.1)}
    assert done.accuracy > 0.7 and done.interval[0] < done.accuracy <= done.interval[1]
    assert (done.epochs, done.steps, done.processes, done.started_from) == (40, 200, 1, {})
    assert [e["step"] for e in lines if "validation_accuracy" in e] == list(range(5, 201, 5))  # after every epoch
    found = check(Path(done.file), seconds=0.1)
    assert found.parity_ok and found.labels == tuple(COLOURS) and found.cost.size_bytes == done.size_bytes
    model = create_model("mobilenet_v1", pretrained=done.weights)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, len(COLOURS))


def test_the_same_call_again_only_shows_the_result(done: Trained, photos: Path) -> None:
    run = Path(done.file).parent
    before = Path(done.file).stat().st_mtime_ns
    assert train(photos, **SMALL, out=run) == done and Path(done.file).stat().st_mtime_ns == before
    assert read_run(run)[0] is not None
    with pytest.raises(BadInput, match=r"holds a run with recipe"):
        train(photos, **SMALL | {"epochs": 41}, out=run)
    with pytest.raises(BadInput, match=r"holds a run with arguments"):
        train(photos, **SMALL | {"arguments": {"width": 0.125}}, out=run)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_and_ends_in_the_same_bytes(number, code, done, photos, tmp_path):
    command = [sys.executable, "-m", "swiftlet", "train", str(photos), *FLAGS, "--out", str(tmp_path / "run"), "--json"]
    place = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=place)
    end = time.monotonic() + 100
    while not (tmp_path / "run" / "metrics.jsonl").exists() or not (tmp_path / "run" / "metrics.jsonl").read_text():
        assert time.monotonic() < end and first.poll() is None, first.communicate()
        time.sleep(0.01)
    first.send_signal(number)
    told, _ = first.communicate(timeout=60)
    assert first.returncode == code and not (tmp_path / "run" / "model.onnx").exists(), told
    again = subprocess.run(command, capture_output=True, text=True, env=place, timeout=100, check=True)
    result = json.loads(again.stdout)
    assert result["accuracy"] == done.accuracy and result["steps"] == done.steps
    for name in ("model.onnx", "model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (Path(done.file).parent / name).read_bytes(), name


def test_minutes_decide_the_steps_once(photos, tmp_path):
    short = {key: value for key, value in SMALL.items() if key != "epochs"} | {"minutes": 0.01}
    result = train(photos, **short, out=tmp_path / "run")
    assert result.steps == json.loads((tmp_path / "run" / "stages" / "way.json").read_text())["steps"] >= 1
    assert train(photos, **short, out=tmp_path / "run") == result


def test_weights_of_one_run_start_another(done, photos, tmp_path):
    result = train(photos, model=done.weights, epochs=1, out=tmp_path / "run")
    assert result.started_from["source"] == done.weights and result.recipe == "photos_finetuning"
    assert result.accuracy > 0.6


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ({"epochs": 1, "minutes": 1.0}, "not both"),
        ({"epochs": 0}, "epochs=0 must be above 0"),
        ({"epochs": None}, "does not say how long"),
        ({"recipe": "nothing"}, "unknown recipe 'nothing'"),
        ({"model": "nothing"}, "no network called 'nothing'"),
        ({"changes": {"depth": 3}}, "a recipe has no 'depth'"),
        ({"changes": {"lr": "high"}}, "lr='high' cannot be"),
        ({"changes": {"lr": -1.0}}, "lr=-1.0, needs more than 0"),
        ({"accumulate": 0}, "accumulate=0 must be"),
        ({"accumulate": 7}, "does not divide by 1 processes x 7 parts"),
        ({"compress": "bf16"}, "torchrun"),
    ],
)
def test_calls_that_cannot_be(asked, fault, photos, tmp_path):
    with pytest.raises(BadInput, match=fault):
        train(photos, **SMALL | {"recipe": "photos"} | asked, out=tmp_path / "run")


def test_a_run_has_one_owner(photos, tmp_path):
    with Run(tmp_path / "run"), pytest.raises(RunBusy):
        train(photos, **SMALL, out=tmp_path / "run")
