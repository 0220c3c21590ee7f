"""The command line: what each verb prints as JSON, its exit codes, and one line for every error."""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from onnx import TensorProto, helper
from toy import write_photos

from swiftlet import cli
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.data.contract import InputContract
from swiftlet.export.onnx import export_onnx
from swiftlet.zoo import create_model


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command, in this process."""
    before, sys.argv = sys.argv, ["swiftlet", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        sys.argv = before
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    code, out, _ = run(capsys, *arguments, "--json")
    assert out.count("\n") == 1, "one object, one line"
    return code, json.loads(out)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A narrow and a five times heavier network, untrained."""
    folder, paths = tmp_path_factory.mktemp("files"), []
    for width, side in ((0.0625, 32), (0.5, 96)):
        torch.manual_seed(0)
        model = create_model("mobilenet_v1", width=width, num_classes=4).eval()
        paths.append(folder / f"v1-{width:g}.onnx")
        paths[-1].write_bytes(export_onnx(fold_batchnorm(model)[0], InputContract(side=side)))
    return paths[0], paths[1]


def test_count_of_a_network_and_of_its_file(capsys: pytest.CaptureFixture[str], files: tuple[Path, Path]) -> None:
    code, counted = run_json(capsys, "count", "mobilenet_v2", "-a", "width=0.35")
    assert code == 0
    assert (counted["params"], counted["macs"], counted["flops"]) == (1_677_128, 59_285_808, 2 * 59_285_808)
    keys = {"size_bytes", "memory_access_bytes", "peak_activation_bytes", "uncovered", "layers", "rule", "elementwise"}
    assert keys <= set(counted)
    code, module = run_json(capsys, "count", "mobilenet_v1", "-a", "width=0.0625", "-a", "num_classes=4", "--side", 32)
    code, file = run_json(capsys, "count", files[0])
    assert file["macs"] == module["macs"] and file["uncovered"] == []
    assert module["inputs"] == [[3, 32, 32]] and len(file["inputs"]) == 1  # type: ignore[arg-type]
    assert sum(layer["macs"] for layer in file["layers"]) == file["macs"]  # type: ignore[attr-defined]
    code, out, _ = run(capsys, "count", "mobilenet_v1", "--layers")
    assert "568,740,352" in out and "rule:" in out and "100.00 % of 83 operations have a rule" in out
    assert "3 x 224 x 224\n" in out


def test_count_says_at_which_size_it_counted_a_file_that_leaves_it_open(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, "H", "W"])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [picture], [picture])
    graph.output[0].name = "y"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "open.onnx")
    assert "3 x 224 x 224, a size that the file leaves open (--side)" in run(capsys, "count", tmp_path / "open.onnx")[1]
    code, counted = run_json(capsys, "count", tmp_path / "open.onnx", "--side", 10)
    assert code == 0 and counted["inputs"] == [[3, 10, 10]] and counted["elementwise"] == 300
    code, _, error = run(capsys, "count", files[0], "--side", 10)
    assert code == 2 and "its input has a fixed size; leave out --side" in error
    code, _, error = run(capsys, "time", tmp_path / "open.onnx")
    assert code == 2 and "the input is (any, 3, any, any)" in error


def test_tables_never_cut_a_number_or_a_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    _, out, _ = run(capsys, "list", "mobilenet_v4*")
    for text in ("KB float32", "mobilenet_v4_conv_small width=0.5", "186.0", "15096"):
        assert text in out


def test_time_has_a_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("swiftlet.runtime.ceilings.CASE_SECONDS", 0.02)
    code, raced = run_json(capsys, "time", *files, "--seconds", 1, "--runtime", "onnxruntime", "--runtime", "torch")
    assert code == 0
    rows: list[dict[str, object]] = raced["results"]  # type: ignore[assignment]
    assert [(r["file"], r["runtime"], r["threads"]) for r in rows] == [
        (str(f), runtime, 1) for f in files for runtime in ("onnxruntime", "torch")
    ]
    assert all({"p50_ms", "p90_ms", "n", "roofline", "binds", "cosine"} <= set(row) for row in rows)
    assert "faster than" in str(raced["verdict"]) or "cannot tell" in str(raced["verdict"])
    assert {"dropped", "notes", "machine", "load", "ceilings"} <= set(raced)
    code, out, _ = run(capsys, "time", *files, "--seconds", 0.2, "--runtime", "onnxruntime", "--runtime", "null")
    assert code == 0 and "% (compute)" in out and "ceilings  " in out
    assert f"dropped   {files[0]} on null, 1 thread: not timed, because it has cosine 0.0000" in out
    assert (tmp_path / "swiftlet").is_dir()


