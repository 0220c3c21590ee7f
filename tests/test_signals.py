"""Ctrl-C and SIGTERM: between two steps, at once, and twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from toy import fixed_plan, write_photos

import swiftlet
from swiftlet import signals
from swiftlet.budget import Budget
from swiftlet.files import write_json
from swiftlet.fitting import fit
from swiftlet.signals import Terminated, interruptible, stoppable, terminable


def test_stoppable_raises_at_its_end_only():
    before = signal.getsignal(signal.SIGTERM)
    done = []
    with pytest.raises(Terminated) as raised, stoppable() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked()
        done.append("saved")
    assert done == ["saved"] and raised.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    with stoppable() as asked:
        pass
    assert not asked() and signal.getsignal(signal.SIGTERM) == before


def test_terminable_raises_at_once_and_leaves_a_stoppable_inside_it_alone():
    done = []
    with pytest.raises(Terminated), terminable():
        with pytest.raises(Terminated), stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("saved")
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("never")
    assert done == ["saved"]


def test_the_second_ctrl_c_raises():
    with interruptible() as interrupted:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_other_threads_are_left_alone():
    heard = []

    def work() -> None:
        with terminable(), stoppable() as asked, interruptible() as interrupted:
            heard.append((asked(), interrupted()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [(False, False)]


STUBBORN = """
import runpy, time
stoppable = runpy.run_path({path!r})["stoppable"]
with stoppable() as asked:
    print("ready", flush=True)
    while not asked():
        time.sleep(0.01)
    print("asked", flush=True)
    time.sleep(60)
"""


def test_a_second_sigterm_ends_the_process_on_the_spot():
    code = STUBBORN.format(path=signals.__file__)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "asked\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=50) == -signal.SIGTERM and time.monotonic() - began < 50


BUDGET = Budget(latency_ms=50, size_bytes=100_000, runtime="onnxruntime")
MOMENTS = ["a first file", "shrinking and checking", "round 1 of 2", "round 2 of 2", "measuring the file"]


@pytest.mark.slow
def test_sigterm_in_every_phase_of_a_fit_and_it_ends_with_the_same_file(tmp_path):
    """Before the first file, in a step, while shrinking, in a later round and while measuring on the test split."""
    photos, plan = write_photos(tmp_path / "colours", per_class=12), fixed_plan(steps=(6, 9))
    straight = fit(photos, BUDGET, minutes=5, out=tmp_path / "straight", plan=plan)

    def ask(what: str, done: int, total: int) -> None:
        if moments and moments[0] in what and (total == 0 or done == 2):
            moments.pop(0)
            os.kill(os.getpid(), signal.SIGTERM)

    moments = list(MOMENTS)
    out = tmp_path / "stopped"
    for left in range(len(MOMENTS) - 1, -1, -1):
        with pytest.raises(Terminated):
            fit(photos, BUDGET, minutes=5, out=out, plan=plan, progress=ask)
        assert len(moments) == left
    result = fit(photos, BUDGET, minutes=5, out=out, plan=plan, progress=ask)
    assert Path(result.file).read_bytes() == Path(straight.file).read_bytes()
    logs = sorted(path.name for path in (out / "train").glob("*.jsonl") if ".speed." not in path.name)
    assert len(logs) == 4
    assert all(
        (out / "train" / name).read_bytes() == (tmp_path / "straight" / "train" / name).read_bytes() for name in logs
    )
    assert not list(out.rglob("*.part*")) and not list(out.rglob("*tmp*"))


def test_the_command_exits_with_143(tmp_path):
    """The process of `swiftlet fit` itself, stopped in its training."""
    photos, out = write_photos(tmp_path / "colours", per_class=12), tmp_path / "run"
    plan = tmp_path / "plan.json"
    write_json(plan, fixed_plan(steps=(100_000, 100_000)).to_json())
    command = [sys.executable, "-m", "swiftlet", "fit", str(photos), "--max-ms", "50", "--minutes", "5"]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--plan", str(plan)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONPATH": str(Path(swiftlet.__file__).parents[1])},
    )  # fmt: skip
    while not list((out / "train").glob("*round1.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143 and "the same command goes on from here" in stderr, stderr
    assert list((out / "train").glob("*round1.part/step-*/manifest.json"))
