"""What light networks save on the wire: a training step of two "hosts" over a link of 10 G, 1 G and 100 Mbit/s.

Each host is a process on one core in a network namespace of its own; a pair of virtual Ethernet ends joins them, and a
token bucket (tc tbf) at each end limits it. It adds no delay: the kernel here has no netem. Needs root and iproute2.
Bytes are those that the interface counts. About half an hour, most of it VGG-16 at 100 Mbit/s.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.ledger import record
from swiftlet.cost.count import count_model
from swiftlet.train.distributed import Compress, Ranks, joined
from swiftlet.zoo import create_model

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "SqueezeNet 1.1": ("squeezenet1_1", {}),
    "MobileNet V2 0.35": ("mobilenet_v2", {"width": 0.35}),
    "MobileNet V2 1.0": ("mobilenet_v2", {}),
    "ResNet-50": ("resnet50", {}),
    "VGG-16": ("vgg16", {}),
}
MBITS = (10_000, 1_000, 100)
WAYS: dict[str, tuple[Compress | None, int]] = {  # hook, and batches in a step
    "float32": (None, 1),
    "bf16": ("bf16", 1),
    "PowerSGD": ("powersgd", 1),
    "accumulated over 4": (None, 4),
}
SIDE, BATCH = 224, 8
WARM_UP = 3  # steps at full speed: buckets, and the whole gradients that PowerSGD begins with
TIMED = 3  # steps
NAMES = ("swiftlet0", "swiftlet1")  # of namespaces and interfaces
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def run() -> None:
    figures = measure(tuple(NETWORKS), MBITS, side=SIDE, batch=BATCH, timed=TIMED)
    record("wire", "python -m benchmarks wire", figures)


def measure(networks: tuple[str, ...], mbits: tuple[int, ...], *, side: int, batch: int, timed: int) -> dict[str, Any]:
    """Start both hosts, and give what the first has found."""
    with hosts(), tempfile.TemporaryDirectory() as folder:
        asked = {"networks": networks, "mbits": mbits, "side": side, "batch": batch, "timed": timed, "out": folder}
        processes = []
        for rank, name in enumerate(NAMES):
            place = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": "0", "GLOO_SOCKET_IFNAME": name}
            place |= {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": "29500", "OMP_NUM_THREADS": "1"}
            command = ["ip", "netns", "exec", name, "taskset", "-c", str(rank), sys.executable, "-m", "benchmarks.wire"]
            processes.append(subprocess.Popen([*command, json.dumps(asked)], env=os.environ | place))
        codes = [process.wait() for process in processes]
        if any(codes):
            sys.exit(f"benchmarks wire: the hosts ended with {codes}")
        found: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
        return found


@contextmanager
def hosts() -> Iterator[None]:
    """Two namespaces, joined by a pair of interfaces."""
    try:
        for name in NAMES:
            _ip("netns", "add", name)
        _ip("link", "add", NAMES[0], "type", "veth", "peer", "name", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            _ip("link", "set", name, "netns", name)
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            _ip("-n", name, "link", "set", name, "up")
            _ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"benchmarks wire: ip {' '.join(arguments)}: {done.stderr.strip()}; it needs root and iproute2")


def host(asked: dict[str, Any]) -> None:
    """One of the two: every network over every link, each way."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {"side": asked["side"], "batch": asked["batch"], "hosts": 2, "networks": {}}
    with joined() as ranks:
        me = NAMES[ranks.rank]
        for network in asked["networks"]:
            name, arguments = NETWORKS[network]
            counted = count_model(create_model(name, **arguments), (3, asked["side"], asked["side"]))
            rows: list[dict[str, Any]] = []
            for way, (compress, parts) in WAYS.items():
                step = Step(name, arguments, replace(ranks, compress=compress), asked["side"], asked["batch"], parts)
                limit(me, None)
                for _ in range(WARM_UP):
                    step()
                alone = seconds(step, asked["timed"], ranks, wire=False)
                for mbit in asked["mbits"]:
                    limit(me, mbit)
                    before = sent(me)
                    took = seconds(step, asked["timed"], ranks)
                    each = (sent(me) - before) / asked["timed"]
                    row = {"way": way, "mbit": mbit, "seconds": took, "alone_seconds": alone, "sent_bytes": round(each)}
                    rows.append(row)
                    if ranks.first:
                        print(f"{network}, {row}", flush=True)
            buffers = sum(b.numel() * b.element_size() for b in create_model(name, **arguments).buffers())
            found["networks"][network] = {
                "gradient_bytes": counted.gradient_bytes,
                "buffer_bytes": buffers,
                "rows": rows,
            }
        limit(me, None)
        if ranks.first:
            (Path(asked["out"]) / "found.json").write_text(json.dumps(found))


class Step:
    """A training step on random pictures: forward, backward, sum over hosts, SGD."""

    def __init__(self, name: str, arguments: dict[str, Any], ranks: Ranks, side: int, batch: int, parts: int) -> None:
        torch.manual_seed(0)
        model = create_model(name, **arguments).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ranks, self.parts = ranks, parts
        self.network: nn.Module = ranks.parallel(model, warmup=0)
        self.images = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        self.labels = torch.zeros(batch, dtype=torch.long)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def __call__(self, *, wire: bool = True) -> None:
        self.optimizer.zero_grad()
        for part in range(self.parts):
            if wire and part == self.parts - 1:
                self.backward()
            else:
                with self.ranks.apart(self.network):
                    self.backward()
        self.optimizer.step()

    def backward(self) -> None:
        F.cross_entropy(self.network(self.images), self.labels).backward()  # type: ignore[no-untyped-call]


def seconds(step: Step, times: int, ranks: Ranks, *, wire: bool = True) -> float:
    """Median of a step, both hosts beginning together."""
    took = []
    for _ in range(times):
        ranks.wait()
        began = time.perf_counter()
        step(wire=wire)
        took.append(time.perf_counter() - began)
    return round(float(np.median(took)), 4)


def limit(interface: str, mbit: int | None) -> None:
    """This host's end of the link; None takes the limit away."""
    subprocess.run(["tc", "qdisc", "delete", "dev", interface, "root"], check=False, capture_output=True)
    if mbit is not None:
        burst = max(128_000, mbit * 1_000_000 // 8 // 250)  # what passes between two ticks of the kernel's clock
        command = ["tc", "qdisc", "add", "dev", interface, "root", "tbf", "rate", f"{mbit}mbit", "burst", str(burst)]
        subprocess.run([*command, "latency", "100ms"], check=True)


def sent(interface: str) -> int:
    return int(Path(f"/sys/class/net/{interface}/statistics/tx_bytes").read_text())


if __name__ == "__main__":
    host(json.loads(sys.argv[1]))
