"""How steps are computed: engines keep their promises to the bit, memory is kept, and the fastest one is found."""

import copy
import dataclasses
import math
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile, BadInput
from swiftlet.train import fastest as race_module
from swiftlet.train import memory
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distill import Teacher
from swiftlet.train.engine import DEFAULT, Engine
from swiftlet.train.fastest import COMPILING, TRIAL, fastest
from swiftlet.train.loop import Pictures, Training
from swiftlet.train.memory import kept_bytes, pieces
from swiftlet.train.metrics import Metrics
from swiftlet.train.optimizers import state_tensors
from swiftlet.train.recipe import Recipe
from swiftlet.zoo import create_model

CONTRACT = InputContract(side=16)
RECIPE = Recipe(name="test", batch=8, lr=0.01)
STEPS = 5
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=CUDA)]


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_model("mobilenet_v1", width=0.1, num_classes=3, stem_stride=1, dropout=0.3)


def training(
    engine: Engine, *, recipe: Recipe = RECIPE, steps: int = STEPS, teacher: Teacher | None = None
) -> Training:
    rng = np.random.default_rng(1)
    pictures = Pictures(rng.integers(0, 256, (20, 20, 20, 3), np.uint8), rng.integers(0, 3, 20))
    return Training(network(), pictures, CONTRACT, recipe, steps=steps, seed=0, engine=engine, teacher=teacher)


def bits(t: Training) -> dict[str, Tensor]:
    state = {**t.model.state_dict(), **{f"optimizer.{k}": v for k, v in state_tensors(t.optimizer, t.model).items()}}
    return {name: v.cpu().clone() for name, v in (state | {f"average.{k}": v for k, v in t.averaged().items()}).items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("change", [{}, {"channels_last": False}, {"bfloat16": True}], ids=str)
def test_an_engine_resumes_to_the_bit_and_no_other_goes_on(change, device, tmp_path):
    engine = Engine(device=device, **change)
    straight, first, second = training(engine), training(engine), training(engine)
    assert straight.run()
    first.run(checkpoints=Checkpoints(tmp_path), should_stop=lambda: first.step == 2)
    assert second.run(checkpoints=Checkpoints(tmp_path)) and second.step == STEPS
    if device == "cpu":  # cuDNN's backward kernels add up in any order
        assert same(bits(second), bits(straight))
    assert all(p.dtype == torch.float32 and p.device.type == device for p in second.model.parameters())
    other = dataclasses.replace(engine, bfloat16=not engine.bfloat16)
    with pytest.raises(BadFile, match="engine="):
        training(other).run(checkpoints=Checkpoints(tmp_path))


def test_engines_differ_in_rounding_and_in_nothing_else():
    found, recipe = [], dataclasses.replace(RECIPE, dropout=0.0)  # its draws go by the layout
    for engine in (DEFAULT, Engine(channels_last=False), Engine(bfloat16=True)):
        t = training(engine, recipe=recipe)
        loss = t.advance()  # later ones drift apart: 8 pictures of 16 pixels are few for BatchNorm
        weights = [m.weight for m in t.model.modules() if isinstance(m, nn.Conv2d) and m.weight.shape[1] > 1]
        assert all(weight.is_contiguous(memory_format=engine.layout) for weight in weights)
        gradient = next(p.grad for p in reversed(list(t.model.parameters())) if p.ndim > 1)
        found.append((loss, gradient))
    (loss, gradient), planes, half = found
    torch.testing.assert_close(planes, (loss, gradient), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(half[0], loss, rtol=0.02, atol=0.02)
    assert half[0] != loss and half[1].dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # of torch.compile's own parts
def test_a_compiled_engine_takes_the_same_steps():
    pictures = Pictures(np.random.default_rng(1).integers(0, 256, (20, 8, 8, 3), np.uint8), np.arange(20) % 2)
    twin = Small()
    plain, compiled = (
        Training(model, pictures, InputContract(side=8), RECIPE, steps=STEPS, seed=0, engine=engine)
        for model, engine in ((twin, DEFAULT), (copy.deepcopy(twin), Engine(compiled=True)))
    )
    assert plain.run() and compiled.run() and compiled.network is not compiled.model
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-4)
    assert bits(compiled).keys() == bits(plain).keys()


def test_what_an_engine_cannot_be_is_refused():
    for wrong, message in (({"device": "tpu"}, "device='tpu'"), ({"threads": 0}, "threads=0")):
        with pytest.raises(BadInput, match=message):
            Engine(**wrong)
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="no NVIDIA GPU"):
            Engine(device="cuda")
    with pytest.raises(BadInput, match="compiled"):
        training(Engine(compiled=True), teacher=Teacher(network(1), CONTRACT))
    assert Engine(**Engine(threads=2, bfloat16=True).to_json()) == Engine(threads=2, bfloat16=True)
    assert str(Engine(threads=2, bfloat16=True)) == "cpu, bfloat16 channels-last, 2 threads"


