"""swiftlet pack, unpack and fuzz: files in, files out, exit codes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from onnx_graphs import quantized_net
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from swiftlet.cli import measure, pack
from swiftlet.compress.fold import fold_batchnorm
from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.export.onnx import export_onnx
from swiftlet.pack import fuzz
from swiftlet.zoo import create_model

app = typer.Typer()
for verb in (pack.pack, pack.unpack, pack.fuzz, measure.check, measure.count):
    app.command()(verb)
app.command("time")(measure.time_)


def run(*arguments: object) -> str:
    """Standard output; errors are raised as swiftlet's `main` would see them, an exit code not 0 as SystemExit."""
    done = CliRunner().invoke(app, list(map(str, arguments)), standalone_mode=False)
    if done.exception:
        raise done.exception
    if done.return_value:
        raise SystemExit(done.return_value)
    return done.stdout


def test_an_onnx_file_there_and_back(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(quantized_net())
    told = json.loads(run("pack", file, "--json"))
    assert told["packed_bytes"] == (tmp_path / "model.swl").stat().st_size and told["bytes"] == len(quantized_net())
    assert "times smaller" in run("pack", file)
    assert json.loads(run("unpack", tmp_path / "model.swl", "--json"))["bytes"] == told["bytes"]
    assert "swiftlet check" in run("unpack", tmp_path / "model.swl", "--out", tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == quantized_net()


def test_verbs_take_a_container_in_the_place_of_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_model("mobilenet_v1", width=0.0625, num_classes=4).eval()
    plain, packed = tmp_path / "model.onnx", tmp_path / "model.swl"
    plain.write_bytes(export_onnx(fold_batchnorm(network)[0], InputContract(side=32)))
    assert f"swiftlet check {packed}" in run("pack", plain)
    sizes = {file: file.stat().st_size for file in (plain, packed)}
    assert sizes[packed] < sizes[plain]

    of_file, of_container = (json.loads(run("count", file, "--json")) for file in (plain, packed))
    assert of_container == of_file | {"model": str(packed), "file_bytes": sizes[packed]}
    assert f"{sizes[plain]:,} bytes, {sizes[packed]:,} in its container" in run("count", packed)
    assert "container" not in run("count", plain)

    found = json.loads(run("check", packed, "--json"))
    assert (found["size_bytes"], found["file_bytes"]) == (sizes[plain], sizes[packed])
    assert found["cost"]["macs"] == of_file["macs"]
    assert f"{sizes[packed]:,} bytes, unpacked {sizes[plain]:,} bytes" in run("check", packed)

    raced = json.loads(run("time", plain, packed, "--seconds", 0.2, "--json"))
    assert [row["file"] for row in raced["results"]] == [str(plain), str(packed)] and not raced["dropped"]

    plain.unlink()
    packed.write_bytes(packed.read_bytes()[:-1])
    for verb in ("count", "check", "time"):
        with pytest.raises(BadFile, match=r"model\.swl ends early; download it again \(short at byte"):
            run(verb, packed)
    with pytest.raises(BadFile, match="cannot be read"):
        run("count", tmp_path / "absent.swl")


def test_tensors_there_and_back(tmp_path: Path) -> None:
    tensors = {"a": np.arange(300, dtype=np.float32), "b": np.zeros((3, 0), np.int8)}
    save_file(tensors, tmp_path / "w.safetensors", {"network": "lenet5"})
    run("pack", tmp_path / "w.safetensors")
    run("unpack", tmp_path / "w.swl", "--out", tmp_path / "again.safetensors")
    found = load_file(tmp_path / "again.safetensors")
    assert all(np.array_equal(found[name], array) for name, array in tensors.items())
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(quantized_net())
    run("pack", file)
    file.write_bytes(b"trained further")
    with pytest.raises(BadInput, match="differs"):
        run("unpack", tmp_path / "model.swl")
    assert file.read_bytes() == b"trained further"
    with pytest.raises(BadInput, match="is the input"):
        run("pack", file, "--out", file)


def test_bad_files_are_named(tmp_path: Path) -> None:
    for name, content, reason in (
        ("a.txt", b"", "neither"), ("a.onnx", b"text", "ONNX file"), ("a.safetensors", b"text", "a.safetensors"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises((BadInput, BadFile), match=reason):
            run("pack", tmp_path / name)
    (tmp_path / "a.swl").write_bytes(b"text")
    with pytest.raises(BadFile, match=r"a\.swl is not a swiftlet container of version 1 or 2 \(magic at byte 0\)"):
        run("unpack", tmp_path / "a.swl")
    with pytest.raises(BadFile, match="cannot be read"):
        run("fuzz", tmp_path / "absent.swl")


def test_fuzz_says_what_became_of_the_mutants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_bytes(quantized_net())
    run("pack", tmp_path / "model.onnx")
    told = json.loads(run("fuzz", tmp_path / "model.swl", "--n", 300, "--json"))
    assert told["faults"] == [] and told["accepted"] + sum(told["refused"].values()) == told["mutants"] == 300
    assert "header-digest" in run("fuzz", tmp_path / "model.swl", "--n", 50)
    with pytest.raises(BadInput, match="1 or more"):
        run("fuzz", tmp_path / "model.swl", "--n", 0)
    calls = iter(range(1000))
    monkeypatch.setattr(fuzz, "unpack", lambda data: None if next(calls) == 0 else 1 / 0)
    with pytest.raises(SystemExit, match="1"):
        run("fuzz", tmp_path / "model.swl", "--n", 5)
