"""Converters that hang, die or refuse: one error that says so, and nothing left behind."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from onnx_graphs import float_net, serialize

from swiftlet.cost.screen import screen_onnx
from swiftlet.errors import BadFile
from swiftlet.runtime.convert import convert, run_converter

FILE = screen_onnx(float_net())._replace(name="net")


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_converter_that_hangs_is_stopped_with_what_it_started(tmp_path):
    child = "import time; time.sleep(60)"
    code = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {child!r}]); "
    code += "open('pid', 'w').write(str(p.pid)); time.sleep(60)"
    with pytest.raises(BadFile, match=r"^net: the conversion by python\S* took more than 1.5 s; stopped"):
        run_converter(python(code), tmp_path, "net.bin", "net", seconds=1.5)
    grandchild = int((tmp_path / "pid").read_text())
    end = time.monotonic() + 10  # it has been sent SIGKILL, and the system may be busy
    while alive(grandchild) and time.monotonic() < end:
        time.sleep(0.05)
    assert not alive(grandchild)


def alive(pid: int) -> bool:
    """A zombie, until its new parent has looked, is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_a_converter_that_dies_or_fails_gives_its_reason(tmp_path):
    with pytest.raises(BadFile, match=r"^net: the conversion by python\S* died: SIGSEGV"):
        run_converter(python("import os; os.kill(os.getpid(), 11)"), tmp_path, "net.bin", "net")
    with pytest.raises(BadFile, match=r"^net: python\S* refuses it: ValueError: no such layer"):
        run_converter(python("raise ValueError('no such layer')"), tmp_path, "net.bin", "net")
    with pytest.raises(BadFile, match=r"^net: python\S* refuses it: exit code 0"):
        run_converter(python(""), tmp_path, "net.bin", "net")
    run_converter(python("open('net.bin', 'w')"), tmp_path, "net.bin", "net")


def test_the_child_names_the_file_and_leaves_none(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    file = serialize([helper.make_node("Tan", ["image"], ["scores"])], [], shape=["N", 4], dtype=TensorProto.FLOAT)
    with pytest.raises(BadFile, match=r"^net: PyTorch as a runtime has no Tan; use onnxruntime"):
        convert(screen_onnx(file)._replace(name="net"), "litert")
    with pytest.raises(BadFile, match=r"^net: the conversion by litert took more than 0.01 s; stopped"):
        convert(FILE, "litert", seconds=0.01)
    assert list(tmp_path.iterdir()) == []


def test_interrupting_the_wait_stops_the_converter(tmp_path):
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    with pytest.raises(KeyboardInterrupt):
        run_converter(
            python("import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"),
            tmp_path, "net.bin", "net",
        )  # fmt: skip
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