def test_time_by_layer_and_on_photos(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, files: tuple[Path, Path], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("swiftlet.runtime.ceilings.CASE_SECONDS", 0.02)
    code, out, _ = run(capsys, "time", files[1], "--layers")
    assert code == 0 and "lost ms" in out and "unjoined" not in out
    _, layers = run_json(capsys, "time", files[1], "--layers")
    assert layers["joined_macs"] == layers["macs"] and layers["layers"]
    photos = write_photos(tmp_path / "photos", per_class=2)
    code, out, _ = run(capsys, "time", files[0], "--photos", photos, "--seconds", 1)
    assert code == 0 and "decode" in out and "8 photos" in out
    _, found = run_json(capsys, "time", files[0], "--photos", photos, "--seconds", 1)
    assert found["photos"] == 8 and set(found["stages"]) == {"decode", "resize", "network"}  # type: ignore[call-overload]


def test_check_list_and_doctor(capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", per_class=3)
    code, checked = run_json(capsys, "check", files[0], photos, "--max-kb", 1)
    keys = {"accuracy", "interval", "n", "size_bytes", "p50_ms", "p90_ms", "labels", "parity_max_abs"}
    assert keys <= set(checked)
    assert code == 1 and "size_bytes" in checked["over"] and checked["n"] == 12  # type: ignore[operator]
    code, listed = run_json(capsys, "list", "mobile*v1", "--under", "2MB")
    assert code == 0
    assert {m["name"] for m in listed["models"]} == {"mobilenet_v1"}  # type: ignore[attr-defined]
    assert all(m["size_bytes"] <= 2_000_000 for m in listed["models"])  # type: ignore[attr-defined]
    assert run(capsys, "list", "nothing*")[0] == 1
    code, healthy = run_json(capsys, "doctor")
    assert code == 0 and healthy["ok"] is True


def test_plan_and_fit_on_an_npz_and_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Two classes that differ in brightness, 28 pixels, grey: the whole way in under a minute."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = (rng.integers(0, 90, (400, 28, 28)) + 120 * y[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "light.npz", x=x, y=y)
    code, planned = run_json(capsys, "plan", tmp_path / "light.npz", "--max-kb", 90, "--minutes", 0.5)
    assert code == 0 and planned["shortlist"] and len(planned["planned"]) >= 20  # type: ignore[arg-type]
    arguments = (tmp_path / "light.npz", "--max-kb", 90, "--max-ms", 5, "--minutes", 0.5, "--out", tmp_path / "run")
    code, fitted = run_json(capsys, "fit", *arguments)
    assert code == 0
    keys = {"file", "report", "accuracy", "interval", "accuracy_float", "size_bytes", "p50_ms", "budget_met", "tried"}
    assert keys <= set(fitted)
    assert fitted["accuracy"] == 1.0 and fitted["seconds"] < 60  # type: ignore[operator]
    code, shown = run_json(capsys, "show", tmp_path / "run")
    assert code == 0 and shown["accuracy"] == 1.0
    code, out, _ = run(capsys, "fit", *arguments)  # finished: shown again
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == ["file", "accuracy", "recipe", "latency", "budget", "report", "next"]
    assert run(capsys, *lines[-1].removeprefix("next      swiftlet ").split())[0] == 0  # the next command works


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("fit", "--max-kb", "1", "--out", "OUT"), 1, "it fits --max-kb"),
        (("fit", "/no/such/folder", "--out", "OUT"), 2, "no such folder"),
        (("fit", "--max-ms", "-3", "--out", "OUT"), 2, "must be above 0"),
        (("fit", "--minutes", "0", "--out", "OUT"), 2, "must be above 0"),
        (("fit", "--no-such-flag"), 2, "No such option"),
        (("count", "mobilenet_v3"), 2, "did you mean 'mobilenet_v"),
        (("count", "mobilenet_v2", "-a", "witdh=1"), 2, "no argument 'witdh'"),
        (("count", "mobilenet_v2", "-a", "width"), 2, "NAME=VALUE"),
        (("count", "mobilenet_v2", "-a", 'width="wide"'), 2, "width"),
        (("count", "mobilenet_v2", "-a", "num_classes=0"), 2, "num_classes"),
        (("count", "mobilenet_v2", "--side", "0"), 2, "--side 0 must be 1 or more"),
        (("count", "nowhere.onnx"), 2, "nowhere.onnx: cannot be read"),
        (("list", "--side", "0"), 2, "--side 0 must be 1 or more"),
        (("time", "a.onnx", "--batch", "0"), 2, "batch=0 1 or more"),
        (("time", "a.onnx", "--seconds", "0"), 2, "seconds=0 must be above 0"),
        (("time", "a.onnx", "--layers", "--batch", "0"), 2, "batch=0 must be 1 or more"),
        (("study", "g1", "--quick", "--batch", "0"), 2, "batch=0 1 or more"),
        (("list", "--fits", "2 apples"), 2, "unit"),
        (("check", "/no/such.onnx"), 2, "/no/such.onnx"),
        (("time", "/no/such.onnx"), 2, "/no/such.onnx"),
        (("time", "README.md", "--runtime", "abacus"), 2, "abacus"),
        (("time", "README.md"), 2, "not an ONNX file"),
        (("time", "README.md", "LICENSE"), 2, "nothing is left to time"),
        (("time", "README.md", "LICENSE", "--layers"), 2, "take one file"),
        (("time", "README.md", "--layers", "--runtime", "null"), 2, "no times per layer"),
        (("show", "/tmp"), 2, "holds no run"),
    ],
)
def test_errors_are_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    got, out, err = run(capsys, *(str(tmp_path / "run") if a == "OUT" else a for a in arguments))
    assert got == code, err
    assert text in err and "Traceback" not in err
    assert out == ""


def test_every_verb_has_json_and_fewer_than_ten_flags_beside_it() -> None:
    group = typer.main.get_command(cli.app)
    verbs = group.commands  # type: ignore[attr-defined]
    assert " ".join(sorted(verbs)) == (
        "check count doctor fit fuzz list pack plan shards show shrink study time train unpack"
    )
    for name, verb in verbs.items():
        flags = [p for p in verb.params if p.param_type_name == "option"]
        assert "json_" in {p.name for p in flags}, name
        assert len(flags) - 1 < 10, f"{name} has {len(flags)} flags"
        assert verb.help and all(p.help for p in flags), name