def test_a_layout_in_which_onednn_writes_beyond_its_buffer_is_not_taken(monkeypatch):
    """On AVX2 alone: a 1x1 convolution with a stride and less than 8 input channels. Here such a network trains."""
    few, enough = create_model("resnet18", width=1 / 16, num_classes=3), create_model("resnet18", width=1 / 8)
    for flags, few_last in ((("avx2",), False), (("avx2", "avx512f"), True), (("asimd",), True)):
        monkeypatch.setattr("swiftlet.train.engine.machine", lambda flags=flags: SimpleNamespace(flags=flags))
        assert DEFAULT.safe_for(few).channels_last == few_last and DEFAULT.safe_for(enough) == DEFAULT
    assert DEFAULT.safe_for(network()) == DEFAULT and Engine(channels_last=False).safe_for(few).channels_last is False
    monkeypatch.undo()
    rng = np.random.default_rng(1)
    pictures = Pictures(rng.integers(0, 256, (32, 32, 32, 3), np.uint8), rng.integers(0, 3, 32))
    t = Training(few, pictures, InputContract(side=32), RECIPE, steps=3, seed=0)
    assert t.run() and math.isfinite(t.loss)


def test_threads_are_set_for_the_run_and_put_back():
    before, seen = torch.get_num_threads(), []
    t = training(Engine(threads=before + 1), steps=1)
    t.run(progress=lambda *_: seen.append(torch.get_num_threads()))
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_kept_memory_is_not_cleared_by_the_system_again():
    code = """
import resource, torch
from swiftlet.train.engine import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for megabytes in (48, 64, 80, 64):
        torch.empty(megabytes << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outside = [faults() for _ in range(4)][-1]
with kept_memory():
    inside = [faults() for _ in range(4)][-1]
print(outside, inside, faults())
"""
    # in a process of its own: what was allocated before decides, too
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    outside, inside, after = map(int, done.stdout.split())
    assert 10 * inside < outside and 10 * inside < after


