"""On an NVIDIA GPU: the right numbers, times by its own clock, ceilings and training steps. Skipped without one."""

from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
import torch
from torch import nn

from swiftlet.data.contract import InputContract
from swiftlet.errors import BadFile
from swiftlet.export.untrained import untrained_files
from swiftlet.runtime import get_runtime
from swiftlet.runtime.ceilings import MEASURED, ceilings
from swiftlet.runtime.liven import livened
from swiftlet.runtime.machine import machine
from swiftlet.runtime.race import Contestant, race
from swiftlet.study.bench import Bench, Case, Timing, TrainStep
from swiftlet.timing import time_files
from swiftlet.zoo import create_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
NAMES = ("torch-cuda", "torch-cuda-graph")
PHOTOS = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def file() -> bytes:
    torch.manual_seed(0)
    model = livened(create_model("shufflenet_v2", width=0.5, num_classes=10), (3, 64, 64))
    return untrained_files(model, InputContract(side=64))["float32"]


@pytest.mark.parametrize("name", NAMES)
def test_any_batch_gives_the_cpus_scores_whatever_ran_before(name: str, file: bytes) -> None:
    program, expected = get_runtime(name).load(file, 1), get_runtime("onnxruntime").load(file, 1).run(PHOTOS)[0]
    for batch in (slice(0, 8), slice(0, 1), slice(3, 4), slice(0, 8), slice(2, 5)):
        np.testing.assert_allclose(program.run(PHOTOS[batch])[0], expected[batch], rtol=1e-4, atol=1e-5)
        assert program.nanoseconds(PHOTOS[batch], perf_counter_ns) > 1000
    program.close()
    with pytest.raises(BadFile, match="closed"):
        program.run(PHOTOS)


def test_a_graph_is_launched_faster_than_its_kernels_one_by_one(file: bytes) -> None:
    contestants = [Contestant(name, get_runtime(name).load(file, 1), name, 1) for name in NAMES]
    eager, graph = race(contestants, seconds=0.5)
    assert 0 < 2 * graph.p50_ms < eager.p50_ms  # 60 kernels, a few microseconds each, and Python between them


def test_the_clock_of_the_gpu_sees_ten_times_the_work() -> None:
    one, ten = (nn.Sequential(*[nn.Conv2d(128, 128, 3, padding=1) for _ in range(n)]) for n in (1, 10))
    cases = [Case("one", one, (128, 56, 56)), Case("ten", ten, (128, 56, 56))]
    times = Bench(runtimes=("torch-cuda-graph",), batch=8, seconds=0.1).times(cases, train=True)
    for step in ("forward", "train"):
        ms = [times[Timing(label, "torch-cuda-graph", step)].p50_ms for label in ("one", "ten")]
        assert 5 < ms[1] / ms[0] < 15


def test_a_training_step_leaves_the_gradients_of_the_cpu() -> None:
    torch.manual_seed(0)
    case = Case("net", nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), (3, 16, 16))
    image = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)
    found = []
    for runtime in ("torch", *NAMES):
        step = TrainStep(case, 1, runtime)
        for _ in range(2):
            step.run(image)
        found.append([p.grad.cpu().numpy() for p in step._module.parameters() if p.grad is not None])
    assert len(found[0]) == 4
    for gradients in found[1:]:
        for ours, expected in zip(gradients, found[0], strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-3)


def test_its_ceilings_are_its_own(tmp_path: Path) -> None:
    gpu = ceilings(gpu=True, folder=tmp_path)
    assert gpu.threads == 0 and all(getattr(gpu, name) > 100 for name in MEASURED)
    assert gpu.bfloat16 > 2 * gpu.float32 and gpu.cache_gbs > gpu.memory_gbs  # TF32 would be nearer
    assert ceilings(gpu=True, folder=tmp_path) == gpu and torch.cuda.get_device_name() in str(machine())


def test_time_holds_it_against_them(file: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(file)
    found = time_files([path], [*NAMES, "onnxruntime"], [1], batch=8, seconds=0.5)
    assert not found.dropped and set(found.ceilings) == {0, 1}
    assert all(row.bound is not None and 0 < (row.roofline or 0) < 1 for row in found.rows)
    assert any("own clock" in note for note in found.notes)
