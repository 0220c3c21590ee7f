"""Trainings that are stopped, killed or run out of disk: the same bits, the same log (docs/reliability.md)."""

import errno
import json
import math
import os
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from crash_states import Failing, before_each
from test_train import STEPS, bits, same, training
from torch import Tensor

from swiftlet.errors import BadFile, CannotSave, MissingExtra
from swiftlet.train import loop
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.metrics import Metrics
from swiftlet.train.tensorboard import TensorBoard


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """Waiting for the disk itself adds nothing but time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


STOPS = [(0, 0, 1), (2,), (3,), (3, 3), (1, 2, 3, 4, 5), (STEPS - 1,), (STEPS, STEPS)]  # an epoch has three steps


@pytest.mark.parametrize("stops", STOPS, ids=str)
def test_the_log_of_a_stopped_run_is_that_of_the_undisturbed_one(stops, straight, tmp_path):
    for stop in (*stops, STEPS):
        t, metrics = training(), Metrics(tmp_path / "log.jsonl", every=2)
        t.run(checkpoints=Checkpoints(tmp_path / "run"), metrics=metrics, should_stop=lambda: t.step >= stop)  # noqa: B023
        with metrics.path.open("a") as file:
            file.write('{"torn')  # by a kill right after the checkpoint
    final = training()
    final.run(checkpoints=Checkpoints(tmp_path / "run"), metrics=Metrics(tmp_path / "log.jsonl", every=2))
    assert (tmp_path / "log.jsonl").read_bytes() == straight[0] and same(bits(final), straight[1])


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[bytes, dict[str, Tensor]]:
    t, metrics = training(), Metrics(tmp_path_factory.mktemp("log") / "log.jsonl", every=2)
    t.run(metrics=metrics)
    lines = [json.loads(line) for line in metrics.path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 5] and [line["epoch"] for line in lines] == [0, 1, 1]
    speeds = [json.loads(line) for line in metrics.speed_path.read_text().splitlines()]
    assert [line["step"] for line in speeds] == [2, 4, 5] and all(line["pictures_per_second"] > 0 for line in speeds)
    return metrics.path.read_bytes(), bits(t)


def test_a_line_has_the_mean_loss_of_its_steps(tmp_path):
    metrics = Metrics(tmp_path / "log.jsonl", every=3)
    metrics.resume(None)
    for step, loss in enumerate((1.0, 2.0, 6.0, 5.0), start=1):
        metrics.add(step, epoch=0, loss=loss, lr=0.5, pictures=4, last=step == 4)
    metrics.write({"step": 4, "accuracy": 0.25})
    assert [json.loads(line) for line in metrics.path.read_text().splitlines()] == [
        {"step": 3, "epoch": 0, "loss": 3.0, "lr": 0.5},
        {"step": 4, "epoch": 0, "loss": 5.0, "lr": 0.5},
        {"step": 4, "accuracy": 0.25},
    ]


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_log_that_is_not_the_checkpoints_is_refused(harm, tmp_path):
    path = tmp_path / "log.jsonl"
    metrics = Metrics(path)
    metrics.resume(None)
    metrics.write({"a": 1})
    kept = metrics.state()
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "cut" else content.replace(b"1", b"2"))
    with pytest.raises(BadFile, match=r"log\.jsonl: its first 9 bytes are not what the checkpoint was saved with"):
        Metrics(path).resume(kept)
    assert path.exists()
    path.write_bytes(content + b'{"b": 2}\n')
    Metrics(path).resume(kept)
    assert path.read_bytes() == content


def test_a_disk_that_fills_up_stops_the_training_and_it_goes_on_from_there(straight, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SAVE_SHARE", math.inf)
    t = training()

    def fill(step: int, steps: int, loss: float) -> None:
        if step == 3:
            full = Failing(1, errno.ENOSPC, ever=True)
            context.enter_context(before_each(full))

    with ExitStack() as context, pytest.raises(CannotSave, match="No space left on device"):
        t.run(
            checkpoints=Checkpoints(tmp_path / "run"), metrics=Metrics(tmp_path / "log.jsonl", every=2), progress=fill
        )
    last = training()
    steps: list[int] = []
    last.run(
        checkpoints=Checkpoints(tmp_path / "run"),
        metrics=Metrics(tmp_path / "log.jsonl", every=2),
        progress=lambda step, _, loss: steps.append(step),
    )
    assert steps == [3, 4, 5] and same(bits(last), straight[1])
    assert (tmp_path / "log.jsonl").read_bytes() == straight[0]


def test_saving_waits_fifty_times_as_long_as_it_took(tmp_path, monkeypatch):
    """At most 2 % of the time, by a clock of the test's own: a step takes 1 s, a save 4 s."""
    now = 0.0

    class Slow(Checkpoints):
        def save(self, *args: object) -> Path:
            nonlocal now
            now += 4.0
            saved.append(now)
            return super().save(*args)  # type: ignore[arg-type]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now

    def tick(*_: object) -> None:
        nonlocal now
        now += 1.0

    saved: list[float] = []
    t = training()
    monkeypatch.setattr(loop, "time", Clock)
    monkeypatch.setattr(type(t), "advance", lambda self: setattr(self, "step", self.step + 1) or torch.zeros(()))
    t.steps = 1000
    t.run(checkpoints=Slow(tmp_path / "run"), progress=tick)
    waits = [b - a - 4.0 for a, b in pairwise(saved)]
    assert saved[0] - 4.0 == 11.0 and set(waits[:-1]) == {201.0} and 4.0 * (len(saved) - 1) <= 0.02 * now


def test_tensorboard_is_fed_from_the_log(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    metrics = Metrics(tmp_path / "log.jsonl", every=1)
    metrics.resume(None)
    metrics.add(1, epoch=0, loss=2.0, lr=0.5, pictures=4)
    board = TensorBoard(metrics, tmp_path / "board")
    assert board.update() == 1
    metrics.add(2, epoch=0, loss=1.5, lr=0.25, pictures=4)
    metrics.write({"step": 2, "accuracy": 0.75, "who": "nobody"})
    with metrics.path.open("ab") as file:
        file.write(b'{"step": 3, "lo')  # still being written
    board.close()
    again = TensorBoard(metrics, tmp_path / "board")  # by a process that goes on
    again.close()
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {*events.Tags()["scalars"]} == {"epoch", "loss", "lr", "pictures_per_second", "accuracy"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.0), (2, 1.5)]
    assert [(event.step, event.value) for event in events.Scalars("accuracy")] == [(2, 0.75)]
    speed = json.loads(metrics.speed_path.read_text().splitlines()[0])
    assert events.Scalars("loss")[0].wall_time == pytest.approx(speed["time"])


def test_without_tensorboard_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install 'swiftlet\[tensorboard\]'"):
        TensorBoard(Metrics(tmp_path / "log.jsonl"), tmp_path)


@pytest.mark.slow
def test_killed_in_every_phase_it_ends_in_the_same_bits(tmp_path):
    """Eight of the two hundred kills of `python -m benchmarks kills`."""
    from benchmarks.kills import kill_and_resume

    outcome = kill_and_resume(8, tmp_path)
    assert outcome.kills.total() == 8 and outcome.ends >= 1
    assert (outcome.mismatches, outcome.manual_steps, outcome.leftovers) == (0, 0, 0)
