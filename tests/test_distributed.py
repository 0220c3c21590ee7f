"""Several processes on this machine train what one would: the same order, the same sums, and no silent wait."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from swiftlet.data.contract import InputContract
from swiftlet.data.photos import load_photos
from swiftlet.errors import BadInput
from swiftlet.train.checkpoint import Checkpoints
from swiftlet.train.distributed import Ranks, joined
from swiftlet.train.loop import accuracy
from swiftlet.zoo import create_model

ROOT = Path(__file__).parent.parent


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def start(world: int, folder: Path, jobs: dict[str, Any], **asked: Any) -> list[subprocess.Popen[str]]:
    """`world` processes of ranks.py, as torchrun would start them."""
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps({"out": str(folder), "jobs": jobs} | asked))
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        subprocess.Popen(
            [sys.executable, ranks.__file__, folder / "settings.json"],
            env=os.environ | shared | {"RANK": str(r), "LOCAL_RANK": str(r), "PYTHONPATH": str(ROOT)},
            text=True,
            stderr=subprocess.PIPE,
        )
        for r in range(world)
    ]


def train(world: int, folder: Path) -> list[dict[str, dict[str, Tensor]]]:
    """Of every rank: job -> all that it had in the end."""
    for process in start(world, folder, JOBS):
        _, told = process.communicate(timeout=240)
        assert process.returncode == 2, told
    found = [load_file(folder / f"{r}.safetensors") for r in range(world)]
    return [
        {j: {k.partition(".")[2]: v for k, v in each.items() if k.split(".")[0] == j} for j in JOBS} for each in found
    ]


JOBS = {
    "plain": {"network": "plain"},
    "plain_stopped": {"network": "plain", "stop": 2},
    "plain_accumulated": {"network": "plain", "accumulate": 2},
    "plain_bf16": {"network": "plain", "compress": "bf16"},
    "plain_powersgd": {"network": "plain", "compress": "powersgd"},
    "mobile": {"network": "mobile"},
    "mobile_stopped": {"network": "mobile", "stop": 3},
}


def alone(**changed: Any) -> dict[str, Tensor]:
    t = ranks.training(ranks.plain(), **changed)
    t.run()
    return t.state()[0]


def farthest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest difference of any number."""
    assert a.keys() == b.keys()
    return max(float((a[key].double() - b[key].double()).abs().max()) for key in a)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 2, 4]), st.integers(0, 3))
@settings(deadline=None, max_examples=200)
def test_any_number_of_ranks_shows_the_same_pictures_in_the_same_order(n, per_part, accumulate, world, seed):
    """Every picture once an epoch, but for what does not fill a batch, and no rank has a step more than another."""
    recipe = ranks.replace(ranks.RECIPE, batch=per_part * accumulate * world, mixup=0.0)
    if min(recipe.batch, n) % (world * accumulate):
        with pytest.raises(BadInput, match="does not divide"):
            ranks.training(torch.nn.Linear(1, 1), recipe=recipe, n=n, accumulate=accumulate * world)
        return
    t = ranks.training(torch.nn.Linear(1, 1), recipe=recipe, n=n, accumulate=accumulate)
    shown: list[int] = []
    for step in range(t.per_epoch):
        t.step = step
        _, order = t._order()
        parts = [order[Ranks(rank, world).part(len(order))] for rank in range(world)]
        assert len({len(part) for part in parts}) == 1
        assert np.concatenate(parts).tolist() == order.tolist()
        shown += order.tolist()
    assert len(set(shown)) == len(shown) == n - n % min(recipe.batch, n)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def trained(request, tmp_path_factory) -> tuple[Path, list[dict[str, dict[str, Tensor]]]]:
    folder = tmp_path_factory.mktemp(f"world{request.param}")
    return folder, train(request.param, folder)


def test_ranks_train_what_one_process_does(trained):
    """Five steps without BatchNorm: weights, average and momentum, which is a sum of gradients."""
    first = trained[1][0]
    assert farthest(first["plain"], alone()) < 1e-6
    assert farthest(first["plain_accumulated"], alone()) < 1e-6
    untrained = ranks.training(ranks.plain()).state()[0]
    assert farthest({k: first["plain"][k] for k in untrained}, untrained) > 1e-3


def test_all_ranks_hold_the_same(trained):
    """But for BatchNorm's statistics, which are each rank's own; rank 0's are delivered."""
    for job in JOBS:
        for other in trained[1][1:]:
            first, other = (
                {k: v for k, v in rank[job].items() if "running" not in k} for rank in (trained[1][0], other)
            )
            assert same(first, other), job


def test_one_rank_asked_to_stop_stops_all_and_they_end_in_the_same_bits(trained):
    folder, (first, *_) = trained
    assert same(first["plain_stopped"], first["plain"]) and same(first["mobile_stopped"], first["mobile"])
    steps = [path.name for path in sorted((folder / "mobile_stopped").glob("step-*"))]
    assert steps == ["step-00000003-1", "step-00000005-2"]


def test_compressed_gradients_are_near(trained):
    first = trained[1][0]
    assert 1e-7 < farthest(first["plain_bf16"], first["plain"]) < 2e-3
    assert 1e-7 < farthest(first["plain_powersgd"], first["plain"]) < 5e-2


def test_ranks_that_were_started_differently_are_told(trained):
    folder, found = trained
    for r in range(len(found)):
        assert (folder / f"{r}.txt").read_text() == "BadInput: rank 1 has seed = 1, rank 0 has 0"


def test_accumulated_parts_add_up_to_the_batch():
    assert 0 < farthest(alone(accumulate=4), alone()) < 1e-6


