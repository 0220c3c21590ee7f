"""The main job: from a photo folder to a checked file, whatever happens on the way."""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from needs import missing
from PIL import Image
from toy import COLOURS, fixed_plan, write_photos

from swiftlet.budget import Budget
from swiftlet.check import check
from swiftlet.errors import BadInput, BadPhotos, Infeasible, RunBusy
from swiftlet.export.artifact import read_artifact
from swiftlet.files import write_json
from swiftlet.fitting import Result, fit
from swiftlet.run import Run

BUDGET = Budget(latency_ms=50, size_bytes=100_000, runtime="onnxruntime")
FLAGS = ["--max-ms", "50", "--max-kb", "100", "--minutes", "5"]


def digest(file: Path | str) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "colours")


@pytest.fixture(scope="module")
def done(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """One undisturbed run, which the others are compared with."""
    out = tmp_path_factory.mktemp("runs") / "undisturbed"
    return fit(photos, BUDGET, minutes=5, out=out, plan=fixed_plan())


def test_the_file_is_what_the_result_says(done: Result, photos: Path) -> None:
    file = Path(done.file)
    run = file.parent
    assert done.budget_met and not done.over and not done.interrupted and done.split == "test"
    assert done.size_bytes == file.stat().st_size < 100_000
    assert done.accuracy > 0.8
    assert done.interval[0] < done.accuracy <= done.interval[1]
    model = onnx.load(file)
    onnx.checker.check_model(model, full_check=True)
    artifact = read_artifact(model)
    assert artifact is not None
    assert artifact.labels == tuple(COLOURS)
    assert (artifact.accuracy, artifact.n, artifact.split) == (done.accuracy, done.n, "test")
    assert "latency_ms" not in model.metadata_props[0].value  # belongs to a machine, not to the file
    manifest = json.loads((run / "model.json").read_text())
    assert manifest["sha256"] == digest(file)
    assert manifest["cost"]["latency_ms"] == done.p50_ms
    assert json.loads((run / "test-opened.json").read_text())["photos"] == done.n
    assert sum(row["delivered"] for row in done.tried) == 1


def test_check_finds_the_same_figures_from_the_file_alone(done: Result, photos: Path, tmp_path: Path) -> None:
    """The test photos, put into a folder: the same accuracy, and parity with the scores that the file carries."""
    from swiftlet.data.photos import load_photos

    test = load_photos(photos).test.open("any", tmp_path / "ledger.json")
    for i, key in enumerate(test.keys):
        target = tmp_path / "photos" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        test.image(i).save(target)
    found = check(Path(done.file), tmp_path / "photos", seconds=0.2)
    assert (found.accuracy, found.n, found.interval) == (done.accuracy, done.n, done.interval)
    assert found.parity_ok and found.parity_max_abs is not None and found.parity_max_abs < 1e-6
    assert found.labels == tuple(COLOURS)


def test_golden_pictures_lie_beside_the_file(done: Result) -> None:
    from swiftlet.check import load_classifier
    from swiftlet.export.golden import _digest

    folder = Path(done.file).parent / "golden"
    record = json.loads((folder / "golden.json").read_text())
    classifier = load_classifier(Path(done.file))
    pixels = [classifier.contract.pixels(Image.open(folder / f"{name}.png")) for name in record["pictures"]]
    assert [_digest(p) for p in pixels] == record["pixels_sha256"]
    np.testing.assert_allclose(classifier.scores(np.stack(pixels)), record["scores"], atol=1e-6)


def test_the_same_command_again_only_shows_the_result(done: Result, photos: Path) -> None:
    before = digest(done.file)
    assert fit(photos, BUDGET, minutes=5, out=Path(done.file).parent) == done
    assert digest(done.file) == before
    with pytest.raises(BadInput, match="size_bytes"):
        fit(photos, Budget(size_bytes=50_000), minutes=5, out=Path(done.file).parent)


def test_corrupt_files_change_nothing_but_the_report(done: Result, photos: Path, tmp_path: Path) -> None:
    """5 % of the files are broken in five ways: the delivered file is byte for byte that of the cleaned folder."""
    dirty = write_photos(tmp_path / "colours")
    good = (dirty / "red" / "000.png").read_bytes()
    (dirty / "red" / "truncated.png").write_bytes(good[: len(good) // 2])
    (dirty / "red" / "empty.png").write_bytes(b"")
    (dirty / "blue" / "text.jpg").write_text("this is no photo")
    (dirty / "blue" / "notes.txt").write_text("neither is this")
    (dirty / "green" / "link.png").symlink_to(dirty / "red" / "000.png")
    (dirty / "green" / "png-named.jpg").write_bytes(good)
    result = fit(dirty, BUDGET, minutes=5, out=tmp_path / "run", plan=fixed_plan())
    assert digest(result.file) == digest(done.file)
    page = Path(result.report).read_text()
    for name in ("truncated.png", "empty.png", "text.jpg", "notes.txt", "link.png", "png-named.jpg"):
        assert name in page


def test_ctrl_c_delivers_the_best_so_far_and_the_same_command_goes_on(photos: Path, tmp_path: Path) -> None:
    out, plan = tmp_path / "run", tmp_path / "plan.json"
    write_json(plan, fixed_plan(steps=(20, 4000)).to_json())
    process = start(photos, out, plan)
    wait_for(process, lambda: any((out / "train").glob("*round2.part*")) or training_second_round(out))
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    interim = json.loads(stdout)
    assert interim["interrupted"] and interim["split"] == "validation"
    assert (out / "model.onnx").exists() and (out / "report.html").exists()
    assert not (out / "test-opened.json").exists()
    result = fit(photos, BUDGET, minutes=0.01, out=out)  # no more time: what there is, is delivered
    assert not result.interrupted and result.split == "test"
    assert (out / "test-opened.json").exists()


def training_second_round(out: Path) -> bool:
    return len(list((out / "stages").glob("*round1.json"))) == 2


def test_one_owner(photos: Path, tmp_path: Path) -> None:
    with Run(tmp_path / "run"):
        started = time.monotonic()
        process = start(photos, tmp_path / "run", None)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        assert "another swiftlet is at work there" in stderr and "error" in json.loads(stdout)
        assert time.monotonic() - started < 60
    with Run(tmp_path / "run"), pytest.raises(RunBusy):
        fit(photos, BUDGET, out=tmp_path / "run")


@pytest.mark.slow
def test_killed_at_twenty_random_moments_it_ends_with_the_same_file(done: Result, photos: Path, tmp_path: Path) -> None:
    out, plan = tmp_path / "run", tmp_path / "plan.json"
    write_json(plan, fixed_plan().to_json())
    rng = random.Random(0)
    kills = 0
    while kills < 20:
        process = start(photos, out, plan)
        try:
            process.communicate(timeout=rng.uniform(2.0, 7.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        assert digest(out / "model.onnx") == digest(done.file)
        for path in sorted(out.rglob("*"), reverse=True):  # finished before the kill: begin anew
            path.rmdir() if path.is_dir() else path.unlink()
    process = start(photos, out, plan)
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["accuracy"] == done.accuracy
    assert digest(out / "model.onnx") == digest(done.file)
    assert not list(out.rglob("*.tmp")) and not list(out.rglob("*.part*"))


def test_a_full_disk_is_one_clear_error_and_loses_nothing(done: Result, photos: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        missing(f"a small tmpfs cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        plan = tmp_path / "plan.json"
        write_json(plan, fixed_plan().to_json())
        process = start(photos, disk / "run", plan)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 2, stderr
        assert "No space left on device" in stderr and "Traceback" not in stderr
        assert not list(disk.rglob("*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        stdout, stderr = start(photos, disk / "run", plan).communicate(timeout=120)
        assert json.loads(stdout)["accuracy"] == done.accuracy, stderr
        assert digest(disk / "run" / "model.onnx") == digest(done.file)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_photos_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(BadPhotos, match="no such folder"):
        fit(tmp_path / "nowhere", out=tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadPhotos):
        fit(tmp_path / "empty", out=tmp_path / "run")
    one = write_photos(tmp_path / "one")
    for label in list(COLOURS)[1:]:
        for file in (one / label).iterdir():
            file.unlink()
        (one / label).rmdir()
    with pytest.raises(BadPhotos, match=re.compile("class", re.I)):
        fit(one, out=tmp_path / "run")
    with pytest.raises(Infeasible, match="--max-kb"):
        fit(write_photos(tmp_path / "fine"), Budget(size_bytes=1000), out=tmp_path / "run")


def start(photos: Path, out: Path, plan: Path | None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "swiftlet", "fit", str(photos), *FLAGS, "--out", str(out), "--json"]
    command += [] if plan is None else ["--plan", str(plan)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONWARNINGS": "error"}
    )


def wait_for(process: subprocess.Popen[str], condition: object) -> None:
    for _ in range(600):
        if condition():  # type: ignore[operator]
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    pytest.fail("the run did not get that far in a minute")
