"""The doctor: well without any extra, ill if a runtime errs."""

from types import SimpleNamespace

import pytest
from needs import missing

from swiftlet import doctor
from swiftlet.errors import BadFile
from swiftlet.runtime import RUNTIMES


class Absent:
    name = "absent"

    def missing(self) -> str:
        return "pip install 'swiftlet[absent]'"


class Failing:
    name = "failing"

    def missing(self) -> None:
        return None

    def load(self, path, threads):
        raise BadFile("net: refused")


def examined(monkeypatch: pytest.MonkeyPatch, *names: str, **others: object) -> dict[str, object]:
    monkeypatch.setattr(doctor, "RUNTIMES", {name: RUNTIMES[name] for name in names} | others)
    return doctor.examine()


def test_well_with_nothing_but_onnxruntime_and_torch(monkeypatch):
    facts = examined(monkeypatch, "onnxruntime", "torch", absent=Absent())
    assert facts["ok"] is True
    assert facts["runtime absent"] == "not usable; needs: pip install 'swiftlet[absent]'"
    assert str(facts["runtime onnxruntime"]).count("agrees") == 2 and "; int8 agrees" in str(
        facts["runtime onnxruntime"]
    )
    assert "int8 emulated in float32 agrees" in str(facts["runtime torch"])


def test_a_cpu_without_vnni_is_named(monkeypatch):
    for flags, named in (("avx2", True), ("avx2 avx_vnni", False), ("avx512_vnni avx2", False), ("asimd", False)):
        monkeypatch.setattr("swiftlet.runtime.cpu.machine", lambda flags=flags: SimpleNamespace(flags=flags.split()))
        assert ("int8" in examined(monkeypatch, "torch")) is named


def test_one_int8_file_on_openvino_and_a_float_only_runtime(monkeypatch):
    if (absent := RUNTIMES["openvino"].missing()) is not None:
        missing(absent)
    facts = examined(monkeypatch, "torch", "openvino", "torch-channels-last")
    assert facts["ok"] is True
    assert str(facts["runtime openvino"]).startswith("float32 agrees") and "; int8 agrees" in str(
        facts["runtime openvino"]
    )
    assert str(facts["runtime torch-channels-last"]).endswith("; no int8")


def test_ill_if_a_runtime_fails_or_gives_other_numbers(monkeypatch):
    facts = examined(monkeypatch, "torch", failing=Failing())
    assert facts["ok"] is False and facts["runtime failing"] == "FAILS: net: refused; FAILS: net: refused"
    facts = examined(monkeypatch, "torch", zeros=RUNTIMES["null"])
    assert facts["ok"] is False and "DIFFERS" in str(facts["runtime zeros"])
