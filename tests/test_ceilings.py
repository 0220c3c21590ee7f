"""Ceilings and the cache that keeps them; the machine, where nothing about it can be read."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from onnx_graphs import float_net

from swiftlet.errors import BadInput
from swiftlet.runtime import ceilings as module
from swiftlet.runtime.ceilings import MEASURED, Ceilings, cache_folder, ceilings, measure
from swiftlet.runtime.machine import Moment, machine, moment, others, read_machine
from swiftlet.timing import time_files

SAMPLE = Ceilings(
    threads=1,
    float32=100.0,
    bfloat16=90.0,
    int8=50.0,
    memory_gbs=20.0,
    cache_gbs=100.0,
    cache_bytes=2**24,
    far_bytes=2**28,
    others=0.0,
)


def test_they_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CASE_SECONDS", 0.005)
    monkeypatch.setattr(module, "FAR_BYTES", (2**20, 2**20))
    steps: list[tuple[int, int]] = []
    found = measure(1, progress=lambda done, total: steps.append((done, total)))
    assert all(getattr(found, name) > 0.1 for name in MEASURED)
    assert found.far_bytes == 2**21 and found.note.startswith("memory_gbs: 2 MiB") == bool(machine().cache_bytes)
    assert steps[-1][0] == steps[-1][1] == len(steps)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Ceilings]:
    """What the next measurements give; taken from the front."""
    coming = [SAMPLE]
    monkeypatch.setattr(module, "measure", lambda threads, progress=None: replace(coming.pop(0), threads=threads))
    return coming


def test_they_are_kept_for_this_machine_and_thread_count(measured: list[Ceilings], tmp_path: Path) -> None:
    assert ceilings(1, folder=tmp_path) == ceilings(1, folder=tmp_path) == SAMPLE  # measured once
    measured.append(SAMPLE)
    assert ceilings(2, folder=tmp_path).threads == 2
    first, second = sorted(tmp_path.iterdir())
    assert json.loads(first.read_text())["machine"] == str(machine()) and first != second
    measured.append(replace(SAMPLE, float32=80.0, int8=60.0))
    better = ceilings(1, folder=tmp_path, again=True)  # the better of both
    assert (better.float32, better.int8) == (100.0, 60.0) and ceilings(1, folder=tmp_path) == better
    with pytest.raises(BadInput, match="threads=0"):
        ceilings(0, folder=tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"threads": 1}', "WRONG", "NEGATIVE", "BUSY"])
def test_a_file_that_cannot_be_trusted_is_measured_again(measured: list[Ceilings], tmp_path: Path, damage: str) -> None:
    ceilings(1, folder=tmp_path)
    (path,) = tmp_path.iterdir()
    fields = {"WRONG": {"float32": "fast"}, "NEGATIVE": {"int8": -1.0}, "BUSY": {"others": 0.7}}
    path.write_text(json.dumps(json.loads(path.read_text()) | fields[damage]) if damage in fields else damage)
    measured.append(SAMPLE)
    assert ceilings(1, folder=tmp_path) == SAMPLE and measured == []
    assert ceilings(1, folder=tmp_path) == SAMPLE


def test_a_cache_that_cannot_be_written_is_said(measured: list[Ceilings], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, no folder")
    found = ceilings(1, folder=tmp_path / "taken")
    assert found.float32 == 100.0 and found.note.startswith("not kept: ")


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "swiftlet"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "swiftlet"


def test_an_engine_may_use_the_faster_of_two_precisions() -> None:
    assert SAMPLE.rate("float32") == SAMPLE.rate("int8 emulated in float32") == 100.0
    assert SAMPLE.rate("int8") == SAMPLE.rate("bfloat16") == 100.0  # this one is slower in short types
    fast = replace(SAMPLE, bfloat16=200.0, int8=150.0)
    assert fast.rate("int8") == 150.0 and fast.rate("int8, the rest in bfloat16") == 200.0
    assert fast.rate("float16") is None


def write_machine(root: Path) -> None:
    files = {
        "proc/cpuinfo": "model name\t: Abacus 9\ncpu MHz\t: 1500.25\nflags\t: fpu avx2 amx_int8\n\nprocessor : 1\n",
        "proc/stat": "cpu  100 0 50 900 7 0 0 50 0 0\ncpu0 1 2\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3700000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2100000\n",
        "sys/devices/system/cpu/cpu0/cache/index0/size": "32K\n",
        "sys/devices/system/cpu/cpu0/cache/index3/size": "16384K\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_a_machine_that_tells(tmp_path: Path) -> None:
    write_machine(tmp_path)
    found = read_machine(tmp_path)
    assert (found.cpu, found.flags, found.governor, found.max_mhz) == (
        "Abacus 9",
        ("avx2", "amx_int8"),
        "powersave",
        3700,
    )
    assert found.cache_bytes == 16 * 2**20 and "governor powersave, at most 3700 MHz" in str(found)
    now = moment(tmp_path)
    assert now.mhz == 2100 and now.busy == 200 / os.sysconf("SC_CLK_TCK")
    (tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").unlink()
    assert moment(tmp_path).mhz == 1500


def test_load_of_others() -> None:
    before = Moment(at=10.0, own=1.0, busy=100.0, load=0.0, mhz=None)
    after = Moment(at=20.0, own=9.0, busy=113.0, load=1.0, mhz=None)
    assert others(before, after) == pytest.approx(0.5)  # 13 CPU seconds in 10, 8 of them our own
    assert others(before, replace(after, busy=None)) is None


@pytest.mark.parametrize("nonsense", [None, "\x00\xff nothing here"])
def test_a_machine_that_tells_nothing_still_times(
    monkeypatch: pytest.MonkeyPatch, measured: list[Ceilings], tmp_path: Path, nonsense: str | None
) -> None:
    root, net = tmp_path / "root", tmp_path / "net.onnx"
    if nonsense:
        write_machine(root)
        for path in root.rglob("*"):
            if path.is_file():
                path.write_text(nonsense)

    def no_load() -> tuple[float, float, float]:
        raise OSError("load average was unobtainable")

    blind = read_machine(root)
    assert "cache unknown; governor" in str(blind) and blind.cpu and blind.cores >= 1
    assert nonsense or "governor unknown, frequency unknown" in str(blind)
    monkeypatch.setattr(os, "getloadavg", no_load)
    monkeypatch.setattr("swiftlet.runtime.ceilings.machine", lambda: blind)
    monkeypatch.setattr("swiftlet.timing.files.moment", lambda: moment(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured[0] = replace(SAMPLE, float32=1e6, cache_bytes=None)
    net.write_bytes(float_net())
    found = time_files([net], ["onnxruntime"], [1], seconds=0.05)
    assert found.rows[0].measurement.p50_ms > 0 and found.rows[0].bound is not None
    assert found.others is None and found.before.load is None and found.before.mhz is None
    assert any("unknown: this system does not tell" in note for note in found.notes)