def test_losses_of_a_gpu_are_read_in_turns_and_logged_the_same(tmp_path, monkeypatch):
    logs = []
    for every in (1, 3, 10):
        monkeypatch.setattr(Engine, "read_every", property(lambda self, every=every: every))
        path, shown = tmp_path / f"{every}.jsonl", []
        t = training(DEFAULT, steps=7)
        t.run(metrics=Metrics(path, every=2), progress=lambda step, steps, loss: shown.append((step, loss)))  # noqa: B023
        logs.append(path.read_text())
        assert [step for step, _ in shown] == list(range(1, 8)) and not np.isnan([loss for _, loss in shown]).any()
        assert len({loss for _, loss in shown}) == {1: 7, 3: 4, 10: 2}[every]  # the first, then when read
    assert logs[0].count("\n") == 4 and logs[0] == logs[1] == logs[2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_the_fastest_must_be_faster_surely(monkeypatch):
    """Times by engine; nothing is computed in them."""
    drawn = np.random.default_rng(0)
    times = {}

    def step_seconds(t: Training) -> float:
        engine = t.engine
        threads = "half" if engine.threads == 1 else ""
        key = f"{'compiled ' * engine.compiled}{engine.format}{' planes' * (not engine.channels_last)}{threads}"
        return times.get(key, 1.0) * float(drawn.uniform(0.99, 1.01))

    monkeypatch.setattr(race_module, "_step_seconds", step_seconds)
    monkeypatch.setattr(race_module, "no_bfloat16", lambda: None)
    monkeypatch.setattr(race_module.TorchCompiled, "missing", lambda self: None)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    model = network()

    def found(steps: int = 0, **given: float) -> Engine:
        times.clear()
        times.update({name.replace("_", " "): seconds for name, seconds in given.items()})
        return fastest(model, RECIPE, 16, seconds=0.01, steps=steps)

    assert found() == DEFAULT
    assert found(bfloat16=0.97) == DEFAULT  # surely faster, but not worth other bits
    assert found(bfloat16=0.8) == Engine(bfloat16=True)
    assert found(bfloat16=0.8, float32_planes=0.5) == Engine(channels_last=False)
    assert found(float32half=0.9) == Engine(threads=1)
    enough = int(COMPILING / TRIAL) + 100  # of a second each
    assert found(steps=enough - 200, compiled_float32=0.5) == DEFAULT
    assert found(steps=enough, compiled_float32=0.5) == Engine(compiled=True)


def test_it_finds_one_for_real_and_leaves_the_model_as_it_was():
    model = network()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    engine = fastest(model, RECIPE, 16, seconds=0.1)
    assert engine.device == "cpu" and not engine.compiled
    assert same(model.state_dict(), before)


class Small(nn.Module):
    """Kept for the backward pass of each picture of 8 pixels: its input, two maps and the features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return logits


def test_kept_bytes_are_those_that_autograd_keeps():
    maps, statistics = 4 * 64 * 4, 2 * 4 * 4 // 2  # float32; BatchNorm's mean and deviation of the two pictures
    assert kept_bytes(Small(), 8, DEFAULT) == 3 * 64 * 4 + 2 * maps + statistics + 4 * 4


@pytest.mark.parametrize(
    ("batch", "room", "expected"), [(64, 64, 1), (64, 63, 2), (64, 16, 4), (12, 5, 3), (64, 2, 32)]
)
def test_a_batch_is_cut_into_the_fewest_equal_pieces_that_fit(batch, room, expected, monkeypatch):
    each = kept_bytes(Small(), 8, DEFAULT) * memory.WORKING
    monkeypatch.setattr(memory, "available_memory", lambda: int(room * each / memory.SHARE) + 1)
    recipe = dataclasses.replace(RECIPE, batch=batch)
    assert pieces(Small(), recipe, 8, DEFAULT) == expected
    assert batch % expected == 0


def test_a_picture_that_does_not_fit_is_said_before_the_start(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(BadInput, match=r"2 pictures of side 8 does not fit .*0\.00 GB are available.*smaller side"):
        pieces(Small(), RECIPE, 8, DEFAULT)
    monkeypatch.setattr(memory, "available_memory", lambda: None)  # a system that does not tell
    assert pieces(Small(), RECIPE, 8, DEFAULT) == 1


@CUDA
def test_on_a_gpu_a_step_is_tried(monkeypatch):
    tried = []

    def advance(self: Training) -> Tensor:
        tried.append(len(self.pictures.labels))
        if tried[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(())

    monkeypatch.setattr(Training, "advance", advance)
    assert pieces(network(), RECIPE, 16, Engine(device="cuda")) == 4 and tried == [8, 4, 2]


@CUDA
def test_the_step_of_a_gpu_never_waits(tmp_path: Path):
    t = training(Engine(device="cuda", bfloat16=True), recipe=dataclasses.replace(RECIPE, mixup=0.2, erasing=0.5))
    for _ in range(2):
        t.advance()
    torch.cuda.set_sync_debug_mode("error")
    try:
        t.advance()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(t.advance())
