"""fit, where int8 loses too much by calibration alone: rounded better, trained, stopped on the way, and out of time."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import fx
from toy import fixed_plan, write_photos

from swiftlet import gate, quantizing
from swiftlet.budget import Budget
from swiftlet.compress.quantize import quantize
from swiftlet.compress.record import Record
from swiftlet.compress.reparameterize import deployed
from swiftlet.cost.screen import read_onnx
from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_photos
from swiftlet.errors import NothingToDo
from swiftlet.export.artifact import Artifact, read_artifact
from swiftlet.fitting import Result, fit, rescue
from swiftlet.fitting.offers import best_offer
from swiftlet.quantizing import Calibration, calibrated_best, trained
from swiftlet.run import Run
from swiftlet.signals import Terminated
from swiftlet.zoo import create_model

BUDGET = Budget(latency_ms=1000, size_bytes=100_000, runtime="onnxruntime", max_drop=20)
STEPS = (4, 150)  # so that what the last round delivers is the best by far
TRAINING = "int8 still loses too much"


def wrecked(model: fx.GraphModule, *args: Any, steps: int = 0, **options: Any) -> tuple[fx.GraphModule, Record]:
    """Calibration that ends in a network which gives all classes the same score."""
    integer, record = quantize(model, *args, **options)
    last = [layer for layer in integer.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
    return integer, record


def wreck(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(gate, "quantize", wrecked)
    patch.setattr(quantizing, "quantize_best", wrecked)
    patch.setattr(gate, "compare", lambda *_: (1.0, 1.0, 1.0))  # so small a network may be slower in int8


@pytest.fixture(autouse=True)
def calibration_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    wreck(monkeypatch)


def test_of_equal_files_the_one_that_costs_less_is_delivered(tmp_path: Path) -> None:
    def offered(accuracy: float, size: int, macs: int) -> dict[str, Any]:
        cost = {"size_bytes": size, "macs": macs}
        return {"chosen": "int8", "accuracy": accuracy, "options": {"int8": {"cost": cost}}}

    with Run(tmp_path) as run:
        for name, facts in {"worse": (0.9, 1, 1), "larger pictures": (1.0, 100, 9), "it": (1.0, 101, 4)}.items():
            run.once(f"{name}.offer", lambda facts=facts: offered(*facts))
        best = best_offer(SimpleNamespace(run=run))  # type: ignore[arg-type]
        assert best is not None and best[0] == "it"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "colours")


@pytest.fixture(scope="module")
def straight(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """Trained, after rounding has failed, in one go."""
    with pytest.MonkeyPatch.context() as patch:
        wreck(patch)
        yield fit(
            photos, BUDGET, minutes=15, out=tmp_path_factory.mktemp("runs") / "straight", plan=fixed_plan(steps=STEPS)
        )


def records(result: Result) -> list[str]:
    artifact = read_artifact(read_onnx(Path(result.file)))
    assert artifact is not None
    return [record.name for record in artifact.records]


def test_int8_is_trained_if_rounding_does_not_save_it(straight: Result) -> None:
    assert straight.precision == "int8" and records(straight)[-2:] == ["prepare_qat", "finished"]
    assert straight.accuracy > 0.7 and straight.accuracy_float - straight.accuracy <= 0.2
    stages = Path(straight.file).parent / "stages"
    ways = {path.name: json.loads(path.read_text()) for path in stages.glob("*.ways.json")}
    (name,) = ways  # the last round only: the float32 file is legal in each
    assert "round2" in name and ways[name] == {"rounding": True, "steps": rescue.LEAST}
    assert sum(row["delivered"] for row in straight.tried) == 1


def test_a_stopped_training_of_int8_goes_on_to_the_same_file(straight: Result, photos: Path, tmp_path: Path) -> None:
    """SIGTERM saves and delivers nothing; Ctrl-C delivers what there is without it, and the same command goes on."""
    out, waiting = tmp_path / "run", [signal.SIGTERM, signal.SIGINT]

    def stop(what: str, step: int, _: int) -> None:
        if waiting and what.startswith(TRAINING) and step > 1:
            os.kill(os.getpid(), waiting.pop(0))

    def again() -> Result:
        return fit(photos, BUDGET, minutes=15, out=out, plan=fixed_plan(steps=STEPS), progress=stop)

    with pytest.raises(Terminated):
        again()
    assert list((out / "train").glob("*.qat.part/step-*")) and not list((out / "stages").glob("*.rescued*"))
    interim = again()
    assert interim.interrupted and interim.precision == "float32" and not list((out / "stages").glob("*.rescued*"))
    result = again()
    assert not waiting and not result.interrupted
    assert Path(result.file).read_bytes() == Path(straight.file).read_bytes()
    assert not list(out.rglob("*.part"))


def test_a_file_that_is_needed_is_saved_in_the_first_round(
    photos: Path, straight: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The float32 file is over the budget, and better rounding is enough."""

    def rounded(*args: Any, steps: int, **options: Any) -> tuple[fx.GraphModule, Record]:
        integer, record = quantize(*args, **options)
        return integer, replace(record, name="quantize_best")

    monkeypatch.setattr(quantizing, "quantize_best", rounded)
    sizes = [row["size_bytes"] for row in straight.tried if row["name"] == straight.network]
    limit = replace(BUDGET, size_bytes=sum(sizes) // 2)
    result = fit(photos, limit, minutes=15, out=tmp_path / "run", plan=fixed_plan(steps=(60, 80)))
    assert result.precision == "int8" and records(result)[-1] == "quantize_best"
    stages, train = tmp_path / "run" / "stages", tmp_path / "run" / "train"
    assert len(list(stages.glob("*.round1.rescued.offer.json"))) == 2 and not list(train.glob("*.qat*"))


def test_without_the_time_the_float32_file_is_delivered(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "ROUNDING_SECONDS", 1e6)
    result = fit(photos, BUDGET, minutes=15, out=tmp_path / "run", plan=fixed_plan(steps=STEPS))
    assert result.precision == "float32"
    (ways,) = (tmp_path / "run" / "stages").glob("*.ways.json")
    assert json.loads(ways.read_text()) == {"rounding": False, "steps": 0}


@pytest.mark.parametrize(
    ("left", "file", "before", "rounding", "steps"),
    [
        (-5.0, False, None, True, 150),  # nothing to deliver: whatever it takes
        (44.0, True, None, False, 0),
        (46.0, True, None, True, 0),  # six steps would teach nothing
        (53.0, True, None, True, 50),
        (1000.0, True, None, True, 150),
        (20.0, True, 10.0, True, 62),  # it took less here before
        (9.0, True, 10.0, False, 0),
    ],
)
def test_what_there_is_time_for(
    monkeypatch: pytest.MonkeyPatch, left: float, file: bool, before: float | None, rounding: bool, steps: int
) -> None:
    """After 1,000 steps; one with rounding takes 0.16 s, and all ways to round 45 s as long as none was timed."""
    monkeypatch.setattr(rescue, "best_offer", lambda place: ("", {}) if file else None)
    monkeypatch.setattr(rescue, "_rescued", lambda place, name: None if before is None else {"seconds": before})
    place: Any = SimpleNamespace(
        run=SimpleNamespace(stored=lambda stage: {"steps": 1000}),
        plan=SimpleNamespace(find=lambda name: SimpleNamespace(picture_ms=2.0)),
        recipe=SimpleNamespace(batch=32),
        seconds_left=left,
    )
    assert rescue._ways(place, "a.round2", "a") == {"rounding": rounding, "steps": steps}


def test_time_is_kept_back_for_a_file_that_had_to_be_rescued(monkeypatch: pytest.MonkeyPatch) -> None:
    place: Any = SimpleNamespace(
        run=SimpleNamespace(stored=lambda stage: {"a.round1.offer": {"seconds": 5.0}}[stage]),
        plan=SimpleNamespace(find=lambda name: SimpleNamespace(picture_ms=2.0)),
        recipe=SimpleNamespace(batch=32),
    )
    found: list[dict[str, Any] | None] = [None]
    monkeypatch.setattr(rescue, "_rescued", lambda place, name: found[0])
    assert rescue.seconds_for_rescue(place, "a", 1000) == 0
    found[0] = {"seconds": 15.0, "trained": "a.round1", "training": False}
    assert rescue.seconds_for_rescue(place, "a", 1000) == pytest.approx(1.1 * 20)
    found[0] |= {"training": True}
    assert rescue.seconds_for_rescue(place, "a", 1000) == pytest.approx(1.1 * (20 + 150 * 0.16))


def test_a_training_that_diverges_is_passed_over(photos: Path) -> None:
    data, contract = load_photos(photos), InputContract(side=16)
    torch.manual_seed(0)
    network = create_model("mobilenet_v1", width=0.0625, stem_stride=1, num_classes=4).eval()
    on = Calibration(data.train.pixels(contract), contract)
    tried: list[str] = []

    def diverged(plain: fx.GraphModule) -> quantizing.Integer:
        def teach(network: fx.GraphModule) -> None:
            tried.append("diverged")
            for parameter in network.parameters():
                parameter.data.fill_(np.nan)

        return trained(plain, on, teach)

    def rounded(plain: fx.GraphModule) -> quantizing.Integer:
        tried.append("rounded")
        return calibrated_best(plain, on)

    with pytest.raises(NothingToDo, match="not finite"):
        diverged(deployed(network)[0])
    draft = Artifact(
        network="mobilenet_v1", arguments={}, precision="float32", labels=data.classes, contract=contract, golden={},
        parents={}, records=(), weights={},
    )  # fmt: skip
    passed = gate.gate(
        network, draft, BUDGET, calibration=on.pixels, val=data.val, val_pixels=data.val.pixels(contract),
        reference=2.0, better=[diverged, rounded],
    )  # fmt: skip
    assert tried == ["diverged", "diverged", "rounded"] and passed.chosen is None


def test_few_pictures_are_enough_batches_to_judge_by() -> None:
    contract = InputContract(side=8)
    for count, batches in ((256, 4), (200, 4), (84, 4), (7, 7), (1, 1)):
        on = Calibration(np.zeros((count, 8, 8, 3), np.uint8), contract)
        sizes = [len(images) for images in on.images]
        assert sum(sizes) == count and len(sizes) >= batches and max(sizes) <= 64
    assert on.grid["input_scale"] > 0
