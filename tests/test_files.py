"""Files that are whole or not there, and a run folder with one owner, through full disks and kills."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swiftlet.errors import BadFile, BadInput, RunBusy
from swiftlet.files import write_atomically, write_json
from swiftlet.run import Run, read_run

# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"new", os.urandom(3_000_000)], ids=["empty", "short", "long"])
def test_the_content_is_complete_and_nothing_else_is_left(content, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old" * 1000)
    write_atomically(path, content)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == ["file.bin"]
    assert path.stat().st_mode & 0o777 == 0o644


class Full:
    """Stands for open files on a disk that is full."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, content):
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        raise OSError(errno.ENOSPC, "No space left on device")


def fail(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupt(*_args, **_kwargs):
    raise KeyboardInterrupt


FAILURES = {
    "write": lambda patch, fdopen=os.fdopen: patch.setattr(os, "fdopen", lambda *args: Full(fdopen(*args))),
    "fsync": lambda patch: patch.setattr(os, "fsync", fail),
    "rename": lambda patch: patch.setattr(Path, "replace", fail),
    "chmod": lambda patch: patch.setattr(os, "fchmod", fail),
    "interrupted": lambda patch: patch.setattr(os, "fsync", interrupt),
}


@pytest.mark.parametrize("old", [b"old", None], ids=["over a file", "new"])
@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_leaves_the_old_file_and_no_leftovers(what, old, tmp_path, monkeypatch):
    path = tmp_path / "file.bin"
    if old is not None:
        path.write_bytes(old)
    FAILURES[what](monkeypatch)
    with pytest.raises(KeyboardInterrupt if what == "interrupted" else OSError):
        write_atomically(path, b"new" * 100)
    monkeypatch.undo()
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({} if old is None else {"file.bin": old})


def test_a_reader_sees_the_old_file_until_the_new_one_is_on_disk(tmp_path, monkeypatch):
    path, seen, fsync = tmp_path / "file.bin", [], os.fsync
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", lambda handle: (seen.append(path.read_bytes()), fsync(handle)))
    write_atomically(path, b"new")
    assert seen == [b"old", b"new"]  # the file before the rename, the folder after it


def test_json_is_stable_and_refuses_what_json_has_not(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": ["ä", None]})
    first = path.read_bytes()
    write_json(path, {"a": ["ä", None], "b": 1})
    assert path.read_bytes() == first and json.loads(first) == {"a": ["ä", None], "b": 1}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": float("nan")})
    assert path.read_bytes() == first


# --- the run folder -------------------------------------------------------------------------------------------------


def test_a_stage_is_computed_once_in_all_processes_and_read_as_json(tmp_path):
    calls = []

    def compute():
        calls.append(1)
        return {"pair": (1, 2), "n": len(calls)}

    for _ in range(2):
        with Run(tmp_path / "run") as run:
            assert run.once("stage", compute) == run.once("stage", compute) == {"pair": [1, 2], "n": 1}
            assert run.stored("stage") == {"pair": [1, 2], "n": 1} and run.stored("later") is None
    assert calls == [1]


def test_a_stage_that_fails_is_not_stored(tmp_path):
    def compute():
        raise OSError("no")

    with Run(tmp_path) as run:
        with pytest.raises(OSError, match="no"):
            run.once("stage", compute)
        assert run.stored("stage") is None and run.once("stage", lambda: {"a": 1}) == {"a": 1}


def test_a_run_is_claimed_for_one_job(tmp_path):
    facts = {"budget": "Budget(macs=1)", "seed": 0}
    with Run(tmp_path) as run:
        run.claim(facts)
        run.claim(dict(facts))
    with Run(tmp_path) as run:
        with pytest.raises(BadInput, match=r"run with seed = 0, now asked for 1; choose another --out"):
            run.claim(facts | {"seed": 1})
        with pytest.raises(BadInput, match="budget = 'Budget"):
            run.claim({"seed": 0})
        run.claim(facts)


HOLD = """
import sys, time
from pathlib import Path
from swiftlet.run import Run
with Run(Path(sys.argv[1])) as run:
    run.once("claim", lambda: {"a": 1})
    (run.folder / ".model.onnx.abc.tmp").write_bytes(b"half")
    (run.folder / "stages" / ".x.json.abc.tmp").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_has_one_owner_and_a_killed_one_holds_nothing(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        started = time.monotonic()
        with pytest.raises(RunBusy, match="another swiftlet is at work there"), Run(tmp_path):
            pass
        assert time.monotonic() - started < 1
        assert (tmp_path / ".model.onnx.abc.tmp").exists()  # the owner may still need it
        assert read_run(tmp_path)[1] == ["claim", "clock"]  # looking is allowed
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with Run(tmp_path) as run:
        assert run.stored("claim") == {"a": 1}
        assert not list(tmp_path.rglob("*.tmp"))
    with Run(tmp_path):  # and left in good order, it is free at once
        pass


def test_one_process_cannot_own_it_twice(tmp_path):
    with Run(tmp_path), pytest.raises(RunBusy), Run(tmp_path):
        pass
    with Run(tmp_path):
        pass


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b"null"], ids=repr)
def test_a_damaged_stage_is_refused_by_name(damage, tmp_path):
    with Run(tmp_path) as run:
        run.once("plan", lambda: {"a": 1})
        path = tmp_path / "stages" / "plan.json"
        path.write_bytes(damage)
        with pytest.raises(BadFile, match=r"stages/plan\.json: is .*delete it to compute that stage again"):
            run.once("plan", lambda: {"a": 2})
        path.unlink()
        assert run.once("plan", lambda: {"a": 2}) == {"a": 2}


@pytest.mark.parametrize("damage", [b"{", b"{}", b'{"seconds": "x"}', b'{"seconds": null}'], ids=repr)
def test_a_damaged_clock_is_refused_and_holds_no_lock(damage, tmp_path):
    with Run(tmp_path) as run:
        run.claim({})
    clock = tmp_path / "stages" / "clock.json"
    clock.write_bytes(damage)
    for _ in range(2):  # the second time, RunBusy would mean that the first still owns the folder
        with pytest.raises(BadFile, match=r"clock\.json"), Run(tmp_path):
            pass
    with pytest.raises(BadFile, match=r"clock\.json"):
        read_run(tmp_path)
    clock.unlink()
    with Run(tmp_path) as run:
        assert run.seconds < 5


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="is not empty and holds no swiftlet run"), Run(tmp_path):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(BadInput, match="cannot be written to"), Run(tmp_path / "thesis.txt" / "run"):
        pass
    with Run(tmp_path / "new" / "deep") as run:
        assert run.folder.is_dir()


def test_the_clock_adds_up_over_processes(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Run(tmp_path) as run:
        now[0] += 30
        assert run.seconds == 30
        run.once("a", dict)
        now[0] += 2
        run.tick()  # too soon after the last: not written
    now[0] += 1000  # nobody works on it
    with Run(tmp_path) as run:
        assert run.seconds == 32
        now[0] += 6
        run.tick()
        now[0] += 3
        run.claim({})
        now[0] += 1  # a reader sees what is on disk
        assert read_run(tmp_path) == (None, ["a", "claim", "clock"], 41.0)
    with Run(tmp_path) as run:
        assert run.seconds == 42


def test_read_run(tmp_path):
    with pytest.raises(BadFile, match="holds no run"):
        read_run(tmp_path)
    with Run(tmp_path) as run:
        run.claim({"budget": 1})
        assert read_run(tmp_path)[:2] == (None, ["claim", "clock"])
        run.once("result", lambda: {"accuracy": 1.0})
    result, stages, seconds = read_run(tmp_path)
    assert result == {"accuracy": 1.0} and stages == ["claim", "clock", "result"] and 0 < seconds < 60
