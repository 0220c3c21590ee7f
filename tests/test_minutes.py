"""The benchmark of accuracy against minutes: timm's run is that of its script, and rows are made once and kept."""

import json
import math
import multiprocessing
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torchvision_ops  # (before timm)
from PIL import Image
from torch import nn

from benchmarks import minutes
from benchmarks.minutes import OTHERS, OURS, SAME, Cell, main
from swiftlet.candidates import Candidate
from swiftlet.check import wilson
from swiftlet.errors import BadInput
from swiftlet.plan import Plan, Planned
from swiftlet.run import Run

sys.modules.setdefault("tests.torchvision_ops", torchvision_ops)  # the benchmark's name for it; it can be had only once

from benchmarks import minutes_table, minutes_timm  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # timm leaves closing to Python
TINY = Candidate(network="mobilenet_v1", width=0.0625, side=32)
SIZES = {"train": 48, "val": 12, "test": 20}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes that differ in brightness; batches of 8, without processes that read them."""
    rng = np.random.default_rng(0)
    for split, n in SIZES.items():
        for i in range(n):
            folder = tmp_path / minutes.PHOTOS / split / ("dark" if i % 2 else "light")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 60, (40, 40, 3)) + (0 if i % 2 else 180)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    monkeypatch.setenv("SWIFTLET_DATA", str(tmp_path))
    monkeypatch.setattr(minutes_timm, "DEFAULTS", minutes_timm.DEFAULTS | {"batch_size": 8, "workers": 0})
    monkeypatch.setattr(minutes, "apart", lambda compute, cell: compute(cell))
    return tmp_path / minutes.PHOTOS


def small() -> nn.Module:
    return TINY.build(2, 0)


def test_pictures_are_those_of_timms_script(data: Path) -> None:
    loader = minutes_timm.loader(small(), data, "train", 96)
    random = str(loader.loader.dataset.transform)
    for part in ("size=(96, 96), scale=(0.08, 1.0), ratio=(0.75, 1.3333)", "PIL.Image.BILINEAR PIL.Image.BICUBIC"):
        assert part in random or part.replace("PIL.Image.", "").lower() in random, random
    assert "RandomHorizontalFlip(p=0.5)" in random and "brightness=(0.6, 1.4)" in random and "Vertical" not in random
    assert len(loader) == SIZES["train"] // 8 and len(loader.loader.dataset) == SIZES["train"]
    whole = minutes_timm.loader(small(), data, "validation", 96)
    plain = str(whole.loader.dataset.transform)
    assert "Resize(size=109, interpolation=bicubic" in plain and "CenterCrop(size=(96, 96))" in plain
    assert len(whole.loader.dataset) == SIZES["val"]  # the script's name for it is found in val/
    images, _ = next(iter(whole))
    assert images.shape == (8, 3, 96, 96) and images.dtype == torch.float32 and images.min() < -1 < 1 < images.max()


def test_rates_are_those_of_timms_script(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert minutes_timm.DEFAULTS["batch_size"] == 8
    optimizers: list[torch.optim.Optimizer] = []
    make = minutes_timm.create_optimizer_v2

    def kept(*given: Any, **named: Any) -> torch.optim.Optimizer:
        optimizers.append(make(*given, **named))
        return optimizers[0]

    monkeypatch.setattr(minutes_timm, "create_optimizer_v2", kept)
    monkeypatch.setattr(minutes_timm, "score", lambda model, batches: (1, 2))
    rates: list[float] = []
    minutes_timm.train(small, data, 32, 8, tmp_path, lambda *_: rates.append(optimizers[0].param_groups[0]["lr"]))
    top = 0.1 * 8 / 256
    rising = [1e-5 + (top - 1e-5) * epoch / 5 for epoch in range(1, 5)]
    falling = [top * (1 + math.cos(math.pi * epoch / 8)) / 2 for epoch in range(5, 9)]
    assert rates == pytest.approx(rising + falling, abs=1e-9)
    plain, decayed = optimizers[0].param_groups
    assert (plain["weight_decay"], decayed["weight_decay"]) == (0.0, 2e-5)
    assert all(p.ndim == 1 for p in plain["params"]) and all(p.ndim > 1 for p in decayed["params"])
    assert isinstance(optimizers[0], torch.optim.SGD) and decayed["nesterov"] and decayed["momentum"] == 0.9


def test_the_epoch_of_the_best_validation_counts(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    planned = iter((3, 9, 5, 9))

    def score(model: nn.Module, batches: Any) -> tuple[int, int]:
        seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return next(planned), 12

    monkeypatch.setattr(minutes_timm, "score", score)
    trained = minutes_timm.train(small, data, 32, 4, tmp_path, lambda *_: None)
    assert (trained.best_epoch, trained.validation_percent, len(trained.seconds)) == (1, 75.0, 4)
    state = trained.model.state_dict()
    same = [all(torch.equal(state[name], tensor) for name, tensor in then.items()) for then in seen]
    assert same == [False, True, False, False]


def test_epochs_fill_the_minutes_by_the_fastest_of_three(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def train(build: Any, data: Path, side: int, epochs: int, *_: Any) -> SimpleNamespace:
        return SimpleNamespace(seconds=[1.0, 9.0, 8.0][:epochs])

    monkeypatch.setattr(minutes_timm, "train", train)
    assert minutes_timm.epochs_for(1.0, small, tmp_path, 32, tmp_path) == 7
    assert minutes_timm.epochs_for(0.01, small, tmp_path, 32, tmp_path) == 1


def delivered(cell: Cell, **changes: Any) -> Any:
    """What stands in for fit: a plan, and a result that needs no training."""
    with Run(cell.folder) as run:
        planned = Planned(candidate=TINY, costs={}, over={})
        plan = Plan(
            planned=(planned,), sketch=TINY.name, sketch_steps=1, shortlist=(TINY.name,), rungs=(), batch=8, seconds=0
        )
        run.once("plan", plan.to_json)
    return {
        "network": TINY.name,
        "precision": "int8",
        "accuracy_percent": 80.0,
        "interval_percent": [50.0, 90.0],
        "n": 20,
        "kb": 12.3,
        "seconds": 290,
        "machine": "an abacus; 2 beads",
    } | changes


def test_a_row_is_made_once_and_joins_the_ledger(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minutes, "RESULTS", tmp_path)
    monkeypatch.setattr("benchmarks.ledger.RESULTS", tmp_path)
    monkeypatch.setattr(minutes_table, "RESULTS", tmp_path)
    monkeypatch.setattr(minutes_timm, "epochs_for", lambda *_: 12)
    monkeypatch.setitem(minutes_timm.DEFAULTS, "lr_base", 1.0)
    (tmp_path / "minutes.json").write_text(json.dumps({"figures": {"5": {OURS: {"a": 1}}}}))
    fits: list[float] = []
    monkeypatch.setattr(minutes, "ours", lambda cell: fits.append(cell.minutes) or delivered(cell))
    out = tmp_path / "runs"
    main(["20", "--who", SAME, "--out", str(out)])  # needs what fit delivers, which is made first, but not recorded
    main(["20", "--out", str(out)])
    assert fits == [20.0]
    figures = json.loads((tmp_path / "minutes.json").read_text())["figures"]
    assert figures["5"] == {OURS: {"a": 1}} and set(figures["20"]) == {OURS, SAME}
    timm, swiftlet = figures["20"][SAME], figures["20"][OURS]
    assert timm["network"] == swiftlet["network"] == TINY.name
    assert (timm["n"], timm["epochs"], timm["precision"]) == (SIZES["test"], 12, "float32") and timm["best_epoch"] < 12
    assert timm["accuracy_percent"] >= 90 and timm["validation_percent"] >= 90
    right = round(timm["accuracy_percent"] * 20 / 100)
    assert timm["interval_percent"] == [round(100 * end, 1) for end in wilson(right, 20)]
    assert timm["macs"] > 0 and timm["kb"] == round(4 * sum(p.numel() for p in small().parameters()) / 1000, 1)
    assert (out / "20" / SAME / "checkpoints" / "model_best.pth.tar").exists()

    del figures["5"]
    (tmp_path / "minutes.json").write_text(json.dumps({"figures": figures}))
    lines = minutes_table.results().splitlines()
    accuracy = "80.0 % (95 % 50.0 to 90.0, n = 20)"
    assert f"| 20 | `swiftlet fit` | {TINY.name}, int8, 12.3 KB | {accuracy} |  | 4.8 |" in lines
    assert len(lines) == 6 and "an abacus" in lines[-1] and "beads" not in lines[-1]


def test_what_is_no_run_from_scratch_is_no_row(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(minutes=5, who=OURS, out=tmp_path / "runs")
    result = SimpleNamespace(interrupted=True, weights={})
    monkeypatch.setattr(minutes, "fit", lambda *given, **named: result)
    with pytest.raises(KeyboardInterrupt):
        minutes.finish(cell)
    result.interrupted, result.weights = False, {"source": "timm/some"}
    with pytest.raises(BadInput, match="started from timm/some, not from scratch"):
        minutes.finish(cell)
    assert not cell.result.exists()


def test_a_row_starts_processes_as_a_user_does() -> None:
    assert minutes.apart(multiprocessing.get_start_method, False) == multiprocessing.get_start_method()


@pytest.mark.parametrize("who", OTHERS)
def test_other_networks_are_timms(data: Path, tmp_path: Path, who: str) -> None:
    build, name, side = minutes.network_of(Cell(minutes=5, who=who, out=tmp_path))
    assert name == who == f"{OTHERS[who][0]}-{side}px"
    model = build().eval()
    assert type(model).__module__.startswith("timm.models") and model(torch.zeros(1, 3, side, side)).shape == (1, 2)


def test_rows_that_are_cut_short_start_anew(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = Cell(minutes=5, who=SAME, out=tmp_path / "runs")
    monkeypatch.setattr(minutes, "ours", delivered)
    monkeypatch.setattr(minutes_timm, "epochs_for", lambda *_: 1)
    left = cell.folder / "checkpoints" / "model_best.pth.tar"
    left.parent.mkdir(parents=True)
    left.write_text("of a row that was killed")
    assert minutes.finish(cell)["epochs"] == 1
    assert minutes.finish(replace(cell, who=OURS))["accuracy_percent"] == 80.0


def test_the_page_has_the_tables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = minutes_table.PAGE.read_text()
    assert page == minutes_table.with_tables(page), "run python -m benchmarks.minutes_table"
    assert "| `--color-jitter` | 0.4 |" in page and "| `--ratio` | 0.75 1.33 |" in page
    monkeypatch.setattr(minutes_table, "RESULTS", tmp_path)
    assert "Not measured yet." in minutes_table.with_tables(page)