@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("SIGSTOP", marks=pytest.mark.slow)])
def test_a_killed_or_frozen_rank_is_named_in_time(how, tmp_path):
    began = time.monotonic()
    survivor, victim = start(2, tmp_path, {"plain": JOBS["plain"]}, victim=how, step=3, timeout=4.0)
    try:
        _, told = survivor.communicate(timeout=60)
    finally:
        victim.kill()
        victim.communicate()
    assert survivor.returncode == 2, told
    found = (tmp_path / "0.txt").read_text()
    assert found.startswith("WorkerLost: rank 0, step 3: no answer from rank 1 (")
    assert not (tmp_path / "0.safetensors").exists() and time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("variables", "fault"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK, MASTER_ADDR, MASTER_PORT: not set"),
        ({"RANK": "two", "WORLD_SIZE": "2"}, "whole numbers"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "cannot be"),
    ],
)
def test_an_environment_that_torchrun_did_not_make(variables, fault, monkeypatch):
    if "whole" in fault or "cannot" in fault:
        variables = variables | {"LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=fault), joined():
        pass


def test_pairs_that_mixup_mixes_are_not_torn_apart():
    with pytest.raises(
        BadInput, match="a batch of 16 pictures does not divide by 1 processes x 16 parts of whole pairs"
    ):
        alone(accumulate=16)
    ranks.training(ranks.plain(), accumulate=16, recipe=ranks.replace(ranks.RECIPE, mixup=0.0))


def test_options_for_several_processes_are_refused_in_one():
    for options, fault in (
        ({"compress": "bf16"}, "torchrun"),
        ({"sync_bn": True}, "torchrun"),
        ({"compress": "zip"}, "zip"),
    ):
        with pytest.raises(BadInput, match=fault), joined(**options):
            pass


NETWORK = ["--model", "mobilenet_v1", "-a", "width=0.0625", "-a", "stem_stride=1", "--side", "16", "--epochs", "45"]


def torchrun(out: Path, *where: str, before: tuple[str, ...] = (), **variables: str) -> subprocess.Popen[bytes]:
    """The agent of one host, which starts the worker again once; what it says goes to OUT.log."""
    agent = [*before, sys.executable, "-m", "torch.distributed.run", "--max-restarts", "1", "--monitor-interval", "0.1"]
    command = [*agent, *where, "-m", "swiftlet", "train", "--out", str(out), *NETWORK]
    with out.with_suffix(".log").open("ab") as file:
        place = os.environ | {"PYTHONPATH": str(ROOT)} | variables
        return subprocess.Popen(command, stdout=file, stderr=file, env=place)


def kill_rank_1_once_it_was_saved(out: Path, agent: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not list((out / "checkpoints").glob("step-*")):
        assert time.monotonic() < end and agent.poll() is None, out.with_suffix(".log").read_text()
        time.sleep(0.1)
    for child in Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split():
        if "RANK=1" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            os.kill(int(child), signal.SIGKILL)
            return
    raise AssertionError("torchrun has no worker of rank 1")


FILES = ("model.onnx", "model.safetensors", "metrics.jsonl")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing happens to."""
    out = tmp_path_factory.mktemp("straight") / "run"
    agent = torchrun(out, "--nproc-per-node", "2", "--master-port", free_port())
    assert agent.wait(240) == 0, out.with_suffix(".log").read_text()
    return out


@pytest.mark.slow
def test_torchrun_goes_on_after_a_kill_and_delivers_the_same_files(straight, tmp_path):
    out = tmp_path / "run"
    agent = torchrun(out, "--nproc-per-node", "2", "--master-port", free_port())
    kill_rank_1_once_it_was_saved(out, agent)
    log = out.with_suffix(".log")
    assert agent.wait(240) == 0, log.read_text()
    assert "no answer from rank 1" in log.read_text()
    for name in FILES:
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name


@pytest.mark.slow
def test_the_accuracy_that_all_ranks_measure_together_is_that_of_the_averaged_network(straight):
    found = Checkpoints(straight / "checkpoints").latest()
    assert found is not None and json.loads((straight / "stages" / "result.json").read_text())["processes"] == 2
    photos = load_photos(None)
    model = create_model("mobilenet_v1", width=0.0625, stem_stride=1, num_classes=len(photos.classes))
    model.load_state_dict({k.removeprefix("average."): v for k, v in found[0].items() if k.startswith("average.")})
    contract = InputContract(side=16)
    right = accuracy(model, photos.val.pixels(contract), photos.val.labels, contract)
    last = json.loads((straight / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["validation_accuracy"] == pytest.approx(right, abs=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2")
def test_two_hosts_with_networks_of_their_own_deliver_the_same_files(straight, tmp_path):
    """In namespaces; the worker of the second host is killed, and both agents start theirs again."""
    from benchmarks import wire

    out = tmp_path / "run"
    with wire.hosts():
        agents = [
            torchrun(
                out,
                *("--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"),
                *("--master-addr", wire.ADDRESSES[0], "--master-port", "29500"),
                before=("ip", "netns", "exec", name),
                GLOO_SOCKET_IFNAME=name,
            )
            for rank, name in enumerate(wire.NAMES)
        ]
        kill_rank_1_once_it_was_saved(out, agents[1])
        assert [agent.wait(240) for agent in agents] == [0, 0], out.with_suffix(".log").read_text()
    assert "no answer from rank 1" in out.with_suffix(".log").read_text()
    for name in FILES:
        assert (out / name).read_bytes() == (straight / name).read_bytes(), name
